//! What a question seeks, and how it is found: how many documents match, exactly, and the newest of them.
//!
//! Where few match, each is looked at. Where many do, the index often has their number already, and the newest are looked for
//! where they can be ([`crate::newest`]).

use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocAddress, DocId, SegmentReader,
    columnar::Cardinality,
    query::{
        AllQuery, AllScorer, BooleanQuery, EmptyQuery, EmptyScorer, EnableScoring, ExistsQuery, Occur, Query,
        RangeQuery, TermQuery, Weight,
    },
};

use crate::{
    bits::Bits,
    newest::Newest,
    view::{Outline, Place, View},
};

/// Documents of a segment that are looked at one by one before it is asked for their number; fewer in tests.
const FEW: usize = if cfg!(test) { 1 } else { 16 } * COLLECT_BLOCK_BUFFER_LEN;

/// A match is stepped to in about this part of the time in which a deleted document is looked for among them.
const MUCH: usize = 4;

/// From one document of so many on, all of a segment are taken as bits.
const CROWD: DocId = 16;

/// Whatever matches all of `these`, and none of `without`.
#[derive(Default)]
pub(crate) struct Sought {
    pub(crate) these: Vec<Box<dyn Query>>,
    pub(crate) without: Vec<Box<dyn Query>>,
}

impl Sought {
    /// As one query.
    pub(crate) fn query(&self) -> BooleanQuery {
        let mut query = all(&self.these);
        query.extend(self.without.iter().map(|part| (Occur::MustNot, part.box_clone())));
        BooleanQuery::new(query)
    }

    /// How many documents match in all, and the first `most` of them that come behind `after` in the order.
    pub(crate) fn find(
        &self,
        view: &View,
        most: usize,
        after: Option<Place>,
    ) -> tantivy::Result<(u64, Vec<(Place, DocAddress)>)> {
        let scoring = EnableScoring::disabled_from_searcher(&view.searcher);
        let weight = self.query().weight(scoring)?;
        let counting = Counting::new(self, scoring)?;
        let mut newest = Newest::new(most, after);
        let (mut few, mut many, mut crowded) = (0, 0, Vec::new());
        for (segment_ord, segment) in (0..).zip(view.searcher.segment_readers()) {
            let outline = &view.outlines[segment_ord as usize];
            let mut hits = weight.scorer(segment, 1.0)?;
            let (mut documents, mut buffer) = (Vec::new(), [0; COLLECT_BLOCK_BUFFER_LEN]);
            let mut exhausted = false;
            while !exhausted && documents.len() < FEW {
                let got = hits.fill_buffer(&mut buffer);
                documents.extend_from_slice(&buffer[..got]);
                exhausted = got < buffer.len();
            }
            if exhausted {
                for doc_id in documents.into_iter().filter(|doc| !segment.is_deleted(*doc)) {
                    few += 1;
                    newest.offer(outline.place(doc_id), DocAddress { segment_ord, doc_id });
                }
            } else {
                many += counting.count(segment, outline)?;
                crowded.push(segment_ord);
            }
        }
        newest.look(view, &crowded, weight.as_ref(), many)?;
        Ok((few + many, newest.into_vec()))
    }
}

/// The clauses of a query that all parts have to match; everything does when there are none.
fn all(parts: &[Box<dyn Query>]) -> Vec<(Occur, Box<dyn Query>)> {
    let everything: Box<dyn Query> = Box::new(AllQuery);
    let parts = std::iter::once(everything).chain(parts.iter().map(|part| part.box_clone()));
    parts.map(|part| (Occur::Must, part)).collect()
}

/// Counts. What is left out is counted and taken off: withdrawn records are few, and everything but them is what is asked for
/// most.
struct Counting<'s> {
    scoring: EnableScoring<'s>,
    these: (BooleanQuery, Box<dyn Weight>),
    left_out: (BooleanQuery, Box<dyn Weight>),
}

impl<'s> Counting<'s> {
    fn new(sought: &Sought, scoring: EnableScoring<'s>) -> tantivy::Result<Self> {
        let weighed = |query: BooleanQuery| query.weight(scoring).map(|weight| (query, weight));
        let without = sought.without.iter().map(|part| part.box_clone()).collect();
        let mut left_out = all(&sought.these);
        left_out.push((Occur::Must, Box::new(BooleanQuery::union(without))));
        Ok(Self {
            scoring,
            these: weighed(BooleanQuery::new(all(&sought.these)))?,
            left_out: weighed(BooleanQuery::new(left_out))?,
        })
    }

    /// Documents of a segment that are sought and not deleted.
    fn count(&self, segment: &SegmentReader, outline: &Outline) -> tantivy::Result<u64> {
        let these = self.alive(&self.these, segment, outline)?;
        Ok(u64::from(these - self.alive(&self.left_out, segment, outline)?))
    }

