use model::{
    SourceId,
    identity::{Declared, PersonRef, SourceKind},
};

use super::*;
use crate::persons::Persons;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn deliver(pairs: &[(&str, &str)], body: &str) -> (Vec<Fact>, Vec<PersonSeen>) {
    let source = SourceId {
        cluster: "default".into(),
        kind: SourceKind::CloudEvents,
        name: "t".into(),
        instance: String::new(),
    };
    let context = Context {
        source: &source,
        declared: &Declared::default(),
        zone: chrono_tz::UTC,
        observed_at: Time::from_seconds(0),
        persons: &Persons::new([1; 32]),
    };
    let (mut drafts, mut persons) = (Vec::new(), Vec::new());
    read(&headers(pairs), body.as_bytes(), &context, &mut drafts, &mut persons);
    assert!(!drafts.is_empty(), "a delivery always leaves something");
    (drafts.into_iter().map(|draft| draft.fact).collect(), persons)
}

/// The reasons, or kinds of what was understood.
fn said(pairs: &[(&str, &str)], body: &str) -> Vec<String> {
    let word = |fact: Fact| match fact {
        Fact::Opaque(opaque) => opaque.reason,
        fact => fact.kind().to_owned(),
    };
    deliver(pairs, body).0.into_iter().map(word).collect()
}

const TASK_RUN: &str = r#"{"taskRun":{"metadata":{"name":"a","namespace":"ci","uid":"u"},"spec":{},"status":null}}"#;

fn binary(event_type: &str) -> Vec<(&str, &str)> {
    vec![
        ("Ce-Id", "1"),
        ("CE-Source", "/x"),
        ("ce-specversion", "1.0"),
        ("Ce-Type", event_type),
        ("Content-Type", "application/json"),
    ]
}

fn structured(event_type: &str, data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/x","type":"{event_type}","data":{data}}}"#)
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

#[test]
fn every_mode_gives_the_same_fact() {
    let event_type = "dev.tekton.event.taskrun.queued.v1";
    let expected = deliver(&binary(event_type), TASK_RUN).0;
    assert_eq!(expected[0].kind(), "run");
    let one = structured(event_type, TASK_RUN);
    let kafka = [("ce_id", "1"), ("ce_source", "/x"), ("ce_specversion", "1.0"), ("ce_type", event_type)];
    assert_eq!(deliver(&kafka, TASK_RUN).0, expected);
    assert_eq!(deliver(&[STRUCTURED], &one).0, expected);
    assert_eq!(deliver(&[JSON], &one).0, expected, "the content type is not reliable");
    assert_eq!(deliver(&[BATCH], &format!("[{one},{one}]")).0, [expected.clone(), expected.clone()].concat());
    let encoded = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/x","type":"{event_type}","data_base64":"{}"}}"#,
        STANDARD.encode(TASK_RUN)
    );
    assert_eq!(deliver(&[STRUCTURED], &encoded).0, expected);
}

