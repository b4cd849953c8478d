//! The parts of our own folders that other logs do not have, and files that nobody has asked for.

use super::{Check, Gone, Outcome, Trouble};
use crate::error::Error;
use crate::group::{Group, PAGE};
use crate::head::{Head, KeyList, read_positions, secret_path};
use crate::journal::{Finding, SPARE, Scan, nonce, scan_live};
use crate::leaf::split_leaf;
use crate::note::{Checkpoint, Skey};
use crate::payload::{Block, block_first, commitment, hex, reference_in};
use crate::prune::{Prune, PruneList, covering, read_list};
use crate::tiles::{WIDTH, bundle_path, tile_path, tile_width};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Check {
    pub(super) fn journal(&mut self) -> Scan {
        let dir = self.folder.journal();
        let scan = scan_live(&self.folder.disk, &dir);
        // All of its files were read: they are marked by name, as some may be gone or new by now.
        for (_, seen) in self
            .files
            .iter_mut()
            .filter(|(path, _)| path.starts_with(&dir) && path.extension().is_some_and(|extension| extension == "seg"))
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

    /// Checks all payloads against their leaves. Gives the appends whose payload is here.
    pub(super) fn payloads(&mut self, groups: &[Group], size: u64, stored: u64) -> BTreeSet<u64> {
        // Below `stored` payloads have to be in blocks, whether the journal still has them or not.
        let mut found = BTreeSet::new();
        for group in groups {
            for append in &group.appends {
                if let (Some((_, salted)), Some(leaf)) = (group.payload(append), group.leaf(append.first)) {
                    if !commits(leaf, salted) {
                        let detail = "the payload is not the one that the entry names";
                        self.report.refute(&self.folder.journal(), Some(append.first), detail);
                    } else if append.first >= stored {
                        found.insert(append.first);
                    }
                }
            }
        }
        let dir = self.folder.path("payload");
        // Listed again: what has left the journal since is in blocks now.
        self.walk(&dir);
        let paths: Vec<PathBuf> = self
            .files
            .keys()
            .filter(|path| path.starts_with(&dir) && path.extension().is_some_and(|ext| ext == "blk"))
            .cloned()
            .collect();
        for path in paths {
            let block = match self.read(&path) {
                Ok(bytes) => Block::decode(&bytes),
                // Pruned since the folder was listed; whether rightly, its leaves show.
                Err(error) if error.is_not_found() => continue,
                Err(error) => {
                    self.report.error(&path, None, &error);
                    continue;
                }
            };
            match block {
                Ok(block) => self.block(&path, &block, groups, size, &mut found),
                Err(detail) => {
                    let entry = path.file_name().and_then(|name| block_first(&name.to_string_lossy()));
                    self.report.refute(&path, entry, detail);
                }
            }
        }
        self.report.payloads = found.len() as u64;
        found
    }

    fn block(&mut self, path: &Path, block: &Block, groups: &[Group], size: u64, found: &mut BTreeSet<u64>) {
        let mut bundle: (u64, Vec<Vec<u8>>) = (u64::MAX, Vec::new());
        for row in block.rows() {
            let entry = row.entry;
            let leaf = if entry < size {
                let n = entry / WIDTH;
                if bundle.0 != n {
                    // Damage of the bundle itself is reported where the tree is checked.
                    bundle = (n, self.tiles.bundle(n, tile_width(0, n, size)).unwrap_or_default());
                }
                usize::try_from(entry % WIDTH).ok().and_then(|at| bundle.1.get(at)).map(Vec::as_slice)
            } else {
                groups.iter().find_map(|group| group.leaf(entry))
            };
            match leaf {
                Some(leaf) if commits(leaf, block.salted(row)) => {
                    found.insert(entry);
                }
                Some(_) => self.report.refute(path, Some(entry), "the payload is not the one that the entry names"),
                None => {}
            }
        }
    }

    /// The journal's copy of a sealed entry must be the same; what is beyond is unsealed.
    pub(super) fn journal_leaves(&mut self, groups: &[Group], checkpoint: &Checkpoint) {
        let mut bundle: (u64, Vec<Vec<u8>>) = (u64::MAX, Vec::new());
        for group in groups {
            for (index, leaf) in (group.first..).zip(group.leaves()) {
                if index >= checkpoint.size {
                    self.report.unsealed += 1;
                    continue;
                }
                let n = index / WIDTH;
                if bundle.0 != n {
                    bundle = (n, self.tiles.bundle(n, tile_width(0, n, checkpoint.size)).unwrap_or_default());
                }
                let sealed = usize::try_from(index % WIDTH).ok().and_then(|at| bundle.1.get(at));
                if sealed.is_some_and(|sealed| sealed != leaf) {
                    self.report.refute(
                        &self.folder.journal(),
                        Some(index),
                        "the journal has another entry than the bundle",
                    );
                }
            }
        }
    }

    /// Payloads that are not here: pruned, if an entry of the tree speaks about them; everything else is damage.
    /// The list has exactly the tree's entries below `synced`.
    pub(super) fn gone(&mut self, synced: u64, size: u64) {
        let path = self.folder.path("pruned");
        self.seen(path.clone());
        let list = read_list(&self.folder).unwrap_or_else(|error| {
            self.report.error(&path, None, &error);
            self.prunes.clone()
        });
        let below =
            |list: &[(u64, Prune)]| -> PruneList { list.iter().filter(|(by, _)| *by < synced).cloned().collect() };
        if below(&list) != below(&self.prunes) {
            self.report.refute(&path, None, "it does not list the pruning entries that the tree has");
        }
        for Gone { entry, append, class, day } in std::mem::take(&mut self.gone) {
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
                    "its payload was pruned as entry {by} says, which is younger than the checkpoint; verify again"
                );
                self.report.troubles.push(Trouble {
                    outcome: Outcome::CouldNotCheck,
                    path,
                    detail,
                    entry: Some(entry),
                });
            } else {
                let detail = "its payload is not here, and no entry under the checkpoint says that it was pruned";
                self.report.refute(&path, Some(entry), detail);
            }
        }
    }

    pub(super) fn small_files(&mut self) {
        for name in ["format", "origin", "keys/vkeys", "positions"] {
            self.seen(self.folder.path(name));
        }
        if let Err(error) = self.folder.check_format(true) {
            self.report.error(&self.folder.path("format"), None, &error);
        }
        if let Err(error) = read_positions(&self.folder) {
            self.report.error(&self.folder.path("positions"), None, &error);
        }
        for (name, start) in [("lock", 0), ("reserve", 0), ("journal/spare", PAGE)] {
            let path = self.folder.path(name);
            if !self.files.contains_key(&path) {
                continue;
            }
            match self.read(&path) {
                Ok(bytes) if bytes.get(start..).is_none_or(|rest| rest.iter().any(|&byte| byte != 0)) => {
                    self.report.refute(&path, None, "it should be zero");
                }
                Ok(bytes) if name.ends_with(SPARE) && nonce(&bytes).is_none() => {
                    self.report.refute(&path, None, "its first page is wrong");
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => self.report.error(&path, None, &error),
            }
        }
        let (Ok(list), Ok(origin)) = (KeyList::read(&self.folder), self.folder.origin()) else { return };
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
        match Head::read(&self.folder, &origin, &list) {
            Err(error) if !matches!(error, Error::HeadMissing { .. }) => {
                self.report.error(&self.folder.head, None, &error);
            }
            _ => {}
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
                (Ok(old), Ok(now)) if old.starts_with(&now) || now.starts_with(&old) => {}
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

fn commits(leaf: &[u8], salted: &[u8]) -> bool {
    split_leaf(leaf).and_then(|(_, body)| reference_in(body)).is_some_and(|reference| {
        reference.commit == hex(&commitment(salted)) && reference.len == salted.len() as u64 - 32
    })
}
