//! What was promised: the index and the digest of every body that was answered 202; and the reading of each of them back
//! from the files, by value.
//!
//! Payload blocks are read here by their published format (docs/formats/payload.md) and not by the code that wrote them.
//! What still lies in the journal is read with the ledger's reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use ledger::Reader;
use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Digest = [u8; 32];

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub struct Book {
    entries: Mutex<BTreeMap<u64, Digest>>,
}

impl Book {
    /// Keeps a promise; an error if that index was given away before.
    pub fn note(&self, index: u64, body: &[u8]) -> Result<()> {
        let before = self.lock().insert(index, Sha256::digest(body).into());
        ensure!(before.is_none(), "entry {index} was given to two senders");
        Ok(())
    }

    /// Number of promises.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Nothing was promised.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Digest>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What reading back found.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// Bodies that are as they were acknowledged.
    pub same: u64,
    /// Acknowledged, and no such entry or no payload is there.
    pub lost: Vec<u64>,
    /// Acknowledged, and another body is there, or a leaf that does not commit to it.
    pub changed: Vec<u64>,
    /// Payload blocks read.
    pub blocks: u64,
    /// Entries of the ledger.
    pub size: u64,
    /// What was taken from the followed file, in order.
    pub followed: Vec<u8>,
}

impl ReadBack {
    /// Nothing is lost or changed.
    pub fn whole(&self) -> bool {
        self.lost.is_empty() && self.changed.is_empty()
    }
}

/// Name of the followed source whose payloads are put together.
pub const FOLLOWED: &str = "followed";

/// Reads everything back. The server may be running or dead.
pub fn read_back(data: &Path, book: &Book) -> Result<ReadBack> {
    let reader = Reader::open(data).context("open the ledger for reading")?;
    let promised = book.lock().clone();
    let leaves = leaves(&reader, &promised)?;
    let mut found = ReadBack { size: reader.size(), ..ReadBack::default() };
    let mut missing: BTreeSet<u64> = promised.keys().copied().collect();
    let mut followed: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for path in blocks(&data.join("ledger").join("payload"))? {
        found.blocks += 1;
        each_payload(&path, &mut |index, salted| {
            let payload = &salted[32..];
            if leaves.followed.contains(&index) {
                followed.insert(index, payload.to_vec());
            }
            // A block may be written again after a crash: each copy must be right.
            let Some(digest) = promised.get(&index) else { return };
            let commitment = hex(&Sha256::digest(salted));
            let right = leaves.commitments.get(&index) == Some(&commitment) && digest_of(payload) == *digest;
            if !right {
                found.changed.push(index);
            }
            if missing.remove(&index) && right {
                found.same += 1;
            }
        })?;
    }
    for index in missing {
        match leaves.commitments.contains_key(&index).then(|| reader.payload(index)) {
            Some(Ok(Some(payload))) if digest_of(&payload) == promised[&index] => found.same += 1,
            Some(Ok(Some(_))) => found.changed.push(index),
            _ => found.lost.push(index),
        }
    }
    for index in leaves.followed {
        if let std::collections::btree_map::Entry::Vacant(vacant) = followed.entry(index) {
            let payload = reader.payload(index).with_context(|| format!("payload of entry {index}"))?;
            vacant.insert(payload.with_context(|| format!("entry {index} names no payload"))?);
        }
    }
    found.followed = followed.into_values().flatten().collect();
    Ok(found)
}

/// What the leaves say.
struct Leaves {
    /// Commitment in hex, of what was promised.
    commitments: BTreeMap<u64, String>,
    /// Appends of the followed file.
    followed: BTreeSet<u64>,
}

