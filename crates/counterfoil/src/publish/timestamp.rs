//! Time stamps over checkpoints: RFC 3161. An authority that never heard of us says that these bytes existed at its time; it
//! sees only their digest.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use der::{
    AnyRef, Decode as _, Encode as _, Reader as _, Sequence, SliceReader, Tag, Tagged as _,
    asn1::{Null, ObjectIdentifier, OctetStringRef},
};
use http::Request;
use ledger::Disk;
use sha2::{Digest as _, Sha256};

use super::{Latest, Trouble, http::Http};

const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");

/// An authority, and where its answers are kept.
#[derive(Debug)]
pub struct Timestamps {
    url: String,
    /// `published/timestamps` (docs/formats/folder.md).
    folder: PathBuf,
}

#[derive(Sequence)]
struct Algorithm {
    oid: ObjectIdentifier,
    parameters: Null,
}

#[derive(Sequence)]
struct Imprint<'a> {
    algorithm: Algorithm,
    digest: &'a OctetStringRef,
}

/// `TimeStampReq`, with the certificate wanted in the answer.
#[derive(Sequence)]
struct Query<'a> {
    version: u8,
    imprint: Imprint<'a>,
    nonce: u64,
    certificate: bool,
}

fn query(digest: &[u8], nonce: u64) -> der::Result<Vec<u8>> {
    let imprint =
        Imprint { algorithm: Algorithm { oid: SHA_256, parameters: Null }, digest: OctetStringRef::new(digest)? };
    Query { version: 1, imprint, nonce, certificate: true }.to_der()
}

impl Timestamps {
    /// Of this authority, kept in this data folder.
    pub fn new(url: &str, data: &Path) -> Self {
        Self { url: url.to_owned(), folder: data.join("published").join("timestamps") }
    }

    /// Asks for a stamp over a note, and keeps both side by side: `NAME` and `NAME.tsr`.
    ///
    /// # Errors
    /// A [`Trouble`]: no answer, a refusal, or a stamp over something else.
    pub fn hand(&self, http: &Http, latest: &Latest, patience: Duration) -> Result<(), Trouble> {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(|error| Trouble::new("no_nonce", error.to_string()))?;
        // Without its highest bit: an INTEGER that some authorities would take for a negative number.
        let nonce = u64::from_be_bytes(nonce) >> 1;
        let digest = Sha256::digest(latest.note.as_bytes());
        let asked = query(&digest, nonce).map_err(|error| Trouble::new("bad_query", error.to_string()))?;
        let request = Request::post(&self.url).header("Content-Type", "application/timestamp-query").body(asked);
        let answer = http.send(request.map_err(|error| Trouble::new("bad_address", error.to_string()))?, patience)?;
        if !answer.is_success() {
            return Err(answer.refused());
        }
        check(&answer.body, &digest, nonce)?;
        let path = self.folder.join(latest.key());
        let keep = |path: &Path, bytes: &[u8]| {
            Disk::Real.write_durably(path, bytes).map_err(|error| Trouble::new("disk", error.to_string()))
        };
        keep(&path, latest.note.as_bytes())?;
        keep(&path.with_extension("tsr"), &answer.body)
    }
}

/// Whether a `TimeStampResp` grants a stamp over this digest in answer to this nonce. The authority's signature is not looked
/// at: whoever relies on the stamp does that, with the certificates that they trust.
fn check(answer: &[u8], digest: &[u8], nonce: u64) -> Result<(), Trouble> {
    let stamp = read(answer).map_err(|error| Trouble::new("bad_answer", error.to_string()))?;
    match stamp {
        Answer::Refused(status) => Err(Trouble::new("refused", format!("the authority answers with status {status}"))),
        Answer::Stamp { imprint, .. } if imprint != digest => {
            Err(Trouble::new("bad_answer", "the stamp is over something else"))
        }
        Answer::Stamp { nonce: there, .. } if there != Some(nonce) => {
            Err(Trouble::new("bad_answer", "the stamp answers another question"))
        }
        Answer::Stamp { .. } => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// `PKIStatus`, not granted.
    Refused(u64),
    Stamp {
        /// SHA-256 digest.
        imprint: Vec<u8>,
        nonce: Option<u64>,
    },
}

/// The members of a SEQUENCE, or the content of an explicit tag.
fn members(any: AnyRef<'_>) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(any.value())?;
    let mut list = Vec::new();
    while !reader.is_finished() {
        list.push(AnyRef::decode(&mut reader)?);
    }
    Ok(list)
}

fn member<'a>(list: &[AnyRef<'a>], at: usize) -> der::Result<AnyRef<'a>> {
    list.get(at).copied().ok_or_else(|| der::ErrorKind::Failed.into())
}

