//! A disk in memory that keeps only what was synced. For tests: ours and those of whoever embeds a ledger.
//!
//! After a power cut each 4 KiB page that was written and not synced is there or not, by chance; of the names that were made,
//! changed or removed in a folder since its last sync, some first part is there. That is what journaling file systems promise,
//! and not more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::durable::{Space, parent};

const PAGE: usize = 4096;

/// What happens at the chosen step. A step is one create, write, sync, rename or remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The step reports an error and has no effect.
    Fails,
    /// The step reports an error, but its effect is there, and durable.
    FailsButPersists,
    /// This step and all later ones fail: the machine has lost power. Go on with [`SimDisk::power_on`].
    PowerCut,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Moved(PathBuf, PathBuf, u64),
    /// A file, or a folder with all in it.
    Removed(PathBuf),
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
    next: u64,
    steps: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    space: Option<Space>,
}

/// The simulated disk. Folders are implied by the files in them.
#[derive(Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("steps", &self.steps()).finish_non_exhaustive()
    }
}

fn not_found() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl State {
    /// Runs a step, or the fault that was set for it. `persist` makes the step's effect durable.
    fn step(
        &mut self,
        apply: impl FnOnce(&mut Self) -> io::Result<()>,
        persist: impl FnOnce(&mut Self),
    ) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        self.steps += 1;
        match self.fault {
            Some((at, fault)) if at == self.steps => match fault {
                Fault::Fails => Err(io::Error::other("this step was made to fail")),
                Fault::FailsButPersists => {
                    apply(self)?;
                    persist(self);
                    Err(io::Error::other("this step was made to fail, but is done"))
                }
                Fault::PowerCut => {
                    self.dead = true;
                    Err(io::Error::other("the power is off"))
                }
            },
            _ => apply(self),
        }
    }

    fn inode(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let id = *self.names.get(path).ok_or_else(not_found)?;
        self.inodes.get_mut(&id).ok_or_else(not_found)
    }

    /// Makes the first `count` changes of a folder durable.
    fn persist(&mut self, dir: &Path, mut count: usize) {
        let mut left: Vec<NameChange> = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            if change.dir() != dir || count == 0 {
                left.push(change);
                continue;
            }
            count -= 1;
            change.apply(&mut self.durable_names);
            if let NameChange::Removed(path) = &change {
                // What happened before in a folder that is gone cannot come back.
                left.retain(|earlier| !earlier.dir().starts_with(path));
            }
        }
        self.pending = left;
    }

    fn persist_names(&mut self, dir: &Path) {
        self.persist(dir, usize::MAX);
    }
}

