//! Names whose value is a secret: of headers, keys, parameters, options and variables.

use std::ops::Range;

use super::{
    quote::Quote,
    spans::{Found, begins_word, is_space, is_word, run, unquoted_end},
};

/// What is special about a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// Nothing: any letters may stand before it, and in running text (`invalid token: expired`) it announces nothing.
    Plain,
    /// In running text a value follows its colon (`password: hunter2`).
    Password,
    /// Like `Password`, and so short that it must be a word by itself (`DB_PASS`, `dbPass`; not `bypass`).
    ShortPassword,
    /// Like `Plain`, and must be a word by itself.
    Short,
    /// Like `Plain`, and also the kind of a Kubernetes object.
    Secret,
}

/// What may stand behind a name and leaves it one (`secretKey`, `token_value`, `passwords`), unlike `secretName`.
const TAILS: [&str; 13] =
    ["s", "key", "keys", "value", "values", "data", "text", "string", "base64", "b64", "plain", "plaintext", "raw"];

/// Longest tail with its separators.
const TAIL: usize = 16;

/// Reports the values of the name that the anchor at `start..end` belongs to:
///
/// - JSON at any depth: `"name":"value"`, `"name":["value",…]`, `{"name":"name","value":"value"}` in either order;
/// - `name=value`, `'name':'value'`, `Name: value` of headers and passwords;
/// - options: `--name value`, `"--name","value"`;
/// - the data of an object of kind `Secret`.
pub(super) fn find(name: Name, bytes: &[u8], start: usize, end: usize, budget: &mut usize, found: Found<'_>) {
    if name == Name::Secret
        && let Some((quote, list)) = secret_kind(bytes, start, end)
    {
        return object(bytes, quote, start, list, budget, found);
    }
    if matches!(name, Name::Short | Name::ShortPassword) && !begins_word(bytes, start) && !begins_hump(bytes, start) {
        return;
    }
    let stop = run(&bytes[..bytes.len().min(end + TAIL + 1)], end, is_word);
    if stop > end && !is_tail(&bytes[end..stop]) {
        return;
    }
    let begin = bytes[start.saturating_sub(64)..start].iter().rev().take_while(|b| is_word(**b)).count();
    let whole = &bytes[start - begin..stop];
    let option = whole.starts_with(b"--");
    let header = is_header(whole);
    let in_text = matches!(name, Name::Password | Name::ShortPassword);
    if let Some((quote, after)) = Quote::at(bytes, stop) {
        let next = run(bytes, after, is_space);
        match bytes.get(next) {
            Some(b':') => json_values(bytes, quote, next + 1, found),
            Some(b',') if option => json_values(bytes, quote, next + 1, found),
            // The name is itself a value: `{"name":"password","type":"string","value":"…"}` of Tekton, Kubernetes.
            Some(b',') if pair_value(bytes, quote, next + 1, header, found) => {}
            Some(b',' | b'}') => value_before(bytes, quote, after, found),
            _ => {}
        }
        return;
    }
    let next = if in_text { run(bytes, stop, |b| b == b' ') } else { stop };
    match bytes.get(next) {
        Some(b'=') => {
            let value = if next > stop { run(bytes, next + 1, |b| b == b' ') } else { next + 1 };
            match Quote::at(bytes, value) {
                Some((quote, value)) if begins_value(bytes, value) => found(value, quote.close(bytes, value).0),
                _ => word(bytes, value, found),
            }
        }
        // A query inside a parameter of a query.
        Some(b'%') if bytes[next + 1..].starts_with(b"3D") || bytes[next + 1..].starts_with(b"3d") => {
            word(bytes, next + 3, found);
        }
        Some(b'\'') => {
            let colon = run(bytes, next + 1, is_space);
            let value = run(bytes, colon + usize::from(colon < bytes.len()), is_space);
            if bytes.get(colon) == Some(&b':') && bytes.get(value) == Some(&b'\'') {
                word(bytes, value, found);
            }
        }
        // Only of headers and passwords: «invalid token: expired» is a message, not a secret.
        Some(b':') if header => {
            let value = run(bytes, next + 1, |b| b == b' ');
            found(value, run(bytes, value, |b| !matches!(b, b'\r' | b'\n' | b'"' | b'\'' | b'\\')));
        }
        Some(b':') if in_text && next == stop => word(bytes, run(bytes, next + 1, |b| b == b' '), found),
        _ if option && bytes.get(stop) == Some(&b' ') => {
            let value = run(bytes, stop, |b| b == b' ');
            match Quote::at(bytes, value) {
                Some((quote, value)) if begins_value(bytes, value) => found(value, quote.close(bytes, value).0),
                None if bytes.get(value) != Some(&b'-') => word(bytes, value, found),
                Some(_) | None => {}
            }
        }
        _ => {}
    }
}

