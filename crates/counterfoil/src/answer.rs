//! Answers as data: the JSON of the api, and what the command line prints from. One shape for both, so that
//! `--output json` and `/api/v1` cannot drift apart. JSON Schemas of these are in `schemas/`.

pub mod doctor;
pub mod search;
pub mod show;
pub mod why;

use std::{path::PathBuf, sync::Arc};

use http::StatusCode;
use indexer::Index;
use model::{Record, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    derive::Progress,
    intake::now,
    log::Log,
    people::People,
    problem::Problem,
    publish::outside::{Outside, Place, Witnessing},
    selfcheck,
    sources::Coverage,
};

/// What answers are made from.
#[derive(Clone)]
pub struct View {
    /// The ledger.
    pub log: Log,
    /// Its folder.
    pub ledger: PathBuf,
    /// Documents.
    pub index: Arc<Index>,
    /// How far they are.
    pub progress: Arc<Progress>,
    /// What references to persons stand for.
    pub people: Arc<People>,
    /// What is known outside; none if no process serves the folder.
    pub outside: Option<Arc<Outside>>,
}

impl View {
    /// How far the answer knows.
    pub fn through(&self) -> Through {
        let known = self.progress.known();
        Through { entries: known.entries, time: known.time, ledger: self.log.size(), asked_at: now() }
    }
}

/// A moment as people write it: RFC 3339, or a date, which is its first moment in UTC.
pub fn moment(text: &str) -> Result<Time, String> {
    Time::parse(&format!("{text}T00:00:00Z")).map_or_else(|| text.parse(), Ok)
}

/// A time parameter, or a problem that names it.
pub fn time(name: &str, text: Option<&str>) -> Result<Option<Time>, Problem> {
    text.map(moment).transpose().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "The question is wrong")
            .detail(format!("{name}: {error}"))
    })
}

/// There is no such entry (yet).
pub fn no_entry(index: u64, size: u64) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-entry", "No such entry")
        .detail(format!("#{index}; the ledger has {size} entries"))
}

/// Trouble of the ledger while reading: ours, never the asker's.
pub fn ledger_problem(error: &ledger::Error) -> Problem {
    Problem::busy(error.to_string())
}

/// How far the derived world has followed the ledger when it answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Through {
    /// Entries followed: the answer knows everything below this index.
    pub entries: u64,
    /// `recorded_at` of the last of them; absent for an empty ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Entries in the ledger.
    pub ledger: u64,
    /// When the answer was given.
    pub asked_at: Time,
}

/// One thing that a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// A record, in its latest revision.
    Record(Box<Record>),
    /// An entry.
    Entry(EntrySummary),
}

/// An entry in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntrySummary {
    /// Index.
    pub index: u64,
    /// Kind of its fact.
    pub kind: String,
    /// When it happened by its source.
    pub time: Time,
    /// In words.
    pub summary: String,
}

/// `GET /api/v1/search`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchAnswer {
    /// The query as understood.
    pub query: String,
    /// How many match in all.
    pub total: u64,
    /// One page, newest first.
    pub hits: Vec<Found>,
    /// Cursor of the next page (`after=`); absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Milliseconds that the search took.
    pub took_ms: f64,
    /// How far it knows.
    pub through: Through,
}

/// `GET /api/v1/why`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WhyAnswer {
    /// What was asked.
    pub what: String,
    /// What it was taken for: `identity`, `workload`, `edge`, `record`.
    pub taken_for: String,
    /// The failures, newest first; those of one incident together.
    pub failures: Vec<Record>,
    /// Stalled credentials at the same time.
    pub stalled: Vec<Record>,
    /// Sources that could not have shown it.
    pub blind: Vec<Record>,
    /// How far it knows.
    pub through: Through,
}

/// Something shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShowAnswer {
    /// What was in the hand.
    pub what: String,
    /// What it was taken for, in words.
    pub taken_for: String,
    /// Records about it.
    pub records: Vec<Record>,
    /// Entries about it.
    pub entries: Vec<EntrySummary>,
    /// One entry in full, when an entry was asked for: stamp and body as they are in the leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryShown>,
    /// Names behind the references in it, as far as the table still has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub people: Vec<(String, String)>,
    /// How far it knows.
    pub through: Through,
}

/// `GET /api/v1/records/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordAnswer {
    /// The record, in its latest revision.
    pub record: Record,
    /// How far it knows.
    pub through: Through,
}

/// `GET /api/v1/entries/{index}`: an entry with how far the derived world has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryAnswer {
    /// The entry.
    #[serde(flatten)]
    pub entry: EntryShown,
    /// How far the derived world knows; an entry itself is readable as soon as it is acknowledged.
    pub through: Through,
}

/// Whether an entry has a payload, and where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayloadIs {
    /// The entry's append came without one.
    #[default]
    None,
    /// It is here.
    Kept,
    /// It was removed when its time was over, as an entry says.
    Pruned,
    /// It should be here and is not, or cannot be read: damage.
    Missing,
}

/// An entry in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EntryShown {
    /// Index.
    pub index: u64,
    /// The ledger's line of the leaf.
    pub stamp: serde_json::Value,
    /// Our line of the leaf.
    pub body: serde_json::Value,
    /// RFC 6962 leaf hash, hex.
    pub leaf_hash: String,
    /// Whether there is a payload and where it is: `none` (the entry names none), `kept`, `pruned` or `missing` (damage).
    #[serde(default)]
    pub payload_is: PayloadIs,
    /// The entry that says that the payload was pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_by: Option<u64>,
    /// The payload as text, when it is kept and is text of at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// `GET /api/v1/doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorAnswer {
    /// A line per source.
    pub sources: Vec<Coverage>,
    /// Entries in the latest checkpoint.
    pub sealed: u64,
    /// The log's name.
    pub origin: String,
    /// How far the self-check is; absent when none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selfcheck: Option<selfcheck::State>,
    /// Free bytes on the ledger's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Whether witnesses hold what this ledger has signed.
    pub witness: Witnessing,
    /// Every witness and every place that keeps checkpoints.
    pub published: Vec<Place>,
    /// How far it knows.
    pub through: Through,
}