impl NameChange {
    fn dir(&self) -> &Path {
        match self {
            Self::Set(path, _) | Self::Removed(path) | Self::Moved(_, path, _) => parent(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Removed(path) => names.retain(|name, _| !name.starts_with(path)),
            Self::Moved(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many steps were made since the disk was new.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// The fault that happens at step number `step` (the first step has number 1).
    pub fn set_fault(&self, step: u64, fault: Fault) {
        self.state().fault = Some((step, fault));
    }

    /// Takes back a fault that has not happened.
    pub fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// The power goes now: every step from here on fails. Go on with [`SimDisk::power_on`].
    pub fn cut_power(&self) {
        self.state().dead = true;
    }

    /// What the space guard sees from now on.
    pub fn set_space(&self, space: Space) {
        self.state().space = Some(space);
    }

    /// Whether the fault has been a power cut that happened.
    pub fn is_off(&self) -> bool {
        self.state().dead
    }

    /// Flips bits of a file, durably: what a failing medium does.
    pub fn corrupt(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.state();
        if let Ok(inode) = state.inode(path) {
            inode.live[offset] ^= mask;
            inode.durable = inode.live.clone();
        }
    }

    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What a reader finds in a file now; none if there is no such file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.read(path).ok()
    }

    /// The power comes back. What was synced is there; `chance(n)` gives a number below n and decides about the rest.
    pub fn power_on(&self, mut chance: impl FnMut(u64) -> u64) {
        let mut state = self.state();
        state.dead = false;
        state.fault = None;
        let dirs: BTreeSet<PathBuf> = state.pending.iter().map(|change| change.dir().to_owned()).collect();
        for dir in dirs {
            let changes = state.pending.iter().filter(|change| change.dir() == dir).count() as u64;
            let kept = chance(changes + 1);
            state.persist(&dir, usize::try_from(kept).unwrap_or(usize::MAX));
        }
        state.pending.clear();
        state.names = state.durable_names.clone();
        let used: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| used.contains(id));
        for inode in state.inodes.values_mut() {
            if inode.live == inode.durable {
                continue;
            }
            // A file that grew may have kept its new length with nothing in the new pages.
            let len = if chance(2) == 0 { inode.durable.len() } else { inode.live.len() };
            let mut after = inode.durable.clone();
            after.resize(len, 0);
            for (page, bytes) in after.chunks_mut(PAGE).enumerate() {
                let from = page * PAGE;
                if chance(2) == 1 && inode.live.len() >= from + bytes.len() {
                    bytes.copy_from_slice(&inode.live[from..from + bytes.len()]);
                }
            }
            inode.live.clone_from(&after);
            inode.durable = after;
        }
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.state().inode(path)?.live.clone())
    }

    pub(crate) fn list(&self, dir: &Path) -> Vec<String> {
        let state = self.state();
        let names: BTreeSet<String> = state
            .names
            .keys()
            .filter_map(|path| path.strip_prefix(dir).ok()?.components().next())
            .map(|name| name.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.into_iter().collect()
    }

    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        self.state().names.keys().any(|name| name != path && name.starts_with(path))
    }

    pub(crate) fn create(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        self.state().step(
            |state| {
                let id = state.next;
                state.next += 1;
                state.inodes.insert(id, Inode { live: bytes, durable: Vec::new() });
                state.names.insert(path.to_owned(), id);
                state.pending.push(NameChange::Set(path.to_owned(), id));
                Ok(())
            },
            |state| state.persist_names(parent(path)),
        )
    }

    pub(crate) fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        self.state().step(
            |state| {
                let inode = state.inode(path)?;
                let to = from + bytes.len();
                if inode.live.len() < to {
                    inode.live.resize(to, 0);
                }
                inode.live[from..to].copy_from_slice(bytes);
                Ok(())
            },
            |state| {
                if let Ok(inode) = state.inode(path) {
                    inode.durable = inode.live.clone();
                }
            },
        )
    }

    pub(crate) fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.state().step(
            |state| {
                let inode = state.inode(path)?;
                inode.durable = inode.live.clone();
                Ok(())
            },
            |_| {},
        )
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.state().step(
            |state| {
                state.persist_names(dir);
                Ok(())
            },
            |_| {},
        )
    }

    pub(crate) fn sync_everything(&self) -> io::Result<()> {
        self.state().step(
            |state| {
                for inode in state.inodes.values_mut() {
                    inode.durable = inode.live.clone();
                }
                state.durable_names = state.names.clone();
                state.pending.clear();
                Ok(())
            },
            |_| {},
        )
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().step(
            |state| {
                let id = state.names.remove(from).ok_or_else(not_found)?;
                state.names.insert(to.to_owned(), id);
                state.pending.push(NameChange::Moved(from.to_owned(), to.to_owned(), id));
                Ok(())
            },
            |state| state.persist_names(parent(to)),
        )
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().step(
            |state| {
                if !state.names.keys().any(|name| name.starts_with(path)) {
                    return Err(not_found());
                }
                let change = NameChange::Removed(path.to_owned());
                change.apply(&mut state.names);
                state.pending.push(change);
                Ok(())
            },
            |state| state.persist_names(parent(path)),
        )
    }

    pub(crate) fn space(&self) -> Space {
        self.state().space.unwrap_or(Space { free: 1 << 40, total: 1 << 40 })
    }
}
