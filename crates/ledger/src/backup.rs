//! A copy of a log that proves itself, made while another process writes to it (docs/formats/folder.md, "Backup").
//!
//! The copy is what a stopped ledger of one size looks like: the tree of a checkpoint that was published when the backup
//! began, all its payloads in blocks, positions that are not beyond it. Two things are never in it: a signing key, and `head`, which
//! says what was signed last and which no copy can know. So nobody can go on with it under the log's name by accident.
//!
//! Everything is read in the order in which it moves: positions, checkpoint, journal, then blocks and tiles, which only grow.
//! What leaves the journal meanwhile is in a block by then. Everything is written in the order in which it counts: the checkpoint
//! last, so that a backup that is cut off still is the one before.

use crate::durable::temporary;
use crate::error::Error;
use crate::group::Group;
use crate::head::{Folder, KeyList, Positions, positions_text, read_positions};
use crate::journal::{self, Scan, SegmentBytes, make_spare, segments};
use crate::leaf::day_of;
use crate::merkle::verify_consistency;
use crate::note::Checkpoint;
use crate::payload::{Block, OpenBlock, block_first, block_path};
use crate::proof::consistency;
use crate::prune::{Prune, PruneList, list_text, prune_of, read_list};
use crate::tiles::{TileStore, WIDTH, bundle_path, push_entry, tile_path};
use crate::{Config, Disk};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a backup has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The checkpoint that it holds: that of the log when the backup began.
    pub checkpoint: Checkpoint,
    /// Files written this time.
    pub copied: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that an earlier backup had copied already.
    pub there: u64,
    /// Payload blocks that are damaged where they come from and were left out. The backup does not verify then.
    pub damaged: Vec<PathBuf>,
}

/// Copies the log in the data folder of `config` to the folder `to`, or adds to an earlier backup there what is new. `beside`
/// are further files of the data folder that belong to it; in the backup only their owner can read them.
/// `progress` is called with the bytes of each file written. Needs no lock: the log can be in use.
///
/// # Errors
/// Those of reading and writing. [`Error::NotABackup`] if `to` holds a ledger that signs, or a backup that this log is
/// no continuation of. [`Error::Locked`] while another backup writes there.
pub fn backup(config: &Config, to: &Path, beside: &[&str], mut progress: impl FnMut(u64)) -> Result<Backup, Error> {
    /// A process that opens the log meanwhile removes partial tiles of older checkpoints; one that prunes, payloads that only
    /// an entry after the checkpoint says were pruned.
    const TRIES: usize = 3;
    let from = config.folder();
    let target = to;
    let to = Folder { disk: config.disk.clone(), dir: to.join("ledger"), head: to.join("head") };
    from.check_format(false)?;
    check_target(&to)?;
    to.disk.make_dirs(&to.path("keys"))?;
    let _lock = to.disk.lock(&to.path("lock"))?;
    let beside = || copy_beside(&to.disk, &config.dir, target, beside);
    let mut once = || copy(&from, &to, &beside, &mut progress);
    let mut result = once();
    for _ in 1..TRIES {
        match &result {
            Err(error) if error.is_not_found() => {}
            Ok((_, true)) => {}
            _ => break,
        }
        result = once();
    }
    result.map(|(backup, _)| backup)
}

/// A ledger that signs must not be overwritten.
fn check_target(to: &Folder) -> Result<(), Error> {
    let not = |path: PathBuf, detail: &str| Err(Error::NotABackup { path, detail: detail.to_owned() });
    if to.can_sign()? {
        return not(to.dir.clone(), "it is a ledger with a signing key");
    }
    if to.disk.len(&to.head)?.is_some() {
        return not(to.head.clone(), "it is the `head` of a ledger");
    }
    Ok(())
}

/// Copies files that only their owner may read; those that are not there are left out.
pub(crate) fn copy_beside(disk: &Disk, from: &Path, to: &Path, names: &[&str]) -> Result<(), Error> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        if let Some(bytes) = disk.read_if_there(&source)?
            && disk.read_if_there(&target)?.as_ref() != Some(&bytes)
        {
            disk.write_secret(&target, &bytes)?;
        }
    }
    Ok(())
}

