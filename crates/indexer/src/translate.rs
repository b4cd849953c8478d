//! A query to what tantivy runs.

use std::ops::Bound;

use model::Time;
use tantivy::{
    Searcher, Term,
    query::{AllQuery, BooleanQuery, EmptyQuery, ExistsQuery, PhraseQuery, Query, RangeQuery, TermQuery, TermSetQuery},
    schema::{Field as Handle, IndexRecordOption},
    tokenizer::{LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenStream as _},
};

use crate::{
    IndexError,
    fields::{Field, Kind, Layout, Match, SHORTEST_PREFIX, date_term, like_an_id},
    query::{Clause, End, Node, Piece, QueryError, Span, Test},
    sought::Sought,
};

/// Most values that a pattern may stand for.
pub(crate) const MAX_EXPANSION: usize = 16_384;

/// Most values of a pattern that are asked for one by one, each with a number of documents; more are found as a set.
const FEW_VALUES: usize = 16;

/// Translates a parsed query. `text` is the query as asked, for errors.
pub(crate) struct Translator<'q> {
    pub(crate) text: &'q str,
    pub(crate) layout: &'q Layout,
    pub(crate) searcher: &'q Searcher,
}

type Translated = Result<Box<dyn Query>, IndexError>;

impl Translator<'_> {
    /// The whole query. Withdrawn records are left out unless it asks for a state or an id.
    pub(crate) fn query(&self, node: &Node) -> Result<Sought, IndexError> {
        let mut sought = self.sought(node)?;
        if !node.asks(&[Field::State, Field::Id]) {
            sought.without.push(exact(self.layout.handle(Field::State), "withdrawn"));
        }
        Ok(sought)
    }

    fn sought(&self, node: &Node) -> Result<Sought, IndexError> {
        let nodes = if let Node::And(nodes) = node { nodes.as_slice() } else { std::slice::from_ref(node) };
        let mut sought = Sought::default();
        for node in nodes {
            match node {
                Node::Not(inner) => sought.without.push(self.node(inner)?),
                node => sought.these.push(self.node(node)?),
            }
        }
        Ok(sought)
    }

    fn node(&self, node: &Node) -> Translated {
        match node {
            Node::All => Ok(Box::new(AllQuery)),
            Node::And(_) | Node::Not(_) => Ok(Box::new(self.sought(node)?.query())),
            Node::Or(nodes) => Ok(any(nodes.iter().map(|node| self.node(node)).collect::<Result<_, _>>()?)),
            Node::Clause(clause) if clause.fields.is_empty() => self.field(Field::Text, clause),
            Node::Clause(clause) => {
                let fields = clause.fields.iter().map(|field| self.field(*field, clause));
                Ok(any(fields.collect::<Result<_, _>>()?))
            }
        }
    }

    /// Words of the text, which go on in the summary; or the beginning of an id.
    fn words(&self, clause: &Clause) -> Translated {
        let mut queries = vec![self.text(Field::Text, clause)?, self.text(Field::Summary, clause)?];
        let begins = match &clause.test {
            Test::Value(value) => value.as_str(),
            Test::Pattern(pieces) => match pieces.first() {
                Some(Piece::Literal(begins)) => begins,
                _ => "",
            },
            Test::Range(..) | Test::Exists => "",
        };
        if like_an_id(begins) {
            for field in Field::ALL.iter().filter(|field| field.is_id()) {
                queries.push(self.field(*field, clause)?);
            }
        }
        Ok(any(queries))
    }

    fn text(&self, field: Field, clause: &Clause) -> Translated {
        let handle = self.layout.handle(field);
        match &clause.test {
            Test::Value(value) => Ok(phrase(handle, value)),
            Test::Pattern(pieces) => {
                let fold = |piece: &Piece| match piece {
                    Piece::Literal(text) => Piece::Literal(text.to_lowercase()),
                    piece => piece.clone(),
                };
                self.pattern(handle, &pieces.iter().map(fold).collect::<Vec<_>>(), clause.at)
            }
            Test::Range(..) => Err(self.wrong(clause.at, format!("`{}` has words, not an order", field.name()))),
            Test::Exists => Ok(Box::new(EmptyQuery)), // every document has words: answered before
        }
    }

    fn field(&self, field: Field, clause: &Clause) -> Translated {
        let handle = self.layout.handle(field);
        if clause.test == Test::Exists {
            return match field.kind() {
                Kind::Text => Ok(Box::new(AllQuery)), // every document has words
                _ => Ok(exists(handle, field)),
            };
        }
        match field.kind() {
            Kind::Keyword(case, matching) => match &clause.test {
                Test::Value(value) => self.keyword(field, matching, &case.fold(&whole(field, value)), clause.at),
                Test::Pattern(pieces) => {
                    let fold = |piece: &Piece| match piece {
                        Piece::Literal(text) => Piece::Literal(case.fold(text)),
                        piece => piece.clone(),
                    };
                    let pieces: Vec<Piece> = pieces.iter().map(fold).collect();
                    let mut queries = vec![self.pattern(handle, &pieces, clause.at)?];
                    if let Some(part) = self.layout.part(field) {
                        queries.push(self.pattern(part, &pieces, clause.at)?);
                    }
                    Ok(any(queries))
                }
                Test::Range(low, high) => {
                    let bound = |end: &End| bound(end, |value| Term::from_field_text(handle, &case.fold(value)));
                    Ok(range(handle, field, bound(low), bound(high)))
                }
                Test::Exists => Ok(Box::new(EmptyQuery)), // answered above
            },
            Kind::Text if field == Field::Text => self.words(clause),
            Kind::Text => self.text(field, clause),
            Kind::Number => self.number(field, clause),
            Kind::Date => self.date(field, clause),
        }
    }

    fn wrong(&self, at: Span, what: impl Into<String>) -> IndexError {
        IndexError::Query(QueryError::at(self.text, at, what))
    }

    fn keyword(&self, field: Field, matching: Match, value: &str, at: Span) -> Translated {
        let handle = self.layout.handle(field);
        let whole = exact(handle, value);
        Ok(match (matching, self.layout.part(field)) {
            (Match::Prefix, _) if value.chars().count() >= SHORTEST_PREFIX => begins(field, handle, value),
            (Match::LastPart, Some(part)) => any(vec![whole, exact(part, value)]),
            (Match::Dotted, _) => {
                let going_on = [Piece::Literal(format!("{value}.")), Piece::Any];
                any(vec![whole, self.pattern(handle, &going_on, at)?])
            }
            (Match::Whole | Match::Prefix | Match::LastPart, _) => whole,
        })
    }

    /// Values that a pattern matches, found by a walk over the dictionary from the pattern's fixed beginning on.
    fn pattern(&self, handle: Handle, pieces: &[Piece], at: Span) -> Translated {
        let beginning = match pieces.first() {
            Some(Piece::Literal(text)) => text.as_str(),
            _ => "",
        };
        let mut terms = Vec::new();
        for segment in self.searcher.segment_readers() {
            let inverted = segment.inverted_index(handle).map_err(IndexError::derived("search"))?;
            let mut walk = inverted.terms().range().ge(beginning);
            if let Some(end) = after(beginning) {
                walk = walk.lt(end);
            }
            let mut stream = walk.into_stream().map_err(|error| IndexError::derived("search")(error.into()))?;
            while stream.advance() {
                let Ok(value) = std::str::from_utf8(stream.key()) else { continue };
                if matches(pieces, value) {
                    terms.push(Term::from_field_text(handle, value));
                }
            }
            if terms.len() > MAX_EXPANSION {
                terms.sort_unstable();
                terms.dedup();
            }
            if terms.len() > MAX_EXPANSION {
                let what = format!("the pattern stands for more than {MAX_EXPANSION} values");
                let error = QueryError::at(self.text, at, what).hint("write more of its beginning");
                return Err(IndexError::Query(error));
            }
        }
        terms.sort_unstable();
        terms.dedup();
        if terms.len() > FEW_VALUES {
            return Ok(Box::new(TermSetQuery::new(terms)));
        }
        let queries = terms.into_iter().map(|term| Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as _);
        Ok(any(queries.collect()))
    }

    fn number(&self, field: Field, clause: &Clause) -> Translated {
        let handle = self.layout.handle(field);
        let read = |value: &str| {
            let digits = value.strip_prefix('#').unwrap_or(value);
            digits
                .parse()
                .map_err(|_| self.wrong(clause.at, format!("`{}` is a whole number, `{value}` is none", field.name())))
        };
        let read_end = |end: &End| -> Result<Bound<Term>, IndexError> {
            Ok(match end {
                End::Open => Bound::Unbounded,
                End::Included(value) => Bound::Included(Term::from_field_u64(handle, read(value)?)),
                End::Excluded(value) => Bound::Excluded(Term::from_field_u64(handle, read(value)?)),
            })
        };
        match &clause.test {
            Test::Value(value) => {
                Ok(Box::new(TermQuery::new(Term::from_field_u64(handle, read(value)?), IndexRecordOption::Basic)))
            }
            Test::Range(low, high) => Ok(range(handle, field, read_end(low)?, read_end(high)?)),
            Test::Pattern(_) | Test::Exists => {
                Err(self.wrong(clause.at, format!("`{}` is a number: no wildcards", field.name())))
            }
        }
    }

    /// A date may be cut (`2026-11-23`, `2026-11-23T15:20`): it then stands for the whole day or minute.
    fn date(&self, field: Field, clause: &Clause) -> Translated {
        let handle = self.layout.handle(field);
        let read = |value: &str| {
            moment(value).ok_or_else(|| {
                let what = format!("`{}` is a time, `{value}` is none", field.name());
                let error = QueryError::at(self.text, clause.at, what);
                IndexError::Query(error.hint("such as 2026-11-23, 2026-11-23T15:20 or 2026-11-23T15:20:59Z (UTC)"))
            })
        };
        let term = |time| date_term(handle, time);
        let (low, high) = match &clause.test {
            Test::Value(value) => {
                let (first, last) = read(value)?;
                (Bound::Included(term(first)), Bound::Included(term(last)))
            }
            Test::Range(low, high) => {
                let low = match low {
                    End::Open => Bound::Unbounded,
                    End::Included(value) => Bound::Included(term(read(value)?.0)),
                    End::Excluded(value) => Bound::Excluded(term(read(value)?.1)),
                };
                let high = match high {
                    End::Open => Bound::Unbounded,
                    End::Included(value) => Bound::Included(term(read(value)?.1)),
                    End::Excluded(value) => Bound::Excluded(term(read(value)?.0)),
                };
                (low, high)
            }
            Test::Pattern(_) | Test::Exists => {
                return Err(self.wrong(clause.at, format!("`{}` is a time: no wildcards", field.name())));
            }
        };
        Ok(range(handle, field, low, high))
    }
}

