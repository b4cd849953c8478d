//! Pruning: an entry says it first, then files go; whatever happens between, nothing is missing without an entry that says so.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, Clock, Config, Disk, Error, Fault, Lane, Ledger, ManualClock, Outcome, Payload, Prune, Pruned, Reader,
    Report, SimDisk, VerifyOptions, backup, init, reference_in, restore, split_leaf, verify,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
/// 2026-11-01T12:00:00Z in microseconds.
const START: i64 = 1_793_534_400_000_000;

fn prune(class: &str, day: u64) -> Prune {
    Prune { class: class.to_owned(), through: format!("2026-11-{:02}", day + 1) }
}

fn body_of(prune: &Prune) -> Vec<u8> {
    serde_json::json!({"pruned": prune}).to_string().into_bytes()
}

struct World {
    sim: Option<Arc<SimDisk>>,
    config: Config,
    clock: Arc<ManualClock>,
    /// Class, day and bytes of every payload whose append was acknowledged, by index.
    payloads: BTreeMap<u64, (String, u64, Vec<u8>)>,
    /// What was asked to be pruned, whether or not it came so far.
    asked: Vec<(String, u64)>,
    day: u64,
    tried: u64,
}

impl World {
    fn on(disk: Disk, dir: impl Into<PathBuf>) -> Self {
        let clock = Arc::new(ManualClock::default());
        clock.set_wall(START);
        let mut config = Config::new(dir);
        let sim = if let Disk::Simulated(sim) = &disk { Some(Arc::clone(sim)) } else { None };
        config.disk = disk;
        config.clock = Clock::Manual(Arc::clone(&clock));
        config.limits.segment_bytes = 64 << 10;
        config.limits.reserve_bytes = 0;
        config.limits.seal_every_ms = 1;
        config.limits.sync_every_ms = 3;
        config.limits.store_every_ms = 5;
        Self { sim, config, clock, payloads: BTreeMap::new(), asked: Vec::new(), day: 0, tried: 0 }
    }

    fn simulated() -> Self {
        Self::on(Disk::Simulated(Arc::new(SimDisk::default())), "/data")
    }

