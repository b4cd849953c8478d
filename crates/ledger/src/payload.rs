//! Payloads: the salted commitment that stands in a leaf, and the blocks that hold the bytes (docs/formats/payload.md).

use crate::durable::Disk;
use crate::error::Error;
use crate::merkle::Hash;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};

/// Plain bytes of a block, salts included; a larger payload has a block of its own.
const BLOCK_BYTES: usize = 1 << 20;
/// A block holds at most one append beyond [`BLOCK_BYTES`]; what says that it is longer is not unpacked.
const MAX_PLAIN: usize = BLOCK_BYTES + (32 << 20) + SALT;
const SALT: usize = 32;
const MAGIC: &[u8; 8] = b"CFLPAY01";
const TRAILER: usize = 32;
const FOOTER_ROW: usize = 16;
/// zstd level: 1 keeps up with the journal on one core, and text of this kind gains little from higher ones.
const LEVEL: i32 = 1;

/// The raw input of one append, with the salt of its commitment.
#[derive(Debug, Clone)]
pub struct Payload {
    pub(crate) salt: [u8; SALT],
    pub(crate) bytes: Vec<u8>,
    reference: PayloadRef,
}

/// What a leaf says about a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadRef {
    /// SHA-256(salt ‖ bytes), 64 lower-case hex digits.
    pub commit: String,
    /// Length of the bytes.
    pub len: u64,
    /// Retention class: 1 to 32 of `a`–`z`, `0`–`9`, `-`.
    pub class: String,
    /// What the bytes are, in the owner's word; same characters as a class.
    pub encoding: String,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

pub(crate) fn check_word(word: &str) -> Result<(), Error> {
    let good = (1..=32).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(()) } else { Err(Error::BadWord { word: word.to_owned() }) }
}

impl Payload {
    /// Draws a salt and commits to the bytes. Call this before the body is made: the body carries [`Payload::reference`].
    ///
    /// # Errors
    /// [`Error::BadWord`] for a class or encoding that is none; [`Error::Io`] if the system has no random numbers.
    pub fn new(bytes: Vec<u8>, class: &str, encoding: &str) -> Result<Self, Error> {
        let mut salt = [0; SALT];
        random(&mut salt)?;
        Self::with_salt(bytes, class, encoding, salt)
    }

    pub(crate) fn with_salt(bytes: Vec<u8>, class: &str, encoding: &str, salt: [u8; SALT]) -> Result<Self, Error> {
        check_word(class)?;
        check_word(encoding)?;
        let digest = Sha256::new().chain_update(salt).chain_update(&bytes).finalize();
        let reference = PayloadRef {
            commit: hex(&digest),
            len: bytes.len() as u64,
            class: class.to_owned(),
            encoding: encoding.to_owned(),
        };
        Ok(Self { salt, bytes, reference })
    }

    /// The reference that the append's bodies carry in their top-level member `payload`.
    pub fn reference(&self) -> &PayloadRef {
        &self.reference
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| {
        Error::io("draw random numbers from", Path::new("the system"))(std::io::Error::other(error.to_string()))
    })
}

/// The payload reference in a body: its first top-level member `payload`. None if that is not of this form.
pub fn reference_in(body: &[u8]) -> Option<PayloadRef> {
    let reference: PayloadRef = first_member(body, "payload")?;
    // A class becomes a path, so what is no class is no reference.
    check_word(&reference.class).is_ok().then_some(reference)
}

/// The first top-level member of this name in a body that is a JSON object; none if it is not of this form. What stands behind
/// it is not read: this is on the way of every leaf, and that is mostly the longer part.
pub(crate) fn first_member<T: DeserializeOwned>(body: &[u8], name: &str) -> Option<T> {
    let mut found = None;
    // An error says that it ended early: behind the member, or where it is not as it should be.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(Members { name, found: &mut found });
    found
}

/// Reads the members of an object up to one.
struct Members<'n, T> {
    name: &'n str,
    found: &'n mut Option<T>,
}

impl<'b, T: DeserializeOwned> Visitor<'b> for Members<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(is_it) = members.next_key_seed(Name(self.name))? {
            if is_it {
                *self.found = Some(members.next_value()?);
                break;
            }
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Whether a member has this name.
struct Name<'n>(&'n str);

impl<'b> DeserializeSeed<'b> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'b>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Commitment of salt and bytes that lie together.
pub(crate) fn commitment(salted: &[u8]) -> Hash {
    Sha256::digest(salted).into()
}

impl PayloadRef {
    /// Whether this payload, with its salt, whose digest this is, is the one that is meant.
    pub(crate) fn fits(&self, salted: &[u8], digest: &Hash) -> bool {
        self.len == (salted.len() - SALT) as u64 && self.commit == hex(digest)
    }
}

/// Where the block that begins with this append is, below `payload/`.
pub(crate) fn block_path(class: &str, day: &str, first: u64) -> PathBuf {
    [class, day, &format!("{first:020}.blk")].iter().collect()
}