#[test]
fn whatever_arrives_is_kept_with_a_reason() {
    let queued = "dev.tekton.event.taskrun.queued.v1";
    for (pairs, body, reasons) in [
        (vec![], "", &["not_json"][..]),
        (vec![JSON], "null", &["no_envelope"]),
        (vec![JSON], r#"{"taskRun":{}}"#, &["no_envelope"]),
        (vec![JSON], "{\"a\": \u{0}", &["not_json"]),
        (vec![STRUCTURED], r#"{"specversion":"1.0","id":"1","source":"/x"}"#, &["no_envelope"]),
        (
            vec![STRUCTURED],
            r#"{"specversion":"1.0","id":"1","source":"/x","type":"t","data_base64":"!"}"#,
            &["not_base64"],
        ),
        (vec![STRUCTURED], r#"{"specversion":"9","id":"1","source":"/x","type":"t"}"#, &["unknown_specversion"]),
        (vec![BATCH], "[]", &["empty_batch"]),
        (vec![BATCH], "{}", &["not_json"]),
        (vec![BATCH], "[1]", &["no_envelope"]),
        (vec![("ce-id", "1"), ("ce-type", queued)], TASK_RUN, &["no_envelope"]),
        (binary("com.example.other"), "anything", &["unknown_type"]),
        (binary("dev.tekton.event.triggers.accepted.v1"), "{}", &["unknown_type"]),
        (binary("dev.tekton.event.taskrun.queued.v1.x"), TASK_RUN, &["unknown_type"]),
        (binary(queued), "null", &["no_object"]),
        (binary(queued), "", &["not_json"]),
        (binary(queued), "{\"taskRun\":", &["not_json"]),
        (binary(queued), r#"{"pipelineRun":{"metadata":{"name":"a"}}}"#, &["no_object"]),
        (binary(queued), r#"{"taskRun":{"metadata":{}}}"#, &["no_object"]),
        (binary(queued), r#"{"taskRun":"x"}"#, &["not_a_run"]),
        (binary("dev.tekton.event.triggers.done.v1"), "null", &["trigger"]),
        (binary("dev.tekton.event.triggers.started.v1"), "[", &["not_headers"]),
        (binary("dev.cdevents.service.deployed.0.3.0"), "{}", &["not_a_cdevent"]),
    ] {
        assert_eq!(said(&pairs, body), reasons, "{body}");
    }
}

#[test]
fn limits_are_said() {
    let one = structured("com.example.other", "1");
    let many = format!("[{}]", vec![one.as_str(); BATCH_EVENTS + 3].join(","));
    let facts = deliver(&[BATCH], &many).0;
    assert_eq!(facts.len(), BATCH_EVENTS + 1);
    let Fact::Opaque(last) = facts.last().unwrap() else { panic!() };
    assert_eq!(
        (last.reason.as_str(), last.detail.as_str()),
        ("too_many", "3 events beyond the first 1024 of the batch")
    );
    let long = "x".repeat(100_000);
    let Fact::Opaque(opaque) = &deliver(&binary(&format!("com.example.{long}")), &long).0[0] else { panic!() };
    assert!(opaque.head.bytes().len() == 256 && opaque.event_type.as_ref().unwrap().len() <= 256);
}

/// Nesting of any depth costs no stack.
#[test]
fn deep_values_are_read_over() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let body = format!(
        r#"{{"taskRun":{{"metadata":{{"name":"a","managedFields":{deep}}},"spec":{{"params":[{{"name":"p","value":{deep}}}]}}}}}}"#
    );
    assert_eq!(said(&binary("dev.tekton.event.taskrun.queued.v1"), &body), ["run"]);
    assert_eq!(said(&[BATCH], &format!("[{deep}]")), ["no_envelope"]);
}

#[test]
fn odd_values_do_not_hide_a_run() {
    let body = r#"{"taskRun":{"metadata":{"name":"a","namespace":7,"labels":null,"annotations":{"x":{"y":1}},"ownerReferences":null},
        "spec":{"params":[{"name":"revision","value":["a"]},{"name":"o","value":{"k":"v"}},{"name":"n"}],"taskRef":{"name":null}},
        "status":{"conditions":[{"type":"SignedResultsVerified","reason":"no"},{"type":"Succeeded","status":"Unknown","reason":"Pending","message":"a \"b\" \u00e9"}],
        "retriesStatus":[{"podName":"p-1","retriesStatus":[{}]},null],"podName":"p-2","steps":null,"results":[]}}}"#;
    let body = body.replace(",null]", "]");
    let Fact::Run(run) = &deliver(&binary("dev.tekton.event.taskrun.unknown.v1"), &body).0[0] else { panic!() };
    assert_eq!((run.namespace.as_deref(), run.reason.as_str(), run.message.as_str()), (None, "Pending", "a \"b\" é"));
    assert_eq!((run.attempt, run.pods.as_slice()), (1, ["p-1".to_owned(), "p-2".to_owned()].as_slice()));
}

#[test]
fn v1_and_embedded_spellings() {
    let body = r#"{"pipelineRun":{"metadata":{"name":"r","uid":"u"},
        "spec":{"taskRunTemplate":{"serviceAccountName":"builder"},"taskRunSpecs":[{"pipelineTaskName":"d","serviceAccountName":"deployer"}],"serviceAccountNames":[{"taskName":"o","serviceAccountName":"old"}],
          "params":[{"name":"git-url","value":"https://u:p@git.example/x.git"},{"name":"git-revision","value":"0123456789abcdef0123456789abcdef01234567"}]},
        "status":{"taskRuns":{"r-a":{"pipelineTaskName":"a","status":{"taskResults":[{"name":"CHAINS-GIT_COMMIT","value":"aaaaaaaaaa\n"},{"name":"CHAINS-GIT_URL","value":"https://git.example/y"}]}}},"runs":{"r-b":{"pipelineTaskName":"b"}},
          "results":[{"name":"IMAGES","value":"a.example/i@sha256:71bd657f1fefda6f7fed4d86842fe81ff46384de2df6bb20c9be8bdaf20dc77c, nothing"},
            {"name":"x-ARTIFACT_OUTPUTS","value":{"uri":"pkg:a","digest":"sha256:00bd657f1fefda6f7fed4d86842fe81ff46384de2df6bb20c9be8bdaf20dc77c"}},
            {"name":"src-ARTIFACT_INPUTS","value":{"uri":"git+https://git.example/z.git","digest":"sha1:bbbbbbbbbb"}}],
          "spanContext":{"traceparent":"00-1-2-01"}}}}"#;
    let Fact::Run(run) = &deliver(&binary("dev.tekton.event.pipelinerun.successful.v1"), body).0[0] else { panic!() };
    let accounts: Vec<_> = run.service_accounts.iter().map(|a| (a.task.as_deref(), a.name.as_str())).collect();
    assert_eq!(accounts, [(None, "builder"), (Some("d"), "deployer"), (Some("o"), "old")]);
    let commits: Vec<_> =
        run.commits.iter().map(|c| (c.revision.as_deref(), c.repository.as_deref(), c.source.as_str())).collect();
    assert_eq!(
        commits,
        [
            (Some("0123456789abcdef0123456789abcdef01234567"), Some("https://git.example/x.git"), "param git-revision"),
            (Some("bbbbbbbbbb"), Some("https://git.example/z.git"), "result src-ARTIFACT_INPUTS"),
            (Some("aaaaaaaaaa"), Some("https://git.example/y"), "child result CHAINS-GIT_COMMIT"),
        ]
    );
    let artifacts: Vec<_> = run.artifacts.iter().map(|a| (a.uri.as_deref(), a.source.as_str())).collect();
    assert_eq!(artifacts, [(Some("a.example/i"), "result IMAGES"), (Some("pkg:a"), "result x-ARTIFACT_OUTPUTS")]);
    let children: Vec<_> = run.children.iter().map(|c| (c.kind.as_str(), c.name.as_str())).collect();
    assert_eq!(children, [("TaskRun", "r-a"), ("Run", "r-b")]);
    assert_eq!(run.traceparent.as_deref(), Some("00-1-2-01"));
}

#[test]
fn senders_are_references_and_trigger_secrets_are_names_only() {
    let body =
        r#"{"pipelineRun":{"metadata":{"name":"r","annotations":{"pipelinesascode.tekton.dev/sender":"dana"}}}}"#;
    let (facts, persons) = deliver(&binary("dev.tekton.event.pipelinerun.started.v1"), body);
    let Fact::Run(run) = &facts[0] else { panic!() };
    assert_eq!(persons, [(run.sender.clone().unwrap(), "dana".to_owned())]);
    assert!(!serde_json::to_string(&facts).unwrap().contains("dana"));

    let body =
        r#"{"X-Secret-Token":["s3cr3t"],"Authorization":["Bearer t0k3n"],"X-Github-Event":["push"],"Cookie":["c=1"]}"#;
    let text = serde_json::to_string(&deliver(&binary("dev.tekton.event.triggers.started.v1"), body).0).unwrap();
    assert!(text.contains(r#"["X-Github-Event","push"]"#) && text.contains(r#"["X-Secret-Token",null]"#), "{text}");
    assert!(!text.contains("s3cr3t") && !text.contains("t0k3n") && !text.contains("c=1"));
}

#[test]
fn cdevents_of_both_contexts() {
    for (context, chain) in [
        (r#""version":"0.4.1""#, None),
        (r#""specversion":"0.5.0","chainId":"c-1","links":[{"linkType":"END"}]"#, Some("c-1")),
    ] {
        let data = format!(
            r#"{{"context":{{{context},"id":"1","source":"/s","type":"dev.cdevents.approval.closed.0.1.0-draft","timestamp":"2026-11-23T14:27:05.315384Z"}},
            "subject":{{"id":"gate","type":"approval","content":{{"environment":{{"id":"prod"}},"decision":"approved","responder":"urn:user:bob","n":1}}}}}}"#
        );
        let (facts, persons) = deliver(&[STRUCTURED], &structured("dev.cdevents.approval.closed.0.1.0-draft", &data));
        let Fact::Change(change) = &facts[0] else { panic!("{facts:?}") };
        assert_eq!(
            (change.what.as_str(), change.subject.as_str(), change.chain_id.as_deref()),
            ("approval.closed", "gate", chain)
        );
        let PersonRef(bob) = &persons[0].0;
        let content: Vec<_> = change.content.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(content, [("decision", "approved"), ("environment", "prod"), ("responder", bob)]);
        assert_eq!(change.occurred.unwrap().at.to_string(), "2026-11-23T14:27:05.315384Z");
    }
}

#[test]
fn a_kept_delivery_reads_like_the_delivery() {
    let mut pairs = binary("dev.tekton.event.taskrun.queued.v1");
    pairs.extend([
        ("host", "sink"),
        ("authorization", "Basic dTpw"),
        ("ce-extra", "caf%C3%A9"),
        ("ce-subject", "a: b"),
    ]);
    let sent = headers(&pairs);
    let body = "{\n\n\"taskRun\":\r\n1}";
    let kept = payload(&sent, body.as_bytes());
    assert!(!String::from_utf8(kept.clone()).unwrap().contains("dTpw"));
    let (again, rest) = read_payload(&kept).unwrap();
    assert_eq!(rest, body.as_bytes());
    let names = |headers: &HeaderMap| headers.iter().map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>();
    let mut expected = sent.clone();
    expected.remove("host");
    expected.remove("authorization");
    let (mut a, mut b) = (names(&expected), names(&again));
    a.sort_by(|x, y| x.0.as_str().cmp(y.0.as_str()));
    b.sort_by(|x, y| x.0.as_str().cmp(y.0.as_str()));
    assert_eq!(a, b);
    for bad in ["", "no end", "name value\n\nbody", "bad name: x\n\n"] {
        assert!(read_payload(bad.as_bytes()).is_none(), "{bad}");
    }
}

#[test]
fn recorded_headers_may_be_an_object() {
    let line =
        |headers: &str| format!(r#"{{"method":"POST","headers":{headers},"body_b64":"{}"}}"#, STANDARD.encode("null"));
    let source = SourceId {
        cluster: "default".into(),
        kind: SourceKind::CloudEvents,
        name: "t".into(),
        instance: String::new(),
    };
    let context = Context {
        source: &source,
        declared: &Declared::default(),
        zone: chrono_tz::UTC,
        observed_at: Time::from_seconds(0),
        persons: &Persons::new([1; 32]),
    };
    let parse = |text: &str| {
        let mut drafts = Vec::new();
        let outcome = parse(text.as_bytes(), &context, &mut drafts, &mut Vec::new());
        (outcome, drafts.first().map(|draft| draft.fact.kind().to_owned()))
    };
    let event_type = "dev.tekton.event.triggers.done.v1";
    let understood = (crate::Outcome::Understood, Some("trigger".to_owned()));
    let object = format!(r#"{{"Ce-Id":"1","Ce-Source":["/x"],"Ce-Specversion":"1.0","Ce-Type":"{event_type}"}}"#);
    let pairs = format!(r#"[["Ce-Id","1"],["Ce-Source","/x"],["Ce-Specversion","1.0"],["Ce-Type","{event_type}"]]"#);
    assert_eq!(parse(&line(&object)), understood);
    assert_eq!(parse(&line(&pairs)), understood);
    assert!(matches!(parse(&line("7")), (crate::Outcome::Opaque("not_a_line_of_this_format", _), None)));
    assert!(matches!(parse("{}"), (crate::Outcome::Opaque("not_a_line_of_this_format", _), None)));
    assert!(matches!(parse("x"), (crate::Outcome::Opaque("not_json", _), None)));
}

proptest::proptest! {
    /// No bytes are refused, and nothing becomes nothing.
    #[test]
    fn any_bytes_leave_something(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), event_type in "[ -~]{0,40}") {
        deliver(&[], &String::from_utf8_lossy(&body));
        deliver(&[STRUCTURED], &String::from_utf8_lossy(&body));
        deliver(&binary(&event_type), &String::from_utf8_lossy(&body));
        deliver(&binary("dev.tekton.event.taskrun.failed.v1"), &format!("{{\"taskRun\":{}}}", String::from_utf8_lossy(&body)));
        read_payload(&body);
    }
}
