//! Where the anchors of the rules stand: the leftmost first, of those at one place the longest, in any case of
//! letters, and no two overlap.
//!
//! Nearly all bytes begin no anchor. So a piece of the input is copied in lower case (which the compiler does many
//! bytes at a time), a search for all first few bytes at once looks for candidates in it (vector instructions where the
//! machine has them), and only at a candidate the anchors are compared. Without those instructions, and for the tests,
//! an automaton finds the same.

use aho_corasick::{
    AhoCorasick, AhoCorasickKind, MatchKind, Span,
    packed::{self, Searcher},
};

/// Bytes of an anchor that the search for candidates knows.
const HEAD: usize = 4;
/// Starts that are looked at in one piece; small enough for the nearest cache.
const PIECE: usize = 4096;

/// An anchor in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Its number in the list that [`Anchors::new`] was given.
    pub(super) rule: usize,
}

/// Finds anchors.
pub(super) enum Anchors {
    Heads(Heads),
    Automaton(AhoCorasick),
}

impl Anchors {
    /// Of these anchors, which are written in lower case.
    pub(super) fn new(anchors: &[&'static str]) -> Self {
        Heads::new(anchors).map_or_else(|| Self::Automaton(automaton(anchors)), Self::Heads)
    }

    /// Calls `f` with every anchor in the bytes, in order.
    pub(super) fn each(&self, bytes: &[u8], mut f: impl FnMut(Anchor)) {
        match self {
            Self::Heads(heads) => heads.each(bytes, f),
            Self::Automaton(automaton) => automaton.find_iter(bytes).for_each(|found| {
                f(Anchor { start: found.start(), end: found.end(), rule: found.pattern().as_usize() });
            }),
        }
    }
}

fn automaton(anchors: &[&str]) -> AhoCorasick {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .match_kind(MatchKind::LeftmostLongest)
        .build(anchors)
        .expect("a few dozen short anchors make an automaton")
}

/// The search by first bytes.
pub(super) struct Heads {
    searcher: Searcher,
    /// The anchors with each head, the longest first.
    by_head: Vec<Vec<(&'static [u8], usize)>>,
    /// Anchors of two bytes, `%` and another: as heads they would make the search for all others worse.
    escapes: Vec<(u8, usize)>,
}

impl Heads {
    /// `None` when this machine, or so many anchors, are better off with the automaton.
    fn new(anchors: &[&'static str]) -> Option<Self> {
        let mut escapes = Vec::new();
        let mut sorted: Vec<(&'static [u8], usize)> = Vec::new();
        for (rule, anchor) in anchors.iter().enumerate() {
            match anchor.as_bytes() {
                [b'%', second] => escapes.push((*second, rule)),
                anchor => sorted.push((anchor, rule)),
            }
        }
        // What has another one as its beginning comes right behind it.
        sorted.sort_unstable();
        let mut heads: Vec<&[u8]> = Vec::new();
        let mut by_head: Vec<Vec<_>> = Vec::new();
        for (anchor, rule) in sorted {
            let head = &anchor[..anchor.len().min(HEAD)];
            if !heads.last().is_some_and(|last| head.starts_with(last)) {
                heads.push(head);
                by_head.push(Vec::new());
            }
            by_head.last_mut()?.insert(0, (anchor, rule));
        }
        let searcher = packed::Config::new().only_teddy(true).builder().extend(&heads).build()?;
        Some(Self { searcher, by_head, escapes })
    }

    fn each(&self, bytes: &[u8], mut f: impl FnMut(Anchor)) {
        let mut lower = [0; PIECE + HEAD - 1];
        // Behind the last anchor, and where the next escape stands.
        let mut from = 0;
        let mut escape = self.escape(bytes, 0);
        for begin in (0..bytes.len()).step_by(PIECE) {
            // A head may reach over the end of its piece.
            let piece = &bytes[begin..bytes.len().min(begin + lower.len())];
            let lower = &mut lower[..piece.len()];
            lower.iter_mut().zip(piece).for_each(|(to, byte)| *to = byte.to_ascii_lowercase());
            let last = bytes.len().min(begin + PIECE);
            let mut at = from.max(begin);
            while at < last {
                let candidate = self.candidate(lower, at - begin).map(|(start, head)| (begin + start, head));
                let candidate = candidate.filter(|(start, _)| *start < last);
                let stop = candidate.map_or(last, |(start, _)| start);
                while let Some(anchor) = escape.filter(|anchor| anchor.start < stop) {
                    if anchor.start >= from {
                        from = anchor.end;
                        f(anchor);
                    }
                    escape = self.escape(bytes, from.max(anchor.start + 1));
                }
                let Some((start, head)) = candidate else { break };
                at = start + 1;
                if start >= from
                    && let Some(anchor) = self.anchor(bytes, start, head)
                {
                    from = anchor.end;
                    f(anchor);
                }
                at = at.max(from);
            }
        }
    }

    /// The next head and where it stands.
    fn candidate(&self, lower: &[u8], at: usize) -> Option<(usize, usize)> {
        let found = self.searcher.find_in(lower, Span { start: at, end: lower.len() })?;
        Some((found.start(), found.pattern().as_usize()))
    }

    /// The longest anchor with this head at `start`.
    fn anchor(&self, bytes: &[u8], start: usize, head: usize) -> Option<Anchor> {
        self.by_head[head].iter().find_map(|(anchor, rule)| {
            let end = start + anchor.len();
            let there = bytes.get(start..end)?.eq_ignore_ascii_case(anchor);
            there.then_some(Anchor { start, end, rule: *rule })
        })
    }

    /// The next anchor of two bytes from `at` on.
    fn escape(&self, bytes: &[u8], at: usize) -> Option<Anchor> {
        let rest = bytes.get(at..)?;
        memchr::memchr_iter(b'%', rest).map(|n| at + n).find_map(|start| {
            let second = bytes.get(start + 1)?;
            let (_, rule) = self.escapes.iter().find(|(escape, _)| escape.eq_ignore_ascii_case(second))?;
            Some(Anchor { start, end: start + 2, rule: *rule })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::RULES;

    fn anchors() -> Vec<&'static str> {
        RULES.iter().map(|(anchor, ..)| *anchor).collect()
    }

    fn found(anchors: &Anchors, bytes: &[u8]) -> Vec<Anchor> {
        let mut found = Vec::new();
        anchors.each(bytes, |anchor| found.push(anchor));
        found
    }

    #[test]
    fn vector_instructions_are_used_where_they_are() {
        #[cfg(target_arch = "x86_64")]
        assert_eq!(std::is_x86_feature_detected!("ssse3"), matches!(Anchors::new(&anchors()), Anchors::Heads(_)));
        assert!(anchors().iter().all(|anchor| *anchor == anchor.to_ascii_lowercase()));
    }

    proptest::proptest! {
        /// The automaton is the plain way to say what is to be found.
        #[test]
        fn both_ways_find_the_same(
            parts in proptest::collection::vec((proptest::sample::select(anchors()), 0_usize..24, "[ -~]{0,3}"), 0..12),
            fill in proptest::sample::select(vec![0, 1, PIECE - 20, PIECE - 3, 2 * PIECE - 9]),
            upper in proptest::bool::ANY,
        ) {
            // Whole anchors, pieces of them, and others, also where two pieces of the input meet.
            let text = parts.iter().map(|(anchor, cut, other)| format!("{}{other}", &anchor[..anchor.len().min(*cut)]));
            let mut text = "=".repeat(fill) + &text.collect::<String>();
            if upper {
                text.make_ascii_uppercase();
            }
            let (fast, plain) = (Anchors::new(&anchors()), Anchors::Automaton(automaton(&anchors())));
            proptest::prop_assert_eq!(found(&fast, text.as_bytes()), found(&plain, text.as_bytes()));
        }
    }
}
