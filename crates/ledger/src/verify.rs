//! Verification: reads every byte of a log's folder and says what it proves.
//!
//! Works on our own folders and on those of other programs that write C2SP tlog-tiles (`checkpoint` and `tile/`). Trusts only
//! the verifier keys, and a checkpoint that was kept elsewhere if one is given.

mod blocks;
mod bundles;
mod parallel;
mod small;
mod store;
mod tree;
mod witness;

use crate::durable::Disk;
use crate::error::Error;
use crate::head::{Folder, Head, KeyList};
use crate::journal::Scan;
use crate::note::{Checkpoint, Vkey};
use crate::payload::hex;
use crate::policy::Policy;
use crate::prune::PruneList;
use crate::tiles::TileStore;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What to verify against.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The file system.
    pub disk: Disk,
    /// Verifier keys as text. Without any, those in the folder are used, which proves less: whoever can write the folder could
    /// have replaced both.
    pub vkeys: Vec<String>,
    /// A checkpoint that was kept elsewhere: the log here must be that one, or an extension of it.
    pub kept: Option<String>,
    /// Whose cosignatures are asked for. Its logs' keys are used when no others are given.
    pub policy: Option<Policy>,
    /// The `head` file, if it is not beside the folder. It must be there then, as it must when a whole data folder is verified; a
    /// copy of `ledger/` alone can do without.
    pub head: Option<PathBuf>,
}

/// The answer, in three values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every byte is as it was signed.
    Verified,
    /// It could not be decided: something could not be read, or there is no key.
    CouldNotCheck,
    /// Something is not as it was signed.
    Refuted,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether it refutes, or only kept us from checking.
    pub outcome: Outcome,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
    /// The entry concerned, where it can be named.
    pub entry: Option<u64>,
}

/// The newest checkpoint here that the policy's quorum has cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Its size: what came later is not witnessed.
    pub size: u64,
    /// The policy's names of those who have cosigned it, and when (Unix time). Empty if the policy asks for nobody.
    pub by: Vec<(String, u64)>,
}

/// What verification found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The checkpoint that everything was compared with.
    pub checkpoint: Option<Checkpoint>,
    /// What the policy's witnesses vouch for; none without a policy, or if its quorum is not shown.
    pub witnessed: Option<Witnessed>,
    /// Entries whose leaf and place the checkpoint proves.
    pub verified: u64,
    /// Payloads that fit their commitment.
    pub payloads: u64,
    /// Payloads that are gone, by the entry under the checkpoint that says that they were pruned.
    pub pruned: BTreeMap<u64, u64>,
    /// Payloads that are gone and that no such entry speaks about.
    pub missing: u64,
    /// Entries in the journal that no checkpoint covers yet.
    pub unsealed: u64,
    /// Entries that are not as they were signed, or not there.
    pub damaged: u64,
    /// Entries that stand for lost ones (docs/formats/leaf.md, "Filler").
    pub fillers: u64,
    /// Bytes of a write that did not complete.
    pub torn: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Files that are not part of the format, or not looked into (`quarantine/`).
    pub strangers: Vec<PathBuf>,
    /// Names that the log had before a rollback was accepted, and the number of entries that were kept of it.
    pub earlier: Vec<(String, u64)>,
    /// Everything that is wrong, in the order in which it was found.
    pub troubles: Vec<Trouble>,
}

impl Report {
    /// The answer.
    pub fn outcome(&self) -> Outcome {
        self.troubles.iter().map(|trouble| trouble.outcome).max().unwrap_or(Outcome::Verified)
    }

    /// The first entry that is damaged, where one can be named.
    pub fn first_damaged(&self) -> Option<u64> {
        self.troubles
            .iter()
            .filter(|trouble| trouble.outcome == Outcome::Refuted)
            .filter_map(|trouble| trouble.entry)
            .min()
    }

    /// Adds what was found in a part of the folder.
    fn add(&mut self, mut part: Self) {
        self.bytes += part.bytes;
        self.damaged += part.damaged;
        self.fillers += part.fillers;
        self.troubles.append(&mut part.troubles);
    }

    fn refute(&mut self, path: &Path, entry: Option<u64>, detail: impl Into<String>) {
        self.troubles.push(Trouble { outcome: Outcome::Refuted, path: path.to_owned(), detail: detail.into(), entry });
    }

