//! Facts about ourselves (they are evidence too), and the small ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Grade, SourceId, Text, Time, When};

/// How far every source has been read. Written every 10 s, and as first and last entry of a process life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// Process life: random, to tell one start from another.
    pub life: String,
    /// `first`, `beat` or `last`.
    pub phase: String,
    /// One line per source that this process reads or was sent, sorted by source.
    pub sources: Vec<Watermark>,
}

/// How far one source is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watermark {
    /// The source.
    pub source: SourceId,
    /// Position as the source's edge writes it; absent for pushed sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Bytes not read yet; absent for pushed sources, which nobody can measure from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// Newest `occurred` seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// Everything that the source wrote up to here has been read. Only this makes absence evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_to: Option<Time>,
}

/// The account of one append of lines; always its first part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Import {
    /// Lines in the append.
    pub lines: u64,
    /// Lines that became facts (access lines: that were folded).
    pub understood: u64,
    /// Lines of known form that carry nothing to keep apart.
    pub passed: u64,
    /// Lines that could not be read; the first of them follow as `opaque` facts.
    pub opaque: u64,
    /// Lines per level as written (`info`, `error`, …), for sources that have levels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, u64>,
    /// Oldest time in the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    /// Newest time in the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// The submitter says: nothing of this source before this moment is missing (`import`, `?complete_to=`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_to: Option<Time>,
    /// Kubernetes objects: when the list was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<When>,
}

/// Our wall clock moved by itself against the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clock {
    /// Step in milliseconds; positive is forward.
    pub step_ms: i64,
}

/// Something that should be here and is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// What kind: `disk_full`, `disk_read_only`, `file_truncated`, `file_lost`, `refused`, `too_large`.
    pub what: String,
    /// The source concerned; absent when all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    /// How many deliveries or bytes, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// From when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Time>,
    /// To when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Time>,
    /// In words.
    pub detail: String,
}

/// The ledger about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerNote {
    /// `created`, `cut`, `damaged`, `mended`, `rolled_back`, `upgraded`, `key_added`, `key_retired`, `witnessed`, `unwitnessed`,
    /// `published`, `unpublished`, `pruned`, `checked`.
    pub what: String,
    /// Old checkpoint, range or key, as the case needs.
    pub detail: String,
}

/// Received and kept, not understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opaque {
    /// Why, in a fixed word: `not_json`, `no_envelope`, `unknown_type`, `too_deep`, `not_a_line_of_this_format`, ….
    pub reason: String,
    /// Details, quoted from a parser.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// CloudEvents type, when an envelope could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The beginning, at most 256 bytes, after redaction.
    pub head: Text,
}

/// CDEvents: an artifact, service, approval or incident changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When, by the event's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred: Option<When>,
    /// CDEvents type without prefix and version, such as `service.deployed`.
    pub what: String,
    /// Subject id.
    pub subject: String,
    /// `context.chainId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// Plain string members of the subject's content (environment, artifactId, outcome, …), sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content: BTreeMap<String, String>,
}

/// Counters of one instance over one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Start of the window.
    pub from: Time,
    /// End of the window.
    pub to: Time,
    /// Increase per series (`name{label="value"}`), as decimal text.
    pub increase: BTreeMap<String, String>,
    /// A counter went back to a smaller value in the window.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
}

/// A signed statement about an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attestation {
    /// Predicate type.
    pub predicate: String,
    /// Digests that it speaks about.
    pub subjects: Vec<String>,
    /// Signer's key or identity, as far as it was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// What the check showed.
    pub grade: Grade,
}

/// One rule of what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// Who or what set it.
    pub set_by: String,
    /// Source end of the edge, a pattern.
    pub from: String,
    /// Destination end of the edge, a pattern.
    pub to: String,
    /// Allowed or denied.
    pub allow: bool,
    /// mTLS is required on it.
    pub mtls: bool,
}

/// Somebody looked or exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// Who, as authenticated.
    pub who: String,
    /// What: `search`, `export`, ….
    pub what: String,
    /// The query or scope.
    pub scope: String,
}

/// An old payload read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Amendment {
    /// Index of the entry that is read again.
    pub of: u64,
    /// The fact as the present parser reads it, in the form of `fact`.
    pub fact: serde_json::Value,
}
