//! Bodies of Tekton's events, under each of its types. The first byte says which.
#![no_main]

use http::{HeaderMap, HeaderValue};
use ingest::cloudevents;
use model::Fact;

const TYPES: [&str; 8] = [
    "dev.tekton.event.taskrun.successful.v1",
    "dev.tekton.event.taskrun.failed.v1",
    "dev.tekton.event.taskrun.started.v1",
    "dev.tekton.event.pipelinerun.running.v1",
    "dev.tekton.event.pipelinerun.failed.v1",
    "dev.tekton.event.customrun.successful.v1beta1",
    "dev.tekton.event.triggers.started.v1",
    "dev.cdevents.pipelinerun.finished.0.2.0",
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-id", "1"), ("ce-source", "/s"), ("ce-specversion", "1.0")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("ce-type", HeaderValue::from_static(TYPES[usize::from(*first) % TYPES.len()]));
    let (mut drafts, mut persons) = (Vec::new(), Vec::new());
    cloudevents::read(&headers, body, &fuzz::context(), &mut drafts, &mut persons);
    let [draft] = &drafts[..] else { panic!("one event, {} drafts", drafts.len()) };
    let text = serde_json::to_vec(&draft.fact).expect("a fact is written");
    assert_eq!(serde_json::from_slice::<Fact>(&text).expect("and read"), draft.fact);
    // White space around it is more than JSON allows, such as a form feed. Some events of Triggers carry nothing at all.
    let body = body.trim_ascii();
    let nothing = matches!(draft.fact, Fact::Trigger(_)) && body.is_empty();
    if !nothing && !matches!(draft.fact, Fact::Opaque(_)) {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).expect("only JSON is understood");
    }
    for (_, person) in persons {
        assert!(
            !String::from_utf8_lossy(&text).contains(&format!("\"person\":\"{person}\"")),
            "a person is a reference"
        );
    }
});
