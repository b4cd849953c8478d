//! Power cuts on a simulated disk: what was acknowledged survives, and no checkpoint contradicts an earlier one (invariants 1
//! and 2).
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod world;

use ledger::{Error, Fault, Ledger, Notice, Outcome, VerifyOptions, accept_rollback, init, verify};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use world::{World, dice, kind};

/// Power cuts of one run; more with `LEDGER_POWER_CUTS=10000`.
const CUTS: u64 = 240;

/// Lives of one ledger, each of which ends with a cut.
const LIVES: u64 = 6;

#[test]
fn acknowledged_entries_survive_power_cuts() {
    #[expect(clippy::disallowed_methods, reason = "a test that can be asked for more")]
    let wanted = std::env::var("LEDGER_POWER_CUTS").map_or(CUTS, |text| text.parse().unwrap());
    let (mut cuts, mut worlds) = (0, 0);
    let (mut entries, mut payloads, mut checkpoints) = (0, 0, 0);
    let mut steps: BTreeMap<(String, &str), u64> = BTreeMap::new();
    while cuts < wanted {
        worlds += 1;
        let mut dice = dice(worlds);
        let mut world = World::new();
        init(&world.config, Some("log.example/power")).unwrap();
        for _ in 0..LIVES {
            world.sim.set_fault(world.sim.steps() + 1 + dice(260), Fault::PowerCut);
            if let Some(log) = world.check() {
                world.work(&log, 25);
            }
            if world.sim.is_off() {
                cuts += 1;
                let last = world.sim.history().pop().unwrap();
                *steps.entry((format!("{:?}", last.operation), kind(&last.path))).or_default() += 1;
            }
            world.sim.power_on(&mut dice);
        }
        let log = world.check().unwrap();
        world.work(&log, 5);
        log.close().unwrap();
        world.verify();
        entries += world.acknowledged.len();
        payloads += world.payloads.len();
        checkpoints += world.checkpoints.len();
    }
    println!(
        "{cuts} power cuts on {worlds} ledgers: {entries} acknowledged entries and {payloads} payloads read back after \
         each later cut, {checkpoints} checkpoints consistent, 0 lost; the cuts fell into"
    );
    for ((operation, kind), count) in &steps {
        println!("{count:>6} {operation} {kind}");
    }
    assert!(steps.len() > 20, "the cuts fall into few kinds of steps: {steps:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_during_init_leaves_nothing_that_cannot_be_begun_again(after in 1u64..40, seed: u64) {
        let mut world = World::new();
        world.sim.set_fault(after, Fault::PowerCut);
        let done = init(&world.config, None).is_ok();
        world.sim.power_on(dice(seed));
        match init(&world.config, None) {
            Ok(()) => prop_assert!(!done),
            Err(error) => prop_assert!(matches!(error, Error::AlreadyExists { .. }), "{}", error),
        }
        world.work(&Ledger::open(&world.config).unwrap().ledger, 3);

        world.check().unwrap().close().unwrap();
        world.verify();
    }
}

/// A power cut at any step of accepting a rollback: at worst it has to be asked for again, and no entry or payload is lost by it.
#[test]
fn a_rollback_that_is_cut_off_can_be_accepted_again() {
    let mut hit = 0;
    for step in (1..400).step_by(3) {
        let mut world = World::new();
        init(&world.config, None).unwrap();
        let log = world.check().unwrap();
        world.work(&log, 20);
        log.close().unwrap();
        drop(log);
        let note = |_: &Notice| b"null".to_vec();
        world.sim.set_fault(world.sim.steps() + step, Fault::PowerCut);
        let done = accept_rollback(&world.config, None, note).is_ok();
        hit += u64::from(!done);
        let mut dice = dice(step);
        world.sim.power_on(&mut dice);
        if Ledger::open(&world.config).is_err() {
            assert!(!done, "step {step}");
            accept_rollback(&world.config, None, note).unwrap();
        }
        // Checkpoints under the old origin are not those of the new one; entries stay.
        world.checkpoints.clear();
        let log = world.check().unwrap();
        world.work(&log, 2);
        log.close().unwrap();
        let report =
            verify(Path::new("/data"), &VerifyOptions { disk: world.config.disk.clone(), ..VerifyOptions::default() });
        assert_eq!((report.outcome(), report.damaged), (Outcome::Verified, 0), "step {step}: {report}");
        if done {
            break;
        }
    }
    assert!(hit > 5);
}

/// The same under a name that was given: it can be asked for again by that name as long as the folder has not taken it, whatever
/// the list of keys says; from then on something may have been signed under it.
#[test]
fn a_rollback_that_is_cut_off_can_be_accepted_again_under_its_name() {
    let name = Some("again.example/log");
    let (mut listed, mut taken) = (0, 0);
    for step in 1..400 {
        let mut world = World::new();
        init(&world.config, None).unwrap();
        let log = world.check().unwrap();
        world.work(&log, 5);
        log.close().unwrap();
        drop(log);
        let note = |_: &Notice| b"null".to_vec();
        world.sim.set_fault(world.sim.steps() + step, Fault::PowerCut);
        let done = accept_rollback(&world.config, name, note).is_ok();
        let mut dice = dice(step);
        world.sim.power_on(&mut dice);
        if done {
            break;
        }
        let text = |path: &str| String::from_utf8(world.sim.content(Path::new(path)).unwrap()).unwrap();
        let is_taken = text("/data/ledger/origin").contains("again.example");
        listed += u64::from(!is_taken && text("/data/ledger/keys/vkeys").contains("again.example"));
        let again = accept_rollback(&world.config, name, note);
        if is_taken {
            taken += 1;
            assert!(matches!(again, Err(Error::BadOrigin { .. })), "step {step}");
            continue;
        }
        again.unwrap();
        world.checkpoints.clear();
        world.check().unwrap().close().unwrap();
        let options = VerifyOptions { disk: world.config.disk.clone(), ..VerifyOptions::default() };
        let report = verify(Path::new("/data"), &options);
        assert_eq!((report.outcome(), report.damaged), (Outcome::Verified, 0), "step {step}: {report}");
    }
    assert!(listed > 0 && taken > 0, "{listed} {taken}");
}
