//! Appending, reading, proving and opening again, on a real disk.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use ledger::{
    Append, AppendError, Busy, Checkpoint, Config, Error, Lane, Ledger, Opened, Payload, Position, Reader, leaf_hash,
    split_leaf, verify_consistency, verify_inclusion, verify_tlog_proof,
};
use std::path::Path;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    // The machine's disk may be nearly full; the space guard has tests of its own.
    config.limits.pause_below_percent = 0;
    config.limits.segment_bytes = 256 << 10;
    config.limits.reserve_bytes = 4096;
    config.limits.seal_every_ms = 20;
    config
}

fn open(config: &Config) -> Ledger {
    Ledger::open(config).unwrap().ledger
}

fn body(i: u64) -> Vec<u8> {
    format!("{{\"n\":{i}}}").into_bytes()
}

#[test]
fn what_is_appended_can_be_read_proved_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    ledger::init(&config, Some("log.example/basic")).unwrap();
    let log = open(&config);
    let vkey = log.vkeys()[0].parse().unwrap();
    let mut old: Option<Checkpoint> = None;
    for i in 0..600u64 {
        let receipt = log.append_wait(Append::one(Lane::Push, body(i))).unwrap();
        assert_eq!((receipt.first, receipt.last), (i, i));
        let leaf = log.entry(i).unwrap().unwrap();
        let (stamp, text) = split_leaf(&leaf).unwrap();
        assert_eq!((stamp.index(), text, stamp.recorded_at), (i, body(i).as_slice(), receipt.recorded_at));
        if i % 150 != 7 {
            continue;
        }
        assert!(log.wait_sealed(i, LONG) > i);
        let checkpoint = Checkpoint::verify(&log.checkpoint(), [&vkey]).unwrap();
        let path = log.inclusion_proof(i, checkpoint.size).unwrap();
        assert!(verify_inclusion(&leaf_hash(&leaf), i, checkpoint.size, &path, &checkpoint.root));
        let proof = log.tlog_proof(i).unwrap();
        assert_eq!(verify_tlog_proof(&proof, &leaf, [&vkey]).unwrap().0, i);
        assert!(verify_tlog_proof(&proof, &body(i), [&vkey]).is_err());
        assert!(verify_tlog_proof(&proof.replace("index ", "index 1"), &leaf, [&vkey]).is_err());
        if let Some(old) = old {
            let path = log.consistency_proof(old.size, checkpoint.size).unwrap();
            assert!(verify_consistency(old.size, &old.root, checkpoint.size, &checkpoint.root, &path));
        }
        old = Some(checkpoint);
    }
    assert!(matches!(log.inclusion_proof(0, 601), Err(Error::NotSealed { .. })));
    log.close().unwrap();
    assert_eq!(log.append_wait(Append::one(Lane::Own, body(0))), Err(AppendError::Busy(Busy::Closing)));

    let again = open(&config);
    assert_eq!(again.size(), 600);
    let all = (0..)
        .step_by(100)
        .map_while(|from| Some(again.entries(from, 100).unwrap()).filter(|some| !some.is_empty()))
        .flatten();
    for (i, leaf) in (0u64..).zip(all) {
        assert_eq!(split_leaf(&leaf).unwrap().1, body(i));
    }
    let before = split_leaf(&again.entry(599).unwrap().unwrap()).unwrap().0.tick;
    let receipt = again.append_wait(Append::one(Lane::Push, body(600))).unwrap();
    assert_eq!(receipt.first, 600);
    assert!(split_leaf(&again.entry(600).unwrap().unwrap()).unwrap().0.tick >= before);
}

