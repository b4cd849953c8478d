//! Reads one TaskRun event over and over: our parser beside `serde_json::Value` and redaction, in one process.
//!
//! `cargo run --release -p ingest --example parse_bench [FILE]`. Prints the best of 15 rounds, which other work on the machine disturbs least. `FILE` holds the data
//! of one `dev.tekton.event.taskrun.successful.v1` event; without one, an event of a usual size is made up.

use std::{hint::black_box, time::Instant};

use ingest::{Context, cloudevents, persons::Persons, redact::Redactor};
use model::{
    SourceId, Time,
    identity::{Declared, SourceKind},
};

const ROUNDS: usize = 15;
const BYTES_PER_ROUND: usize = 16 << 20;

fn main() {
    let body = match std::env::args().nth(1) {
        Some(file) => std::fs::read(&file).unwrap_or_else(|error| panic!("read {file}: {error}")),
        None => made_up().into_bytes(),
    };
    let source = SourceId {
        cluster: "default".into(),
        kind: SourceKind::CloudEvents,
        name: "bench".into(),
        instance: String::new(),
    };
    let context = Context {
        source: &source,
        declared: &Declared::default(),
        zone: chrono_tz::UTC,
        observed_at: Time::from_seconds(0),
        persons: &Persons::new([1; 32]),
    };
    let headers: http::HeaderMap = [
        ("ce-id", "bdbe4fe5-e3f5-422e-a93d-6a90d33252e9"),
        ("ce-source", "/apis///namespaces/ci//build"),
        ("ce-specversion", "1.0"),
        ("ce-type", "dev.tekton.event.taskrun.successful.v1"),
        ("ce-time", "2026-11-23T15:19:43.078322880Z"),
    ]
    .into_iter()
    .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
    .collect();
    let redactor = Redactor::new(&[2; 32]);

    println!("body of {} bytes, best of {ROUNDS} rounds", body.len());
    report("serde_json::Value", &body, || {
        black_box(serde_json::from_slice::<serde_json::Value>(black_box(&body)).is_ok());
    });
    report("delivery to fact", &body, || {
        let (mut drafts, mut persons) = (Vec::new(), Vec::new());
        cloudevents::read(&headers, black_box(&body), &context, &mut drafts, &mut persons);
        assert_eq!(black_box(&drafts)[0].fact.kind(), "run");
    });
    report("redaction", &body, || {
        black_box(redactor.redact(black_box(&body)).1.len());
    });
}

/// Prints GB/s and microseconds per event of the best round.
fn report(what: &str, body: &[u8], mut once: impl FnMut()) {
    let times = u32::try_from((BYTES_PER_ROUND / body.len()).clamp(1, 1 << 20)).expect("at most 2^20");
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            (0..times).for_each(|_| once());
            begin.elapsed() / times
        })
        .collect();
    rounds.sort_unstable();
    let each = rounds[0].as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a length, for people")]
    let rate = body.len() as f64 / each / 1e9;
    println!("{what:<20} {rate:>7.2} GB/s {:>9.2} µs each", each * 1e6);
}

/// A finished TaskRun with managed fields, two steps, results, and its script in spec and status, as events have it.
fn made_up() -> String {
    let script = "set -e\\necho building\\n".repeat(40);
    let fields =
        (0..40).map(|n| format!(r#""f:field-{n}":{{".":{{}},"f:name":{{}},"f:value":{{}}}}"#)).collect::<Vec<_>>();
    let spec =
        format!(r#""steps":[{{"name":"build","image":"images.example/tools/buildah:1.36","script":"{script}"}}]"#);
    format!(
        r#"{{"taskRun":{{"metadata":{{"name":"build","namespace":"ci","uid":"b5d0b71b-3264-4e55-888e-51e860916d25",
        "creationTimestamp":"2026-11-23T16:39:54Z","labels":{{"tekton.dev/pipeline":"release","tekton.dev/pipelineTask":"build"}},
        "annotations":{{"pipelinesascode.tekton.dev/sha":"b4d0c0de9a8b7c6d5e4f30211203f4e5d6c7b8a9"}},
        "ownerReferences":[{{"apiVersion":"tekton.dev/v1","kind":"PipelineRun","name":"release","uid":"e4ecc4f7-2647-4629-acda-8e7b0689dbdd"}}],
        "managedFields":[{{"manager":"controller","operation":"Update","fieldsV1":{{{}}}}}]}},
        "spec":{{"params":[{{"name":"revision","value":"b4d0c0de9a8b7c6d5e4f30211203f4e5d6c7b8a9"}}],"serviceAccountName":"builder","taskSpec":{{{spec}}}}},
        "status":{{"conditions":[{{"type":"Succeeded","status":"True","lastTransitionTime":"2026-11-23T16:39:56Z","reason":"Succeeded","message":"All Steps have completed executing"}}],
        "podName":"build-pod","startTime":"2026-11-23T16:39:54Z","completionTime":"2026-11-23T16:39:56Z",
        "steps":[{{"terminated":{{"exitCode":0,"startedAt":"2026-11-23T16:39:55Z","finishedAt":"2026-11-23T16:39:56Z"}},"name":"build",
        "imageID":"images.example/tools/buildah@sha256:e5351dcdd442c8b11a87307b6ec0696db6a32e88afc4b9d5fd9d759543fc2153"}}],
        "taskResults":[{{"name":"IMAGE_DIGEST","type":"string","value":"sha256:71bd657f1fefda6f7fed4d86842fe81ff46384de2df6bb20c9be8bdaf20dc77c"}}],
        "taskSpec":{{{spec}}}}}}}}}"#,
        fields.join(",")
    )
}
