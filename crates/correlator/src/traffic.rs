//! What access lines tell: calls between a source and its peers, and the certificates that callers showed.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Entry, Grade, SourceId, Time,
    edges::{Direction, EdgeRow, Edges},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    limits::{add, crowd_out},
    pairs,
    store::{Store, best},
};

/// A certificate that a caller showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) first: Time,
    pub(crate) last: Time,
    pub(crate) entry: u64,
    /// The least of what its lines may carry.
    pub(crate) best: Grade,
    pub(crate) verify: Option<String>,
    pub(crate) spiffe_id: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) not_before: Option<Time>,
    pub(crate) not_after: Option<Time>,
}

/// Calls between a source and a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) first: Time,
    pub(crate) last: Time,
    pub(crate) requests: u64,
    pub(crate) names: BTreeSet<String>,
    /// First and last request that went to another upstream before this one.
    pub(crate) retried: Option<(Time, Time)>,
    /// Per status: first and last time.
    #[serde(with = "pairs")]
    pub(crate) statuses: BTreeMap<u16, (Time, Time)>,
}

/// Certificates shown from one address, by who was called and which certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Certificates(#[serde(with = "pairs")] pub(crate) BTreeMap<(SourceId, String), Shown>);

impl Store {
    /// Folds the rows; failures in them are the caller's business.
    pub(crate) fn edges(&mut self, entry: &Entry, edges: &Edges, config: &Config) {
        for row in &edges.rows {
            self.passed(entry, row.first);
            self.passed(entry, row.last);
            let source = self.source(entry);
            source.requests += row.requests;
            source.tls_seen |= row.tls.is_some();
            source.inbound |= row.direction == Direction::In;
            let lost = add(&mut source.serves, row.server_name.clone(), config.max_names)
                + add(&mut source.pods, row.pod.clone(), config.max_names);
            self.evicted += lost;
            self.row(entry, row, config);
        }
    }

    fn row(&mut self, entry: &Entry, row: &EdgeRow, config: &Config) {
        let key = (entry.body.source.clone(), row.direction, row.peer.clone());
        let calls = self.calls.entry(key).or_insert_with(|| Calls {
            first: row.first,
            last: row.last,
            requests: 0,
            names: BTreeSet::new(),
            retried: None,
            statuses: BTreeMap::new(),
        });
        calls.first = calls.first.min(row.first);
        calls.last = calls.last.max(row.last);
        calls.requests += row.requests;
        let name = row.upstream_name.clone().filter(|name| !name.is_empty() && name != "-");
        self.evicted += add(&mut calls.names, name, config.max_names);
        for answer in &row.answers {
            if answer.upstream.as_ref().is_some_and(|upstream| upstream.contains(',')) {
                let (first, last) = calls.retried.unwrap_or((answer.first, answer.last));
                calls.retried = Some((first.min(answer.first), last.max(answer.last)));
            }
            let span = calls.statuses.entry(answer.status).or_insert((answer.first, answer.last));
            *span = (span.0.min(answer.first), span.1.max(answer.last));
        }
        self.index.call(row.direction, &row.peer, &calls.names);
        for (_, calls) in crowd_out(&mut self.calls, config.max_facts, |calls| calls.last) {
            self.lose(Some(calls.last));
        }
        if row.direction == Direction::In {
            self.certificate(entry, row, config);
        }
    }

    fn certificate(&mut self, entry: &Entry, row: &EdgeRow, config: &Config) {
        let Some(tls) = &row.tls else { return };
        let serial = tls.serial.as_ref().map(|serial| serial.as_str().to_owned());
        let Some(which) = serial.clone().or_else(|| tls.spiffe_id.clone()).or_else(|| tls.subject.clone()) else {
            return;
        };
        if which.is_empty() {
            return;
        }
        let shown = self.shown.entry(row.peer.clone()).or_default();
        let seen = shown.0.entry((entry.body.source.clone(), which)).or_insert_with(|| Shown {
            first: row.first,
            last: row.last,
            entry: entry.index,
            best: best(entry),
            verify: tls.verify.clone(),
            spiffe_id: None,
            subject: None,
            serial,
            issuer: None,
            not_before: None,
            not_after: None,
        });
        if row.first < seen.first {
            (seen.first, seen.entry) = (row.first, entry.index);
        }
        seen.last = seen.last.max(row.last);
        seen.best = seen.best.min(best(entry));
        seen.verify = seen.verify.clone().max(tls.verify.clone());
        fill(&mut seen.spiffe_id, tls.spiffe_id.as_ref().filter(|id| !id.is_empty()));
        fill(&mut seen.subject, tls.subject.as_ref().filter(|name| !name.is_empty()));
        fill(&mut seen.issuer, tls.issuer.as_ref().filter(|name| !name.is_empty()));
        fill(&mut seen.not_before, tls.not_before.as_ref());
        fill(&mut seen.not_after, tls.not_after.as_ref());
        let lost = crowd_out(&mut shown.0, config.max_names, |shown| shown.last);
        let newest = |list: &Certificates| list.0.values().map(|shown| shown.last).max();
        let lost_lists = crowd_out(&mut self.shown, config.max_facts, newest);
        for (_, shown) in lost.into_iter().chain(lost_lists.into_iter().flat_map(|(_, list)| list.0)) {
            self.lose(Some(shown.last));
        }
    }
}

/// Keeps the smaller of two claims, so that arrival does not matter.
fn fill<T: Ord + Clone>(slot: &mut Option<T>, value: Option<&T>) {
    if let Some(value) = value {
        match slot {
            Some(old) if *old <= *value => {}
            _ => *slot = Some(value.clone()),
        }
    }
}
