//! Backups: made beside a writer, brought up to date, cut off, restored; and what they must never allow.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]
#![expect(clippy::disallowed_methods, reason = "the test copies beside a writer")]

use ledger::{
    Append, Checkpoint, Config, Disk, Error, Fault, Lane, Ledger, Notice, Outcome, Payload, Position, Reader, SameLog,
    SimDisk, VerifyOptions, accept_rollback, backup, init, restore, rotate_key, split_leaf, verify,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_mins(1);
const BESIDE: &[&str] = &["installation.key"];

fn small(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.limits.segment_bytes = 256 << 10;
    config.limits.reserve_bytes = 0;
    // A test machine's disk may be nearly full.
    (config.limits.pause_below_percent, config.limits.stop_below_bytes) = (0, 0);
    config
}

fn raw(n: u64) -> Vec<u8> {
    format!("raw {n} ").repeat(60).into_bytes()
}

/// Every third append has a payload, every one a position.
fn append(n: u64) -> Append {
    let payload = n.is_multiple_of(3).then(|| Payload::new(raw(n), "raw-7d", "identity").unwrap());
    let body = serde_json::json!({"n": n, "payload": payload.as_ref().map(Payload::reference)}).to_string();
    let position = Some(Position { source: "a.log".to_owned(), position: n.to_string() });
    Append { payload, position, ..Append::one(Lane::Push, body) }
}

fn add(log: &Ledger, from: u64, to: u64) {
    for n in from..to {
        assert_eq!(log.append_wait(append(n)).unwrap().first, n);
    }
}

fn n_of(leaf: &[u8]) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(split_leaf(leaf).unwrap().1).unwrap();
    body["n"].as_u64().unwrap()
}

fn copied(config: &Config, to: &Path) -> ledger::Backup {
    backup(config, to, BESIDE, |_| {}).unwrap()
}

fn verified(dir: &Path) -> ledger::Report {
    let report = verify(dir, &VerifyOptions::default());
    assert_eq!(report.outcome(), Outcome::Verified, "{report}");
    report
}

/// The backup holds exactly the entries below its size, by value, and nothing to sign with.
fn holds(to: &Path, size: u64) {
    let report = verified(to);
    assert_eq!((report.verified, report.unsealed, report.payloads), (size, 0, size.div_ceil(3)), "{report}");
    assert_eq!(report.strangers, Vec::<PathBuf>::new());
    let reader = Reader::open(to).unwrap();
    let leaves =
        (0..).step_by(256).map_while(|from| Some(reader.entries(from, 256).unwrap()).filter(|l| !l.is_empty()));
    assert!(leaves.flatten().map(|leaf| n_of(&leaf)).eq(0..size));
    for n in (0..size.div_ceil(3)).rev().step_by(1 + usize::try_from(size / 120).unwrap()).map(|n| n * 3) {
        assert_eq!(reader.payload(n).unwrap(), Some(raw(n)), "payload {n}");
    }
    if let Some(position) = reader.positions().unwrap().get("a.log") {
        assert!(position.parse::<u64>().unwrap() < size, "a position beyond the entries would leave lines out");
    }
    assert!(!to.join("head").exists());
    let keys: Vec<_> = std::fs::read_dir(to.join("ledger/keys")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(keys, ["vkeys"]);
}

#[test]
fn a_log_in_use_is_copied_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let mut config = small(&data);
    config.limits.seal_every_ms = 2;
    config.limits.sync_every_ms = 10;
    config.limits.store_every_ms = 25;
    init(&config, None).unwrap();
    let log = Arc::new(Ledger::open(&config).unwrap().ledger);
    let stop = Arc::new(AtomicBool::new(false));
    let (writing, stopped) = (Arc::clone(&log), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        while !stopped.load(Ordering::Acquire) {
            assert_eq!(writing.append_wait(append(n)).unwrap().first, n);
            n += 1;
        }
        n
    });
    let mut sizes = Vec::new();
    for round in 1..=12u64 {
        log.wait_sealed(round * 40, LONG);
        let sealed = Reader::open(&data).unwrap().checkpoint().size;
        let size = copied(&config, &to).checkpoint.size;
        assert!(size >= sealed, "everything that was sealed when it began");
        holds(&to, size);
        sizes.push(size);
    }
    stop.store(true, Ordering::Release);
    let n = writer.join().unwrap();
    assert!(sizes.is_sorted() && sizes[0] < sizes[11]);
    log.close().unwrap();
    assert_eq!(copied(&config, &to).checkpoint.size, n);
    holds(&to, n);
}

