//! Recorded inputs of real controllers and API servers, and what becomes of them. The snapshots hold whole facts: a
//! change of a parser shows here as a change of what would be written to the ledger.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fmt::Write as _, io::Read as _};

use flate2::read::GzDecoder;
use ingest::{
    Context, Draft, Outcome, PersonSeen, cloudevents, k8s_audit, k8s_objects, persons::Persons, redact::Redactor,
};
use model::{
    Fact, Grade, SourceId, Time,
    identity::{Declared, SourceKind},
    run::RunKind,
};

fn lines(fixture: &str) -> Vec<String> {
    let path = format!("{}/tests/fixtures/{fixture}", env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Calls `f` with the context of a source of this kind.
fn within<T>(kind: SourceKind, f: impl FnOnce(&Context<'_>) -> T) -> T {
    let source = SourceId { cluster: "default".into(), kind, name: "recorded".into(), instance: String::new() };
    let persons = Persons::new([1; 32]);
    f(&Context {
        source: &source,
        declared: &Declared::default(),
        zone: chrono_tz::UTC,
        observed_at: Time::parse("2026-11-24T12:00:00Z").unwrap(),
        persons: &persons,
    })
}

/// Every fact on a line of its own; every fact is short, whole, and comes back from its JSON.
fn written(drafts: &[Draft]) -> String {
    let mut text = String::new();
    for draft in drafts {
        let json = serde_json::to_string(&draft.fact).unwrap();
        assert_eq!(serde_json::from_str::<Fact>(&json).unwrap(), draft.fact);
        assert!(json.len() <= ingest::fit::FACT_BYTES && draft.cut.is_empty());
        writeln!(text, "{} {json}", draft.parser).unwrap();
    }
    text
}

fn deliveries(fixture: &str) -> (Vec<Draft>, Vec<PersonSeen>, Vec<Outcome>) {
    within(SourceKind::CloudEvents, |context| {
        let (mut drafts, mut persons) = (Vec::new(), Vec::new());
        let outcomes = lines(fixture)
            .iter()
            .map(|line| cloudevents::parse(line.as_bytes(), context, &mut drafts, &mut persons))
            .filter(|outcome| *outcome != Outcome::Understood)
            .collect();
        (drafts, persons, outcomes)
    })
}

#[test]
fn events_of_the_core_reconciler() {
    let (drafts, _, others) = deliveries("tekton-1.9.jsonl.gz");
    assert_eq!(others, []);
    insta::assert_snapshot!("tekton-1.9", written(&drafts));
}

#[test]
fn events_of_the_events_controller() {
    let (drafts, _, others) = deliveries("tekton-1.15.jsonl.gz");
    // What a redirect made of a delivery carries no event.
    assert_eq!(others, [Outcome::Opaque("not_a_post", "GET".into())]);
    insta::assert_snapshot!("tekton-1.15", written(&drafts));
}

/// Both generations tell the same about the fields that identity and change hang on.
#[test]
fn both_generations_fill_the_same_fields() {
    for fixture in ["tekton-1.9.jsonl.gz", "tekton-1.15.jsonl.gz"] {
        let (drafts, ..) = deliveries(fixture);
        let runs: Vec<_> = drafts
            .iter()
            .filter_map(|draft| match &draft.fact {
                Fact::Run(run) => Some(run),
                _ => None,
            })
            .collect();
        assert!(runs.iter().all(|run| run.uid.is_some() && run.namespace.is_some() && run.created.is_some()));
        let any = |what: &str, test: &dyn Fn(&model::run::Run) -> bool| {
            assert!(runs.iter().any(|run| test(run)), "{fixture}: no run with {what}");
        };
        any("a commit from the resolver", &|r| r.commits.iter().any(|c| c.grade == Grade::Authenticated));
        any("a commit in a result", &|r| {
            r.commits.iter().any(|c| c.source == "result commit" && c.repository.is_some())
        });
        any("an image digest", &|r| r.artifacts.iter().any(|a| a.digest.is_some() && a.uri.is_some()));
        any("an account per task", &|r| r.service_accounts.iter().any(|a| a.task.is_some()));
        any("skipped tasks", &|r| !r.skipped.is_empty());
        any("a trace", &|r| r.traceparent.is_some());
        any("a trigger", &|r| r.trigger.as_ref().is_some_and(|t| t.event_id.is_some() && t.listener.is_some()));
        any("a parent", &|r| r.kind == RunKind::TaskRun && r.parent.as_ref().is_some_and(|p| p.uid.is_some()));
        any("step times", &|r| r.steps.iter().any(|s| s.started.is_some() && s.finished.is_some()));
        any("a custom task", &|r| r.kind == RunKind::CustomRun && r.task.is_some());
    }
}

#[test]
fn audit_lines() {
    let (text, persons) = within(SourceKind::K8sAudit, |context| {
        let (mut text, mut persons) = (String::new(), Vec::new());
        for line in lines("k8s-audit.jsonl.gz") {
            let mut drafts = Vec::new();
            match k8s_audit::parse(line.as_bytes(), context, &mut drafts, &mut persons) {
                Outcome::Understood => text += &written(&drafts),
                Outcome::Passed => assert_eq!(drafts, []),
                Outcome::Opaque(reason, detail) => panic!("{reason}: {detail}: {line}"),
            }
        }
        (text, persons)
    });
    for (reference, value) in &persons {
        assert!(text.contains(&reference.0) && !text.contains(value), "{value} stands in a fact");
    }
    assert!(persons.iter().any(|(_, value)| value == "alice@example.com"));
    insta::assert_snapshot!("k8s-audit", text);
}

#[test]
fn objects() {
    let drafts = within(SourceKind::K8sObjects, |context| {
        let mut drafts = Vec::new();
        let document = lines("k8s-objects.jsonl.gz").concat();
        assert_eq!(k8s_objects::parse(document.as_bytes(), context, &mut drafts), Outcome::Understood);
        // Indented, as kubectl prints it, it says the same.
        let indented =
            serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&document).unwrap()).unwrap();
        let mut again = Vec::new();
        assert_eq!(k8s_objects::parse(indented.as_bytes(), context, &mut again), Outcome::Understood);
        assert_eq!(drafts, again);
        drafts
    });
    insta::assert_snapshot!("k8s-objects", written(&drafts));
}

/// The secrets that were really sent to an EventListener are in none of the bytes that are kept.
#[test]
fn recorded_secrets_are_redacted() {
    const SECRETS: [&[u8]; 2] = [b"lab-hook-token", b"not-a-real-token"];
    let redactor = Redactor::new(&[2; 32]);
    let mut met = 0;
    for fixture in ["tekton-1.9.jsonl.gz", "tekton-1.15.jsonl.gz"] {
        for line in lines(fixture) {
            let (clean, counts) = cloudevents::redact_recorded(line.as_bytes(), &redactor);
            let (before, after) = (body(line.as_bytes()), body(&clean));
            for secret in SECRETS {
                met += usize::from(memchr::memmem::find(&before, secret).is_some());
                assert_eq!(memchr::memmem::find(&after, secret), None);
            }
            assert_eq!(before == after, counts.is_empty(), "{counts:?}");
        }
    }
    assert!(met > 0, "the fixtures hold no secret, so this test shows nothing");
}

fn body(line: &[u8]) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let line: serde_json::Value = serde_json::from_slice(line).unwrap();
    STANDARD.decode(line["body_b64"].as_str().unwrap_or_default()).unwrap()
}
