//! Bytes from outside become facts.
//!
//! One module per source, each a pure function from bytes to drafts of entries: nothing here reads a file, a clock or
//! the network, and nothing knows what a fact will be used for. The binary adds who submitted the bytes and hands
//! drafts and payload to the ledger in one append.
//!
//! Reading order: this page, [`lines`] (newline-separated sources), [`cloudevents`] and [`tekton`], the formats,
//! then [`redact`], [`persons`] and [`fit`], which every input passes.

pub mod cloudevents;
mod find;
pub mod fit;
mod json;
pub mod k8s_audit;
pub mod k8s_objects;
pub mod lines;
pub mod nginx_access;
pub mod nginx_error;
pub mod persons;
pub mod redact;
pub mod spiffe_helper;
pub mod spire;
pub mod tekton;

use model::{
    Fact, SourceId, Time,
    entry::{Cut, Place},
    identity::{Declared, PersonRef},
};

/// What a parser knows beside the bytes.
pub struct Context<'a> {
    /// The source that the bytes come from.
    pub source: &'a SourceId,
    /// What its owner declares.
    pub declared: &'a Declared,
    /// Time zone of local times; UTC with grade *inferred* when the owner declares none.
    pub zone: chrono_tz::Tz,
    /// When we received the bytes.
    pub observed_at: Time,
    /// Turns persons into keyed references.
    pub persons: &'a persons::Persons,
}

/// One fact on its way to the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Where in its source it stood.
    pub place: Option<Place>,
    /// Parser and version, such as `nginx-error/1`.
    pub parser: &'static str,
    /// The fact; [`fit::body`] cuts it where it is too long to be written.
    pub fact: Fact,
    /// What its parser left out because a list was longer than it reads.
    pub cut: Vec<Cut>,
}

/// What became of one line or document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It became one or more drafts (or was folded into rows).
    Understood,
    /// Its form is known and it carries nothing to keep apart from the payload.
    Passed,
    /// It could not be read: a fixed word and the parser's details.
    Opaque(&'static str, String),
}

/// A person met while parsing: the reference that stands in the leaf and the value for the erasable table.
pub type PersonSeen = (PersonRef, String);
