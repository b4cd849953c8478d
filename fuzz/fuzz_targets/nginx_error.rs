//! Lines of NGINX's error log.
#![no_main]

use ingest::lines::{Format, Start, take};
use model::Fact;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let taken = fuzz::lines(&Format::NginxError, data);
    for draft in &taken.drafts {
        if let Fact::Handshake(handshake) = &draft.fact {
            assert!(handshake.count >= 1);
            assert!(!handshake.alert_disputed || handshake.alert.is_some());
        }
    }
    // The end of one line does not depend on whether its line feed came.
    if !data.ends_with(b"\n") {
        let start = Start::Post { digest: "d".into(), line: 1 };
        let read =
            |bytes: &[u8]| take(&Format::NginxError, &fuzz::context(), &fuzz::REDACTOR, bytes, &start, None).drafts;
        assert_eq!(read(data), read(&[data, b"\n"].concat()));
    }
});
