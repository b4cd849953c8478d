//! What recovery finds and says: torn writes, damage, a lost or older `head`, clocks, space.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, AppendError, Busy, Checkpoint, Clock, Config, Disk, Error, Fault, Lane, Ledger, ManualClock, Notice,
    Opened, Outcome, Payload, SimDisk, Space, SpaceLevel, VerifyOptions, accept_rollback, init, split_leaf, verify,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const HOUR: u64 = 3_600_000;
const LONG: Duration = Duration::from_secs(20);

/// A ledger on a simulated disk that seals only when it is told to.
fn simulated() -> (Arc<SimDisk>, Config) {
    let sim = Arc::new(SimDisk::default());
    let mut config = Config::new("/data");
    config.disk = Disk::Simulated(Arc::clone(&sim));
    config.limits.segment_bytes = 64 << 10;
    config.limits.reserve_bytes = 0;
    config.limits.seal_every_ms = HOUR;
    config.limits.sync_every_ms = HOUR;
    init(&config, Some("log.example/recovery")).unwrap();
    (sim, config)
}

fn body(i: u64) -> Vec<u8> {
    format!("{{\"n\":{i}}}").into_bytes()
}

fn add(log: &Ledger, from: u64, to: u64) {
    for i in from..to {
        assert_eq!(log.append_wait(Append::one(Lane::Push, body(i))).unwrap().first, i);
    }
}

/// The machine stops; what was written is there if `keep`, else only what was synced.
fn crash(sim: &SimDisk, log: Ledger, keep: bool) {
    sim.cut_power();
    // Whether closing notices depends on whether a seal was still to be made.
    let _ = log.close();
    drop(log);
    sim.power_on(|n| if keep { n - 1 } else { 0 });
}

/// The journal segment that holds groups, and where its groups are.
fn last_segment(sim: &SimDisk) -> PathBuf {
    sim.files().into_iter().rfind(|path| path.extension().is_some_and(|extension| extension == "seg")).unwrap()
}

/// Whether steps are still being made.
fn is_moving(sim: &SimDisk) -> bool {
    let before = sim.steps();
    std::thread::sleep(Duration::from_millis(20));
    sim.steps() != before
}

fn opened(config: &Config) -> (Ledger, Vec<Notice>) {
    let Opened { ledger, notices } = Ledger::open(config).unwrap();
    let notices = notices.try_iter().collect();
    (ledger, notices)
}

fn report(config: &Config) -> ledger::Report {
    verify(Path::new("/data"), &VerifyOptions { disk: config.disk.clone(), ..VerifyOptions::default() })
}

fn bodies(log: &Ledger) -> Vec<Vec<u8>> {
    log.entries(0, 1000).unwrap().iter().map(|leaf| split_leaf(leaf).unwrap().1.to_vec()).collect()
}

#[test]
fn a_torn_write_is_cut_and_said_once() {
    let (sim, config) = simulated();
    let (log, _) = opened(&config);
    add(&log, 0, 3);
    crash(&sim, log, false);
    // Each group has one page; the third begins behind page 0 and two groups.
    sim.corrupt(&last_segment(&sim), 3 * 4096 + 70, 1);
    let (log, notices) = opened(&config);
    assert!(matches!(&notices[..], [Notice::Cut { offset: 12288, index: 2, .. }]), "{notices:?}");
    assert_eq!(log.size(), 2);
    add(&log, 2, 4);
    crash(&sim, log, false);
    let (log, notices) = opened(&config);
    assert_eq!((bodies(&log).len(), notices), (4, vec![]));
    log.close().unwrap();
    assert_eq!(report(&config).outcome(), Outcome::Verified);
}

#[test]
fn dying_again_and_again_does_not_pile_up_segments() {
    let (sim, config) = simulated();
    for i in 0..30 {
        let (log, _) = opened(&config);
        add(&log, i, i + 1);
        crash(&sim, log, false);
        let is_segment = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "seg");
        assert!(sim.files().iter().filter(is_segment).count() < 8);
    }
    assert_eq!(bodies(&opened(&config).0), (0..30).map(body).collect::<Vec<_>>());
}

#[test]
fn damage_before_a_good_group_is_reported_and_filled() {
    let (sim, config) = simulated();
    let (log, _) = opened(&config);
    add(&log, 0, 4);
    crash(&sim, log, false);
    let segment = last_segment(&sim);
    sim.corrupt(&segment, 2 * 4096 + 70, 1);
    let (log, notices) = opened(&config);
    let quarantined = Path::new("/data/ledger/quarantine").join(segment.file_name().unwrap());
    assert_eq!(
        notices,
        [Notice::Damage {
            path: segment,
            offset: 8192,
            quarantined: quarantined.clone(),
            first: 1,
            lost: 1,
            restored: 0
        }]
    );
    assert_eq!(bodies(&log), [body(0), b"null".to_vec(), body(2), body(3)], "later entries keep their index");
    assert!(sim.files().contains(&quarantined));
    assert_eq!(report(&config).outcome(), Outcome::Verified);
    // It is dealt with: sealed, stored, and no notice at the next opening, whatever happens in between.
    crash(&sim, log, false);
    let (log, notices) = opened(&config);
    assert_eq!(notices, []);
    add(&log, 4, 5);
    log.close().unwrap();
    let report = report(&config);
    assert_eq!((report.outcome(), report.verified, report.fillers), (Outcome::Verified, 5, 1), "{report}");
}