fn leaves(reader: &Reader, promised: &BTreeMap<u64, Digest>) -> Result<Leaves> {
    let (mut commitments, mut followed) = (BTreeMap::new(), BTreeSet::new());
    let mut next = 0;
    loop {
        let leaves = reader.entries(next, 4096).with_context(|| format!("read leaves from {next}"))?;
        if leaves.is_empty() {
            return Ok(Leaves { commitments, followed });
        }
        for (index, leaf) in (next..).zip(&leaves) {
            let text = String::from_utf8_lossy(leaf);
            let Some((_, rest)) = text.split_once(r#""commit":""#) else { continue }; // not the first part of an append
            if promised.contains_key(&index) {
                commitments.insert(index, rest.chars().take(64).collect());
            }
            if text.contains(&format!(r#""name":"{FOLLOWED}""#)) {
                followed.insert(index);
            }
        }
        next += leaves.len() as u64;
    }
}

/// All block files, in order of class, day and first entry.
fn blocks(payload: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![payload.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue; // nothing was stored yet
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "blk") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

const TRAILER: usize = 32;
const ROW: usize = 16;

/// Gives each payload of a block with its salt before it.
fn each_payload(path: &Path, each: &mut dyn FnMut(u64, &[u8])) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let damaged = || format!("{} is no payload block", path.display());
    let (rest, trailer) = bytes.split_last_chunk::<TRAILER>().with_context(damaged)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte));
    let (frame_length, plain_length, count) = (number(&trailer[..4]), number(&trailer[4..8]), number(&trailer[8..12]));
    ensure!(trailer.ends_with(b"CFLPAY01") && rest.len() == frame_length + ROW * count, damaged());
    let (frame, footer) = rest.split_at(frame_length);
    let plain = zstd::bulk::decompress(frame, plain_length).with_context(damaged)?;
    for row in footer.chunks_exact(ROW) {
        let (offset, length) = (number(&row[8..12]), number(&row[12..]));
        each(number(&row[..8]) as u64, plain.get(offset..offset + 32 + length).with_context(damaged)?);
    }
    Ok(())
}

/// Digest of the body in a payload: of an event without the attribute lines (docs/formats/payload-contents.md).
fn digest_of(payload: &[u8]) -> Digest {
    let event = payload.starts_with(b"content-type:") || payload.starts_with(b"ce-");
    let body = match payload.windows(2).position(|w| w == b"\n\n") {
        Some(end) if event => &payload[end + 2..],
        _ => payload,
    };
    Sha256::digest(body).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}

#[cfg(test)]
mod tests {
    use ledger::{Append, Config, Lane, Ledger, Limits, Payload};

    use super::*;

    fn append(ledger: &Ledger, body: &[u8]) -> u64 {
        let payload = Payload::new([b"ce-id: 1\n\n", body].concat(), "events", "identity").unwrap();
        let leaf = format!(r#"{{"payload":{}}}"#, serde_json::to_string(payload.reference()).unwrap());
        let append = Append { lane: Lane::Push, bodies: vec![leaf.into()], payload: Some(payload), position: None };
        ledger.append_wait(append).unwrap().first
    }

    #[test]
    fn what_is_lost_or_changed_is_found_in_blocks_and_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { limits: Limits::small(), ..Config::new(folder.path()) };
        ledger::init(&config, None).unwrap();
        let book = Book::default();
        let first_life = Ledger::open(&config).unwrap().ledger;
        book.note(append(&first_life, b"stored"), b"stored").unwrap();
        book.note(append(&first_life, b"stored otherwise"), b"stored").unwrap();
        first_life.close().unwrap();
        let second_life = Ledger::open(&config).unwrap().ledger;
        book.note(append(&second_life, b"in the journal"), b"in the journal").unwrap();
        book.note(append(&second_life, b"in the journal otherwise"), b"in the journal").unwrap();
        book.note(99, b"never").unwrap();
        assert!(book.note(99, b"never").is_err(), "an index given twice");
        let found = read_back(folder.path(), &book).unwrap();
        assert_eq!((found.same, found.blocks), (2, 1));
        assert_eq!((found.changed, found.lost), (vec![1, 3], vec![99]));
    }
}
