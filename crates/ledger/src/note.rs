//! Signed notes and checkpoints: C2SP signed-note v1 and tlog-checkpoint v1, Ed25519 (signature type 1) only. What witnesses
//! add to a note is in `cosignature`.

use crate::error::Error;
use crate::merkle::Hash;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const ED25519: u8 = 1;
/// C2SP signed-note: a verifier accepts at least 16 signatures. More than this is no note of ours.
const MAX_SIGNATURES: usize = 64;

/// Checks the name of a log, which is also the name of its keys.
pub(crate) fn check_origin(origin: &str) -> Result<(), Error> {
    let bad = origin.is_empty()
        || origin.len() > 255
        || origin.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control());
    if bad { Err(Error::BadOrigin { origin: origin.to_owned() }) } else { Ok(()) }
}

fn key_id(name: &str, kind: u8, public: &VerifyingKey) -> u32 {
    let digest =
        Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public.as_bytes()).finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Reads `name+key id+base64(type ‖ public key)` of the given signature type.
pub(crate) fn parse_key(text: &str, kind: u8) -> Result<(String, u32, VerifyingKey), Error> {
    let bad = |detail: &str| Error::BadNote { what: "verifier key", detail: format!("{detail} in `{text}`") };
    let mut parts = text.trim_end_matches('\n').splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad("not three parts"));
    };
    check_origin(name)?;
    let key = BASE64_STANDARD.decode(key).map_err(|_| bad("no base64"))?;
    let Some((found, key)) = key.split_first() else { return Err(bad("no key")) };
    if *found != kind {
        return Err(bad(&format!("signature type {found} instead of {kind}")));
    }
    let key: [u8; 32] = key.try_into().map_err(|_| bad("a key of the wrong length"))?;
    let public = VerifyingKey::from_bytes(&key).map_err(|_| bad("no Ed25519 key"))?;
    let right = key_id(name, kind, &public);
    if id == format!("{right:08x}") {
        Ok((name.to_owned(), right, public))
    } else {
        Err(bad("a key id that does not fit the key"))
    }
}

/// Writes what [`parse_key`] reads.
pub(crate) fn key_text(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    id: u32,
    kind: u8,
    public: &VerifyingKey,
) -> fmt::Result {
    let mut key = vec![kind];
    key.extend_from_slice(public.as_bytes());
    write!(f, "{name}+{id:08x}+{}", BASE64_STANDARD.encode(key))
}

/// One signature line of a note, not verified.
pub(crate) struct SignatureLine<'n> {
    /// The line as it stands, without its line feed.
    pub(crate) line: &'n str,
    pub(crate) name: &'n str,
    pub(crate) id: u32,
    pub(crate) signature: Vec<u8>,
}

/// Splits a signed note into its text, which ends with a line feed, and its signature lines.
pub(crate) fn split_note(note: &str) -> Result<(&str, Vec<SignatureLine<'_>>), Error> {
    let (text, signatures) = note
        .rfind("\n\n")
        .map(|at| (&note[..=at], &note[at + 2..]))
        .ok_or_else(|| bad_note("no empty line before the signatures"))?;
    Ok((text, signature_lines(signatures)?))
}

/// Reads signature lines: the end of a note, or a witness's answer.
pub(crate) fn signature_lines(lines: &str) -> Result<Vec<SignatureLine<'_>>, Error> {
    let lines = lines.strip_suffix('\n').ok_or_else(|| bad_note("the last signature line is not ended"))?;
    if lines.split('\n').count() > MAX_SIGNATURES {
        return Err(bad_note("too many signatures"));
    }
    let parse = |line| {
        let (name, signature) = str::strip_prefix(line, "\u{2014} ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| bad_note("a signature line that is none"))?;
        let signature = BASE64_STANDARD.decode(signature).map_err(|_| bad_note("a signature that is no base64"))?;
        let (id, signature) =
            signature.split_first_chunk::<4>().ok_or_else(|| bad_note("a signature that is too short"))?;
        Ok(SignatureLine { line, name, id: u32::from_be_bytes(*id), signature: signature.to_vec() })
    };
    lines.split('\n').map(parse).collect()
}

pub(crate) fn bad_note(detail: &str) -> Error {
    Error::BadNote { what: "checkpoint", detail: detail.to_owned() }
}

/// A verifier key: `name+key id+base64(type ‖ public key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    id: u32,
    public: VerifyingKey,
}

impl Vkey {
    /// Name of the key; for a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are the same public key, whatever they are called.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.public == other.public
    }

    /// The key id, as it stands in signatures and in the name of the secret key's file.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        key_text(f, &self.name, self.id, ED25519, &self.public)
    }
}

impl FromStr for Vkey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, id, public) = parse_key(text, ED25519)?;
        Ok(Self { name, id, public })
    }
}

/// A signing key. Its text form is that of Go's `sumdb/note` package.
#[derive(Clone)]
pub(crate) struct Skey {
    vkey: Vkey,
    secret: SigningKey,
}

