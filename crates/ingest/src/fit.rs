//! A fact that is too long is cut by rule, and says what was cut.
//!
//! The rule (`docs/formats/facts.md`, "Cutting"): the list with the most bytes loses its last items, as few as
//! possible; if it is empty and the fact still too long, the next longest list; then the longest strings. Equal
//! facts are cut equally, wherever they come from.

use std::io::{self, Write};

use model::{Body, Fact, Text, entry::Cut, fact::Opaque};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longest fact in bytes of JSON: what [`Body::MAX_BYTES`] leaves beside source, submitter, payload and the cuts.
pub const FACT_BYTES: usize = Body::MAX_BYTES - 2048;

/// A string is never cut below this many bytes.
const STRING_BYTES: usize = 64;

/// Maps whose entries count as items of a list: their keys come from outside, the other objects are structs.
const MAPS: [&str; 3] = ["/change/content", "/import/levels", "/metric/increase"];

/// The JSON of a body whose fact is cut to [`FACT_BYTES`]; what was left out of each list and string stands first in its `cut`.
///
/// # Errors
///
/// Those of `serde_json`, which the model does not cause.
pub fn body(mut body: Body) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(&body)?;
    // A fact is shorter than the body around it, and almost every one fits: it is written once and not measured before.
    if json.len() <= FACT_BYTES {
        return Ok(json);
    }
    let (fact, mut cut) = fit_to(body.fact, FACT_BYTES);
    cut.append(&mut body.cut);
    serde_json::to_vec(&Body { cut, fact, ..body })
}

/// Cuts a fact to `limit` bytes of JSON, which must be at least a few KiB.
pub fn fit_to(fact: Fact, limit: usize) -> (Fact, Vec<Cut>) {
    if length(&fact) <= limit {
        return (fact, Vec::new());
    }
    let kind = fact.kind().to_owned();
    let mut cuts = Vec::new();
    let cut = serde_json::to_value(fact).and_then(|mut tree| {
        cut_lists(&mut tree, limit, &mut cuts);
        cut_strings(&mut tree, limit, &mut cuts);
        serde_json::from_value::<Fact>(tree)
    });
    match cut {
        Ok(fact) => (fact, cuts),
        // Not reached by the facts of this version (a test cuts every list); the payload is there in any case.
        Err(error) => (Fact::Opaque(too_long(&kind, &error)), Vec::new()),
    }
}

fn too_long(kind: &str, error: &serde_json::Error) -> Opaque {
    Opaque {
        reason: "too_long".into(),
        detail: format!("a {kind} fact could not be cut: {error}"),
        event_type: None,
        head: Text::from(""),
    }
}

/// Length of the JSON, without making it.
fn length(value: &impl serde::Serialize) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting cannot fail, and the model serializes without errors.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

fn cut_lists(tree: &mut Value, limit: usize, cuts: &mut Vec<Cut>) {
    let mut total = length(tree);
    while total > limit {
        let mut longest = None;
        lists(tree, "", &mut |pointer, bytes| {
            if longest.as_ref().is_none_or(|(_, most)| bytes > *most) {
                longest = Some((pointer.to_owned(), bytes));
            }
        });
        let Some((pointer, _)) = longest else { return };
        let omitted = match tree.pointer_mut(&pointer) {
            Some(Value::Array(items)) => {
                let keep = keep(items.iter().map(|item| length(item) + 1), total - limit);
                items.split_off(keep)
            }
            Some(Value::Object(entries)) => {
                let keep = keep(entries.iter().map(|(key, value)| length(key) + length(value) + 2), total - limit);
                let left_out: Vec<String> = entries.keys().skip(keep).cloned().collect();
                left_out
                    .into_iter()
                    .filter_map(|key| entries.remove(&key).map(|value| Value::from(vec![Value::from(key), value])))
                    .collect()
            }
            _ => return,
        };
        cuts.push(Cut { list: pointer, omitted: omitted.len() as u64, digest: digest(&Value::from(omitted)) });
        total = length(tree);
    }
}

/// How many of the first items may stay so that at least `excess` bytes go.
fn keep(lengths: impl DoubleEndedIterator<Item = usize> + ExactSizeIterator, excess: usize) -> usize {
    let mut keep = lengths.len();
    let mut gone = 0;
    for length in lengths.rev() {
        if gone >= excess {
            break;
        }
        gone += length;
        keep -= 1;
    }
    keep
}

/// Calls `f` with pointer and bytes of every list that is not empty and not inside another list.
fn lists(value: &Value, pointer: &str, f: &mut impl FnMut(&str, usize)) {
    match value {
        Value::Array(items) if !items.is_empty() => f(pointer, length(value)),
        Value::Object(entries) if !entries.is_empty() && MAPS.contains(&pointer) => f(pointer, length(value)),
        Value::Object(entries) => {
            for (key, value) in entries {
                lists(value, &below(pointer, key), f);
            }
        }
        _ => {}
    }
}

fn cut_strings(tree: &mut Value, limit: usize, cuts: &mut Vec<Cut>) {
    let mut total = length(tree);
    while total > limit {
        let mut longest = None;
        strings(tree, "", &mut |pointer, bytes| {
            if bytes > STRING_BYTES && longest.as_ref().is_none_or(|(_, most)| bytes > *most) {
                longest = Some((pointer.to_owned(), bytes));
            }
        });
        let Some((pointer, _)) = longest else { return };
        let Some(Value::String(text)) = tree.pointer_mut(&pointer) else { return };
        let base64 = pointer.ends_with("/b64"); // the other form of `Text`: still has to decode afterwards
        let mut end = text.len().saturating_sub(total - limit + "…".len()).max(STRING_BYTES - "…".len());
        if base64 {
            end -= end % 4;
        }
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let omitted = text.split_off(end);
        cuts.push(Cut { list: pointer, omitted: omitted.len() as u64, digest: hex(&Sha256::digest(&omitted)) });
        if !base64 {
            text.push('…');
        }
        total = length(tree);
    }
}

/// RFC 6901.
fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn strings(value: &Value, pointer: &str, f: &mut impl FnMut(&str, usize)) {
    match value {
        Value::String(text) => f(pointer, text.len()),
        Value::Object(entries) => {
            for (key, value) in entries {
                strings(value, &below(pointer, key), f);
            }
        }
        _ => {}
    }
}

/// SHA-256 over the JSON of the items left out, hex.
fn digest(items: &Value) -> String {
    hex(&Sha256::digest(items.to_string()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests;
