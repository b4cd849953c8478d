//! The derived world: entries are followed, folded into records, and both are indexed.
//!
//! Everything here can be deleted and is rebuilt from the ledger. The order of writing makes that safe: first the index
//! commits documents and cursor together, then the state is snapshotted at a cursor not beyond it. On opening, folding
//! begins at the snapshot; documents that the index has already are put again under the same id.

use std::{
    fs,
    io::{self, BufWriter, Seek as _, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use anyhow::{Context as _, Result};
use correlator::Correlator;
use indexer::{Cursor, Index, IndexError};
use model::{Entry, Record, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::{log::Log, metrics::Metrics, sources::Sources};

/// Entries folded between two looks at the clock.
const STEP: usize = 2000;

/// How far the derived world is, shared with answers.
#[derive(Debug, Default)]
pub struct Progress(RwLock<Known>);

/// What answers need beside index and ledger.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Entries in the committed index.
    pub entries: u64,
    /// `recorded_at` of the last of them.
    pub time: Option<Time>,
    /// What each source has shown.
    pub sources: Arc<Sources>,
}

impl Progress {
    /// The present state.
    pub fn known(&self) -> Known {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Correlator, index and how far they are.
pub struct Derived {
    folder: PathBuf,
    correlator: Correlator,
    sources: Sources,
    index: Arc<Index>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
    /// Next entry to fold.
    next: u64,
    /// Entries whose documents the index had when we opened it.
    indexed: u64,
    /// Hash of the last folded leaf.
    last_leaf: String,
    last_time: Option<Time>,
    /// Next entry at the last commit and at the last snapshot.
    committed: u64,
    snapshotted: u64,
    records: Vec<Record>,
}

/// The snapshot file: state and where it was taken. Before it stands a line with the SHA-256 of what follows.
#[derive(Serialize, Deserialize)]
struct Snapshot<C> {
    schema: u32,
    /// Entries folded.
    size: u64,
    /// Hash of the last of them: another ledger's snapshot does not fit.
    leaf: String,
    time: Option<Time>,
    sources: Sources,
    /// The correlator's own snapshot, with its schema and rules version.
    state: C,
}

const SNAPSHOT_SCHEMA: u32 = 3;

impl Derived {
    /// Opens what is there and goes on from it; whatever does not fit this ledger and these rules is made anew.
    pub fn open(data: &Path, log: &Log, memory: usize, metrics: Arc<Metrics>) -> Result<Self> {
        let folder = data.join("derived");
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let config = indexer::Config { memory_bytes: memory, ..indexer::Config::default() };
        let index = Self::open_index(&folder.join("index"), &config, log)?;
        let indexed = index.cursor().map_or(0, |cursor| cursor.size);
        let mut derived = Self {
            correlator: Correlator::new(correlator::Config::default()),
            sources: Sources::default(),
            index: Arc::new(index),
            progress: Arc::default(),
            metrics,
            next: 0,
            indexed,
            last_leaf: String::new(),
            last_time: None,
            committed: 0,
            snapshotted: 0,
            records: Vec::new(),
            folder,
        };
        derived.restore(log);
        derived.publish();
        Ok(derived)
    }

    /// Opens the index; one that is damaged, of another schema, or of another ledger is deleted first.
    fn open_index(folder: &Path, config: &indexer::Config, log: &Log) -> Result<Index> {
        let fresh = |why: &str| -> Result<Index> {
            tracing::info!(why, "the index is made anew");
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("delete {}", folder.display()))?;
            }
            Ok(Index::open(folder, config)?)
        };
        match Index::open(folder, config) {
            Ok(index) => match index.cursor() {
                Some(cursor) if cursor.rules != correlator::RULES_VERSION => {
                    drop(index);
                    fresh("other rules made its records")
                }
                Some(cursor) if !fits(log, cursor.size, &cursor.leaf_hash) => {
                    drop(index);
                    fresh("it does not belong to this ledger")
                }
                _ => Ok(index),
            },
            Err(IndexError::Rebuild { why }) => fresh(&why),
            Err(error) => Err(error).with_context(|| format!("open index {}", folder.display())),
        }
    }

    fn restore(&mut self, log: &Log) {
        let path = self.snapshot_path();
        let Ok(bytes) = fs::read(&path) else { return }; // none yet: fold from the start
        let parsed = sealed(&bytes).map(serde_json::from_slice::<Snapshot<&RawValue>>);
        let why = match parsed.unwrap_or_else(|| Err(serde::de::Error::custom("its digest is wrong"))) {
            Err(error) => error.to_string(),
            Ok(snapshot) if snapshot.schema != SNAPSHOT_SCHEMA => "another schema".into(),
            Ok(snapshot) if snapshot.size > self.indexed => "it is ahead of the index".into(),
            Ok(snapshot) if !fits(log, snapshot.size, &snapshot.leaf) => "it does not belong to this ledger".into(),
            Ok(snapshot) => match Correlator::restore(snapshot.state.get().as_bytes()) {
                Err(error) => error.to_string(),
                Ok(correlator) => {
                    self.correlator = correlator;
                    self.sources = snapshot.sources;
                    self.next = snapshot.size;
                    self.last_leaf = snapshot.leaf;
                    self.last_time = snapshot.time;
                    self.committed = snapshot.size;
                    self.snapshotted = snapshot.size;
                    return;
                }
            },
        };
        tracing::info!(why, "the snapshot does not fit; folding from the first entry");
    }

    fn snapshot_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    /// The index, for answers.
    pub fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index)
    }

    /// How far it is, for answers.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Next entry to fold.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Something is folded and not committed. While it catches up with what the index has already, there is nothing to
    /// commit: the cursor must not go back.
    pub fn is_dirty(&self) -> bool {
        self.committed < self.next && self.next >= self.indexed
    }

    /// Folds the next entries, at most a few thousand. Gives how many.
    pub fn step(&mut self, log: &Log) -> Result<usize> {
        let leaves = log.entries(self.next, STEP).with_context(|| format!("read entries from #{}", self.next))?;
        for leaf in &leaves {
            self.fold(leaf)?;
        }
        if let Some(last) = leaves.last() {
            self.last_leaf = hex(&ledger::leaf_hash(last));
        }
        Ok(leaves.len())
    }

    fn fold(&mut self, leaf: &[u8]) -> Result<()> {
        match Entry::from_leaf(self.next, leaf) {
            Ok(entry) => {
                self.last_time = Some(entry.stamp.recorded_at);
                self.sources.apply(&entry);
                self.correlator.apply(&entry, &mut self.records);
                // What the index has already is not put again: entries never change.
                if self.next >= self.indexed {
                    self.index.add_entry(&entry).context("index an entry")?;
                }
                self.metrics.records.inc_by(self.records.len() as u64);
                for record in self.records.drain(..) {
                    self.index.add_record(&record).context("index a record")?;
                }
            }
            Err(error) => {
                self.metrics.trouble("unreadable_entry");
                tracing::warn!(
                    entry = self.next,
                    error,
                    "an entry cannot be read by this version; it stays in the ledger"
                );
            }
        }
        self.next += 1;
        Ok(())
    }

    /// Makes what was folded visible to searches.
    #[tracing::instrument(name = "commit", skip_all, fields(entries = self.next - self.committed))]
    pub fn commit(&mut self) -> Result<()> {
        if self.is_dirty() {
            let cursor =
                Cursor { size: self.next, leaf_hash: self.last_leaf.clone(), rules: correlator::RULES_VERSION };
            self.index.commit(&cursor).context("commit the index")?;
            self.committed = self.next;
            self.indexed = self.indexed.max(self.next);
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        let mut known = self.progress.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entries = self.next;
        known.time = self.last_time;
        known.sources = Arc::new(self.sources.clone());
        self.metrics.derived_entries.set(self.next);
        self.metrics.evicted.set(self.correlator.evicted());
    }

    /// Entries folded since the last snapshot.
    pub fn since_snapshot(&self) -> u64 {
        self.committed - self.snapshotted.min(self.committed)
    }

    /// Writes the state beside the index, so that the next start need not fold from the first entry. Not while something is
    /// uncommitted; gives whether the state on disk is the present one.
    pub fn snapshot(&mut self) -> Result<bool> {
        if self.is_dirty() {
            return Ok(false);
        }
        if self.next == self.snapshotted {
            return Ok(true);
        }
        let snapshot = Snapshot {
            schema: SNAPSHOT_SCHEMA,
            size: self.next,
            leaf: self.last_leaf.clone(),
            time: self.last_time,
            sources: self.sources.clone(),
            state: self.correlator.state(),
        };
        let path = self.snapshot_path();
        let new = path.with_extension("tmp");
        // Not synced: a snapshot that a power cut leaves half written fails its digest and is made anew.
        seal(&new, &snapshot).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("rename {}", new.display()))?;
        self.snapshotted = self.next;
        Ok(true)
    }
}

