//! Asking: pages of hits, and single records by id.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use model::{Record, Time, record::RecordId};
use tantivy::{
    DateTime, DocAddress, Order, Searcher, TantivyDocument, TantivyError, Term,
    collector::{Count, TopDocs, sort_key::SortByStaticFastValue},
    query::{BooleanQuery, Occur, Query, RangeQuery},
    schema::Value as _,
};

use crate::{
    Index, IndexError,
    document::Stored,
    fields::{Field, ORDER, SHORTEST_PREFIX, date_term},
    query::{self, QueryError},
    translate::Translator,
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

/// Where a page ends: the last hit's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    time: Time,
    order: u64,
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
        let searcher = self.reader.searcher();
        let node = query::parse(&search.query)?;
        let translator = Translator { text: &search.query, layout: &self.layout, searcher: &searcher };
        let query = self.within(translator.query(&node)?, search.from, search.to);
        let limit = search.limit.min(MAX_LIMIT);
        if limit == 0 {
            let total = searcher.search(&query, &Count).map_err(IndexError::derived("search"))?;
            return Ok(Page { hits: Vec::new(), total: total as u64, next: None, took: begun.elapsed() });
        }
        let (total, found) = match &search.after {
            None => {
                let (total, found) =
                    searcher.search(&query, &(Count, newest(limit + 1))).map_err(IndexError::derived("search"))?;
                (total, found)
            }
            Some(after) => {
                let Some(place) = Place::read(after) else {
                    return Err(QueryError::general(format!("`after` is no cursor of a page: `{after}`")).into());
                };
                let total = searcher.search(&query, &Count).map_err(IndexError::derived("search"))?;
                let rest = BooleanQuery::new(vec![(Occur::Must, query), (Occur::Must, self.beyond(place))]);
                (total, searcher.search(&rest, &newest(limit + 1)).map_err(IndexError::derived("search"))?)
            }
        };
        let next = match found.get(limit - 1) {
            Some(((Some(time), Some(order)), _)) if found.len() > limit => {
                Some(Place { time: Time(time.into_timestamp_nanos()), order: *order }.write())
            }
            _ => None,
        };
        let hits = found.iter().take(limit).map(|(_, address)| self.hit(&searcher, *address));
        let hits = hits.collect::<Result<_, _>>()?;
        Ok(Page { hits, total: total as u64, next, took: begun.elapsed() })
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

    /// Only what overlaps the period.
    fn within(&self, query: Box<dyn Query>, from: Option<Time>, to: Option<Time>) -> Box<dyn Query> {
        if from.is_none() && to.is_none() {
            return query;
        }
        let mut parts = vec![(Occur::Must, query)];
        if let Some(from) = from {
            let low = Bound::Included(date_term(self.layout.handle(Field::Time), from));
            parts.push((Occur::Must, Box::new(RangeQuery::new(low, Bound::Unbounded))));
        }
        if let Some(to) = to {
            let high = Bound::Included(date_term(self.layout.handle(Field::Start), to));
            parts.push((Occur::Must, Box::new(RangeQuery::new(Bound::Unbounded, high))));
        }
        Box::new(BooleanQuery::new(parts))
    }

    /// Only what comes after a place in the order: older, or as old and lower.
    fn beyond(&self, place: Place) -> Box<dyn Query> {
        let time = date_term(self.layout.handle(Field::Time), place.time);
        let order = Term::from_field_u64(self.layout.order, place.order);
        let older = RangeQuery::new(Bound::Unbounded, Bound::Excluded(time.clone()));
        let as_old = RangeQuery::new(Bound::Included(time.clone()), Bound::Included(time));
        let lower = RangeQuery::new(Bound::Unbounded, Bound::Excluded(order));
        let tied = BooleanQuery::intersection(vec![Box::new(as_old), Box::new(lower)]);
        Box::new(BooleanQuery::union(vec![Box::new(older), Box::new(tied)]))
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

type Key = (Option<DateTime>, Option<u64>);

fn newest(limit: usize) -> impl tantivy::collector::Collector<Fruit = Vec<(Key, DocAddress)>> {
    let time = SortByStaticFastValue::<DateTime>::for_field(Field::Time.name());
    let order = SortByStaticFastValue::<u64>::for_field(ORDER);
    TopDocs::with_limit(limit).order_by(((time, Order::Desc), (order, Order::Desc)))
}
