//! `verify` of a whole folder, beside SHA-256 alone over the bytes that it must hash: salt and payload of every append,
//! and every leaf, each piece by itself as the format says, from memory, on as many threads.

use std::{path::Path, thread};

use ledger::{Append, Config, Lane, Ledger, Outcome, Payload, VerifyOptions, init, verify};
use sha2::{Digest as _, Sha256};

use crate::{Clock, Table};

const ENTRIES: usize = 70_000;
const PAYLOAD: usize = 4096;
const BODY: usize = 700;

pub fn run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fill(folder.path());
    let leaf = BODY + 110;
    let bytes = ENTRIES * (32 + PAYLOAD + leaf);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    // One piece again and again would stay in the nearest cache.
    let memory: Vec<u8> = (0..64 << 20_u32).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hash = |share: usize| {
        let mut at = 0;
        for _ in 0..share {
            for len in [32 + PAYLOAD, leaf] {
                at = if at + len > memory.len() { 0 } else { at };
                std::hint::black_box(Sha256::digest(&memory[at..at + len]));
                at += len;
            }
        }
    };
    let one = "SHA-256 of the same bytes, one thread";
    let all = format!("SHA-256 of the same bytes, {threads} threads");
    let ours = || {
        let report = verify(folder.path(), &VerifyOptions::default());
        assert_eq!((report.outcome(), report.verified), (Outcome::Verified, ENTRIES as u64), "{report}");
        assert_eq!(report.payloads, ENTRIES as u64);
    };
    let table = Table { bytes, items: ENTRIES, rounds: 5, clock: Clock::Wall };
    table.print(
        Some(0.8),
        &mut [
            (
                all.as_str(),
                Box::new(|| {
                    thread::scope(|scope| {
                        (0..threads).for_each(|_| drop(scope.spawn(|| hash(ENTRIES / threads))));
                    });
                }),
            ),
            ("verify", Box::new(ours)),
            (one, Box::new(|| hash(ENTRIES))),
        ],
    );
    println!("  verify also reads the files, unpacks zstd and reads the JSON of every leaf");
}

/// A closed ledger with texts of the kind that an event is: not random, not all the same.
fn fill(folder: &Path) {
    let config = Config::new(folder);
    init(&config, None).expect("a new ledger");
    let log = Ledger::open(&config).expect("open").ledger;
    let mut sent = 0;
    for n in 0..ENTRIES {
        let mut raw = String::with_capacity(PAYLOAD + 128);
        for line in 0.. {
            if raw.len() >= PAYLOAD {
                break;
            }
            let id = (n * 31 + line).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            raw.push_str(&format!(
                r#"{{"name":"step-{line}","status":"True","reason":"Succeeded","uid":"{id:016x}"}},"#
            ));
        }
        raw.truncate(PAYLOAD);
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