    fn unknown(&mut self, path: &Path, detail: impl Into<String>) {
        let (outcome, path) = (Outcome::CouldNotCheck, path.to_owned());
        self.troubles.push(Trouble { outcome, path, detail: detail.into(), entry: None });
    }

    /// A file that could not be read refutes if its content is wrong or it is missing, otherwise nothing is known.
    fn error(&mut self, path: &Path, entry: Option<u64>, error: &Error) {
        let outcome = match error {
            Error::Io { .. } if !error.is_not_found() => Outcome::CouldNotCheck,
            Error::Newer { .. } => Outcome::CouldNotCheck,
            _ => Outcome::Refuted,
        };
        self.troubles.push(Trouble { outcome, path: path.to_owned(), detail: error.to_string(), entry });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(checkpoint) = &self.checkpoint {
            writeln!(f, "checkpoint  {} size {} root {}", checkpoint.origin, checkpoint.size, hex(&checkpoint.root))?;
        }
        for (origin, end) in &self.earlier {
            writeln!(f, "earlier     the first {end} entries were those of {origin}")?;
        }
        writeln!(f, "entries     {} verified, {} unsealed, {} damaged", self.verified, self.unsealed, self.damaged)?;
        let pruned: u64 = self.pruned.values().sum();
        writeln!(f, "payloads    {} verified, {pruned} pruned, {} missing", self.payloads, self.missing)?;
        for (by, count) in &self.pruned {
            writeln!(f, "pruned      {count} payloads, as entry {by} says")?;
        }
        if let Some(Witnessed { size, by }) = &self.witnessed {
            write!(f, "witnessed   {size} entries")?;
            for (name, time) in by {
                let time = i64::try_from(*time).ok().and_then(|time| chrono::DateTime::from_timestamp(time, 0));
                let time = time.map_or_else(
                    || "an impossible time".to_owned(),
                    |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                );
                write!(f, ", {name} at {time}")?;
            }
            writeln!(f, "{}", if by.is_empty() { ": the policy asks for no witness" } else { "" })?;
        }
        if self.fillers > 0 {
            writeln!(f, "fillers     {}: entries that were lost before they were sealed", self.fillers)?;
        }
        if self.torn > 0 {
            writeln!(f, "torn        {} bytes of a write that did not complete", self.torn)?;
        }
        for path in &self.strangers {
            writeln!(f, "not checked {}", path.display())?;
        }
        for Trouble { outcome, path, detail, entry } in &self.troubles {
            let word = if *outcome == Outcome::Refuted { "wrong" } else { "unknown" };
            write!(f, "{word:<11} {}: {detail}", path.display())?;
            match entry {
                Some(entry) => writeln!(f, " (entry {entry})")?,
                None => writeln!(f)?,
            }
        }
        let answer = match self.outcome() {
            Outcome::Verified => "VERIFIED",
            Outcome::CouldNotCheck => "COULD NOT CHECK",
            Outcome::Refuted => "REFUTED",
        };
        match self.first_damaged() {
            Some(entry) => writeln!(f, "{answer}: first damaged entry {entry}"),
            None => writeln!(f, "{answer}"),
        }
    }
}

