//! `search`: one page of what a query finds.

use std::time::Instant;

use http::StatusCode;
use indexer::{Hit, IndexError, Search};
use model::Time;

use super::{EntrySummary, Found, SearchAnswer, View};
use crate::problem::Problem;

/// Most hits of one page.
const MAX_LIMIT: usize = 10_000;

/// A question.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The query; empty finds everything.
    pub query: String,
    /// Only what happened at or after.
    pub from: Option<Time>,
    /// Only what happened at or before.
    pub to: Option<Time>,
    /// Most hits.
    pub limit: usize,
    /// Cursor of the page before.
    pub after: Option<String>,
}

impl Ask {
    /// Everything that matches, one page of so many.
    pub fn all(query: impl Into<String>, limit: usize) -> Self {
        Self { query: query.into(), from: None, to: None, limit, after: None }
    }
}

/// Searches.
pub fn answer(view: &View, ask: &Ask) -> Result<SearchAnswer, Problem> {
    if ask.limit > MAX_LIMIT {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "The question is wrong")
            .detail(format!("limit = {}; at most {MAX_LIMIT} hits are given at once", ask.limit))
            .hint("follow `next` with after="));
    }
    let through = view.through(); // before the search: it knows at least this much
    let begun = Instant::now();
    let search =
        Search { query: ask.query.clone(), from: ask.from, to: ask.to, limit: ask.limit, after: ask.after.clone() };
    let page = view.index.search(&search).map_err(problem)?;
    Ok(SearchAnswer {
        query: ask.query.clone(),
        total: page.total,
        hits: page.hits.into_iter().map(found).collect(),
        next: page.next,
        took_ms: f64::from(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)) / 1000.0,
        through,
    })
}

/// A hit as data.
pub(super) fn found(hit: Hit) -> Found {
    match hit {
        Hit::Record(record) => Found::Record(record),
        Hit::Entry { index, kind, time, summary } => Found::Entry(EntrySummary { index, kind, time, summary }),
    }
}

/// A wrong query is the asker's, everything else is ours.
pub(super) fn problem(error: IndexError) -> Problem {
    match error {
        IndexError::Query(query) => Problem::new(StatusCode::BAD_REQUEST, "bad-query", "The query is wrong")
            .detail(query.to_string())
            .hint("docs/search.md has the language, docs/search-fields.md the fields"),
        other => Problem::busy(other.to_string()),
    }
}
