//! What was promised: the index and the digest of every body that was answered 202; and the reading of each of them back
//! from the files, by value.
//!
//! Payload blocks are read here by their published format (docs/formats/payload.md) and not by the code that wrote them.
//! What still lies in the journal is read with the ledger's reader. A payload may be missing only where an entry under a
//! checkpoint says that it was pruned, and its leaf still commits to what was sent; whatever else is missing is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use ledger::Reader;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256.
pub type Digest = [u8; 32];

/// Everything that was acknowledged.
#[derive(Debug, Default)]
pub struct Book {
    entries: Mutex<BTreeMap<u64, Promise>>,
}

/// What was acknowledged at one index.
#[derive(Clone, Debug)]
struct Promise {
    /// Of the body.
    digest: Digest,
    /// Commitment in hex, once it is known to be one to that body: its salt goes with the payload, so of what was pruned
    /// nobody can tell afterwards.
    commitment: Option<String>,
}

impl Book {
    /// Keeps a promise; an error if that index was given away before.
    pub fn note(&self, index: u64, body: &[u8]) -> Result<()> {
        self.keep(index, body, None)
    }

    /// [`Book::note`] of a body whose leaf's commitment is known.
    pub fn note_committed(&self, index: u64, body: &[u8], commitment: String) -> Result<()> {
        self.keep(index, body, Some(commitment))
    }

