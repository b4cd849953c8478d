//! What was written: the last revision of every record, so that only news is written again.

use std::collections::BTreeMap;

use model::{
    Record, Time,
    record::{CauseFinding, Detail, Evidence, Link, Missing, RecordId, RecordKind, State},
};
use serde::{Deserialize, Serialize};

use crate::{limits::crowd_out, store::digest};

/// A record before it has a revision.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) id: String,
    pub(crate) kind: RecordKind,
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) count: u64,
    pub(crate) summary: String,
    pub(crate) detail: Detail,
    pub(crate) cause: Option<CauseFinding>,
    pub(crate) links: Vec<Link>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) missing: Vec<Missing>,
    /// Every source that could change it has passed; or the longest wait was, without those named.
    pub(crate) settled: Option<Vec<String>>,
}

/// The last revision of a record, as far as needed to write the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Written {
    revision: u32,
    digest: u64,
    /// It was settled at some time.
    settled: bool,
    /// It settled without some sources, which may still pass.
    without: bool,
    withdrawn: bool,
    kind: RecordKind,
    to: Time,
}

/// Records written, by id, and how many were dropped before their time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book(BTreeMap<String, Written>, u64);

impl Book {
    pub(crate) fn holds(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|written| !written.withdrawn)
    }

    /// Records whose last revision was dropped for space: what is written of them again begins at revision 1.
    pub(crate) fn evicted(&self) -> u64 {
        self.1
    }

    /// Settled, and no source that could still pass is missing.
    pub(crate) fn is_settled(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|written| written.settled && !written.without)
    }

    /// Writes the draft when it says something new.
    pub(crate) fn write(&mut self, draft: Draft, through: u64, limit: usize, out: &mut Vec<Record>) {
        let before = self.0.get(&draft.id);
        let was_settled = before.is_some_and(|written| written.settled);
        let mut record = Record {
            id: RecordId(draft.id),
            kind: draft.kind,
            version: 1,
            revision: 0,
            state: State::Provisional,
            from: draft.from,
            to: draft.to,
            count: draft.count,
            summary: draft.summary,
            detail: draft.detail,
            cause: draft.cause,
            links: draft.links,
            evidence: order(draft.evidence),
            missing: draft.missing,
            through: 0,
        };
        record.missing.sort();
        record.missing.dedup();
        let content = serde_json::to_vec(&record).map(|bytes| digest(&[&bytes])).unwrap_or_default();
        let same = before.is_some_and(|written| written.digest == content && !written.withdrawn);
        // The sources that it had settled without have passed after all.
        let caught_up =
            before.is_some_and(|written| written.without) && draft.settled.as_ref().is_some_and(Vec::is_empty);
        if same && !caught_up && (was_settled || draft.settled.is_none()) {
            return;
        }
        let without = !caught_up && draft.settled.as_ref().map_or(was_settled, |without| !without.is_empty());
        record.state = match draft.settled {
            _ if was_settled && !(same && caught_up) => State::Revised,
            Some(without) => State::Settled { without },
            None => State::Provisional,
        };
        record.revision = before.map_or(1, |written| written.revision.saturating_add(1));
        record.through = through;
        let settled = was_settled || matches!(record.state, State::Settled { .. });
        let to = record.to;
        let written = Written {
            revision: record.revision,
            digest: content,
            settled,
            without,
            withdrawn: false,
            kind: record.kind,
            to,
        };
        self.0.insert(record.id.0.clone(), written);
        self.1 += crowd_out(&mut self.0, limit, |written| written.to).len() as u64;
        out.push(record);
    }

    /// Withdraws a record in favour of another. The draft says what it would be now; nothing else of it is kept.
    pub(crate) fn withdraw(&mut self, draft: Draft, by: String, through: u64, out: &mut Vec<Record>) {
        let Some(written) = self.0.get_mut(&draft.id).filter(|written| !written.withdrawn) else { return };
        written.withdrawn = true;
        written.revision = written.revision.saturating_add(1);
        out.push(Record {
            id: RecordId(draft.id),
            kind: draft.kind,
            version: 1,
            revision: written.revision,
            state: State::Withdrawn { by: RecordId(by) },
            from: draft.from,
            to: draft.to,
            count: draft.count,
            summary: draft.summary,
            detail: draft.detail,
            cause: draft.cause,
            links: draft.links,
            evidence: order(draft.evidence),
            missing: draft.missing,
            through,
        });
    }

    /// Forgets records that ended before `end`, but for runs: Tekton tells old runs again after each restart.
    pub(crate) fn age(&mut self, end: Time) {
        self.0.retain(|_, written| written.to >= end || written.kind == RecordKind::RunCompleted);
    }
}

/// By time, without repeats, within the limit: the first and the last stay.
fn order(mut evidence: Vec<Evidence>) -> Vec<Evidence> {
    evidence.sort_by(|a, b| (a.at, a.entry, a.role, &a.says).cmp(&(b.at, b.entry, b.role, &b.says)));
    evidence.dedup();
    if evidence.len() > Record::MAX_EVIDENCE {
        evidence.drain(Record::MAX_EVIDENCE / 2..evidence.len() - Record::MAX_EVIDENCE / 2);
    }
    evidence
}
