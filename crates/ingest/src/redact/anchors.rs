//! Where the anchors of the rules stand: the leftmost first, of those at one place the longest, in any case of
//! letters, and no two overlap.
//!
//! Nearly all bytes belong to no anchor. So a piece of the input is copied in lower case (which the compiler does many
//! bytes at a time), a search for one rare part of every anchor looks for candidates in it (vector instructions where
//! the machine has them), and only at a candidate the anchors are compared. Without those instructions, and for the
//! tests, an automaton finds the same.

use std::cmp::Reverse;

use aho_corasick::{
    AhoCorasick, AhoCorasickKind, MatchKind, Span,
    packed::{self, Searcher},
};

use super::spans::ends_authority;

/// The parts that are looked for: of each anchor the first that it holds, or else its own first four bytes. Chosen to be
/// rare in logs (`ss_k`, not `acce`). All of [`PARTS`] are four bytes long, and there are at most 32 of them: that is what
/// the searcher is fastest with. The shorter ones would slow these down, so they are looked for by themselves.
///
/// The searcher puts every eighth part into one bucket and knows of a bucket only the sets of half bytes at each of the
/// four places: parts that are alike belong together. This order was searched for; on recorded lines of all our sources it
/// has one false candidate where the order of the rules has hundreds.
const PARTS: [&str; 32] = [
    "apik", "\\u00", "ode=", "glpa", "\"-u\"", "cred", "x-am", "pass", //
    "auth", "te_k", "secr", "npm_", " -u ", "toke", "x-hu", "pi-k", //
    "akia", "ss_k", "sig=", "_liv", "--us", "-beg", "sske", "hvs.", //
    "asia", "teke", "bear", "b_pa", "pi_k", "cook", "x-go", "basi",
];
const SHORT_PARTS: [&str; 8] = ["eyj", "pwd", "xox", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"];
/// The anchor of addresses. Many lines hold one and hardly any holds what it announces, so that is looked for instead.
const ADDRESS: &str = "://";
/// No anchor is longer.
const LONGEST: usize = 32;
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
    Parts(Box<Parts>),
    Automaton(AhoCorasick),
}

