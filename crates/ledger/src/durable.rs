//! The only place that writes to a disk. Every durable step is one of these few operations, so that power cuts and failing
//! fsyncs can be played: [`Disk::Simulated`] has the same operations and forgets what was not synced.
//!
//! Rules: a file appears under its name complete (temporary name, then rename). Written is not durable: a file is durable
//! after [`Disk::sync_file`], its name after [`Disk::sync_dir`] of its folder. A failed sync is never tried again by anybody,
//! because the kernel may have dropped the pages and would then report success.

#![expect(clippy::disallowed_methods, reason = "this is the place where durable writes are made")]

use crate::error::Error;
use crate::simulated::SimDisk;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a ledger's files are.
#[derive(Debug, Clone, Default)]
pub enum Disk {
    /// The operating system's file system.
    #[default]
    Real,
    /// In memory, with power cuts and failing steps.
    Simulated(Arc<SimDisk>),
}

/// Writes zeros from one page to `end`: past the page cache where the file system can. Nobody will read them, and a copy of each
/// costs as much processor time as all else that a journal does.
fn write_zeros(file: &File, path: &Path, mut at: u64, end: u64) -> io::Result<()> {
    /// Aligned, as a device wants it that reads them where they are.
    #[repr(align(4096))]
    struct Zeros([u8; 1 << 20]);
    static ZEROS: Zeros = Zeros([0; 1 << 20]);
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or_default();
    let direct = OpenOptions::new().write(true).custom_flags(flags).open(path).ok();
    while at < end {
        let n = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROS.0.len());
        let zeros = &ZEROS.0[..n];
        // What is refused this way, such as a part of a page, is asked for the usual way, whose answer counts.
        if direct.as_ref().is_none_or(|direct| direct.write_all_at(zeros, at).is_err()) {
            file.write_all_at(zeros, at)?;
        }
        at += n as u64;
    }
    Ok(())
}

/// An exclusive lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Option<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a child process that another thread is just starting has a copy of the descriptor until it
        // runs its program, and with it the lock. If this fails, closing is what is left.
        let _ = self.file.as_ref().map(File::unlock);
    }
}

/// Free and total bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an unprivileged process can still write.
    pub free: u64,
    /// Size of the file system.
    pub total: u64,
}

/// A journal segment, open for writing.
#[derive(Debug)]
pub(crate) enum SegmentFile {
    Real(File, PathBuf),
    Simulated(Arc<SimDisk>, PathBuf),
}

impl SegmentFile {
    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Real(file, path) => file.write_all_at(bytes, offset).map_err(Error::io("write", path)),
            Self::Simulated(sim, path) => sim.write_at(path, offset, bytes).map_err(Error::io("write", path)),
        }
    }

    /// fdatasync. The length of the file never changes, so its data are all there is to sync.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        match self {
            Self::Real(file, path) => file.sync_data().map_err(Disk::sync_failed(path)),
            Self::Simulated(sim, path) => sim.sync_file(path).map_err(Disk::sync_failed(path)),
        }
    }

    /// The file was renamed while it is open.
    pub(crate) fn is_now(&mut self, name: &Path) {
        let (Self::Real(_, path) | Self::Simulated(_, path)) = self;
        name.clone_into(path);
    }
}

/// `x` becomes `x.tmp`.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether there is nothing but zeros. Asks about a page at once: one byte after the other would be much slower.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page.iter().fold(0, |all, byte| all | byte) == 0)
}