    fn append(&mut self, log: &Ledger, class: &str) -> Option<u64> {
        self.tried += 1;
        let raw = format!("{class} {} ", self.tried).repeat(100).into_bytes();
        let payload = Payload::new(raw.clone(), class, "identity").unwrap();
        let body = serde_json::json!({"n": self.tried, "payload": payload.reference()}).to_string().into_bytes();
        let bodies = vec![body, br#"{"part":2}"#.to_vec()];
        let append = Append { lane: Lane::Push, bodies, payload: Some(payload), position: None };
        let first = log.append_wait(append).ok()?.first;
        self.payloads.insert(first, (class.to_owned(), self.day, raw));
        Some(first)
    }

    /// Days of appends, each ended by a pruning, until something fails.
    fn work(&mut self, log: &Ledger, days: u64) {
        for _ in 0..days {
            for n in 0..4 {
                if self.append(log, if n % 2 == 0 { "events" } else { "lines" }).is_none() {
                    return;
                }
            }
            self.clock.advance(DAY);
            self.day += 1;
            let (class, keep) = if self.day.is_multiple_of(3) { ("events", 4) } else { ("lines", 1) };
            if let Some(through) = self.day.checked_sub(keep + 1)
                && self.prune(log, class, through).is_err()
            {
                return;
            }
        }
    }

    fn prune(&mut self, log: &Ledger, class: &str, day: u64) -> Result<Pruned, Error> {
        self.asked.push((class.to_owned(), day));
        let prune = prune(class, day);
        log.prune(&prune, |_| body_of(&prune), || true)
    }

    fn open(&self) -> Option<Ledger> {
        match Ledger::open(&self.config) {
            Ok(opened) => Some(opened.ledger),
            Err(error) => {
                let off = self.sim.as_ref().is_some_and(|sim| sim.is_off());
                assert!(off || matches!(error, Error::Io { .. }), "it does not open: {error}");
                None
            }
        }
    }

    /// Every payload has its value or an entry that says that it was pruned, and only what was asked for is pruned.
    fn check(&self, log: &Ledger) {
        for (index, (class, day, raw)) in &self.payloads {
            match log.payload(*index) {
                Ok(found) => assert_eq!(found.as_ref(), Some(raw), "payload {index}"),
                Err(Error::PayloadPruned { by, .. }) => {
                    let leaf = log.entry(by).unwrap().unwrap();
                    let said: serde_json::Value = serde_json::from_slice(split_leaf(&leaf).unwrap().1).unwrap();
                    assert!(by > *index && said["pruned"]["class"] == **class, "payload {index} by {by}: {said}");
                    assert!(self.asked.iter().any(|(of, through)| of == class && day <= through), "payload {index}");
                }
                Err(error) => panic!("payload {index} of {class}, day {day}: {error}"),
            }
        }
    }

    fn verify(&self) -> Report {
        let options = VerifyOptions { disk: self.config.disk.clone(), ..VerifyOptions::default() };
        let report = verify(&self.config.dir, &options);
        assert_eq!((report.outcome(), report.damaged, report.missing), (Outcome::Verified, 0, 0), "{report}");
        report
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
    fn pruning_goes_on_while_the_power_is_cut(cuts in prop::collection::vec((1u64..400, any::<u64>()), 1..5)) {
        let mut world = World::simulated();
        let sim = world.sim.clone().unwrap();
        init(&world.config, Some("log.example/prune")).unwrap();
        for (after, seed) in cuts {
            sim.set_fault(sim.steps() + after, Fault::PowerCut);
            if let Some(log) = world.open() {
                world.check(&log);
                world.work(&log, 8);
            }
            sim.power_on(dice(seed));
        }
        let log = world.open().unwrap();
        world.work(&log, 3);
        world.check(&log);
        // Now everything is in blocks.
        log.close().unwrap();
        let log = world.open().unwrap();
        // What was asked for and cut off is finished by asking again.
        for (class, day) in world.asked.clone() {
            world.prune(&log, &class, day).unwrap();
        }
        let stored = log.payload_days().unwrap();
        for (class, day) in &world.asked {
            prop_assert!(stored.iter().all(|left| left.class != *class || left.day > prune(class, *day).through));
        }
        world.check(&log);
        log.close().unwrap();
        world.verify();
    }
}

/// Every durable step of a pruning fails once, and once more with its effect in place.
#[test]
fn fault_pairs_on_every_step_of_a_pruning() {
    let begin = || {
        let mut world = World::simulated();
        init(&world.config, None).unwrap();
        let log = world.open().unwrap();
        world.work(&log, 6);
        log.close().unwrap();
        world
    };
    let run = |world: &mut World| {
        let Some(log) = world.open() else { return false };
        let pruned = world.prune(&log, "events", 4).is_ok();
        log.close().is_ok() && pruned
    };
    let steps = {
        let mut world = begin();
        let sim = world.sim.clone().unwrap();
        let before = sim.steps();
        assert!(run(&mut world));
        sim.steps() - before
    };
    let mut hit = 0;
    for step in 1..steps {
        for fault in [Fault::Fails, Fault::FailsButPersists] {
            let mut world = begin();
            let sim = world.sim.clone().unwrap();
            sim.set_fault(sim.steps() + step, fault);
            hit += u64::from(!run(&mut world));
            sim.clear_fault();
            if step % 2 == 0 {
                sim.power_on(dice(step));
            }
            let log = world.open().unwrap_or_else(|| panic!("step {step} {fault:?}"));
            world.check(&log);
            world.prune(&log, "events", 4).unwrap();
            assert!(
                log.payload_days()
                    .unwrap()
                    .iter()
                    .all(|left| left.class != "events" || left.day > prune("", 4).through)
            );
            world.check(&log);
            log.close().unwrap();
            world.verify();
        }
    }
    assert!(hit > 0, "no fault was met in {steps} steps");
}

/// A real folder of two classes on three days, stored.
fn folder() -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on(Disk::Real, dir.path());
    init(&world.config, None).unwrap();
    let log = world.open().unwrap();
    for _ in 0..3 {
        for class in ["events", "lines", "events"] {
            world.append(&log, class).unwrap();
        }
        world.clock.advance(DAY);
        world.day += 1;
    }
    log.close().unwrap();
    (dir, world)
}

#[test]
fn only_what_was_asked_for_goes_and_every_reader_tells_why() {
    let (dir, mut world) = folder();
    world.config.limits.store_every_ms = 3_600_000;
    let log = world.open().unwrap();
    // Not stored yet, though of a day that is pruned: the clock was set back.
    world.clock.set_wall(START);
    world.day = 0;
    let open = world.append(&log, "lines").unwrap();
    let before = log.size();
    let done = world.prune(&log, "lines", 1).unwrap();
    assert_eq!((done.by, done.blocks, done.payloads, done.stopped), (Some(before), 2, 2, false));
    // Asking again finds nothing and says nothing.
    assert_eq!(world.prune(&log, "lines", 1).unwrap(), Pruned::default());
    assert_eq!(log.size(), before + 1);
    let pruned: Vec<u64> = world
        .payloads
        .keys()
        .copied()
        .filter(|index| matches!(log.payload(*index), Err(Error::PayloadPruned { by, .. }) if by == before))
        .collect();
    assert_eq!(pruned, [2, 8]);
    assert!(log.payload(open).unwrap().is_some());
    world.check(&log);
    assert!(!dir.path().join("ledger/payload/lines/2026-11-01").exists(), "an empty folder stays");
    log.close().unwrap();

    let reader = Reader::open(dir.path()).unwrap();
    assert!(matches!(reader.payload(2), Err(Error::PayloadPruned { index: 2, by }) if by == before));
    assert!(reader.payload(0).unwrap().is_some());
    let days = reader.payload_days().unwrap();
    let kept: Vec<(&str, &str, u64)> =
        days.iter().map(|day| (day.class.as_str(), day.day.as_str(), day.payloads)).collect();
    assert_eq!(
        kept,
        [
            ("events", "2026-11-01", 2),
            ("events", "2026-11-02", 2),
            ("events", "2026-11-03", 2),
            ("lines", "2026-11-01", 1),
            ("lines", "2026-11-03", 1)
        ]
    );
    let report = world.verify();
    assert_eq!((report.pruned, report.payloads), (BTreeMap::from([(before, 2)]), 8));
    let (code, text) = python(dir.path());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 pruned"), "{text}");

    // The one that was not stored goes with the next pruning, with an entry of its own.
    let log = world.open().unwrap();
    let done = world.prune(&log, "lines", 1).unwrap();
    assert!(done.by.unwrap() > open && done.payloads == 1, "{done:?}");
}

#[test]
fn a_missing_payload_that_no_sealed_entry_speaks_about_is_damage() {
    let (dir, mut world) = folder();
    let log = world.open().unwrap();
    world.prune(&log, "lines", 0).unwrap();
    log.close().unwrap();
    world.verify();
    let refuted = |report: &Report| {
        assert_eq!((report.outcome(), report.missing), (Outcome::Refuted, 1), "{report}");
        report.first_damaged()
    };
    // Of the class, but a day later than the entry says.
    let later = dir.path().join("ledger/payload/lines/2026-11-02");
    let block = std::fs::read_dir(&later).unwrap().next().unwrap().unwrap().path();
    let bytes = std::fs::read(&block).unwrap();
    std::fs::remove_file(&block).unwrap();
    assert_eq!(refuted(&verify(dir.path(), &VerifyOptions::default())), Some(8));
    let log = world.open().unwrap();
    assert!(matches!(log.payload(8), Err(Error::PayloadMissing { index: 8 })));
    log.close().unwrap();
    std::fs::write(&block, bytes).unwrap();
    world.verify();

    // An entry that no checkpoint covers excuses nothing.
    world.config.limits.seal_every_ms = 3_600_000;
    let log = world.open().unwrap();
    let prune = prune("events", 0);
    let by = log.append_wait(Append::one(Lane::Own, body_of(&prune))).unwrap().first;
    assert_eq!(log.stats().sealed, by);
    std::fs::remove_dir_all(dir.path().join("ledger/payload/events/2026-11-01")).unwrap();
    assert!(matches!(log.payload(0), Err(Error::PayloadMissing { .. })));
    let report = verify(dir.path(), &VerifyOptions::default());
    assert_eq!((report.outcome(), report.missing, report.unsealed), (Outcome::Refuted, 2, 1), "{report}");
    // Once it is sealed it does.
    log.close().unwrap();
    world.verify();

    // The list of pruning entries is checked against the tree.
    let list = dir.path().join("ledger/pruned");
    let text = std::fs::read(&list).unwrap();
    std::fs::remove_file(&list).unwrap();
    let report = verify(dir.path(), &VerifyOptions::default());
    assert_eq!((report.outcome(), report.missing), (Outcome::Refuted, 0), "{report}");
    for bit in (0..text.len() * 8).step_by(7) {
        let mut bad = text.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&list, bad).unwrap();
        assert_eq!(verify(dir.path(), &VerifyOptions::default()).outcome(), Outcome::Refuted, "bit {bit}");
    }
    std::fs::write(&list, text).unwrap();
    world.verify();
}

