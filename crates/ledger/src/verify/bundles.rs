//! Entry bundles and the hash tiles over them, each by itself.

use super::{Outcome, Report, Trouble};
use crate::error::Error;
use crate::group::Group;
use crate::leaf::{Stamp, day_of, split_leaf};
use crate::merkle::{Hash, leaf_hashes, root_over};
use crate::payload::{PayloadRef, reference_in};
use crate::prune::{PruneList, prune_in};
use crate::tiles::{TileStore, WIDTH, bundle_path, split_prefix, tile_path, tile_width};
use std::path::{Path, PathBuf};

/// What a leaf says about the payload of its append.
pub(super) struct Named {
    pub(super) append: u64,
    pub(super) reference: PayloadRef,
    pub(super) day: String,
}

impl Named {
    pub(super) fn of(leaf: &[u8]) -> Option<Self> {
        let (stamp, body) = split_leaf(leaf)?;
        Self::new(&stamp, leaf, body)
    }

    fn new(stamp: &Stamp, leaf: &[u8], body: &[u8]) -> Option<Self> {
        Some(Self { append: stamp.append, reference: reference_in(body)?, day: day_of(leaf)?.to_owned() })
    }
}

/// Reads bundles and their tiles.
pub(super) struct BundleReader<'a> {
    pub(super) tiles: &'a TileStore,
    pub(super) size: u64,
    pub(super) ours: bool,
    /// The journal's folder, and what is in it.
    pub(super) journal: PathBuf,
    pub(super) groups: &'a [Group],
}

/// What a bundle's file and its tile say.
pub(super) struct BundlePart {
    pub(super) n: u64,
    /// Files that could be read.
    pub(super) seen: Vec<PathBuf>,
    /// Hashes of the entries. For one that cannot be read stands that in the tile, or nothing if that cannot be read either.
    pub(super) hashes: Vec<Hash>,
    /// The root over them.
    pub(super) root: Hash,
    /// The first entry that is not the one in the tile, and the bundle's file.
    pub(super) difference: Option<(u64, PathBuf)>,
    /// Entries that cannot be read.
    pub(super) unread: u64,
    /// What is wrong with the tile, and what the leaves say about themselves.
    pub(super) report: Report,
    pub(super) damaged: Vec<Trouble>,
    /// Payloads that its entries name; shorter if the bundle is not whole.
    pub(super) named: Vec<Option<Named>>,
    pub(super) whole: bool,
    pub(super) prunes: PruneList,
}

