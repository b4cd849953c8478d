//! Redaction of deliveries: also inside what is encoded, where the general rules do not see. A value in which
//! something was found is encoded again; every other byte stays.

use std::{borrow::Cow, ops::Range};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem;
use model::entry::Redacted;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};
use serde_json::value::RawValue;

use crate::{
    json,
    redact::{Redactor, Span},
};

/// What a header's value encodes (CloudEvents HTTP binding 3.1.3.2), beside all that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Redacts a kept delivery (see [`super::payload`]): attributes that are percent-encoded, data in base64, the rest.
pub fn redact_payload<'a>(payload: &'a [u8], redactor: &Redactor) -> (Cow<'a, [u8]>, Vec<Redacted>) {
    let mut edits = Edits::new(payload, redactor);
    let mut begin = 0;
    while let Some(end) = memchr::memchr(b'\n', &payload[begin..]).map(|n| begin + n) {
        if begin == end {
            edits.body(end + 1);
            break;
        }
        if let Some(colon) = memmem::find(&payload[begin..end], b": ") {
            edits.attribute(begin + colon + 2..end);
        }
        begin = end + 1;
    }
    edits.apply(delivery)
}

/// Redacts headers, each line for itself, and body of a delivery.
fn delivery<'a>(redactor: &Redactor, payload: &'a [u8]) -> (Cow<'a, [u8]>, Vec<Redacted>) {
    let head = if payload.starts_with(b"\n") { 0 } else { memmem::find(payload, b"\n\n").unwrap_or(payload.len()) };
    let mut spans = redactor.spans_of_lines(&payload[..head]);
    let body = redactor.spans(&payload[head..]).into_iter();
    spans.extend(body.map(|span| Span { start: head + span.start, end: head + span.end, ..span }));
    redactor.replace(payload, &spans)
}

/// Redacts each line for itself.
fn lines<'a>(redactor: &Redactor, lines: &'a [u8]) -> (Cow<'a, [u8]>, Vec<Redacted>) {
    redactor.replace(lines, &redactor.spans_of_lines(lines))
}

/// Redacts recorded deliveries, one per line: in `headers` and `body_b64` too.
pub fn redact_recorded<'a>(lines: &'a [u8], redactor: &Redactor) -> (Cow<'a, [u8]>, Vec<Redacted>) {
    let mut edits = Edits::new(lines, redactor);
    for line in lines.split(|b| *b == b'\n') {
        // A line that is not JSON is opaque; the members in front of the mistake are still looked at.
        let _ = json::for_each(line, |key, raw| match key.as_deref() {
            Some("body_b64") => edits.base64(raw),
            Some("headers") => edits.headers(raw, 0),
            _ => {}
        });
    }
    edits.apply(self::lines)
}

/// Values to be replaced in some bytes, in order.
struct Edits<'a, 'r> {
    bytes: &'a [u8],
    redactor: &'r Redactor,
    changes: Vec<(Range<usize>, Vec<u8>)>,
    counts: Vec<Redacted>,
}

impl<'a, 'r> Edits<'a, 'r> {
    const fn new(bytes: &'a [u8], redactor: &'r Redactor) -> Self {
        Self { bytes, redactor, changes: Vec::new(), counts: Vec::new() }
    }

    /// Replaces the values, then lets `redact` redact the whole.
    fn apply(
        mut self,
        redact: impl for<'b> Fn(&Redactor, &'b [u8]) -> (Cow<'b, [u8]>, Vec<Redacted>),
    ) -> (Cow<'a, [u8]>, Vec<Redacted>) {
        if self.changes.is_empty() {
            return redact(self.redactor, self.bytes);
        }
        self.changes.sort_unstable_by_key(|(range, _)| range.start);
        let mut out = Vec::with_capacity(self.bytes.len() + 64);
        let mut copied = 0;
        for (range, new) in &self.changes {
            out.extend_from_slice(&self.bytes[copied..range.start]);
            out.extend_from_slice(new);
            copied = range.end;
        }
        out.extend_from_slice(&self.bytes[copied..]);
        let (clean, found) = redact(self.redactor, &out);
        add(&mut self.counts, found);
        (Cow::Owned(clean.into_owned()), self.counts)
    }

