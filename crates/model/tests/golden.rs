//! The written forms, byte for byte: one line per kind of fact with every field filled, a body and a record. A change here
//! is a change of a published format.

use std::collections::BTreeSet;

use model::{Body, Fact, Record};

#[test]
fn every_kind_of_fact_reads_and_writes_its_golden_line() {
    let mut kinds = BTreeSet::new();
    for line in include_str!("facts.jsonl").lines() {
        let fact: Fact = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(serde_json::to_string(&fact).unwrap(), line);
        kinds.insert(fact.kind().to_owned());
    }
    let all: BTreeSet<String> = Fact::KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    assert_eq!(kinds, all);
}

#[test]
fn a_body_and_a_record_read_and_write_their_golden_lines() {
    let body = include_str!("body.json").trim_end();
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Body>(body).unwrap()).unwrap(), body);
    let record = include_str!("record.json").trim_end();
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Record>(record).unwrap()).unwrap(), record);
}

#[test]
fn what_is_absent_is_left_out() {
    let body = r#"{"v":1,"source":{"cluster":"default","kind":"spire","name":"a"},"parser":"spire/1","observed_at":"2026-11-23T15:20:59Z","submitter":{"by":"local"},"fact":{"clock":{"step_ms":1}}}"#;
    assert_eq!(serde_json::to_string(&serde_json::from_str::<Body>(body).unwrap()).unwrap(), body);
}
