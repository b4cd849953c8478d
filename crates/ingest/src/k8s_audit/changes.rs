//! What a request changed, for the objects that we understand, as `path=value` lines.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Event;
use crate::json::{self, List, Map, Str};

/// Longest value written out; of a longer one, or one of several lines, the length is said.
const VALUE_BYTES: usize = 128;

/// Annotations and labels whose last part is one of these say what is deployed.
const TELLING: [&str; 7] = ["commit", "revision", "sha", "git-sha", "git-commit", "version", "restartedAt"];

/// The changes of one request; empty when the audit level does not show the request, or nothing in it is known.
pub(super) fn of(event: &Event<'_>, resource: &str) -> Vec<String> {
    let mut changes = Vec::new();
    if event.request_uri.get().is_some_and(|uri| uri.contains("dryRun=All")) {
        changes.push("dryRun=All".to_owned());
    }
    if let Some(id) = event.annotations.0.iter().find(|(key, _)| key.ends_with("/issued-credential-id")) {
        changes.extend(id.1.get().map(|id| format!("issued-credential-id={id}")));
    }
    if let Some(stale) = event.annotations.0.iter().find(|(key, _)| key.ends_with("/stale-token")) {
        changes.extend(stale.1.get().map(|stale| format!("stale-token={stale}")));
    }
    let Some(request) = event.request_object else { return changes };
    if request.get().starts_with('[') {
        json_patch(request, resource, &mut changes);
    } else if let Ok(object) = serde_json::from_str::<Object<'_>>(request.get()) {
        object.changes(resource, &mut changes);
    }
    changes
}

/// RFC 6902.
fn json_patch(request: &RawValue, resource: &str, changes: &mut Vec<String>) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Operation<'a> {
        #[serde(borrow)]
        op: Str<'a>,
        #[serde(borrow)]
        path: Str<'a>,
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    let Ok(operations) = serde_json::from_str::<List<Operation<'_>>>(request.get()) else { return };
    for operation in &operations.items {
        let (Some(op), Some(path)) = (operation.op.get(), operation.path.get()) else { continue };
        if path.ends_with("/managedFields") || op == "test" {
            continue;
        }
        if operation.value.is_some_and(|value| whole(path, value, resource, changes)) {
            continue;
        }
        let path = path.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
        match operation.value {
            _ if op == "remove" => changes.push(format!("{path} removed")),
            // A container by its place, since a JSON patch does not say its name.
            Some(value) if path.strip_suffix(".image").is_some() => {
                let place = path.rsplit('.').nth(1).unwrap_or_default();
                push(changes, &format!("image #{place}"), value);
            }
            Some(value) if path.ends_with("statusMessage") => {
                changes.push(format!("{path}=({} bytes)", value.get().len()));
            }
            Some(value) => push(changes, &path, value),
            None => changes.push(format!("{path} {op}")),
        }
    }
}

/// An operation that replaces a whole part of the object is read like that part of a merge patch.
fn whole(path: &str, value: &RawValue, resource: &str, changes: &mut Vec<String>) -> bool {
    let value = value.get();
    let object = match path {
        "/metadata/labels" => format!(r#"{{"metadata":{{"labels":{value}}}}}"#),
        "/metadata/annotations" => format!(r#"{{"metadata":{{"annotations":{value}}}}}"#),
        "/spec" => format!(r#"{{"spec":{value}}}"#),
        "/spec/template" => format!(r#"{{"spec":{{"template":{value}}}}}"#),
        "/spec/template/spec" => format!(r#"{{"spec":{{"template":{{"spec":{value}}}}}}}"#),
        "/data" => format!(r#"{{"data":{value}}}"#),
        _ => return false,
    };
    serde_json::from_str::<Object<'_>>(&object).is_ok_and(|object| {
        object.changes(resource, changes);
        true
    })
}

/// `path=value`, or the length of a value that is too long or has a structure.
fn push(changes: &mut Vec<String>, path: &str, value: &RawValue) {
    let text = json::string(value);
    let text = text.as_deref().unwrap_or_else(|| value.get());
    if text.len() <= VALUE_BYTES && !text.contains('\n') {
        changes.push(format!("{path}={text}"));
    } else {
        changes.push(format!("{path}=({} bytes)", text.len()));
    }
}

/// A whole object, or a merge patch of one: what is there was set.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(borrow)]
    data: Map<'a, &'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    labels: Map<'a, Str<'a>>,
    #[serde(borrow)]
    annotations: Map<'a, Str<'a>>,
}

/// Of runs, workloads, pods, token requests.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    status: Str<'a>,
    #[serde(borrow)]
    status_message: Str<'a>,
    #[serde(borrow)]
    replicas: Option<&'a RawValue>,
    #[serde(borrow)]
    service_account_name: Str<'a>,
    #[serde(borrow)]
    task_run_template: AccountOnly<'a>,
    #[serde(borrow)]
    containers: List<Container<'a>>,
    #[serde(borrow)]
    template: Template<'a>,
    #[serde(borrow)]
    bound_object_ref: Bound<'a>,
    #[serde(borrow)]
    audiences: List<Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AccountOnly<'a> {
    #[serde(borrow)]
    service_account_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: PodSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec<'a> {
    #[serde(borrow)]
    service_account_name: Str<'a>,
    #[serde(borrow)]
    containers: List<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    image: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Bound<'a> {
    #[serde(borrow)]
    kind: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
}

impl Object<'_> {
    fn changes(&self, resource: &str, changes: &mut Vec<String>) {
        let spec = &self.spec;
        let mut text = |path: &str, value: &Str<'_>| {
            if let Some(value) = value.get() {
                changes.push(format!("{path}={value}"));
            }
        };
        text("spec.status", &spec.status);
        text("serviceAccountName", &spec.service_account_name);
        text("serviceAccountName", &spec.task_run_template.service_account_name);
        text("serviceAccountName", &spec.template.spec.service_account_name);
        if let Some(message) = spec.status_message.get() {
            // Free text, often with a person's name; it is in the payload.
            changes.push(format!("spec.statusMessage=({} bytes)", message.len()));
        }
        for container in spec.containers.items.iter().chain(&spec.template.spec.containers.items) {
            if let (Some(name), Some(image)) = (container.name.get(), container.image.get()) {
                changes.push(format!("image {name}={image}"));
            }
        }
        if let Some(replicas) = spec.replicas {
            push(changes, "spec.replicas", replicas);
        }
        if let (Some(kind), Some(name)) = (spec.bound_object_ref.kind.get(), spec.bound_object_ref.name.get()) {
            let uid = spec.bound_object_ref.uid.get().unwrap_or_default();
            changes.push(format!("bound {kind}={name} {uid}").trim_end().to_owned());
        }
        changes.extend(spec.audiences.items.iter().filter_map(Str::get).map(|audience| format!("audience={audience}")));
        for (path, metadata) in [("", &self.metadata), ("template ", &spec.template.metadata)] {
            for (what, map) in [("label", &metadata.labels), ("annotation", &metadata.annotations)] {
                for (key, value) in &map.0 {
                    let telling = key.rsplit('/').next().is_some_and(|last| TELLING.contains(&last));
                    if let (true, Some(value)) = (telling, value.get()) {
                        changes.push(format!("{path}{what} {key}={value}"));
                    }
                }
            }
        }
        // A secret's data has the same shape and is nobody's business.
        if resource == "configmaps" {
            for (key, value) in &self.data.0 {
                push(changes, &format!("data.{key}"), value);
            }
        }
    }
}
