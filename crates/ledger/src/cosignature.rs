//! What a witness adds to a checkpoint: C2SP tlog-cosignature v1, timestamped Ed25519 (signature type 4), and the texts of C2SP
//! tlog-witness. A cosignature says: this is the largest consistent tree of this log that I had seen at this time.

use crate::error::Error;
use crate::merkle::Hash;
use crate::note::{SignatureLine, bad_note, key_text, parse_key, signature_lines, split_note};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use std::fmt::{self, Write as _};
use std::str::FromStr;

const COSIGNATURE: u8 = 4;

/// A witness's verifier key: `name+key id+base64(0x04 ‖ public key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: u32,
    public: VerifyingKey,
}

impl WitnessKey {
    /// Whether both are the same public key, whatever they are called.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.public == other.public
    }

    fn made(&self, line: &SignatureLine<'_>) -> bool {
        self.name == line.name && self.id == line.id
    }

    /// Unix time of the cosignature in this line, which names this key, on the text of a note.
    fn check(&self, text: &str, line: &SignatureLine<'_>) -> Result<u64, Error> {
        let bad = |detail: &str| bad_note(&format!("the cosignature of `{}` {detail}", self.name));
        let parts = line.signature.split_first_chunk::<8>();
        let (time, signature) = parts
            .and_then(|(time, rest)| Some((time, rest.try_into().ok()?)))
            .ok_or_else(|| bad("has the wrong length"))?;
        let time = u64::from_be_bytes(*time);
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        let right = self.public.verify_strict(message.as_bytes(), &Signature::from_bytes(signature));
        right.map_err(|_| bad("is wrong"))?;
        Ok(time)
    }

    /// Unix time of this witness's newest cosignature on a note; none if it has made none.
    ///
    /// # Errors
    /// [`Error::BadNote`]: no note, or a cosignature under the name and id of this key is wrong.
    pub fn cosigned(&self, note: &str) -> Result<Option<u64>, Error> {
        let (text, lines) = split_note(note)?;
        let mut newest = None;
        for line in lines.iter().filter(|line| self.made(line)) {
            newest = newest.max(Some(self.check(text, line)?));
        }
        Ok(newest)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_text(f, &self.name, self.id, COSIGNATURE, &self.public)
    }
}

impl FromStr for WitnessKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, id, public) = parse_key(text, COSIGNATURE)?;
        Ok(Self { name, id, public })
    }
}

/// The body of `POST /add-checkpoint`: the size that the witness has, the proof from there, the checkpoint.
pub fn add_checkpoint(old: u64, proof: &[Hash], note: &str) -> String {
    let mut body = format!("old {old}\n");
    for hash in proof {
        let _ = writeln!(body, "{}", BASE64_STANDARD.encode(hash));
    }
    let _ = write!(body, "\n{note}");
    body
}

/// The note with those lines of a witness's answer that are its cosignatures; lines of other keys are left out, as the protocol
/// asks.
///
/// # Errors
/// [`Error::BadNote`]: the answer is not signature lines, none is of this key, or one of them is wrong.
pub fn with_cosignatures(note: &str, answer: &str, key: &WitnessKey) -> Result<String, Error> {
    let (text, _) = split_note(note)?;
    let mut whole = note.to_owned();
    let mut known = false;
    for line in signature_lines(answer)?.iter().filter(|line| key.made(line)) {
        key.check(text, line)?;
        whole.push_str(line.line);
        whole.push('\n');
        known = true;
    }
    if known { Ok(whole) } else { Err(bad_note(&format!("no cosignature of `{}` in the answer", key.name))) }
}