/// Gives the backup, and whether the log knows of prunings that the checkpoint does not cover.
fn copy(
    from: &Folder,
    to: &Folder,
    beside: &dyn Fn() -> Result<(), Error>,
    progress: &mut dyn FnMut(u64),
) -> Result<(Backup, bool), Error> {
    let (stored, mut positions) = read_positions(from)?;
    let note = small(from, "checkpoint")?;
    let (origin, list) = (from.origin()?, KeyList::read(from)?);
    let keys = list.0.iter().map(|line| &line.vkey);
    let now = Checkpoint::verify(&note, keys.clone().filter(|vkey| vkey.name() == origin))?;
    let tiles = TileStore::new(from.disk.clone(), &from.dir);
    let before = match to.disk.text_if_there(&to.path("checkpoint"))? {
        None => None,
        Some(note) => Some(continued(to, Checkpoint::verify(&note, keys), &now, &tiles)?),
    };
    // Not before it is known that the folder is for this log.
    beside()?;
    let result = Backup { checkpoint: now, copied: 0, bytes: 0, there: 0, damaged: Vec::new() };
    let mut copier = Copier {
        disk: &from.disk,
        from,
        to,
        tiles,
        progress,
        pending: BTreeSet::new(),
        prunes: BTreeMap::new(),
        result,
    };
    copier.journal(stored, &mut positions)?;
    for name in ["origin", "keys/vkeys", "format"] {
        copier.put(&to.path(name), small(from, name)?.as_bytes())?;
    }
    copier.blocks()?;
    let later = copier.pruned()?;
    copier.tree()?;
    if segments(&to.disk, &to.journal())?.is_empty() {
        // Nothing is in it; a ledger without any segment is not complete.
        to.disk.make_dirs(&to.journal())?;
        make_spare(&to.disk, &to.journal(), journal::SMALLEST)?;
        journal::begin(&to.disk, &to.journal(), 0, 1)?;
    }
    // A file gets its name when its bytes are durable, so that what has a name need not be looked into next time.
    to.disk.sync_file_system(&to.dir)?;
    for path in &copier.pending {
        to.disk.rename(&temporary(path), path)?;
    }
    to.disk.sync_file_system(&to.dir)?;
    let result = copier.result;
    to.disk.write_durably(&to.path("checkpoint"), note.as_bytes())?;
    // Not before: a position beyond the entries would leave lines out.
    to.disk.write_durably(&to.path("positions"), positions_text(result.checkpoint.size, &positions).as_bytes())?;
    if let Some(before) = before {
        remove_partials(to, before.size, result.checkpoint.size)?;
    }
    Ok((result, later))
}

/// A file that every ledger has.
fn small(folder: &Folder, name: &str) -> Result<String, Error> {
    let path = folder.path(name);
    folder.disk.text_if_there(&path)?.ok_or_else(|| Error::damaged(&path, "it is missing"))
}

/// The checkpoint of an earlier backup, if the log goes on from there.
fn continued(
    to: &Folder,
    before: Result<Checkpoint, Error>,
    now: &Checkpoint,
    tiles: &TileStore,
) -> Result<Checkpoint, Error> {
    let not = |detail: String| {
        let detail = format!("{detail}. Take another folder");
        Error::NotABackup { path: to.dir.clone(), detail }
    };
    let before = before.map_err(|error| not(format!("it is not of this log ({error})")))?;
    if before.origin != now.origin {
        return Err(not(format!("it is one of `{}`, this log is `{}`", before.origin, now.origin)));
    }
    if before.size > now.size {
        return Err(not(format!("it has {} entries, this log only {}: it was rolled back", before.size, now.size)));
    }
    let path = consistency(tiles, now.size, before.size, now.size)?;
    if before.size > 0 && !verify_consistency(before.size, &before.root, now.size, &now.root, &path) {
        return Err(not(format!("its {} entries are not the first ones of this log", before.size)));
    }
    Ok(before)
}