impl Anchors {
    /// Of these anchors, which are written in lower case.
    pub(super) fn new(anchors: &[&'static str]) -> Self {
        Parts::new(anchors).map_or_else(|| Self::Automaton(automaton(anchors)), |parts| Self::Parts(Box::new(parts)))
    }

    /// Calls `f` with every anchor in the bytes, in order; a `://` without an `@` behind it may be left out.
    pub(super) fn each(&self, bytes: &[u8], mut f: impl FnMut(Anchor)) {
        match self {
            Self::Parts(parts) => parts.each(bytes, f),
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

/// The search by parts.
pub(super) struct Parts {
    searches: [Search; 2],
    /// Anchors of two bytes, `%` and another.
    escapes: Vec<(u8, usize)>,
    /// The number of [`ADDRESS`].
    address: Option<usize>,
}

/// Some parts, and the anchors that each stands for.
struct Search {
    searcher: Searcher,
    by_part: Vec<Vec<Candidate>>,
}

/// An anchor and where its part stands in it.
struct Candidate {
    anchor: &'static [u8],
    rule: usize,
    offset: usize,
}

impl Parts {
    /// `None` when this machine, or these anchors, are better off with the automaton.
    fn new(anchors: &[&'static str]) -> Option<Self> {
        let mut long = Vec::from(PARTS.map(|part| (part, Vec::new())));
        let mut short = Vec::from(SHORT_PARTS.map(|part| (part, Vec::new())));
        let (mut escapes, mut address) = (Vec::new(), None);
        for (rule, anchor) in anchors.iter().enumerate() {
            if let [b'%', second] = anchor.as_bytes() {
                escapes.push((*second, rule));
            } else if *anchor == ADDRESS {
                address = Some(rule);
            } else if anchor.len() > LONGEST {
                return None;
            } else {
                let holds = |(part, _): &&mut (&'static str, Vec<Candidate>)| anchor.contains(*part);
                let known = long.iter_mut().chain(&mut short).find(holds);
                let (part, candidates) = if let Some(known) = known {
                    known
                } else {
                    short.push((anchor.get(..4).unwrap_or(anchor), Vec::new()));
                    short.last_mut()?
                };
                candidates.push(Candidate { anchor: anchor.as_bytes(), rule, offset: anchor.find(*part)? });
            }
        }
        Some(Self { searches: [Search::new(long)?, Search::new(short)?], escapes, address })
    }

    fn each(&self, bytes: &[u8], mut f: impl FnMut(Anchor)) {
        let mut lower = [0; PIECE + LONGEST];
        let addresses = self.addresses(bytes);
        let mut addresses = addresses.into_iter().peekable();
        let mut found: Vec<Anchor> = Vec::new();
        // Behind the last anchor.
        let mut from = 0;
        for begin in (0..bytes.len()).step_by(PIECE) {
            let last = bytes.len().min(begin + PIECE);
            // An anchor may reach over the end of its piece.
            let piece = &bytes[begin..bytes.len().min(last + LONGEST)];
            let lower = &mut lower[..piece.len()];
            lower.iter_mut().zip(piece).for_each(|(to, byte)| *to = byte.to_ascii_lowercase());
            for search in &self.searches {
                search.each(lower, last - begin, &mut found);
            }
            self.escapes(&piece[..last - begin], piece, &mut found);
            for anchor in &mut found {
                anchor.start += begin;
                anchor.end += begin;
            }
            while let Some(address) = addresses.next_if(|address| address.start < last) {
                found.push(address);
            }
            found.sort_unstable_by_key(|anchor| (anchor.start, Reverse(anchor.end)));
            for anchor in found.drain(..) {
                if anchor.start >= from {
                    from = anchor.end;
                    f(anchor);
                }
            }
        }
    }

    /// The anchors of two bytes.
    fn escapes(&self, starts: &[u8], piece: &[u8], found: &mut Vec<Anchor>) {
        for start in memchr::memchr_iter(b'%', starts) {
            let Some(second) = piece.get(start + 1) else { continue };
            let known = self.escapes.iter().find(|(escape, _)| escape.eq_ignore_ascii_case(second));
            found.extend(known.map(|(_, rule)| Anchor { start, end: start + 2, rule: *rule }));
        }
    }

    /// Every `://` with an `@` in what follows it, in order. No other anchor holds a byte of this one, so that no overlap
    /// depends on those that are left out.
    fn addresses(&self, bytes: &[u8]) -> Vec<Anchor> {
        let mut found = Vec::new();
        let Some(rule) = self.address else { return found };
        // Behind what is known to hold no `://` with its `@` still to come.
        let mut from = 0;
        for at in memchr::memchr_iter(b'@', bytes) {
            let stop = bytes[from..at].iter().rposition(|b| ends_authority(*b)).map(|n| from + n + 1);
            from = at + 1;
            if let Some(end) = stop.filter(|end| bytes[..*end].ends_with(ADDRESS.as_bytes())) {
                found.push(Anchor { start: end - ADDRESS.len(), end, rule });
            }
        }
        found
    }
}

impl Search {
    fn new(parts: Vec<(&'static str, Vec<Candidate>)>) -> Option<Self> {
        let (parts, by_part): (Vec<_>, Vec<_>) =
            parts.into_iter().filter(|(_, candidates)| !candidates.is_empty()).unzip();
        let searcher = packed::Config::new().only_teddy(true).builder().extend(&parts).build()?;
        Some(Self { searcher, by_part })
    }

    /// Every anchor that begins within the first `starts` bytes.
    #[inline]
    fn each(&self, lower: &[u8], starts: usize, found: &mut Vec<Anchor>) {
        let mut at = 0;
        while let Some(part) = self.searcher.find_in(lower, Span { start: at, end: lower.len() }) {
            at = part.start() + 1;
            for Candidate { anchor, rule, offset } in &self.by_part[part.pattern().as_usize()] {
                if let Some(start) = part.start().checked_sub(*offset).filter(|start| *start < starts)
                    && lower[start..].starts_with(anchor)
                {
                    found.push(Anchor { start, end: start + anchor.len(), rule: *rule });
                }
            }
        }
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
        assert_eq!(std::is_x86_feature_detected!("ssse3"), matches!(Anchors::new(&anchors()), Anchors::Parts(_)));
        assert!(anchors().iter().all(|anchor| *anchor == anchor.to_ascii_lowercase()));
        // What leaving out an address relies on.
        assert!(anchors().iter().all(|anchor| *anchor == ADDRESS || !anchor.contains([':', '/'])));
    }

    #[test]
    fn every_anchor_has_a_rare_part() {
        let listed = |anchor: &str| PARTS.iter().chain(&SHORT_PARTS).any(|part| anchor.contains(part));
        let special = |anchor: &str| anchor == ADDRESS || anchor.starts_with('%');
        assert!(PARTS.iter().all(|part| part.len() == 4));
        for anchor in anchors() {
            assert!(special(anchor) || listed(anchor), "{anchor}");
        }
    }

    proptest::proptest! {
        /// The automaton is the plain way to say what is to be found.
        #[test]
        fn both_ways_find_the_same(
            parts in proptest::collection::vec((proptest::sample::select(anchors()), 0_usize..24, "[ -~]{0,3}|[a@:/]{0,3}"), 0..12),
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
            let user = |anchor: &Anchor| text[anchor.end..].bytes().take_while(|b| !ends_authority(*b)).any(|b| b == b'@');
            let mut plain = found(&plain, text.as_bytes());
            plain.retain(|anchor| anchors()[anchor.rule] != ADDRESS || user(anchor));
            proptest::prop_assert_eq!(found(&fast, text.as_bytes()), plain);
        }
    }
}
