//! Expectations: `TYPE [STATE] key=value…` must match a record, with `no ` before it none may.

use std::collections::BTreeMap;

use model::{
    Record,
    record::{Detail, LinkKind, Role, State},
};

use super::{Scenario, Words};

/// What is wrong with the records, in the words of the expectations; empty when nothing is.
pub fn check(scenario: &Scenario, records: &BTreeMap<String, Record>) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in &scenario.expect {
        let words = Words::read(line.strip_prefix("no ").unwrap_or(line));
        let found = records.values().any(|record| matches(record, &words));
        if found == line.starts_with("no ") {
            wrong.push(line.clone());
        }
    }
    if !wrong.is_empty() {
        wrong.extend(records.values().map(|record| format!("  is: {}", describe(record))));
    }
    wrong
}

fn matches(record: &Record, words: &Words) -> bool {
    let kind = words.plain.first().is_some_and(|kind| *kind == record.kind.as_str());
    let state = match words.plain.get(1).map(String::as_str) {
        Some("settled") => matches!(record.state, State::Settled { .. }),
        Some(word) => record.state.as_str() == word,
        None => true,
    };
    kind && state && words.named.iter().all(|(key, value)| has(record, key, value))
}

fn has(record: &Record, key: &str, value: &str) -> bool {
    let link = |what| record.links.iter().find(|link| link.what == what);
    let target = |what| link(what).and_then(|link| link.target.clone()).unwrap_or_else(|| "-".into());
    let ends = |pick: fn(&model::record::HandshakeDetail) -> &str| match &record.detail {
        Detail::Handshake(detail) => pick(detail) == value,
        _ => false,
    };
    match key {
        "cause" => record.cause.as_ref().is_some_and(|cause| cause.word.as_str() == value),
        "standing" => record.cause.as_ref().is_some_and(|cause| cause.standing.as_str() == value),
        "ruled_out" => {
            record.cause.as_ref().is_some_and(|cause| cause.ruled_out.iter().any(|out| out.cause.as_str() == value))
        }
        "from" => ends(|detail| &detail.from.name),
        "to" => ends(|detail| &detail.to.name),
        "by" => ends(|detail| &detail.from.by),
        "failure" => ends(|detail| &detail.failure),
        "layer" => ends(|detail| &detail.layer),
        "n" => record.count.to_string() == value,
        "run" => target(LinkKind::Run) == value,
        "run_grade" => link(LinkKind::Run).is_some_and(|link| link.grade.as_str() == value),
        "candidates" => link(LinkKind::Run).and_then(|link| link.candidates).is_some_and(|n| n.to_string() == value),
        "commit" => target(LinkKind::Commit) == value,
        "fixed_by" => target(LinkKind::FixedBy) == value,
        "identity" => target(LinkKind::Identity) == value,
        "identity_grade" => link(LinkKind::Identity).is_some_and(|link| link.grade.as_str() == value),
        "run_name" => matches!(&record.detail, Detail::Run(run) if run.name == value),
        "open_children" => {
            matches!(&record.detail, Detail::Run(run) if run.open_children.len().to_string() == value)
        }
        "started_by" => match &record.detail {
            Detail::Run(run) => run.started_by.iter().any(|claim| claim.grade.as_str() == value),
            _ => false,
        },
        "missing" => {
            record.missing.iter().any(|missing| missing.what.contains(value) || missing.source.contains(value))
        }
        "without" => {
            matches!(&record.state, State::Settled { without } if without.iter().any(|source| source.contains(value)))
        }
        "summary" => record.summary.contains(value),
        "supports" => value.split(',').all(|entry| {
            let lines = record.evidence.iter().filter(|line| line.role == Role::Supports);
            lines.into_iter().any(|line| line.entry.to_string() == entry)
        }),
        _ => false,
    }
}

fn describe(record: &Record) -> String {
    let cause =
        record.cause.as_ref().map(|cause| format!(" {} {}", cause.word, cause.standing.as_str())).unwrap_or_default();
    let missing: Vec<&str> = record.missing.iter().map(|missing| missing.what.as_str()).collect();
    let links: Vec<String> = record.links.iter().map(|link| format!("{:?}={:?}", link.what, link.target)).collect();
    format!("{} {}{cause} [{}] missing={missing:?} links={links:?}", record.kind, record.state.as_str(), record.summary)
}
