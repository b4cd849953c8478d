//! Reading: entries, payloads, proofs; from an open ledger, or from a folder without opening it.

use crate::blocks::find_on_disk;
use crate::durable::Disk;
use crate::error::Error;
use crate::group::Group;
use crate::head::{Folder, Head, KeyList, Positions, read_positions};
use crate::journal::{Scan, scan_live};
use crate::leaf::day_of;
use crate::leaf::split_leaf;
use crate::ledger::Ledger;
use crate::merkle::Hash;
use crate::note::Checkpoint;
use crate::payload::reference_in;
use crate::proof::{consistency, inclusion, tlog_proof};
use crate::prune::{PayloadDay, PruneList, covering, payload_days, read_list};
use crate::tiles::{TileStore, WIDTH, tile_width};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Ledger {
    fn groups_from(&self, index: u64) -> (u64, u64, Vec<Arc<Group>>) {
        let tail = self.shared.tail();
        let from = tail.groups.partition_point(|group| group.end() <= index);
        (tail.committed, tail.sealed, tail.groups.range(from..).cloned().collect())
    }

    /// The leaf at this index, none if there is no such entry yet.
    pub fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entries(index, 1)?.pop())
    }

    /// Leaves from `from` on, in order, at most `limit`; fewer at the end, and perhaps before: ask again until none come.
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let (_, sealed, groups) = self.groups_from(from);
        entries(&self.tiles, sealed, groups.iter().map(Arc::as_ref), from, limit)
    }

    /// The payload of the append that entry `index` belongs to; none if the entry names none.
    ///
    /// # Errors
    /// [`Error::NoEntry`]; [`Error::PayloadPruned`] or [`Error::PayloadMissing`] if the entry names one that is not here.
    pub fn payload(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        let leaf = self.entry(index)?.ok_or_else(|| Error::NoEntry { index, size: self.size() })?;
        let Some(wanted) = Wanted::of(&leaf) else { return Ok(None) };
        // In the order in which a payload moves, so that none slips through.
        let (_, _, groups) = self.groups_from(wanted.append);
        if let Some(found) = wanted.in_groups(groups.iter().map(Arc::as_ref)) {
            return Ok(Some(found));
        }
        if let Some(found) = self.shared.blocks.find(&wanted.class, &wanted.day, wanted.append) {
            return Ok(Some(found));
        }
        let found = wanted.on_disk(&self.shared.folder);
        wanted.explain(found, || Ok((self.shared.blocks.prunes(), self.shared.tail().sealed)))
    }

    /// Inclusion proof of an entry in the tree of `size` entries, leaf side first.
    ///
    /// # Errors
    /// [`Error::NotSealed`]: wait with [`Ledger::wait_sealed`]. [`Error::NoEntry`] if the index is not below the size.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        inclusion(&self.tiles, self.shared.tail().sealed, index, size)
    }

    /// Consistency proof between two sizes; empty if they are equal or the old one is 0.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        consistency(&self.tiles, self.shared.tail().sealed, old, new)
    }

    /// The text of a C2SP `.tlog-proof` file: inclusion of an entry in the latest checkpoint.
    pub fn tlog_proof(&self, index: u64) -> Result<String, Error> {
        let (sealed, note) = {
            let tail = self.shared.tail();
            (tail.sealed, Arc::clone(&tail.note))
        };
        tlog_proof(&self.tiles, sealed, sealed, &note, index)
    }

    /// The same in an earlier checkpoint of this log, such as one that witnesses have cosigned.
    ///
    /// # Errors
    /// [`Error::NotSealed`] if that checkpoint does not cover the entry, [`Error::BadNote`] if it is none.
    pub fn tlog_proof_in(&self, index: u64, note: &str) -> Result<String, Error> {
        tlog_proof(&self.tiles, self.shared.tail().sealed, Checkpoint::parse(note)?.size, note, index)
    }
}

/// A ledger's folder, opened for reading only: needs no lock, and works while another process writes to it. It sees what was
/// there when it was opened, entries that are not sealed yet included.
#[derive(Debug)]
pub struct Reader {
    folder: Folder,
    tiles: TileStore,
    keys: KeyList,
    checkpoint: Checkpoint,
    note: String,
    journal: Scan,
}

