//! A disk in memory that keeps only what was synced. For tests: ours and those of whoever embeds a ledger.
//!
//! What a power cut leaves, by the chance that [`SimDisk::power_on`] is given:
//! - **Bytes.** Each sector of 512 bytes holds what was synced last, or what any of the writes since has made of it; every sector
//!   for itself, so a later one can be there without an earlier one, and half a page without the other half.
//! - **Growth.** A file that grew has its old length, its new one, or any between; sectors of it that did not reach the disk
//!   are zero (old bytes of other files do not show up: journaling file systems promise that).
//! - **Names.** Of the names that were made, moved or removed in a folder since its last sync, some first part is there; each
//!   folder for itself. File systems journal such changes in one order over all folders, so this is weaker than what they promise.
//!   A rename is there or not, never half. A synced file whose name was not synced is lost.
//! - **Folders** themselves stay: `durable` syncs their parents when it makes them.
//!
//! Besides, steps can fail: one of them, or all of a kind for some time (a full disk, one that is read-only, one that is broken).

mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::durable::{Space, parent};
use inode::Inode;

/// What goes wrong at the chosen step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The step reports an error and has no effect.
    Fails,
    /// The step reports an error, but its effect is there, and durable.
    FailsButPersists,
    /// This step and all later ones fail: the machine has lost power. Go on with [`SimDisk::power_on`].
    PowerCut,
    /// From this step on, for so many steps, the disk is full (ENOSPC): half of the bytes of a create or write are there, then
    /// it fails; a rename fails. Bytes written into a file that has room for them need none on most file systems, and some on
    /// those that never write in place: `in_place` says whether they still work.
    Full {
        /// How many steps.
        steps: u64,
        /// Whether writes inside of a file's length work.
        in_place: bool,
    },
    /// From this step on, for so many steps, the file system is read-only (EROFS): everything fails but syncs.
    ReadOnly {
        /// How many steps.
        steps: u64,
    },
    /// From this step on, for so many steps, everything fails with EIO, syncs too.
    Broken {
        /// How many steps.
        steps: u64,
    },
}

/// The operations of a disk that are steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A new file with bytes in it.
    Create,
    /// Bytes into a file that is there.
    Write,
    /// fsync of a file.
    SyncFile,
    /// fsync of a folder.
    SyncFolder,
    /// syncfs: everything on the file system.
    SyncEverything,
    /// A rename; the path is the new name.
    Rename,
    /// Removal of a file or folder.
    Remove,
}

/// One step that was made, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub operation: Operation,
    /// To which file or folder.
    pub path: PathBuf,
    /// It met the fault.
    pub failed: bool,
}

/// How a step ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// It is done and durable, and an error is reported.
    Persists,
    /// Half of its bytes are written, and an error is reported.
    Short,
}

impl Fate {
    /// As much of the bytes as is written.
    fn part(self, bytes: &[u8]) -> &[u8] {
        if self == Self::Short { &bytes[..bytes.len() / 2] } else { bytes }
    }

