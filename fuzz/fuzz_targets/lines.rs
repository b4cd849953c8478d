//! Any bytes as lines of any format, and frames around lines. The first byte says which format.
#![no_main]

use ingest::lines::{Format, Framed};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    fuzz::lines(&fuzz::format(*first), bytes);
    if let Some(format) = Format::detect(bytes) {
        fuzz::lines(&format, bytes);
    }
    for line in bytes.split(|b| *b == b'\n') {
        assert!(line.ends_with(Framed::read(line).text), "a frame only takes off the beginning");
    }
});
