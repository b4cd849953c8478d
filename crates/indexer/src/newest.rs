//! The newest documents that match, found where they can be: blocks are looked at newest first, until no other block can have a
//! newer one than those found.

use std::{cmp::Reverse, collections::BinaryHeap, mem};

use tantivy::{DocAddress, TERMINATED, query::Weight};

use crate::view::{BLOCK, Place, View};

/// By how much more blocks are looked at when the first ones were not enough.
const GROWTH: usize = 4;

/// The best so far; the last of them is at the top.
pub(crate) struct Newest {
    /// How many are wanted.
    most: usize,
    /// They come behind this place in the order.
    after: Option<Place>,
    found: BinaryHeap<Reverse<(Place, Reverse<DocAddress>)>>,
}

/// A block that may have one of them.
struct Candidate {
    segment: u32,
    block: u32,
    newest: Place,
}

impl Newest {
    pub(crate) fn new(most: usize, after: Option<Place>) -> Self {
        Self { most, after, found: BinaryHeap::new() }
    }

    /// Takes a document that matches and is not deleted, if it is one of the best.
    pub(crate) fn offer(&mut self, place: Place, address: DocAddress) {
        if self.after.is_none_or(|after| place < after) && self.wants(place) {
            self.found.push(Reverse((place, Reverse(address))));
            if self.found.len() > self.most {
                self.found.pop();
            }
        }
    }

    /// Whether something at this place, or before it in the order, could be one of the best.
    fn wants(&self, place: Place) -> bool {
        self.found.len() < self.most || self.found.peek().is_some_and(|Reverse((last, _))| place >= *last)
    }

    /// Looks into these segments, in which about so many documents match: the number only decides how many blocks are looked at
    /// first.
    pub(crate) fn look(
        &mut self,
        view: &View,
        segments: &[u32],
        weight: &dyn Weight,
        matching: u64,
    ) -> tantivy::Result<()> {
        let mut left = Vec::new();
        for segment in segments {
            for (block, (oldest, newest)) in (0..).zip(view.outlines[*segment as usize].blocks.iter()) {
                if self.after.is_none_or(|after| *oldest < after) && self.wants(*newest) {
                    left.push(Candidate { segment: *segment, block, newest: *newest });
                }
            }
        }
        // As many as would do if what matches were spread evenly.
        let share = u64::try_from(left.len()).unwrap_or(u64::MAX).saturating_mul(self.most as u64) / matching.max(1);
        let mut round = usize::try_from(share).unwrap_or(usize::MAX).saturating_add(1);
        while !left.is_empty() {
            let mut these = if round < left.len() {
                left.select_nth_unstable_by_key(round, |candidate| Reverse(candidate.newest));
                let rest = left.split_off(round);
                mem::replace(&mut left, rest)
            } else {
                mem::take(&mut left)
            };
            these.sort_unstable_by_key(|candidate| (candidate.segment, candidate.block));
            for these in these.chunk_by(|one, other| one.segment == other.segment) {
                self.look_at(view, these, weight)?;
            }
            left.retain(|candidate| self.wants(candidate.newest));
            round = round.saturating_mul(GROWTH);
        }
        Ok(())
    }

    /// Looks at blocks of one segment, in the order of their documents.
    fn look_at(&mut self, view: &View, blocks: &[Candidate], weight: &dyn Weight) -> tantivy::Result<()> {
        let Some(&Candidate { segment: segment_ord, .. }) = blocks.first() else { return Ok(()) };
        let (segment, outline) = (view.searcher.segment_reader(segment_ord), &view.outlines[segment_ord as usize]);
        let mut hits = weight.scorer(segment, 1.0)?;
        for block in blocks {
            if hits.doc() == TERMINATED {
                break;
            }
            if !self.wants(block.newest) {
                continue;
            }
            let (begin, end) = (block.block * BLOCK, (block.block + 1) * BLOCK);
            if hits.doc() < begin {
                hits.seek(begin);
            }
            while hits.doc() < end {
                let doc_id = hits.doc();
                if !segment.is_deleted(doc_id) {
                    self.offer(outline.place(doc_id), DocAddress { segment_ord, doc_id });
                }
                hits.advance();
            }
        }
        Ok(())
    }

    /// What was found, in order.
    pub(crate) fn into_vec(self) -> Vec<(Place, DocAddress)> {
        self.found.into_sorted_vec().into_iter().map(|Reverse((place, Reverse(address)))| (place, address)).collect()
    }
}
