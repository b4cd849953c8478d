//! From lines of redacted text back to the lines that were received.

use crate::redact::Span;

/// The lines as received, in step with the lines of the redacted text.
pub(super) struct Offsets<'a> {
    original: &'a [u8],
    /// What was replaced, in order. A line feed inside a span is no longer one.
    spans: Vec<Span>,
    next_span: usize,
    /// Where the next line begins, and its number from 0.
    begin: usize,
    line: u64,
}

/// One line as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Original {
    /// Offset of its first byte.
    pub(super) offset: usize,
    /// Its number, from 0.
    pub(super) line: u64,
    /// Its length without the line feed.
    pub(super) len: usize,
}

impl<'a> Offsets<'a> {
    /// Of text in which these spans were replaced.
    pub(super) const fn new(original: &'a [u8], spans: Vec<Span>) -> Self {
        Self { original, spans, next_span: 0, begin: 0, line: 0 }
    }

    /// The next line, which has `redacted` bytes in the redacted text; to be asked once for every line of that.
    pub(super) fn next(&mut self, redacted: usize) -> Original {
        let (begin, line) = (self.begin, self.line);
        if self.spans.get(self.next_span).is_none_or(|span| span.start > begin + redacted) {
            // Nothing of it was replaced.
            self.begin = (begin + redacted + 1).min(self.original.len());
            self.line += 1;
            return Original { offset: begin, line, len: redacted };
        }
        let mut from = begin;
        loop {
            let end = memchr::memchr(b'\n', &self.original[from..]).map_or(self.original.len(), |at| from + at);
            self.begin = (end + 1).min(self.original.len());
            self.line += 1;
            if !self.replaced(end) {
                return Original { offset: begin, line, len: end - begin };
            }
            from = self.begin;
        }
    }

    fn replaced(&mut self, at: usize) -> bool {
        while self.spans.get(self.next_span).is_some_and(|span| span.end <= at) {
            self.next_span += 1;
        }
        at < self.original.len() && self.spans.get(self.next_span).is_some_and(|span| span.start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_inside_a_span_parts_no_lines() {
        let original = b"one\ntwo SE\nCRET three\n\nlast";
        let redacted = b"one\ntwo [x] three\n\nlast";
        let mut offsets = Offsets::new(original, vec![Span { start: 8, end: 15, rule: "r" }]);
        let lines = redacted.split(|b| *b == b'\n').map(|line| offsets.next(line.len()));
        let lines: Vec<_> = lines.map(|l| (l.offset, l.line, l.len)).collect();
        assert_eq!(lines, [(0, 0, 3), (4, 1, 17), (22, 3, 0), (23, 4, 4)]);
    }

    proptest::proptest! {
        /// Parts of lines, some of them replaced: each line's place is that of its parts.
        #[test]
        fn a_line_is_where_its_parts_were(
            parts in proptest::collection::vec(("[ab]{0,3}", "[ab\n]{1,4}", proptest::bool::ANY, proptest::bool::ANY), 0..12),
        ) {
            let (mut original, mut redacted, mut spans) = (String::new(), String::new(), Vec::new());
            let mut lines = vec![(0, 0, 0)];
            for (plain, secret, replaced, ends) in &parts {
                original.push_str(plain);
                redacted.push_str(plain);
                if *replaced {
                    spans.push(Span { start: original.len(), end: original.len() + secret.len(), rule: "r" });
                    original.push_str(secret);
                    redacted.push_str("[x]");
                }
                if *ends {
                    let (offset, ..) = lines[lines.len() - 1];
                    let end = lines.len() - 1;
                    lines[end].2 = original.len() - offset;
                    original.push('\n');
                    redacted.push('\n');
                    lines.push((original.len(), original.matches('\n').count() as u64, 0));
                }
            }
            let end = lines.len() - 1;
            lines[end].2 = original.len() - lines[end].0;
            let mut offsets = Offsets::new(original.as_bytes(), spans);
            let told = redacted.split('\n').map(|line| offsets.next(line.len())).map(|l| (l.offset, l.line, l.len));
            proptest::prop_assert_eq!(told.collect::<Vec<_>>(), lines);
        }
    }
}
