//! Sealing: committed leaves become entry bundles, hash tiles and a signed checkpoint, all of it off the path of an
//! acknowledgement (docs/formats/tiles.md, folder.md).
//!
//! Order is everything here. Files of the tree are written, then `head` durably, then the checkpoint is published: a
//! checkpoint that somebody has seen is always in `head`. Syncing of the tree's files comes later, in batches; until then the
//! journal holds what would be needed to write them again.

use crate::blocks::Blocks;
use crate::config::Limits;
use crate::error::Error;
use crate::group::Group;
use crate::head::{Folder, Head, Positions, Signer, positions_text};
use crate::journal::segments;
use crate::leaf::day_of;
use crate::merkle::{Hash, Tree, leaf_hash};
use crate::note::Checkpoint;
use crate::prune::{PruneList, list_text, prune_of, read_list};
use crate::tiles::{TileStore, WIDTH, bundle_path, push_entry, tile_path};
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The tree's writer.
pub(crate) struct Sealer {
    folder: Folder,
    signer: Signer,
    tree: Tree,
    /// Bytes of the entry bundle that is not full.
    bundle: Vec<u8>,
    head: Head,
    head_text: Option<String>,
    blocks: Arc<Blocks>,
    positions: Positions,
    /// The file `pruned` does not list the pruning entries that were taken in.
    unlisted: bool,
    /// Files that are complete and not written yet. A full disk leaves them here.
    unwritten: VecDeque<(PathBuf, Vec<u8>)>,
    unsynced: Unsynced,
    /// Bytes of the journal since payloads were stored last.
    journal_bytes: u64,
    last_sync: Instant,
    last_store: Instant,
    limits: Limits,
    /// At first the tree is built once more over files that may be the only durable copy. Those that are right are not written
    /// again: until the next sync that could only lose them.
    again: bool,
}

#[derive(Default)]
struct Unsynced {
    files: BTreeSet<PathBuf>,
    /// The partial files of the latest checkpoint.
    partials: Vec<PathBuf>,
    /// Folders of partial files whose full file is among `files`.
    superseded: Vec<PathBuf>,
    bytes: u64,
}

impl Sealer {
    /// Goes on from what `head` says is synced. With `head_text` none, `head` is about to be created.
    pub(crate) fn load(
        folder: &Folder,
        signer: Signer,
        head: Head,
        head_text: Option<String>,
        blocks: Arc<Blocks>,
        positions: Positions,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let tiles = TileStore::new(folder.disk.clone(), &folder.dir);
        let tree = tiles.edge(head.synced)?;
        let mut bundle = Vec::new();
        if !head.synced.is_multiple_of(WIDTH) {
            for leaf in tiles.bundle(head.synced / WIDTH, head.synced % WIDTH)? {
                push_entry(&mut bundle, &leaf);
            }
        }
        // Where nothing is synced, all entries come (again), whatever an earlier list says.
        let listed = if head.synced == 0 { PruneList::new() } else { read_list(folder)? };
        let prunes: PruneList = listed.iter().filter(|(by, _)| *by < head.synced).cloned().collect();
        // Entries that are not synced can be lost; a list that names them must not stay.
        let unlisted =
            prunes.len() < listed.len() || head.synced == 0 && folder.disk.len(&folder.path("pruned"))?.is_some();
        blocks.set_prunes(prunes);
        let now = Instant::now();
        Ok(Self {
            folder: folder.clone(),
            signer,
            tree,
            bundle,
            head,
            head_text,
            blocks,
            positions,
            unlisted,
            unwritten: VecDeque::new(),
            unsynced: Unsynced::default(),
            journal_bytes: 0,
            last_sync: now,
            last_store: now,
            limits: limits.clone(),
            again: true,
        })
    }

    /// Number of leaves in the tree, sealed or not.
    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Takes a group in. Only memory is touched, so it cannot fail half way.
    pub(crate) fn ingest(&mut self, group: &Group) {
        for (index, leaf) in (group.first..).zip(group.leaves()) {
            if index == self.tree.size() {
                self.note_prune(index, leaf);
                self.push_leaf(leaf);
            }
        }
        for append in &group.appends {
            if append.first < self.head.stored {
                continue;
            }
            if let (Some((class, salted)), Some(day)) =
                (group.payload(append), group.leaf(append.first).and_then(day_of))
            {
                self.blocks.push(class, day, append.first, salted);
            }
            if let Some(position) = &append.position {
                self.positions.insert(position.source.clone(), position.position.clone());
            }
        }
        self.journal_bytes += group.bytes().len() as u64;
    }

