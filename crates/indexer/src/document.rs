//! What the index knows of a record or an entry.
//!
//! A document holds the fields to search by and one small stored JSON to answer with: the record itself, or an entry's
//! index, kind, time and summary. Raw input never goes into the index.

mod entry;
mod record;
mod words;

use model::{
    SourceId, Time,
    entry::Entry,
    identity::Actor,
    record::{Record, RecordId},
};
use serde::{Deserialize, Serialize};
use tantivy::TantivyDocument;

use self::words::Words;
use crate::fields::{Field, Kind, Layout, date, like_an_id};

/// Longest keyword, in bytes. Longer values are cut: tantivy drops terms over 65,530 bytes in silence.
const MAX_KEYWORD: usize = 1024;
/// Longest summary or text of one document, in bytes; what goes beyond is not found by its words.
const MAX_TEXT: usize = 32 * 1024;
/// Longest summary of an entry, in characters.
const MAX_SUMMARY: usize = 200;

/// What a hit gives back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored<R = Box<Record>> {
    /// A record, as it was added.
    Record(R),
    /// An entry in short.
    Entry {
        /// Index in the ledger.
        index: u64,
        /// Kind of the fact.
        kind: String,
        /// Last moment that it tells of.
        time: Time,
        /// In words.
        summary: String,
    },
}

/// The document of a record's revision.
pub(crate) fn of_record(layout: &Layout, record: &Record) -> Result<TantivyDocument, serde_json::Error> {
    let mut doc = Draft::new(layout);
    record::fill(&mut doc, record);
    doc.put(Field::Summary, &record.summary);
    doc.finish(order_of_record(&record.id), &record.summary, &Stored::Record(record))
}

/// The document of an entry; none for heartbeats, which say nothing that one would search.
pub(crate) fn of_entry(layout: &Layout, entry: &Entry) -> Result<Option<TantivyDocument>, serde_json::Error> {
    let mut doc = Draft::new(layout);
    let Some((time, mut summary)) = entry::fill(&mut doc, entry) else { return Ok(None) };
    if let Some((end, _)) = summary.char_indices().nth(MAX_SUMMARY) {
        summary.truncate(end);
        summary.push('…');
    }
    doc.put(Field::Summary, &summary);
    let kind = entry.body.fact.kind().to_owned();
    let stored = Stored::<()>::Entry { index: entry.index, kind, time, summary: summary.clone() };
    doc.finish(entry.index, &summary, &stored).map(Some)
}

/// Breaks ties between equal times, the same in every revision: records before entries, then by id or index. A record
/// id is 40 bits, so it is its own number.
fn order_of_record(id: &RecordId) -> u64 {
    const ALPHABET: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits = id.0.chars().map(|c| ALPHABET.find(c.to_ascii_uppercase()).and_then(|at| u64::try_from(at).ok()));
    (1 << 63) | digits.fold(0_u64, |n, digit| (n << 5 | digit.unwrap_or(0)) & (u64::MAX >> 1))
}

/// A document being filled.
struct Draft<'l> {
    layout: &'l Layout,
    doc: TantivyDocument,
    words: Words,
}

impl<'l> Draft<'l> {
    fn new(layout: &'l Layout) -> Self {
        Self { layout, doc: TantivyDocument::default(), words: Words::default() }
    }

    /// A value of a keyword or text field. Empty values are no values. Names are found as words, too; ids are looked for
    /// where they are.
    fn put(&mut self, field: Field, value: &str) {
        if value.is_empty() {
            return;
        }
        match field.kind() {
            Kind::Keyword(case, _) => {
                let value = case.fold(cut(value, MAX_KEYWORD));
                if let Some(part) = self.layout.part(field) {
                    let last = value.rsplit('/').next().unwrap_or(&value);
                    self.doc.add_text(part, last);
                }
                self.doc.add_text(self.layout.handle(field), &value);
                if !(field.is_id() && like_an_id(&value)) {
                    self.words(&value);
                }
            }
            Kind::Text => self.doc.add_text(self.layout.handle(field), cut(value, MAX_TEXT)),
            Kind::Number | Kind::Date => debug_assert!(false, "{} takes no text", field.name()),
        }
    }

    fn maybe(&mut self, field: Field, value: Option<&str>) {
        if let Some(value) = value {
            self.put(field, value);
        }
    }

    /// `namespace/name`, or the name alone while the namespace is not known.
    fn named(&mut self, field: Field, namespace: Option<&str>, name: &str) {
        match namespace {
            Some(namespace) if !namespace.is_empty() && !name.is_empty() => {
                self.put(field, &format!("{namespace}/{name}"));
            }
            _ => self.put(field, name),
        }
    }

    fn number(&mut self, field: Field, value: u64) {
        self.doc.add_u64(self.layout.handle(field), value);
    }

    fn time(&mut self, field: Field, value: Time) {
        self.doc.add_date(self.layout.handle(field), date(value));
    }

    /// Words to be found without naming a field.
    fn words(&mut self, words: &str) {
        self.words.add(words);
    }

    fn source(&mut self, source: &SourceId) {
        self.put(Field::Source, &source.name);
        self.put(Field::SourceKind, source.kind.as_str());
        self.put(Field::Cluster, &source.cluster);
        self.words(&source.instance);
    }

    fn actor(&mut self, actor: &Actor) {
        match actor {
            Actor::Person { person } => self.put(Field::Person, &person.0),
            Actor::ServiceAccount { namespace, name } => self.named(Field::Actor, Some(namespace), name),
            Actor::Node { name } | Actor::System { name } => self.put(Field::Actor, name),
        }
    }

    fn finish<R: Serialize>(
        mut self,
        order: u64,
        summary: &str,
        stored: &Stored<R>,
    ) -> Result<TantivyDocument, serde_json::Error> {
        self.doc.add_text(self.layout.handle(Field::Text), self.words.beside(summary));
        self.doc.add_u64(self.layout.order, order);
        self.doc.add_text(self.layout.stored, serde_json::to_string(stored)?);
        Ok(self.doc)
    }
}

/// The beginning of a text, at most so many bytes, cut between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// How a run ended, in OpenTelemetry's words (`cicd.pipeline.result`).
fn result(state: model::run::RunState, reason: &str) -> Option<&'static str> {
    use model::run::RunState;
    match state {
        RunState::Successful => Some("success"),
        RunState::Failed if reason.contains("Cancel") || reason.contains("Stopped") => Some("cancellation"),
        RunState::Failed if reason.contains("Timeout") || reason.contains("TimedOut") => Some("timeout"),
        RunState::Failed => Some("failure"),
        RunState::Queued | RunState::Started | RunState::Unknown | RunState::Running => None,
    }
}
