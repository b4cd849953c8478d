//! Power cuts and failing steps, on a simulated disk: what was acknowledged survives, and no checkpoint contradicts an earlier
//! one (invariants 1 and 2).
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, Checkpoint, Config, Disk, Error, Fault, Lane, Ledger, Notice, Outcome, Payload, Position, SimDisk,
    VerifyOptions, accept_rollback, init, split_leaf, verify, verify_consistency,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

struct World {
    sim: Arc<SimDisk>,
    config: Config,
    /// Index and body of everything that was acknowledged.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    payloads: BTreeMap<u64, Vec<u8>>,
    positions: BTreeMap<String, String>,
    checkpoints: Vec<Checkpoint>,
    tried: u64,
}

impl World {
    fn new() -> Self {
        let sim = Arc::new(SimDisk::default());
        let mut config = Config::new("/data");
        config.disk = Disk::Simulated(Arc::clone(&sim));
        config.limits.segment_bytes = 64 << 10;
        config.limits.reserve_bytes = 4096;
        config.limits.seal_every_ms = 1;
        config.limits.sync_every_ms = 4;
        config.limits.store_every_ms = 9;
        Self {
            sim,
            config,
            acknowledged: BTreeMap::new(),
            payloads: BTreeMap::new(),
            positions: BTreeMap::new(),
            checkpoints: Vec::new(),
            tried: 0,
        }
    }

    fn see(&mut self, log: &Ledger) {
        let key = log.vkeys()[0].parse().unwrap();
        let checkpoint = Checkpoint::verify(&log.checkpoint(), [&key]).unwrap();
        if self.checkpoints.last() != Some(&checkpoint) {
            self.checkpoints.push(checkpoint);
        }
    }

    /// Appends until something fails or `rounds` are over. Everything that is acknowledged is noted.
    fn work(&mut self, log: &Ledger, rounds: u64) {
        for _ in 0..rounds {
            self.tried += 1;
            let n = self.tried;
            let big = n.is_multiple_of(7);
            let payload =
                big.then(|| Payload::new(vec![b'r'; 3000 + usize::try_from(n).unwrap()], "raw", "identity").unwrap());
            let parts = if n.is_multiple_of(6) { 70 } else { 1 + n % 3 };
            let bodies: Vec<Vec<u8>> = (0..parts)
                .map(|i| {
                    serde_json::json!({"n": n, "i": i, "payload": payload.as_ref().map(Payload::reference)})
                        .to_string()
                        .into_bytes()
                })
                .collect();
            let position =
                (n.is_multiple_of(5)).then(|| Position { source: format!("s{}", n % 2), position: n.to_string() });
            let raw = payload.as_ref().map(|payload| payload.bytes().to_vec());
            let Ok(receipt) = log.append_wait(Append {
                lane: Lane::Push,
                bodies: bodies.clone(),
                payload,
                position: position.clone(),
            }) else {
                return;
            };
            self.acknowledged.extend((receipt.first..).zip(bodies));
            self.payloads.extend(raw.map(|raw| (receipt.first, raw)));
            self.positions.extend(position.map(|position| (position.source, position.position)));
            if n.is_multiple_of(4) {
                log.wait_sealed(receipt.last, Duration::from_secs(5));
            }
            self.see(log);
        }
    }

    /// Opens, and checks that nothing is lost and nothing contradicted.
    fn check(&mut self) -> Option<Ledger> {
        let log = match Ledger::open(&self.config) {
            Ok(opened) => opened.ledger,
            Err(error) => {
                assert!(self.sim.is_off() || matches!(error, Error::Io { .. }), "it does not open: {error}");
                return None;
            }
        };
        for (index, body) in &self.acknowledged {
            let leaf = log.entry(*index).unwrap().unwrap_or_else(|| panic!("entry {index} is lost"));
            assert_eq!(split_leaf(&leaf).unwrap().1, body, "entry {index}");
        }
        for (index, raw) in &self.payloads {
            assert_eq!(log.payload(*index).unwrap().as_ref(), Some(raw), "payload {index}");
        }
        for (source, position) in &self.positions {
            // A later append can have survived without having been acknowledged.
            let now: u64 = log.positions()[source].parse().unwrap();
            assert!(now >= position.parse().unwrap());
        }
        let known = self.checkpoints.len();
        self.see(&log);
        let now = self.checkpoints.last().unwrap().clone();
        for old in &self.checkpoints[known.saturating_sub(3)..] {
            let path = log.consistency_proof(old.size, now.size).unwrap();
            assert!(
                old.size == 0 || verify_consistency(old.size, &old.root, now.size, &now.root, &path),
                "{old:?} {now:?}"
            );
        }
        Some(log)
    }

    fn verify(&self) {
        let report =
            verify(Path::new("/data"), &VerifyOptions { disk: self.config.disk.clone(), ..VerifyOptions::default() });
        assert_eq!((report.outcome(), report.damaged, report.fillers), (Outcome::Verified, 0, 0), "{report}");
    }
}

fn dice(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        // SplitMix64
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_entries_survive_power_cuts(cuts in prop::collection::vec((1u64..220, any::<u64>()), 1..5)) {
        let mut world = World::new();
        init(&world.config, Some("log.example/power")).unwrap();
        for (after, seed) in cuts {
            world.sim.set_fault(world.sim.steps() + after, Fault::PowerCut);
            if let Some(log) = world.check() {
                world.work(&log, 25);
            }
            let mut dice = dice(seed);
            world.sim.power_on(&mut dice);
        }
        let log = world.check().unwrap();
        world.work(&log, 5);
        log.close().unwrap();
        world.verify();
    }

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

/// Every durable step fails once, and once more with its effect in place; then the process, or the machine, starts again.
#[test]
fn fault_pairs_on_every_durable_step() {
    let steps = {
        let mut world = World::new();
        init(&world.config, None).unwrap();
        let before = world.sim.steps();
        let log = world.check().unwrap();
        world.work(&log, 25);
        log.close().unwrap();
        world.sim.steps() - before
    };
    assert!(steps > 100);
    let mut hit = 0;
    for step in 1..steps {
        for fault in [Fault::Fails, Fault::FailsButPersists] {
            let mut world = World::new();
            init(&world.config, None).unwrap();
            world.sim.set_fault(world.sim.steps() + step, fault);
            let stopped = match world.check() {
                None => true,
                Some(log) => {
                    world.work(&log, 25);
                    log.close().is_err()
                }
            };
            hit += u64::from(stopped);
            world.sim.clear_fault();
            // Alternately: only the process ends, or the power goes too.
            if step % 2 == 0 {
                let mut dice = dice(step);
                world.sim.power_on(&mut dice);
            }
            let log = world.check().unwrap_or_else(|| panic!("step {step} {fault:?}"));
            world.work(&log, 2);
            log.close().unwrap();
            world.verify();
        }
    }
    // Threads race, so a run can have fewer steps than the one that was counted; most faults must have been met.
    assert!(hit > steps, "{hit} of {}", steps * 2);
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
