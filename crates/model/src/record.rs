//! Audit records: what the correlator concludes, with the evidence for it and against it and what is missing.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::cause::{Cause, CauseFinding, RuledOut, Standing};
use crate::{
    Grade, SourceId, Time,
    identity::Actor,
    run::{ArtifactClaim, ChildRef, CommitClaim, RunAccount, RunKind, RunState, Skipped},
};

/// One revision of one record. The newest revision of an id stands; older ones stay in the ledger's derivation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Stable id, see [`RecordId`].
    pub id: RecordId,
    /// Type, `<noun>.<past verb>`.
    #[serde(rename = "type")]
    pub kind: RecordKind,
    /// Version of the type's fields.
    pub version: u16,
    /// 1 for the first writing, then up.
    pub revision: u32,
    /// How final it is.
    pub state: State,
    /// First moment that it tells of, by the sources' clocks.
    pub from: Time,
    /// Last moment.
    pub to: Time,
    /// How many facts of the same kind it stands for (failures, renewals, events).
    pub count: u64,
    /// One sentence in the asker's words.
    pub summary: String,
    /// What only this type has.
    pub detail: Detail,
    /// Why it happened; only for types that ask why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseFinding>,
    /// To runs, commits, identities, and to what fixed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Entries that it rests on. At most [`Record::MAX_EVIDENCE`]; `count` has the true number.
    pub evidence: Vec<Evidence>,
    /// What would have been needed and is not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Missing>,
    /// The entry whose folding wrote this revision.
    pub through: u64,
}

impl Record {
    /// Most evidence lines that one record carries.
    pub const MAX_EVIDENCE: usize = 64;
}

/// Sixteen characters of Crockford's base 32 (no I, L, O, U): the first 80 bits of a hash over what the primary fact
/// says and never revises. Shown and matched by prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RecordId(pub String);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Types of records that this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RecordKind {
    /// A run ended and its end was seen.
    #[serde(rename = "run.completed")]
    RunCompleted,
    /// A run, or a child that its parent lists, has no end.
    #[serde(rename = "run.incomplete")]
    RunIncomplete,
    /// Handshakes (or calls that look like it) failed on one edge.
    #[serde(rename = "handshake.failed")]
    HandshakeFailed,
    /// An identity got a new certificate.
    #[serde(rename = "credential.rotated")]
    CredentialRotated,
    /// A credential should have been renewed and was not.
    #[serde(rename = "credential.stalled")]
    CredentialStalled,
    /// A source cannot show what one would look for in it.
    #[serde(rename = "source.blind")]
    SourceBlind,
    /// Evidence came after the window that it belongs to was settled.
    #[serde(rename = "evidence.late")]
    EvidenceLate,
}

impl RecordKind {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::RunCompleted,
        Self::RunIncomplete,
        Self::HandshakeFailed,
        Self::CredentialRotated,
        Self::CredentialStalled,
        Self::SourceBlind,
        Self::EvidenceLate,
    ];

    /// The type's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunCompleted => "run.completed",
            Self::RunIncomplete => "run.incomplete",
            Self::HandshakeFailed => "handshake.failed",
            Self::CredentialRotated => "credential.rotated",
            Self::CredentialStalled => "credential.stalled",
            Self::SourceBlind => "source.blind",
            Self::EvidenceLate => "evidence.late",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How final a record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// Sources that could change it have not passed its window.
    Provisional,
    /// Every source that could change it has; or the stated maximum was reached without those named.
    Settled {
        /// Sources that stayed silent to the end.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        without: Vec<String>,
    },
    /// It was settled, and changed since.
    Revised,
    /// It and another turned out to be one.
    Withdrawn {
        /// The one that stays.
        by: RecordId,
    },
}

impl State {
    /// The word alone.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Settled { .. } => "settled",
            Self::Revised => "revised",
            Self::Withdrawn { .. } => "withdrawn",
        }
    }
}

/// Fields of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// `run.completed`, `run.incomplete`.
    Run(Box<RunDetail>),
    /// `handshake.failed`.
    Handshake(Box<HandshakeDetail>),
    /// `credential.rotated`, `credential.stalled`.
    Credential(Box<CredentialDetail>),
    /// `source.blind`.
    Blind(BlindDetail),
    /// `evidence.late`.
    Late(LateDetail),
}

