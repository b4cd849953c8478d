//! An entry: the ledger's stamp and the body that we wrote under it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Fact, SourceId, Time,
    identity::{Declared, Submitter},
};

/// One entry of the ledger, as a fold reads it. Its leaf is two lines of JSON: [`Stamp`], then [`Body`].
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Position in the ledger, from 0. Order is the index, nothing else.
    pub index: u64,
    /// First line of the leaf.
    pub stamp: Stamp,
    /// Second line of the leaf.
    pub body: Body,
}

/// First line of a leaf: written by the ledger, not by us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The ledger's wall clock.
    pub recorded_at: Time,
    /// Milliseconds that this ledger has been open, monotonic over restarts.
    pub tick: u64,
    /// The append that brought the entry.
    pub append: u64,
    /// Part `i` of `n` of that append, from 1.
    pub part: [u32; 2],
}

/// Second line of a leaf. At most [`Body::MAX_BYTES`] long; longer ones are cut by rule and say so in `cut`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// Format version of the body: 1.
    pub v: u16,
    /// Who says it.
    pub source: SourceId,
    /// What the owner of the source declares about it.
    #[serde(default, skip_serializing_if = "Declared::is_empty")]
    pub declared: Declared,
    /// The parser that made the fact and its version, such as `nginx-error/1`.
    pub parser: String,
    /// When we received the bytes.
    pub observed_at: Time,
    /// Who handed them to us.
    pub submitter: Submitter,
    /// Where in its source the fact stood; the key of repeats for lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The raw input, redacted. Stands in the first part; the other parts of the append share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<PayloadRef>,
    /// Payloads that this entry says may be gone; only in entries about a pruning. The ledger itself reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
    /// What was redacted from the payload, by rule; empty when nothing was. In the first part too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redacted: Vec<Redacted>,
    /// What was cut from the fact to keep the body short.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
    /// What happened.
    pub fact: Fact,
}

impl Body {
    /// The version that this code writes.
    pub const VERSION: u16 = 1;
    /// Longest body in bytes; a leaf may have 65,535 (C2SP tlog-tiles).
    pub const MAX_BYTES: usize = 16 * 1024;
}

/// Where a line stood in its source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// In a file: the same file seen again gives the same key, whatever it is called.
    File {
        /// Fingerprint of the file: hex of a hash over its first bytes.
        file: String,
        /// Byte offset of the line's first byte.
        offset: u64,
    },
    /// In a posted body.
    Post {
        /// SHA-256 of the body as received (inflated), 32 hex digits.
        post: String,
        /// Line number, from 1.
        line: u64,
    },
}

/// Commitment to a payload: the ledger proves the hash, the payload can be pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PayloadRef {
    /// SHA-256 over salt and bytes, hex.
    pub commit: String,
    /// Length of the bytes.
    pub len: u64,
    /// Retention class: `events`, `lines` or `own`.
    pub class: String,
    /// How the bytes lie in their block: `identity` (blocks are compressed as a whole).
    pub encoding: String,
}

/// What was pruned: payloads of one class, of a day or earlier, in appends before the entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pruned {
    /// Retention class.
    pub class: String,
    /// Last UTC day of `recorded_at`, `YYYY-MM-DD`.
    pub through: String,
}

/// How often one redaction rule struck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redacted {
    /// The rule's name.
    pub rule: String,
    /// Number of spans replaced.
    pub n: u32,
}

/// One list that was shortened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// JSON pointer of the list inside `fact`.
    pub list: String,
    /// How many of its last items were left out.
    pub omitted: u64,
    /// SHA-256 over the JSON of the items left out, hex.
    pub digest: String,
}

impl Entry {
    /// Reads a leaf. The error says which line is wrong.
    pub fn from_leaf(index: u64, leaf: &[u8]) -> Result<Self, String> {
        let end = leaf.iter().position(|b| *b == b'\n').ok_or("a leaf has two lines, this one has no line end")?;
        let stamp = serde_json::from_slice(&leaf[..end]).map_err(|e| format!("first line of the leaf: {e}"))?;
        let body = serde_json::from_slice(&leaf[end + 1..]).map_err(|e| format!("second line of the leaf: {e}"))?;
        Ok(Self { index, stamp, body })
    }
}
