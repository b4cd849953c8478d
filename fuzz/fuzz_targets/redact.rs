//! Redaction: what is outside of a secret stays, JSON stays JSON, and nothing is left to be found.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let once = fuzz::redaction(data);
    let twice = fuzz::redaction(&once);
    // A replacement shortens the input, so a search with a bounded reach may come further: but not a third time.
    let thrice = fuzz::redaction(&twice);
    assert_eq!(twice, thrice);
});
