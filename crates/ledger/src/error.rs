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
    /// The folder is older than what it is asked to hold.
    #[error("{} is version {version} of the ledger's format, {what} needs version {needed}. Run `ledger upgrade` first", path.display())]
    Older {
        /// The `format` file.
        path: PathBuf,
        /// Version of the folder.
        version: u32,
        /// Version that is needed.
        needed: u32,
        /// What needs it.
        what: &'static str,
    },
    /// The secret of a key in use is not here. A backup has none, so that a copy of it cannot contradict the log.
    #[error("the signing key {} is missing: nothing can be added here. Restore it; or, where this is a restored backup, run `ledger accept-rollback` to go on under a new origin", path.display())]
    NoSigningKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// A folder that a backup would be written to, or restored from, and is none.
    #[error("{} is not a backup: {detail}", path.display())]
    NotABackup {
        /// The folder or the file that shows it.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// What was given to go on under the same name does not allow it.
    #[error(
        "the log cannot go on as `{origin}`: {detail}. Without it the backup is restored without a signing key and goes on under a new origin"
    )]
    NotTheSameLog {
        /// The log's name.
        origin: String,
        /// Why.
        detail: String,
    },
    /// `retire_key` with one key only.
    #[error("only one key signs for `{origin}`: there is none to retire. Begin a new one first (`ledger rotate-key`)")]
    OneKey {
        /// The log's name.
        origin: String,
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
    /// A file of the tree is damaged or missing, and nothing else in the folder says what should be in it.
    #[error("{} is damaged: {detail}, and neither the other files nor the journal hold what should be in it. Restore this file from a backup, or run `ledger accept-rollback` to go on under a new origin with what can be read", path.display())]
    Unmendable {
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
    /// A file that should be a trust policy (C2SP tlog-policy) and is not.
    #[error("not a policy: {detail} (line {line})")]
    BadPolicy {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
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

    /// Why the disk takes nothing just now, if it is a reason that can pass: it is full (or a quota is), or its file system is
    /// read-only. The file system refuses these before anything is lost, so whoever was refused can try the same again, and
    /// nothing has been promised meanwhile. Not so EIO: there the medium or the file system does not know any more what it
    /// holds, so no later success is worth anything before everything was read again. Errors of a sync never pass
    /// (see `durable`).
    pub fn passing(&self) -> Option<Busy> {
        let Self::Io { source, .. } = self else { return None };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Busy::Space),
            io::ErrorKind::ReadOnlyFilesystem => Some(Busy::ReadOnly),
            _ => None,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why an append was not accepted, or not carried through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Try again later: the lane's budget is used up, or the disk takes nothing. Nothing was kept.
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
    /// The space guard is up, or the disk is full.
    #[error("disk space is short")]
    Space,
    /// The ledger's file system is read-only.
    #[error("its file system is read-only")]
    ReadOnly,
    /// The ledger is closing.
    #[error("it is closing")]
    Closing,
}
