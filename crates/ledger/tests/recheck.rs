//! The rolling self-check reads values, not only roots: whatever byte of a bundle, tile or block is changed, a round names it.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{Append, Config, Lane, Ledger, Limits, Payload, Rechecked, init};
use std::path::{Path, PathBuf};

const ENTRIES: u64 = 70_000;

/// More than 65,536 entries, so that tiles of all three levels exist; some with payloads.
fn folder(entries: u64) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new(dir.path());
    config.limits = Limits::small();
    init(&config, None).unwrap();
    let log = Ledger::open(&config).unwrap().ledger;
    let mut next = 0;
    while next < entries {
        let payload = Payload::new(format!("raw {next} ").repeat(300).into_bytes(), "raw", "identity").unwrap();
        let first = serde_json::json!({"n": next, "payload": payload.reference()}).to_string().into_bytes();
        let count = usize::try_from((entries - next).min(500)).unwrap();
        let mut bodies = vec![b"{}".to_vec(); count];
        bodies[0] = first;
        next += count as u64;
        log.append_wait(Append { lane: Lane::Push, bodies, payload: Some(payload), position: None }).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let log = Ledger::open(&config).unwrap().ledger;
    (dir, log)
}

fn round(log: &Ledger, from: u64) -> Rechecked {
    let mut round = log.recheck(from).unwrap();
    let mut sum = Rechecked::default();
    while let Some(step) = log.recheck_step(&mut round).unwrap() {
        sum.entries += step.entries;
        sum.payloads += step.payloads;
        sum.pruned += step.pruned;
        sum.bytes += step.bytes;
        sum.damage.extend(step.damage);
    }
    assert_eq!(round.next(), round.size());
    sum
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
fn a_round_over_a_sound_ledger_proves_every_entry_and_payload() {
    for entries in [0, 1, 255, 256, 257, 600] {
        let (_dir, log) = folder(entries);
        let all = round(&log, 0);
        assert_eq!((all.entries, all.payloads), (entries, entries.div_ceil(500)), "{all:?}");
        assert!(all.damage.is_empty() && (all.bytes > 0) == (entries > 0), "{all:?}");
    }
    let (_dir, log) = folder(ENTRIES);
    let all = round(&log, 0);
    assert_eq!((all.entries, all.payloads, all.damage), (ENTRIES, ENTRIES.div_ceil(500), vec![]));
    // Goes on where it was stopped: at the beginning of that bundle.
    assert_eq!(round(&log, 69_000).entries, ENTRIES - 69_000 / 256 * 256);
}

#[test]
fn any_changed_byte_below_the_root_is_found_and_named() {
    let (dir, log) = folder(700);
    let ledger = dir.path().join("ledger");
    let mut tried = 0;
    for path in files(&ledger.join("tile")).into_iter().chain(files(&ledger.join("payload"))) {
        let bytes = std::fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by((bytes.len() / 9).max(1)).chain([bytes.len() - 1]) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, bad).unwrap();
            let found = round(&log, 0).damage;
            assert!(!found.is_empty(), "byte {at} of {}", path.display());
            assert!(found[0].entry < 700, "{found:?}");
            tried += 1;
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!round(&log, 0).damage.is_empty(), "{} is gone", path.display());
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(tried > 50);
    assert_eq!(round(&log, 0).damage, vec![]);
}

#[test]
fn the_damaged_entry_and_file_are_named() {
    let (dir, log) = folder(700);
    let bundle = dir.path().join("ledger/tile/entries/001");
    let mut bytes = std::fs::read(&bundle).unwrap();
    // The last byte of the bundle is that of entry 511.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let found = round(&log, 0);
    assert_eq!(found.damage.len(), 1, "{found:?}");
    assert_eq!((found.damage[0].entry, &found.damage[0].path), (511, &bundle));
    assert_eq!(found.entries, 700 - 256);
}
