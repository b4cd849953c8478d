//! The rolling self-check: old *values* are read again, a bundle of entries at a time, and compared with what was signed.
//!
//! A root alone would prove nothing about the files below it: each step hashes a bundle's entries, climbs from them to the
//! signed root, compares the bundle's hash tile, and unpacks the payloads that the entries have committed to. Steps are small, so
//! that the owner decides about pace and end. Entries that are not sealed and payloads that are not stored yet are not looked at.

use crate::blocks::OVERLAP;
use crate::error::Error;
use crate::leaf::{day_of, split_leaf};
use crate::ledger::Ledger;
use crate::merkle::{Hash, leaf_hash, root_over, verify_inclusion};
use crate::note::Checkpoint;
use crate::payload::{Block, PayloadRef, block_first, block_path, commitment, hex, reference_in};
use crate::proof::inclusion;
use crate::tiles::{WIDTH, bundle_path, tile_path, tile_width};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A round over all entries of one checkpoint.
#[derive(Debug)]
pub struct Round {
    checkpoint: Checkpoint,
    next: u64,
    /// The block read last, by class: neighbours in the tree are neighbours in blocks.
    blocks: BTreeMap<String, (PathBuf, Block)>,
    /// Blocks that were found damaged: told once, not read again.
    bad: BTreeSet<PathBuf>,
}

impl Round {
    /// Entries in the checkpoint that the round compares with.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// The entry with which the next step begins.
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// What one step has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Entries that the signed root proves.
    pub entries: u64,
    /// Payloads that fit their commitment.
    pub payloads: u64,
    /// Payloads that were pruned, as entries say.
    pub pruned: u64,
    /// Bytes of bundles, their hash tiles and payload blocks.
    pub bytes: u64,
    /// What is not as it was signed.
    pub damage: Vec<Damage>,
}

/// One thing that is not as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first entry concerned.
    pub entry: u64,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

impl Ledger {
    /// Begins a round over the latest checkpoint, or goes on with one at the bundle that holds entry `from`.
    ///
    /// # Errors
    /// [`Error::BadNote`] if the checkpoint is not signed by the ledger's keys.
    pub fn recheck(&self, from: u64) -> Result<Round, Error> {
        let keys: Vec<_> = self.vkeys().iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let checkpoint = Checkpoint::verify(&self.checkpoint(), keys.iter())?;
        Ok(Round { checkpoint, next: from / WIDTH * WIDTH, blocks: BTreeMap::new(), bad: BTreeSet::new() })
    }

    /// Reads the next bundle of a round and what its entries have committed to; none at the end.
    ///
    /// # Errors
    /// [`Error::Io`] that says nothing about the files (no more open files, say); the step can be tried again.
    pub fn recheck_step(&self, round: &mut Round) -> Result<Option<Rechecked>, Error> {
        let size = round.checkpoint.size;
        if round.next >= size {
            return Ok(None);
        }
        let n = round.next / WIDTH;
        let width = tile_width(0, n, size);
        let mut done = Rechecked::default();
        let leaves = match self.tiles.bundle(n, width) {
            Ok(leaves) => leaves,
            Err(error) => {
                done.damage.push(damage(round.next, self.tiles.dir.join(bundle_path(n, width)), error)?);
                Vec::new()
            }
        };
        done.bytes += leaves.iter().map(|leaf| leaf.len() as u64 + 2).sum::<u64>() + width * 32;
        if !leaves.is_empty() {
            self.recheck_bundle(&round.checkpoint, n, &leaves, &mut done)?;
            if done.damage.is_empty() {
                self.recheck_payloads(round, &leaves, &mut done)?;
            }
        }
        round.next = (round.next + WIDTH).min(size);
        Ok(Some(done))
    }

