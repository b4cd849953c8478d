//! From places in redacted text back to places in what was received.

use crate::redact::Span;

/// Finds the offset and the number of each line; lines are asked for in order.
pub(super) struct Offsets<'a> {
    original: &'a [u8],
    spans: Vec<Span>,
    /// The first span that is not behind us.
    next: usize,
    /// What is to be added to an offset in the redacted text.
    shift: isize,
    /// How far line feeds have been counted in the original, and their number.
    counted: (usize, u64),
}

/// Bytes of a replacement beside the rule's name: `[redacted:`, `:`, 16 hex digits, `]`.
const MARK: usize = 10 + 1 + 16 + 1;

impl<'a> Offsets<'a> {
    /// Of text in which these spans were replaced.
    pub(super) const fn new(original: &'a [u8], spans: Vec<Span>) -> Self {
        Self { original, spans, next: 0, shift: 0, counted: (0, 0) }
    }

    /// The line from `begin` to `end` in the redacted text: its offset and number (from 0) in the original, and how
    /// many bytes longer it was there.
    pub(super) fn of(&mut self, begin: usize, end: usize) -> (usize, u64, isize) {
        let offset = self.original(begin);
        let (from, lines) = self.counted;
        let lines = lines + memchr::memchr_iter(b'\n', &self.original[from..offset]).count() as u64;
        self.counted = (offset, lines);
        let len = self.original(end) - offset;
        (offset, lines, len.cast_signed() - (end - begin).cast_signed())
    }

    /// The offset in the original of a place outside the replacements.
    fn original(&mut self, at: usize) -> usize {
        while let Some(span) = self.spans.get(self.next) {
            // A span's replacement begins where the span would, moved by all replacements before it.
            if span.start.saturating_add_signed(-self.shift) >= at {
                break;
            }
            self.shift += (span.end - span.start).cast_signed() - (MARK + span.rule.len()).cast_signed();
            self.next += 1;
        }
        at.saturating_add_signed(self.shift).min(self.original.len())
    }
}
