//! Recorded deliveries, a JSON object a line: `{"received_at", "method", "path", "http_version", "headers",
//! "body_b64", "answered"}`. Headers are a list of pairs or an object. A line gives the drafts that the delivery
//! itself would have given.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::entry::Redacted;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Context, Draft, Outcome, PersonSeen,
    json::{self, List, Map, Str},
    redact::Redactor,
};

/// Most headers of one recorded delivery.
const HEADERS: usize = 256;

#[derive(Deserialize)]
struct Recorded<'a> {
    #[serde(borrow, default)]
    method: Str<'a>,
    #[serde(borrow)]
    headers: &'a RawValue,
    #[serde(borrow, default)]
    body_b64: Str<'a>,
}

/// Reads one line. A delivery that is no `POST` (a redirect makes a `GET` without a body of it) carries no event.
pub fn parse(line: &[u8], context: &Context<'_>, out: &mut Vec<Draft>, persons: &mut Vec<PersonSeen>) -> Outcome {
    let recorded: Recorded<'_> = match serde_json::from_slice(line) {
        Ok(recorded) => recorded,
        Err(error) if error.is_data() => return Outcome::Opaque("not_a_line_of_this_format", error.to_string()),
        Err(error) => return Outcome::Opaque("not_json", error.to_string()),
    };
    if recorded.method.get().is_some_and(|method| method != "POST") {
        return Outcome::Opaque("not_a_post", recorded.method.owned().unwrap_or_default());
    }
    let Some(headers) = headers(recorded.headers) else {
        return Outcome::Opaque("not_a_line_of_this_format", "headers are neither pairs nor an object".into());
    };
    match STANDARD.decode(recorded.body_b64.get().unwrap_or_default()) {
        Ok(body) => {
            super::read(&headers, &body, context, out, persons);
            Outcome::Understood
        }
        Err(error) => Outcome::Opaque("not_base64", error.to_string()),
    }
}

/// Redacts a recorded delivery or several: inside `body_b64` too, where the general rules do not see. A body in
/// which something was found is encoded again, every other byte stays.
pub fn redact<'a>(lines: &'a [u8], redactor: &Redactor) -> (Cow<'a, [u8]>, Vec<Redacted>) {
    const KEY: &[u8] = b"\"body_b64\"";
    let mut opened: Vec<u8> = Vec::new();
    let mut counts: Vec<Redacted> = Vec::new();
    let mut copied = 0;
    for key in memchr::memmem::find_iter(lines, KEY) {
        let value = key + KEY.len();
        let Some(quote) = lines[value..].iter().position(|b| !matches!(b, b' ' | b':')).map(|n| value + n) else {
            break;
        };
        if lines[quote] != b'"' {
            continue;
        }
        let Some(end) = memchr::memchr(b'"', &lines[quote + 1..]).map(|n| quote + 1 + n) else { break };
        let Ok(body) = STANDARD.decode(&lines[quote + 1..end]) else { continue };
        let (clean, found) = redactor.redact(&body);
        if found.is_empty() {
            continue;
        }
        opened.extend_from_slice(&lines[copied..=quote]);
        opened.extend_from_slice(STANDARD.encode(clean).as_bytes());
        copied = end;
        add(&mut counts, found);
    }
    if copied == 0 {
        return redactor.redact(lines);
    }
    opened.extend_from_slice(&lines[copied..]);
    let (outside, found) = redactor.redact(&opened);
    add(&mut counts, found);
    (Cow::Owned(outside.into_owned()), counts)
}

/// Adds counts, keeping the order by rule.
fn add(counts: &mut Vec<Redacted>, more: Vec<Redacted>) {
    for count in more {
        match counts.binary_search_by(|known| known.rule.cmp(&count.rule)) {
            Ok(at) => counts[at].n += count.n,
            Err(at) => counts.insert(at, count),
        }
    }
}

fn headers(raw: &RawValue) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    // A header that HTTP does not allow was not received over HTTP: left out.
    let mut append = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
            && headers.len() < HEADERS
        {
            headers.append(name, value);
        }
    };
    if let Ok(pairs) = serde_json::from_str::<List<(Str<'_>, Str<'_>)>>(raw.get()) {
        for (name, value) in &pairs.items {
            append(name.get()?, value.get().unwrap_or_default());
        }
        return Some(headers);
    }
    let object: Map<'_, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    for (name, raw) in &object.0 {
        if let Some(value) = json::string(raw) {
            append(name, &value);
        } else {
            let values: List<Str<'_>> = serde_json::from_str(raw.get()).ok()?;
            values.items.iter().filter_map(Str::get).for_each(|value| append(name, value));
        }
    }
    Some(headers)
}
