//! Payload blocks, and bundles of entries. The first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, rest)) => ledger::fuzzing::bundle(rest),
        Some((_, rest)) => ledger::fuzzing::block(rest),
        None => false,
    };
});