struct Copier<'a> {
    disk: &'a Disk,
    from: &'a Folder,
    to: &'a Folder,
    tiles: TileStore,
    progress: &'a mut dyn FnMut(u64),
    /// Files that are written and have no name yet.
    pending: BTreeSet<PathBuf>,
    /// Pruning entries that the journal has, which `pruned` need not list yet.
    prunes: BTreeMap<u64, Prune>,
    result: Backup,
}

/// Payloads by the first entry of their append, salt in front.
type Rows = BTreeMap<u64, Vec<u8>>;

impl Copier<'_> {
    fn size(&self) -> u64 {
        self.result.checkpoint.size
    }

    /// What the backup will hold under this name, as far as it is written.
    fn written(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let path = if self.pending.contains(path) { temporary(path) } else { path.to_owned() };
        self.disk.read_if_there(&path)
    }

    /// Writes a file if it is not there already.
    fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        if self.written(path)?.as_deref() == Some(bytes) {
            self.result.there += 1;
            return Ok(());
        }
        self.disk.write_ahead(path, bytes)?;
        self.pending.insert(path.to_owned());
        self.result.copied += 1;
        self.result.bytes += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
        Ok(())
    }

    /// Whether a file is there already that is never written again where it comes from.
    fn is_there(&mut self, from: &Path, to: &Path) -> Result<bool, Error> {
        let there = self.disk.len(to)?;
        let same = there.is_some() && there == self.disk.len(from)?;
        self.result.there += u64::from(same);
        Ok(same)
    }

    /// Payloads and positions that only the journal has yet.
    fn journal(&mut self, stored: u64, positions: &mut Positions) -> Result<(), Error> {
        let all = segments(self.disk, &self.from.journal())?;
        let start = all.iter().rposition(|segment| segment.first <= stored).unwrap_or(0);
        let mut scan = Scan::default();
        let mut open: BTreeMap<(String, String), OpenBlock> = BTreeMap::new();
        for (i, segment) in all.iter().enumerate().skip(start) {
            // Gone meanwhile: all that it held is in blocks.
            let bytes = match SegmentBytes::read(self.disk, &segment.path) {
                Err(error) if error.is_not_found() => continue,
                read => read?,
            };
            scan.segment(segment, &bytes, all.get(i + 1).map(|next| next.first));
            for group in scan.groups.drain(..) {
                self.group(&group, stored, &mut open, positions)?;
            }
        }
        for ((class, day), block) in open {
            self.block(&class, &day, &block)?;
        }
        Ok(())
    }

    fn group(
        &mut self,
        group: &Group,
        stored: u64,
        open: &mut BTreeMap<(String, String), OpenBlock>,
        positions: &mut Positions,
    ) -> Result<(), Error> {
        let wanted = stored..self.size();
        let leaves = (group.first..).zip(group.leaves()).filter(|(index, _)| *index < self.result.checkpoint.size);
        self.prunes.extend(leaves.filter_map(|(index, leaf)| Some((index, prune_of(leaf)?))));
        for append in group.appends.iter().filter(|append| wanted.contains(&append.first)) {
            if let Some(position) = &append.position {
                positions.insert(position.source.clone(), position.position.clone());
            }
            let (Some((class, salted)), Some(day)) = (group.payload(append), group.leaf(append.first).and_then(day_of))
            else {
                continue;
            };
            // Cut into blocks as the log itself will cut them, so that its block takes the place of this one later.
            let block = open.entry((class.to_owned(), day.to_owned())).or_default();
            if block.is_full_for(salted) {
                let full = std::mem::take(block);
                self.block(class, day, &full)?;
            }
            block.push(append.first, salted);
        }
        Ok(())
    }

    fn block(&mut self, class: &str, day: &str, block: &OpenBlock) -> Result<(), Error> {
        let Some(first) = block.first() else { return Ok(()) };
        let rows = Block::decode(&block.encode()).map_err(|detail| Error::damaged(&self.to.dir, detail))?;
        self.merge(&self.to.path("payload").join(block_path(class, day, first)), &rows)
    }

    /// Blocks on disk.
    fn blocks(&mut self) -> Result<(), Error> {
        let (from, to) = (self.from.path("payload"), self.to.path("payload"));
        for class in self.disk.list(&from)? {
            for day in self.disk.list(&from.join(&class))? {
                for name in self.disk.list(&from.join(&class).join(&day))? {
                    let file: PathBuf = [&class, &day, &name].iter().collect();
                    let (source, target) = (from.join(&file), to.join(&file));
                    let early = block_first(&name).is_some_and(|first| first < self.size());
                    if !early || self.is_there(&source, &target)? {
                        continue;
                    }
                    match Block::decode(&self.disk.read(&source)?) {
                        Ok(block) => self.merge(&target, &block)?,
                        Err(_) => self.result.damaged.push(source),
                    }
                }
            }
        }
        Ok(())
    }

    /// The pruning entries of the backup's tree, read after the blocks: what was pruned until then is listed by now. Gives
    /// whether there are later ones.
    fn pruned(&mut self) -> Result<bool, Error> {
        let (early, late): (PruneList, PruneList) =
            read_list(self.from)?.into_iter().partition(|(by, _)| *by < self.size());
        self.prunes.extend(early);
        let list: PruneList = std::mem::take(&mut self.prunes).into_iter().collect();
        if !list.is_empty() {
            self.put(&self.to.path("pruned"), list_text(&list).as_bytes())?;
        }
        Ok(!late.is_empty())
    }

    /// Adds to a block of the backup what it has not got. Entries from the backup's size on are another day's: after a rollback
    /// they could be others.
    fn merge(&mut self, path: &Path, block: &Block) -> Result<(), Error> {
        let there = self.written(path)?.and_then(|bytes| Block::decode(&bytes).ok());
        let rows_of = |block: &Block| -> Rows {
            block.rows().iter().map(|row| (row.entry, block.salted(row).to_vec())).collect()
        };
        let before = there.as_ref().map(rows_of).unwrap_or_default();
        let mut rows = before.clone();
        rows.extend(rows_of(block).into_iter().filter(|(entry, _)| *entry < self.size()));
        if rows == before {
            self.result.there += 1;
            return Ok(());
        }
        let mut merged = OpenBlock::default();
        for (entry, salted) in &rows {
            merged.push(*entry, salted);
        }
        self.put(path, &merged.encode())
    }

    /// Hash tiles and entry bundles of the tree of this size.
    fn tree(&mut self) -> Result<(), Error> {
        for level in 0u8..8 {
            let hashes = self.size() >> (8 * level);
            for n in 0..hashes / WIDTH {
                self.full(&tile_path(level, n, WIDTH))?;
                if level == 0 {
                    self.full(&bundle_path(n, WIDTH))?;
                }
            }
            let (n, width) = (hashes / WIDTH, hashes % WIDTH);
            if width > 0 {
                let tile = self.tiles.tile(level, n, width)?;
                self.put(&self.to.path(tile_path(level, n, width)), tile.as_flattened())?;
            }
            if width > 0 && level == 0 {
                let mut bundle = Vec::new();
                for entry in self.tiles.bundle(n, width)? {
                    push_entry(&mut bundle, &entry);
                }
                self.put(&self.to.path(bundle_path(n, width)), &bundle)?;
            }
        }
        Ok(())
    }

    fn full(&mut self, path: &Path) -> Result<(), Error> {
        let (from, to) = (self.from.path(path), self.to.path(path));
        if self.is_there(&from, &to)? {
            return Ok(());
        }
        let bytes = self.disk.read(&from)?;
        self.put(&to, &bytes)
    }
}

/// Removes the partial tiles of the backup before.
fn remove_partials(to: &Folder, old: u64, new: u64) -> Result<(), Error> {
    for level in 0u8..8 {
        let (before, after) = (old >> (8 * level), new >> (8 * level));
        if before == after || before % WIDTH == 0 {
            continue;
        }
        let (n, width) = (before / WIDTH, before % WIDTH);
        to.disk.remove(&to.path(tile_path(level, n, width)))?;
        if level == 0 {
            to.disk.remove(&to.path(bundle_path(n, width)))?;
        }
    }
    Ok(())
}
