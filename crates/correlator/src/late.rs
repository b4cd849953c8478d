//! `evidence.late`: facts older than the live state reaches, or than their source had been said to be complete.

use std::collections::BTreeMap;

use model::{
    Entry, Time,
    record::{Detail, Evidence, LateDetail, RecordKind, Role},
    time::SECOND,
};
use serde::{Deserialize, Serialize};

use crate::{
    book::Draft,
    episode::{plural, record_id, source_key},
    limits::crowd_out,
};

/// Most minutes of late evidence remembered.
const LIMIT: usize = 10_000;

/// Late facts counted per record: (count, first, last, first entry).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Late(BTreeMap<String, (u64, Time, Time, u64)>);

impl Late {
    /// Older than the live state reaches: not folded.
    pub(crate) fn beyond_reach(&mut self, entry: &Entry, at: Time, now: Time) -> Option<Draft> {
        self.note(entry, at, now, "older than the live state reaches: not folded")
    }

    /// Older than its source's watermark: folded, and records that it changes are revised.
    pub(crate) fn behind_mark(&mut self, entry: &Entry, at: Time, mark: Time) -> Option<Draft> {
        self.note(entry, at, mark, "its source had been said to be complete: folded, records may be revised")
    }

    fn note(&mut self, entry: &Entry, at: Time, newest: Time, why: &str) -> Option<Draft> {
        let source = &entry.body.source;
        let kind = entry.body.fact.kind();
        let id =
            record_id(&[b"evidence.late", &source_key(source), kind.as_bytes(), at.minute().to_string().as_bytes()]);
        let known = self.0.entry(id.clone()).or_insert((0, at, at, entry.index));
        known.0 += 1;
        known.1 = known.1.min(at);
        known.2 = known.2.max(at);
        let (count, first, last, first_entry) = *known;
        // One that is forgotten is told again when more of its minute comes: nothing is lost by that.
        crowd_out(&mut self.0, LIMIT, |known| known.2);
        // Told once per minute of evidence; later ones of that minute only count.
        (count == 1).then(|| Draft {
            id,
            kind: RecordKind::EvidenceLate,
            from: first,
            to: last,
            count,
            summary: format!("{}: {} of {at}, {why}", source, plural(count, kind)),
            detail: Detail::Late(LateDetail {
                source: source.clone(),
                late_by_seconds: (newest - at) / SECOND,
                fact: kind.into(),
            }),
            cause: None,
            links: Vec::new(),
            evidence: vec![Evidence { entry: first_entry, at, role: Role::Supports, says: why.into(), times: None }],
            missing: Vec::new(),
            settled: Some(Vec::new()),
        })
    }
}
