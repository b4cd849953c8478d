//! CDEvents (cdevents.dev, specification 0.3 to 0.5): the data of a `dev.cdevents.…` event say what happened to an
//! artifact, a service, an environment, an approval, an incident.

use std::collections::BTreeMap;

use model::{Fact, Time, When, fact::Change, run::Envelope};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Context, Draft, PersonSeen,
    json::{self, Map, Str},
    tekton::without_credentials,
};

/// Parser and version, as written in entries.
const PARSER: &str = "cdevents/1";

/// Members of the content that name a person.
const PERSONS: [&str; 11] = [
    "actor",
    "approver",
    "assignee",
    "author",
    "creator",
    "owner",
    "reporter",
    "requester",
    "responder",
    "user",
    "username",
];

/// 0.4 calls the version of the specification `context.version`, 0.5 `context.specversion`; neither is needed.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    context: EventContext<'a>,
    #[serde(borrow)]
    subject: Subject<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventContext<'a> {
    #[serde(borrow, default)]
    chain_id: Str<'a>,
    #[serde(borrow, default, rename = "type")]
    event_type: Str<'a>,
    #[serde(borrow, default)]
    timestamp: Str<'a>,
}

#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow, default)]
    id: Str<'a>,
    #[serde(borrow, default)]
    content: Map<'a, &'a RawValue>,
}

pub(super) fn read(
    envelope: &Envelope,
    data: &[u8],
    context: &Context<'_>,
    persons: &mut Vec<PersonSeen>,
) -> Result<Draft, (&'static str, String)> {
    let event: Event<'_> = serde_json::from_slice(data).map_err(|error| ("not_a_cdevent", error.to_string()))?;
    let subject = event.subject.id.owned().or_else(|| envelope.subject.clone());
    let subject = subject.ok_or_else(|| ("not_a_cdevent", "the subject has no id".to_owned()))?;
    let mut content = BTreeMap::new();
    for (name, raw) in &event.subject.content.0 {
        let Some(value) = plain(raw) else { continue };
        let value = if PERSONS.contains(&name.as_ref()) {
            let person = context.persons.reference(&value);
            persons.push((person.clone(), value));
            person.0
        } else {
            without_credentials(&value)
        };
        content.insert(name.clone().into_owned(), value);
    }
    let change = Change {
        occurred: event.context.timestamp.time().or(envelope.time).map(when),
        what: what(event.context.event_type.get().unwrap_or(&envelope.kind)).to_owned(),
        subject,
        chain_id: event.context.chain_id.owned(),
        content,
    };
    Ok(Draft { place: None, parser: PARSER, fact: Fact::Change(change), cut: Vec::new() })
}

fn when(at: Time) -> When {
    if at.millis() % 1000 == 0 { When::second(at) } else { When::exact(at) }
}

/// A string, or the id of an object that stands for another subject (`"environment":{"id":"prod"}`).
fn plain(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Reference<'a> {
        #[serde(borrow, default)]
        id: Str<'a>,
    }
    if let Some(text) = json::string(raw) {
        return Some(text.into_owned());
    }
    let reference: Reference<'_> = serde_json::from_str(raw.get()).ok()?;
    reference.id.owned()
}

/// `dev.cdevents.service.deployed.0.3.0` is `service.deployed`.
fn what(event_type: &str) -> &str {
    let name = event_type.strip_prefix("dev.cdevents.").unwrap_or(event_type);
    let version = name.match_indices('.').find(|(at, _)| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    version.map_or(name, |(at, _)| &name[..at])
}