#[test]
fn damage_below_a_checkpoint_is_mended_from_the_tiles() {
    for damaged in [1, 2, 3] {
        let (sim, mut config) = simulated();
        config.limits.seal_every_ms = 1;
        let (log, _) = opened(&config);
        add(&log, 0, 4);
        assert_eq!(log.wait_sealed(3, LONG), 4);
        crash(&sim, log, true);
        // Also the last group (index 3): a signed entry cannot be a torn write.
        sim.corrupt(&last_segment(&sim), (damaged + 1) * 4096 + 70, 1);
        let (log, notices) = opened(&config);
        assert!(
            matches!(&notices[..], [Notice::Damage { first, lost: 1, restored: 1, .. }] if *first == damaged as u64),
            "{notices:?}"
        );
        assert_eq!(bodies(&log), (0..4).map(body).collect::<Vec<_>>());
        log.close().unwrap();
        let report = report(&config);
        assert_eq!((report.outcome(), report.fillers), (Outcome::Verified, 0), "{report}");
    }
}

#[test]
fn a_failed_sync_is_fatal_and_nothing_is_acknowledged_after_it() {
    let (sim, config) = simulated();
    let (log, _) = opened(&config);
    add(&log, 0, 2);
    // The keeper makes the next segment; when the disk is quiet, the next two steps are the writer's: write, sync.
    while !sim.files().iter().any(|path| path.ends_with("spare")) || is_moving(&sim) {
        std::thread::yield_now();
    }
    sim.set_fault(sim.steps() + 2, Fault::Fails);
    let Err(AppendError::Failed(reason)) = log.append_wait(Append::one(Lane::Push, body(2))) else {
        panic!("it was acknowledged")
    };
    assert!(reason.contains("sync"), "{reason}");
    assert!(matches!(log.append_wait(Append::one(Lane::Push, body(3))), Err(AppendError::Failed(_))));
    assert!(log.failure().is_some());
    assert!(matches!(log.close(), Err(Error::Failed { .. })));
    drop(log);
    let (log, _) = opened(&config);
    assert_eq!(bodies(&log)[..2], [body(0), body(1)]);
}

#[test]
fn a_step_of_the_wall_clock_is_a_notice() {
    let (_, mut config) = simulated();
    let clock = Arc::new(ManualClock::default());
    clock.set_wall(1_800_000_000_000_000);
    config.clock = Clock::Manual(Arc::clone(&clock));
    let Opened { ledger: log, notices } = Ledger::open(&config).unwrap();
    add(&log, 0, 1);
    clock.advance(Duration::from_secs(100));
    add(&log, 1, 2);
    assert_eq!(notices.try_recv().ok(), None, "time passed on both clocks");
    clock.set_wall(1_800_000_090_000_000);
    add(&log, 2, 3);
    assert!(
        matches!(notices.try_recv(), Ok(Notice::ClockStep { expected, actual }) if (expected - actual).num_seconds() == 10)
    );
    clock.advance(Duration::from_millis(500));
    add(&log, 3, 4);
    assert_eq!(notices.try_recv().ok(), None, "one notice per step");
    let tick = |log: &Ledger, i| split_leaf(&log.entry(i).unwrap().unwrap()).unwrap().0.tick;
    assert_eq!([0, 1, 2, 3].map(|i| tick(&log, i)), [0, 100_000, 100_000, 100_500]);
    log.close().unwrap();
    drop(log);
    clock.set_wall(1_800_000_000_000_000);
    let (log, notices) = opened(&config);
    assert!(matches!(&notices[..], [Notice::ClockStep { .. }]), "the clock is behind the last entry");
    clock.advance(Duration::from_millis(7));
    add(&log, 4, 5);
    assert_eq!(tick(&log, 4), 100_507, "the tick goes on where it was");
}

