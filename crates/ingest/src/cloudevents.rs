//! Deliveries of CloudEvents over HTTP become drafts, whatever arrives.
//!
//! A sender is never told that its event is wrong: Tekton gives an event up at once on almost any 4xx
//! (`pkg/reconciler/events/cloudevent`), so what cannot be understood is kept as [`Opaque`] with a reason, and
//! answered like the rest. The three content modes of the CloudEvents HTTP binding are read (binary, structured,
//! batch), with the header names of HTTP (`ce-`) and of Kafka (`ce_`).

mod cdevents;
mod payload;
mod recorded;
mod redact;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudevents::event::SpecVersion;
use http::{HeaderMap, header::CONTENT_TYPE};
use model::{Fact, Time, fact::Opaque, run::Envelope};
use serde::Deserialize;
use serde_json::value::RawValue;

pub use payload::{payload, read_payload};
pub use recorded::parse;
pub use redact::{redact_payload, redact_recorded};

use crate::{
    Context, Draft, PersonSeen,
    json::{self, List, Str},
    tekton,
};

/// Parser and version of deliveries that no other parser takes.
pub const PARSER: &str = "cloudevents/1";

/// Most events of one batch.
pub const BATCH_EVENTS: usize = 1024;

/// Longest detail of an [`Opaque`], in bytes.
const DETAIL_BYTES: usize = 256;

/// Reads one delivery. Adds at least one draft, never fails.
///
/// Reasons of [`Opaque`] facts: `no_envelope` (no event, or a required attribute is missing), `unknown_specversion`,
/// `unknown_type` (a valid event that nobody reads), `not_json`, `not_a_run`, `no_object`, `not_headers`,
/// `not_a_cdevent` (the data are not what the type says), `empty_batch`, `too_many`.
pub fn read(
    headers: &HeaderMap,
    body: &[u8],
    context: &Context<'_>,
    out: &mut Vec<Draft>,
    persons: &mut Vec<PersonSeen>,
) {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let mut delivery = Delivery { context, out, persons };
    let binary = Attributes::of_headers(headers);
    if media_type.eq_ignore_ascii_case("application/cloudevents-batch+json") {
        delivery.batch(body);
    } else if media_type.eq_ignore_ascii_case("application/cloudevents+json") || binary.is_empty() {
        // Also without the content type: some senders write `application/json` over a structured event.
        delivery.structured(body);
    } else {
        delivery.event(&binary, body, body);
    }
}

/// Where the drafts of one delivery go.
struct Delivery<'d, 'c> {
    context: &'d Context<'c>,
    out: &'d mut Vec<Draft>,
    persons: &'d mut Vec<PersonSeen>,
}

impl Delivery<'_, '_> {
    fn batch(&mut self, body: &[u8]) {
        let batch: List<&RawValue, BATCH_EVENTS> = match serde_json::from_slice(body) {
            Ok(batch) => batch,
            Err(error) => return self.opaque("not_json", &error.to_string(), None, body),
        };
        for event in &batch.items {
            self.structured(event.get().as_bytes());
        }
        if batch.items.is_empty() {
            self.opaque("empty_batch", "", None, body);
        }
        if batch.omitted() > 0 {
            let detail = format!("{} events beyond the first {BATCH_EVENTS} of the batch", batch.omitted());
            self.opaque("too_many", &detail, None, b"");
        }
    }

