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

    /// The next line; to be asked once for every line of the redacted text.
    pub(super) fn next(&mut self) -> Original {
        let (begin, line) = (self.begin, self.line);
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
        let mut offsets = Offsets::new(original, vec![Span { start: 8, end: 15, rule: "r" }]);
        let lines: Vec<_> = (0..4).map(|_| offsets.next()).map(|l| (l.offset, l.line, l.len)).collect();
        assert_eq!(lines, [(0, 0, 3), (4, 1, 17), (22, 3, 0), (23, 4, 4)]);
    }
}
