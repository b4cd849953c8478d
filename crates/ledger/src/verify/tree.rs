//! The tree: every entry, every tile, the root. This works on any log in the C2SP tlog-tiles layout.

use super::{Check, Gone, Outcome, Report, Trouble, parallel};
use crate::error::Error;
use crate::leaf::{day_of, split_leaf};
use crate::merkle::{Hash, Tree, leaf_hash};
use crate::note::Checkpoint;
use crate::payload::members_in;
use crate::prune::PruneList;
use crate::tiles::{TileStore, WIDTH, bundle_path, split_bundle, split_prefix, tile_path, tile_width};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Bundles that are read at once.
const BATCH: usize = 64;

impl Check {
    /// Rebuilds the tree from the entries and compares every tile and the root.
    pub(super) fn tree(
        &mut self,
        checkpoint: &Checkpoint,
        contained: &[(PathBuf, Checkpoint)],
        payloads: &BTreeSet<u64>,
        ours: bool,
    ) {
        let mut tree = Tree::default();
        let mut first_difference: Option<(u64, PathBuf)> = None;
        let mut damaged: Vec<Trouble> = Vec::new();
        // Entries whose hash stands in for them.
        let mut unread = 0;
        let check_contained = |tree: &Tree, report: &mut Report| {
            for (path, other) in contained.iter().filter(|(_, other)| other.size == tree.size()) {
                if other.root != tree.root() {
                    report.refute(path, None, format!("the log here had another root at size {}", other.size));
                }
            }
        };
        check_contained(&tree, &mut self.report);
        let tiles = self.tiles.clone();
        let reader = BundleReader { tiles: &tiles, size: checkpoint.size, payloads, ours };
        let bundles: Vec<u64> = (0..checkpoint.size.div_ceil(WIDTH)).collect();
        // In batches, so that what was read and waits for its turn stays small.
        for mut part in bundles.chunks(BATCH).flat_map(|batch| parallel::map(batch, |n| reader.read(*n))) {
            self.files.extend(part.seen.map(|path| (path, true)));
            self.report.add(part.report);
            damaged.append(&mut part.damaged);
            self.prunes.append(&mut part.prunes);
            // The parts of an append may all name its payload, also across bundles.
            let last = self.gone.last().map(|gone| gone.append);
            self.gone.extend(part.gone.into_iter().skip_while(|gone| Some(gone.append) == last));
            for i in 0..part.width {
                let index = part.n * WIDTH + i as u64;
                let (from_entry, from_tile) = (part.entries.get(i).copied(), part.tile.get(i).copied());
                if let (Some(a), Some(b)) = (from_entry, from_tile) {
                    if a != b {
                        let path = bundle_path(part.n, part.width as u64);
                        first_difference.get_or_insert((index, self.tiles.dir.join(path)));
                        self.report.damaged += 1;
                    }
                } else {
                    self.report.damaged += u64::from(from_entry.is_none());
                }
                unread += u64::from(from_entry.is_none());
                // With neither there is nothing to hash; the root will differ.
                let hash = from_entry.or(from_tile).unwrap_or_default();
                let mut full = Vec::new();
                tree.push_with(hash, |tile| full.push(tile));
                for (level, n, hashes) in full {
                    self.compare(level, n, &hashes);
                }
                check_contained(&tree, &mut self.report);
            }
        }
        let edge: Vec<(u8, Vec<Hash>)> = tree
            .edge()
            .filter(|(_, hashes)| !hashes.is_empty())
            .map(|(level, hashes)| (level, hashes.to_vec()))
            .collect();
        for (level, hashes) in edge {
            self.compare(level, (checkpoint.size >> (8 * u32::from(level))) / WIDTH, &hashes);
        }
        let root_fits = tree.root() == checkpoint.root;
        if root_fits {
            // All entries that are there are right, so it is the tiles that differ (they have been reported).
            self.report.damaged = damaged.iter().filter(|trouble| trouble.entry.is_some()).count() as u64;
        }
        self.report.troubles.append(&mut damaged);
        match first_difference {
            Some((index, path)) if !root_fits => self.report.refute(
                &path,
                Some(index),
                "the entry is not the one that its tile hashes and the checkpoint prove",
            ),
            _ if !root_fits => self.report.refute(
                &self.folder.path("checkpoint"),
                None,
                "the entries do not have the root that was signed",
            ),
            _ => {}
        }
        self.report.verified = if root_fits { checkpoint.size - self.report.damaged.max(unread) } else { 0 };
    }

    /// The partial file, or the full one if the partial was cleaned away.
    pub(super) fn either(&self, path: impl Fn(u64) -> PathBuf, width: u64) -> PathBuf {
        let exact = self.tiles.dir.join(path(width));
        let full = self.tiles.dir.join(path(WIDTH));
        if !self.files.contains_key(&exact) && self.files.contains_key(&full) { full } else { exact }
    }

    /// Reads the partial file or, if a process that writes has cleaned it away, the full one.
    fn read_either(&mut self, path: impl Fn(u64) -> PathBuf, width: u64) -> (PathBuf, Result<Vec<u8>, Error>) {
        let exact = self.tiles.dir.join(path(width));
        let content = self.read(&exact);
        if width < WIDTH && content.as_ref().is_err_and(Error::is_not_found) {
            let full = self.tiles.dir.join(path(WIDTH));
            if let Ok(bytes) = self.read(&full) {
                return (full, Ok(bytes));
            }
        }
        (exact, content)
    }