/// A digest without its algorithm is SHA-256's.
fn whole(field: Field, value: &str) -> String {
    if field == Field::Digest && !value.contains(':') { format!("sha256:{value}") } else { value.to_owned() }
}

fn exact(handle: Handle, value: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(handle, value), IndexRecordOption::Basic))
}

fn any(mut queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    if queries.len() == 1 { queries.remove(0) } else { Box::new(BooleanQuery::union(queries)) }
}

fn bound(end: &End, term: impl Fn(&str) -> Term) -> Bound<Term> {
    match end {
        End::Open => Bound::Unbounded,
        End::Included(value) => Bound::Included(term(value)),
        End::Excluded(value) => Bound::Excluded(term(value)),
    }
}

fn range(handle: Handle, field: Field, low: Bound<Term>, high: Bound<Term>) -> Box<dyn Query> {
    debug_assert!(!matches!(field.kind(), Kind::Text), "words have no order ({handle:?})");
    if low == Bound::Unbounded && high == Bound::Unbounded {
        return exists(handle, field);
    }
    Box::new(RangeQuery::new(low, high))
}

/// The field has a value. Ids have no column that would say so: any of them will do.
fn exists(handle: Handle, field: Field) -> Box<dyn Query> {
    if field.is_id() { begins(field, handle, "") } else { Box::new(ExistsQuery::new(field.name().to_owned(), false)) }
}

