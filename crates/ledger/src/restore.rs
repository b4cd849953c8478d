//! A log from its backup (docs/formats/folder.md, "Backup").
//!
//! A backup cannot know whether the log went on after it. If it did, going on under the same name would sign a second history of
//! it. So what is restored has no signing key and no `head`: it can be read and verified, and goes on only under a new origin
//! ([`crate::accept_rollback`]). Whoever has stopped the log, and has kept its last checkpoint and its keys elsewhere, can hand both in.

use crate::backup::copy_beside;
use crate::config::Config;
use crate::durable::parent;
use crate::error::Error;
use crate::head::{Folder, Head, KeyList, secret_path};
use crate::journal::{self, make_spare, segments};
use crate::note::{Checkpoint, Skey};
use crate::verify::{Outcome, Report, VerifyOptions, verify};
use std::path::{Path, PathBuf};

/// What is copied of a backup.
const PARTS: [&str; 9] =
    ["tile", "payload", "pruned", "journal", "keys/vkeys", "origin", "positions", "checkpoint", "format"];

/// What it takes to go on under the same name.
#[derive(Clone)]
pub struct SameLog {
    /// The last checkpoint that the log has signed, kept elsewhere: the backup must be exactly that. Nobody but the one who
    /// hands it in can know that it was the last.
    pub checkpoint: String,
    /// The secrets of all keys in use, as text.
    pub keys: Vec<String>,
}

impl std::fmt::Debug for SameLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SameLog").field("checkpoint", &self.checkpoint).finish_non_exhaustive()
    }
}

/// Copies the backup in the folder `from` into the data folder of `config`, and verifies the copy. If that does not give
/// [`Outcome::Verified`], nothing is left of it. `beside` as for [`crate::backup`]. `progress` is called with the bytes of each file.
///
/// # Errors
/// Those of reading and writing; [`Error::AlreadyExists`] if there is a ledger, or a `head` or another file of one; [`Error::NotABackup`];
/// [`Error::NotTheSameLog`].
pub fn restore(
    from: &Path,
    config: &Config,
    same: Option<&SameLog>,
    beside: &[&str],
    mut progress: impl FnMut(u64),
) -> Result<Report, Error> {
    let to = config.folder();
    let disk = &config.disk;
    let source = from;
    let from = Folder { disk: disk.clone(), dir: from.join("ledger"), head: from.join("head") };
    from.check_format(false)?;
    if from.can_sign()? {
        let detail = "it is a ledger with a signing key".to_owned();
        return Err(Error::NotABackup { path: from.dir, detail });
    }
    for path in [to.path("format"), to.head.clone()] {
        if disk.len(&path)?.is_some() {
            return Err(Error::AlreadyExists { path });
        }
    }
    for name in beside {
        // The backup's own is there when a restore was cut off.
        let path = config.dir.join(name);
        let there = disk.read_if_there(&path)?;
        if there.is_some() && there != disk.read_if_there(&source.join(name))? {
            return Err(Error::AlreadyExists { path });
        }
    }
    if !disk.list(&to.dir)?.is_empty() {
        return Err(Error::AlreadyExists { path: to.dir });
    }
    // Beside the place where it belongs, until it is complete and verified.
    let new = Folder { dir: to.dir.with_extension("restoring"), ..to.clone() };
    // What a restore that was cut off has left there goes; what is none stays.
    let is_ours = |name: &String| {
        let name = name.strip_suffix(".tmp").unwrap_or(name);
        PARTS.iter().any(|part| part.split('/').next() == Some(name))
    };
    if !disk.list(&new.dir)?.iter().all(is_ours) {
        return Err(Error::AlreadyExists { path: new.dir });
    }
    disk.remove(&new.dir)?;
    for name in PARTS {
        copy(&from, &new, Path::new(name), &mut progress)?;
    }
    let report = verify(&new.dir, &VerifyOptions { disk: disk.clone(), ..VerifyOptions::default() });
    let Some(checkpoint) = report.checkpoint.as_ref().filter(|_| report.outcome() == Outcome::Verified) else {
        disk.remove(&new.dir)?;
        return Ok(report);
    };
    let head = match same.map(|same| go_on(&new, checkpoint, same)).transpose() {
        Ok(head) => head,
        Err(error) => {
            disk.remove(&new.dir)?;
            return Err(error);
        }
    };
    copy_beside(disk, source, &config.dir, beside)?;
    disk.sync_file_system(&new.dir)?;
    disk.remove(&to.dir)?; // an empty folder
    disk.rename(&new.dir, &to.dir)?;
    disk.sync_dir(parent(&to.dir))?;
    if let Some(head) = head {
        disk.make_dirs(parent(&to.head))?;
        head.replace(&to, None)?;
    }
    Ok(report)
}

/// A file, or a folder with all in it.
fn copy(from: &Folder, to: &Folder, name: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
    let path = from.path(name);
    if path.extension().is_some_and(|extension| extension == "tmp") {
        return Ok(()); // of a backup that was cut off
    }
    if from.disk.is_dir(&path) {
        for below in from.disk.list(&path)? {
            copy(from, to, &name.join(below), progress)?;
        }
        return Ok(());
    }
    if let Some(bytes) = from.disk.read_if_there(&path)? {
        to.disk.write(&to.path(name), &bytes)?;
        progress(bytes.len() as u64);
    }
    Ok(())
}

/// Makes what is restored the log itself again: its keys, a journal that goes on, and the `head` to be written last.
fn go_on(new: &Folder, checkpoint: &Checkpoint, same: &SameLog) -> Result<Head, Error> {
    let not = |detail: String| Error::NotTheSameLog { origin: checkpoint.origin.clone(), detail };
    let list = KeyList::read(new)?;
    let (origin, size) = (&checkpoint.origin, checkpoint.size);
    let kept = Checkpoint::verify(&same.checkpoint, list.at(origin, size))
        .map_err(|error| not(format!("the checkpoint that was kept is none of it ({error})")))?;
    if kept != *checkpoint {
        let detail = if kept.size == size {
            "the checkpoint that was kept has another root".to_owned()
        } else {
            format!("the checkpoint that was kept has {} entries, the backup {size}", kept.size)
        };
        return Err(not(detail));
    }
    let mut secrets: Vec<(PathBuf, &str)> = Vec::new();
    for text in &same.keys {
        let key = Skey::parse(text)?;
        if !list.at(origin, size).any(|vkey| vkey == key.vkey()) {
            return Err(not(format!("{:08x} is not a key that signs for it", key.vkey().id())));
        }
        secrets.push((new.path(secret_path(key.vkey())), text));
    }
    for vkey in list.at(origin, size) {
        if !secrets.iter().any(|(path, _)| *path == new.path(secret_path(vkey))) {
            return Err(not(format!("the secret of its key {:08x} is not given", vkey.id())));
        }
    }
    for (path, text) in secrets {
        new.disk.write_secret(&path, text.as_bytes())?;
    }
    for old in segments(&new.disk, &new.journal())? {
        new.disk.remove(&old.path)?;
    }
    make_spare(&new.disk, &new.journal(), journal::SMALLEST)?;
    journal::begin(&new.disk, &new.journal(), size, 1)?;
    Ok(Head { checkpoint: kept, note: same.checkpoint.clone(), synced: size, stored: size })
}