    fn structured(&mut self, text: &[u8]) {
        let event: Structured<'_> = match serde_json::from_slice(text) {
            Ok(event) => event,
            // A JSON text that is no object has no envelope; anything else is no JSON.
            Err(error) if error.is_data() => return self.opaque("no_envelope", &error.to_string(), None, text),
            Err(error) => return self.opaque("not_json", &error.to_string(), None, text),
        };
        let in_base64 = event.datacontentencoding.get() == Some("base64");
        let encoded = match (&event.data_base64.0, event.data) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(data)) if in_base64 => json::string(data),
            _ => None,
        };
        let data = match (encoded, event.data) {
            (Some(text), _) => match STANDARD.decode(text.as_bytes()) {
                Ok(data) => Cow::Owned(data),
                Err(error) => {
                    return self.opaque("not_base64", &error.to_string(), event.event_type.get(), text.as_bytes());
                }
            },
            (None, Some(data)) => Cow::Borrowed(data.get().as_bytes()),
            (None, None) => Cow::Borrowed(b"".as_slice()),
        };
        let attributes = Attributes {
            specversion: event.specversion.0,
            id: event.id.0,
            source: event.source.0,
            event_type: event.event_type.0,
            subject: event.subject.0,
            time: event.time.0,
        };
        self.event(&attributes, &data, text);
    }

    /// One event: its attributes, its data, and the text to show the beginning of when it is not understood.
    fn event(&mut self, attributes: &Attributes<'_>, data: &[u8], text: &[u8]) {
        let event_type = attributes.event_type.as_deref().filter(|text| !text.is_empty());
        let envelope = match attributes.envelope() {
            Ok(envelope) => envelope,
            Err((reason, detail)) => return self.opaque(reason, &detail, event_type, text),
        };
        let event_type = envelope.kind.clone();
        let read = if let Some(known) = tekton::EventType::parse(&event_type) {
            tekton::read(known, envelope, data, self.context, self.persons)
        } else if event_type.starts_with("dev.cdevents.") {
            cdevents::read(&envelope, data, self.context, self.persons)
        } else {
            Err(("unknown_type", String::new()))
        };
        match read {
            Ok(draft) => self.out.push(draft),
            Err((reason, detail)) => self.opaque(reason, &detail, Some(&event_type), text),
        }
    }

    fn opaque(&mut self, reason: &str, detail: &str, event_type: Option<&str>, text: &[u8]) {
        let short = |text: &str| text[..text.floor_char_boundary(DETAIL_BYTES)].to_owned();
        let fact = Fact::Opaque(Opaque {
            reason: reason.to_owned(),
            detail: short(detail),
            event_type: event_type.map(short),
            head: json::head(text),
        });
        self.out.push(Draft { place: None, parser: PARSER, fact, cut: Vec::new() });
    }
}

/// An event in JSON format.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Structured<'a> {
    #[serde(borrow)]
    specversion: Str<'a>,
    #[serde(borrow)]
    id: Str<'a>,
    #[serde(borrow)]
    source: Str<'a>,
    #[serde(borrow, rename = "type")]
    event_type: Str<'a>,
    #[serde(borrow)]
    subject: Str<'a>,
    #[serde(borrow)]
    time: Str<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Str<'a>,
    /// CloudEvents 0.3.
    #[serde(borrow)]
    datacontentencoding: Str<'a>,
}

/// The context attributes that we read.
#[derive(Default)]
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    event_type: Option<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
}

impl<'a> Attributes<'a> {
    /// From `ce-…` and `ce_…` headers; of a header given twice the first counts.
    fn of_headers(headers: &'a HeaderMap) -> Self {
        let mut attributes = Self::default();
        for (name, value) in headers {
            let name = name.as_str(); // in lower case
            let Some(name) = name.strip_prefix("ce-").or_else(|| name.strip_prefix("ce_")) else { continue };
            // Extensions are in the payload; the specification's own names are those of the SDK.
            if !SpecVersion::V10.attribute_names().contains(&name) {
                continue;
            }
            let slot = match name {
                "specversion" => &mut attributes.specversion,
                "id" => &mut attributes.id,
                "source" => &mut attributes.source,
                "type" => &mut attributes.event_type,
                "subject" => &mut attributes.subject,
                "time" => &mut attributes.time,
                _ => continue,
            };
            slot.get_or_insert_with(|| header_text(value.as_bytes()));
        }
        attributes
    }

    /// No attribute that makes a delivery one of binary mode.
    fn is_empty(&self) -> bool {
        [&self.specversion, &self.id, &self.source, &self.event_type].into_iter().all(Option::is_none)
    }

    /// The envelope of a valid event; else which required attribute is missing.
    fn envelope(&self) -> Result<Envelope, (&'static str, String)> {
        if self.is_empty() {
            return Err(("no_envelope", "neither attributes in headers nor a structured event".to_owned()));
        }
        let required = |name: &str, value: &Option<Cow<'_, str>>| match value.as_deref() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            Some(_) => Err(("no_envelope", format!("attribute {name} is empty"))),
            None => Err(("no_envelope", format!("attribute {name} is missing"))),
        };
        let version = required("specversion", &self.specversion)?;
        SpecVersion::try_from(version.as_str()).map_err(|error| ("unknown_specversion", error.to_string()))?;
        Ok(Envelope {
            id: required("id", &self.id)?,
            source: required("source", &self.source)?,
            kind: required("type", &self.event_type)?,
            subject: self.subject.as_deref().map(str::to_owned),
            time: self.time.as_deref().and_then(Time::parse),
        })
    }
}

/// A header's value as text: percent-encoded UTF-8 (HTTP binding 3.1.3.2); what is not stays as it is.
fn header_text(value: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'%', value).is_some()
        && let Ok(text) = percent_encoding::percent_decode(value).decode_utf8()
    {
        return text;
    }
    String::from_utf8_lossy(value)
}

#[cfg(test)]
mod tests;