    /// The bundle's entries against the signed root, and its hash tile against the entries.
    fn recheck_bundle(
        &self,
        checkpoint: &Checkpoint,
        n: u64,
        leaves: &[Vec<u8>],
        done: &mut Rechecked,
    ) -> Result<(), Error> {
        let (first, size, width) = (n * WIDTH, checkpoint.size, leaves.len() as u64);
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let bundle = self.tiles.dir.join(bundle_path(n, width));
        let tile = self.tiles.dir.join(tile_path(0, n, width));
        let (stored, path) = match self
            .tiles
            .tile(0, n, width)
            .and_then(|tile| Ok((tile, inclusion(&self.tiles, size, first, size)?)))
        {
            Ok(read) => read,
            Err(error) => {
                done.damage.push(damage(first, tile, error)?);
                return Ok(());
            }
        };
        // Bundles are the leaves of a tree of the same form: the path of the bundle's first entry without the part inside it.
        let inside = width.next_power_of_two().trailing_zeros() as usize;
        let above = path.get(inside..).unwrap_or_default();
        let proved =
            |hashes: &[Hash]| verify_inclusion(&root_over(hashes), n, size.div_ceil(WIDTH), above, &checkpoint.root);
        let differs = hashes.iter().zip(&stored).position(|(a, b)| a != b);
        match (proved(&hashes), differs) {
            (true, None) => done.entries += width,
            (true, Some(at)) => {
                let detail = format!("its hash {at} is not that of the entry");
                done.damage.push(Damage { entry: first + at as u64, path: tile, detail });
            }
            (false, Some(at)) if proved(&stored) => {
                let detail = "the entry is not the one that the checkpoint proves".to_owned();
                done.damage.push(Damage { entry: first + at as u64, path: bundle, detail });
            }
            (false, at) => {
                let detail =
                    "its entries, or a hash tile above them, are not those that the checkpoint proves".to_owned();
                done.damage.push(Damage { entry: first + at.unwrap_or(0) as u64, path: bundle, detail });
            }
        }
        Ok(())
    }

    fn recheck_payloads(&self, round: &mut Round, leaves: &[Vec<u8>], done: &mut Rechecked) -> Result<(), Error> {
        let mut last = None;
        for leaf in leaves {
            let Some((stamp, body)) = split_leaf(leaf) else { continue };
            let (Some(reference), Some(day)) = (reference_in(body), day_of(leaf)) else { continue };
            // Other parts of an append may name its payload too. Before `stored` it has to be in a block.
            if last.replace(stamp.append) == Some(stamp.append) || stamp.append >= self.shared.tail().stored {
                continue;
            }
            match self.recheck_payload(round, &reference, day, stamp.append, done) {
                Ok(()) => {}
                Err(error) => {
                    let folder = self.shared.folder.path("payload").join(&reference.class).join(day);
                    done.damage.push(damage(stamp.append, folder, error)?);
                }
            }
        }
        Ok(())
    }

    fn recheck_payload(
        &self,
        round: &mut Round,
        reference: &PayloadRef,
        day: &str,
        append: u64,
        done: &mut Rechecked,
    ) -> Result<(), Error> {
        let (disk, dir) = (&self.shared.folder.disk, self.shared.folder.path("payload"));
        let folder = dir.join(&reference.class).join(day);
        let mut tell = |path: &Path, detail: &str| {
            done.damage.push(Damage { entry: append, path: path.to_owned(), detail: detail.to_owned() });
        };
        let names = match round.blocks.get(&reference.class) {
            Some((path, block)) if path.starts_with(&folder) && block.salted_of(append).is_some() => Vec::new(),
            _ => disk.list(&folder)?,
        };
        let candidates = names.iter().rev().filter_map(|name| block_first(name)).filter(|first| *first <= append);
        for first in candidates.take(OVERLAP) {
            let path = dir.join(block_path(&reference.class, day, first));
            if round.bad.contains(&path) {
                return Ok(());
            }
            // A file that vanishes was pruned.
            let Some(bytes) = disk.read_if_there(&path)? else { continue };
            done.bytes += bytes.len() as u64;
            match Block::decode(&bytes) {
                Ok(block) => {
                    let found = block.salted_of(append).is_some();
                    round.blocks.insert(reference.class.clone(), (path, block));
                    if found {
                        break;
                    }
                }
                Err(detail) => {
                    tell(&path, detail);
                    round.bad.insert(path);
                    return Ok(());
                }
            }
        }
        let read = round.blocks.get(&reference.class).filter(|(path, _)| path.starts_with(&folder));
        match read.and_then(|(path, block)| Some((path, block.salted_of(append)?))) {
            Some((_, salted)) if reference.commit == hex(&commitment(salted)) => done.payloads += 1,
            Some((path, _)) => tell(path, "the payload is not the one that the entry names"),
            None => {
                let sealed = self.shared.tail().sealed;
                match self.shared.blocks.pruned_by(sealed, &reference.class, day, append) {
                    Some(_) => done.pruned += 1,
                    None => tell(&folder, "the payload is not here, and no entry says that it was pruned"),
                }
            }
        }
        Ok(())
    }
}

/// What an error of reading says about a file; errors that say nothing are given back.
fn damage(entry: u64, path: PathBuf, error: Error) -> Result<Damage, Error> {
    match &error {
        Error::Io { source, .. }
            if !error.is_not_found() && source.raw_os_error() != Some(rustix::io::Errno::IO.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(Damage { entry, path, detail: error.to_string() }),
    }
}