impl BundleReader<'_> {
    /// `buffer` is used again from bundle to bundle.
    pub(super) fn read(&self, buffer: &mut Vec<u8>, n: u64) -> BundlePart {
        let width = tile_width(0, n, self.size);
        let mut part = BundlePart {
            n,
            seen: Vec::new(),
            hashes: Vec::new(),
            root: Hash::default(),
            difference: None,
            unread: 0,
            report: Report::default(),
            damaged: Vec::new(),
            named: Vec::new(),
            whole: false,
            prunes: PruneList::new(),
        };
        let exact = self.tiles.dir.join(bundle_path(n, width));
        match read_either(self.tiles, |width| bundle_path(n, width), width, buffer) {
            (_, Err(error)) => {
                let outcome = if error.is_not_found() { Outcome::Refuted } else { Outcome::CouldNotCheck };
                let (detail, entry) = (error.to_string(), Some(n * WIDTH));
                part.damaged.push(Trouble { outcome, path: exact.clone(), detail, entry });
                self.tile(buffer, &[], &exact, width, &mut part);
            }
            (path, Ok(())) => {
                part.report.bytes = buffer.len() as u64;
                let (entries, rest) = split_prefix(buffer);
                let wanted = usize::try_from(width).expect("at most 256");
                part.whole = rest.is_empty() && entries.len() >= wanted;
                let fits = part.whole && (entries.len() == wanted || path != exact);
                let (first, count) = (&entries[..entries.len().min(wanted)], entries.len());
                let hashes = leaf_hashes(first);
                if self.ours {
                    for (index, entry) in (n * WIDTH..).zip(first) {
                        self.leaf(index, entry, &mut part);
                    }
                }
                part.seen.push(path.clone());
                self.tile(buffer, &hashes, &exact, width, &mut part);
                if !fits {
                    // Lengths that do not fit: the first entry whose hash is wrong is where it begins.
                    let first = part.difference.as_ref().map_or(n * WIDTH + count as u64, |(index, _)| *index);
                    part.damaged.push(Trouble {
                        outcome: Outcome::Refuted,
                        path,
                        detail: format!("its lengths do not make {wanted} entries"),
                        entry: Some(first.min(n * WIDTH + width - 1)),
                    });
                }
            }
        }
        part
    }

    /// Compares the entries' hashes with those in their tile.
    fn tile(&self, buffer: &mut Vec<u8>, entries: &[Hash], bundle: &Path, width: u64, part: &mut BundlePart) {
        let n = part.n;
        let (path, read) = read_either(self.tiles, |width| tile_path(0, n, width), width, buffer);
        let wanted = usize::try_from(width).expect("at most 256");
        let stored = match buffer.as_chunks::<32>() {
            (hashes, []) if read.is_ok() => hashes.get(..wanted).unwrap_or_default(),
            _ => &[],
        };
        let differ = |(a, b): (&Hash, &Hash)| a != b;
        let difference = entries.iter().zip(stored).position(differ);
        part.difference = difference.map(|at| (n * WIDTH + at as u64, bundle.to_owned()));
        part.unread = (wanted - entries.len()) as u64;
        part.report.damaged = part.unread + entries.iter().zip(stored).filter(|pair| differ(*pair)).count() as u64;
        part.hashes = [entries, stored.get(entries.len()..).unwrap_or_default()].concat();
        // With neither there is nothing to hash; the root will differ.
        part.hashes.resize(wanted, Hash::default());
        part.root = root_over(&part.hashes);
        compare_tile((0, n), &part.hashes, &path, read.as_ref().map(|()| buffer.as_slice()), &mut part.report);
        if read.is_ok() {
            part.report.bytes += buffer.len() as u64;
            part.seen.push(path);
        }
    }

    /// What a leaf of ours says about itself.
    fn leaf(&self, index: u64, leaf: &[u8], part: &mut BundlePart) {
        let report = &mut part.report;
        let path = || bundle_path(index / WIDTH, WIDTH);
        if part.whole && leaf_in(self.groups, index).is_some_and(|copy| copy != leaf) {
            report.refute(&self.journal, Some(index), "the journal has another entry than the bundle");
        }
        let Some((stamp, body)) = split_leaf(leaf) else {
            part.named.push(None);
            return report.refute(&path(), Some(index), "it is not a stamp and a body");
        };
        if stamp.index() != index {
            report.refute(&path(), Some(index), format!("its stamp is that of entry {}", stamp.index()));
        }
        if body == b"null" {
            report.fillers += 1;
        }
        part.named.push(Named::new(&stamp, leaf, body));
        part.prunes.extend(prune_in(body).map(|prune| (index, prune)));
    }

    /// The payloads that a bundle's entries name; none if it is not whole.
    pub(super) fn named(&self, n: u64) -> Vec<Option<Named>> {
        let (mut bytes, width) = (Vec::new(), tile_width(0, n, self.size));
        let wanted = usize::try_from(width).expect("at most 256");
        match read_either(self.tiles, |width| bundle_path(n, width), width, &mut bytes).1.map(|()| split_prefix(&bytes))
        {
            Ok((entries, [])) if entries.len() >= wanted => {
                entries[..wanted].iter().map(|leaf| Named::of(leaf)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The journal's copy of an entry.
pub(super) fn leaf_in(groups: &[Group], index: u64) -> Option<&[u8]> {
    groups.get(groups.partition_point(|group| group.end() <= index))?.leaf(index)
}

/// Reads the partial file or, if a process that writes has cleaned it away, the full one.
pub(super) fn read_either(
    tiles: &TileStore,
    path: impl Fn(u64) -> PathBuf,
    width: u64,
    bytes: &mut Vec<u8>,
) -> (PathBuf, Result<(), Error>) {
    let exact = tiles.dir.join(path(width));
    let read = tiles.disk.read_into(&exact, bytes);
    if width < WIDTH && read.as_ref().is_err_and(Error::is_not_found) {
        let full = tiles.dir.join(path(WIDTH));
        if tiles.disk.read_into(&full, bytes).is_ok() {
            return (full, Ok(()));
        }
    }
    (exact, read)
}

/// Compares a tile's file with what the entries give.
pub(super) fn compare_tile(
    (level, n): (u8, u64),
    hashes: &[Hash],
    path: &Path,
    content: Result<&[u8], &Error>,
    report: &mut Report,
) {
    let wanted = hashes.as_flattened();
    match content {
        Ok(bytes) if path.ends_with(tile_path(level, n, hashes.len() as u64)) && bytes.len() != wanted.len() => {
            report.refute(path, None, format!("{} bytes instead of {}", bytes.len(), wanted.len()));
        }
        Ok(bytes) => {
            if let Some(at) = bytes.chunks(32).zip(hashes).position(|(a, b)| a != b) {
                let first = (n * WIDTH + at as u64) << (8 * u32::from(level));
                let detail = format!("its hash {at}, over the entries from {first} on, is not that of the entries");
                report.refute(path, None, detail);
            } else if bytes.len() < wanted.len() {
                report.refute(path, None, format!("{} bytes instead of {}", bytes.len(), wanted.len()));
            }
        }
        Err(error) => report.error(path, None, error),
    }
}