    /// Compares a tile with what the entries give.
    fn compare(&mut self, level: u8, n: u64, hashes: &[Hash]) {
        let (path, content) = self.read_either(|width| tile_path(level, n, width), hashes.len() as u64);
        let wanted = hashes.as_flattened();
        match content {
            Ok(bytes) if path.ends_with(tile_path(level, n, hashes.len() as u64)) && bytes.len() != wanted.len() => {
                self.report.refute(&path, None, format!("{} bytes instead of {}", bytes.len(), wanted.len()));
            }
            Ok(bytes) => {
                if let Some(at) = bytes.chunks(32).zip(hashes).position(|(a, b)| a != b) {
                    let first = (n * WIDTH + at as u64) << (8 * u32::from(level));
                    self.report.refute(
                        &path,
                        None,
                        format!("its hash {at}, over the entries from {first} on, is not that of the entries"),
                    );
                } else if bytes.len() < wanted.len() {
                    self.report.refute(&path, None, format!("{} bytes instead of {}", bytes.len(), wanted.len()));
                }
            }
            Err(error) => self.report.error(&path, None, &error),
        }
    }
}

/// Reads bundles and their tiles, each by itself.
struct BundleReader<'a> {
    tiles: &'a TileStore,
    size: u64,
    /// Appends whose payload is here.
    payloads: &'a BTreeSet<u64>,
    ours: bool,
}

/// What a bundle's file and its tile say. What cannot be read is shorter.
struct BundlePart {
    n: u64,
    width: usize,
    /// The bundle's file, if it could be read.
    seen: Option<PathBuf>,
    /// Hashes of the entries.
    entries: Vec<Hash>,
    /// Hashes in the tile.
    tile: Vec<Hash>,
    /// What the leaves say about themselves.
    report: Report,
    damaged: Vec<Trouble>,
    /// Payloads that leaves name and that are not here, one for each append.
    gone: Vec<Gone>,
    prunes: PruneList,
}

impl BundleReader<'_> {
    fn read(&self, n: u64) -> BundlePart {
        let width = tile_width(0, n, self.size);
        let tile = self.tiles.tile(0, n, width).unwrap_or_default();
        let wanted = usize::try_from(width).expect("at most 256");
        let mut part = BundlePart {
            n,
            width: wanted,
            seen: None,
            entries: Vec::new(),
            tile,
            report: Report::default(),
            damaged: Vec::new(),
            gone: Vec::new(),
            prunes: PruneList::new(),
        };
        let exact = self.tiles.dir.join(bundle_path(n, width));
        match self.tiles.read_either(|width| bundle_path(n, width), width) {
            Err(error) => {
                let outcome = if error.is_not_found() { Outcome::Refuted } else { Outcome::CouldNotCheck };
                let (detail, entry) = (error.to_string(), Some(n * WIDTH));
                part.damaged.push(Trouble { outcome, path: exact, detail, entry });
            }
            Ok((path, bytes)) => {
                part.report.bytes = bytes.len() as u64;
                self.entries(&bytes, &path, path == exact, &mut part);
                part.seen = Some(path);
            }
        }
        part
    }

    fn entries(&self, bytes: &[u8], path: &Path, exact: bool, part: &mut BundlePart) {
        let (n, wanted) = (part.n, part.width);
        let entries = split_prefix(bytes);
        part.entries = entries.iter().take(wanted).map(|entry| leaf_hash(entry)).collect();
        if split_bundle(bytes).is_none() || entries.len() < wanted || (exact && entries.len() > wanted) {
            // Lengths that do not fit: the first entry whose hash is wrong is where it begins.
            let wrong = part.entries.iter().zip(&part.tile).position(|(entry, hash)| entry != hash);
            let at = wrong.unwrap_or(entries.len()).min(wanted - 1);
            part.damaged.push(Trouble {
                outcome: Outcome::Refuted,
                path: path.to_owned(),
                detail: format!("its lengths do not make {wanted} entries"),
                entry: Some(n * WIDTH + at as u64),
            });
        }
        if self.ours {
            for (index, entry) in (n * WIDTH..).zip(entries.into_iter().take(wanted)) {
                self.leaf(index, entry, part);
            }
        }
    }

    /// What a leaf of ours says about itself.
    fn leaf(&self, index: u64, leaf: &[u8], part: &mut BundlePart) {
        let report = &mut part.report;
        let n = index / WIDTH;
        let path = || bundle_path(n, WIDTH);
        let Some((stamp, body)) = split_leaf(leaf) else {
            return report.refute(&path(), Some(index), "it is not a stamp and a body");
        };
        if stamp.index() != index {
            report.refute(&path(), Some(index), format!("its stamp is that of entry {}", stamp.index()));
        }
        if body == b"null" {
            report.fillers += 1;
        }
        let members = members_in(body);
        if let Some(reference) = members.payload
            && !self.payloads.contains(&stamp.append)
            && part.gone.last().is_none_or(|gone| gone.append != stamp.append)
        {
            let day = day_of(leaf).unwrap_or_default().to_owned();
            part.gone.push(Gone { entry: index, append: stamp.append, class: reference.class, day });
        }
        part.prunes.extend(members.pruned.map(|prune| (index, prune)));
    }
}