#[test]
fn only_what_is_new_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (data, to) = (dir.path().join("data"), dir.path().join("backup"));
    let config = small(&data);
    init(&config, Some("log.example/backup")).unwrap();
    std::fs::write(data.join("installation.key"), [7; 32]).unwrap();
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 0, 300);
    log.close().unwrap();
    let first = copied(&config, &to);
    assert_eq!(first.checkpoint.size, 300);
    holds(&to, 300);
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(to.join(name)).unwrap());
    let full = ["ledger/tile/0/000", "ledger/tile/entries/000"];
    let before = full.map(inode);
    let again = copied(&config, &to);
    assert_eq!((again.copied, again.bytes), (0, 0));
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 300, 600);
    log.wait_sealed(599, LONG);
    // Payloads are in the journal only, then in a block.
    let more = copied(&config, &to);
    assert!(more.checkpoint.size == 600 && more.copied < 12, "{more:?}");
    holds(&to, 600);
    log.close().unwrap();
    copied(&config, &to);
    holds(&to, 600);
    assert_eq!(copied(&config, &to).copied, 0);
    assert_eq!(full.map(inode), before, "what is complete is not written again");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(to.join("installation.key")).unwrap().permissions());
    assert_eq!((mode & 0o777, std::fs::read(to.join("installation.key")).unwrap()), (0o600, vec![7; 32]));
    // The same files as a first backup of the same log.
    let fresh = dir.path().join("fresh");
    copied(&config, &fresh);
    let ours = |path: &Path| !path.ends_with("lock") && !path.to_string_lossy().contains("journal");
    let list = |dir: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let all =
            files(dir).into_iter().map(|path| path.strip_prefix(dir).unwrap().to_owned()).filter(|path| ours(path));
        all.map(|path| (path.clone(), std::fs::read(dir.join(path)).unwrap())).collect()
    };
    assert_eq!(list(&to), list(&fresh));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut list = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list.extend(files(&path)) } else { list.push(path) }
    }
    list.sort();
    list
}

#[test]
fn a_backup_never_takes_the_place_of_a_ledger_or_of_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let configs = ["a", "b"].map(|name| small(&at(name)));
    for config in &configs {
        init(config, None).unwrap();
        std::fs::write(config.dir.join("installation.key"), config.dir.as_os_str().as_encoded_bytes()).unwrap();
        let log = Ledger::open(config).unwrap().ledger;
        add(&log, 0, 10);
        log.close().unwrap();
    }
    let refused = |config: &Config, to: &str| backup(config, &at(to), BESIDE, |_| {}).unwrap_err();
    assert!(matches!(refused(&configs[0], "b"), Error::NotABackup { .. }), "a ledger that signs");
    assert!(matches!(refused(&configs[0], "a"), Error::NotABackup { .. }), "itself");
    copied(&configs[0], &at("to"));
    assert!(matches!(refused(&configs[1], "to"), Error::NotABackup { .. }), "of another log");
    assert!(matches!(restore(&at("b"), &small(&at("c")), None, BESIDE, |_| {}), Err(Error::NotABackup { .. })));
    assert!(matches!(restore(&at("to"), &configs[1], None, BESIDE, |_| {}), Err(Error::AlreadyExists { .. })));
    assert!(!at("c").exists());
    // The log is rolled back and goes on under another name: it is another one.
    std::fs::remove_file(at("a/head")).unwrap();
    accept_rollback(&configs[0], None, |_| b"null".to_vec()).unwrap();
    assert!(matches!(refused(&configs[0], "to"), Error::NotABackup { .. }));
    holds(&at("to"), 10);
    let key = |name: &str| std::fs::read(at(name).join("installation.key")).unwrap();
    assert!(key("to") == key("a") && key("a") != key("b"), "nor the key of another installation");
}

