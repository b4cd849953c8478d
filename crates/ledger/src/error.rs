//! What can go wrong, once for the whole crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of opening, reading or verifying a ledger. Every variant says what, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no complete ledger in this folder.
    #[error("{} is not a ledger (no file `format`). Create one with `init`; if there was one, check that its file system is mounted", path.display())]
    NotALedger {
        /// The folder.
        path: PathBuf,
    },
    /// `init` on a folder that already has one.
    #[error("{} already holds a ledger; it is left as it is", path.display())]
    AlreadyExists {
        /// The file that shows it.
        path: PathBuf,
    },
    /// The folder was written by a newer program.
    #[error("{} needs version {needed} of the ledger's format, this program knows {known}. Use the newer program", path.display())]
    Newer {
        /// The `format` file.
        path: PathBuf,
        /// Version that the folder asks for.
        needed: u32,
        /// Version that this program knows.
        known: u32,
    },
    /// Another process writes to this ledger. Wait and try again.
    #[error("{} is locked: another process has this ledger open", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// `head` is not there, so nobody can say which checkpoint was signed last.
    #[error("{} is missing. Without it a signed checkpoint could be contradicted. Restore it, or run `ledger accept-rollback` to go on under a new origin", path.display())]
    HeadMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A checkpoint was signed for more entries than are here: an old copy was restored, or files are lost.
    #[error("{} vouches for {sealed} entries, only {found} are here. Restore the missing files, or run `ledger accept-rollback` to go on under a new origin", path.display())]
    HeadAhead {
        /// The `head` file.
        path: PathBuf,
        /// Entries in the signed checkpoint.
        sealed: u64,
        /// Entries that tiles and journal hold.
        found: u64,
    },
    /// The entries here are not those that were signed.
    #[error("the entries do not have the root that {} has signed at size {sealed}. Restore the files, or run `ledger accept-rollback` to go on under a new origin", path.display())]
    Inconsistent {
        /// The `head` file.
        path: PathBuf,
        /// Size at which the roots differ.
        sealed: u64,
    },
    /// A file does not have the form it should have.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// An origin that cannot name a log.
    #[error("`{origin}` cannot be an origin: 1 to 255 bytes without spaces, control characters and `+`")]
    BadOrigin {
        /// The text given.
        origin: String,
    },
    /// A text that should be a verifier key, a signing key or a signed note and is not.
    #[error("not a valid {what}: {detail}")]
    BadNote {
        /// What it should have been.
        what: &'static str,
        /// Why it is not.
        detail: String,
    },
    /// A class or encoding name outside of the format.
    #[error("`{word}` cannot name a payload's class or encoding: 1 to 32 of a-z, 0-9 and `-`")]
    BadWord {
        /// The text given.
        word: String,
    },
    /// The entry does not exist yet, or never will.
    #[error("no entry {index}: the ledger has {size}")]
    NoEntry {
        /// The index asked for.
        index: u64,
        /// How many entries there are.
        size: u64,
    },
    /// A tree size that no checkpoint covers yet.
    #[error("size {size} is not sealed yet, the latest checkpoint has {sealed}")]
    NotSealed {
        /// The size asked for.
        size: u64,
        /// The size of the latest checkpoint.
        sealed: u64,
    },
    /// The leaf names a payload and it is in no block and not in the journal.
    #[error("the payload of entry {index} is not here")]
    PayloadMissing {
        /// First entry of the append that carried it.
        index: u64,
    },
    /// The payload was pruned, as an entry says.
    #[error("the payload of entry {index} was pruned, as entry {by} says")]
    PayloadPruned {
        /// First entry of the append that carried it.
        index: u64,
        /// The entry that says so.
        by: u64,
    },
    /// A pruning whose body does not say what is to be pruned.
    #[error(
        "the entry that should name the pruning of class `{class}` through {through} does not: its member `pruned` is missing or another one"
    )]
    PruneUnnamed {
        /// Retention class.
        class: String,
        /// Last day.
        through: String,
    },
    /// The ledger has stopped after a fatal error; only opening it again helps.
    #[error("the ledger has stopped: {reason}")]
    Failed {
        /// The first fatal error.
        reason: Arc<str>,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.into() }
    }

    /// Whether the file system is full. Such a write can be tried again, because nothing has been promised on it.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why an append was not accepted, or not carried through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Try again later: the lane's budget is used up, or space on disk is short.
    #[error("the ledger is busy: {0}")]
    Busy(Busy),
    /// A body or the whole append is larger than the format allows. The sender has to cut it.
    #[error("{what} has {len} bytes, at most {limit} are possible")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// An append without a body, a body with a line feed, a payload that the first body does not name, a position without source.
    #[error("this append cannot be written: {0}")]
    Malformed(&'static str),
    /// The ledger has stopped. It is unknown whether the append survives a restart.
    #[error("the ledger has stopped: {0}")]
    Failed(Arc<str>),
}

/// The reason of [`AppendError::Busy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The lane has taken as many bytes as it may hold at once.
    #[error("its queue is full")]
    Queue,
    /// The space guard is up.
    #[error("disk space is short")]
    Space,
    /// The ledger is closing.
    #[error("it is closing")]
    Closing,
}