/// The first append of a block, from its file name.
pub(crate) fn block_first(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".blk")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// One payload in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRow {
    /// First entry of the append.
    pub(crate) entry: u64,
    offset: u32,
    /// Length of the payload without its salt.
    pub(crate) len: u32,
}

/// A block that is still being filled.
#[derive(Debug, Default)]
pub(crate) struct OpenBlock {
    plain: Vec<u8>,
    rows: Vec<BlockRow>,
}

impl OpenBlock {
    /// With memory for a whole block.
    pub(crate) fn with_room() -> Self {
        Self { plain: Vec::with_capacity(BLOCK_BYTES), rows: Vec::new() }
    }

    /// Whether the block has to be closed before this payload.
    pub(crate) fn is_full_for(&self, salted: &[u8]) -> bool {
        !self.rows.is_empty() && self.plain.len() + salted.len() > BLOCK_BYTES
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.rows.first().map(|row| row.entry)
    }

    pub(crate) fn push(&mut self, entry: u64, salted: &[u8]) {
        let offset = u32::try_from(self.plain.len()).expect("a block is at most one append beyond 1 MiB");
        let len = u32::try_from(salted.len() - SALT).expect("an append is below 4 GiB");
        self.rows.push(BlockRow { entry, offset, len });
        self.plain.extend_from_slice(salted);
    }

    /// The payload without its salt.
    pub(crate) fn find(&self, entry: u64) -> Option<&[u8]> {
        let row = self.rows[self.rows.binary_search_by_key(&entry, |row| row.entry).ok()?];
        Some(&self.plain[row.offset as usize + SALT..][..row.len as usize])
    }

    /// The bytes of the block's file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = zstd::bulk::compress(&self.plain, LEVEL).expect("compressing into memory");
        let frame = u32::try_from(out.len()).expect("below 4 GiB");
        let frame_crc = crc32c::crc32c(&out);
        let mut footer = Vec::with_capacity(self.rows.len() * FOOTER_ROW);
        for row in &self.rows {
            footer.extend_from_slice(&row.entry.to_le_bytes());
            footer.extend_from_slice(&row.offset.to_le_bytes());
            footer.extend_from_slice(&row.len.to_le_bytes());
        }
        let plain = u32::try_from(self.plain.len()).expect("below 4 GiB");
        let rows = u32::try_from(self.rows.len()).expect("below 2^28");
        let mut trailer = Vec::with_capacity(TRAILER);
        for number in [frame, plain, rows, frame_crc, crc32c::crc32c(&footer)] {
            trailer.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&trailer);
        trailer.extend_from_slice(&crc.to_le_bytes());
        trailer.extend_from_slice(MAGIC);
        out.extend_from_slice(&footer);
        out.extend_from_slice(&trailer);
        out
    }
}

/// The last bytes of a block's file.
struct Trailer {
    frame_len: usize,
    plain_len: usize,
    count: usize,
    frame_crc: u32,
    footer_crc: u32,
}

impl Trailer {
    fn read(bytes: &[u8; TRAILER]) -> Result<Self, &'static str> {
        let number = |i: usize| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().expect("4 bytes"));
        if &bytes[24..] != MAGIC {
            return Err("not a payload block");
        }
        if crc32c::crc32c(&bytes[..20]) != number(5) {
            return Err("the CRC of the trailer is wrong");
        }
        let size = |i| number(i) as usize;
        if size(1) > MAX_PLAIN {
            return Err("longer than any block");
        }
        Ok(Self { frame_len: size(0), plain_len: size(1), count: size(2), frame_crc: number(3), footer_crc: number(4) })
    }

    fn rows(&self, footer: &[u8]) -> Result<Vec<BlockRow>, &'static str> {
        if crc32c::crc32c(footer) != self.footer_crc {
            return Err("the CRC of its footer is wrong");
        }
        let rows: Vec<BlockRow> = footer
            .chunks_exact(FOOTER_ROW)
            .map(|row| BlockRow {
                entry: u64::from_le_bytes(row[..8].try_into().expect("8 bytes")),
                offset: u32::from_le_bytes(row[8..12].try_into().expect("4 bytes")),
                len: u32::from_le_bytes(row[12..].try_into().expect("4 bytes")),
            })
            .collect();
        let inside = |row: &BlockRow| row.offset as usize + SALT + row.len as usize <= self.plain_len;
        if !rows.iter().all(inside) || !rows.is_sorted_by(|a, b| a.entry < b.entry) {
            return Err("its footer is not in order");
        }
        Ok(rows)
    }
}

/// Length of a block's file and the rows of its footer, without reading the payloads; no rows if it is damaged.
pub(crate) fn read_rows(disk: &Disk, path: &Path) -> Result<(u64, Option<Vec<BlockRow>>), Error> {
    // Mostly enough for the whole footer: payloads of less than 4 KiB on average would need more.
    let (len, mut end) = disk.read_end(path, 256 * FOOTER_ROW + TRAILER)?;
    let Some(Ok(trailer)) = end.last_chunk::<TRAILER>().map(Trailer::read) else { return Ok((len, None)) };
    let footer_len = trailer.count * FOOTER_ROW;
    if len != (trailer.frame_len + footer_len + TRAILER) as u64 {
        return Ok((len, None));
    }
    if end.len() < footer_len + TRAILER {
        end = disk.read_end(path, footer_len + TRAILER)?.1;
    }
    let footer = end.len().checked_sub(footer_len + TRAILER).and_then(|from| end.get(from..end.len() - TRAILER));
    Ok((len, footer.and_then(|footer| trailer.rows(footer).ok())))
}

