//! The query language: what a query says, before it is known what tantivy makes of it.
//!
//! The subset of Lucene's syntax that people type into Grafana and Kibana; `docs/search.md` is its manual.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

pub use parse::parse;

use crate::fields::Field;

/// Longest query, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Deepest nesting of groups and negations.
pub const MAX_DEPTH: usize = 32;
/// Most clauses.
pub const MAX_CLAUSES: usize = 256;

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Everything: an empty query, or `*`.
    All,
    /// All of them.
    And(Vec<Node>),
    /// At least one of them.
    Or(Vec<Node>),
    /// Whatever it does not match.
    Not(Box<Node>),
    /// One test.
    Clause(Clause),
}

/// One test of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Where the value stands, for errors that only show when it is read as the field's type.
    pub at: Span,
    /// The fields, any of which may match; none for a word without a field.
    pub fields: &'static [Field],
    /// What is asked.
    pub test: Test,
}

/// What a clause asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// A value as it stands; in a text field words that follow each other.
    Value(String),
    /// A value with wildcards.
    Pattern(Vec<Piece>),
    /// Between two ends.
    Range(End, End),
    /// There is a value.
    Exists,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These characters.
    Literal(String),
    /// `*`: any characters, or none.
    Any,
    /// `?`: one character.
    One,
}

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// `*`.
    Open,
    /// The value belongs to it.
    Included(String),
    /// The value does not.
    Excluded(String),
}

/// Where something stands in the query, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
}

/// What is wrong with a query, where, and what could be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Where, in bytes of the query; absent when it is not about a place in it.
    pub at: Option<Span>,
    /// Where, for people: the character counted from 1; 0 when there is no place.
    pub column: usize,
    /// What.
    pub what: String,
    /// What could be meant, or done.
    pub hint: Option<String>,
}

impl QueryError {
    /// An error at a place of `query`.
    pub(crate) fn at(query: &str, at: Span, what: impl Into<String>) -> Self {
        let column = query.get(..at.start).map_or(1, |before| before.chars().count() + 1);
        Self { at: Some(at), column, what: what.into(), hint: None }
    }

    /// An error that has no place.
    pub(crate) fn general(what: impl Into<String>) -> Self {
        Self { at: None, column: 0, what: what.into(), hint: None }
    }

    /// Adds what could be meant.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.column > 0 {
            write!(f, "column {}: ", self.column)?;
        }
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for QueryError {}

impl Node {
    /// Some clause asks one of these fields by name.
    pub fn asks(&self, wanted: &[Field]) -> bool {
        match self {
            Self::All => false,
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().any(|node| node.asks(wanted)),
            Self::Not(node) => node.asks(wanted),
            Self::Clause(clause) => clause.fields.iter().any(|field| wanted.contains(field)),
        }
    }
}

/// Writes a value so that the parser reads it back as one: quoted.
pub fn quote(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