/// Writes a line with the digest of what follows, and JSON. It goes to the file piece by piece: a large state is never in
/// memory a second time.
fn seal(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(&[b'0'; DIGEST])?;
    file.write_all(b"\n")?;
    let mut out = BufWriter::with_capacity(64 << 10, Hashed { file, hash: Sha256::new() });
    serde_json::to_writer(&mut out, content)?;
    let Hashed { mut file, hash } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    file.write_all(hex(&hash.finalize()).as_bytes())
}

/// A file, and the hash of what was written to it.
struct Hashed {
    file: fs::File,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Length of a digest in hex.
const DIGEST: usize = 64;

/// What stands behind the line with its digest; none if it is not that.
fn sealed(bytes: &[u8]) -> Option<&[u8]> {
    let (digest, rest) = bytes.split_at_checked(DIGEST)?;
    let text = rest.strip_prefix(b"\n")?;
    (hex(&Sha256::digest(text)).as_bytes() == digest).then_some(text)
}

/// The ledger holds, at the end of `size` entries, the leaf of that hash.
fn fits(log: &Log, size: u64, leaf_hash: &str) -> bool {
    let Some(last) = size.checked_sub(1) else { return true };
    matches!(log.entry(last), Ok(Some(leaf)) if hex(&ledger::leaf_hash(&leaf)) == leaf_hash)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
        out
    })
}
