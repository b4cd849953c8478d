//! The parts of our own folders that other logs do not have, and files that nobody has asked for.

use super::{Check, Gone, Report, parallel};
use crate::durable::Disk;
use crate::group::Group;
use crate::journal::{Finding, Scan, is_segment, scan_live};
use crate::leaf::{day_of, split_leaf};
use crate::note::Checkpoint;
use crate::payload::{Block, PayloadRef, block_first, commitment, hex, reference_in};
use crate::prune::{PruneList, covering, read_list};
use crate::tiles::{TileStore, WIDTH, bundle_path, split_bundle, tile_path, tile_width};
use std::collections::BTreeSet;
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
        let reader = BlockReader { disk: &self.folder.disk, dir: &dir, tiles: &self.tiles, groups, size };
        for (path, part) in paths.iter().zip(parallel::map(&paths, |path| reader.read(path))) {
            // What could not be read stays a file that nobody has looked into.
            if part.read {
                self.files.insert(path.clone(), true);
            }
            found.extend(part.found);
            self.report.add(part.report);
        }
        self.report.payloads = found.len() as u64;
        found
    }

    /// The journal's copy of a sealed entry must be the same; what is beyond is unsealed. Where entries are signed it always
    /// reaches as far as the checkpoint, because they were in it before, and its last segment stays. A backup has none.
    pub(super) fn journal_leaves(&mut self, journal: &Scan, checkpoint: &Checkpoint) {
        if journal.next < checkpoint.size && !self.folder.is_backup().unwrap_or(false) {
            let detail = format!("it ends before entry {}, which is signed", journal.next);
            self.report.refute(&self.folder.journal(), Some(journal.next), detail);
        }
        let mut bundle: (u64, Vec<Vec<u8>>) = (u64::MAX, Vec::new());
        for group in &journal.groups {
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
        let below = |list: &PruneList| -> PruneList { list.iter().filter(|(by, _)| *by < synced).cloned().collect() };
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

/// Whether a reader of this leaf, which has this reference, looks for its payload in this folder, `class/day`.
fn lies_in(leaf: &[u8], reference: &PayloadRef, place: &Path) -> bool {
    day_of(leaf).is_some_and(|day| Path::new(&reference.class).join(day) == place)
}

/// Reads payload blocks, each by itself.
struct BlockReader<'a> {
    disk: &'a Disk,
    /// The folder `payload`.
    dir: &'a Path,
    tiles: &'a TileStore,
    groups: &'a [Group],
    size: u64,
}

/// What a block's file says.
#[derive(Default)]
struct BlockPart {
    read: bool,
    report: Report,
    /// Appends whose payload is in it, as their leaf says.
    found: Vec<u64>,
}

impl BlockReader<'_> {
    fn read(&self, path: &Path) -> BlockPart {
        let mut part = BlockPart::default();
        match self.disk.read(path) {
            Ok(bytes) => {
                part.read = true;
                part.report.bytes = bytes.len() as u64;
                match Block::decode(&bytes) {
                    Ok(block) => self.compare(path, &block, &mut part),
                    Err(detail) => {
                        let entry = path.file_name().and_then(|name| block_first(&name.to_string_lossy()));
                        part.report.refute(path, entry, detail);
                    }
                }
            }
            // Pruned since the folder was listed; whether rightly, its leaves show.
            Err(error) if error.is_not_found() => part.read = true,
            Err(error) => part.report.error(path, None, &error),
        }
        part
    }

    fn compare(&self, path: &Path, block: &Block, part: &mut BlockPart) {
        let mut bundle: (u64, Vec<Vec<u8>>) = (u64::MAX, Vec::new());
        let name = path.file_name().and_then(|name| block_first(&name.to_string_lossy()));
        if name.is_none() || block.rows().first().map(|row| row.entry) != name {
            part.report.refute(path, name, "its name is not that of its first entry");
        }
        let place = path.strip_prefix(self.dir).ok().and_then(Path::parent).unwrap_or(Path::new(""));
        for row in block.rows() {
            let entry = row.entry;
            let leaf = if entry < self.size {
                let n = entry / WIDTH;
                if bundle.0 != n {
                    // Damage of the bundle itself is reported where the tree is checked.
                    bundle = (n, self.tiles.bundle(n, tile_width(0, n, self.size)).unwrap_or_default());
                }
                usize::try_from(entry % WIDTH).ok().and_then(|at| bundle.1.get(at)).map(Vec::as_slice)
            } else {
                self.groups.iter().find_map(|group| group.leaf(entry))
            };
            // Without its leaf there is nothing to compare with; that it is not there is reported where the tree is checked.
            let Some(leaf) = leaf else { continue };
            let reference = reference_of(leaf).filter(|of| reference_fits(of, block.salted(row)));
            let Some(reference) = reference else {
                part.report.refute(path, Some(entry), "the payload is not the one that the entry names");
                continue;
            };
            if lies_in(leaf, &reference, place) {
                part.found.push(entry);
            } else {
                part.report.refute(path, Some(entry), "it is not in the folder of its class and day");
            }
        }
    }
}

fn commits(leaf: &[u8], salted: &[u8]) -> bool {
    reference_of(leaf).is_some_and(|reference| reference_fits(&reference, salted))
}

fn reference_of(leaf: &[u8]) -> Option<PayloadRef> {
    split_leaf(leaf).and_then(|(_, body)| reference_in(body))
}

fn reference_fits(reference: &PayloadRef, salted: &[u8]) -> bool {
    reference.len == salted.len() as u64 - 32 && reference.commit == hex(&commitment(salted))
}