/// Verifies a log's folder: a data folder, its `ledger/`, or that of another program.
pub fn verify(dir: &Path, options: &VerifyOptions) -> Report {
    let disk = options.disk.clone();
    // One of these files can be what is missing.
    let is_ours = |dir: &Path| {
        disk.is_dir(&dir.join("journal"))
            || ["format", "origin"].iter().any(|name| matches!(disk.read_if_there(&dir.join(name)), Ok(Some(_))))
    };
    let below = dir.join("ledger");
    let whole = !is_ours(dir) && is_ours(&below);
    let dir = if whole { below } else { dir.to_owned() };
    let head = options.head.clone().unwrap_or_else(|| dir.parent().unwrap_or(&dir).join("head"));
    let ours = is_ours(&dir);
    let folder = Folder { disk: disk.clone(), dir: dir.clone(), head };
    // A backup has no `head`.
    let signs = whole && !folder.is_backup().unwrap_or(false);
    let mut check = Check {
        tiles: TileStore::new(disk, &dir),
        folder,
        head_expected: signs || options.head.is_some(),
        report: Report::default(),
        files: BTreeMap::new(),
        gone: Vec::new(),
        prunes: PruneList::new(),
    };
    check.walk(&dir);
    let keys = check.keys(options, ours);
    // Read before the checkpoint, which therefore is not older.
    let cosigned = if ours && options.policy.is_some() { check.cosigned() } else { None };
    let Some((note, checkpoint)) = check.checkpoint(&keys) else { return check.report };
    if ours {
        check.key_list(&note, &checkpoint);
    }
    let mut contained = Vec::new();
    if let Some(kept) = &options.kept {
        contained.extend(check.contained(Path::new("kept checkpoint"), kept, &keys, &checkpoint));
    }
    if let Some(policy) = &options.policy {
        let mut notes = vec![(check.folder.path("checkpoint"), note)];
        notes.extend(options.kept.iter().map(|kept| (PathBuf::from("kept checkpoint"), kept.clone())));
        if let Some((path, note)) = cosigned {
            contained.extend(check.contained(&path, &note, &keys, &checkpoint));
            notes.push((path, note));
        }
        check.witnesses(policy, &notes, &keys);
    }
    let (synced, stored) = check.head_sizes(checkpoint.size);
    let journal = if ours { check.journal() } else { Scan::default() };
    let payloads = check.entries(&checkpoint, &contained, &journal, stored, ours);
    check.report.payloads = payloads.len();
    if ours {
        check.gone(&payloads, synced.min(checkpoint.size), checkpoint.size);
        check.journal_end(&journal, &checkpoint);
        check.small_files(&checkpoint, journal.first);
    }
    check.leftovers(&checkpoint);
    check.report.checkpoint = Some(checkpoint);
    check.report
}

struct Check {
    folder: Folder,
    tiles: TileStore,
    /// A missing `head` is worth saying.
    head_expected: bool,
    report: Report,
    /// All files, and whether somebody has looked into them.
    files: BTreeMap<PathBuf, bool>,
    /// Payloads that leaves name and that are not here.
    gone: Vec<Gone>,
    /// Pruning entries of the tree.
    prunes: PruneList,
}

/// A payload that is not here.
struct Gone {
    entry: u64,
    append: u64,
    class: String,
    day: String,
}

impl Check {
    fn walk(&mut self, dir: &Path) {
        let names = match self.folder.disk.list(dir) {
            Ok(names) => names,
            Err(error) => return self.report.error(dir, None, &error),
        };
        for name in names {
            let path = dir.join(name);
            if self.folder.disk.is_dir(&path) {
                self.walk(&path);
            } else {
                self.files.insert(path, false);
            }
        }
    }