/// The quote before `at` begins a value. It may also end the string that the name stands in; then none of a value follows.
fn begins_value(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|b| !is_space(*b) && !b",]}:".contains(b))
}

/// A value in running text, between `'` or up to where such values end.
fn word(bytes: &[u8], at: usize, found: Found<'_>) {
    if bytes.get(at) == Some(&b'\'') {
        found(at + 1, run(bytes, at + 1, |b| !matches!(b, b'\'' | b'"' | b'\\' | b'\n')));
    } else {
        found(at, unquoted_end(bytes, at));
    }
}

/// `Pass` of `dbPass`.
fn begins_hump(bytes: &[u8], start: usize) -> bool {
    matches!(bytes[start - 1], b'_' | b'-')
        || (bytes[start].is_ascii_uppercase() && !bytes[start - 1].is_ascii_uppercase())
}

fn is_tail(tail: &[u8]) -> bool {
    let letters = || tail.iter().filter(|b| !matches!(b, b'_' | b'-')).map(u8::to_ascii_lowercase);
    letters().all(|b| b.is_ascii_digit()) || TAILS.iter().any(|known| known.bytes().eq(letters()))
}

/// A header that carries credentials. `X-…` headers do when their name ends in one that does.
fn is_header(name: &[u8]) -> bool {
    const HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "private-token"];
    name.get(..2).is_some_and(|head| head.eq_ignore_ascii_case(b"x-"))
        || HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header.as_bytes()))
}

/// The strings under the key whose closing quote stands at `at`.
pub(super) fn member(bytes: &[u8], at: usize, found: Found<'_>) {
    if let Some((quote, after)) = Quote::at(bytes, at) {
        let colon = run(bytes, after, is_space);
        if bytes.get(colon) == Some(&b':') {
            json_values(bytes, quote, colon + 1, found);
        }
    }
}

/// One string, or every string of a flat list, from `at`.
pub(super) fn json_values(bytes: &[u8], quote: Quote, at: usize, found: Found<'_>) {
    let mut at = run(bytes, at, is_space);
    let list = bytes.get(at) == Some(&b'[');
    if list {
        at += 1;
    }
    loop {
        at = run(bytes, at, |b| is_space(b) || (list && b == b','));
        let Some(value) = quote.again(bytes, at) else { return };
        let (stop, after) = quote.close(bytes, value);
        found(value, stop);
        if !list {
            return;
        }
        at = after;
    }
}

/// The string under `value`, which follows `name` (Tekton writes `type` between them); of a header also the second
/// of a pair (`["Cookie","a=b"]`). False when neither follows.
fn pair_value(bytes: &[u8], quote: Quote, at: usize, header: bool, found: Found<'_>) -> bool {
    let mut at = at;
    for _ in 0..2 {
        let Some(key) = quote.again(bytes, run(bytes, at, is_space)) else { return false };
        let (key_end, after) = quote.close(bytes, key);
        let colon = run(bytes, after, is_space);
        match bytes.get(colon) {
            Some(b':') => {}
            Some(b']') if header => {
                found(key, key_end);
                return true;
            }
            _ => return false,
        }
        match &bytes[key..key_end] {
            b"value" => {
                json_values(bytes, quote, colon + 1, found);
                return true;
            }
            b"type" => {
                let Some(text) = quote.again(bytes, run(bytes, colon + 1, is_space)) else { return false };
                let (_, after) = quote.close(bytes, text);
                let comma = run(bytes, after, is_space);
                if bytes.get(comma) != Some(&b',') {
                    return false;
                }
                at = comma + 1;
            }
            _ => return false,
        }
    }
    false
}