#[test]
fn what_is_restored_goes_on_under_a_new_origin() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = small(&at("data"));
    init(&config, Some("log.example/first")).unwrap();
    std::fs::write(at("data/installation.key"), [7; 32]).unwrap();
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 0, 290);
    log.wait_sealed(289, LONG);
    copied(&config, &at("to"));
    let note = log.checkpoint();
    // Entries that the backup does not know, with payloads in the same block.
    add(&log, 290, 310);
    log.close().unwrap();
    let later = log.checkpoint();

    let restored = small(&at("restored"));
    // What a restore that was cut off has left is no obstacle; what is not of one is left alone.
    std::fs::create_dir_all(at("restored/ledger.restoring/tile/0")).unwrap();
    std::fs::write(at("restored/ledger.restoring/tile/0/000"), "half").unwrap();
    std::fs::write(at("restored/installation.key"), [8; 32]).unwrap();
    let refused = || matches!(restore(&at("to"), &restored, None, BESIDE, |_| {}), Err(Error::AlreadyExists { .. }));
    assert!(refused(), "the key of another installation");
    std::fs::write(at("restored/installation.key"), [7; 32]).unwrap();
    std::fs::write(at("restored/ledger.restoring/diary"), "mine").unwrap();
    assert!(refused(), "a folder of somebody else");
    assert_eq!(std::fs::read(at("restored/ledger.restoring/tile/0/000")).unwrap(), b"half");
    std::fs::remove_file(at("restored/ledger.restoring/diary")).unwrap();
    let report = restore(&at("to"), &restored, None, BESIDE, |_| {}).unwrap();
    assert_eq!(report.verified, 290);
    holds(&at("restored"), 290);
    assert_eq!(std::fs::read(at("restored/installation.key")).unwrap(), [7; 32]);
    assert!(matches!(Ledger::open(&restored), Err(Error::NoSigningKey { .. })), "it must not sign");
    assert!(matches!(init(&restored, None), Err(Error::AlreadyExists { .. })));
    let kept = accept_rollback(&restored, None, |notice| {
        let Notice::RolledBack { old_origin, old_checkpoint, kept, .. } = notice else { panic!("{notice:?}") };
        assert_eq!((old_origin.as_str(), old_checkpoint.as_deref(), *kept), ("log.example/first", Some(&*note), 290));
        b"{\"n\":290}".to_vec()
    });
    assert_eq!(kept.unwrap(), 290);
    let log = Ledger::open(&restored).unwrap().ledger;
    assert_eq!(log.positions()["a.log"], "289");
    add(&log, 291, 330);
    log.close().unwrap();
    let report = verified(&at("restored"));
    assert_eq!((report.verified, report.earlier), (330, vec![("log.example/first".to_owned(), 290)]));
    for (kept, outcome) in [(&note, Outcome::Verified), (&later, Outcome::Refuted)] {
        let options = VerifyOptions { kept: Some(kept.to_string()), ..VerifyOptions::default() };
        assert_eq!(verify(&at("restored"), &options).outcome(), outcome);
    }
    assert_eq!(log.payload(300).unwrap(), Some(raw(300)));
}

