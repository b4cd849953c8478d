//! Leaves: stamp and body, and the reference to a payload.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((stamp, body)) = ledger::split_leaf(data) {
        assert_eq!(ledger::fuzzing::leaf(&stamp, body), data);
        let _ = stamp.index();
    }
    if let Some(reference) = ledger::reference_in(data) {
        let body = serde_json::json!({ "payload": reference });
        assert_eq!(ledger::reference_in(body.to_string().as_bytes()), Some(reference));
    }
});