    fn note_prune(&mut self, index: u64, leaf: &[u8]) {
        if let Some(prune) = prune_of(leaf) {
            self.blocks.add_prune(index, prune);
            self.unlisted = true;
        }
    }

    fn push_leaf(&mut self, leaf: &[u8]) {
        push_entry(&mut self.bundle, leaf);
        self.unsynced.bytes += leaf.len() as u64;
        let size = self.tree.size() + 1;
        if size.is_multiple_of(WIDTH) {
            // The next one will be about as long.
            let next = Vec::with_capacity(self.bundle.len());
            let bundle = std::mem::replace(&mut self.bundle, next);
            self.unwritten.push_back((bundle_path(size / WIDTH - 1, WIDTH), bundle));
        }
        let unwritten = &mut self.unwritten;
        self.tree.push_with(leaf_hash(leaf), |(level, n, hashes)| {
            unwritten.push_back((tile_path(level, n, WIDTH), hashes.concat()));
        });
    }

    /// Writes what is complete.
    pub(crate) fn write_complete(&mut self) -> Result<(), Error> {
        while let Some((path, bytes)) = self.unwritten.front() {
            let path = self.folder.path(path);
            self.put(&path, bytes)?;
            let mut partials = path.clone().into_os_string();
            partials.push(".p");
            self.unsynced.superseded.push(PathBuf::from(partials));
            self.unsynced.files.insert(path);
            self.unwritten.pop_front();
        }
        let files = &mut self.unsynced.files;
        self.blocks.write_closed(&self.folder.disk, &self.folder.path("payload"), &mut |path| {
            files.insert(path);
        })
    }

    /// Signs with these keys from the next checkpoint on.
    pub(crate) fn sign_with(&mut self, signer: Signer) {
        self.signer = signer;
    }

    /// From now on everything is new.
    pub(crate) fn caught_up(&mut self) {
        self.again = false;
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        if self.again && self.folder.disk.read_if_there(path)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        self.folder.disk.write(path, bytes)
    }

    /// Signs a checkpoint of all leaves that were taken in.
    pub(crate) fn seal(&mut self) -> Result<(), Error> {
        self.write_complete()?;
        let mut partials = Vec::new();
        let (size, synced) = (self.tree.size(), self.head.synced);
        for (level, hashes) in self.tree.edge().filter(|(_, hashes)| !hashes.is_empty()) {
            let count = size >> (8 * u32::from(level));
            // A file that is durable is not written again: until the next sync that could only lose it.
            if count != synced >> (8 * u32::from(level)) {
                let path = self.folder.path(tile_path(level, count / WIDTH, count % WIDTH));
                self.put(&path, hashes.as_flattened())?;
                partials.push(path);
            }
        }
        if !self.bundle.is_empty() && size != synced {
            let path = self.folder.path(bundle_path(size / WIDTH, size % WIDTH));
            self.put(&path, &self.bundle)?;
            partials.push(path);
        }
        self.unsynced.partials = partials;
        let root = self.tree.root();
        if size < self.head.checkpoint.size || (size == self.head.checkpoint.size && root != self.head.checkpoint.root)
        {
            // Invariant 2 of ARCHITECTURE.md: rather stop than sign what contradicts an earlier signature.
            return Err(Error::Inconsistent { path: self.folder.head.clone(), sealed: self.head.checkpoint.size });
        }
        self.sign(size, root)
    }

    fn sign(&mut self, size: u64, root: Hash) -> Result<(), Error> {
        let checkpoint = Checkpoint { origin: self.signer.origin.clone(), size, root };
        let note = self.signer.sign(&checkpoint);
        self.replace_head(Head { checkpoint, note, ..self.head.clone() })?;
        self.folder.disk.write(&self.folder.path("checkpoint"), self.head.note.as_bytes())
    }

    fn replace_head(&mut self, head: Head) -> Result<(), Error> {
        self.head_text = Some(head.replace(&self.folder, self.head_text.as_deref())?);
        self.head = head;
        Ok(())
    }

