//! Events of an EventListener (tektoncd/triggers `pkg/sink`, `pkg/reconciler/events`). Their data are the headers of
//! the request that it handled, in clear: of the values only those of a list of harmless ones are kept.

use model::{
    Fact,
    run::{Envelope, Trigger},
};

use super::PARSER;
use crate::{
    Draft,
    json::{List, Map, Str},
};

/// Headers whose values say what kind of request it was and nothing about who may make one.
const HARMLESS: [&str; 22] = [
    "accept",
    "accept-encoding",
    "ce-id",
    "ce-source",
    "ce-specversion",
    "ce-subject",
    "ce-time",
    "ce-type",
    "content-length",
    "content-type",
    "traceparent",
    "user-agent",
    "x-event-key",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-gitea-event",
    "x-github-delivery",
    "x-github-event",
    "x-github-hook-id",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-request-id",
];

/// Longest value kept.
const VALUE_BYTES: usize = 256;

pub(super) fn read(state: &str, event: Envelope, data: &[u8]) -> Result<Draft, (&'static str, String)> {
    // `done` and some `failed` events carry `null`, or nothing at all.
    let headers: Map<'_, List<Str<'_>>> = match data.trim_ascii() {
        b"" => Map::default(),
        data => serde_json::from_slice(data).map_err(|error| ("not_headers", error.to_string()))?,
    };
    let mut kept: Vec<(String, Option<String>)> =
        headers.0.iter().map(|(name, values)| (name.clone().into_owned(), value(name, values))).collect();
    kept.sort_unstable();
    let (namespace, listener) = listener(&event);
    let trigger =
        Trigger { state: state.to_owned(), event_id: event.id.clone(), namespace, listener, headers: kept, event };
    Ok(Draft { place: None, parser: PARSER, fact: Fact::Trigger(trigger), cut: Vec::new() })
}

fn value(name: &str, values: &List<Str<'_>>) -> Option<String> {
    if !HARMLESS.iter().any(|harmless| name.eq_ignore_ascii_case(harmless)) {
        return None;
    }
    let value = values.items.iter().filter_map(Str::get).collect::<Vec<_>>().join(", ");
    (value.len() <= VALUE_BYTES).then_some(value)
}

/// Namespace and name from the source, which has at least two forms for one EventListener
/// (`/apis//v1beta1/namespaces/ci/EventListener/hooks`, `/apis///namespaces/ci//hooks`); the name also begins the
/// subject (`hooks processing <id>`).
fn listener(event: &Envelope) -> (Option<String>, Option<String>) {
    let text = |part: &str| (!part.is_empty()).then(|| part.to_owned());
    let path = event.source.split_once("namespaces/").map(|(_, rest)| rest);
    let namespace = path.and_then(|rest| text(rest.split('/').next()?));
    let name = path.and_then(|rest| text(rest.rsplit_once('/')?.1));
    let subject = || text(event.subject.as_deref()?.split_once(" processing ")?.0);
    (namespace, name.or_else(subject))
}
