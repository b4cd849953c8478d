//! TaskRun events to facts, as intake does it: the delivery as it is kept, without its secrets, then read.

use std::hint::black_box;

use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::{Context, cloudevents, persons::Persons, redact::Redactor};
use model::{
    SourceId, Time,
    identity::{Declared, SourceKind},
};

use crate::{Clock, Table};

/// Events per round.
const EVENTS: usize = 500;

pub fn run() {
    let source = SourceId {
        cluster: "default".into(),
        kind: SourceKind::CloudEvents,
        name: "bench".into(),
        instance: String::new(),
    };
    let (declared, persons) = (Declared::default(), Persons::new([1; 32]));
    let observed_at = Time::from_seconds(0);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let redactor = Redactor::new(&[2; 32]);
    let headers: HeaderMap = [
        ("ce-id", "bdbe4fe5-e3f5-422e-a93d-6a90d33252e9"),
        ("ce-source", "/apis///namespaces/ci//build"),
        ("ce-specversion", "1.0"),
        ("ce-type", "dev.tekton.event.taskrun.successful.v1"),
        ("ce-time", "2026-11-23T15:19:43.078322880Z"),
    ]
    .into_iter()
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .collect();
    for fields in [10, 120] {
        let body = taskrun(fields);
        let read = |body: &[u8]| {
            let (mut drafts, mut persons) = (Vec::new(), Vec::new());
            cloudevents::read(&headers, body, &context, &mut drafts, &mut persons);
            assert_eq!(black_box(&drafts)[0].fact.kind(), "run");
        };
        let value = format!("{} bytes: serde_json::Value", body.len());
        let works: &mut [crate::Work<'_>] = &mut [
            (
                &value,
                Box::new(|| {
                    for _ in 0..EVENTS {
                        let value = serde_json::from_slice::<serde_json::Value>(black_box(&body));
                        assert!(black_box(value).is_ok());
                    }
                }),
            ),
            ("to facts", Box::new(|| (0..EVENTS).for_each(|_| read(black_box(&body))))),
            (
                "copied as kept, redacted, to facts",
                Box::new(|| {
                    for _ in 0..EVENTS {
                        let raw = cloudevents::payload(&headers, black_box(&body));
                        let (kept, _) = cloudevents::redact_payload(&raw, &redactor);
                        let (_, body) = cloudevents::read_payload(&kept).expect("our own payload");
                        read(body);
                    }
                }),
            ),
        ];
        Table { bytes: body.len() * EVENTS, items: EVENTS, rounds: 15, clock: Clock::Thread }.print(Some(4.0), works);
    }
}

/// A finished TaskRun with managed fields, steps, results, and its script in spec and status, as events have it.
fn taskrun(fields: usize) -> Vec<u8> {
    let script = "set -e\\necho building\\n".repeat(fields);
    let managed =
        (0..fields).map(|n| format!(r#""f:field-{n}":{{".":{{}},"f:name":{{}},"f:value":{{}}}}"#)).collect::<Vec<_>>();
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
        managed.join(",")
    )
    .into_bytes()
}
