//! The tree: every entry, every tile, the root. This works on any log in the C2SP tlog-tiles layout.

use super::blocks::{BlockReader, EntrySet};
use super::bundles::{BundlePart, BundleReader, compare_tile, read_either};
use super::{Check, Gone, Trouble, parallel};
use crate::journal::Scan;
use crate::merkle::{Hash, Tree};
use crate::note::Checkpoint;
use crate::tiles::{WIDTH, tile_path};
use std::path::PathBuf;

/// Bundles that are read at once: what they say is held until the payloads of their entries have been looked at.
const BATCH: u64 = 128;

/// The tree as far as it was rebuilt, and what is wrong with it.
#[derive(Default)]
struct Rebuilt {
    tree: Tree,
    /// The first entry that is not the one in its tile, and the bundle's file.
    difference: Option<(u64, PathBuf)>,
    damaged: Vec<Trouble>,
    /// Entries whose hash stands in for them.
    unread: u64,
}

impl Check {
    /// Reads every entry and rebuilds the tree from them, compares every tile and the root, and checks all payloads against
    /// their leaves. Gives the appends whose payload is here; below `stored` the journal's do not count.
    pub(super) fn entries(
        &mut self,
        checkpoint: &Checkpoint,
        contained: &[(PathBuf, Checkpoint)],
        journal: &Scan,
        stored: u64,
        ours: bool,
    ) -> EntrySet {
        let mut found = self.journal_payloads(&journal.groups, stored);
        let dir = self.folder.path("payload");
        let files = self.block_files(&dir);
        let mut files = files.as_slice();
        let tiles = self.tiles.clone();
        let (size, groups) = (checkpoint.size, journal.groups.as_slice());
        let bundles = BundleReader { tiles: &tiles, size, ours, journal: self.folder.journal(), groups };
        let mut rebuilt = Rebuilt::default();
        self.check_contained(contained, &rebuilt.tree, &[]);
        let all = size.div_ceil(WIDTH);
        let mut from = 0;
        while from < all {
            let batch: Vec<u64> = (from..all.min(from + BATCH)).collect();
            let parts = parallel::map(&batch, |buffer, n| bundles.read(buffer, *n));
            from += BATCH;
            let (near, later) = files.split_at(files.partition_point(|(first, _)| *first < from * WIDTH));
            // In a log of others no leaf was asked what it names.
            let parts_of_ours = if ours { parts.as_slice() } else { &[] };
            self.blocks(near, &BlockReader { dir: &dir, bundles: &bundles, near: parts_of_ours }, &mut found);
            files = later;
            for part in parts {
                self.bundle(part, contained, &found, &mut rebuilt);
            }
        }
        self.blocks(files, &BlockReader { dir: &dir, bundles: &bundles, near: &[] }, &mut found);
        self.root(rebuilt, checkpoint);
        found
    }

    /// Goes on with the next bundle.
    fn bundle(
        &mut self,
        mut part: BundlePart,
        contained: &[(PathBuf, Checkpoint)],
        found: &EntrySet,
        rebuilt: &mut Rebuilt,
    ) {
        self.files.extend(part.seen.into_iter().map(|path| (path, true)));
        self.report.add(part.report);
        self.prunes.append(&mut part.prunes);
        for (entry, named) in (part.n * WIDTH..).zip(part.named) {
            // The parts of an append may all name its payload, also across bundles.
            if let Some(named) = named
                && !found.contains(named.append)
                && self.gone.last().is_none_or(|gone| gone.append != named.append)
            {
                let (append, class, day) = (named.append, named.reference.class, named.day);
                self.gone.push(Gone { entry, append, class, day });
            }
        }
        rebuilt.damaged.append(&mut part.damaged);
        rebuilt.unread += part.unread;
        if rebuilt.difference.is_none() {
            rebuilt.difference = part.difference;
        }
        self.check_contained(contained, &rebuilt.tree, &part.hashes);
        let mut full = Vec::new();
        if part.hashes.len() as u64 == WIDTH {
            rebuilt.tree.push_tile_with(part.root, |tile| full.push(tile));
        } else {
            for hash in &part.hashes {
                rebuilt.tree.push(*hash);
            }
        }
        for (level, n, hashes) in full {
            self.compare(level, n, &hashes);
        }
    }

    /// The other checkpoints whose size the tree reaches with these next hashes, the empty one with none, must have its root.
    fn check_contained(&mut self, contained: &[(PathBuf, Checkpoint)], tree: &Tree, next: &[Hash]) {
        for (path, other) in contained {
            let more = other.size.checked_sub(tree.size()).filter(|more| next.is_empty() || *more > 0);
            let Some(more) = more.and_then(|more| next.get(..usize::try_from(more).ok()?)) else { continue };
            let mut tree = tree.clone();
            for hash in more {
                tree.push(*hash);
            }
            if other.root != tree.root() {
                let detail = format!("the log here had another root at size {}", other.size);
                self.report.refute(path, None, detail);
            }
        }
    }

    /// Compares the tiles at the tree's edge and the root.
    fn root(&mut self, mut rebuilt: Rebuilt, checkpoint: &Checkpoint) {
        // The edge of level 0 was compared when its bundle was read.
        for (level, hashes) in rebuilt.tree.edge().skip(1).filter(|(_, hashes)| !hashes.is_empty()) {
            self.compare(level, (checkpoint.size >> (8 * u32::from(level))) / WIDTH, hashes);
        }
        let root_fits = rebuilt.tree.root() == checkpoint.root;
        if root_fits {
            // All entries that are there are right, so it is the tiles that differ (they have been reported).
            self.report.damaged = rebuilt.damaged.iter().filter(|trouble| trouble.entry.is_some()).count() as u64;
        }
        self.report.troubles.append(&mut rebuilt.damaged);
        match rebuilt.difference {
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
        let unknown = self.report.damaged.max(rebuilt.unread);
        self.report.verified = if root_fits { checkpoint.size - unknown } else { 0 };
    }

    /// Compares a tile above the lowest level with what the entries give.
    fn compare(&mut self, level: u8, n: u64, hashes: &[Hash]) {
        let mut bytes = Vec::new();
        let path = |width| tile_path(level, n, width);
        let (path, read) = read_either(&self.tiles, path, hashes.len() as u64, &mut bytes);
        compare_tile((level, n), hashes, &path, read.as_ref().map(|()| bytes.as_slice()), &mut self.report);
        if read.is_ok() {
            self.report.bytes += bytes.len() as u64;
            self.seen(path);
        }
    }

    /// The partial file, or the full one if the partial was cleaned away.
    pub(super) fn either(&self, path: impl Fn(u64) -> PathBuf, width: u64) -> PathBuf {
        let exact = self.tiles.dir.join(path(width));
        let full = self.tiles.dir.join(path(WIDTH));
        if !self.files.contains_key(&exact) && self.files.contains_key(&full) { full } else { exact }
    }
}