/// The members of a content of this type: `SEQUENCE { type, [0] EXPLICIT content }`.
fn content(any: AnyRef<'_>, wanted: ObjectIdentifier) -> der::Result<AnyRef<'_>> {
    let list = members(any)?;
    if member(&list, 0)?.decode_as::<ObjectIdentifier>()? != wanted {
        return Err(der::ErrorKind::OidUnknown { oid: wanted }.into());
    }
    member(&members(member(&list, 1)?)?, 0)
}

/// `TimeStampResp` → `ContentInfo` → `SignedData` → `TSTInfo` (RFC 3161 section 2.4.2, RFC 5652 section 5.1).
fn read(answer: &[u8]) -> der::Result<Answer> {
    let response = members(AnyRef::from_der(answer)?)?;
    let status = member(&members(member(&response, 0)?)?, 0)?.decode_as::<u64>()?;
    if status > 1 {
        return Ok(Answer::Refused(status));
    }
    let signed = members(content(member(&response, 1)?, SIGNED_DATA)?)?;
    let info = content(member(&signed, 2)?, TST_INFO)?;
    let info = members(AnyRef::from_der(info.decode_as::<&OctetStringRef>()?.as_bytes())?)?;
    let imprint = members(member(&info, 2)?)?;
    let algorithm = members(member(&imprint, 0)?)?;
    if member(&algorithm, 0)?.decode_as::<ObjectIdentifier>()? != SHA_256 {
        return Err(der::ErrorKind::OidUnknown { oid: SHA_256 }.into());
    }
    let imprint = member(&imprint, 1)?.decode_as::<&OctetStringRef>()?.as_bytes().to_vec();
    // Version, policy, imprint, serial number and time are always there; of what may follow only the nonce is an INTEGER.
    let nonce = info.iter().skip(5).find(|member| member.tag() == Tag::Integer);
    let nonce = nonce.map(|member| member.decode_as::<u64>()).transpose()?;
    Ok(Answer::Stamp { imprint, nonce })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes after RFC 3161 section 2.4.1, written down by hand; `openssl ts -query -in` reads them.
    #[test]
    fn a_query_has_the_bytes_of_the_standard() {
        let wanted = [
            &[0x30, 0x43, 0x02, 0x01, 0x01][..],
            &[0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00],
            &[0x04, 0x20],
            &[7; 32],
            &[0x02, 0x08, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe],
            &[0x01, 0x01, 0xff],
        ];
        assert_eq!(query(&[7; 32], 0x7fff_ffff_ffff_fffe).unwrap(), wanted.concat());
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        let reason = |answer: &[u8]| check(answer, &[7; 32], 5).unwrap_err().reason;
        assert_eq!(reason(&[0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x02]), "refused");
        for answer in [&b""[..], b"<html>", &[0x30, 0x05, 0x30, 0x03, 0x02, 0x01, 0x00], &[0x30, 0x00], &[0x30, 0x80]] {
            assert_eq!(reason(answer), "bad_answer", "{answer:02x?}");
        }
    }
    /// Made by `openssl ts -reply` over the bytes `stamped` and a line feed, with the nonce of the query above.
    #[test]
    fn a_stamp_of_openssl_is_over_its_digest_and_its_nonce_and_nothing_else() {
        let stamp = include_bytes!("../../tests/fixtures/stamp.tsr");
        let (digest, nonce) = (Sha256::digest(b"stamped\n"), 0x7fff_ffff_ffff_fffe);
        assert_eq!(check(stamp, &digest, nonce), Ok(()));
        assert_eq!(check(stamp, &digest, nonce - 1).unwrap_err().reason, "bad_answer");
        assert_eq!(check(stamp, &Sha256::digest(b"other"), nonce).unwrap_err().reason, "bad_answer");
        for end in 0..stamp.len() {
            assert!(check(&stamp[..end], &digest, nonce).is_err(), "cut at {end}");
        }
        // Wherever a bit is wrong, the answer is the same digest and nonce, or none.
        let found = |what: &[u8]| stamp.windows(what.len()).position(|window| window == what).unwrap();
        let (at, of) = (found(&digest), found(&nonce.to_be_bytes()));
        for byte in 0..stamp.len() {
            let mut bytes = stamp.to_vec();
            bytes[byte] ^= 1 << (byte % 8);
            let outcome = check(&bytes, &digest, nonce);
            assert!(outcome.is_err() || !(at..at + 32).contains(&byte) && !(of..of + 8).contains(&byte), "byte {byte}");
        }
    }
}