#[test]
fn a_body_that_does_not_say_it_prunes_nothing() {
    let (_dir, mut world) = folder();
    let log = world.open().unwrap();
    let (asked, size) = (prune("lines", 1), log.size());
    for body in [
        b"{}".to_vec(),
        body_of(&prune("lines", 0)),
        br#"{"fact":{"pruned":{"class":"lines","through":"2026-11-02"}}}"#.to_vec(),
    ] {
        assert!(matches!(log.prune(&asked, |_| body, || true), Err(Error::PruneUnnamed { .. })));
    }
    // Told to stop at once: the entry is there, and nothing has gone.
    let stopped = log.prune(&asked, |_| body_of(&asked), || false).unwrap();
    assert_eq!((stopped.stopped, stopped.blocks, log.size()), (true, 0, size + 1));
    world.check(&log);
    // Going on needs no second entry.
    let done = world.prune(&log, "lines", 1).unwrap();
    assert_eq!((done.by, done.blocks, log.size()), (stopped.by, 2, size + 1));
    assert!(reference_in(&body_of(&asked)).is_none());
}

/// A backup has the entries that say what was pruned, also one that was made before; what it has itself may stay.
#[test]
fn a_backup_of_a_pruned_log_proves_itself_and_can_be_restored() {
    let (_dir, mut world) = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    let (early, late) = (elsewhere.path().join("early"), elsewhere.path().join("late"));
    let log = world.open().unwrap();
    backup(&world.config, &early, &[], |_| {}).unwrap();
    let by = world.prune(&log, "lines", 1).unwrap().by.unwrap();
    // Not synced yet when the copy is made: only the journal has this one.
    world.config.limits.sync_every_ms = 3_600_000;
    log.close().unwrap();
    let log = world.open().unwrap();
    let asked = prune("events", 0);
    let stopped = log.prune(&asked, |_| body_of(&asked), || false).unwrap();
    let second = stopped.by.unwrap();
    assert!(stopped.stopped && log.wait_sealed(second, LONG) > second);
    for (to, gone) in [(&early, BTreeMap::new()), (&late, BTreeMap::from([(by, 2)]))] {
        backup(&world.config, to, &[], |_| {}).unwrap();
        let report = verify(to, &VerifyOptions::default());
        assert_eq!((report.outcome(), report.missing, &report.pruned), (Outcome::Verified, 0, &gone), "{report}");
        let listed = std::fs::read_to_string(to.join("ledger/pruned")).unwrap();
        assert_eq!(listed.lines().count(), 4, "{listed}");
        let (code, text) = python(to);
        assert_eq!(code, Some(0), "{text}");
    }
    log.close().unwrap();

    let config = Config::new(elsewhere.path().join("restored"));
    assert_eq!(restore(&late, &config, None, &[], |_| {}).unwrap().outcome(), Outcome::Verified);
    let reader = Reader::open(&config.dir).unwrap();
    assert!(matches!(reader.payload(2), Err(Error::PayloadPruned { index: 2, by: said }) if said == by));

    // A copy that does not say it is not one.
    std::fs::remove_file(late.join("ledger/pruned")).unwrap();
    assert_eq!(verify(&late, &VerifyOptions::default()).outcome(), Outcome::Refuted);
}

