//! Our own numbers for `/metrics`. One table: no run, commit or identity can become a label, because every label is a
//! `&'static str` of a closed set.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Why something was counted.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Reason {
    /// A word of a closed set.
    pub reason: &'static str,
}

/// Format of a source.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Format {
    /// [`model::identity::SourceKind::as_str`].
    pub format: &'static str,
}

/// Where checkpoints go.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct To {
    /// [`crate::publish::outside::Kind::as_str`].
    pub to: &'static str,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Deliveries and posts answered 2xx.
    pub accepted: Family<Format, Counter>,
    /// Entries written.
    pub entries: Family<Format, Counter>,
    /// Requests that were not taken, by reason.
    pub refused: Family<Reason, Counter>,
    /// Facts kept as opaque, by format.
    pub opaque: Family<Format, Counter>,
    /// Seconds from the last byte of a body to the answer.
    pub ack_seconds: Histogram,
    /// Limits reached, by limit.
    pub limits: Family<Reason, Counter>,
    /// Entries in the ledger.
    pub ledger_entries: Gauge<u64, AtomicU64>,
    /// Entries followed by correlator and index.
    pub derived_entries: Gauge<u64, AtomicU64>,
    /// Facts that the fold dropped before their time to keep within its limits.
    pub evicted: Gauge<u64, AtomicU64>,
    /// Records written, all revisions.
    pub records: Counter,
    /// Trouble of the derived part (index, snapshot, people table), by reason.
    pub derived_trouble: Family<Reason, Counter>,
    /// Payloads removed by retention.
    pub pruned: Counter,
    /// Bytes that the self-check has read.
    pub selfcheck_bytes: Counter,
    /// Entries that the self-check has proved.
    pub selfcheck_entries: Counter,
    /// Rounds of the self-check that have ended.
    pub selfcheck_rounds: Counter,
    /// Things that the self-check has found damaged, in every round again.
    pub selfcheck_damaged: Counter,
    /// Queries answered.
    pub queries: Counter,
    /// Seconds per query.
    pub query_seconds: Histogram,
    /// Entries in the newest checkpoint that is known there; no line where nothing is configured. `quorum` is what the
    /// policy's witnesses vouch for.
    pub published_entries: Family<To, Gauge<u64, AtomicU64>>,
    /// Seconds since there has been a newer one: for `quorum`, since when the ledger has been unwitnessed.
    pub publish_behind: Family<To, Gauge<u64, AtomicU64>>,
    /// Checkpoints that were not taken.
    pub publish_failures: Family<To, Counter>,
}

/// Buckets from 0.1 ms to 10 s.
const SECONDS: [f64; 12] = [0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            accepted: Family::default(),
            entries: Family::default(),
            refused: Family::default(),
            opaque: Family::default(),
            ack_seconds: Histogram::new(SECONDS),
            limits: Family::default(),
            ledger_entries: Gauge::default(),
            derived_entries: Gauge::default(),
            evicted: Gauge::default(),
            records: Counter::default(),
            derived_trouble: Family::default(),
            pruned: Counter::default(),
            selfcheck_bytes: Counter::default(),
            selfcheck_entries: Counter::default(),
            selfcheck_rounds: Counter::default(),
            selfcheck_damaged: Counter::default(),
            queries: Counter::default(),
            query_seconds: Histogram::new(SECONDS),
            published_entries: Family::default(),
            publish_behind: Family::default(),
            publish_failures: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("counterfoil_intake_accepted", "Deliveries and posts answered 2xx", self.accepted.clone());
        r.register("counterfoil_intake_entries", "Entries written", self.entries.clone());
        r.register("counterfoil_intake_refused", "Requests not taken, by reason", self.refused.clone());
        r.register("counterfoil_intake_opaque", "Facts kept and not understood", self.opaque.clone());
        r.register(
            "counterfoil_intake_ack_duration_seconds",
            "From the last byte of a body to the answer",
            self.ack_seconds.clone(),
        );
        r.register("counterfoil_limits_reached", "Limits reached, by limit", self.limits.clone());
        r.register("counterfoil_ledger_entries", "Entries in the ledger", self.ledger_entries.clone());
        r.register(
            "counterfoil_derived_entries",
            "Entries followed by correlator and index",
            self.derived_entries.clone(),
        );
        r.register("counterfoil_fold_evicted", "Facts dropped by the fold at its limits", self.evicted.clone());
        r.register("counterfoil_records_written", "Records written, all revisions", self.records.clone());
        r.register(
            "counterfoil_derived_trouble",
            "Trouble of the derived part, by reason",
            self.derived_trouble.clone(),
        );
        r.register("counterfoil_payloads_pruned", "Payloads removed by retention", self.pruned.clone());
        let text = "Bytes read again by the self-check";
        r.register("counterfoil_selfcheck_bytes", text, self.selfcheck_bytes.clone());
        let text = "Entries proved by the self-check";
        r.register("counterfoil_selfcheck_entries", text, self.selfcheck_entries.clone());
        let text = "Rounds of the self-check that have ended";
        r.register("counterfoil_selfcheck_rounds", text, self.selfcheck_rounds.clone());
        let text = "Things that the self-check found damaged";
        r.register("counterfoil_selfcheck_damaged", text, self.selfcheck_damaged.clone());
        r.register("counterfoil_queries", "Queries answered", self.queries.clone());
        r.register("counterfoil_query_duration_seconds", "Time per query", self.query_seconds.clone());
        r.register(
            "counterfoil_published_entries",
            "Entries in the newest checkpoint known there",
            self.published_entries.clone(),
        );
        r.register(
            "counterfoil_publish_behind_seconds",
            "Since there is a newer checkpoint than there (to quorum: unwitnessed)",
            self.publish_behind.clone(),
        );
        r.register("counterfoil_publish_failures", "Checkpoints not taken", self.publish_failures.clone());
    }

    /// Counts a refusal.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a limit that was reached.
    pub fn limit(&self, reason: &'static str) {
        self.limits.get_or_create(&Reason { reason }).inc();
    }

    /// Counts trouble of the derived part.
    pub fn trouble(&self, reason: &'static str) {
        self.derived_trouble.get_or_create(&Reason { reason }).inc();
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // writing to a String cannot fail
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_line_and_no_identity_label() {
        let metrics = Metrics::default();
        metrics.refuse("busy");
        metrics.accepted.get_or_create(&Format { format: "nginx-error" }).inc();
        metrics.publish_failures.get_or_create(&To { to: "witness" }).inc();
        let text = metrics.text();
        assert!(text.contains("counterfoil_intake_refused_total{reason=\"busy\"} 1"), "{text}");
        for line in text.lines().filter(|l| l.contains('{')) {
            let labels = &line[line.find('{').unwrap()..];
            assert!(["{reason=", "{format=", "{le=", "{to="].iter().any(|ok| labels.starts_with(ok)), "{line}");
        }
    }
}
