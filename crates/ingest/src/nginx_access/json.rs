//! A tolerant reader of one JSON line.
//!
//! JSON is written here by a template, not by a serializer, so it is often almost JSON: `"n":,` where a variable had no
//! value, `\x22` where `escape=json` was forgotten, lists in place of numbers, bytes that are not UTF-8. A strict
//! reader would lose exactly the lines of broken requests, and would copy what we only look at.

use super::fields::{Values, Var};
use crate::find::equal_bytes;

/// Which key means what, learned from the lines: keys come in the same order on every line of one format, so the
/// search nearly always ends at its first step.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    keys: Vec<Key>,
    next: usize,
}

#[derive(Clone, Debug)]
struct Key {
    /// `,"name":"`, as a template without spaces writes it between two strings: mostly it need not be taken apart.
    glue: Box<[u8]>,
    var: Option<Var>,
}

impl Key {
    fn new(name: &[u8], var: Option<Var>) -> Self {
        Self { glue: [b",\"", name, b"\":\""].concat().into(), var }
    }

    fn name(&self) -> &[u8] {
        &self.glue[2..self.glue.len() - 3]
    }
}

impl Layout {
    /// Most keys that are remembered.
    const MAX_KEYS: usize = 128;

    /// Fixes the meaning of a key, as a declared format does.
    pub(super) fn declare(&mut self, key: &[u8], var: Option<Var>) {
        if key.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1 {
            // Its closing quote is escaped: no line has such a key.
            return;
        }
        self.keys.push(Key::new(key, var));
    }

    /// The meaning of the next key if it is the one that followed on the line before, between strings and without
    /// spaces; and where its value begins behind the quote.
    #[inline]
    fn expected(&mut self, line: &[u8], at: usize) -> Option<(Option<Var>, usize)> {
        let Key { glue, var } = self.keys.get(self.next)?;
        if !line[at..].starts_with(glue) {
            return None;
        }
        self.next = if self.next + 1 < self.keys.len() { self.next + 1 } else { 0 };
        Some((*var, at + glue.len()))
    }

    fn var(&mut self, key: &[u8]) -> Option<Var> {
        let known = self.keys.len();
        for step in 0..known {
            let at = if self.next + step < known { self.next + step } else { self.next + step - known };
            if self.keys[at].name() == key {
                self.next = if at + 1 < known { at + 1 } else { 0 };
                return self.keys[at].var;
            }
        }
        let var = Var::of_key(key);
        if known < Self::MAX_KEYS {
            self.keys.push(Key::new(key, var));
            self.next = 0;
        }
        var
    }
}

/// Reads `{"key":value,…}` into the values; the error says what is wrong.
pub(super) fn read<'a>(line: &'a [u8], layout: &mut Layout, values: &mut Values<'a>) -> Result<(), &'static str> {
    let mut at = 1;
    layout.next = 0;
    loop {
        while let Some((var, start)) = layout.expected(line, at) {
            let end = string_end(line, start).ok_or("the line is cut inside a value")?;
            if let Some(var) = var {
                values.set(var, &line[start..end]);
            }
            at = end + 1;
        }
        at = skip(line, at, b" \t\r,");
        match line.get(at) {
            Some(b'}') => break,
            Some(b'"') => at += 1,
            Some(_) => return Err("a key is expected"),
            None => return Err("the line is cut"),
        }
        let end = string_end(line, at).ok_or("the line is cut inside a key")?;
        let var = layout.var(&line[at..end]);
        at = skip(line, end + 1, b" \t");
        if line.get(at) != Some(&b':') {
            return Err("a colon is expected after a key");
        }
        at = skip(line, at + 1, b" \t");
        let (value, next) = value(line, at)?;
        if let (Some(var), Some(value)) = (var, value) {
            values.set(var, value);
        }
        at = next;
    }
    if skip(line, at + 1, b" \t\r") == line.len() { Ok(()) } else { Err("something follows the closing brace") }
}

#[inline]
fn skip(line: &[u8], mut at: usize, bytes: &[u8]) -> usize {
    while line.get(at).is_some_and(|b| *b <= b',' && bytes.contains(b)) {
        at += 1;
    }
    at
}

/// The closing quote of the string that begins at `at`.
fn string_end(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        // Values are short, mostly under 32 bytes: looking at eight bytes at a time beats the start-up of `memchr2`.
        while let Some(chunk) = line.get(at..at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().ok()?);
            let found = equal_bytes(word, b'"') | equal_bytes(word, b'\\');
            if found == 0 {
                at += 8;
                continue;
            }
            at += (found.trailing_zeros() / 8) as usize;
            break;
        }
        match line.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The value at `at`, without quotes, and where it ends; `None` for objects and lists, which hold nothing for us.
fn value(line: &[u8], at: usize) -> Result<(Option<&[u8]>, usize), &'static str> {
    match line.get(at) {
        Some(b'"') => {
            let end = string_end(line, at + 1).ok_or("the line is cut inside a value")?;
            Ok((Some(&line[at + 1..end]), end + 1))
        }
        Some(b'{' | b'[') => Ok((None, nested_end(line, at).ok_or("the line is cut inside a list or object")?)),
        Some(_) => {
            // Up to a comma before the next key, or the end: a list of retries may stand here without quotes.
            let mut end = at;
            loop {
                end += memchr::memchr2(b',', b'}', &line[end..]).ok_or("the line is cut inside a value")?;
                if line[end] == b'}' || matches!(line.get(skip(line, end + 1, b" \t")), Some(b'"' | b'}') | None) {
                    return Ok((Some(line[at..end].trim_ascii()), end));
                }
                end += 1;
            }
        }
        None => Err("the line is cut"),
    }
}

fn nested_end(line: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match line.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b'"' => at = string_end(line, at + 1)?,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(line: &str) -> Result<Option<String>, &'static str> {
        let mut values = Values::new();
        read(line.as_bytes(), &mut Layout::default(), &mut values)?;
        Ok(values.get(Var::UpstreamStatus).map(|v| String::from_utf8_lossy(v).into_owned()))
    }

    #[test]
    fn almost_json_is_read() {
        for (line, want) in [
            (r#"{"upstream_status":"200"}"#, Some("200")),
            (r#"{"a":{"upstream_status":"x\"}"},"upstream_status":502, 502, 200,"b":1}"#, Some("502, 502, 200")),
            (r#"{"status":200,"upstream_status":,"t":,"verify":"S"}"#, Some("")),
            (r#"{ "x" : "\x22" , "$upstream_status" : 200 } "#, Some("200")),
            (r#"{"upstream_status":null}"#, Some("")),
            (r#"{"upstream_status":"-"}"#, Some("")),
            (r#"{"a":[1,{"b":"]"}]}"#, None),
            ("{}", None),
        ] {
            assert_eq!(status(line), Ok(want.map(str::to_owned)), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_string_ends_where_a_byte_by_byte_search_says(text in "[a!\"\\\\\u{80}\u{ff}#]{0,40}") {
            let bytes = text.as_bytes();
            let mut at = 0;
            let naive = loop {
                match bytes.get(at) {
                    Some(b'"') => break Some(at),
                    Some(b'\\') => at += 2,
                    Some(_) => at += 1,
                    None => break None,
                }
            };
            proptest::prop_assert_eq!(string_end(bytes, 0), naive);
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for line in
            ["{", r#"{"a"#, r#"{"a":"b"#, r#"{"a":1"#, r#"{"a":[1"#, r#"{"a" 1}"#, "{x}", r#"{"a":1}}"#, r#"{"a":"\"#]
        {
            assert!(status(line).is_err(), "{line}");
        }
    }
}
