//! Persons become keyed references before anything is written.
//!
//! A reference is the same for the same value in one installation and tells nothing without its key, so a person can
//! be forgotten (by deleting a row of `people/`) while every proof over the leaves still holds.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use model::identity::PersonRef;
use sha2::Sha256;

/// Makes references to persons with the installation's key.
pub struct Persons {
    keyed: Hmac<Sha256>,
}

impl Persons {
    /// With the installation's key for persons: 32 random bytes, which are not the key of redaction.
    pub fn new(key: [u8; 32]) -> Self {
        Self { keyed: keyed(&key) }
    }

    /// `p-` and the first 32 hex digits of HMAC-SHA-256(key, value as received).
    pub fn reference(&self, value: &str) -> PersonRef {
        let mut text = String::from("p-");
        push_mac(&mut text, &self.keyed, value.as_bytes(), 16);
        PersonRef(text)
    }
}

/// HMAC-SHA-256 with the key absorbed, to be cloned per value.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

/// Appends the first `bytes` bytes of the HMAC over `value` in lower-case hex.
pub(crate) fn push_mac(text: &mut String, keyed: &Hmac<Sha256>, value: &[u8], bytes: usize) {
    let mut mac = keyed.clone();
    mac.update(value);
    for byte in mac.finalize().into_bytes().iter().take(bytes) {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_the_keyed_hash_of_the_value() {
        let persons = Persons::new([7; 32]);
        let alice = persons.reference("alice@example.com");
        // From another implementation: printf alice@example.com | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…
        assert_eq!(alice.0, "p-09870f7a555563284d0f3306c0cb1294");
        assert_eq!(alice, persons.reference("alice@example.com"));
        assert_ne!(alice, persons.reference("alice@example.org"));
        assert_ne!(alice, Persons::new([8; 32]).reference("alice@example.com"));
    }
}
