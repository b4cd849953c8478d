//! `kubectl get pods,replicasets -A -o json` becomes one [`Workload`] per object.
//!
//! A document is a Kubernetes list, an object of its own, or a list with the time of its taking around it:
//! `{"at":"2026-…Z","list":{…}}`. Lists do not say when they were taken (their `metadata.resourceVersion` is no
//! time), so without one it is when we received them, graded *inferred*.

mod stretches;

use model::{
    Fact, Grade, When,
    fact::Workload,
    workload::{ContainerImage, Owner},
};
use serde::Deserialize;
use serde_json::value::RawValue;
pub use stretches::{Envelope, Stretch, stretches};

use crate::{
    Context, Draft, Outcome,
    json::{List, Map, Str},
};

/// Parser and version, as written in entries.
pub const PARSER: &str = "k8s-objects/1";

/// Most objects of one list.
const OBJECTS: usize = 65_536;

/// Reads one document, or several one after another: the indented form of `kubectl`, or a document a line. Objects of
/// other kinds are passed over. What cannot be read ends the reading; what was read before it stays.
pub fn parse(document: &[u8], context: &Context<'_>, out: &mut Vec<Draft>) -> Outcome {
    let before = out.len();
    for document in serde_json::Deserializer::from_slice(document).into_iter::<&RawValue>() {
        let read = document.and_then(|raw| read(raw, None, context, out));
        match read {
            Ok(0) => {}
            Ok(omitted) => {
                let detail = format!("{omitted} objects beyond the first {OBJECTS} of one list were not read");
                return Outcome::Opaque("too_many", detail);
            }
            Err(error) => return Outcome::Opaque("not_a_kubernetes_list", error.to_string()),
        }
    }
    if out.len() > before { Outcome::Understood } else { Outcome::Passed }
}

/// Reads one document; `taken` is the time that stood around it. Says how many objects were left out.
fn read(raw: &RawValue, taken: Option<When>, context: &Context<'_>, out: &mut Vec<Draft>) -> serde_json::Result<u64> {
    let document: Document<'_> = serde_json::from_str(raw.get())?;
    let taken = taken.or_else(|| document.at.time().map(When::exact));
    if let Some(list) = document.list {
        // Only the list inside: nesting goes no further.
        return if taken.is_some() || document.kind.get().is_none() {
            read_list(list, taken, context, out)
        } else {
            Ok(0)
        };
    }
    read_list(raw, taken, context, out)
}

fn read_list(
    raw: &RawValue,
    taken: Option<When>,
    context: &Context<'_>,
    out: &mut Vec<Draft>,
) -> serde_json::Result<u64> {
    let taken = taken.unwrap_or(When { at: context.observed_at, within_ms: 0, zone: Grade::Inferred });
    let list: Objects<'_> = serde_json::from_str(raw.get())?;
    let Some(items) = list.items else {
        out.extend(workload(&serde_json::from_str(raw.get())?, list.kind.get(), taken));
        return Ok(0);
    };
    // The API server leaves `kind` out of the items of a `PodList`; kubectl writes it into those of a `List`.
    let kind = list.kind.get().and_then(|kind| kind.strip_suffix("List"));
    for item in &items.items {
        out.extend(workload(&serde_json::from_str(item.get())?, kind, taken));
    }
    Ok(items.omitted())
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    kind: Str<'a>,
    /// When the list was taken, beside `list`.
    #[serde(borrow, default)]
    at: Str<'a>,
    #[serde(borrow, default)]
    list: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Objects<'a> {
    #[serde(borrow, default)]
    kind: Str<'a>,
    #[serde(borrow, default)]
    items: Option<List<&'a RawValue, OBJECTS>>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    kind: Str<'a>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Spec<'a>,
    #[serde(borrow, default)]
    status: Status<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    namespace: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
    #[serde(borrow)]
    creation_timestamp: Str<'a>,
    #[serde(borrow)]
    deletion_timestamp: Str<'a>,
    #[serde(borrow)]
    labels: Map<'a, Str<'a>>,
    #[serde(borrow)]
    owner_references: List<OwnerReference<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnerReference<'a> {
    #[serde(borrow)]
    kind: Str<'a>,
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    uid: Str<'a>,
    controller: Option<bool>,
}

