//! Reading the ledger, open in this process or as a folder of somebody else's process.

use std::{path::Path, sync::Arc};

use ledger::{Error, Ledger, Reader};

/// A ledger to read from.
#[derive(Clone, Debug)]
pub enum Log {
    /// Open in this process: sees every acknowledged entry at once.
    Open(Arc<Ledger>),
    /// A folder, as it was when it was opened.
    Folder(Arc<Reader>),
}

impl Log {
    /// Opens a data folder without its lock.
    pub fn folder(data: &Path) -> Result<Self, Error> {
        Reader::open(data).map(|reader| Self::Folder(Arc::new(reader)))
    }

    /// Durable entries.
    pub fn size(&self) -> u64 {
        match self {
            Self::Open(ledger) => ledger.size(),
            Self::Folder(reader) => reader.size(),
        }
    }

    /// Leaves from `from` on, at most `limit`; none at the end.
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        match self {
            Self::Open(ledger) => ledger.entries(from, limit),
            Self::Folder(reader) => reader.entries(from, limit),
        }
    }

    /// One leaf.
    pub fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Open(ledger) => ledger.entry(index),
            Self::Folder(reader) => reader.entry(index),
        }
    }

    /// The payload that entry `index` shares.
    pub fn payload(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Self::Open(ledger) => ledger.payload(index),
            Self::Folder(reader) => reader.payload(index),
        }
    }

    /// The latest checkpoint.
    pub fn note(&self) -> String {
        match self {
            Self::Open(ledger) => ledger.checkpoint().to_string(),
            Self::Folder(reader) => reader.note().to_owned(),
        }
    }

    /// The log's name: the first line of its checkpoint.
    pub fn origin(&self) -> String {
        self.note().lines().next().unwrap_or_default().to_owned()
    }

    /// Size in the latest checkpoint: its second line.
    pub fn sealed(&self) -> u64 {
        self.note().lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or_default()
    }

    /// A c2sp.org/tlog-proof file for an entry that the latest checkpoint covers.
    pub fn proof(&self, index: u64) -> Result<String, Error> {
        match self {
            Self::Open(ledger) => ledger.tlog_proof(index),
            Self::Folder(reader) => reader.tlog_proof(index),
        }
    }
}
