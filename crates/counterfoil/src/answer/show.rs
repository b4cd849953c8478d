//! `show`: whatever is in the hand.

use std::collections::BTreeSet;

use http::StatusCode;
use indexer::FoundRecord;
use model::{
    Record,
    identity::{Actor, PersonRef},
    record::Detail,
};

use super::{
    EntryShown, EntrySummary, Found, PayloadIs, RecordAnswer, ShowAnswer, View, ledger_problem, no_entry, search,
};
use crate::{derive::hex, log::Log, problem::Problem};

/// Largest payload that is shown.
const MAX_PAYLOAD: usize = 64 << 10;

/// Most records and entries of one answer.
const MOST: usize = 200;

/// Finds out what it is and shows it.
pub fn answer(view: &View, what: &str) -> Result<ShowAnswer, Problem> {
    let through = view.through();
    let what = what.trim();
    let hand = indexer::hand(what);
    let mut answer = ShowAnswer {
        what: what.to_owned(),
        taken_for: hand.is.to_owned(),
        records: Vec::new(),
        entries: Vec::new(),
        entry: None,
        people: Vec::new(),
        through,
    };
    if let Some(index) = hand.entry {
        answer.entry = Some(entry(&view.log, index)?);
        answer.records = split(search::answer(view, &search::Ask::all(format!("evidence:{index}"), MOST))?).0;
    } else {
        (answer.records, answer.entries) = split(search::answer(view, &search::Ask::all(hand.query, MOST))?);
    }
    answer.people = people(view, &answer.records);
    Ok(answer)
}

fn split(found: super::SearchAnswer) -> (Vec<Record>, Vec<EntrySummary>) {
    let (mut records, mut entries) = (Vec::new(), Vec::new());
    for hit in found.hits {
        match hit {
            Found::Record(record) => records.push(*record),
            Found::Entry(entry) => entries.push(entry),
        }
    }
    (records, entries)
}

/// Names behind the references in records.
fn people(view: &View, records: &[Record]) -> Vec<(String, String)> {
    let mut seen: BTreeSet<&PersonRef> = BTreeSet::new();
    for record in records {
        if let Detail::Run(run) = &record.detail {
            for claim in &run.started_by {
                if let Actor::Person { person } = &claim.actor {
                    seen.insert(person);
                }
            }
        }
    }
    seen.into_iter().filter_map(|person| Some((person.0.clone(), view.people.name(person)?))).collect()
}

/// One record, by id or its beginning.
pub fn record(view: &View, id: &str) -> Result<RecordAnswer, Problem> {
    let through = view.through();
    match view.index.record(id).map_err(search::problem)? {
        FoundRecord::One(record) => Ok(RecordAnswer { record: *record, through }),
        FoundRecord::None => Err(Problem::new(StatusCode::NOT_FOUND, "no-such-record", "No such record")
            .detail(id.to_owned())
            .hint("ids are matched from their beginning; at least 4 characters")),
        FoundRecord::Many(ids) => {
            Err(Problem::new(StatusCode::CONFLICT, "ambiguous-record", "Several records begin so")
                .detail(ids.iter().take(10).map(|id| id.0.as_str()).collect::<Vec<_>>().join(", "))
                .hint("write more of the id"))
        }
    }
}

/// One entry in full.
pub fn entry(log: &Log, index: u64) -> Result<EntryShown, Problem> {
    let leaf = log.entry(index).map_err(|error| ledger_problem(&error))?;
    let leaf = leaf.ok_or_else(|| no_entry(index, log.size()))?;
    let end = memchr::memchr(b'\n', &leaf).unwrap_or(leaf.len());
    let (first, second) = leaf.split_at(end);
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(serde_json::Value::Null);
    // A payload that was pruned or lost does not keep the entry from being shown.
    let (payload_is, pruned_by, payload) = match log.payload(index) {
        Ok(None) => (PayloadIs::None, None, None),
        Ok(Some(bytes)) => (PayloadIs::Kept, None, Some(bytes)),
        Err(ledger::Error::PayloadPruned { by, .. }) => (PayloadIs::Pruned, Some(by), None),
        Err(error) => {
            tracing::warn!(%error, index, "a payload cannot be shown");
            (PayloadIs::Missing, None, None)
        }
    };
    Ok(EntryShown {
        index,
        stamp: json(first),
        body: json(second.get(1..).unwrap_or_default()),
        leaf_hash: hex(&ledger::leaf_hash(&leaf)),
        payload_is,
        pruned_by,
        payload: payload.filter(|bytes| bytes.len() <= MAX_PAYLOAD).and_then(|bytes| String::from_utf8(bytes).ok()),
    })
}
