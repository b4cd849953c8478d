//! What can be tuned, and every limit.

use serde::{Deserialize, Serialize};

/// Windows and limits of the fold. Part of the state: a snapshot made with another configuration is not restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How far live state reaches back from the newest `occurred` seen, in seconds. At least twice the longest
    /// credential life, or the issue of a certificate is forgotten before its end.
    pub reach_seconds: i64,
    /// Failures of one kind on one edge closer than this are one episode, in seconds.
    pub gap_seconds: i64,
    /// How long after an episode a sign of recovery still belongs to it, in seconds.
    pub recovery_seconds: i64,
    /// A record whose sources have no watermark settles after this long without news, in ledger milliseconds.
    pub settle_ms: u64,
    /// A run settles after this long without another sighting, in ledger milliseconds.
    pub run_settle_ms: u64,
    /// Open records are looked at again at most this often, in ledger milliseconds; heartbeats do it at once.
    pub refresh_ms: u64,
    /// Most clusters; entries of further ones are counted and not folded. The other limits hold for each cluster.
    pub max_clusters: usize,
    /// Most kinds of failure (source, side, peer, class) held.
    pub max_failures: usize,
    /// Most minutes held of one kind of failure.
    pub max_minutes: usize,
    /// Most steps held of one credential source.
    pub max_steps: usize,
    /// Most sources held; facts of further ones are counted and not folded.
    pub max_sources: usize,
    /// Most names, sockets and pods held of one source, each; most certificates of one address.
    pub max_names: usize,
    /// Most states, commits, artifacts, children, pods, accounts and skipped tasks held of one run, each.
    pub max_parts: usize,
    /// Most runs held.
    pub max_runs: usize,
    /// Most addresses, certificates, pods, calls and actions held, each.
    pub max_facts: usize,
    /// Most repeat keys remembered.
    pub max_seen: usize,
    /// Most records whose last revision is remembered.
    pub max_records: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reach_seconds: 24 * 3600,
            gap_seconds: 120,
            recovery_seconds: 600,
            settle_ms: 600_000,
            run_settle_ms: 60_000,
            refresh_ms: 5_000,
            max_clusters: 64,
            max_failures: 10_000,
            max_minutes: 2_880,
            max_steps: 20_000,
            max_sources: 10_000,
            max_names: 256,
            max_parts: 1_000,
            max_runs: 20_000,
            max_facts: 50_000,
            max_seen: 200_000,
            max_records: 100_000,
        }
    }
}
