//! Entries as the fold reads them from leaves.
#![no_main]

use model::{Entry, Fact};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(entry) = Entry::from_leaf(7, data) else { return };
    // Of a later version: its kind is known and what it says is not, so it is never written.
    if matches!(entry.body.fact, Fact::Unknown(_)) {
        return;
    }
    let leaf = |entry: &Entry| {
        let stamp = serde_json::to_string(&entry.stamp).expect("a stamp is written");
        format!("{stamp}\n{}", serde_json::to_string(&entry.body).expect("a body is written"))
    };
    let text = leaf(&entry);
    let again = Entry::from_leaf(7, text.as_bytes()).expect("what we write we read");
    assert_eq!(leaf(&again), text);
});
