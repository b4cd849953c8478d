//! The parts of our own folders that other logs do not have, and files that nobody has asked for.

use super::blocks::{BlockReader, EntrySet, first_of};
use super::bundles::Named;
use super::{Check, Gone, parallel};
use crate::group::{AppendView, Group};
use crate::journal::{Finding, Scan, is_segment, scan_live};
use crate::note::Checkpoint;
use crate::prune::{PruneList, covering, read_list};
use crate::sha::digests;
use crate::tiles::{WIDTH, bundle_path, split_bundle, tile_path, tile_width};
use std::path::{Path, PathBuf};

impl Check {
    pub(super) fn journal(&mut self) -> Scan {
        let dir = self.folder.journal();
        let scan = scan_live(&self.folder.disk, &dir);
        // All of its files were read: they are marked by name, as some may be gone or new by now.
        for (_, seen) in
            self.files.iter_mut().filter(|(path, _)| path.parent() == Some(dir.as_path()) && is_segment(path))
        {
            *seen = true;
        }
        let scan = match scan {
            Ok(scan) => scan,
            Err(error) => {
                self.report.error(&dir, None, &error);
                return Scan::default();
            }
        };
        for finding in &scan.findings {
            match finding {
                Finding::Torn { bytes, .. } => self.report.torn += bytes,
                Finding::Damage { path, offset, first, lost } => {
                    let entry = (*lost > 0).then_some(*first);
                    self.report.refute(
                        path,
                        entry,
                        format!("damaged at byte {offset}, {lost} entries lost from {first} on"),
                    );
                }
            }
        }
        self.report.bytes += scan.groups.iter().map(|group| group.bytes().len() as u64).sum::<u64>();
        scan
    }

    /// Checks the journal's payloads against their leaves. Gives the appends whose payload it has and may have: below `stored`
    /// payloads have to be in blocks.
    pub(super) fn journal_payloads(&mut self, groups: &[Group], stored: u64) -> EntrySet {
        let check = |(): &mut (), group: &Group| {
            let (mut found, mut wrong) = (EntrySet::default(), Vec::new());
            let payload =
                |append: &AppendView| Some((append.first, group.payload(append)?.1, group.leaf(append.first)?));
            let payloads: Vec<(u64, &[u8], &[u8])> = group.appends.iter().filter_map(payload).collect();
            let digests = digests(&[], payloads.iter().map(|(_, salted, _)| *salted));
            for ((first, salted, leaf), digest) in payloads.into_iter().zip(&digests) {
                if !Named::of(leaf).is_some_and(|named| named.reference.fits(salted, digest)) {
                    wrong.push(first);
                } else if first >= stored {
                    found.insert(first);
                }
            }
            (found, wrong)
        };
        let mut all = EntrySet::default();
        for (found, wrong) in parallel::map(groups, check) {
            all.add(&found);
            for entry in wrong {
                let detail = "the payload is not the one that the entry names";
                self.report.refute(&self.folder.journal(), Some(entry), detail);
            }
        }
        all
    }

    /// The files of all payload blocks, in the order of the entries that they are named by.
    pub(super) fn block_files(&mut self, dir: &Path) -> Vec<(u64, PathBuf)> {
        // Listed again: what has left the journal since is in blocks now.
        self.walk(dir);
        let blocks = self.files.keys().filter(|path| path.starts_with(dir));
        let blocks = blocks.filter(|path| path.extension().is_some_and(|extension| extension == "blk"));
        let mut blocks: Vec<_> = blocks.map(|path| (first_of(path).unwrap_or(u64::MAX), path.clone())).collect();
        blocks.sort();
        blocks
    }

    /// Checks payload blocks against their leaves. Adds the appends whose payload is in them.
    pub(super) fn blocks(&mut self, files: &[(u64, PathBuf)], reader: &BlockReader<'_>, found: &mut EntrySet) {
        let parts = parallel::map(files, |buffers, (_, path)| reader.read(buffers, path));
        for ((_, path), part) in files.iter().zip(parts) {
            // What could not be read stays a file that nobody has looked into.
            if part.read {
                self.seen(path.clone());
            }
            found.add(&part.found);
            self.report.add(part.report);
        }
    }

    /// Where entries are signed the journal always reaches as far as the checkpoint, because they were in it before, and its
    /// last segment stays. A backup has none. What is beyond is unsealed.
    pub(super) fn journal_end(&mut self, journal: &Scan, checkpoint: &Checkpoint) {
        if journal.next < checkpoint.size && !self.folder.is_backup().unwrap_or(false) {
            let detail = format!("it ends before entry {}, which is signed", journal.next);
            self.report.refute(&self.folder.journal(), Some(journal.next), detail);
        }
        let beyond = |group: &Group| group.end().saturating_sub(group.first.max(checkpoint.size));
        self.report.unsealed = journal.groups.iter().map(beyond).sum();
    }