    /// The body that begins here: events in JSON format, one or a list, may hold their data in base64.
    fn body(&mut self, begin: usize) {
        let body = &self.bytes[begin..];
        if memmem::find(body, b"base64").is_none() && !hides_a_key(body) {
            return;
        }
        if body.trim_ascii_start().starts_with(b"[") {
            let _ = json::for_each(body, |_, event| self.event(event.get().as_bytes()));
        } else {
            self.event(body);
        }
    }

    fn event(&mut self, event: &'a [u8]) {
        let mut data = None;
        let mut in_base64 = false;
        // What is no event in JSON format holds no data of one.
        let _ = json::for_each(event, |key, raw| match key.as_deref() {
            Some("data_base64") => self.base64(raw),
            Some("data") => data = Some(raw),
            Some("datacontentencoding") => in_base64 = json::string(raw).is_some_and(|text| text == "base64"),
            _ => {}
        });
        if let Some(data) = data.filter(|_| in_base64) {
            self.base64(data);
        }
    }

    /// A JSON string in base64: the body of a delivery or the data of an event.
    fn base64(&mut self, raw: &'a RawValue) {
        let Some(decoded) = json::string(raw).and_then(|text| STANDARD.decode(text.as_bytes()).ok()) else { return };
        let mut inner = Edits::new(&decoded, self.redactor);
        inner.body(0);
        let (clean, found) = inner.apply(Redactor::redact);
        if !found.is_empty() {
            self.replace(raw, &STANDARD.encode(clean));
            add(&mut self.counts, found);
        }
    }

    /// Every string of recorded headers, which are pairs or an object of strings or lists.
    fn headers(&mut self, raw: &'a RawValue, depth: usize) {
        if let Some(text) = json::string(raw) {
            if let Some(clean) = self.decoded(text.as_bytes()) {
                self.replace(raw, &clean);
            }
        } else if depth < 3 {
            let _ = json::for_each(raw.get().as_bytes(), |_, raw| self.headers(raw, depth + 1));
        }
    }

    fn attribute(&mut self, range: Range<usize>) {
        if let Some(clean) = self.decoded(&self.bytes[range.clone()]) {
            self.changes.push((range, clean.into_bytes()));
        }
    }

    /// A percent-encoded value without the secrets in it, encoded again; `None` when there are none.
    fn decoded(&mut self, value: &[u8]) -> Option<String> {
        memchr::memchr(b'%', value)?;
        let decoded: Vec<u8> = percent_decode(value).collect();
        let (clean, found) = self.redactor.redact(&decoded);
        if found.is_empty() {
            return None;
        }
        add(&mut self.counts, found);
        Some(percent_encode(&clean, ENCODED).to_string())
    }

    /// Replaces a string of JSON by one that needs no escapes.
    fn replace(&mut self, raw: &RawValue, text: &str) {
        let begin = raw.get().as_ptr().addr() - self.bytes.as_ptr().addr();
        self.changes.push((begin..begin + raw.get().len(), format!("\"{}\"", text.replace('\\', "\\\\")).into_bytes()));
    }
}

