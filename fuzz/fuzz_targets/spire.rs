//! Lines of SPIRE (text and JSON) and of spiffe-helper.
#![no_main]

use ingest::lines::Format;
use model::Fact;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for format in [Format::Spire, Format::SpiffeHelper] {
        for draft in &fuzz::lines(&format, data).drafts {
            if let Fact::Credential(credential) = &draft.fact {
                assert!(credential.spiffe_id.as_deref() != Some(""), "absent and empty are different");
            }
        }
    }
});