#[test]
fn an_append_of_many_parts_brings_payload_and_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.seal_every_ms = 60_000;
    ledger::init(&config, None).unwrap();
    let raw: Vec<Vec<u8>> = (0..40u8).map(|i| vec![i; 5000]).collect();
    let append = |i: usize| {
        let payload = Payload::new(raw[i].clone(), "raw-7d", "identity").unwrap();
        let first = serde_json::json!({"i": i, "payload": payload.reference()}).to_string().into_bytes();
        let second = serde_json::json!({"payload": payload.reference()}).to_string().into_bytes();
        let position = Position { source: format!("file-{}", i % 3), position: i.to_string() };
        Append { lane: Lane::Pull, bodies: vec![first, second], payload: Some(payload), position: Some(position) }
    };
    let log = open(&config);
    for i in 0..40 {
        let receipt = log.append_wait(append(i)).unwrap();
        assert_eq!(receipt.last, receipt.first + 1);
    }
    // In the journal only.
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!((reader.size(), reader.checkpoint().size), (80, 0));
    for i in 0..40u64 {
        let bytes = &raw[usize::try_from(i).unwrap()];
        assert_eq!(log.payload(i * 2).unwrap().as_ref(), Some(bytes));
        assert_eq!(reader.payload(i * 2 + 1).unwrap().as_ref(), Some(bytes));
    }
    log.close().unwrap();
    // In blocks only.
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.checkpoint().size, 80);
    let log = open(&config);
    for i in 0..40u64 {
        let bytes = &raw[usize::try_from(i).unwrap()];
        assert_eq!(log.payload(i * 2 + 1).unwrap().as_ref(), Some(bytes));
        assert_eq!(reader.payload(i * 2).unwrap().as_ref(), Some(bytes));
    }
    let positions = [("file-0", "39"), ("file-1", "37"), ("file-2", "38")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(log.positions(), positions.clone().into());
    assert_eq!(reader.positions().unwrap(), positions.into());
    assert_eq!(log.payload(log.append_wait(Append::one(Lane::Push, b"{}")).unwrap().first).unwrap(), None);
}

#[test]
fn what_cannot_be_written_is_refused_before_it_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    ledger::init(&config, None).unwrap();
    let log = open(&config);
    let refused = |append| log.append_wait(append).unwrap_err();
    assert!(matches!(refused(Append::one(Lane::Push, b"a\nb")), AppendError::Malformed(_)));
    assert!(matches!(
        refused(Append::one(Lane::Push, vec![b'x'; 65_401])),
        AppendError::TooLarge { what: "a body", .. }
    ));
    assert!(matches!(refused(Append { bodies: vec![], ..Append::one(Lane::Push, b"") }), AppendError::Malformed(_)));
    assert!(matches!(
        refused(Append { bodies: vec![vec![b'x'; 60_000]; 3], ..Append::one(Lane::Push, b"") }),
        AppendError::TooLarge { what: "the append", .. }
    ));
    let payload = Payload::new(vec![1], "c", "e").unwrap();
    assert!(matches!(
        refused(Append { payload: Some(payload), ..Append::one(Lane::Push, b"{}") }),
        AppendError::Malformed(_)
    ));
    assert_eq!(log.size(), 0);
    assert_eq!(log.append_wait(Append::one(Lane::Push, vec![b'x'; 65_400])).unwrap().first, 0);
}

#[test]
fn there_is_one_writer_and_only_init_creates() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    assert!(matches!(Ledger::open(&config), Err(Error::NotALedger { .. })));
    ledger::init(&config, None).unwrap();
    assert!(matches!(ledger::init(&config, None), Err(Error::AlreadyExists { .. })));
    let Opened { ledger: first, .. } = Ledger::open(&config).unwrap();
    assert!(matches!(Ledger::open(&config), Err(Error::Locked { .. })));
    first.close().unwrap();
    Ledger::open(&config).unwrap();
    std::fs::write(dir.path().join("ledger/format"), "counterfoil-ledger\nversion 3\nmin-reader 3\n").unwrap();
    assert!(matches!(Ledger::open(&config), Err(Error::Newer { needed: 3, known: 2, .. })));
    assert!(matches!(Reader::open(dir.path()), Err(Error::Newer { .. })));
}

#[test]
fn a_lane_that_is_full_is_busy_and_the_other_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.pull_bytes = 100;
    ledger::init(&config, None).unwrap();
    let log = open(&config);
    assert_eq!(log.append_wait(Append::one(Lane::Pull, body(0))), Err(AppendError::Busy(Busy::Queue)));
    assert!(log.append_wait(Append::one(Lane::Push, body(0))).is_ok());
    assert_eq!((log.stats().refused_pull, log.stats().refused_push), (1, 0));
}

#[test]
fn receipts_come_in_the_order_of_the_indices() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    ledger::init(&config, None).unwrap();
    let log = open(&config);
    let (sender, receiver) = std::sync::mpsc::channel();
    for i in 0..300 {
        let sender = sender.clone();
        log.append(Append::one(Lane::Push, body(i)), move |receipt| sender.send((i, receipt.unwrap().first)).unwrap())
            .unwrap();
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..300).map(|i| (i, i)).collect::<Vec<_>>());
    assert_eq!(log.wait_beyond(299, LONG), 300);
    assert!(log.stats().groups < 300, "what waits is written together");
}
