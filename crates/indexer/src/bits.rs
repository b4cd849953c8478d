//! Documents of a segment, a bit for each: where many documents match and their number is not known, they are counted 64 at a time.

use tantivy::{
    DocId, SegmentReader, Term,
    query::{AllQuery, BooleanQuery, EnableScoring, Occur, Query, TermQuery},
    schema::IndexRecordOption,
};

/// Bits behind the last document are never set.
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Documents that match, deleted ones included.
    pub(crate) fn of(query: &dyn Query, segment: &SegmentReader, scoring: EnableScoring<'_>) -> tantivy::Result<Self> {
        if query.is::<AllQuery>() {
            return Ok(Self::all(segment.max_doc()));
        }
        if let Some(query) = query.downcast_ref::<TermQuery>() {
            return Self::of_term(query.term(), segment);
        }
        let Some(query) = query.downcast_ref::<BooleanQuery>() else {
            let mut bits = Self::none(segment.max_doc());
            query.weight(scoring)?.for_each_no_score(segment, &mut |documents| bits.set(documents))?;
            return Ok(bits);
        };
        let alternatives = query.clauses().iter().all(|(occur, _)| *occur == Occur::Should);
        let mut found = if alternatives { Self::none(segment.max_doc()) } else { Self::all(segment.max_doc()) };
        for (occur, part) in query.clauses() {
            let part = Self::of(part.as_ref(), segment, scoring)?;
            for (word, part) in found.words.iter_mut().zip(&part.words) {
                match occur {
                    Occur::Must => *word &= part,
                    Occur::MustNot => *word &= !part,
                    Occur::Should => *word |= part,
                }
            }
        }
        Ok(found)
    }

    fn none(documents: DocId) -> Self {
        Self { words: vec![0; documents.div_ceil(u64::BITS) as usize] }
    }

    fn all(documents: DocId) -> Self {
        let mut bits = Self::none(documents);
        bits.words.fill(u64::MAX);
        if let (Some(last), 1..) = (bits.words.last_mut(), documents % u64::BITS) {
            *last = (1 << (documents % u64::BITS)) - 1;
        }
        bits
    }

    fn of_term(term: &Term, segment: &SegmentReader) -> tantivy::Result<Self> {
        let mut bits = Self::none(segment.max_doc());
        let postings = segment.inverted_index(term.field())?.read_block_postings(term, IndexRecordOption::Basic)?;
        if let Some(mut postings) = postings {
            while !postings.docs().is_empty() {
                bits.set(postings.docs());
                postings.advance();
            }
        }
        Ok(bits)
    }

    /// Sets these, which are in order.
    fn set(&mut self, documents: &[DocId]) {
        // A word is put together before it is stored: a store for each document would wait for the one before.
        let (mut at, mut word) = (0, 0);
        for doc in documents {
            let to = doc / u64::BITS;
            if to != at {
                self.words[at as usize] |= word;
                (at, word) = (to, 0);
            }
            word |= 1 << (doc % u64::BITS);
        }
        if let Some(last) = self.words.get_mut(at as usize) {
            *last |= word;
        }
    }

    /// How many there are, without these.
    pub(crate) fn count_without(mut self, documents: &[DocId]) -> DocId {
        for doc in documents {
            self.words[(doc / u64::BITS) as usize] &= !(1 << (doc % u64::BITS));
        }
        self.words.iter().map(|word| word.count_ones()).sum()
    }
}
