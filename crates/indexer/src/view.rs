//! What a question is asked of: the committed segments, each with an outline, made once, that tells where its newest documents lie.
//!
//! Hits come newest first. tantivy keeps documents in the order of their arrival (roughly: merging mixes it) and the sort key in a
//! column, so without more every hit would have to be looked at. The outline has the range of the key for every [`BLOCK`]
//! documents: 32 bytes for each of them.

use std::sync::Arc;

use model::Time;
use tantivy::{DateTime, DocId, Opstamp, Searcher, SegmentReader, columnar::ColumnValues, index::SegmentId};

use crate::fields::{Field, ORDER};

/// Documents of a block; few in tests, which would need many documents otherwise.
pub(crate) const BLOCK: u32 = if cfg!(test) { 8 } else { 1024 };

/// A place in the order of hits; the greatest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) time: Time,
    pub(crate) order: u64,
}

/// The state of the index after a commit.
pub(crate) struct View {
    pub(crate) searcher: Searcher,
    /// One per segment reader.
    pub(crate) outlines: Vec<Arc<Outline>>,
}

/// What is known of a segment before a document of it is looked at.
pub(crate) struct Outline {
    segment: (SegmentId, Option<Opstamp>),
    /// Oldest and newest place of each block, deleted documents included.
    pub(crate) blocks: Arc<[(Place, Place)]>,
    /// Deleted documents, in order.
    pub(crate) dead: Vec<DocId>,
    places: Places,
}

/// The columns of the sort key.
#[derive(Clone)]
struct Places {
    times: Arc<dyn ColumnValues<DateTime>>,
    orders: Arc<dyn ColumnValues<u64>>,
}

impl View {
    /// Outlines what `before` does not have.
    pub(crate) fn new(searcher: Searcher, before: Option<&Self>) -> tantivy::Result<Self> {
        let outlines = searcher.segment_readers().iter().map(|segment| {
            let known = |outline: &&Arc<Outline>| outline.segment.0 == segment.segment_id();
            match before.and_then(|before| before.outlines.iter().find(known)) {
                Some(outline) if outline.segment.1 == segment.delete_opstamp() => Ok(Arc::clone(outline)),
                Some(outline) => Ok(Arc::new(outline.with_deletes_of(segment))),
                None => Outline::new(segment).map(Arc::new),
            }
        });
        Ok(Self { outlines: outlines.collect::<tantivy::Result<_>>()?, searcher })
    }
}

impl Outline {
    fn new(segment: &SegmentReader) -> tantivy::Result<Self> {
        let columns = segment.fast_fields();
        let places = Places {
            times: columns.date(Field::Time.name())?.first_or_default_col(DateTime::MIN),
            orders: columns.u64(ORDER)?.first_or_default_col(0),
        };
        let blocks = (0..segment.max_doc()).step_by(BLOCK as usize).map(|first| {
            let last = (first + BLOCK).min(segment.max_doc()) - 1;
            let first_place = places.of(first);
            (first + 1..=last)
                .map(|doc| places.of(doc))
                .fold((first_place, first_place), |(oldest, newest), place| (oldest.min(place), newest.max(place)))
        });
        let blocks = blocks.collect();
        Ok(Self { segment: key(segment), blocks, dead: dead(segment), places })
    }

    /// The same documents, of which others are deleted.
    fn with_deletes_of(&self, segment: &SegmentReader) -> Self {
        Self {
            segment: key(segment),
            blocks: Arc::clone(&self.blocks),
            dead: dead(segment),
            places: self.places.clone(),
        }
    }

    /// The place of a document.
    pub(crate) fn place(&self, doc: DocId) -> Place {
        self.places.of(doc)
    }
}

impl Places {
    fn of(&self, doc: DocId) -> Place {
        Place { time: Time(self.times.get_val(doc).into_timestamp_nanos()), order: self.orders.get_val(doc) }
    }
}

fn key(segment: &SegmentReader) -> (SegmentId, Option<Opstamp>) {
    (segment.segment_id(), segment.delete_opstamp())
}

fn dead(segment: &SegmentReader) -> Vec<DocId> {
    let Some(alive) = segment.alive_bitset() else { return Vec::new() };
    (0..segment.max_doc()).filter(|doc| alive.is_deleted(*doc)).collect()
}