    /// Reads a file and notes that it was.
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let bytes = self.folder.disk.read(path)?;
        self.report.bytes += bytes.len() as u64;
        self.files.insert(path.to_owned(), true);
        Ok(bytes)
    }

    fn seen(&mut self, path: PathBuf) {
        self.files.insert(path, true);
    }

    fn keys(&mut self, options: &VerifyOptions, ours: bool) -> Vec<Vkey> {
        let mut keys = Vec::new();
        for text in &options.vkeys {
            match text.parse::<Vkey>() {
                Ok(key) => keys.push(key),
                Err(error) => self.report.troubles.push(Trouble {
                    outcome: Outcome::CouldNotCheck,
                    path: PathBuf::from("--vkey"),
                    detail: error.to_string(),
                    entry: None,
                }),
            }
        }
        if let Some(policy) = options.policy.as_ref().filter(|_| options.vkeys.is_empty()) {
            keys.extend_from_slice(policy.logs());
        }
        if !ours {
            return keys;
        }
        let path = self.folder.path("keys/vkeys");
        self.seen(path.clone());
        match (self.folder.origin(), KeyList::read(&self.folder)) {
            (Ok(origin), Ok(list)) => {
                let own: Vec<Vkey> =
                    list.0.into_iter().map(|line| line.vkey).filter(|vkey| vkey.name() == origin).collect();
                if own.is_empty() {
                    self.report.refute(
                        &self.folder.path("origin"),
                        None,
                        format!("keys/vkeys has no key of `{origin}`"),
                    );
                }
                if options.vkeys.is_empty() && keys.is_empty() {
                    keys = own;
                }
            }
            (Err(error), _) | (_, Err(error)) => self.report.error(&path, None, &error),
        }
        keys
    }

    /// Index below which the tree is synced, and that below which payloads are in blocks, read before the journal; 0 if `head`
    /// does not say (which is reported later). A backup has no `head`; its tree is complete.
    fn head_sizes(&self, size: u64) -> (u64, u64) {
        if self.folder.is_backup().unwrap_or(false) {
            return (size, 0);
        }
        let head = || Head::read(&self.folder, &self.folder.origin()?, &KeyList::read(&self.folder)?);
        head().map_or((0, 0), |head| (head.synced, head.stored))
    }

    fn checkpoint(&mut self, keys: &[Vkey]) -> Option<(String, Checkpoint)> {
        let path = self.folder.path("checkpoint");
        let unknown = |detail: &str| Trouble {
            outcome: Outcome::CouldNotCheck,
            path: path.clone(),
            detail: detail.to_owned(),
            entry: None,
        };
        let bytes = match self.read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.report.troubles.push(unknown(&format!("there is no log here that could be checked: {error}")));
                return None;
            }
        };
        if keys.is_empty() {
            self.report.troubles.push(unknown("no verifier key; give one with --vkey"));
            return None;
        }
        let note = String::from_utf8(bytes).map_err(|_| Error::damaged(&path, "not UTF-8"));
        match note.and_then(|note| Checkpoint::verify(&note, keys).map(|checkpoint| (note, checkpoint))) {
            Ok(read) => Some(read),
            Err(error) => {
                self.report.refute(&path, None, error.to_string());
                None
            }
        }
    }

    /// The folder's own list of keys: each that covers the checkpoint's size must have signed it. Earlier origins are told.
    fn key_list(&mut self, note: &str, checkpoint: &Checkpoint) {
        // Trouble with the list itself has been reported.
        let Ok(list) = KeyList::read(&self.folder) else { return };
        for vkey in list.at(&checkpoint.origin, checkpoint.size) {
            if let Err(error) = Checkpoint::verify(note, [vkey]) {
                let detail = format!("by keys/vkeys the key {:08x} signs this size: {error}", vkey.id());
                self.report.refute(&self.folder.path("checkpoint"), None, detail);
            }
        }
        if list.at(&checkpoint.origin, checkpoint.size).next().is_none() {
            let detail = format!("by keys/vkeys no key signs for `{}` at this size", checkpoint.origin);
            self.report.refute(&self.folder.path("checkpoint"), None, detail);
        }
        for line in list.0.iter().filter(|line| line.vkey.name() != checkpoint.origin) {
            let origin = line.vkey.name().to_owned();
            let end = line.end.unwrap_or(checkpoint.size).saturating_sub(1);
            match self.report.earlier.last_mut() {
                Some((last, until)) if *last == origin => *until = end.max(*until),
                _ => self.report.earlier.push((origin, end)),
            }
        }
    }

    /// A checkpoint of this log, which the tree must contain; what is not one is reported.
    fn contained(&mut self, path: &Path, note: &str, keys: &[Vkey], now: &Checkpoint) -> Option<(PathBuf, Checkpoint)> {
        // The entries stay when a rollback is accepted, so a checkpoint under an earlier origin still says what they were.
        let earlier = KeyList::read(&self.folder).map(|list| list.0).unwrap_or_default();
        let earlier: Vec<Vkey> = earlier.into_iter().filter(|line| line.end.is_some()).map(|line| line.vkey).collect();
        let known = |name: &str| earlier.iter().any(|vkey| vkey.name() == name);
        match Checkpoint::verify(note, keys.iter().chain(&earlier)) {
            Ok(kept) if kept.origin != now.origin && !known(&kept.origin) => {
                self.report.refute(path, None, format!("it is of `{}`, the log here is `{}`", kept.origin, now.origin));
            }
            Ok(kept) if kept.size > now.size => {
                self.report.refute(
                    path,
                    Some(now.size),
                    format!("it has {} entries, the log here only {}: entries were cut off", kept.size, now.size),
                );
            }
            Ok(kept) => return Some((path.to_owned(), kept)),
            Err(error) => self.report.refute(path, None, error.to_string()),
        }
        None
    }
}
