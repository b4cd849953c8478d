//! The small files of our own folders: `head`, keys, positions, and those that hold nothing.

use super::{Check, Outcome, parallel};
use crate::durable::{Disk, is_zero};
use crate::error::Error;
use crate::group::PAGE;
use crate::head::{Head, KeyList, read_positions, secret_path};
use crate::journal::nonce;
use crate::note::{Checkpoint, Skey};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often `head` and `checkpoint` are compared again, and how long after: between the two a process that is sealing just now
/// writes a small file, even a slow one.
const LOOKS: u32 = 40;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Check {
    /// `first` is the first entry of the journal's oldest segment.
    pub(super) fn small_files(&mut self, checkpoint: &Checkpoint, first: Option<u64>) {
        for name in ["format", "origin", "keys/vkeys", "positions"] {
            self.seen(self.folder.path(name));
        }
        match self.folder.check_format(true) {
            Err(error) => self.report.error(&self.folder.path("format"), None, &error),
            Ok(version) if !self.folder.format_is_exact(version) => {
                self.report.refute(&self.folder.path("format"), None, "it has other lines than its version has");
            }
            Ok(_) => {}
        }
        self.empty_files();
        let (Ok(list), Ok(origin)) = (KeyList::read(&self.folder), self.folder.origin()) else { return };
        if list.signing(&origin).next().is_none() {
            let detail = format!("no key of `{origin}` signs any more");
            self.report.refute(&self.folder.path("keys/vkeys"), None, detail);
        }
        self.secret_keys(&list);
        let head = self.head(checkpoint, &origin, &list);
        let positions = read_positions(&self.folder);
        if let Err(error) = &positions {
            self.report.error(&self.folder.path("positions"), None, error);
        }
        if let Some(stored) = head.map(|head| head.stored) {
            // Written in this order: positions, then `head`, then segments are removed.
            if let Ok((through, _)) = positions
                && through < stored
            {
                let detail =
                    format!("it reaches to entry {through}, `head` says {stored}: it is missing or an older one");
                self.report.refute(&self.folder.path("positions"), None, detail);
            }
            if first.is_none_or(|first| first > stored) {
                let detail = format!("no segment holds entry {stored}, which is not stored elsewhere");
                self.report.refute(&self.folder.journal(), Some(stored), detail);
            }
        }
    }

    fn empty_files(&mut self) {
        let disk = self.folder.disk.clone();
        let files =
            [("lock", 0), ("reserve", 0), ("journal/spare", PAGE)].map(|(name, start)| (self.folder.path(name), start));
        let files: Vec<_> = files.into_iter().filter(|(path, _)| self.files.contains_key(path)).collect();
        // Looked at twice: a ledger in use may have taken the spare segment while it was read.
        let look = |(path, start): &(PathBuf, usize)| match not_empty(&disk, path, *start) {
            Ok((_, Some(_))) => not_empty(&disk, path, *start),
            first => first,
        };
        for ((path, _), found) in files.iter().zip(parallel::map(&files, |(): &mut (), file| look(file))) {
            match found {
                Ok((len, wrong)) => {
                    self.report.bytes += len;
                    self.seen(path.clone());
                    if let Some(wrong) = wrong {
                        self.report.refute(path, None, wrong);
                    }
                }
                Err(error) if error.is_not_found() => self.seen(path.clone()),
                Err(error) => self.report.error(path, None, &error),
            }
        }
    }

    fn secret_keys(&mut self, list: &KeyList) {
        for line in &list.0 {
            let path = self.folder.path(secret_path(&line.vkey));
            if !self.files.contains_key(&path) {
                continue;
            }
            let fits = |bytes: &[u8]| {
                std::str::from_utf8(bytes)
                    .ok()
                    .and_then(|text| Skey::parse(text).ok())
                    .is_some_and(|key| key.vkey() == &line.vkey)
            };
            match self.read(&path) {
                Ok(bytes) if !fits(&bytes) => {
                    self.report.refute(&path, None, "it is not the secret of the key in keys/vkeys");
                }
                Ok(_) => {}
                Err(error) => self.report.error(&path, None, &error),
            }
        }
    }

    /// Compares `head` with the checkpoint that was verified. It is written first, so it can be ahead but never behind.
    fn head(&mut self, checkpoint: &Checkpoint, origin: &str, list: &KeyList) -> Option<Head> {
        let path = self.folder.head.clone();
        for look in 0.. {
            let head = match Head::read(&self.folder, origin, list) {
                Ok(head) => head,
                Err(Error::HeadMissing { .. }) if !self.head_expected => return None,
                Err(Error::HeadMissing { .. }) => {
                    self.report.unknown(
                        &path,
                        "it is missing, so a later checkpoint may have been signed; if it lies elsewhere, name it",
                    );
                    return None;
                }
                Err(error) => {
                    self.report.error(&path, None, &error);
                    return None;
                }
            };
            let (signed, published) = (&head.checkpoint, self.published(list).unwrap_or_else(|| checkpoint.clone()));
            if signed.size < checkpoint.size {
                let detail = format!(
                    "it knows {} entries, the published checkpoint {}: it is an older one",
                    signed.size, checkpoint.size
                );
                self.report.refute(&path, None, detail);
            } else if signed.size == checkpoint.size && signed.root != checkpoint.root {
                self.report.refute(&path, None, "two checkpoints of the same size were signed for different entries");
            } else if signed.size > published.size {
                // Nobody waits for an answer that is known.
                if look < LOOKS && self.report.outcome() != Outcome::Refuted {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                let detail = format!(
                    "it is older than the one in {}, of {} entries: it was replaced, or the process died before it was published. Opening the ledger \
                     publishes it again",
                    path.display(),
                    signed.size
                );
                self.report.unknown(&self.folder.path("checkpoint"), detail);
            }
            return Some(head);
        }
        None
    }

    /// The checkpoint as it is published now, if it can be read.
    fn published(&self, list: &KeyList) -> Option<Checkpoint> {
        let note = self.folder.disk.text_if_there(&self.folder.path("checkpoint")).ok()??;
        Checkpoint::verify(&note, list.0.iter().map(|line| &line.vkey)).ok()
    }
}

/// Length of a file that should hold nothing from `start` on, and what is wrong with it.
fn not_empty(disk: &Disk, path: &Path, start: usize) -> Result<(u64, Option<&'static str>), Error> {
    let (mut len, mut page, mut zero) = (0, Vec::new(), true);
    disk.read_pieces(path, |piece| {
        let (first, rest) = piece.split_at(piece.len().min(start - page.len()));
        page.extend_from_slice(first);
        zero &= is_zero(rest);
        len += piece.len() as u64;
    })?;
    let wrong = if page.len() < start || !zero {
        Some("it should be zero")
    } else {
        (start > 0 && nonce(&page).is_none()).then_some("its first page is wrong")
    };
    Ok((len, wrong))
}
