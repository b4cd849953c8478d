//! The words of a document that are found without naming a field.

use memchr::memmem;

use super::{MAX_TEXT, cut};

/// Words as they are collected, value by value.
#[derive(Debug, Default)]
pub(super) struct Words {
    text: String,
    /// Where each value ends in the text.
    ends: Vec<usize>,
}

impl Words {
    /// Adds a value, as far as there is room.
    pub(super) fn add(&mut self, words: &str) {
        let room = MAX_TEXT.saturating_sub(self.text.len());
        if room > 0 && !words.is_empty() {
            self.text.push_str(cut(words, room));
            self.ends.push(self.text.len());
        }
    }

    /// One text of all values that do not stand in the summary, or in another value, already: names come again and again,
    /// and a word is found as well once as five times. In small letters, as it is found.
    pub(super) fn beside(mut self, summary: &str) -> String {
        self.text.make_ascii_lowercase();
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let mut values: Vec<&str> = begins.zip(&self.ends).map(|(begin, end)| &self.text[begin..*end]).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let summary = cut(summary, MAX_TEXT);
        let mut all = summary.to_ascii_lowercase();
        all.reserve(self.text.len());
        for value in values {
            if !holds(&all, value) {
                all.push('\n');
                all.push_str(value);
            }
        }
        all.split_off(summary.len())
    }
}

/// The words of the value follow each other in the text.
fn holds(text: &str, value: &str) -> bool {
    let apart = |a: Option<char>, b: Option<char>| {
        !(a.is_some_and(char::is_alphanumeric) && b.is_some_and(char::is_alphanumeric))
    };
    memmem::find_iter(text.as_bytes(), value).any(|at| {
        let (before, after) = (&text[..at], &text[at + value.len()..]);
        apart(before.chars().next_back(), value.chars().next())
            && apart(value.chars().next_back(), after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_stand_somewhere_already_are_left_out() {
        let mut words = Words::default();
        for value in ["shop", "shop/gateway", "Failed", "fail", "Gateway", "café", "afé", "refused by caller", "by"] {
            words.add(value);
        }
        assert_eq!(words.beside("TaskRun ci/build failed"), "\nrefused by caller\nshop/gateway\ncafé\nfail\nafé");
    }

    #[test]
    fn a_text_has_an_end() {
        let mut words = Words::default();
        words.add(&"é".repeat(MAX_TEXT));
        words.add("more");
        assert_eq!(words.beside("").len(), 1 + MAX_TEXT);
    }
}