/// Of a pod, or of an owner: then the pod's is under `template.spec`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Str<'a>,
    #[serde(borrow)]
    service_account_name: Str<'a>,
    #[serde(borrow)]
    containers: List<Container<'a>>,
    #[serde(borrow)]
    init_containers: List<Container<'a>>,
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template<'a> {
    #[serde(borrow)]
    spec: TemplateSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TemplateSpec<'a> {
    #[serde(borrow)]
    service_account_name: Str<'a>,
    #[serde(borrow)]
    containers: List<Container<'a>>,
    #[serde(borrow)]
    init_containers: List<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow)]
    image: Str<'a>,
    /// `Always` makes an init container a sidecar.
    #[serde(borrow)]
    restart_policy: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status<'a> {
    #[serde(borrow)]
    phase: Str<'a>,
    #[serde(borrow, rename = "podIP")]
    pod_ip: Str<'a>,
    #[serde(borrow, rename = "podIPs")]
    pod_ips: List<PodIp<'a>>,
    #[serde(borrow, rename = "containerStatuses")]
    containers: List<ContainerStatus<'a>>,
    #[serde(borrow, rename = "initContainerStatuses")]
    init_containers: List<ContainerStatus<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodIp<'a> {
    #[serde(borrow)]
    ip: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(borrow, rename = "imageID")]
    image_id: Str<'a>,
}

fn workload(object: &Object<'_>, kind: Option<&str>, taken: When) -> Option<Draft> {
    let kind = object.kind.get().or(kind)?;
    if !matches!(kind, "Pod" | "ReplicaSet" | "Deployment" | "DaemonSet" | "StatefulSet") {
        return None;
    }
    let Object { metadata, spec, status, .. } = object;
    let owner = metadata.owner_references.items.iter().find(|owner| owner.controller == Some(true));
    let template = spec.template.as_ref().map(|template| &template.spec);
    let (account, containers, sidecars) = match template {
        Some(spec) => (&spec.service_account_name, &spec.containers, &spec.init_containers),
        None => (&spec.service_account_name, &spec.containers, &spec.init_containers),
    };
    let sidecars = sidecars.items.iter().filter(|container| container.restart_policy.get() == Some("Always"));
    let addresses: Vec<String> = status.pod_ips.items.iter().filter_map(|ip| ip.ip.owned()).collect();
    let fact = Workload {
        occurred: taken,
        kind: kind.to_owned(),
        namespace: metadata.namespace.owned()?,
        name: metadata.name.owned()?,
        uid: metadata.uid.owned()?,
        owner: owner.and_then(|owner| {
            Some(Owner { kind: owner.kind.owned()?, name: owner.name.owned()?, uid: owner.uid.owned()? })
        }),
        node: spec.node_name.owned(),
        addresses: if addresses.is_empty() { status.pod_ip.owned().into_iter().collect() } else { addresses },
        service_account: account.owned(),
        template_hash: metadata.labels.text("pod-template-hash").map(str::to_owned),
        images: containers.items.iter().chain(sidecars).filter_map(|container| image(container, status)).collect(),
        task_run: metadata.labels.text("tekton.dev/taskRun").map(str::to_owned),
        phase: status.phase.owned(),
        created: metadata.creation_timestamp.time(),
        deleted: metadata.deletion_timestamp.time(),
    };
    let mut cut = Vec::new();
    containers.cut("/workload/images", &mut cut);
    status.pod_ips.cut("/workload/addresses", &mut cut);
    Some(Draft { place: None, parser: PARSER, fact: Fact::Workload(fact), cut })
}

fn image(container: &Container<'_>, status: &Status<'_>) -> Option<ContainerImage> {
    let statuses = status.containers.items.iter().chain(&status.init_containers.items);
    let running = statuses.into_iter().find(|status| status.name.get() == container.name.get());
    let image = container.image.get()?;
    let digest = running.and_then(|status| digest(status.image_id.get()?)).or_else(|| digest(image));
    Some(ContainerImage {
        container: container.name.owned()?,
        image: image.to_owned(),
        digest: digest.map(str::to_owned),
    })
}