    /// Payloads that are not here: pruned, if an entry of the tree speaks about them; everything else is damage.
    /// The list has exactly the tree's entries below `synced`.
    pub(super) fn gone(&mut self, found: &EntrySet, synced: u64, size: u64) {
        let path = self.folder.path("pruned");
        self.seen(path.clone());
        let list = read_list(&self.folder).unwrap_or_else(|error| {
            self.report.error(&path, None, &error);
            self.prunes.clone()
        });
        let below = |list: &PruneList| -> PruneList { list.iter().filter(|(by, _)| *by < synced).cloned().collect() };
        if below(&list) != below(&self.prunes) {
            self.report.refute(&path, None, "it does not list the pruning entries that the tree has");
        }
        for Gone { entry, append, class, day } in std::mem::take(&mut self.gone) {
            // In a block that does not lie where it should, and was read later.
            if found.contains(append) {
                continue;
            }
            let says = |list: &PruneList| covering(list, u64::MAX, &class, &day, append);
            if let Some(by) = says(&self.prunes) {
                *self.report.pruned.entry(by).or_default() += 1;
                continue;
            }
            self.report.missing += 1;
            let path = bundle_path(entry / WIDTH, WIDTH);
            if let Some(by) = says(&list).filter(|by| *by >= size) {
                // A process that writes has pruned while we read.
                let detail = format!(
                    "the payload of entry {entry} was pruned as entry {by} says, which is younger than the checkpoint; verify again"
                );
                self.report.unknown(&path, detail);
            } else {
                let detail = "its payload is not here, and no entry under the checkpoint says that it was pruned";
                self.report.refute(&path, Some(entry), detail);
            }
        }
    }

    /// Files that nothing above has asked for: partial tiles of earlier checkpoints, which must agree with the current ones.
    pub(super) fn leftovers(&mut self, checkpoint: &Checkpoint) {
        let unseen: Vec<PathBuf> =
            self.files.iter().filter(|(_, seen)| !**seen).map(|(path, _)| path.clone()).collect();
        let tiles = self.folder.path("tile");
        for path in unseen {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                continue;
            }
            let Some(current) = path.starts_with(&tiles).then(|| self.current_of(&path, checkpoint)).flatten() else {
                self.report.strangers.push(path);
                continue;
            };
            match (self.read(&path), self.folder.disk.read(&current)) {
                // Each is the beginning of the other, whichever is longer.
                (Ok(old), Ok(now))
                    if (old.starts_with(&now) || now.starts_with(&old)) && has_its_width(&path, &old) => {}
                (Ok(_), Ok(_)) => {
                    self.report.refute(&path, None, format!("it does not agree with {}", current.display()));
                }
                // Cleaned away meanwhile by the process that writes.
                _ => {}
            }
        }
    }

    /// The file of the present tree for the same tile as this partial or full file.
    fn current_of(&self, path: &Path, checkpoint: &Checkpoint) -> Option<PathBuf> {
        let text = path.strip_prefix(self.folder.path("tile")).ok()?.to_str()?;
        let (level, number) = text.split_once('/')?;
        let number = number.split_once(".p/").map_or(number, |(number, _)| number);
        let n = number
            .split('/')
            .try_fold(0u64, |n, part| n.checked_mul(1000)?.checked_add(part.trim_start_matches('x').parse().ok()?))?;
        let size = checkpoint.size;
        let (tile_level, entries) = if level == "entries" { (0, true) } else { (level.parse().ok()?, false) };
        let width = tile_width(tile_level, n, size);
        if width == 0 {
            return None;
        }
        Some(if entries {
            self.either(|width| bundle_path(n, width), width)
        } else {
            self.either(|width| tile_path(tile_level, n, width), width)
        })
    }
}

/// As many hashes or entries as the name of a tile's file says.
fn has_its_width(path: &Path, bytes: &[u8]) -> bool {
    let partial = path.parent().is_some_and(|dir| dir.extension().is_some_and(|extension| extension == "p"));
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let Some(width) = (if partial { name } else { Some(WIDTH) }) else { return false };
    if path.components().any(|part| part.as_os_str() == "entries") {
        split_bundle(bytes).is_some_and(|entries| entries.len() as u64 == width)
    } else {
        bytes.len() as u64 == width * 32
    }
}
