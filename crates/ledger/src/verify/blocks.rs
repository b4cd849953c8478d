//! Payload blocks, each by itself, against the leaves that name what is in them.

use super::Report;
use super::bundles::{BundlePart, BundleReader, Named, leaf_in};
use crate::payload::{Block, Unpacker, block_first};
use crate::sha::digests;
use crate::tiles::WIDTH;
use std::collections::BTreeMap;
use std::path::Path;

/// A set of entries, with a bit for each: a log has many.
#[derive(Default)]
pub(super) struct EntrySet(BTreeMap<u64, [u64; 4]>);

impl EntrySet {
    fn place(entry: u64) -> (u64, usize, u64) {
        let bit = usize::try_from(entry % 256).expect("below 256");
        (entry / 256, bit / 64, 1 << (bit % 64))
    }

    pub(super) fn insert(&mut self, entry: u64) {
        let (key, word, bit) = Self::place(entry);
        self.0.entry(key).or_default()[word] |= bit;
    }

    pub(super) fn contains(&self, entry: u64) -> bool {
        let (key, word, bit) = Self::place(entry);
        self.0.get(&key).is_some_and(|words| words[word] & bit != 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (key, more) in &other.0 {
            let words = self.0.entry(*key).or_default();
            words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.0.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// Reads payload blocks.
pub(super) struct BlockReader<'a> {
    /// The folder `payload`.
    pub(super) dir: &'a Path,
    pub(super) bundles: &'a BundleReader<'a>,
    /// Bundles that have just been read, in order and without gaps. Nearly all leaves that are asked for are in these.
    pub(super) near: &'a [BundlePart],
}

/// What a block's file says.
#[derive(Default)]
pub(super) struct BlockPart {
    pub(super) read: bool,
    pub(super) report: Report,
    /// Appends whose payload is in it, as their leaf says.
    pub(super) found: EntrySet,
}

/// What is used again from block to block.
#[derive(Default)]
pub(super) struct Buffers {
    bytes: Vec<u8>,
    block: Block,
    unpacker: Unpacker,
}

/// What was read for a leaf that is not near.
struct Far {
    /// A bundle.
    n: u64,
    named: Vec<Option<Named>>,
    /// One of the journal.
    unsealed: Option<Named>,
}

impl BlockReader<'_> {
    pub(super) fn read(&self, buffers: &mut Buffers, path: &Path) -> BlockPart {
        let mut part = BlockPart::default();
        let Buffers { bytes, block, unpacker } = buffers;
        match self.bundles.tiles.disk.read_into(path, bytes) {
            Ok(()) => {
                part.read = true;
                part.report.bytes = bytes.len() as u64;
                match block.read(bytes, unpacker) {
                    Ok(()) => self.compare(path, block, &mut part),
                    Err(detail) => part.report.refute(path, first_of(path), detail),
                }
            }
            // Pruned since the folder was listed; whether rightly, its leaves show.
            Err(error) if error.is_not_found() => part.read = true,
            Err(error) => part.report.error(path, None, &error),
        }
        part
    }

    fn compare(&self, path: &Path, block: &Block, part: &mut BlockPart) {
        let name = first_of(path);
        if name.is_none() || block.rows().first().map(|row| row.entry) != name {
            part.report.refute(path, name, "its name is not that of its first entry");
        }
        let place = path.strip_prefix(self.dir).ok().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut far = Far { n: u64::MAX, named: Vec::new(), unsealed: None };
        let digests = digests(&[], block.rows().iter().map(|row| block.salted(row)));
        for (row, digest) in block.rows().iter().zip(&digests) {
            let entry = row.entry;
            // Without its leaf there is nothing to compare with; that it is not there is reported where the tree is checked.
            let Some(named) = self.named_by(entry, &mut far) else { continue };
            match named.as_ref().filter(|named| named.reference.fits(block.salted(row), digest)) {
                None => part.report.refute(path, Some(entry), "the payload is not the one that the entry names"),
                Some(named) if Path::new(&named.reference.class).join(&named.day) == place => part.found.insert(entry),
                Some(_) => part.report.refute(path, Some(entry), "it is not in the folder of its class and day"),
            }
        }
    }

    /// The payload that this entry names; the outer none: its leaf cannot be read.
    fn named_by<'n>(&'n self, entry: u64, far: &'n mut Far) -> Option<&'n Option<Named>> {
        if entry >= self.bundles.size {
            far.unsealed = Named::of(leaf_in(self.bundles.groups, entry)?);
            return Some(&far.unsealed);
        }
        let (n, at) = (entry / WIDTH, usize::try_from(entry % WIDTH).expect("below 256"));
        let near = self.near.first().and_then(|first| self.near.get(usize::try_from(n.checked_sub(first.n)?).ok()?));
        if let Some(near) = near {
            return near.named.get(at).filter(|_| near.whole);
        }
        if far.n != n {
            (far.n, far.named) = (n, self.bundles.named(n));
        }
        far.named.get(at)
    }
}

/// The entry that a block's file is named by.
pub(super) fn first_of(path: &Path) -> Option<u64> {
    block_first(&path.file_name()?.to_string_lossy())
}
