use model::{
    SourceId, Time,
    identity::{Declared, SourceKind},
};

use super::*;
use crate::persons::Persons;

fn read(line: &str) -> (Outcome, Vec<Action>, Vec<PersonSeen>) {
    let source =
        SourceId { cluster: "default".into(), kind: SourceKind::K8sAudit, name: "t".into(), instance: String::new() };
    let context = Context {
        source: &source,
        declared: &Declared::default(),
        zone: chrono_tz::UTC,
        observed_at: Time::from_seconds(0),
        persons: &Persons::new([1; 32]),
    };
    let (mut drafts, mut persons) = (Vec::new(), Vec::new());
    let outcome = parse(line.as_bytes(), &context, &mut drafts, &mut persons);
    let actions = drafts.into_iter().map(|draft| match draft.fact {
        Fact::Action(action) => action,
        other => panic!("{other:?}"),
    });
    (outcome, actions.collect(), persons)
}

/// An event of a user about an object, with more members.
fn event(user: &str, verb: &str, object: &str, more: &str) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a-1","stage":"ResponseComplete","verb":"{verb}",
        "user":{{"username":"{user}","groups":["dev","system:authenticated"]}},"objectRef":{{{object}}},
        "requestReceivedTimestamp":"2026-11-23T15:12:01.509162Z"{more}}}"#
    )
}

const RUN: &str = r#""resource":"pipelineruns","namespace":"ci","name":"r","apiGroup":"tekton.dev""#;

fn only(line: &str) -> Action {
    let (outcome, mut actions, _) = read(line);
    assert_eq!((outcome, actions.len()), (Outcome::Understood, 1), "{line}");
    actions.remove(0)
}

#[test]
fn reads_noise_and_housekeeping_are_passed_over() {
    let controller = "system:serviceaccount:tekton-pipelines:controller";
    for (user, verb, object) in [
        ("alice", "get", RUN),
        ("alice", "watch", RUN),
        ("system:node:n", "update", r#""resource":"leases","apiGroup":"coordination.k8s.io""#),
        ("system:node:n", "create", r#""resource":"events""#),
        ("system:apiserver", "create", r#""resource":"subjectaccessreviews","apiGroup":"authorization.k8s.io""#),
        ("system:serviceaccount:s:s", "create", r#""resource":"tokenreviews","apiGroup":"authentication.k8s.io""#),
        (controller, "update", r#""resource":"taskruns","subresource":"status","apiGroup":"tekton.dev""#),
        ("system:kube-scheduler", "create", r#""resource":"pods","subresource":"binding""#),
    ] {
        assert_eq!(read(&event(user, verb, object, "")), (Outcome::Passed, vec![], vec![]), "{verb} {object}");
    }
    let early = event("alice", "create", RUN, "").replace("ResponseComplete", "RequestReceived");
    assert_eq!(read(&early).0, Outcome::Passed);
    // A person who writes a status is worth an entry, and so are tokens and evictions by anybody.
    only(&event("alice", "patch", r#""resource":"taskruns","subresource":"status","apiGroup":"tekton.dev""#, ""));
    only(&event("system:node:n", "create", r#""resource":"serviceaccounts","subresource":"token""#, ""));
    only(&event("system:kube-scheduler", "create", r#""resource":"pods","subresource":"eviction""#, ""));
}

#[test]
fn actors_by_the_form_of_their_names() {
    let system = |name: &str| Actor::System { name: name.into() };
    let account = Actor::ServiceAccount { namespace: "ci".into(), name: "deployer".into() };
    for (user, actor) in [
        ("system:serviceaccount:ci:deployer", account),
        ("system:node:node-1", Actor::Node { name: "node-1".into() }),
        ("system:kube-controller-manager", system("system:kube-controller-manager")),
        ("system:anonymous", system("system:anonymous")),
        ("", system("")),
    ] {
        assert_eq!(only(&event(user, "delete", RUN, "")).actor, actor);
    }
    let impersonated = r#","impersonatedUser":{"username":"bob@example.com"}"#;
    let (_, actions, persons) = read(&event("alice@example.com", "delete", RUN, impersonated));
    let values: Vec<&str> = persons.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["alice@example.com", "bob@example.com"]);
    assert_eq!(actions[0].groups, ["dev"]);
    assert!(!serde_json::to_string(&actions).unwrap().contains("example.com"));
}

#[test]
fn a_refusal_says_why_and_names_nobody() {
    let answer = r#","responseStatus":{"code":403,"message":"User \"alice@example.com\" cannot create"},
        "responseObject":{"kind":"Status","metadata":{"name":"not-the-object"}}"#;
    let action = only(&event("alice@example.com", "create", &RUN.replace(r#","name":"r""#, ""), answer));
    assert_eq!((action.status, action.name), (Some(403), None));
    let refusal = action.refusal.unwrap();
    assert!(refusal.starts_with("User \"p-") && !refusal.contains("alice"), "{refusal}");
}

#[test]
fn changes_in_every_kind_of_patch() {
    for (request, changes) in [
        (
            r#"{"spec":{"status":"Cancelled","statusMessage":"stopped by bob"}}"#,
            &["spec.status=Cancelled", "spec.statusMessage=(14 bytes)"][..],
        ),
        (
            r#"[{"op":"replace","path":"/spec/status","value":"StoppedRunFinally"},{"op":"remove","path":"/metadata/labels/a~1b"}]"#,
            &["spec.status=StoppedRunFinally", "metadata.labels.a/b removed"],
        ),
        (
            r#"[{"op":"replace","path":"/spec/template","value":{"spec":{"containers":[{"name":"app","image":"i@sha256:1"}]}}}]"#,
            &["image app=i@sha256:1"],
        ),
        (r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"i:2"}]"#, &["image #0=i:2"]),
        (
            r#"{"spec":{"replicas":3,"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-11-23T15:00:00Z","other":"x"}}}}}"#,
            &["spec.replicas=3", "template annotation kubectl.kubernetes.io/restartedAt=2026-11-23T15:00:00Z"],
        ),
        (
            r#"{"spec":{"audiences":["spire"],"boundObjectRef":{"kind":"Pod","name":"p","uid":"u"}}}"#,
            &["bound Pod=p u", "audience=spire"],
        ),
        (r#"{"data":{"k":"s3cr3t"}}"#, &[]),
    ] {
        let more = format!(r#","requestURI":"/x?dryRun=All","requestObject":{request}"#);
        let action = only(&event("alice", "patch", RUN, &more));
        assert_eq!(action.changes[0], "dryRun=All");
        assert_eq!(action.changes[1..], *changes, "{request}");
    }
    let more = format!(r#","requestObject":{{"data":{{"a":"v1=80 v2=20","b":"{}"}}}}"#, "x".repeat(200));
    let map = only(&event("alice", "patch", r#""resource":"configmaps","name":"m""#, &more));
    assert_eq!(map.changes, ["data.a=v1=80 v2=20", "data.b=(200 bytes)"]);
}

#[test]
fn lists_and_other_lines() {
    let one = event("alice", "delete", RUN, "");
    let list = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{one},{one}]}}"#);
    let (outcome, actions, _) = read(&list);
    assert_eq!((outcome, actions.len()), (Outcome::Understood, 2));
    let reason = |line: &str| match read(line).0 {
        Outcome::Opaque(reason, _) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("x"), "not_json");
    assert_eq!(reason(r#"{"kind":"Event","apiVersion":"v1"}"#), "not_a_line_of_this_format");
    assert_eq!(reason(&one.replace("2026-11-23T15:12:01.509162Z", "yesterday")), "not_a_line_of_this_format");
}