#[test]
fn short_space_refuses_by_lane_and_is_told_at_both_ends() {
    let (sim, mut config) = simulated();
    config.limits.reserve_bytes = 8192;
    let space = |free_mib: u64| Space { free: free_mib << 20, total: 10_000 << 20 };
    sim.set_space(space(900));
    let Opened { ledger: log, notices } = Ledger::open(&config).unwrap();
    let until = |level| {
        let end = std::time::Instant::now() + LONG;
        while log.stats().space != level {
            assert!(std::time::Instant::now() < end, "the keeper does not see {level:?}");
            std::thread::yield_now();
        }
    };
    let try_lane = |lane| log.append_wait(Append::one(lane, b"{}".to_vec())).map(drop);
    let busy = Err(AppendError::Busy(Busy::Space));
    until(SpaceLevel::Low);
    assert_eq!([try_lane(Lane::Own), try_lane(Lane::Push), try_lane(Lane::Pull)], [Ok(()), Ok(()), busy.clone()]);
    assert!(matches!(notices.recv_timeout(LONG), Ok(Notice::Gap { until: None, .. })));
    sim.set_space(space(100));
    until(SpaceLevel::Short);
    assert_eq!([try_lane(Lane::Own), try_lane(Lane::Push), try_lane(Lane::Pull)], [Ok(()), busy.clone(), busy]);
    sim.set_space(space(5_000));
    until(SpaceLevel::Enough);
    assert_eq!(try_lane(Lane::Pull), Ok(()));
    assert!(matches!(notices.recv_timeout(LONG), Ok(Notice::Gap { until: Some(_), push: 1, pull: 2, .. })));
    let end = std::time::Instant::now() + LONG;
    while !sim.files().contains(&PathBuf::from("/data/ledger/reserve")) {
        assert!(std::time::Instant::now() < end, "the reserve is not made again");
        std::thread::yield_now();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

fn real(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    // The machine's disk may be nearly full; the space guard has tests of its own.
    config.limits.pause_below_percent = 0;
    config.limits.segment_bytes = 64 << 10;
    config.limits.reserve_bytes = 0;
    config
}

#[test]
fn an_older_copy_does_not_open_until_the_rollback_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let config = real(dir.path());
    init(&config, Some("log.example/a")).unwrap();
    let (log, _) = opened(&config);
    add(&log, 0, 300);
    let payload = Payload::new(b"kept".to_vec(), "raw", "identity").unwrap();
    let named = serde_json::json!({"payload": payload.reference()}).to_string().into_bytes();
    log.append_wait(Append { payload: Some(payload), ..Append::one(Lane::Push, named) }).unwrap();
    log.close().unwrap();
    let at_301 = log.checkpoint();
    copy(&dir.path().join("ledger"), &dir.path().join("older"));
    let (log, _) = opened(&config);
    add(&log, 301, 310);
    log.close().unwrap();
    let lost = log.checkpoint();
    drop(log);
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    std::fs::rename(dir.path().join("older"), dir.path().join("ledger")).unwrap();

    assert!(matches!(Ledger::open(&config), Err(Error::HeadAhead { sealed: 310, found: 301, .. })));
    assert!(matches!(accept_rollback(&config, Some("log.example/a"), |_| vec![]), Err(Error::BadOrigin { .. })));
    let kept = accept_rollback(&config, Some("log.example/b"), |notice| {
        let Notice::RolledBack { old_origin, old_checkpoint, new_origin, kept } = notice else { panic!("{notice:?}") };
        assert_eq!((old_origin.as_str(), new_origin.as_str(), *kept), ("log.example/a", "log.example/b", 301));
        serde_json::json!({"old": old_checkpoint}).to_string().into_bytes()
    });
    assert_eq!(kept.unwrap(), 301);
    let (log, notices) = opened(&config);
    assert_eq!((log.size(), log.origin(), notices), (302, "log.example/b", vec![]));
    let first = log.entry(301).unwrap().unwrap();
    let first: serde_json::Value = serde_json::from_slice(split_leaf(&first).unwrap().1).unwrap();
    assert_eq!(first["old"], *lost, "the first entry under the new origin names the old checkpoint");
    assert_eq!(log.payload(300).unwrap().as_deref(), Some(b"kept".as_slice()));
    let key = log.vkeys()[0].parse().unwrap();
    assert_eq!(Checkpoint::verify(&log.checkpoint(), [&key]).unwrap().size, 302);
    add(&log, 302, 305);
    log.close().unwrap();
    for (kept, outcome) in [(at_301, Outcome::Verified), (lost, Outcome::Refuted)] {
        let options = VerifyOptions { kept: Some(kept.to_string()), ..VerifyOptions::default() };
        assert_eq!(verify(dir.path(), &options).outcome(), outcome, "a checkpoint under the old origin");
    }
    let report = verify(dir.path(), &VerifyOptions::default());
    assert_eq!((report.outcome(), report.verified, report.payloads), (Outcome::Verified, 305, 1), "{report}");
}

#[test]
fn a_missing_head_and_a_forked_one_do_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    init(&real(&a), None).unwrap();
    copy(&a, &b);
    for (dir, n) in [(&a, 10), (&b, 20)] {
        let (log, _) = opened(&real(dir));
        log.append_wait(Append::one(Lane::Push, body(n))).unwrap();
        log.close().unwrap();
    }
    std::fs::copy(b.join("head"), a.join("head")).unwrap();
    assert!(matches!(Ledger::open(&real(&a)), Err(Error::Inconsistent { sealed: 1, .. })));
    std::fs::remove_file(a.join("head")).unwrap();
    assert!(matches!(Ledger::open(&real(&a)), Err(Error::HeadMissing { .. })));
    assert!(matches!(init(&real(&a), None), Err(Error::AlreadyExists { .. })));
    // A ledger folder that is not mounted is not begun anew while `head` says that there was one.
    std::fs::remove_dir_all(b.join("ledger")).unwrap();
    assert!(matches!(init(&real(&b), None), Err(Error::AlreadyExists { .. })));
}
