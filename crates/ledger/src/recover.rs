//! Opening again after whatever happened: from what `head` says is synced, and from the journal after it
//! (docs/formats/journal.md, "Reading it again").

use crate::error::Error;
use crate::group::Group;
use crate::head::{Folder, Head};
use crate::journal::{Finding, Scan, scan};
use crate::leaf::filler;
use crate::mend::{self, Edge};
use crate::merkle::{Tree, leaf_hash};
use crate::notice::Notice;
use crate::tiles::{TileStore, WIDTH, tile_width};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What recovery found.
pub(crate) struct Recovered {
    /// Groups with entries that are not stored yet, in order and without gaps from `head.synced` on.
    pub(crate) groups: Vec<Group>,
    /// Number of entries.
    pub(crate) size: u64,
    /// The last leaf.
    pub(crate) last: Option<Vec<u8>>,
    pub(crate) generation: u64,
    pub(crate) notices: Vec<Notice>,
    /// Something was damaged: store everything before anything new is accepted.
    pub(crate) mended: bool,
}

/// Reads the tail and proves that it goes on from the checkpoint in `head`. What is damaged at the edge from which it goes on is
/// made again, if something else determines it.
pub(crate) fn recover(folder: &Folder, head: &Head) -> Result<Recovered, Error> {
    let tiles = TileStore::new(folder.disk.clone(), &folder.dir);
    let (edge, error) = match Edge::read(&tiles, head.synced) {
        Ok(edge) => match attempt(folder, head, &edge) {
            Err(error) => (Some(edge), error),
            recovered => return recovered,
        },
        Err(error) => (None, error),
    };
    if matches!(error, Error::Io { .. }) {
        return Err(error);
    }
    for edge in mend::others(&tiles, &folder.journal(), head.synced, edge.as_ref())? {
        // Right is what has the root that was signed.
        let Ok(mut recovered) = attempt(folder, head, &edge) else { continue };
        let paths = edge.write(&tiles)?;
        recovered.notices.push(Notice::Mended { paths });
        return Ok(recovered);
    }
    let found = published(folder).unwrap_or(0);
    if matches!(error, Error::Unmendable { .. }) && found < head.synced {
        // Files that `head` knows to be durable are not there: an older copy of the folder.
        return Err(Error::HeadAhead { path: folder.head.clone(), sealed: head.checkpoint.size, found });
    }
    Err(error)
}

fn attempt(folder: &Folder, head: &Head, edge: &Edge) -> Result<Recovered, Error> {
    let tiles = TileStore::new(folder.disk.clone(), &folder.dir);
    let Scan { groups, findings, next, generation, .. } = scan(&folder.disk, &folder.journal(), head.stored)?;
    let mut walk = Walk {
        tree: edge.tree(),
        head,
        tiles: &tiles,
        folder,
        kept: Vec::new(),
        last: None,
        mended: false,
        restored: BTreeSet::new(),
    };
    walk.check_root()?;
    for group in groups {
        walk.fill(group.first)?;
        walk.add(group)?;
    }
    // A damaged end: `next` can be beyond the last group.
    walk.fill(next)?;
    if walk.tree.size() < head.checkpoint.size {
        // The journal does not reach as far as what was signed. Entry bundles may, and the root says whether they are right.
        walk.restore(head.checkpoint.size)?;
    }
    let Walk { tree, kept, mut last, mended, restored, .. } = walk;
    // Also damage that lost nothing is dealt with now, so that it is told once.
    let damaged = |finding: &Finding| match finding {
        Finding::Torn { index, .. } => *index < head.checkpoint.size,
        Finding::Damage { .. } => true,
    };
    let mended = mended || findings.iter().any(damaged);
    let size = tree.size();
    if size == head.synced {
        last = edge.bundle.last().cloned();
    }
    if last.is_none() && size > 0 {
        let n = (size - 1) / WIDTH;
        last = tiles.bundle(n, tile_width(0, n, size))?.pop();
    }
    let notices =
        findings.into_iter().map(|finding| notice(folder, finding, head, &restored)).collect::<Result<_, _>>()?;
    Ok(Recovered { groups: kept, size, last, generation, notices, mended })
}

/// Size in the published checkpoint, as far as it can be read.
fn published(folder: &Folder) -> Option<u64> {
    let note = folder.disk.text_if_there(&folder.path("checkpoint")).ok()??;
    note.lines().nth(1)?.parse().ok()
}

