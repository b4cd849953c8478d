//! Asking: pages of hits, and single records by id.

#[cfg(test)]
mod tests;

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use model::{Record, Time, record::RecordId};
use tantivy::{
    DocAddress, Searcher, TantivyDocument, TantivyError,
    query::{Query, RangeQuery},
    schema::Value as _,
};

use crate::{
    Index, IndexError,
    document::Stored,
    fields::{Field, SHORTEST_PREFIX, date_term},
    query::{self, QueryError},
    translate::Translator,
    view::Place,
};

/// Most hits of one page; more asked for are not given.
pub const MAX_LIMIT: usize = 10_000;

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The query; empty finds everything.
    pub query: String,
    /// Only what reaches to this moment or later.
    pub from: Option<Time>,
    /// Only what begins at this moment or earlier.
    pub to: Option<Time>,
    /// Most hits of the page, at most [`MAX_LIMIT`]; 0 only counts.
    pub limit: usize,
    /// [`Page::next`] of the page before.
    pub after: Option<String>,
}

/// One page, newest first; among equal times records before entries, then by id or index, highest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The hits.
    pub hits: Vec<Hit>,
    /// How many match in all, on every page.
    pub total: u64,
    /// Where the next page begins; `None` on the last one. A record that is revised meanwhile moves to its new time.
    pub next: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// One hit.
#[derive(Clone, Debug, PartialEq)]
pub enum Hit {
    /// A record, in its latest revision.
    Record(Box<Record>),
    /// An entry in short.
    Entry {
        /// Index in the ledger.
        index: u64,
        /// Kind of its fact.
        kind: String,
        /// Last moment that it tells of, by its source.
        time: Time,
        /// In words.
        summary: String,
    },
}

/// What an id, or the beginning of one, stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundRecord {
    /// No record.
    None,
    /// This one.
    One(Box<Record>),
    /// Several; their ids, at most 20, in order.
    Many(Vec<RecordId>),
}

impl Place {
    fn write(self) -> String {
        format!("{}.{:x}", self.time.0, self.order)
    }

    fn read(text: &str) -> Option<Self> {
        let (time, order) = text.split_once('.')?;
        Some(Self { time: Time(time.parse().ok()?), order: u64::from_str_radix(order, 16).ok()? })
    }
}

impl Index {
    /// Finds one page.
    pub fn search(&self, search: &Search) -> Result<Page, IndexError> {
        let begun = Instant::now();
        let view = self.view();
        let node = query::parse(&search.query)?;
        let translator = Translator { text: &search.query, layout: &self.layout, searcher: &view.searcher };
        let mut sought = translator.query(&node)?;
        sought.these.extend(self.period(search.from, search.to));
        let after = search.after.as_deref().map(|after| {
            Place::read(after).ok_or_else(|| QueryError::general(format!("`after` is no cursor of a page: `{after}`")))
        });
        let after = after.transpose()?;
        let limit = search.limit.min(MAX_LIMIT);
        // One more than the page holds tells whether another page follows.
        let most = if limit == 0 { 0 } else { limit + 1 };
        let (total, found) = sought.find(&view, most, after).map_err(IndexError::derived("search"))?;
        let next = (found.len() > limit).then(|| found[limit - 1].0.write());
        let hits = found.iter().take(limit).map(|(_, address)| self.hit(&view.searcher, *address));
        let hits = hits.collect::<Result<_, _>>()?;
        Ok(Page { hits, total, next, took: begun.elapsed() })
    }

    /// The record whose id is, or begins with, `id` (from 4 characters on), whatever its state.
    pub fn record(&self, id: &str) -> Result<FoundRecord, IndexError> {
        const MOST: usize = 20;
        let id = id.trim().to_ascii_uppercase();
        if id.chars().count() < SHORTEST_PREFIX {
            return Ok(FoundRecord::None);
        }
        let query = format!("id:{}", query::quote(&id));
        let page = self.search(&Search { query, limit: MOST, ..Search::default() })?;
        let mut records: Vec<Box<Record>> = page
            .hits
            .into_iter()
            .filter_map(|hit| match hit {
                Hit::Record(record) => Some(record),
                Hit::Entry { .. } => None,
            })
            .collect();
        if let Some(exact) = records.iter().position(|record| record.id.0.eq_ignore_ascii_case(&id)) {
            return Ok(FoundRecord::One(records.swap_remove(exact)));
        }
        match records.len() {
            0 => Ok(FoundRecord::None),
            1 => Ok(FoundRecord::One(records.remove(0))),
            _ => {
                let mut ids: Vec<RecordId> = records.into_iter().map(|record| record.id).collect();
                ids.sort_unstable();
                Ok(FoundRecord::Many(ids))
            }
        }
    }

    /// What only a document matches that overlaps the period.
    fn period(&self, from: Option<Time>, to: Option<Time>) -> impl Iterator<Item = Box<dyn Query>> {
        let from = from.map(|from| {
            let low = Bound::Included(date_term(self.layout.handle(Field::Time), from));
            RangeQuery::new(low, Bound::Unbounded)
        });
        let to = to.map(|to| {
            let high = Bound::Included(date_term(self.layout.handle(Field::Start), to));
            RangeQuery::new(Bound::Unbounded, high)
        });
        from.into_iter().chain(to).map(|range| Box::new(range) as Box<dyn Query>)
    }

    fn hit(&self, searcher: &Searcher, address: DocAddress) -> Result<Hit, IndexError> {
        let document: TantivyDocument = searcher.doc(address).map_err(IndexError::derived("read"))?;
        let stored = document.get_first(self.layout.stored).and_then(|value| value.as_str()).unwrap_or_default();
        let stored = serde_json::from_str(stored)
            .map_err(|error| IndexError::derived("read")(TantivyError::IoError(std::sync::Arc::new(error.into()))))?;
        Ok(match stored {
            Stored::Record(record) => Hit::Record(record),
            Stored::Entry { index, kind, time, summary } => Hit::Entry { index, kind, time, summary },
        })
    }
}
