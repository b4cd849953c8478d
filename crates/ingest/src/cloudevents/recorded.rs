//! Recorded deliveries, a JSON object a line: `{"received_at", "method", "path", "http_version", "headers",
//! "body_b64", "answered"}`. Headers are a list of pairs or an object. A line gives the drafts that the delivery
//! itself would have given.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Context, Draft, Outcome, PersonSeen,
    json::{self, List, Map, Str},
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