/// What zstd needs for reading a block, and can use again for the next one.
pub(crate) type Unpacker = zstd::bulk::Decompressor<'static>;

/// A block read from its file, checked and unpacked.
#[derive(Debug, Default)]
pub(crate) struct Block {
    plain: Vec<u8>,
    rows: Vec<BlockRow>,
}

impl Block {
    /// Reads the bytes of a block's file. The error says what is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut block = Self::default();
        block.read(bytes, &mut Unpacker::default())?;
        Ok(block)
    }

    /// Becomes the block with these bytes, in the memory that it has. After an error it is none.
    pub(crate) fn read(&mut self, bytes: &[u8], unpacker: &mut Unpacker) -> Result<(), &'static str> {
        let (rest, trailer) = bytes.split_last_chunk::<TRAILER>().ok_or("shorter than its trailer")?;
        let trailer = Trailer::read(trailer)?;
        if rest.len() != trailer.frame_len + trailer.count * FOOTER_ROW {
            return Err("its length is not that of its trailer");
        }
        let (frame, footer) = rest.split_at(trailer.frame_len);
        if crc32c::crc32c(frame) != trailer.frame_crc {
            return Err("the CRC of its frame is wrong");
        }
        self.rows = trailer.rows(footer)?;
        self.plain.resize(trailer.plain_len, 0);
        let len = unpacker.decompress_to_buffer(frame, self.plain.as_mut_slice());
        let len = len.map_err(|_| "its zstd frame cannot be read")?;
        if len == trailer.plain_len { Ok(()) } else { Err("its zstd frame is too short") }
    }

    pub(crate) fn rows(&self) -> &[BlockRow] {
        &self.rows
    }

    /// Salt ‖ bytes of a row of this block.
    pub(crate) fn salted(&self, row: &BlockRow) -> &[u8] {
        &self.plain[row.offset as usize..][..SALT + row.len as usize]
    }

    /// Salt ‖ bytes of an append's payload.
    pub(crate) fn salted_of(&self, entry: u64) -> Option<&[u8]> {
        let at = self.rows.binary_search_by_key(&entry, |row| row.entry).ok()?;
        Some(self.salted(&self.rows[at]))
    }

    /// The payload of an append, without its salt.
    pub(crate) fn find(&self, entry: u64) -> Option<&[u8]> {
        Some(&self.salted_of(entry)?[SALT..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_found_only_at_the_top_level() {
        let payload = Payload::with_salt(b"abc".to_vec(), "raw-7d", "identity", [1; 32]).unwrap();
        let body = serde_json::json!({"v": 1, "payload": payload.reference(), "fact": {"payload": 3}}).to_string();
        assert_eq!(reference_in(body.as_bytes()).as_ref(), Some(payload.reference()));
        let deeper = serde_json::json!({"fact": {"payload": payload.reference()}}).to_string();
        assert_eq!(reference_in(deeper.as_bytes()), None);
        assert_eq!(reference_in(b"null"), None);
        let reference = serde_json::to_string(payload.reference()).unwrap();
        let first = format!(r#"{{"a":[{{"payload":1}},"\""],"p\u0061yload":{reference},"payload":{reference},"broken"#);
        assert_eq!(reference_in(first.as_bytes()).as_ref(), Some(payload.reference()));
        for other in
            [r#""payload":null,"#, r#""payload":{"commit":"","len":0,"class":"../up","encoding":"e"},"#, "broken,"]
        {
            assert_eq!(reference_in(format!(r#"{{{other}"payload":{reference}}}"#).as_bytes()), None, "{other}");
        }
        assert!(matches!(Payload::new(vec![], "../up", "identity"), Err(Error::BadWord { .. })));
    }

    #[test]
    fn a_block_comes_back_and_every_flipped_bit_is_seen() {
        let mut block = OpenBlock::default();
        let payloads: Vec<Payload> =
            (0..5u8).map(|i| Payload::with_salt(vec![i; usize::from(i) * 10], "c", "e", [i; 32]).unwrap()).collect();
        for (i, payload) in (0u64..).zip(&payloads) {
            let salted = [payload.salt.as_slice(), payload.bytes()].concat();
            assert_eq!(hex(&commitment(&salted)), payload.reference().commit);
            block.push(i * 3, &salted);
        }
        let bytes = block.encode();
        let read = Block::decode(&bytes).unwrap();
        for (i, payload) in (0u64..).zip(&payloads) {
            assert_eq!(read.find(i * 3), Some(payload.bytes()));
            assert_eq!(block.find(i * 3), Some(payload.bytes()));
        }
        assert_eq!(read.find(1), None);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Block::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
