//! Short runs of the survival campaigns (`tests/campaign`): the same code with smaller numbers.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use campaign::kill;

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
    assert_eq!(survived.same, survived.acknowledged);
    assert!(survived.acknowledged > plan.lives, "only {} bodies were acknowledged", survived.acknowledged);
    assert!(survived.followed_bytes > 0 && survived.blocks > 0 && survived.verified > 0);
}