impl Skey {
    pub(crate) fn from_seed(name: &str, seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        let public = secret.verifying_key();
        Self { vkey: Vkey { id: key_id(name, ED25519, &public), name: name.to_owned(), public }, secret }
    }

    pub(crate) fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    pub(crate) fn to_text(&self) -> String {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.secret.as_bytes());
        format!("PRIVATE+KEY+{}+{:08x}+{}\n", self.vkey.name, self.vkey.id, BASE64_STANDARD.encode(key))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        // The text itself is never quoted in an error: it is secret.
        let bad = |detail: &str| Error::BadNote { what: "signing key", detail: detail.to_owned() };
        let rest = text
            .strip_prefix("PRIVATE+KEY+")
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or_else(|| bad("no PRIVATE+KEY line"))?;
        let mut parts = rest.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("not three parts"));
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| bad("no base64"))?;
        let Some((&ED25519, seed)) = key.split_first() else { return Err(bad("type is not Ed25519")) };
        let seed: [u8; 32] = seed.try_into().map_err(|_| bad("wrong length"))?;
        let skey = Self::from_seed(name, &seed);
        if format!("{:08x}", skey.vkey.id) == id { Ok(skey) } else { Err(bad("the key id does not fit the key")) }
    }

    fn sign(&self, text: &str) -> String {
        let mut line = self.vkey.id.to_be_bytes().to_vec();
        line.extend_from_slice(&self.secret.sign(text.as_bytes()).to_bytes());
        format!("\u{2014} {} {}\n", self.vkey.name, BASE64_STANDARD.encode(line))
    }
}

/// A checkpoint: what a log signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root hash of the tree of this size.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }

    /// The signed note, one signature line per key in the order given.
    pub(crate) fn sign<'k>(&self, keys: impl IntoIterator<Item = &'k Skey>) -> String {
        let text = self.text();
        let signatures: String = keys.into_iter().map(|key| key.sign(&text)).collect();
        format!("{text}\n{signatures}")
    }

    /// Reads a signed note and verifies it: at least one signature is by one of `keys`, and none by them is wrong. Signatures
    /// of others (witnesses) are left alone.
    ///
    /// # Errors
    /// [`Error::BadNote`]: not a checkpoint, no known key, or a wrong signature.
    pub fn verify<'k>(note: &str, keys: impl IntoIterator<Item = &'k Vkey>) -> Result<Self, Error> {
        let (text, lines) = split_note(note)?;
        let keys: Vec<&Vkey> = keys.into_iter().collect();
        let mut known = false;
        for line in lines {
            for key in keys.iter().filter(|key| key.name == line.name && key.id == line.id) {
                let signature = line.signature.as_slice().try_into();
                let signature: &[u8; 64] = signature.map_err(|_| bad_note("a signature of the wrong length"))?;
                let signature = ed25519_dalek::Signature::from_bytes(signature);
                key.public
                    .verify_strict(text.as_bytes(), &signature)
                    .map_err(|_| bad_note("the signature is wrong"))?;
                known = true;
            }
        }
        let checkpoint = Self::parse_text(text).ok_or_else(|| bad_note("not the lines origin, size, root"))?;
        if !known {
            return Err(bad_note(&format!("no signature by a known key of `{}`", checkpoint.origin)));
        }
        if !keys.iter().any(|key| key.name == checkpoint.origin) {
            return Err(bad_note("the origin is not the name of a known key"));
        }
        Ok(checkpoint)
    }

    /// What a note says, its signatures not verified.
    ///
    /// # Errors
    /// [`Error::BadNote`]: not a checkpoint.
    pub fn parse(note: &str) -> Result<Self, Error> {
        Self::parse_text(split_note(note)?.0).ok_or_else(|| bad_note("not the lines origin, size, root"))
    }

    fn parse_text(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        check_origin(origin).ok()?;
        let number: u64 = size.parse().ok()?;
        // One spelling of a size only, so that two notes of the same tree have the same bytes.
        let canonical = number.to_string() == size;
        let root: Hash = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        canonical.then(|| Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_notes_survive_their_text_form() {
        let skey = Skey::from_seed("log.example/a", &[7; 32]);
        assert_eq!(Skey::parse(&skey.to_text()).unwrap().vkey(), skey.vkey());
        assert_eq!(&skey.vkey().to_string().parse::<Vkey>().unwrap(), skey.vkey());
        let checkpoint = Checkpoint { origin: "log.example/a".to_owned(), size: 5, root: [3; 32] };
        let other = Skey::from_seed("log.example/a", &[8; 32]);
        let note = checkpoint.sign([&skey, &other]);
        assert_eq!(Checkpoint::verify(&note, [skey.vkey()]).unwrap(), checkpoint);
        assert_eq!(Checkpoint::verify(&note, [other.vkey()]).unwrap(), checkpoint);
        let stranger = Skey::from_seed("log.example/a", &[9; 32]);
        assert!(Checkpoint::verify(&note, [stranger.vkey()]).is_err());
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(
                    Checkpoint::verify(&text, [skey.vkey(), other.vkey()]).is_err() || at > note.find("\n\n").unwrap(),
                    "byte {at}"
                );
            }
        }
    }
}