/// A letter is written as an escape, as no honest sender does: so a key could hide. Go escapes `&`, `<` and `>` only.
fn hides_a_key(body: &[u8]) -> bool {
    memmem::find_iter(body, b"\\u00").any(|at| matches!(body.get(at + 4), Some(b'4'..=b'7')))
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2hunter2";

    fn redactor() -> Redactor {
        Redactor::new(&[5; 32])
    }

    /// What is kept, with every base64 and percent-encoded text decoded behind it.
    fn all_of(kept: &[u8]) -> String {
        let text = String::from_utf8_lossy(kept).into_owned();
        let mut all = text.clone() + &percent_decode(kept).decode_utf8_lossy();
        for word in text.split('"') {
            if word.len() > 40
                && let Ok(decoded) = STANDARD.decode(word)
            {
                all += &all_of(&decoded);
            }
        }
        all
    }

    #[test]
    fn encoded_data_and_attributes_are_redacted() {
        let data = STANDARD.encode(format!(r#"{{"params":[{{"name":"password","value":"{SECRET}"}}],"keep":"it"}}"#));
        let event = format!(r#"{{"specversion":"1.0","id":"1","data_base64" : "{data}"}}"#);
        for payload in [
            format!("content-type: application/cloudevents+json\n\n{event}"),
            format!("\n {}", event.replace("data_base64", "d\\u0061ta_base64")),
            format!("content-type: application/cloudevents-batch+json\n\n[{{}}, {event}]"),
            format!("\n{{\"datacontentencoding\":\"base64\",\"data\":\"{data}\"}}"),
            format!("ce-source: https%3A//bob%3A{SECRET}%40host/x\nce-id: 1\n\n{{\"data\":\"keep it\"}}"),
        ] {
            assert!(all_of(payload.as_bytes()).contains(SECRET));
            let (kept, counts) = redact_payload(payload.as_bytes(), &redactor());
            let all = all_of(&kept);
            assert!(!all.contains(SECRET) && all.contains("keep") && all.contains("[redacted:"), "{all}");
            assert_eq!(counts.iter().map(|count| count.n).sum::<u32>(), 1, "{payload}");
            assert!(super::super::read_payload(&kept).is_some());
        }
        let clean = "ce-source: /a%20b\n\n{\"data_base64\":\"e30=\"}";
        assert!(matches!(redact_payload(clean.as_bytes(), &redactor()).0, Cow::Borrowed(_)));
    }

    #[test]
    fn recorded_deliveries_are_redacted_however_they_are_spelt() {
        let inner = STANDARD.encode(format!(r#"{{"message":"token={SECRET}","keep":"it","more":"0123456789"}}"#));
        let event = STANDARD.encode(format!(r#"{{"data_base64":"{inner}"}}"#));
        for line in [
            format!(r#"{{"method":"POST","headers":{{}},"body_b64":"{inner}"}}"#),
            format!("{{\"headers\":{{}},\"body\\u005fb64\"\t:\t\"{inner}\"}}"),
            format!(r#"{{"headers":{{}},"body_b64":"{event}"}}"#),
            format!(r#"{{"headers":[["Ce-Source","keep%20https://bob:{SECRET}%40host"]],"body_b64":""}}"#),
            format!(r#"{{"headers":{{"Ce-Source":["keep%20https://bob:{SECRET}%40host"]}}}}"#),
        ] {
            let lines = format!("{line}\n{{}}\n{line}\n");
            assert!(all_of(lines.as_bytes()).contains(SECRET));
            let (kept, counts) = redact_recorded(lines.as_bytes(), &redactor());
            let all = all_of(&kept);
            assert!(!all.contains(SECRET) && all.contains("keep") && all.contains("[redacted:"), "{all}");
            assert_eq!(counts.iter().map(|count| count.n).sum::<u32>(), 2, "{line}");
            for line in String::from_utf8(kept.into_owned()).unwrap().lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap();
            }
        }
    }

    #[test]
    fn a_quote_that_a_header_opens_takes_neither_other_headers_nor_the_body_along() {
        let payload = b"ce-id: 1\nce-source: /x?password=\"open\nce-type: t\n\n{\"token\":\"s3cr3t\",\"a\":1}";
        let (clean, counts) = redact_payload(payload, &redactor());
        let (headers, body) = super::super::read_payload(&clean).expect("it stays a delivery");
        assert_eq!((&headers["ce-id"], &headers["ce-type"]), (&"1".parse().unwrap(), &"t".parse().unwrap()));
        assert!(headers["ce-source"].to_str().unwrap().starts_with("/x?password="), "{headers:?}");
        let clean = String::from_utf8_lossy(&clean);
        assert!(!clean.contains("open") && !clean.contains("s3cr3t"), "{clean}");
        assert!(body.ends_with(b"\"a\":1}"));
        assert_eq!(counts.iter().map(|count| count.n).sum::<u32>(), 2, "{counts:?}");
    }
}
