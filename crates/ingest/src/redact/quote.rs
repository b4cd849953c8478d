//! Strings of JSON, at any depth of JSON inside JSON.

use super::spans::run;

/// A JSON quote at some depth of JSON inside JSON: `"`, `\"`, `\\\"`, …
#[derive(Clone, Copy)]
pub(super) struct Quote {
    /// Backslashes before the `"`: 0, 1, 3, 7, …
    backslashes: usize,
}

impl Quote {
    /// The quote at `at` and the offset after it.
    pub(super) fn at(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        let end = run(bytes, at, |b| b == b'\\');
        let backslashes = end - at;
        let known = (backslashes + 1).is_power_of_two() && backslashes < 16;
        (known && bytes.get(end) == Some(&b'"')).then_some((Self { backslashes }, end + 1))
    }

    /// The same quote at `at`, and the offset after it.
    pub(super) fn again(self, bytes: &[u8], at: usize) -> Option<usize> {
        Self::at(bytes, at).filter(|(quote, _)| quote.backslashes == self.backslashes).map(|(_, end)| end)
    }

    /// Offsets of the end of the string that began before `at`, and after its closing quote. A quote inside the
    /// string is escaped once more, and one that is escaped less closes a string around it: then, and at the end of
    /// the bytes, the string was cut off and ends there.
    pub(super) fn close(self, bytes: &[u8], at: usize) -> (usize, usize) {
        let mut from = at;
        while let Some(quote) = memchr::memchr(b'"', &bytes[from..]).map(|n| from + n) {
            let escapes = bytes[at..quote].iter().rev().take_while(|b| **b == b'\\').count();
            let inside = 2 * self.backslashes + 1;
            match escapes % (inside + 1) {
                level if level == inside => from = quote + 1,
                level if level == self.backslashes => return (quote - self.backslashes, quote + 1),
                _ => return (quote - escapes, quote - escapes),
            }
        }
        (bytes.len(), bytes.len())
    }

    /// This quote in front of `at`: where its first byte stands.
    fn before(self, bytes: &[u8], at: usize) -> Option<usize> {
        let quote = at.checked_sub(1).filter(|quote| bytes[*quote] == b'"')?;
        let backslashes = bytes[..quote].iter().rev().take_while(|b| **b == b'\\').count();
        (backslashes == self.backslashes).then_some(quote - backslashes)
    }

    /// The string whose closing quote ends at `at`, and where its opening quote begins.
    pub(super) fn string_before(self, bytes: &[u8], at: usize) -> Option<(std::ops::Range<usize>, usize)> {
        let end = self.before(bytes, at)?;
        let mut from = end;
        while let Some(quote) = memchr::memrchr(b'"', &bytes[..from]) {
            let backslashes = bytes[..quote].iter().rev().take_while(|b| **b == b'\\').count();
            if backslashes <= self.backslashes {
                return (backslashes == self.backslashes).then_some((quote + 1..end, quote - backslashes));
            }
            from = quote;
        }
        None
    }

    pub(super) const fn backslashes(self) -> usize {
        self.backslashes
    }
}