/// A run, folded over all its sightings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// Cluster.
    pub cluster: String,
    /// Kind.
    pub kind: RunKind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// uid; empty when no event carried one.
    pub uid: String,
    /// Parent PipelineRun, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Pipeline task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_task: Option<String>,
    /// Last state by rank.
    pub state: RunState,
    /// Reason of the last state.
    pub reason: String,
    /// Message of the last state.
    pub message: String,
    /// Attempts begun (1 for a run that was never retried).
    pub attempts: u32,
    /// Earliest start seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// Latest completion seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
    /// Service accounts.
    pub service_accounts: Vec<RunAccount>,
    /// Pods.
    pub pods: Vec<String>,
    /// Commit claims, the union over all sightings.
    pub commits: Vec<CommitClaim>,
    /// The claims name different revisions.
    pub disputed: bool,
    /// Artifact claims.
    pub artifacts: Vec<ArtifactClaim>,
    /// Children.
    pub children: Vec<ChildRef>,
    /// Children without a terminal event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_children: Vec<String>,
    /// Skipped tasks.
    pub skipped: Vec<Skipped>,
    /// Triggers event id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_event: Option<String>,
    /// Who created it, with the grade of that.
    pub started_by: Vec<ActorClaim>,
    /// Sightings that repeated a state already seen.
    pub repeats: u64,
}

/// Who did it, according to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActorClaim {
    /// The actor.
    pub actor: Actor,
    /// What the actor did (`create`, `patch spec.status=Cancelled`, `sender annotation`).
    pub did: String,
    /// How sure.
    pub grade: Grade,
    /// Where it stands.
    pub entry: u64,
}

/// Failures on one edge, seen from one end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeDetail {
    /// The source that saw it.
    pub source: SourceId,
    /// `server` or `client`: which end saw it.
    pub side: String,
    /// `tls`, `connection`, `policy` or `application`: how far the calls came.
    pub layer: String,
    /// A word for what was seen: [`crate::handshake::Failure`] or `status_403` and the like.
    pub failure: String,
    /// X.509 verify code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_code: Option<u16>,
    /// TLS alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// True for `stream {}` connections.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The calling end.
    pub from: Endpoint,
    /// The called end.
    pub to: Endpoint,
    /// The peer as the source names it: the last thing that is certain when an end is not resolved.
    pub peer: String,
    /// Some of the lines may have been forged by a client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
}

/// One end of an edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// `namespace/workload` when resolved, otherwise the address, `?` when not even that is known.
    pub name: String,
    /// Address without port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How sure the name is.
    pub grade: Grade,
    /// By what: `declared`, `pod list`, `certificate seen at this address`, `server name`, ….
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// A credential's step or the lack of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CredentialDetail {
    /// The source that says it.
    pub source: SourceId,
    /// SPIFFE ID of the workload or agent; empty when the line names none.
    pub spiffe_id: String,
    /// Node, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Serial of the new certificate, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// End of validity of the old certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_not_after: Option<Time>,
    /// End of validity of the new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_not_after: Option<Time>,
    /// Seconds between the end of the old one and its replacement, when it came too late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_seconds: Option<i64>,
    /// The source's own words for the trouble.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub says: String,
}

/// What a source cannot show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlindDetail {
    /// The source.
    pub source: SourceId,
    /// What it cannot show.
    pub cannot_show: String,
    /// The one line that changes it.
    pub fix: String,
}

/// What came late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LateDetail {
    /// The source.
    pub source: SourceId,
    /// Seconds behind the newest time already settled.
    pub late_by_seconds: i64,
    /// Kind of fact.
    pub fact: String,
}

/// From a record to something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// To what.
    pub what: LinkKind,
    /// The target: `namespace/name (uid)` of a run, a commit id, a SPIFFE ID. Absent: not linked, see `missing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// uid, when the target is a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// How sure.
    pub grade: Grade,
    /// Through what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub via: String,
    /// Entries that it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<u64>,
    /// How many targets were possible when there was no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
    /// What would have been needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Kinds of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// The run that put the identity or workload there.
    Run,
    /// The commit behind it.
    Commit,
    /// The run that ended the trouble.
    FixedBy,
    /// The identity concerned.
    Identity,
}

/// One entry's part in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The entry.
    pub entry: u64,
    /// When it happened by its source.
    pub at: Time,
    /// Its part.
    pub role: Role,
    /// What it says, in few words.
    pub says: String,
    /// How many like it it stands for, when more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// The part an entry plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Speaks for the conclusion.
    Supports,
    /// Speaks against it.
    Contradicts,
    /// Neither; needed to read it.
    Context,
}

/// Evidence that is not there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// What.
    pub what: String,
    /// The source that would have it, in words.
    pub source: String,
}
