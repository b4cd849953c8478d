//! Failing steps on a simulated disk: each one alone, and a disk that is full, read-only or broken for some time. What was
//! acknowledged stays, no checkpoint contradicts an earlier one (invariants 1 and 2), and what passes is got over without help.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod world;

use ledger::{Fault, init};
use world::{World, dice};

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
