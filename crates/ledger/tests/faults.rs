//! Failing steps on a simulated disk: each one alone, and a disk that is full, read-only or broken for some time. What was
//! acknowledged stays, no checkpoint contradicts an earlier one (invariants 1 and 2), and what passes is got over without help.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod world;

use ledger::{Error, Fault, Ledger, Operation, accept_rollback, init};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;
use world::{Kind, PATIENCE, World, dice, kind};

/// A part of a ledger's life during which steps are made to fail.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    prepare: fn() -> World,
    /// Whether it went well to the end.
    act: fn(&mut World) -> bool,
    /// Makes a ledger that opens out of what a failed `act` has left; content if it was none.
    restore: fn(&mut World),
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "init", prepare: World::new, act: begin, restore: begin_again },
    Scenario { name: "life", prepare: begun, act: live, restore: |_| {} },
    Scenario {
        name: "mending",
        prepare: damaged,
        act: |world| world.check().is_some_and(|log| end(&log)),
        restore: |_| {},
    },
    Scenario { name: "rollback", prepare: lived, act: roll_back, restore: roll_back_again },
];

fn begin(world: &mut World) -> bool {
    match init(&world.config, Some("log.example/faults")) {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error, Error::Io { .. } | Error::AlreadyExists { .. }), "{error}");
            false
        }
    }
}

fn begin_again(world: &mut World) {
    begin(world);
}

fn begun() -> World {
    let mut world = World::new();
    assert!(begin(&mut world));
    world
}

/// A ledger whose process ended in the middle of its work.
fn cut_off() -> World {
    let mut world = begun();
    let log = world.check().unwrap();
    world.work(&log, 25);
    let newest = log.size() - 1;
    assert!(log.wait_sealed(newest, PATIENCE) > newest);
    world.sim.cut_power();
    assert!(log.close().is_err());
    drop(log);
    world.sim.power_on(|n| n - 1);
    world
}

fn live(world: &mut World) -> bool {
    let Some(log) = world.check() else { return false };
    world.work(&log, 25);
    end(&log)
}

fn end(log: &Ledger) -> bool {
    log.close().is_ok()
}

fn lived() -> World {
    let mut world = begun();
    assert!(live(&mut world));
    world
}

/// A ledger with damage in its journal that loses nothing: entry bundles have it too.
fn damaged() -> World {
    let mut world = begun();
    let limits = world.config.limits.clone();
    (world.config.limits.sync_every_ms, world.config.limits.store_every_ms) = (3_600_000, 3_600_000);
    let log = world.check().unwrap();
    world.work(&log, 8);
    log.wait_sealed(log.size() - 1, PATIENCE);
    world.sim.cut_power();
    // It depends on whether something was still to be sealed.
    let _ = log.close();
    drop(log);
    world.sim.power_on(|n| n - 1);
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let segment = world.sim.files().into_iter().rfind(is_segment).unwrap();
    world.sim.corrupt(&segment, 4096 + 70, 1);
    world.config.limits = limits;
    world
}

fn roll_back(world: &mut World) -> bool {
    // Checkpoints under the old origin are not those of the new one; entries stay.
    world.checkpoints.clear();
    accept_rollback(&world.config, None, |_| b"{}".to_vec()).is_ok()
}

fn roll_back_again(world: &mut World) {
    if Ledger::open(&world.config).is_err() {
        assert!(roll_back(world));
    }
}

/// Which kinds of steps were made, and which of them met the fault: in how many runs.
#[derive(Default)]
struct Kinds {
    runs: u64,
    made: BTreeMap<Kind, u64>,
    failed: BTreeMap<Kind, u64>,
}

/// A kind that is made in less than one of so many runs needs a race of threads that a test cannot wait for.
const RARE: u64 = 10;

impl Kinds {
    fn see(&mut self, world: &World, from: u64) {
        self.runs += 1;
        let steps = world.sim.history().split_off(usize::try_from(from).unwrap());
        let kinds = |failed: bool| -> BTreeSet<Kind> {
            let those = steps.iter().filter(|step| step.failed >= failed);
            those.map(|step| (step.operation, kind(&step.path))).collect()
        };
        for (count, kinds) in [(&mut self.made, kinds(false)), (&mut self.failed, kinds(true))] {
            for kind in kinds {
                *count.entry(kind).or_default() += 1;
            }
        }
    }