impl Reader {
    /// Opens the ledger in a data folder (the one that holds `ledger/`).
    ///
    /// # Errors
    /// [`Error::NotALedger`], [`Error::Newer`], [`Error::Damaged`], [`Error::BadNote`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_on(&Disk::Real, dir)
    }

    /// The same on any disk.
    pub fn open_on(disk: &Disk, dir: &Path) -> Result<Self, Error> {
        let folder = Folder { disk: disk.clone(), dir: dir.join("ledger"), head: dir.join("head") };
        folder.check_format(false)?;
        let keys = KeyList::read(&folder)?;
        let journal = scan_live(disk, &folder.journal())?;
        // The checkpoint is read after the journal: entries that left the journal meanwhile are in it.
        let path = folder.path("checkpoint");
        let note = disk.text_if_there(&path)?.ok_or_else(|| Error::damaged(&path, "it is missing"))?;
        let origin = folder.origin()?;
        let checkpoint =
            Checkpoint::verify(&note, keys.0.iter().map(|line| &line.vkey).filter(|vkey| vkey.name() == origin))?;
        let tiles = TileStore::new(disk.clone(), &folder.dir);
        Ok(Self { folder, tiles, keys, checkpoint, note, journal })
    }

    /// Number of durable entries.
    pub fn size(&self) -> u64 {
        self.journal.next.max(self.checkpoint.size)
    }

    /// The published checkpoint, its signature verified.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The published checkpoint as signed.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The verifier keys in use.
    pub fn vkeys(&self) -> Vec<String> {
        self.keys.at(&self.checkpoint.origin, self.checkpoint.size).map(ToString::to_string).collect()
    }

    /// As [`Ledger::entry`].
    pub fn entry(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.entries(index, 1)?.pop())
    }

    /// As [`Ledger::entries`].
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        let skip = self.journal.groups.partition_point(|group| group.end() <= from.max(self.checkpoint.size));
        entries(&self.tiles, self.checkpoint.size, self.journal.groups[skip..].iter(), from, limit)
    }

    /// As [`Ledger::payload`].
    pub fn payload(&self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        let leaf = self.entry(index)?.ok_or_else(|| Error::NoEntry { index, size: self.size() })?;
        let Some(wanted) = Wanted::of(&leaf) else { return Ok(None) };
        if let Some(found) = wanted.in_groups(self.journal.groups.iter()) {
            return Ok(Some(found));
        }
        match wanted.on_disk(&self.folder) {
            Err(Error::PayloadMissing { .. }) => {}
            other => return other.map(Some),
        }
        // The entry can be younger than our view of the journal, and its payload in no block yet.
        let now = scan_live(&self.folder.disk, &self.folder.journal())?;
        match wanted.in_groups(now.groups.iter()) {
            Some(found) => Ok(Some(found)),
            // What the list names is under a checkpoint, though perhaps not under the one that we have read.
            None => wanted.explain(wanted.on_disk(&self.folder), || Ok((read_list(&self.folder)?, u64::MAX))),
        }
    }

    /// As [`Ledger::payload_days`].
    pub fn payload_days(&self) -> Result<Vec<PayloadDay>, Error> {
        let head = Head::read(&self.folder, &self.checkpoint.origin, &self.keys)?;
        payload_days(&self.folder, head.stored)
    }

    /// How far each source has been read.
    pub fn positions(&self) -> Result<BTreeMap<String, String>, Error> {
        let (through, mut positions): (u64, Positions) = read_positions(&self.folder)?;
        let appends = self.journal.groups.iter().flat_map(|group| &group.appends);
        for position in appends.filter(|append| append.first >= through).filter_map(|append| append.position.as_ref()) {
            positions.insert(position.source.clone(), position.position.clone());
        }
        Ok(positions)
    }

    /// As [`Ledger::inclusion_proof`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        inclusion(&self.tiles, self.checkpoint.size, index, size)
    }

    /// As [`Ledger::consistency_proof`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        consistency(&self.tiles, self.checkpoint.size, old, new)
    }

    /// As [`Ledger::tlog_proof`].
    pub fn tlog_proof(&self, index: u64) -> Result<String, Error> {
        tlog_proof(&self.tiles, self.checkpoint.size, self.checkpoint.size, &self.note, index)
    }
}

/// Which payload a leaf names, and where it would be.
struct Wanted {
    append: u64,
    class: String,
    day: String,
}

impl Wanted {
    fn of(leaf: &[u8]) -> Option<Self> {
        let (stamp, body) = split_leaf(leaf)?;
        let reference = reference_in(body)?;
        Some(Self { append: stamp.append, class: reference.class, day: day_of(leaf)?.to_owned() })
    }

    fn in_groups<'g>(&self, groups: impl Iterator<Item = &'g Group>) -> Option<Vec<u8>> {
        for group in groups {
            if let Ok(at) = group.appends.binary_search_by_key(&self.append, |append| append.first) {
                return group.payload(&group.appends[at]).map(|(_, salted)| salted[32..].to_vec());
            }
        }
        None
    }

    fn on_disk(&self, folder: &Folder) -> Result<Vec<u8>, Error> {
        let found = find_on_disk(&folder.disk, &folder.path("payload"), &self.class, &self.day, self.append)?;
        found.ok_or(Error::PayloadMissing { index: self.append })
    }

    /// What is missing was pruned, if an entry under a checkpoint says so. `prunes`: such entries, and the checkpoint's size.
    fn explain(
        &self,
        found: Result<Vec<u8>, Error>,
        prunes: impl FnOnce() -> Result<(PruneList, u64), Error>,
    ) -> Result<Option<Vec<u8>>, Error> {
        if let Err(Error::PayloadMissing { index }) = found {
            let (list, sealed) = prunes()?;
            return Err(match covering(&list, sealed, &self.class, &self.day, self.append) {
                Some(by) => Error::PayloadPruned { index, by },
                None => Error::PayloadMissing { index },
            });
        }
        found.map(Some)
    }
}

/// Entries from tiles below `sealed`, then from groups, which are in order and without gaps.
fn entries<'g>(
    tiles: &TileStore,
    sealed: u64,
    groups: impl Iterator<Item = &'g Group>,
    from: u64,
    limit: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut next = from;
    while next < sealed && found.len() < limit {
        let n = next / WIDTH;
        let bundle = tiles.bundle(n, tile_width(0, n, sealed))?;
        let skip = usize::try_from(next % WIDTH).expect("below 256");
        let before = found.len();
        found.extend(bundle.into_iter().skip(skip).take(limit - before));
        next += (found.len() - before) as u64;
    }
    for group in groups {
        while let Some(leaf) = group.leaf(next).filter(|_| found.len() < limit) {
            found.push(leaf.to_vec());
            next += 1;
        }
    }
    Ok(found)
}