/// `sha256:…` at the end of an image reference or image id (`docker-pullable://name@sha256:…`, `sha256:…`).
pub(crate) fn digest(reference: &str) -> Option<&str> {
    let digest = &reference[reference.rfind("sha256:")?..];
    let hex = &digest["sha256:".len()..];
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digest)
}

#[cfg(test)]
mod tests {
    use model::{
        SourceId, Time,
        identity::{Declared, SourceKind},
    };

    use super::*;
    use crate::persons::Persons;

    fn read_text(document: &str) -> (Outcome, Vec<Workload>) {
        let source = SourceId {
            cluster: "default".into(),
            kind: SourceKind::K8sObjects,
            name: "t".into(),
            instance: String::new(),
        };
        let context = Context {
            source: &source,
            declared: &Declared::default(),
            zone: chrono_tz::UTC,
            observed_at: Time::from_seconds(9),
            persons: &Persons::new([1; 32]),
        };
        let mut drafts = Vec::new();
        let outcome = parse(document.as_bytes(), &context, &mut drafts);
        let workloads = drafts.into_iter().map(|draft| match draft.fact {
            Fact::Workload(workload) => workload,
            other => panic!("{other:?}"),
        });
        (outcome, workloads.collect())
    }

    const POD: &str = r#"{"metadata":{"namespace":"ci","name":"p","uid":"u","ownerReferences":[{"kind":"Node","name":"n","uid":"x"}]},
        "spec":{"containers":[{"name":"a","image":"i:1"}],"initContainers":[{"name":"init","image":"j"},{"name":"side","image":"k","restartPolicy":"Always"}]},
        "status":{"podIP":"10.0.0.1","containerStatuses":[{"name":"a","imageID":"docker-pullable://i@sha256:71bd657f1fefda6f7fed4d86842fe81ff46384de2df6bb20c9be8bdaf20dc77c"}]}}"#;

    #[test]
    fn a_list_without_a_time_was_taken_when_it_came() {
        let (outcome, pods) = read_text(&format!(r#"{{"kind":"PodList","items":[{POD}]}}"#));
        assert_eq!((outcome, pods.len()), (Outcome::Understood, 1));
        assert_eq!(pods[0].occurred, When { at: Time::from_seconds(9), within_ms: 0, zone: Grade::Inferred });
        assert_eq!(
            (pods[0].kind.as_str(), pods[0].owner.as_ref(), pods[0].addresses.as_slice()),
            ("Pod", None, ["10.0.0.1".to_owned()].as_slice())
        );
        let images: Vec<_> =
            pods[0].images.iter().map(|i| (i.container.as_str(), i.digest.as_deref().map(str::len))).collect();
        assert_eq!(images, [("a", Some(71)), ("side", None)]);
        let (_, again) =
            read_text(&format!(r#"{{"at":"2026-11-23T16:32:37.5Z","list":{{"kind":"PodList","items":[{POD}]}}}}"#));
        assert_eq!(again[0].occurred, When::exact(Time::parse("2026-11-23T16:32:37.5Z").unwrap()));
    }

    #[test]
    fn other_objects_are_passed_over_and_the_rest_is_said() {
        assert_eq!(
            read_text(r#"{"kind":"ConfigMap","metadata":{"namespace":"a","name":"b","uid":"c"}}"#).0,
            Outcome::Passed
        );
        assert_eq!(read_text(r#"{"kind":"List","items":null}"#).0, Outcome::Passed);
        let single = POD.replacen('{', r#"{"kind":"Pod","#, 1);
        let (outcome, pods) = read_text(&format!("{single}\n{single} nonsense"));
        assert!(matches!(outcome, Outcome::Opaque("not_a_kubernetes_list", _)) && pods.len() == 2);
        let many = format!(r#"{{"kind":"PodList","items":[{}]}}"#, vec!["{}"; OBJECTS + 2].join(","));
        let (outcome, _) = read_text(&many);
        assert_eq!(
            outcome,
            Outcome::Opaque("too_many", format!("2 objects beyond the first {OBJECTS} of one list were not read"))
        );
    }
}