    /// Kinds that were made and have not failed by chance.
    fn left(&self, may_fail: impl Fn(Kind) -> bool) -> Vec<Kind> {
        let left =
            self.made.iter().filter(|(kind, runs)| **runs * RARE >= self.runs && !self.failed.contains_key(kind));
        left.map(|(kind, _)| *kind).filter(|kind| may_fail(*kind)).collect()
    }

    fn print(&self) {
        for ((operation, kind), runs) in &self.failed {
            println!("{runs:>6} {operation:?} {kind}");
        }
        for ((operation, kind), runs) in self.made.iter().filter(|(kind, _)| !self.failed.contains_key(kind)) {
            println!("     0 {operation:?} {kind} (made in {runs} of {} runs)", self.runs);
        }
    }
}

/// One step of the scenario fails; then the process, or the machine, starts again. Whether it was met.
fn fail_once(scenario: Scenario, set: impl FnOnce(&World), power: bool, seed: u64, kinds: &mut Kinds) -> bool {
    let mut world = (scenario.prepare)();
    let before = world.sim.steps();
    set(&world);
    let done = (scenario.act)(&mut world);
    kinds.see(&world, before);
    world.sim.clear_fault();
    if power {
        world.sim.power_on(dice(seed));
    }
    if !done {
        (scenario.restore)(&mut world);
    }
    let log = world.check().unwrap_or_else(|| panic!("{} {seed}", scenario.name));
    world.work(&log, 2);
    log.close().unwrap();
    world.verify();
    !done
}

/// Every durable step of opening, working, closing, creating, mending and rolling back fails once, and once more with its effect
/// in place.
#[test]
fn fault_pairs_on_every_durable_step() {
    for scenario in SCENARIOS {
        let mut kinds = Kinds::default();
        let steps = {
            let mut world = (scenario.prepare)();
            let before = world.sim.steps();
            assert!((scenario.act)(&mut world));
            world.sim.steps() - before
        };
        let mut met = 0;
        for step in 1..=steps {
            for fault in [Fault::Fails, Fault::FailsButPersists] {
                let set = |world: &World| world.sim.set_fault(world.sim.steps() + step, fault);
                met += u64::from(fail_once(scenario, set, step % 2 == 0, step, &mut kinds));
            }
        }
        // Threads race, so a run can have fewer steps than the one that was counted; most faults must have been met.
        assert!(met > steps, "{}: {met} of {}", scenario.name, steps * 2);
        for wanted in kinds.left(|_| true) {
            for attempt in 0..200 {
                if kinds.failed.contains_key(&wanted) {
                    break;
                }
                let set = |world: &World| {
                    world.sim.set_fault_when(Fault::Fails, move |operation, path| (operation, kind(path)) == wanted);
                };
                fail_once(scenario, set, attempt % 2 == 0, attempt, &mut kinds);
            }
        }
        println!("{}: {met} faults in {steps} steps of {} kinds; by kind:", scenario.name, kinds.made.len());
        kinds.print();
        let never = kinds.left(|_| true);
        assert!(never.is_empty(), "{}: steps that never failed: {never:?}", scenario.name);
    }
}

/// What times of trouble with the disk have shown.
#[derive(Default)]
struct Seen {
    runs: u64,
    acknowledged: usize,
    refused: u64,
    gaps: u64,
    stopped: u64,
    not_opened: u64,
}