/// Readers of version 1 would take for damage what is missing.
#[test]
fn nothing_is_pruned_in_a_folder_of_version_1() {
    let (dir, mut world) = folder();
    let format = dir.path().join("ledger/format");
    std::fs::write(&format, "counterfoil-ledger\nversion 1\nmin-reader 1\n").unwrap();
    let log = world.open().unwrap();
    let size = log.size();
    assert!(matches!(world.prune(&log, "lines", 1), Err(Error::Older { version: 1, needed: 2, .. })));
    assert_eq!(log.size(), size);
    log.close().unwrap();
    ledger::upgrade(&world.config, |_| b"{}".to_vec()).unwrap();
    let log = world.open().unwrap();
    assert_eq!(world.prune(&log, "lines", 1).unwrap().payloads, 2);
    log.close().unwrap();
    world.verify();
}

/// The self-check reads on while blocks vanish under its hands, and takes none of them for damage.
#[test]
fn rounds_of_the_self_check_beside_a_pruning_find_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on(Disk::Real, dir.path());
    init(&world.config, None).unwrap();
    let log = world.open().unwrap();
    for _ in 0..12 {
        for class in ["events", "lines"] {
            for _ in 0..20 {
                world.append(&log, class).unwrap();
            }
        }
        world.clock.advance(DAY);
        world.day += 1;
    }
    log.close().unwrap();
    let log = world.open().unwrap();
    let (total, done) = (world.payloads.len() as u64, std::sync::atomic::AtomicBool::new(false));
    let order = std::sync::atomic::Ordering::SeqCst;
    let (rounds, last) = std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            let mut rounds = 0;
            loop {
                // Looked at before the round: one more follows the last pruning.
                let ending = done.load(order);
                let mut round = log.recheck(0).unwrap();
                let (mut kept, mut pruned) = (0, 0);
                while let Some(step) = log.recheck_step(&mut round).unwrap() {
                    assert_eq!(step.damage, vec![]);
                    (kept, pruned) = (kept + step.payloads, pruned + step.pruned);
                }
                assert_eq!(kept + pruned, total);
                rounds += 1;
                if ending {
                    return (rounds, (kept, pruned));
                }
            }
        });
        for day in 0..10 {
            for class in ["events", "lines"] {
                world.prune(&log, class, day).unwrap();
            }
        }
        done.store(true, order);
        checks.join().unwrap()
    });
    assert!(rounds > 1);
    assert_eq!(last, (2 * 40, 10 * 40));
}

fn python(dir: &Path) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verify.py");
    let output = Command::new("python3").arg(script).arg(dir.join("ledger")).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}
