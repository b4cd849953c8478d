//! Names that are spelt with escapes, so that no anchor stands in them.

use super::{
    is_secret_name,
    names::json_values,
    quote::Quote,
    spans::{Found, is_space, is_word, run, unquoted_end},
};

/// Longest name looked at, as spelt.
const LONGEST: usize = 64;

/// The parameter's value, when the name of a query around the escape at `start` is a secret's (`t%6Fken=…`).
pub(super) fn percent(bytes: &[u8], start: usize, found: Found<'_>) {
    let part = |b: u8| is_word(b) || b == b'%';
    let before = &bytes[start.saturating_sub(LONGEST)..start];
    let begin = start - before.iter().rev().take_while(|b| part(**b)).count();
    let stop = run(&bytes[..bytes.len().min(start + LONGEST)], start, part);
    if bytes[..begin].ends_with(b"?") || bytes[..begin].ends_with(b"&") || bytes[..begin].ends_with(b";") {
        let name: Vec<u8> = percent_encoding::percent_decode(&bytes[begin..stop]).collect();
        if bytes.get(stop) == Some(&b'=') && is_secret_name(&name) {
            found(stop + 1, unquoted_end(bytes, stop + 1));
        }
    }
}

/// The values of the JSON name around the escape at `start`, when it is a secret's (`"passw\u006frd"`).
pub(super) fn json(bytes: &[u8], start: usize, found: Found<'_>) {
    let from = start.saturating_sub(LONGEST);
    let Some(open) = memchr::memrchr(b'"', &bytes[from..start]).map(|n| from + n) else { return };
    let Some((quote, text)) = Quote::at(bytes, open) else { return };
    let window = &bytes[..bytes.len().min(start + LONGEST)];
    let (_, after) = quote.close(window, text);
    let colon = run(bytes, after, is_space);
    let name = serde_json::from_slice::<String>(&bytes[open..after]);
    if bytes.get(colon) == Some(&b':') && name.is_ok_and(|name| is_secret_name(name.as_bytes())) {
        json_values(bytes, quote, colon + 1, found);
    }
}