struct Walk<'a> {
    tree: Tree,
    head: &'a Head,
    tiles: &'a TileStore,
    folder: &'a Folder,
    kept: Vec<Group>,
    last: Option<Vec<u8>>,
    mended: bool,
    /// Indices that came from entry bundles.
    restored: BTreeSet<u64>,
}

impl Walk<'_> {
    fn check_root(&self) -> Result<(), Error> {
        let sealed = &self.head.checkpoint;
        if self.tree.size() == sealed.size && self.tree.root() != sealed.root {
            return Err(Error::Inconsistent { path: self.folder.head.clone(), sealed: sealed.size });
        }
        Ok(())
    }

    fn add(&mut self, group: Group) -> Result<(), Error> {
        for (index, leaf) in (group.first..).zip(group.leaves()) {
            if index == self.tree.size() {
                self.tree.push(leaf_hash(leaf));
                self.check_root()?;
            }
        }
        if let Some(leaf) =
            group.end().checked_sub(1).filter(|_| group.end() == self.tree.size()).and_then(|index| group.leaf(index))
        {
            self.last = Some(leaf.to_vec());
        }
        if group.end() > self.head.stored {
            self.kept.push(group);
        }
        Ok(())
    }

    /// Closes a gap before `first`: from entry bundles as far as a checkpoint vouches for them, then with fillers.
    fn fill(&mut self, first: u64) -> Result<(), Error> {
        if self.tree.size() >= first {
            return Ok(());
        }
        let sealed = self.head.checkpoint.size.min(first);
        if self.tree.size() < sealed {
            self.restore(sealed)?;
        }
        let from = self.tree.size();
        let mut leaves: Vec<Vec<u8>> = Vec::new();
        for index in from..first {
            let before = leaves.last().or(self.last.as_ref()).map(Vec::as_slice);
            leaves.push(filler(before, index));
        }
        self.mended = true;
        if leaves.is_empty() { Ok(()) } else { self.add(Group::of_leaves(from, &leaves)) }
    }

    /// Takes entries up to `to` from entry bundles. What they hold above the synced size is not known to be right until the
    /// root of the checkpoint is reached.
    fn restore(&mut self, to: u64) -> Result<(), Error> {
        let from = self.tree.size();
        let sealed = self.head.checkpoint.size;
        let ahead = || Error::HeadAhead { path: self.folder.head.clone(), sealed, found: from };
        let mut leaves = Vec::new();
        for index in from..to {
            let (n, within) = (index / WIDTH, usize::try_from(index % WIDTH).expect("below 256"));
            let bundle = self.tiles.bundle(n, tile_width(0, n, sealed)).map_err(|_| ahead())?;
            leaves.push(bundle.into_iter().nth(within).ok_or_else(ahead)?);
            self.restored.insert(index);
        }
        self.mended = true;
        self.add(Group::of_leaves(from, &leaves))
    }
}

fn notice(folder: &Folder, finding: Finding, head: &Head, restored: &BTreeSet<u64>) -> Result<Notice, Error> {
    match finding {
        // Cut off where a signed entry should be: that was complete once.
        Finding::Torn { path, offset, index, .. } if index < head.checkpoint.size => {
            let lost = head.checkpoint.size - index;
            damage(folder, path, offset, index, lost, head.synced, restored)
        }
        Finding::Torn { path, offset, bytes, index } => Ok(Notice::Cut { path, offset, bytes, index }),
        Finding::Damage { path, offset, first, lost } => {
            damage(folder, path, offset, first, lost, head.synced, restored)
        }
    }
}

fn damage(
    folder: &Folder,
    path: PathBuf,
    offset: u64,
    first: u64,
    lost: u64,
    synced: u64,
    restored: &BTreeSet<u64>,
) -> Result<Notice, Error> {
    let quarantined = quarantine(folder, &path)?;
    // Entries below the synced size are in the tiles anyway.
    let restored = (first..first + lost).filter(|index| *index < synced || restored.contains(index)).count() as u64;
    Ok(Notice::Damage { path, offset, quarantined, first, lost, restored })
}

/// Copies a damaged segment aside, durably.
fn quarantine(folder: &Folder, path: &Path) -> Result<PathBuf, Error> {
    let copy = folder.path("quarantine").join(path.file_name().unwrap_or_default());
    let bytes = folder.disk.read(path)?;
    folder.disk.write_durably(&copy, &bytes)?;
    Ok(copy)
}
