//! Lines of the Kubernetes audit log (`audit.k8s.io/v1`) become [`Action`]s: who did what to which object.
//!
//! What matters is kept: requests that change something, at the stage at which their answer is known, refused ones
//! too. Everything else is passed over: reads, the heartbeat traffic of the cluster (leases, events, reviews), and
//! status updates that controllers write all the time.

mod changes;

use model::{Fact, When, action::BoundPod, fact::Action, identity::Actor};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Context, Draft, Outcome, PersonSeen,
    json::{List, Map, Str},
};

/// Parser and version, as written in entries.
pub const PARSER: &str = "k8s-audit/1";

/// Reads one line: an `Event`, or the `EventList` that an audit webhook posts.
pub fn parse(line: &[u8], context: &Context<'_>, out: &mut Vec<Draft>, persons: &mut Vec<PersonSeen>) -> Outcome {
    let envelope: Envelope<'_> = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(error) => return Outcome::Opaque("not_json", error.to_string()),
    };
    if !envelope.api_version.get().is_some_and(|version| version.starts_with("audit.k8s.io/")) {
        return Outcome::Opaque("not_a_line_of_this_format", "no object of audit.k8s.io".into());
    }
    match (envelope.kind.get(), &envelope.items) {
        (Some("Event"), _) => match serde_json::from_slice::<Event<'_>>(line) {
            Ok(event) => keep(&event, context, out, persons),
            Err(error) => Outcome::Opaque("not_a_line_of_this_format", error.to_string()),
        },
        (Some("EventList"), Some(items)) => {
            let mut outcome = Outcome::Passed;
            for item in &items.items {
                match serde_json::from_str::<Event<'_>>(item.get()) {
                    Ok(event) => {
                        if keep(&event, context, out, persons) == Outcome::Understood {
                            outcome = Outcome::Understood;
                        }
                    }
                    Err(error) => return Outcome::Opaque("not_a_line_of_this_format", error.to_string()),
                }
            }
            match items.omitted() {
                0 => outcome,
                omitted => Outcome::Opaque("too_many", format!("{omitted} events of one list were not read")),
            }
        }
        _ => Outcome::Opaque("not_a_line_of_this_format", "neither Event nor EventList".into()),
    }
}

