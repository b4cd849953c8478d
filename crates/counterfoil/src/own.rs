//! Entries about ourselves: heartbeats, and what the ledger has to tell. They are evidence too.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use ingest::Draft;
use ledger::{Append, AppendError, Busy, Lane, Ledger, Notice, PayloadDay, Prune};
use model::{
    Body, Fact, SourceId, Time, entry,
    identity::{DEFAULT_CLUSTER, Declared, SourceKind, Submitter},
    own::{Clock, Gap, Heartbeat, LedgerNote, Watermark},
};

use crate::{
    derive::hex,
    desk::{Arrival, Desk, NotKept, Reached},
    intake::now,
};

/// Time between heartbeats.
pub const PERIOD: Duration = Duration::from_secs(10);

/// Input has paused when nothing came for so long.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Sources per heartbeat entry, so that a body stays within its limit.
const SOURCES_PER_ENTRY: usize = 20; // of at most 700 bytes each, as names are bounded

/// One life of the process.
#[derive(Clone, Debug)]
pub struct Life(String);

impl Life {
    /// A new one, told from others by 64 random bits.
    pub fn new() -> Result<Self> {
        let mut bytes = [0u8; 8];
        getrandom::fill(&mut bytes).context("draw a random number")?;
        Ok(Self(hex(&bytes)))
    }

    /// The life of an import, which only says how far it has read.
    pub fn of_import() -> Self {
        Self("import".into())
    }
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which heartbeat of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One of many.
    Beat,
    /// The last one: whatever is missing after it, we were not there.
    Last,
}

/// The first entry of a life: before anything else can be taken in.
pub fn first(desk: &Desk, ledger: &Ledger, life: &Life) {
    let fact = Fact::Heartbeat(Heartbeat { life: life.0.clone(), phase: "first".into(), sources: Vec::new() });
    if let Err(error) = ledger.append_wait(Append::one(Lane::Own, body(fact))) {
        desk.metrics.trouble("own_entry");
        tracing::error!(%error, "the first entry of this life could not be kept");
    }
}

/// A heartbeat over all sources.
pub fn heartbeat(desk: &Desk, life: &Life, phase: Phase) {
    beat(desk, life, if phase == Phase::Last { "last" } else { "beat" });
}

fn beat(desk: &Desk, life: &Life, phase: &str) {
    let marks = desk.watermarks.all();
    let of = |sources: &[Watermark]| {
        Fact::Heartbeat(Heartbeat { life: life.0.clone(), phase: phase.to_owned(), sources: sources.to_vec() })
    };
    let facts = if marks.is_empty() { vec![of(&[])] } else { marks.chunks(SOURCES_PER_ENTRY).map(of).collect() };
    keep(desk, facts);
}

/// Time between two tries to keep a notice that the disk does not take.
const AGAIN: Duration = Duration::from_millis(500);

/// Turns what the ledger tells into an entry. A disk that takes nothing just now is waited for until `stop` is true: that
/// senders are refused belongs on the record too, and it is written when there is room again.
pub fn notice(desk: &Desk, notice: &Notice, stop: &AtomicBool) {
    tracing::warn!(?notice, "the ledger tells");
    loop {
        let ending = stop.load(Ordering::Acquire);
        match try_keep(desk, vec![fact(notice)]) {
            Err(NotKept::Ledger(AppendError::Busy(Busy::Space | Busy::ReadOnly))) if !ending => {
                std::thread::sleep(AGAIN);
            }
            kept => return told(desk, kept),
        }
    }
}

/// An entry of the ledger about itself.
pub fn note(desk: &Desk, what: &str, detail: String) {
    keep(desk, vec![Fact::Ledger(LedgerNote { what: what.to_owned(), detail })]);
}

