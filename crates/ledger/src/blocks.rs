//! Payload blocks that are being filled, and those on disk.

use crate::durable::Disk;
use crate::error::Error;
use crate::group::Group;
use crate::head::Folder;
use crate::leaf::day_of;
use crate::payload::{Block, OpenBlock, block_first, block_path};
use crate::prune::{Prune, PruneList, covering};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Class and UTC day.
type Key = (String, String);

#[derive(Default)]
struct State {
    open: BTreeMap<Key, OpenBlock>,
    /// Closed and not yet written.
    closed: VecDeque<(Key, Arc<OpenBlock>)>,
}

/// All payloads that are not in a block's file yet, and the entries that say which were pruned. The sealer fills it, readers
/// look into it.
#[derive(Default)]
pub(crate) struct Blocks {
    state: Mutex<State>,
    prunes: Mutex<PruneList>,
}

impl Blocks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pruning entries that the sealer has taken in, in order, sealed or not.
    pub(crate) fn prunes(&self) -> PruneList {
        self.prunes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The entry in a checkpoint of so many entries that says that this payload was pruned.
    pub(crate) fn pruned_by(&self, sealed: u64, class: &str, day: &str, append: u64) -> Option<u64> {
        covering(&self.prunes.lock().unwrap_or_else(PoisonError::into_inner), sealed, class, day, append)
    }

    pub(crate) fn set_prunes(&self, list: PruneList) {
        *self.prunes.lock().unwrap_or_else(PoisonError::into_inner) = list;
    }

    pub(crate) fn add_prune(&self, by: u64, prune: Prune) {
        self.prunes.lock().unwrap_or_else(PoisonError::into_inner).push((by, prune));
    }

    pub(crate) fn push(&self, class: &str, day: &str, entry: u64, salted: &[u8]) {
        let mut state = self.state();
        let key = (class.to_owned(), day.to_owned());
        let block = state.open.entry(key.clone()).or_default();
        if block.is_full_for(salted) {
            let full = std::mem::replace(block, OpenBlock::with_room());
            block.push(entry, salted);
            state.closed.push_back((key, Arc::new(full)));
        } else {
            block.push(entry, salted);
        }
    }

    /// Closes all blocks, full or not.
    pub(crate) fn close_all(&self) {
        let mut state = self.state();
        let open = std::mem::take(&mut state.open);
        state.closed.extend(open.into_iter().map(|(key, block)| (key, Arc::new(block))));
    }

    /// Writes closed blocks below `dir` (the folder `payload`), not yet durably, and returns where. Blocks that could not be
    /// written stay; calling again goes on.
    pub(crate) fn write_closed(&self, disk: &Disk, dir: &Path, written: &mut impl FnMut(PathBuf)) -> Result<(), Error> {
        loop {
            // The lock is not held while packing: readers go on.
            let Some(((class, day), block)) = self.state().closed.front().cloned() else { return Ok(()) };
            if let Some(first) = block.first() {
                let path = dir.join(block_path(&class, &day, first));
                disk.write(&path, &block.encode())?;
                written(path);
            }
            self.state().closed.pop_front();
        }
    }

    pub(crate) fn find(&self, class: &str, day: &str, entry: u64) -> Option<Vec<u8>> {
        let state = self.state();
        let key = (class.to_owned(), day.to_owned());
        let open = state.open.get(&key).and_then(|block| block.find(entry));
        let closed = || state.closed.iter().filter(|(at, _)| *at == key).find_map(|(_, block)| block.find(entry));
        open.or_else(closed).map(<[u8]>::to_vec)
    }
}

/// Removes block files that a crash left torn: of the payloads in these groups, which the journal still has, some may have been
/// written before and not synced. They are written again, but a block can begin at another entry then, and the torn file would
/// stand in the way of a reader. With `aside` (the journal is damaged, so it may not have them all) a copy stays for people.
pub(crate) fn remove_torn<'a>(
    folder: &Folder,
    aside: bool,
    groups: impl Iterator<Item = &'a Group> + Clone,
) -> Result<(), Error> {
    let (disk, dir) = (&folder.disk, &folder.path("payload"));
    let payloads = groups.flat_map(|group| {
        group.appends.iter().filter_map(|append| {
            let (class, _) = group.payload(append)?;
            Some((class, day_of(group.leaf(append.first)?)?, append.first))
        })
    });
    let mut folders = BTreeMap::new();
    for (class, day, first) in payloads {
        folders.entry((class, day)).or_insert(first);
    }
    for ((class, day), from) in folders {
        for first in disk.list(&dir.join(class).join(day))?.iter().filter_map(|name| block_first(name)) {
            let path = dir.join(block_path(class, day, first));
            if first < from {
                continue;
            }
            let bytes = disk.read(&path)?;
            if Block::decode(&bytes).is_err() {
                if aside {
                    set_aside(folder, &format!("{class}-{day}-{first:020}.blk"), &bytes)?;
                }
                disk.remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Writes bytes to `quarantine/` for people, under this name or, if other bytes have it, one with a number behind it.
pub(crate) fn set_aside(folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let dir = folder.path("quarantine");
    let mut path = dir.join(name);
    for n in 1u64.. {
        match folder.disk.read_if_there(&path)? {
            None => break,
            Some(there) if there == bytes => return Ok(()),
            Some(_) => path = dir.join(format!("{name}.{n}")),
        }
    }
    folder.disk.write_durably(&path, bytes)
}

/// Blocks of one folder that can hold the same payload: after recovery from damage their bounds can differ from those before.
pub(crate) const OVERLAP: usize = 16;

/// The payload from the blocks on disk; none if no block has it.
pub(crate) fn find_on_disk(
    disk: &Disk,
    dir: &Path,
    class: &str,
    day: &str,
    entry: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let folder: PathBuf = dir.join(class).join(day);
    let names = disk.list(&folder)?;
    let candidates = names.iter().rev().filter_map(|name| block_first(name)).filter(|first| *first <= entry);
    for first in candidates.take(OVERLAP) {
        let path = dir.join(block_path(class, day, first));
        // A file that vanishes was pruned.
        let Some(bytes) = disk.read_if_there(&path)? else { continue };
        let block = Block::decode(&bytes).map_err(|detail| Error::damaged(&path, detail))?;
        if let Some(payload) = block.find(entry) {
            return Ok(Some(payload.to_vec()));
        }
    }
    Ok(None)
}