impl Disk {
    /// The whole file.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.read_into(path, &mut bytes)?;
        Ok(bytes)
    }

    /// The whole file, in place of what the buffer had. Who reads many files saves the system from clearing memory for each.
    pub(crate) fn read_into(&self, path: &Path, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.clear();
        match self {
            Self::Real => File::open(path).and_then(|mut file| file.read_to_end(bytes)).map(drop),
            Self::Simulated(sim) => sim.read(path).map(|read| *bytes = read),
        }
        .map_err(Error::io("read", path))
    }

    /// The whole file piece by piece, for one that is too long to be held.
    pub(crate) fn read_pieces(&self, path: &Path, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        const PIECE: usize = 256 << 10;
        let mut read = || match self {
            Self::Real => {
                let (mut file, mut piece) = (File::open(path)?, vec![0; PIECE]);
                loop {
                    match file.read(&mut piece) {
                        Ok(0) => return Ok(()),
                        Ok(len) => each(&piece[..len]),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Self::Simulated(sim) => sim.read(path).map(|bytes| each(&bytes)),
        };
        read().map_err(Error::io("read", path))
    }

    /// Length of the file, and its first `count` bytes, or all if it is shorter.
    pub(crate) fn read_start(&self, path: &Path, count: usize) -> Result<(u64, Vec<u8>), Error> {
        self.read_part(path, count, |_| 0)
    }

    /// Length of the file, and its last `count` bytes, or all if it is shorter.
    pub(crate) fn read_end(&self, path: &Path, count: usize) -> Result<(u64, Vec<u8>), Error> {
        self.read_part(path, count, |beyond| beyond)
    }

    /// `count` bytes from where `from` says, which is given how many bytes the file has beyond them.
    fn read_part(&self, path: &Path, count: usize, from: impl Fn(u64) -> u64) -> Result<(u64, Vec<u8>), Error> {
        let part = || match self {
            Self::Real => {
                let file = File::open(path)?;
                let len = file.metadata()?.len();
                let mut bytes = vec![0; count.min(usize::try_from(len).unwrap_or(usize::MAX))];
                let beyond = len - bytes.len() as u64;
                file.read_exact_at(&mut bytes, from(beyond))?;
                Ok((len, bytes))
            }
            Self::Simulated(sim) => {
                let mut bytes = sim.read(path)?;
                let len = bytes.len() as u64;
                let beyond = bytes.len().saturating_sub(count);
                bytes.drain(..usize::try_from(from(beyond as u64)).unwrap_or(beyond));
                bytes.truncate(count);
                Ok((len, bytes))
            }
        };
        part().map_err(Error::io("read", path))
    }

    /// The file, or none if there is no such file.
    pub(crate) fn read_if_there(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file as text, or none if there is no such file.
    pub(crate) fn text_if_there(&self, path: &Path) -> Result<Option<String>, Error> {
        let Some(bytes) = self.read_if_there(path)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| Error::damaged(path, "not UTF-8"))
    }

    /// Length of a file, or none if there is no such file.
    pub(crate) fn len(&self, path: &Path) -> Result<Option<u64>, Error> {
        let len = match self {
            Self::Real => fs::metadata(path).map(|metadata| metadata.len()),
            Self::Simulated(sim) => sim.read(path).map(|bytes| bytes.len() as u64),
        };
        match len {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("stat", path)(error)),
        }
    }

    /// Names in a folder, sorted; empty if there is no such folder.
    pub(crate) fn list(&self, dir: &Path) -> Result<Vec<String>, Error> {
        let mut names = match self {
            Self::Real => match fs::read_dir(dir) {
                Ok(entries) => entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect::<io::Result<Vec<_>>>(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error),
            },
            Self::Simulated(sim) => Ok(sim.list(dir)),
        }
        .map_err(Error::io("list", dir))?;
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        match self {
            Self::Real => path.is_dir(),
            Self::Simulated(sim) => sim.is_dir(path),
        }
    }

    /// Creates the folder and those above it, and makes their names durable.
    pub(crate) fn make_dirs(&self, dir: &Path) -> Result<(), Error> {
        match self {
            Self::Real if dir.is_dir() => Ok(()),
            Self::Real => {
                let above = parent(dir);
                if above != dir {
                    self.make_dirs(above)?;
                }
                match fs::create_dir(dir) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("create", dir)(error)),
                    _ => self.sync_dir(above),
                }
            }
            // Folders of the simulated disk are never lost; files in them are.
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Writes a file, complete or not at all, but not durably yet. The folder is created if need be.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put(path, bytes, false, 0o644)
    }

    /// Writes a file durably: temporary name, fsync, rename, fsync of the folder. Folders above it are created.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_durably(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put(path, bytes, true, 0o644)
    }

    /// Writes a file durably that only its owner can read.
    pub(crate) fn write_secret(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put(path, bytes, true, 0o600)
    }

    /// Writes a file under its temporary name only, not durably: for many files that get their names together, after
    /// [`Disk::sync_file_system`].
    pub(crate) fn write_ahead(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        self.put_temporary(path, bytes, false, 0o644)
    }

    fn put(&self, path: &Path, bytes: &[u8], sync: bool, mode: u32) -> Result<(), Error> {
        self.put_temporary(path, bytes, sync, mode)?;
        self.rename(&temporary(path), path)?;
        if sync { self.sync_dir(parent(path)) } else { Ok(()) }
    }

    fn put_temporary(&self, path: &Path, bytes: &[u8], sync: bool, mode: u32) -> Result<(), Error> {
        let tmp = temporary(path);
        self.or_remove(&tmp, self.fill(&tmp, bytes, sync, mode))
    }

    /// A file that was not finished must not keep the space that others need now.
    fn or_remove(&self, path: &Path, result: Result<(), Error>) -> Result<(), Error> {
        if result.as_ref().is_err_and(|error| error.passing().is_some()) {
            // The first error is the one to tell; without this removal the file is only in the way.
            let _ = self.remove(path);
        }
        result
    }

    fn fill(&self, tmp: &Path, bytes: &[u8], sync: bool, mode: u32) -> Result<(), Error> {
        match self {
            Self::Real => {
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true).mode(mode);
                let mut opened = options.open(tmp);
                // Twice: an empty folder can be removed (pruning) just after it was found or made.
                for _ in 0..2 {
                    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                        self.make_dirs(parent(tmp))?;
                        opened = options.open(tmp);
                    }
                }
                let mut file = opened.map_err(Error::io("create", tmp))?;
                file.write_all(bytes).map_err(Error::io("write", tmp))?;
                if sync { file.sync_all().map_err(Self::sync_failed(tmp)) } else { Ok(()) }
            }
            Self::Simulated(sim) => {
                sim.create(tmp, bytes).map_err(Error::io("write", tmp))?;
                if sync { sim.sync_file(tmp).map_err(Self::sync_failed(tmp)) } else { Ok(()) }
            }
        }
    }

    /// A failed fsync must not look like a full disk, which may be tried again (see [`Error::passing`]).
    fn sync_failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let wrap = Error::io("sync", path);
        move |error| wrap(io::Error::other(error.to_string()))
    }

    /// Makes a file's bytes durable.
    pub(crate) fn sync_file(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Real => File::open(path).and_then(|file| file.sync_all()),
            Self::Simulated(sim) => sim.sync_file(path),
        }
        .map_err(Self::sync_failed(path))
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        match self {
            Self::Real => File::open(dir).and_then(|file| file.sync_all()),
            Self::Simulated(sim) => sim.sync_dir(dir),
        }
        .map_err(Self::sync_failed(dir))
    }

    /// Makes everything durable that was written to the file system of `dir`: for many files at once.
    pub(crate) fn sync_file_system(&self, dir: &Path) -> Result<(), Error> {
        match self {
            Self::Real => File::open(dir).and_then(|file| rustix::fs::syncfs(file).map_err(io::Error::from)),
            Self::Simulated(sim) => sim.sync_everything(),
        }
        .map_err(Self::sync_failed(dir))
    }

    /// Renames a file, replacing what was there. Durable after [`Disk::sync_dir`].
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        match self {
            Self::Real => fs::rename(from, to),
            Self::Simulated(sim) => sim.rename(from, to),
        }
        .map_err(Error::io("rename", from))
    }

    /// Removes a file or a folder with all in it; content if it is not there.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        let removed = match self {
            Self::Real if path.is_dir() => fs::remove_dir_all(path),
            Self::Real => fs::remove_file(path),
            Self::Simulated(sim) => sim.remove(path),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes a folder if nothing is in it.
    pub(crate) fn remove_empty_dir(&self, dir: &Path) -> Result<(), Error> {
        match self {
            Self::Real => match fs::remove_dir(dir) {
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                    Err(Error::io("remove", dir)(error))
                }
                _ => Ok(()),
            },
            // Folders are implied by the files in them.
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Makes a file of `len` bytes: `start`, then zeros, all of it really written (an allocated but unwritten block costs a
    /// metadata update at its first sync), and durable with its name.
    pub(crate) fn make_zeroed(&self, path: &Path, start: &[u8], len: u64) -> Result<(), Error> {
        self.or_remove(path, self.fill_with_zeros(path, start, len))?;
        self.sync_dir(parent(path))
    }

    fn fill_with_zeros(&self, path: &Path, start: &[u8], len: u64) -> Result<(), Error> {
        match self {
            Self::Real => {
                let file = File::create(path).map_err(Error::io("create", path))?;
                let mut page = start.to_vec();
                page.resize(usize::try_from(len).unwrap_or(usize::MAX).min(4096), 0);
                let written = file.write_all_at(&page, 0);
                let written = written.and_then(|()| write_zeros(&file, path, page.len() as u64, len));
                written.map_err(Error::io("write", path))?;
                file.sync_all().map_err(Self::sync_failed(path))
            }
            Self::Simulated(sim) => {
                let mut bytes = start.to_vec();
                bytes.resize(usize::try_from(len).expect("a simulated file fits memory"), 0);
                sim.create(path, &bytes).map_err(Error::io("write", path))?;
                sim.sync_file(path).map_err(Self::sync_failed(path))
            }
        }
    }

    pub(crate) fn open_segment(&self, path: &Path) -> Result<SegmentFile, Error> {
        match self {
            Self::Real => {
                let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
                Ok(SegmentFile::Real(file, path.to_owned()))
            }
            Self::Simulated(sim) => Ok(SegmentFile::Simulated(Arc::clone(sim), path.to_owned())),
        }
    }

    /// Takes the lock or says that somebody else has it. The operating system gives it back when the process ends.
    pub(crate) fn lock(&self, path: &Path) -> Result<Lock, Error> {
        match self {
            Self::Real => {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)
                    .map_err(Error::io("open", path))?;
                match file.try_lock() {
                    Ok(()) => Ok(Lock { file: Some(file) }),
                    Err(fs::TryLockError::WouldBlock) => Err(Error::Locked { path: path.to_owned() }),
                    Err(fs::TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
                }
            }
            Self::Simulated(_) => Ok(Lock { file: None }),
        }
    }

    /// Space on the file system that holds `dir`.
    pub(crate) fn space(&self, dir: &Path) -> Result<Space, Error> {
        match self {
            Self::Real => {
                let stat = rustix::fs::statvfs(dir).map_err(|errno| Error::io("stat", dir)(errno.into()))?;
                Ok(Space {
                    free: stat.f_bavail.saturating_mul(stat.f_frsize),
                    total: stat.f_blocks.saturating_mul(stat.f_frsize),
                })
            }
            Self::Simulated(sim) => Ok(sim.space()),
        }
    }
}