/// The fact of a notice.
fn fact(notice: &Notice) -> Fact {
    let time = |at: &chrono::DateTime<chrono::Utc>| Time(at.timestamp_nanos_opt().unwrap_or_default());
    match notice {
        Notice::ClockStep { expected, actual } => {
            Fact::Clock(Clock { step_ms: actual.signed_duration_since(expected).num_milliseconds() })
        }
        Notice::Cut { path, offset, bytes, index } => Fact::Ledger(LedgerNote {
            what: "cut".into(),
            detail: format!(
                "an unfinished write of {bytes} bytes at {offset} in {} was cut off; its first entry would have been \
                 #{index}; it was never acknowledged",
                name(path)
            ),
        }),
        Notice::Damage { path, offset, quarantined, first, lost, restored } => Fact::Ledger(LedgerNote {
            what: "damaged".into(),
            detail: format!(
                "{} is damaged at {offset}: {lost} entries from #{first} were lost, {restored} of them found again in \
                 entry bundles; the file is kept as {}",
                name(path),
                name(quarantined)
            ),
        }),
        Notice::Mended { paths } => {
            let below = |path: &std::path::PathBuf| {
                let parts = path.iter().skip_while(|part| *part != "tile");
                parts.collect::<std::path::PathBuf>().display().to_string()
            };
            Fact::Ledger(LedgerNote {
                what: "mended".into(),
                detail: format!(
                    "damaged and made again from other files, with the root that was signed: {}",
                    paths.iter().map(below).collect::<Vec<_>>().join(", ")
                ),
            })
        }
        Notice::Gap { why, since, until, push, pull } => Fact::Gap(Gap {
            what: if *why == Busy::ReadOnly { "disk_read_only" } else { "disk_full" }.into(),
            source: None,
            count: until.map(|_| push + pull),
            from: Some(time(since)),
            to: until.as_ref().map(time),
            detail: match until {
                None => format!("from now on senders are refused: {why}"),
                Some(_) => format!("senders were refused: {why}; {push} that do not come back, {pull} that do"),
            },
        }),
        Notice::RolledBack { old_origin, old_checkpoint, new_origin, kept } => Fact::Ledger(LedgerNote {
            what: "rolled_back".into(),
            detail: format!(
                "the log {old_origin} goes on as {new_origin} with {kept} of its entries; its last checkpoint was {}",
                old_checkpoint.as_deref().unwrap_or("not known")
            ),
        }),
        Notice::KeyAdded { vkey, first } => Fact::Ledger(LedgerNote {
            what: "key_added".into(),
            detail: format!("checkpoints from size {first} on are also signed by {vkey}"),
        }),
        Notice::KeyRetired { vkey, end } => Fact::Ledger(LedgerNote {
            what: "key_retired".into(),
            detail: format!("checkpoints from size {end} on are not signed by {vkey} any more; its secret is removed"),
        }),
        Notice::Upgraded { from, to } => Fact::Ledger(LedgerNote {
            what: "upgraded".into(),
            detail: format!("the folder's format goes from version {from} to version {to}"),
        }),
    }
}

/// Says that somebody outside has begun, or ceased, to hold what this ledger signs.
pub fn outside(desk: &Desk, what: &str, detail: String) {
    keep(desk, vec![Fact::Ledger(LedgerNote { what: what.to_owned(), detail })]);
}

/// The body of a notice, for entries that the ledger writes while nobody has it open.
pub fn notice_body(notice: &Notice) -> Vec<u8> {
    body(fact(notice))
}

/// The body of the entry that a pruning begins with: the ledger reads `pruned`, people the rest.
pub fn prune_body(prune: &Prune, days: &[PayloadDay]) -> Vec<u8> {
    let sum = |of: fn(&PayloadDay) -> u64| days.iter().map(of).sum::<u64>();
    let (first, last) = (days.iter().filter_map(|d| d.first).min(), days.iter().filter_map(|d| d.last).max());
    let fact = Fact::Ledger(LedgerNote {
        what: "pruned".into(),
        detail: format!(
            "{} payloads ({} bytes) of class {}, recorded up to {}, of appends #{} to #{}; their entries stay",
            sum(|day| day.payloads),
            sum(|day| day.bytes),
            prune.class,
            prune.through,
            first.unwrap_or_default(),
            last.unwrap_or_default()
        ),
    });
    let Prune { class, through } = prune.clone();
    body_with(fact, Some(entry::Pruned { class, through }))
}

fn body(fact: Fact) -> Vec<u8> {
    body_with(fact, None)
}

fn body_with(fact: Fact, pruned: Option<entry::Pruned>) -> Vec<u8> {
    let body = Body {
        v: Body::VERSION,
        source: source(),
        declared: Declared::default(),
        parser: PARSER.into(),
        observed_at: now(),
        submitter: Submitter::Counterfoil,
        place: None,
        payload: None,
        pruned,
        redacted: Vec::new(),
        cut: Vec::new(),
        fact,
    };
    serde_json::to_vec(&body).unwrap_or_default() // plain data: cannot fail
}

const PARSER: &str = "own/1";

fn source() -> SourceId {
    SourceId {
        cluster: DEFAULT_CLUSTER.to_owned(),
        kind: SourceKind::Counterfoil,
        name: "counterfoil".to_owned(),
        instance: String::new(),
    }
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Writes own entries and waits for them; trouble is logged, since nobody else could be told.
fn keep(desk: &Desk, facts: Vec<Fact>) {
    told(desk, try_keep(desk, facts));
}

fn told(desk: &Desk, kept: Result<(), NotKept>) {
    if let Err(error) = kept {
        desk.metrics.trouble("own_entry");
        tracing::error!(%error, "an entry about ourselves could not be kept");
    }
}

fn try_keep(desk: &Desk, facts: Vec<Fact>) -> Result<(), NotKept> {
    let drafts = facts.into_iter().map(|fact| Draft { place: None, parser: PARSER, fact, cut: Vec::new() }).collect();
    let arrival = Arrival {
        source: source(),
        declared: Declared::default(),
        observed_at: now(),
        submitter: Submitter::Counterfoil,
        payload: None,
        redacted: Vec::new(),
        drafts,
        position: None,
        reached: Reached::default(),
    };
    desk.submit_wait(Lane::Own, arrival).map(drop)
}
