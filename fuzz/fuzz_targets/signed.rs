//! Texts that are signed or checked: verifier keys, notes, proofs, `head`, `keys/vkeys`, `positions`. The first byte says which.
#![no_main]

use ledger::{Checkpoint, Vkey, fuzzing, verify_tlog_proof};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let keys = [fuzzing::key()];
    match first % 6 {
        0 => {
            if let Ok(key) = text.parse::<Vkey>() {
                assert_eq!(key.to_string(), text, "a key has one spelling");
            }
        }
        // Without the secret nobody makes these: what is accepted is what we signed.
        1 => {
            if let Ok(checkpoint) = Checkpoint::verify(text, &keys) {
                assert_eq!((checkpoint.origin.as_str(), checkpoint.size), (keys[0].name(), fuzzing::SIZE));
            }
        }
        2 => {
            if let Ok((index, _)) = verify_tlog_proof(text, fuzzing::LEAF, &keys) {
                assert!(index < fuzzing::SIZE);
            }
        }
        3 => _ = fuzzing::head(text),
        4 => _ = fuzzing::key_list(text),
        _ => _ = fuzzing::positions(text),
    }
});