#[test]
fn the_same_log_goes_on_only_with_its_last_checkpoint_and_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = small(&at("data"));
    init(&config, Some("log.example/moved")).unwrap();
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 0, 299);
    log.close().unwrap();
    let earlier = log.checkpoint().to_string();
    drop(log);
    rotate_key(&config, false, |_| b"{\"n\":299}".to_vec()).unwrap();
    copied(&config, &at("to"));
    let checkpoint = std::fs::read_to_string(at("data/ledger/checkpoint")).unwrap();
    let secrets: Vec<PathBuf> =
        files(&at("data/ledger/keys")).into_iter().filter(|path| path.extension().is_some()).collect();
    let keys: Vec<String> = secrets.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(keys.len(), 2);
    let mut moved = small(&at("moved"));
    moved.head = Some(at("elsewhere/head"));
    let with = |checkpoint: &str, keys: &[String]| {
        let same = SameLog { checkpoint: checkpoint.to_owned(), keys: keys.to_vec() };
        restore(&at("to"), &moved, Some(&same), BESIDE, |_| {})
    };
    assert!(matches!(with(&earlier, &keys), Err(Error::NotTheSameLog { .. })), "the log went on after it");
    assert!(matches!(with(&checkpoint, &keys[..1]), Err(Error::NotTheSameLog { .. })), "both keys sign");
    let forged = checkpoint.replacen("300", "301", 1);
    assert!(matches!(with(&forged, &keys), Err(Error::NotTheSameLog { .. })));
    assert!(files(&at("moved")).is_empty() && !at("elsewhere").exists(), "nothing is left of what was refused");
    with(&checkpoint, &keys).unwrap();
    let log = Ledger::open(&moved).unwrap().ledger;
    assert_eq!((log.size(), log.origin(), log.vkeys().len()), (300, "log.example/moved", 2));
    add(&log, 300, 400);
    assert_eq!(log.payload(297).unwrap(), Some(raw(297)));
    log.close().unwrap();
    let options = VerifyOptions { kept: Some(checkpoint), head: moved.head.clone(), ..VerifyOptions::default() };
    let report = verify(&at("moved"), &options);
    assert_eq!((report.outcome(), report.verified), (Outcome::Verified, 400), "{report}");
    for path in files(&at("moved/ledger/keys")).iter().filter(|path| path.extension().is_some()) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn damage_is_not_copied_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = small(&at("data"));
    init(&config, None).unwrap();
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 0, 300);
    log.close().unwrap();
    let is_of = |path: &Path, part: &str| path.to_string_lossy().contains(part);
    for part in ["payload/", "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001", "tile/1/"] {
        let path = files(&at("data/ledger")).into_iter().find(|path| is_of(path, part)).unwrap();
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        bytes[20] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        let to = dir.path().join(part.replace('/', "-"));
        let done = copied(&config, &to);
        assert_eq!(done.damaged.len(), usize::from(part == "payload/"));
        assert_eq!(verify(&to, &VerifyOptions::default()).outcome(), Outcome::Refuted, "{part}");
        let target = small(&at("restored"));
        let report = restore(&to, &target, None, BESIDE, |_| {}).unwrap();
        assert_eq!(report.outcome(), Outcome::Refuted);
        assert!(files(&at("restored")).is_empty(), "what does not hold is not restored");
        std::fs::write(&path, sound).unwrap();
    }
}

fn dice(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    }
}

/// A backup that is brought up to date and cut off at any step still is the one before, or the new one.
#[test]
fn a_backup_that_is_cut_off_is_the_one_before() {
    let to = Path::new("/backup");
    let (mut old, mut new) = (0, 0);
    for step in 1.. {
        let sim = Arc::new(SimDisk::default());
        let mut config = small(Path::new("/data"));
        config.disk = Disk::Simulated(Arc::clone(&sim));
        config.limits.seal_every_ms = 3_600_000;
        init(&config, None).unwrap();
        let log = Ledger::open(&config).unwrap().ledger;
        add(&log, 0, 250);
        log.close().unwrap();
        drop(log);
        copied(&config, to);
        let log = Ledger::open(&config).unwrap().ledger;
        add(&log, 250, 270);
        log.close().unwrap();
        sim.set_fault(sim.steps() + step, Fault::PowerCut);
        let done = backup(&config, to, BESIDE, |_| {}).is_ok();
        sim.power_on(dice(step));
        let options = VerifyOptions { disk: config.disk.clone(), ..VerifyOptions::default() };
        let check = |sizes: &[u64]| {
            let report = verify(to, &options);
            assert_eq!((report.outcome(), report.damaged), (Outcome::Verified, 0), "step {step}: {report}");
            assert!(sizes.contains(&report.verified), "step {step}: {report}");
            let position: u64 =
                Reader::open_on(&config.disk, to).unwrap().positions().unwrap()["a.log"].parse().unwrap();
            assert!(position < report.verified);
            report.verified
        };
        match check(&[250, 270]) {
            250 => old += 1,
            _ => new += 1,
        }
        // The machine has lost power too: the log itself recovers first.
        Ledger::open(&config).unwrap().ledger.close().unwrap();
        assert_eq!(copied(&config, to).checkpoint.size, 270);
        check(&[270]);
        if done {
            break;
        }
    }
    assert!(old > 5 && new > 1, "{old} before the checkpoint, {new} after it");
}

#[test]
fn the_checkpoint_of_a_backup_is_one_that_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir.path().join("data"));
    init(&config, None).unwrap();
    let to = dir.path().join("to");
    assert_eq!(copied(&config, &to).checkpoint.size, 0);
    assert_eq!(verified(&to).verified, 0);
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 0, 1);
    log.wait_sealed(0, LONG);
    let key = log.vkeys()[0].parse().unwrap();
    assert_eq!(copied(&config, &to).checkpoint, Checkpoint::verify(&log.checkpoint(), [&key]).unwrap());
    holds(&to, 1);
}