fn begins(field: Field, handle: Handle, beginning: &str) -> Box<dyn Query> {
    let low = Bound::Included(Term::from_field_text(handle, beginning));
    let high = after(beginning).map_or(Bound::Unbounded, |end| Bound::Excluded(Term::from_field_text(handle, &end)));
    range(handle, field, low, high)
}

/// The first text after all that begin so: the last character that has a successor is raised. UTF-8 sorts like its
/// characters, so this is right for bytes as well.
fn after(beginning: &str) -> Option<String> {
    let mut chars: Vec<char> = beginning.chars().collect();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Words that follow each other, cut as the index cuts them.
fn phrase(handle: Handle, value: &str) -> Box<dyn Query> {
    // tantivy's `default` tokenizer, which has no public constructor.
    let mut analyzer = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(40))
        .filter(LowerCaser)
        .build();
    let mut terms = Vec::new();
    let mut stream = analyzer.token_stream(value);
    while stream.advance() {
        let token = stream.token();
        terms.push((token.position, Term::from_field_text(handle, &token.text)));
    }
    match terms.len() {
        0 => Box::new(EmptyQuery),
        1 => Box::new(TermQuery::new(terms.remove(0).1, IndexRecordOption::Basic)),
        _ => Box::new(PhraseQuery::new_with_offset(terms)),
    }
}