    /// Whether it is time to sync, and whether payloads should be stored with it.
    pub(crate) fn due(&self) -> Option<Store> {
        let millis = |since: Instant| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let store = self.head.stored < self.tree.size()
            && (self.journal_bytes >= self.limits.sync_bytes || millis(self.last_store) >= self.limits.store_every_ms);
        let tiles = self.head.synced < self.tree.size()
            && (self.unsynced.bytes >= self.limits.sync_bytes || millis(self.last_sync) >= self.limits.sync_every_ms);
        match (store, tiles) {
            (true, _) => Some(Store::All),
            (false, true) => Some(Store::Tiles),
            (false, false) => None,
        }
    }

    /// How long until [`Sealer::due`] can change by time alone.
    pub(crate) fn due_in(&self) -> Duration {
        if self.head.stored == self.tree.size() {
            return Duration::from_hours(1);
        }
        let tiles = Duration::from_millis(self.limits.sync_every_ms).saturating_sub(self.last_sync.elapsed());
        let store = Duration::from_millis(self.limits.store_every_ms).saturating_sub(self.last_store.elapsed());
        if self.head.synced == self.tree.size() { store } else { tiles.min(store) }
    }

    /// Seals, makes the tree's files durable and says so in `head`. With [`Store::All`] also payloads and positions, after
    /// which journal segments can go.
    pub(crate) fn sync(&mut self, store: Store) -> Result<(), Error> {
        if store == Store::All {
            self.blocks.close_all();
        }
        self.seal()?;
        let disk = &self.folder.disk;
        let mut folders = BTreeSet::new();
        for path in self.unsynced.files.iter().chain(&self.unsynced.partials) {
            disk.sync_file(path)?;
            folders.extend(path.parent());
        }
        // Older partial files go before `head` moves on and for good: they were not synced, so after a power cut they could come
        // back with anything in them, where recovery does not look any more.
        for partials in &self.unsynced.superseded {
            disk.remove(partials)?;
            folders.extend(partials.parent());
        }
        for folder in folders {
            disk.sync_dir(folder)?;
        }
        if self.unlisted {
            // Before `head` moves: whoever prunes waits for it.
            disk.write_durably(&self.folder.path("pruned"), list_text(&self.blocks.prunes()).as_bytes())?;
        }
        let size = self.head.checkpoint.size;
        let mut head = Head { synced: size, ..self.head.clone() };
        if store == Store::All {
            disk.write_durably(&self.folder.path("positions"), positions_text(size, &self.positions).as_bytes())?;
            head.stored = size;
        }
        self.replace_head(head)?;
        self.unlisted = false;
        self.unsynced = Unsynced::default();
        self.last_sync = Instant::now();
        if store == Store::All {
            self.journal_bytes = 0;
            self.last_store = self.last_sync;
            self.remove_segments(&self.folder.journal())?;
        }
        Ok(())
    }

    /// Removes partial files of checkpoints between the synced and the present one. They were never synced, so after a power cut
    /// they can hold anything, and nobody would write them again.
    pub(crate) fn remove_stale_partials(&self) -> Result<(), Error> {
        let (old, new) = (self.head.synced, self.tree.size());
        for level in 0u8..8 {
            let (from, to) = (old >> (8 * level), new >> (8 * level));
            for n in from / WIDTH..=to / WIDTH {
                let needed = [(from / WIDTH, from % WIDTH), (to / WIDTH, to % WIDTH)];
                self.remove_partials(&tile_path(level, n, 1), n, needed)?;
                if level == 0 {
                    self.remove_partials(&bundle_path(n, 1), n, needed)?;
                }
            }
        }
        Ok(())
    }

    fn remove_partials(&self, example: &Path, n: u64, needed: [(u64, u64); 2]) -> Result<(), Error> {
        let dir = self.folder.path(example.parent().unwrap_or(example));
        for name in self.folder.disk.list(&dir)? {
            if !name.parse().is_ok_and(|width| needed.contains(&(n, width))) {
                self.folder.disk.remove(&dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes segments whose entries are all stored elsewhere. The last one is in use and stays.
    pub(crate) fn remove_segments(&self, dir: &Path) -> Result<(), Error> {
        for pair in segments(&self.folder.disk, dir)?.windows(2) {
            if pair[1].first <= self.head.stored {
                self.folder.disk.remove(&pair[0].path)?;
            }
        }
        Ok(())
    }
}

/// What a sync makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Tiles and entry bundles.
    Tiles,
    /// Also payloads and positions.
    All,
}
