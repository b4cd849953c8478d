//! Damage of the files from which recovery goes on: the partial tiles and the partial bundle of the synced size.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, Config, Error, Lane, Ledger, Notice, Opened, Outcome, Payload, VerifyOptions, accept_rollback, init,
    split_leaf, verify,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TILE_0: &str = "ledger/tile/0/001.p/44";
const TILE_1: &str = "ledger/tile/1/000.p/1";
const BUNDLE: &str = "ledger/tile/entries/001.p/44";

fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.limits.segment_bytes = 256 << 10;
    config.limits.reserve_bytes = 0;
    // A test machine's disk may be nearly full.
    (config.limits.pause_below_percent, config.limits.stop_below_bytes) = (0, 0);
    config
}

/// `n` entries in one group, so that one journal segment holds many.
fn add(log: &Ledger, from: u64, n: u64) {
    let bodies = (from..from + n).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
    let append = Append { lane: Lane::Push, bodies, payload: None, position: None };
    assert_eq!(log.append_wait(append).unwrap().first, from);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// 300 entries, stopped in order. Without `journal` it holds nothing of them any more.
fn stopped(dir: &Path, journal: bool) {
    init(&config(dir), Some("log.example/mend")).unwrap();
    let log = Ledger::open(&config(dir)).unwrap().ledger;
    for from in [0, 100, 200] {
        add(&log, from, 100);
    }
    log.close().unwrap();
    if !journal {
        Ledger::open(&config(dir)).unwrap().ledger.close().unwrap();
    }
    let segments = files(&dir.join("ledger/journal")).into_iter().filter(|path| path.extension().is_some());
    let held = segments.filter(|path| fs::read(path).unwrap()[4096..].iter().any(|&byte| byte != 0)).count();
    assert_eq!(held > 0, journal);
}

/// The ledger of [`stopped`] after a crash: 20 more entries are sealed and not synced.
fn crashed(dir: &Path) {
    let before = tempfile::tempdir().unwrap();
    stopped(before.path(), true);
    let mut config = config(before.path());
    (config.limits.seal_every_ms, config.limits.sync_every_ms) = (1, 3_600_000);
    let log = Ledger::open(&config).unwrap().ledger;
    add(&log, 300, 20);
    assert_eq!(log.wait_sealed(319, Duration::from_mins(1)), 320);
    copy(before.path(), dir);
}

/// What is done to a folder or a file.
type Harm = fn(&Path);

const HARMS: [(&str, Harm); 5] = [
    ("flipped", |path| change(path, |bytes| bytes[17] ^= 8)),
    ("flipped at the end", |path| change(path, |bytes| *bytes.last_mut().unwrap() ^= 1)),
    ("cut", |path| change(path, |bytes| bytes.truncate(bytes.len() - 5))),
    ("longer", |path| change(path, |bytes| bytes.extend_from_slice(&[0; 32]))),
    ("gone", |path| fs::remove_file(path).unwrap()),
];

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    how(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn verified(dir: &Path, size: u64) {
    let report = verify(dir, &VerifyOptions::default());
    assert_eq!((report.outcome(), report.verified), (Outcome::Verified, size), "{report}");
}

/// It opens, tells what was mended, holds every entry, and goes on.
fn mended(dir: &Path, harmed: &[&str], size: u64, case: &str) {
    let Opened { ledger: log, notices } =
        Ledger::open(&config(dir)).unwrap_or_else(|error| panic!("{harmed:?} {case}: {error}"));
    let [Notice::Mended { paths }] = &notices.try_iter().collect::<Vec<_>>()[..] else { panic!("{harmed:?} {case}") };
    let mut wanted: Vec<PathBuf> = harmed.iter().map(|name| dir.join(name)).collect();
    wanted.sort();
    let mut paths = paths.clone();
    paths.sort();
    assert_eq!(paths, wanted, "{case}");
    for (n, leaf) in (0..size).zip(log.entries(0, 400).unwrap()) {
        assert_eq!(split_leaf(&leaf).unwrap().1, format!("{{\"n\":{n}}}").as_bytes());
    }
    add(&log, size, 50);
    log.close().unwrap();
    verified(dir, size + 50);
    // Told once.
    let Opened { notices, .. } = Ledger::open(&config(dir)).unwrap();
    assert_eq!(notices.try_iter().count(), 0);
}

#[test]
fn what_the_journal_or_another_file_determines_is_made_again() {
    let cases: [(Harm, u64); 2] = [(|dir| stopped(dir, true), 300), (crashed, 320)];
    for (made, size) in cases {
        let sound = tempfile::tempdir().unwrap();
        made(sound.path());
        for (case, harm) in HARMS {
            for harmed in [&[TILE_0][..], &[TILE_1], &[BUNDLE], &[TILE_0, TILE_1], &[TILE_0, BUNDLE, TILE_1]] {
                let dir = tempfile::tempdir().unwrap();
                copy(sound.path(), dir.path());
                for name in harmed {
                    harm(&dir.path().join(name));
                }
                mended(dir.path(), harmed, size, case);
            }
        }
    }
}

#[test]
fn without_the_journal_hashes_come_from_entries_but_not_the_other_way() {
    let sound = tempfile::tempdir().unwrap();
    stopped(sound.path(), false);
    for (case, harm) in HARMS {
        for harmed in [&[TILE_0][..], &[TILE_1], &[TILE_0, TILE_1]] {
            let dir = tempfile::tempdir().unwrap();
            copy(sound.path(), dir.path());
            for name in harmed {
                harm(&dir.path().join(name));
            }
            mended(dir.path(), harmed, 300, case);
        }
        let dir = tempfile::tempdir().unwrap();
        copy(sound.path(), dir.path());
        harm(&dir.path().join(BUNDLE));
        if case == "longer" {
            // Every entry is still there.
            mended(dir.path(), &[BUNDLE], 300, case);
            continue;
        }
        let error = Ledger::open(&config(dir.path())).unwrap_err();
        let told = error.to_string();
        assert!(matches!(&error, Error::Unmendable { path, .. } if path.ends_with(BUNDLE)), "{case}: {told}");
        assert!(told.contains("Restore this file from a backup") && told.contains("accept-rollback"), "{told}");
        let kept = accept_rollback(&config(dir.path()), None, |_| b"null".to_vec()).unwrap();
        assert!((256..300).contains(&kept), "{case}: what can be read is kept, not {kept}");
        let log = Ledger::open(&config(dir.path())).unwrap().ledger;
        log.close().unwrap();
        verified(dir.path(), kept + 1);
    }
}

#[test]
fn payloads_of_lost_entries_are_not_taken_for_those_of_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    init(&config(dir.path()), None).unwrap();
    let raw = |n: u64| format!("raw {n}").into_bytes();
    let with_payloads = |log: &Ledger, range: std::ops::Range<u64>| {
        for n in range {
            let payload = Payload::new(raw(n), "raw-7d", "identity").unwrap();
            let body = serde_json::json!({"n": n, "payload": payload.reference()}).to_string();
            log.append_wait(Append { payload: Some(payload), ..Append::one(Lane::Push, body) }).unwrap();
        }
    };
    // Three blocks: before the loss, across it, behind it. Then the journal holds nothing of them.
    for range in [0..260, 260..290, 290..300, 300..300] {
        let log = Ledger::open(&config(dir.path())).unwrap().ledger;
        with_payloads(&log, range);
        log.close().unwrap();
    }
    let blocks = || files(&dir.path().join("ledger/payload")).len();
    assert_eq!(blocks(), 3);
    let entry = fs::read(dir.path().join(BUNDLE)).unwrap();
    let at = entry.windows(9).position(|window| window == b"{\"n\":275,").unwrap();
    change(&dir.path().join(BUNDLE), |bytes| bytes[at] ^= 1);
    assert!(matches!(Ledger::open(&config(dir.path())), Err(Error::Unmendable { .. })));
    assert_eq!(accept_rollback(&config(dir.path()), None, |_| b"{\"n\":275}".to_vec()).unwrap(), 275);
    assert_eq!(blocks(), 2, "what begins behind the loss is set aside");
    let log = Ledger::open(&config(dir.path())).unwrap().ledger;
    with_payloads(&log, 276..330);
    for n in (0..275).chain(276..330) {
        assert_eq!(log.payload(n).unwrap(), Some(raw(n)), "payload {n}");
    }
    log.close().unwrap();
    verified(dir.path(), 330);
    let aside = files(&dir.path().join("ledger/quarantine"));
    assert_eq!(aside.iter().filter(|path| path.extension().is_some_and(|extension| extension == "blk")).count(), 2);
}