impl Seen {
    /// The disk is in trouble for some steps, then well again; meanwhile appends are tried all the time.
    fn run(&mut self, mut world: World, fault: Fault, set: impl FnOnce(&World), seed: u64, kinds: &mut Kinds) {
        let passes = !matches!(fault, Fault::Broken { .. });
        let mut dice = dice(seed);
        let before = world.sim.steps();
        set(&world);
        let mut stopped = false;
        let began = Instant::now();
        let log = loop {
            let log = self.open(&mut world, began);
            world.work(&log, 25);
            while log.failure().is_none() && world.sim.is_in_trouble() && began.elapsed() < PATIENCE {
                world.work(&log, 1);
            }
            // The next appends can still meet what was refused before; then they are taken again.
            let had = world.acknowledged.len();
            while log.failure().is_none() && world.acknowledged.len() == had && began.elapsed() < PATIENCE {
                world.work(&log, 1);
            }
            let Some(why) = log.failure() else { break log };
            assert!(!passes, "{fault:?} has stopped the ledger: {why}");
            self.stopped += 1;
            stopped = true;
        };
        kinds.see(&world, before);
        self.gaps += world.told();
        self.refused += world.refused;
        match dice(3) {
            // It may begin only now: what is not stored yet stays in the journal.
            0 => stopped |= log.close().is_err(),
            kept => {
                world.sim.cut_power();
                // Whether closing notices depends on whether something was still to be done.
                let _ = log.close();
                world.sim.power_on(|n| if kept == 1 { n - 1 } else { dice(n) });
            }
        }
        drop(log);
        world.sim.clear_fault();
        let log = world.check().unwrap();
        if !stopped {
            assert_eq!(log.size(), world.acknowledged.len() as u64, "what was refused was kept");
        }
        log.close().unwrap();
        world.verify();
        self.runs += 1;
        self.acknowledged += world.acknowledged.len();
    }

    /// Opens as soon as the disk lets it.
    fn open(&mut self, world: &mut World, began: Instant) -> Ledger {
        loop {
            assert!(began.elapsed() < PATIENCE, "it does not recover: {:?}", world.sim.history().last());
            if let Some(log) = world.check() {
                return log;
            }
            self.not_opened += 1;
        }
    }
}

/// From each step on the disk is full, read-only or broken for some steps. A ledger that could not open does so later; one that is
/// open goes on by itself when it is over, unless a sync has failed, and says how many it has refused.
fn trouble(stretch: impl Fn(u64) -> Fault, may_fail: impl Fn(Operation) -> bool) {
    let steps = {
        let mut world = begun();
        let before = world.sim.steps();
        assert!(live(&mut world));
        world.sim.steps() - before
    };
    let (mut seen, mut kinds) = (Seen::default(), Kinds::default());
    for step in 1..=steps {
        let fault = stretch(1 + step * step % 37);
        seen.run(begun(), fault, |world| world.sim.set_fault(world.sim.steps() + step, fault), step, &mut kinds);
    }
    for wanted in kinds.left(|(operation, _)| may_fail(operation)) {
        for attempt in 0..200 {
            if kinds.failed.contains_key(&wanted) {
                break;
            }
            let fault = stretch(1 + attempt * 7 % 37);
            let chosen = move |operation, path: &Path| (operation, kind(path)) == wanted;
            // Some steps are only made where another life was cut off.
            let world = if attempt % 2 == 0 { begun() } else { cut_off() };
            seen.run(world, fault, |world| world.sim.set_fault_when(fault, chosen), attempt, &mut kinds);
        }
    }
    let Seen { runs, acknowledged, refused, gaps, stopped, not_opened } = seen;
    println!(
        "{:?}: {runs} times; {acknowledged} entries acknowledged and read back, {refused} appends refused in {gaps} gaps that were \
         told, {stopped} ledgers stopped and opened again, {not_opened} openings refused, 0 lost; by kind of step that failed",
        stretch(0)
    );
    kinds.print();
    let never = kinds.left(|(operation, _)| may_fail(operation));
    assert!(never.is_empty(), "steps that never failed: {never:?}");
}

#[test]
fn a_full_disk_passes() {
    let fails = |operation| matches!(operation, Operation::Create | Operation::Rename);
    trouble(|steps| Fault::Full { steps, in_place: true }, fails);
}

#[test]
fn a_full_disk_that_never_writes_in_place_passes() {
    let fails = |operation| matches!(operation, Operation::Create | Operation::Rename | Operation::Write);
    trouble(|steps| Fault::Full { steps, in_place: false }, fails);
}

#[test]
fn a_read_only_disk_passes() {
    trouble(
        |steps| Fault::ReadOnly { steps },
        |operation| !matches!(operation, Operation::SyncFile | Operation::SyncFolder),
    );
}

#[test]
fn a_broken_disk_stops_the_ledger_and_opening_it_recovers() {
    trouble(|steps| Fault::Broken { steps }, |_| true);
}
