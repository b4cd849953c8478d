//! Short runs of the survival campaigns (`tests/campaign`): the same code with smaller numbers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{path::Path, time::Duration};

use campaign::{attack, flood, hostile, kill, restart, rolling};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_counterfoil"))
}

fn run<T>(campaign: impl Future<Output = anyhow::Result<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(campaign).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let plan = kill::Plan { lives: 25, seed: 1, senders: 8, longest_ms: 200, check_every: 10, event_bytes: 14 << 10 };
    let survived = run(kill::run(program(), folder.path(), &plan));
    eprintln!("{}", survived.table());
    assert_eq!((survived.lost, survived.changed), (0, 0));
    assert_eq!(survived.same + survived.pruned, survived.acknowledged);
    assert_eq!(survived.pruned, survived.to_prune);
    assert!(survived.prunings > 0);
    assert!(survived.same > plan.lives, "only {} bodies were acknowledged", survived.acknowledged);
    assert!(survived.followed_bytes > 0 && survived.blocks > 0 && survived.verified > 0);
}

#[test]
fn hostile_senders_keep_nobody_out_and_fill_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let plan = hostile::Plan {
        connections: 100,
        slots: 40,
        memory_bytes: 64 << 20,
        events: 8,
        least: Duration::ZERO,
        attacks: attack::ALL.to_vec(),
    };
    let report = run(hostile::run(program(), folder.path(), &plan));
    eprintln!("{}", report.table());
    for of in &report.attacks {
        assert!(of.lost.is_empty(), "{:?}: honest events were lost: {:?}", of.attack, of.lost);
        assert!(of.memory.anonymous < report.budget, "{:?}: {} bytes of memory", of.attack, of.memory.anonymous);
        if let Some(reason) = of.attack.counted_as() {
            assert!(of.refused.contains_key(reason), "{:?} was not counted as {reason}: {:?}", of.attack, of.refused);
        }
    }
    let kept: u64 = report.attacks.iter().map(|of| of.kept).sum();
    assert_eq!(report.same, kept);
}

#[test]
fn a_rolling_restart_loses_no_event_of_a_sender_that_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = rolling::Plan { restarts: 3, senders: 6, events: 60, event_bytes: 4 << 10 };
    let mut rolled = run(rolling::run(program(), folder.path(), &plan));
    eprintln!("{}", rolled.table());
    assert!(rolled.tally.lost.is_empty(), "given up: {:?}", rolled.tally.lost);
    assert_eq!(rolled.same, rolled.tally.kept);
}

#[test]
fn a_restart_flood_is_taken_without_one_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let plan = flood::Plan {
        events: 1000,
        within: Duration::ZERO,
        at_once: 1000,
        event_bytes: 4 << 10,
        followed_bytes: 8 << 20,
    };
    let mut flooded = run(flood::run(program(), folder.path(), &plan));
    eprintln!("{}", flooded.table());
    assert_eq!((flooded.at_once, flooded.same), (plan.events, plan.events), "refused: {}", flooded.tally.failures());
}

#[test]
fn after_a_kill_everything_acknowledged_is_searchable_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = restart::Plan { received_bytes: 4 << 20, event_bytes: 14 << 10, senders: 8 };
    let restarted = run(restart::run(program(), folder.path(), &plan));
    eprintln!("{}", restarted.table());
    assert!(restarted.entries >= 4 << 20 >> 14);
}