    fn report(self) -> io::Result<()> {
        match self {
            Self::Works => Ok(()),
            Self::Persists => Err(io::Error::other("this step was made to fail, but is done")),
            Self::Short => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Moved(PathBuf, PathBuf, u64),
    /// A file, or a folder with all in it.
    Removed(PathBuf),
}

/// Says yes to the step that a test chooses.
type Chosen = Box<dyn FnMut(Operation, &Path) -> bool + Send>;

/// When a fault happens, or begins.
enum Trigger {
    /// At the step of this number.
    At(u64),
    /// At the first step that the test chooses.
    When(Chosen),
}

#[derive(Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
    next: u64,
    steps: Vec<Step>,
    fault: Option<(Trigger, Fault)>,
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
    /// Notes a step and says how it ends; an error if nothing of it happens.
    fn step(&mut self, operation: Operation, path: &Path) -> io::Result<Fate> {
        if self.dead {
            return Err(io::Error::other("the power is off"));
        }
        self.steps.push(Step { operation, path: path.to_owned(), failed: false });
        let end = self.fate(operation, path);
        if !matches!(end, Ok(Fate::Works)) {
            self.steps.last_mut().expect("just pushed").failed = true;
        }
        end
    }

    fn fate(&mut self, operation: Operation, path: &Path) -> io::Result<Fate> {
        use Operation::{Create, Rename, SyncEverything, SyncFile, SyncFolder, Write};
        let now = self.steps.len() as u64;
        let Some((trigger, fault)) = &mut self.fault else { return Ok(Fate::Works) };
        if let Trigger::When(chosen) = trigger
            && chosen(operation, path)
        {
            *trigger = Trigger::At(now);
        }
        let Trigger::At(at) = trigger else { return Ok(Fate::Works) };
        let Some(since) = now.checked_sub(*at) else { return Ok(Fate::Works) };
        match *fault {
            Fault::Fails if since == 0 => Err(io::Error::other("this step was made to fail")),
            Fault::FailsButPersists if since == 0 => Ok(Fate::Persists),
            Fault::PowerCut if since == 0 => {
                self.dead = true;
                Err(io::Error::other("the power is off"))
            }
            Fault::Full { steps, in_place } if since < steps => match operation {
                Create => Ok(Fate::Short),
                Write if !in_place => Ok(Fate::Short),
                Rename => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(Fate::Works),
            },
            Fault::ReadOnly { steps }
                if since < steps && !matches!(operation, SyncFile | SyncFolder | SyncEverything) =>
            {
                Err(io::ErrorKind::ReadOnlyFilesystem.into())
            }
            Fault::Broken { steps } if since < steps => Err(rustix::io::Errno::IO.into()),
            _ => Ok(Fate::Works),
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

    /// Notes a change of names that was made.
    fn change(&mut self, change: NameChange, fate: Fate) -> io::Result<()> {
        let dir = change.dir().to_owned();
        self.pending.push(change);
        if fate == Fate::Persists {
            self.persist_names(&dir);
        }
        fate.report()
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
    /// A disk that holds these files, durably.
    pub fn of(files: BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut state = State::default();
        for (path, bytes) in files {
            let id = state.next;
            state.next += 1;
            state.inodes.insert(id, Inode::of(bytes));
            state.names.insert(path, id);
        }
        state.durable_names.clone_from(&state.names);
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many steps were made since the disk was new.
    pub fn steps(&self) -> u64 {
        self.state().steps.len() as u64
    }

    /// All steps since the disk was new.
    pub fn history(&self) -> Vec<Step> {
        self.state().steps.clone()
    }

    /// The fault that happens at, or begins with, step number `step` (the first step has number 1).
    pub fn set_fault(&self, step: u64, fault: Fault) {
        self.state().fault = Some((Trigger::At(step), fault));
    }

    /// The fault that happens at, or begins with, the first step that `chosen` says yes to. It must not ask the disk.
    pub fn set_fault_when(&self, fault: Fault, chosen: impl FnMut(Operation, &Path) -> bool + Send + 'static) {
        self.state().fault = Some((Trigger::When(Box::new(chosen)), fault));
    }

    /// Takes back a fault that has not happened, or ends one that lasts.
    pub fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// The power goes now: every step from here on fails. Go on with [`SimDisk::power_on`].
    pub fn cut_power(&self) {
        self.state().dead = true;
    }

    /// Whether a fault that lasts has begun and is not over.
    pub fn is_in_trouble(&self) -> bool {
        let state = self.state();
        let Some((Trigger::At(at), Fault::Full { steps, .. } | Fault::ReadOnly { steps } | Fault::Broken { steps })) =
            &state.fault
        else {
            return false;
        };
        (*at..at + steps).contains(&(state.steps.len() as u64 + 1))
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
            inode.sync();
        }
    }

    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// All files and what is in them now.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(path, id)| (path.clone(), state.inodes[id].live.clone())).collect()
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
            inode.survive(&mut chance);
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

    pub(crate) fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.step(Operation::Create, path)?;
        let mut inode = Inode::default();
        inode.write(0, fate.part(bytes));
        if fate == Fate::Persists {
            inode.sync();
        }
        let id = state.next;
        state.next += 1;
        state.inodes.insert(id, inode);
        state.names.insert(path.to_owned(), id);
        state.change(NameChange::Set(path.to_owned(), id), fate)
    }

    pub(crate) fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.state();
        let fate = state.step(Operation::Write, path)?;
        let inode = state.inode(path)?;
        inode.write(from, fate.part(bytes));
        if fate == Fate::Persists {
            inode.sync();
        }
        fate.report()
    }

    pub(crate) fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.step(Operation::SyncFile, path)?;
        state.inode(path)?.sync();
        fate.report()
    }

    pub(crate) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.step(Operation::SyncFolder, dir)?;
        state.persist_names(dir);
        fate.report()
    }

    pub(crate) fn sync_everything(&self) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.step(Operation::SyncEverything, Path::new("/"))?;
        state.inodes.values_mut().for_each(Inode::sync);
        state.durable_names = state.names.clone();
        state.pending.clear();
        fate.report()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fate = state.step(Operation::Rename, to)?;
        let id = state.names.remove(from).ok_or_else(not_found)?;
        state.names.insert(to.to_owned(), id);
        state.change(NameChange::Moved(from.to_owned(), to.to_owned(), id), fate)
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        // A folder whose files were removed is still there until it is removed itself.
        let holds = |names: &BTreeMap<PathBuf, u64>| names.keys().any(|name| name.starts_with(path));
        if !holds(&state.names) && !holds(&state.durable_names) {
            return Err(not_found());
        }
        let fate = state.step(Operation::Remove, path)?;
        let change = NameChange::Removed(path.to_owned());
        change.apply(&mut state.names);
        state.change(change, fate)
    }

    pub(crate) fn space(&self) -> Space {
        self.state().space.unwrap_or(Space { free: 1 << 40, total: 1 << 40 })
    }
}