/// The pattern matches the whole value. Linear in practice, quadratic at worst: only the last `*` is tried again.
fn matches(pieces: &[Piece], value: &str) -> bool {
    let (mut piece, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pieces.get(piece) {
            None if at == value.len() => return true,
            None => None,
            Some(Piece::Any) => {
                retry = Some((piece + 1, at));
                Some(0)
            }
            Some(Piece::One) => value[at..].chars().next().map(char::len_utf8),
            Some(Piece::Literal(text)) => value[at..].starts_with(text.as_str()).then_some(text.len()),
        };
        if let Some(len) = step {
            piece += 1;
            at += len;
            continue;
        }
        let Some((back, from)) = retry else { return false };
        let Some(c) = value[from..].chars().next() else { return false };
        let from = from + c.len_utf8();
        retry = Some((back, from));
        (piece, at) = (back, from);
    }
}

/// First and last nanosecond of a time that may be cut.
fn moment(value: &str) -> Option<(Time, Time)> {
    const SHAPES: [(usize, &str, i64); 3] = [(10, "T00:00:00Z", 86_400), (13, ":00:00Z", 3600), (16, ":00Z", 60)];
    if let Some(time) = Time::parse(value) {
        return Some((time, time));
    }
    if let Some((_, rest, seconds)) = SHAPES.into_iter().find(|(len, ..)| *len == value.len()) {
        let first = Time::parse(&format!("{value}{rest}"))?;
        return Some((first, Time(first.plus_seconds(seconds).0.saturating_sub(1))));
    }
    let time = Time::parse(&format!("{value}Z"))?;
    let whole_second = value.len() == 19;
    Some((time, if whole_second { Time(time.plus_seconds(1).0.saturating_sub(1)) } else { time }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_values() {
        let pieces = |pattern: &str| match crate::query::parse(pattern) {
            Ok(Node::Clause(Clause { test: Test::Pattern(pieces), .. })) => pieces,
            other => panic!("{pattern}: {other:?}"),
        };
        for (pattern, value, yes) in [
            ("shop/*", "shop/gateway", true),
            ("shop/*", "shop", false),
            ("*way", "gateway", true),
            ("*way", "gateway2", false),
            ("g?te*y", "gateway", true),
            ("g?te*y", "gateey", true),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("caf?", "café", true),
            ("a?", "a", false),
        ] {
            assert_eq!(matches(&pieces(pattern), value), yes, "{pattern} {value}");
        }
    }

    #[test]
    fn the_text_after_a_beginning_is_a_text() {
        assert_eq!(after("abc").as_deref(), Some("abd"));
        assert_eq!(after("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(after(""), None);
    }

    #[test]
    fn a_cut_time_stands_for_all_of_it() {
        let seconds = |value: &str| moment(value).map(|(first, last)| (last.0 - first.0 + 1) / 1_000_000_000);
        assert_eq!(seconds("2026-11-23"), Some(86_400));
        assert_eq!(seconds("2026-11-23T15"), Some(3600));
        assert_eq!(seconds("2026-11-23T15:20"), Some(60));
        assert_eq!(seconds("2026-11-23T15:20:59"), Some(1));
        assert_eq!(seconds("2026-11-23T15:20:59Z"), Some(0));
        assert_eq!(seconds("23.11.2026"), None);
        assert_eq!(seconds("2026-1é-23"), None);
    }
}
