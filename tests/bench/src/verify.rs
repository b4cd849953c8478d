//! `verify` of a whole folder, beside SHA-256 alone over the bytes that it must hash: salt and payload of every append,
//! and every leaf, each piece by itself as the format says, from memory, on as many threads. And beside SHA-256 over the
//! bytes as they lie in the folder, payloads packed, the journal and what was made ahead for it included.

use std::{fs, path::Path, thread};

use ledger::{Append, Config, Lane, Ledger, Outcome, Payload, VerifyOptions, init, verify};
use sha2::{Digest as _, Sha256};

use crate::{Clock, Table};

/// Bytes of a payload, and entries.
const SIZES: [(usize, usize); 2] = [(2_700, 100_000), (14_000, 40_000)];
const BODY: usize = 700;

pub fn run() {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    // One piece again and again would stay in the nearest cache.
    let memory: Vec<u8> = (0..64 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (payload, entries) in SIZES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fill(folder.path(), payload, entries);
        let ours = || {
            let report = verify(folder.path(), &VerifyOptions::default());
            assert_eq!((report.outcome(), report.verified), (Outcome::Verified, entries as u64), "{report}");
            assert_eq!(report.payloads, entries as u64);
            report.bytes as usize
        };
        let lying = ours();
        let leaf = size_of(&folder.path().join("ledger/tile/entries")) / entries - 2;
        let bytes = entries * (32 + payload + leaf);
        println!(
            "  payloads of {payload} bytes: {entries} entries, {} MB as they lie ({} MB of it journal and reserve), {} MB to hash",
            lying / 1_000_000,
            (size_of(&folder.path().join("ledger/journal")) + size_of(&folder.path().join("ledger/reserve")))
                / 1_000_000,
            bytes / 1_000_000
        );
        let hash = |pieces: &[usize], rounds: usize| {
            let mut at = 0;
            for len in (0..rounds).flat_map(|_| pieces) {
                at = if at + len > memory.len() { 0 } else { at };
                std::hint::black_box(Sha256::digest(&memory[at..at + len]));
                at += len;
            }
        };
        let hash_on_all = |pieces: &[usize], rounds: usize| {
            thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| hash(pieces, rounds / threads)))));
        };
        let all = format!("SHA-256 of what must be hashed, {threads} threads");
        let packed = format!("SHA-256 of the bytes as they lie, {threads} threads");
        let table = Table { bytes, items: entries, rounds: 5, clock: Clock::Wall };
        let medians = table.print(
            Some(0.8),
            &mut [
                (all.as_str(), Box::new(|| hash_on_all(&[32 + payload, leaf], entries))),
                ("verify", Box::new(|| _ = ours())),
                ("SHA-256 of what must be hashed, one thread", Box::new(|| hash(&[32 + payload, leaf], entries))),
                (packed.as_str(), Box::new(|| hash_on_all(&[1 << 20], lying >> 20))),
            ],
        );
        println!(
            "  verify, in {:.3} s, beside SHA-256 of the bytes as they lie: {:.2} x",
            medians[1],
            medians[3] / medians[1]
        );
    }
    println!("  verify also reads the files, unpacks zstd and reads the JSON of every leaf up to its payload");
}

/// Bytes of a file, or of all files below a folder.
fn size_of(path: &Path) -> usize {
    let Ok(list) = fs::read_dir(path) else { return fs::metadata(path).map_or(0, |file| file.len() as usize) };
    list.map(|entry| size_of(&entry.expect("a name").path())).sum()
}

/// A closed ledger with texts of the kind that an event is: not random, not all the same.
fn fill(folder: &Path, payload: usize, entries: usize) {
    let config = Config::new(folder);
    init(&config, None).expect("a new ledger");
    let log = Ledger::open(&config).expect("open").ledger;
    let mut sent = 0;
    for n in 0..entries {
        let mut raw = String::with_capacity(payload + 128);
        for line in 0.. {
            if raw.len() >= payload {
                break;
            }
            let id = (n * 31 + line).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            raw.push_str(&format!(
                r#"{{"name":"step-{line}","status":"True","reason":"Succeeded","uid":"{id:016x}"}},"#
            ));
        }
        raw.truncate(payload);
        let payload = Payload::new(raw.into_bytes(), "events", "identity").expect("a payload");
        let reference = serde_json::to_string(payload.reference()).expect("a reference is written");
        let mut body = format!(r#"{{"v":1,"n":{n},"payload":{reference},"fact":{{"run":{{"fill":""#).into_bytes();
        body.resize(BODY - 4, b'x');
        body.extend_from_slice(br#""}}}"#);
        log.append(Append { payload: Some(payload), ..Append::one(Lane::Push, body) }, |_| {}).expect("taken");
        sent += 1;
        if sent % 1000 == 0 {
            log.wait_beyond(sent - 1, std::time::Duration::from_secs(60));
        }
    }
    log.wait_beyond(sent - 1, std::time::Duration::from_secs(60));
    log.close().expect("closed");
}