    fn keep(&self, index: u64, body: &[u8], commitment: Option<String>) -> Result<()> {
        let before = self.lock().insert(index, Promise { digest: Sha256::digest(body).into(), commitment });
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Promise>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What reading back found.
#[derive(Debug, Default)]
pub struct ReadBack {
    /// Bodies that are as they were acknowledged.
    pub same: u64,
    /// Acknowledged, and the payload is gone as an entry says; the leaf still commits to it.
    pub pruned: u64,
    /// Entries that say what was pruned.
    pub prunings: u64,
    /// Acknowledged, and no such entry or no payload is there, and no entry says why.
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
            let Some(promise) = promised.get(&index) else { return };
            let commitment = hex(&Sha256::digest(salted));
            let right = leaves.references.get(&index).is_some_and(|reference| reference.commitment == commitment)
                && digest_of(payload) == promise.digest;
            if !right {
                found.changed.push(index);
            }
            if missing.remove(&index) && right {
                found.same += 1;
            }
        })?;
    }
    found.prunings = leaves.prunings.len() as u64;
    for index in missing {
        let Some(reference) = leaves.references.get(&index) else {
            found.lost.push(index);
            continue;
        };
        match reader.payload(index) {
            Ok(Some(payload)) if digest_of(&payload) == promised[&index].digest => found.same += 1,
            Ok(Some(_)) => found.changed.push(index),
            _ if !leaves.prunings.iter().any(|pruning| pruning.covers(index, reference)) => found.lost.push(index),
            _ if promised[&index].commitment.as_ref() == Some(&reference.commitment) => found.pruned += 1,
            _ => found.changed.push(index),
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
#[derive(Default)]
struct Leaves {
    /// Of what was promised.
    references: BTreeMap<u64, Reference>,
    /// Appends of the followed file.
    followed: BTreeSet<u64>,
    /// Entries under the checkpoint that say what was pruned.
    prunings: Vec<Pruning>,
}

/// What a leaf says about its payload.
struct Reference {
    /// In hex.
    commitment: String,
    class: String,
    /// UTC day of the leaf's stamp.
    day: String,
}

/// What an entry says was pruned (docs/formats/payload.md, "Pruning").
struct Pruning {
    by: u64,
    class: String,
    through: String,
}

impl Pruning {
    fn covers(&self, index: u64, reference: &Reference) -> bool {
        index < self.by && reference.class == self.class && reference.day <= self.through
    }
}

fn leaves(reader: &Reader, promised: &BTreeMap<u64, Promise>) -> Result<Leaves> {
    let mut found = Leaves::default();
    let followed = format!(r#""name":"{FOLLOWED}""#);
    let mut next = 0;
    loop {
        let leaves = reader.entries(next, 4096).with_context(|| format!("read leaves from {next}"))?;
        if leaves.is_empty() {
            return Ok(found);
        }
        for (index, leaf) in (next..).zip(&leaves) {
            let text = String::from_utf8_lossy(leaf);
            let pruning = index < reader.checkpoint().size && text.contains(r#""pruned":{"#);
            let first = text.contains(r#""commit":""#); // the first part of an append
            if first && text.contains(&followed) {
                found.followed.insert(index);
            }
            if !(pruning || first && promised.contains_key(&index)) {
                continue;
            }
            let Some((stamp, body)) = text.split_once('\n') else { continue };
            let Ok(body) = serde_json::from_str::<Value>(body) else { continue };
            let word = |member: &str, name: &str| Some(body.get(member)?.get(name)?.as_str()?.to_owned());
            if let (Some(class), Some(through)) = (word("pruned", "class"), word("pruned", "through")) {
                found.prunings.push(Pruning { by: index, class, through });
            }
            if let (Some(commitment), Some(class)) = (word("payload", "commit"), word("payload", "class")) {
                let day = stamp.strip_prefix(r#"{"recorded_at":""#).and_then(|time| time.get(..10));
                let day = day.with_context(|| format!("the stamp of entry {index} has no day"))?.to_owned();
                found.references.insert(index, Reference { commitment, class, day });
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
    use std::sync::Arc;

    use ledger::{Append, Clock, Config, Lane, Ledger, Limits, ManualClock, Payload, Prune};

    use super::*;

    /// Appends, and gives the commitment.
    fn append(ledger: &Ledger, class: &str, body: &[u8]) -> (u64, String) {
        let payload = Payload::new([b"ce-id: 1\n\n", body].concat(), class, "identity").unwrap();
        let commitment = payload.reference().commit.clone();
        let leaf = format!(r#"{{"payload":{}}}"#, serde_json::to_string(payload.reference()).unwrap());
        let append = Append { lane: Lane::Push, bodies: vec![leaf.into()], payload: Some(payload), position: None };
        (ledger.append_wait(append).unwrap().first, commitment)
    }

    fn folder() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { limits: Limits::small(), ..Config::new(folder.path()) };
        ledger::init(&config, None).unwrap();
        (folder, config)
    }

    #[test]
    fn what_is_lost_or_changed_is_found_in_blocks_and_in_the_journal() {
        let (folder, config) = folder();
        let book = Book::default();
        let first_life = Ledger::open(&config).unwrap().ledger;
        book.note(append(&first_life, "events", b"stored").0, b"stored").unwrap();
        book.note(append(&first_life, "events", b"stored otherwise").0, b"stored").unwrap();
        first_life.close().unwrap();
        let second_life = Ledger::open(&config).unwrap().ledger;
        book.note(append(&second_life, "events", b"in the journal").0, b"in the journal").unwrap();
        book.note(append(&second_life, "events", b"in the journal otherwise").0, b"in the journal").unwrap();
        book.note(99, b"never").unwrap();
        assert!(book.note(99, b"never").is_err(), "an index given twice");
        let found = read_back(folder.path(), &book).unwrap();
        assert_eq!((found.same, found.blocks), (2, 1));
        assert_eq!((found.changed, found.lost), (vec![1, 3], vec![99]));
    }

    #[test]
    fn only_what_an_entry_says_was_pruned_may_be_missing() {
        let (folder, config) = folder();
        let clock = Arc::new(ManualClock::default());
        let config = Config { clock: Clock::Manual(Arc::clone(&clock)), ..config };
        let book = Book::default();
        let first_life = Ledger::open(&config).unwrap().ledger;
        let day = |day: i64| clock.set_wall(day * 86_400_000_000);
        day(1);
        for body in [b"one".as_slice(), b"two", b"three"] {
            let (index, commitment) = append(&first_life, "lines", body);
            match body {
                b"one" => book.note_committed(index, body, commitment).unwrap(),
                b"two" => book.note_committed(index, body, "0".repeat(64)).unwrap(),
                _ => book.note(index, body).unwrap(),
            }
        }
        let of_another_class = append(&first_life, "events", b"of another class");
        day(2);
        let younger = append(&first_life, "lines", b"younger");
        book.note_committed(of_another_class.0, b"of another class", of_another_class.1).unwrap();
        book.note_committed(younger.0, b"younger", younger.1).unwrap();
        first_life.close().unwrap();
        let found = read_back(folder.path(), &book).unwrap();
        assert_eq!((found.same, found.pruned, found.prunings, found.whole()), (5, 0, 0, true));

        // The salts are gone with the payloads: one is as it was seen before, the others nobody can vouch for.
        let second_life = Ledger::open(&config).unwrap().ledger;
        let prune = Prune { class: "lines".into(), through: "1970-01-02".into() };
        let body = |_: &[_]| br#"{"pruned":{"class":"lines","through":"1970-01-02"}}"#.to_vec();
        assert_eq!(second_life.prune(&prune, body, || true).unwrap().payloads, 3);
        second_life.close().unwrap();
        let found = read_back(folder.path(), &book).unwrap();
        assert_eq!((found.same, found.pruned, found.prunings), (2, 1, 1));
        assert_eq!((found.changed, found.lost), (vec![1, 2], vec![]));

        // Another class and a younger day are nothing that the entry speaks about.
        let blocks = folder.path().join("ledger").join("payload");
        fs::remove_dir_all(blocks.join("events")).unwrap();
        fs::remove_dir_all(blocks.join("lines").join("1970-01-03")).unwrap();
        assert_eq!(read_back(folder.path(), &book).unwrap().lost, [of_another_class.0, younger.0]);
    }
}
