//! Deliveries: headers, an empty line, the body; binary, structured and in batches.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::cloudevents;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(0);
    let (head, body) = (&data[..end], data.get(end + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), value) {
            headers.append(name, value);
        }
    }
    let read = || {
        let (mut drafts, mut persons) = (Vec::new(), Vec::new());
        cloudevents::read(&headers, body, &fuzz::context(), &mut drafts, &mut persons);
        (drafts, persons)
    };
    let (drafts, persons) = read();
    assert!(!drafts.is_empty(), "something is left of every delivery");
    assert_eq!((&drafts, &persons), (&read().0, &read().1));
    for draft in &drafts {
        serde_json::to_vec(&draft.fact).expect("a fact is written");
    }

    // As a payload it comes back the same, without secrets too.
    let kept = cloudevents::payload(&headers, body);
    let (again, restored) = cloudevents::read_payload(&kept).expect("our own payload is read");
    assert_eq!(restored, body);
    let _ = again;
    let (clean, _) = cloudevents::redact_payload(&kept, &fuzz::REDACTOR);
    // Unless a header's name holds one: what replaces it is no name.
    let named = |name: &HeaderName| !fuzz::REDACTOR.spans(name.as_str().as_bytes()).is_empty();
    assert!(cloudevents::read_payload(&clean).is_some() || headers.keys().any(named), "it stays a payload");
    // And anything else is read or refused.
    let _ = cloudevents::read_payload(data);
});