/// What tells the two forms apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    kind: Str<'a>,
    #[serde(borrow, default)]
    api_version: Str<'a>,
    #[serde(borrow, default)]
    items: Option<List<&'a RawValue, 65_536>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event<'a> {
    #[serde(borrow, rename = "auditID")]
    audit_id: Str<'a>,
    #[serde(borrow)]
    stage: Str<'a>,
    #[serde(borrow)]
    verb: Str<'a>,
    #[serde(borrow, rename = "requestURI")]
    request_uri: Str<'a>,
    #[serde(borrow)]
    user: User<'a>,
    #[serde(borrow)]
    impersonated_user: Option<User<'a>>,
    #[serde(borrow)]
    object_ref: Option<ObjectRef<'a>>,
    #[serde(borrow)]
    response_status: Option<ResponseStatus<'a>>,
    #[serde(borrow)]
    request_object: Option<&'a RawValue>,
    #[serde(borrow)]
    response_object: Option<ResponseObject<'a>>,
    #[serde(borrow)]
    request_received_timestamp: Str<'a>,
    #[serde(borrow)]
    stage_timestamp: Str<'a>,
    #[serde(borrow)]
    annotations: Map<'a, Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User<'a> {
    #[serde(borrow)]
    username: Str<'a>,
    #[serde(borrow)]
    groups: List<Str<'a>>,
    #[serde(borrow)]
    extra: Map<'a, List<Str<'a>>>,
}

impl User<'_> {
    /// The first value of an extra attribute, in the spelling since Kubernetes 1.30 or the one before.
    fn extra(&self, name: &str) -> Option<String> {
        ["authentication.kubernetes.io/", "authentication.k8s.io/"].iter().find_map(|prefix| {
            self.extra.0.iter().find(|(key, _)| key.strip_prefix(prefix) == Some(name))?.1.items.first()?.owned()
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef<'a> {
    #[serde(borrow)]
    resource: Str<'a>,
    #[serde(borrow)]
    subresource: Str<'a>,
    #[serde(borrow)]
    namespace: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
    #[serde(borrow)]
    api_group: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus<'a> {
    code: Option<u16>,
    #[serde(borrow)]
    message: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseObject<'a> {
    #[serde(borrow)]
    kind: Str<'a>,
    #[serde(borrow)]
    metadata: ResponseMetadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseMetadata<'a> {
    #[serde(borrow)]
    namespace: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
}

/// Makes an [`Action`] of an event that matters.
fn keep(event: &Event<'_>, context: &Context<'_>, out: &mut Vec<Draft>, persons: &mut Vec<PersonSeen>) -> Outcome {
    let Some(object) = &event.object_ref else {
        return Outcome::Passed; // a path that is no resource, such as /healthz
    };
    let (Some(verb), Some(resource)) = (event.verb.get(), object.resource.get()) else {
        return Outcome::Passed;
    };
    let person = !event.user.username.get().unwrap_or_default().starts_with("system:");
    if !matters(event, object, verb, resource, person) {
        return Outcome::Passed;
    }
    let Some(at) = event.request_received_timestamp.time().or_else(|| event.stage_timestamp.time()) else {
        return Outcome::Opaque("not_a_line_of_this_format", "an audit event without a time".into());
    };
    // The answer is the object itself, but for refusals and for deletes, whose answer is a Status.
    let answer = event.response_object.as_ref().filter(|answer| answer.kind.get() != Some("Status"));
    let metadata = answer.map(|answer| &answer.metadata);
    let own = object.subresource.get().is_none().then_some(metadata).flatten();
    let status = event.response_status.as_ref();
    let code = status.and_then(|status| status.code);
    let fact = Action {
        occurred: When::exact(at),
        verb: verb.to_owned(),
        group: object.api_group.owned().unwrap_or_default(),
        resource: resource.to_owned(),
        subresource: object.subresource.owned(),
        namespace: object.namespace.owned().or_else(|| own?.namespace.owned()),
        name: object.name.owned().or_else(|| own?.name.owned()),
        uid: object.uid.owned().or_else(|| own?.uid.owned()),
        actor: actor(&event.user, context, persons),
        impersonated: event.impersonated_user.as_ref().map(|user| actor(user, context, persons)),
        groups: event
            .user
            .groups
            .items
            .iter()
            .filter_map(Str::owned)
            .filter(|group| !group.starts_with("system:"))
            .collect(),
        pod: pod(&event.user),
        credential_id: event.user.extra("credential-id"),
        status: code,
        refusal: status
            .filter(|_| code.is_some_and(|code| code >= 400))
            .and_then(|status| refusal(event, status, context)),
        changes: changes::of(event, resource),
        audit_id: event.audit_id.owned().unwrap_or_default(),
        stage: event.stage.owned().unwrap_or_default(),
    };
    out.push(Draft { place: None, parser: PARSER, fact: Fact::Action(fact), cut: Vec::new() });
    Outcome::Understood
}

/// Changes something that an auditor or the correlator asks about.
fn matters(event: &Event<'_>, object: &ObjectRef<'_>, verb: &str, resource: &str, person: bool) -> bool {
    let answered = matches!(event.stage.get(), Some("ResponseComplete" | "Panic"));
    let mutating = matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
    if !answered || !mutating {
        return false;
    }
    let noise = matches!(
        (object.api_group.get().unwrap_or_default(), resource),
        ("coordination.k8s.io", "leases")
            | ("" | "events.k8s.io", "events")
            | ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "subjectaccessreviews"
                    | "localsubjectaccessreviews"
                    | "selfsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
            )
            | ("", "endpoints")
            | ("discovery.k8s.io", "endpointslices")
    );
    let housekeeping = matches!(object.subresource.get(), Some("status" | "binding" | "finalizers"));
    !noise && (person || !housekeeping)
}

/// Who a user is, by the form of the name that the API server authenticated.
fn actor(user: &User<'_>, context: &Context<'_>, persons: &mut Vec<PersonSeen>) -> Actor {
    let name = user.username.get().unwrap_or_default();
    if let Some((namespace, name)) = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        return Actor::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
    }
    if let Some(name) = name.strip_prefix("system:node:") {
        return Actor::Node { name: name.to_owned() };
    }
    if name.is_empty() || name.starts_with("system:") {
        return Actor::System { name: name.to_owned() };
    }
    let person = context.persons.reference(name);
    persons.push((person.clone(), name.to_owned()));
    Actor::Person { person }
}

/// The answer's message, which quotes the user of a request that is not allowed: by reference here.
fn refusal(event: &Event<'_>, status: &ResponseStatus<'_>, context: &Context<'_>) -> Option<String> {
    let users = [Some(&event.user), event.impersonated_user.as_ref()];
    users.into_iter().flatten().filter_map(|user| user.username.get()).fold(status.message.owned(), |message, name| {
        let message = message?;
        Some(if name.starts_with("system:") {
            message
        } else {
            message.replace(name, &context.persons.reference(name).0)
        })
    })
}

/// The pod that the token is bound to; it runs in the namespace of the service account.
fn pod(user: &User<'_>) -> Option<BoundPod> {
    let account = user.username.get()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, _) = account.split_once(':')?;
    Some(BoundPod { namespace: namespace.to_owned(), name: user.extra("pod-name")?, uid: user.extra("pod-uid") })
}

#[cfg(test)]
mod tests;