    /// Documents of a segment that match and are not deleted.
    fn alive(
        &self,
        (query, weight): &(BooleanQuery, Box<dyn Weight>),
        segment: &SegmentReader,
        outline: &Outline,
    ) -> tantivy::Result<DocId> {
        let known = known(query, segment, self.scoring)?;
        if known == Some(0) {
            return Ok(0);
        }
        if known == Some(segment.max_doc()) {
            return Ok(segment.num_docs());
        }
        let mut hits = weight.scorer(segment, 1.0)?;
        if let Some(known) = known.filter(|known| outline.dead.len() < *known as usize / MUCH) {
            let mut dead = 0;
            for doc in &outline.dead {
                if hits.doc() < *doc {
                    hits.seek(*doc);
                }
                dead += u32::from(hits.doc() == *doc);
            }
            return Ok(known - dead);
        }
        if hits.cost() > u64::from(segment.max_doc() / CROWD) {
            return Ok(Bits::of(query, segment, self.scoring)?.count_without(&outline.dead));
        }
        Ok(match segment.alive_bitset() {
            Some(alive) => hits.count(alive),
            None => hits.count_including_deleted(),
        })
    }
}

/// How many documents of a segment match, deleted ones included, where that can be told without looking at them: when it is none
/// or all, those with one term, or with one of several that no document has together.
fn known(query: &dyn Query, segment: &SegmentReader, scoring: EnableScoring<'_>) -> tantivy::Result<Option<DocId>> {
    if query.is::<AllQuery>() {
        Ok(Some(segment.max_doc()))
    } else if query.is::<EmptyQuery>() {
        Ok(Some(0))
    } else if let Some(query) = query.downcast_ref::<TermQuery>() {
        Ok(Some(segment.inverted_index(query.term().field())?.doc_freq(query.term())?))
    } else if query.is::<RangeQuery>() || query.is::<ExistsQuery>() {
        // The range of a column's values lies inside the one asked for, or beside it.
        let hits = query.weight(scoring)?.scorer(segment, 1.0)?;
        let all = hits.is::<AllScorer>().then_some(segment.max_doc());
        Ok(if hits.is::<EmptyScorer>() { Some(0) } else { all })
    } else if let Some(query) = query.downcast_ref::<BooleanQuery>() {
        let numbers = query.clauses().iter().map(|(_, part)| known(part.as_ref(), segment, scoring));
        let numbers = numbers.collect::<tantivy::Result<Vec<_>>>()?;
        let parts: Vec<_> =
            query.clauses().iter().zip(numbers).map(|((occur, part), n)| (*occur, part.as_ref(), n)).collect();
        if parts.iter().all(|(occur, ..)| *occur == Occur::Should) {
            known_of_any(&parts, segment)
        } else {
            Ok(known_of_all(&parts, segment))
        }
    } else {
        Ok(None)
    }
}

/// A clause, and how many documents it alone matches.
type Part<'q> = (Occur, &'q dyn Query, Option<DocId>);

fn known_of_all(parts: &[Part<'_>], segment: &SegmentReader) -> Option<DocId> {
    let (none, all) = (Some(0), Some(segment.max_doc()));
    let nothing = |(occur, _, number): &Part<'_>| match occur {
        Occur::Must => *number == none,
        Occur::MustNot => *number == all,
        Occur::Should => false,
    };
    if parts.iter().any(nothing) {
        return none;
    }
    // A part that all documents match restricts nothing.
    let mut restricting = parts.iter().filter(|(occur, _, number)| match occur {
        Occur::Must => *number != all,
        Occur::MustNot => *number != none,
        Occur::Should => true,
    });
    match (restricting.next(), restricting.next()) {
        (None, _) => all,
        (Some((Occur::Must, _, number)), None) => *number,
        _ => None,
    }
}

fn known_of_any(parts: &[Part<'_>], segment: &SegmentReader) -> tantivy::Result<Option<DocId>> {
    let all = Some(segment.max_doc());
    if parts.iter().any(|(_, _, number)| *number == all) {
        return Ok(all);
    }
    let matching: Vec<_> = parts.iter().filter(|(_, _, number)| *number != Some(0)).collect();
    match matching.as_slice() {
        [] => Ok(Some(0)),
        [(_, _, number)] => Ok(*number),
        many if exclude_each_other(many.iter().map(|(_, part, _)| *part), segment)? => {
            Ok(many.iter().map(|(_, _, number)| *number).sum())
        }
        _ => Ok(None),
    }
}

/// Different values of a field of which no document of the segment has more than one.
fn exclude_each_other<'q>(
    parts: impl Iterator<Item = &'q dyn Query>,
    segment: &SegmentReader,
) -> tantivy::Result<bool> {
    let terms: Option<Vec<_>> = parts.map(|part| part.downcast_ref::<TermQuery>().map(TermQuery::term)).collect();
    let Some(mut terms) = terms else { return Ok(false) };
    terms.sort_unstable();
    let ([first, ..], true) = (terms.as_slice(), terms.is_sorted_by(|one, next| one < next)) else { return Ok(false) };
    let field = segment.schema().get_field_entry(first.field());
    if !field.is_fast() || !field.field_type().is_str() || terms.iter().any(|term| term.field() != first.field()) {
        return Ok(false);
    }
    let column = segment.fast_fields().str(field.name())?;
    Ok(column.is_some_and(|column| column.ords().get_cardinality() != Cardinality::Multivalued))
}