/// The string under `value` in front of a `name` whose string ends at `after`; `type` may stand between.
fn value_before(bytes: &[u8], quote: Quote, after: usize, found: Found<'_>) {
    let Some((_, b"name" | b"key", mut at)) = member_before(bytes, quote, after) else { return };
    for _ in 0..2 {
        let comma = space_before(bytes, at);
        if !bytes[..comma].ends_with(b",") {
            return;
        }
        match member_before(bytes, quote, space_before(bytes, comma - 1)) {
            Some((value, b"value", _)) => return found(value.start, value.end),
            Some((_, b"type", before)) => at = before,
            _ => return,
        }
    }
}

/// Of `"key":"value"` that ends at `at`: the value, the key, and where it begins.
fn member_before(bytes: &[u8], quote: Quote, at: usize) -> Option<(Range<usize>, &[u8], usize)> {
    let (value, open) = quote.string_before(bytes, at)?;
    let colon = space_before(bytes, open).checked_sub(1).filter(|colon| bytes[*colon] == b':')?;
    let (key, begin) = quote.string_before(bytes, space_before(bytes, colon))?;
    Some((value, &bytes[key], begin))
}

fn space_before(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rposition(|b| !is_space(*b)).map_or(0, |n| n + 1)
}

/// `"kind":"Secret"` or `"kind":"SecretList"` (the latter leaves the kind out of its items) around this anchor: the
/// quote, and whether it is a list.
fn secret_kind(bytes: &[u8], start: usize, end: usize) -> Option<(Quote, bool)> {
    let list = bytes[end..].starts_with(b"List");
    let (quote, after) = Quote::at(bytes, if list { end + 4 } else { end })?;
    let (value, key, _) = member_before(bytes, quote, after)?;
    (value.start == start && bytes[start..].starts_with(b"Secret") && key == b"kind").then_some((quote, list))
}

/// Every string under `data` and `stringData` of the object that holds the kind at `at`; of a list, of its items.
fn object(bytes: &[u8], quote: Quote, at: usize, list: bool, budget: &mut usize, found: Found<'_>) {
    let Some(begin) = object_begin(bytes, quote, at, budget) else { return };
    let until = bytes.len().min(at.saturating_add(*budget));
    let mut depth = 0;
    let mut at = begin;
    while at < until {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => depth -= 1,
            b'"' | b'\\' => {
                let Some(start) = quote.again(bytes, at) else { break };
                let (stop, after) = quote.close(bytes, start);
                at = after;
                if (list || depth == 0) && matches!(&bytes[start..stop], b"data" | b"stringData") {
                    at = strings(bytes, quote, after, found);
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    *budget = budget.saturating_sub(at - begin);
}

/// Behind the `{` of the object that holds the string which begins at `at`.
fn object_begin(bytes: &[u8], quote: Quote, at: usize, budget: &mut usize) -> Option<usize> {
    let last = at.saturating_sub(*budget);
    // The string's own opening quote.
    let mut at = at - 1 - quote.backslashes();
    let first = at;
    let mut depth = 0;
    while at > last {
        match bytes[at - 1] {
            b'"' => {
                at = quote.string_before(bytes, at)?.1;
                continue;
            }
            b'}' | b']' => depth += 1,
            b'{' | b'[' if depth == 0 => {
                *budget = budget.saturating_sub(first - at);
                return Some(at);
            }
            b'{' | b'[' => depth -= 1,
            _ => {}
        }
        at -= 1;
    }
    *budget = 0;
    None
}

/// Every string of the object behind the key that ends at `at`; where it ends.
fn strings(bytes: &[u8], quote: Quote, at: usize, found: Found<'_>) -> usize {
    let open = run(bytes, at, |b| is_space(b) || b == b':');
    if bytes.get(open) != Some(&b'{') {
        return at;
    }
    let mut at = open + 1;
    loop {
        at = run(bytes, at, |b| is_space(b) || b == b',');
        let Some(key) = quote.again(bytes, at) else { return at + usize::from(bytes.get(at) == Some(&b'}')) };
        let (_, after) = quote.close(bytes, key);
        at = run(bytes, after, |b| is_space(b) || b == b':');
        // Anything but a string (`null`) up to the next member.
        let Some(value) = quote.again(bytes, at) else {
            at = run(bytes, at, |b| !matches!(b, b',' | b'}' | b'"'));
            continue;
        };
        let (stop, after) = quote.close(bytes, value);
        found(value, stop);
        at = after;
    }
}
