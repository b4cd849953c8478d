//! The tree: every entry, every tile, the root. This works on any log in the C2SP tlog-tiles layout.

use super::{Check, Gone, Outcome, Report, Trouble};
use crate::error::Error;
use crate::leaf::split_leaf;
use crate::merkle::{Hash, Tree, leaf_hash};
use crate::note::Checkpoint;
use crate::payload::members_in;
use crate::seal::day_of;
use crate::tiles::{WIDTH, bundle_path, split_bundle, tile_path, tile_width};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

impl Check {
    /// Rebuilds the tree from the entries and compares every tile and the root.
    pub(super) fn tree(
        &mut self,
        checkpoint: &Checkpoint,
        kept: Option<&Checkpoint>,
        payloads: &BTreeSet<u64>,
        ours: bool,
    ) {
        let mut tree = Tree::default();
        let mut first_difference: Option<(u64, PathBuf)> = None;
        let mut damaged: Vec<Trouble> = Vec::new();
        let check_kept = |tree: &Tree, report: &mut Report| {
            if let Some(kept) = kept.filter(|kept| kept.size == tree.size() && kept.root != tree.root()) {
                report.refute(
                    Path::new("kept checkpoint"),
                    None,
                    format!("the log here had another root at size {}", kept.size),
                );
            }
        };
        check_kept(&tree, &mut self.report);
        for n in 0..checkpoint.size.div_ceil(WIDTH) {
            let width = tile_width(0, n, checkpoint.size);
            let (entries, hashes) = self.bundle_and_tile(n, width, &mut damaged);
            for i in 0..usize::try_from(width).expect("at most 256") {
                let index = n * WIDTH + i as u64;
                let from_entry = entries.get(i).map(|entry| leaf_hash(entry));
                let from_tile = hashes.get(i).copied();
                if let (Some(a), Some(b)) = (from_entry, from_tile) {
                    if a != b {
                        first_difference.get_or_insert((index, self.tiles.dir.join(bundle_path(n, width))));
                        self.report.damaged += 1;
                    }
                } else {
                    self.report.damaged += u64::from(from_entry.is_none());
                }
                if ours && let Some(entry) = entries.get(i) {
                    self.leaf(index, entry, payloads);
                }
                // With neither there is nothing to hash; the root will differ.
                let hash = from_entry.or(from_tile).unwrap_or_default();
                let mut full = Vec::new();
                tree.push_with(hash, |tile| full.push(tile));
                for (level, n, hashes) in full {
                    self.compare(level, n, &hashes);
                }
                check_kept(&tree, &mut self.report);
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
        self.report.verified = if root_fits { checkpoint.size - self.report.damaged } else { 0 };
    }

    /// Entries of a bundle and hashes of its tile; what cannot be read is shorter and reported.
    fn bundle_and_tile(&mut self, n: u64, width: u64, damaged: &mut Vec<Trouble>) -> (Vec<Vec<u8>>, Vec<Hash>) {
        let (path, content) = self.read_either(|width| bundle_path(n, width), width);
        let tile = self.tiles.tile(0, n, width).unwrap_or_default();
        let wanted = usize::try_from(width).expect("at most 256");
        let entries = match content {
            Err(error) => {
                let outcome = if error.is_not_found() { Outcome::Refuted } else { Outcome::CouldNotCheck };
                damaged.push(Trouble {
                    outcome,
                    path: path.clone(),
                    detail: error.to_string(),
                    entry: Some(n * WIDTH),
                });
                Vec::new()
            }
            Ok(bytes) => {
                let exact = path.ends_with(bundle_path(n, width));
                let entries = prefix(&bytes);
                if split_bundle(&bytes).is_none() || entries.len() < wanted || (exact && entries.len() > wanted) {
                    // Lengths that do not fit: the first entry whose hash is wrong is where it begins.
                    let at = entries
                        .iter()
                        .zip(&tile)
                        .position(|(entry, hash)| leaf_hash(entry) != *hash)
                        .unwrap_or(entries.len());
                    let detail = format!("its lengths do not make {width} entries");
                    damaged.push(Trouble {
                        outcome: Outcome::Refuted,
                        path: path.clone(),
                        detail,
                        entry: Some(n * WIDTH + at.min(wanted - 1) as u64),
                    });
                }
                entries.into_iter().take(wanted).map(<[u8]>::to_vec).collect()
            }
        };
        (entries, tile)
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

    /// What a leaf of ours says about itself.
    fn leaf(&mut self, index: u64, leaf: &[u8], payloads: &BTreeSet<u64>) {
        let n = index / WIDTH;
        let path = || bundle_path(n, WIDTH);
        let Some((stamp, body)) = split_leaf(leaf) else {
            return self.report.refute(&path(), Some(index), "it is not a stamp and a body");
        };
        if stamp.index() != index {
            self.report.refute(&path(), Some(index), format!("its stamp is that of entry {}", stamp.index()));
        }
        if body == b"null" {
            self.report.fillers += 1;
        }
        let members = members_in(body);
        if let Some(reference) = members.payload
            && !payloads.contains(&stamp.append)
            && self.gone.last().is_none_or(|gone| gone.append != stamp.append)
        {
            let day = day_of(leaf).unwrap_or_default().to_owned();
            self.gone.push(Gone { entry: index, append: stamp.append, class: reference.class, day });
        }
        self.prunes.extend(members.pruned.map(|prune| (index, prune)));
    }
}

/// Entries of a bundle as far as its lengths can be followed.
fn prefix(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let Some((entry, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        entries.push(entry);
        bytes = rest;
    }
    entries
}
