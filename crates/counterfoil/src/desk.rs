//! The desk: drafts and raw bytes become one append; everything that enters passes here.
//!
//! It adds who submitted the bytes, commits to the payload, notes persons, and keeps the watermarks that heartbeats
//! report. It answers through a callback once the append is on disk.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use ingest::{Draft, persons::Persons, redact::Redactor};
use ledger::{Append, AppendError, Lane, Ledger, Payload, Position, Receipt};
use model::{
    Body, SourceId, Time,
    entry::{PayloadRef, Redacted},
    identity::{Declared, Submitter},
};

use crate::{
    keys::Keys,
    metrics::{Format, Metrics},
    people::People,
    watermarks::Watermarks,
};

/// Shared by everything that takes something in.
pub struct Desk {
    /// Empty until the ledger's lock is ours.
    ledger: OnceLock<Arc<Ledger>>,
    /// Replaces secrets before anything is stored.
    pub redactor: Redactor,
    /// Replaces persons by references.
    pub persons: Persons,
    /// What the references stand for.
    pub people: Arc<People>,
    /// How far every source is.
    pub watermarks: Arc<Watermarks>,
    /// Numbers.
    pub metrics: Arc<Metrics>,
}

/// One thing that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From where.
    pub source: SourceId,
    /// What is declared about it.
    pub declared: Declared,
    /// When we received it.
    pub observed_at: Time,
    /// Who handed it in.
    pub submitter: Submitter,
    /// Raw bytes after redaction and their retention class.
    pub payload: Option<(Vec<u8>, &'static str)>,
    /// What was redacted.
    pub redacted: Vec<Redacted>,
    /// At least one fact.
    pub drafts: Vec<Draft>,
    /// The source's position after it.
    pub position: Option<Position>,
    /// How far the source is once this is on disk.
    pub reached: Reached,
}

/// How far a source is with an arrival; it counts when the arrival is on disk, not before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    /// Newest time in it.
    pub newest: Option<Time>,
    /// Nothing before this is missing.
    pub complete_to: Option<Time>,
}

/// Why an arrival could not be kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotKept {
    /// The ledger is not open yet.
    #[error("the ledger is not open yet")]
    Starting,
    /// The ledger did not take it, or stopped.
    #[error(transparent)]
    Ledger(#[from] AppendError),
    /// Ours.
    #[error("{0}")]
    Own(Arc<str>),
}

impl Desk {
    /// A desk without a ledger yet.
    pub fn new(keys: &Keys, people: People, metrics: Arc<Metrics>) -> Self {
        Self {
            ledger: OnceLock::new(),
            redactor: Redactor::new(&keys.redaction),
            persons: Persons::new(keys.persons),
            people: Arc::new(people),
            watermarks: Arc::default(),
            metrics,
        }
    }

    /// Gives it the ledger, once.
    pub fn open(&self, ledger: Arc<Ledger>) {
        let _ = self.ledger.set(ledger); // a second call changes nothing
    }

    /// The ledger, when it is open.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.get()
    }

    /// Queues one append. `done` is called once, from the ledger's writer thread or at once, when it is on disk or
    /// cannot be kept.
    pub fn submit(&self, lane: Lane, arrival: Arrival, done: impl FnOnce(Result<Receipt, NotKept>) + Send + 'static) {
        let Some(ledger) = self.ledger.get() else { return done(Err(NotKept::Starting)) };
        let kind = Format { format: arrival.source.kind.as_str() };
        let entries = arrival.drafts.len() as u64;
        let (source, reached) = (arrival.source.clone(), arrival.reached);
        let append = match append(lane, arrival) {
            Ok(append) => append,
            Err(error) => return done(Err(NotKept::Own(format!("{error:#}").into()))),
        };
        let (metrics, watermarks) = (Arc::clone(&self.metrics), Arc::clone(&self.watermarks));
        // The ledger calls back or gives an error, never both; `done` is shared because only it knows which.
        let done = Arc::new(Mutex::new(Some(done)));
        let later = Arc::clone(&done);
        let queued = ledger.append(append, move |result| {
            if result.is_ok() {
                metrics.accepted.get_or_create(&kind).inc();
                metrics.entries.get_or_create(&kind).inc_by(entries);
                if !watermarks.reach(&source, reached) {
                    metrics.limit("watermarks");
                }
            }
            if let Some(done) = take(&later) {
                done(result.map_err(NotKept::from));
            }
        });
        if let Err(error) = queued
            && let Some(done) = take(&done)
        {
            done(Err(error.into()));
        }
    }

    /// [`Desk::submit`], waiting for the disk. For threads, never for async tasks.
    pub fn submit_wait(&self, lane: Lane, arrival: Arrival) -> Result<Receipt, NotKept> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(lane, arrival, move |result| {
            let _ = sender.send(result); // the receiver waits below
        });
        receiver.recv().unwrap_or_else(|_| Err(NotKept::Own("the ledger dropped an append".into())))
    }

    /// Keeps the names behind references. The evidence does not depend on it, so an error is counted and logged only.
    pub fn note_people(&self, seen: Vec<ingest::PersonSeen>) {
        if let Err(error) = self.people.note(seen) {
            self.metrics.trouble("people");
            tracing::warn!(error = format!("{error:#}"), "the table of persons could not be written");
        }
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Bodies and payload of one arrival. The first part names the payload; the others share it.
fn append(lane: Lane, arrival: Arrival) -> Result<Append> {
    let Arrival { source, declared, observed_at, submitter, payload, redacted, drafts, position, .. } = arrival;
    let payload = payload
        .map(|(bytes, class)| Payload::new(bytes, class, "identity"))
        .transpose()
        .context("commit to the payload")?;
    let mut reference = payload.as_ref().map(|p| reference(p.reference()));
    let mut redacted = Some(redacted);
    let mut bodies = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let body = Body {
            v: Body::VERSION,
            source: source.clone(),
            declared: declared.clone(),
            parser: draft.parser.to_owned(),
            observed_at,
            submitter: submitter.clone(),
            place: draft.place,
            payload: reference.take(),
            pruned: None,
            redacted: redacted.take().unwrap_or_default(),
            cut: draft.cut,
            fact: draft.fact,
        };
        bodies.push(ingest::fit::body(body).context("write a body")?);
    }
    Ok(Append { lane, bodies, payload, position })
}

fn reference(of: &ledger::PayloadRef) -> PayloadRef {
    PayloadRef { commit: of.commit.clone(), len: of.len, class: of.class.clone(), encoding: of.encoding.clone() }
}
