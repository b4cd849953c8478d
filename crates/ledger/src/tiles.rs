//! C2SP tlog-tiles on disk: paths, tiles, entry bundles (docs/formats/tiles.md).

use crate::durable::Disk;
use crate::error::Error;
use crate::merkle::{Hash, Tree, root_over};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Hashes in a full tile, entries in a full bundle.
pub(crate) const WIDTH: u64 = 256;

/// `1234067` becomes `x001/x234/067`.
fn number_path(n: u64) -> String {
    let mut path = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// Path of a tile below the ledger's folder; `width` 256 is the full one.
pub(crate) fn tile_path(level: u8, n: u64, width: u64) -> PathBuf {
    numbered(&format!("tile/{level}/{}", number_path(n)), width)
}

/// Path of an entry bundle below the ledger's folder.
pub(crate) fn bundle_path(n: u64, width: u64) -> PathBuf {
    numbered(&format!("tile/entries/{}", number_path(n)), width)
}

fn numbered(path: &str, width: u64) -> PathBuf {
    PathBuf::from(if width == WIDTH { path.to_owned() } else { format!("{path}.p/{width}") })
}

/// How many hashes the tile has in a tree of `size` leaves.
pub(crate) fn tile_width(level: u8, n: u64, size: u64) -> u64 {
    let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
    hashes.saturating_sub(n * WIDTH).min(WIDTH)
}

/// Adds an entry to the bytes of a bundle.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, leaf: &[u8]) {
    bundle.extend_from_slice(&u16::try_from(leaf.len()).expect("leaves are bounded when queued").to_be_bytes());
    bundle.extend_from_slice(leaf);
}

/// The entries of a bundle; none if its lengths do not fit.
pub(crate) fn split_bundle(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (entries, rest) = split_prefix(bytes);
    rest.is_empty().then_some(entries)
}

/// Entries of a bundle as far as its lengths can be followed, and what is left.
pub(crate) fn split_prefix(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let Some((entry, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        entries.push(entry);
        bytes = rest;
    }
    (entries, bytes)
}

/// The tiles in a folder.
#[derive(Debug, Clone)]
pub(crate) struct TileStore {
    pub(crate) disk: Disk,
    pub(crate) dir: PathBuf,
}

impl TileStore {
    pub(crate) fn new(disk: Disk, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    /// Reads the partial file or, if it has been cleaned away, the full one.
    pub(crate) fn read_either(&self, path: impl Fn(u64) -> PathBuf, width: u64) -> Result<(PathBuf, Vec<u8>), Error> {
        let wanted = self.dir.join(path(width));
        match self.disk.read(&wanted) {
            Err(error) if error.is_not_found() && width < WIDTH => {
                let full = self.dir.join(path(WIDTH));
                match self.disk.read(&full) {
                    Err(also) if also.is_not_found() => Err(error),
                    other => other.map(|bytes| (full, bytes)),
                }
            }
            other => other.map(|bytes| (wanted, bytes)),
        }
    }

    /// The first `width` hashes of a tile.
    pub(crate) fn tile(&self, level: u8, n: u64, width: u64) -> Result<Vec<Hash>, Error> {
        let (path, bytes) = self.read_either(|width| tile_path(level, n, width), width)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        let wanted = usize::try_from(width).expect("at most 256");
        if !rest.is_empty() || hashes.len() < wanted {
            return Err(Error::damaged(&path, format!("{} bytes instead of {}", bytes.len(), width * 32)));
        }
        Ok(hashes[..wanted].to_vec())
    }

    /// The first `width` entries of a bundle.
    pub(crate) fn bundle(&self, n: u64, width: u64) -> Result<Vec<Vec<u8>>, Error> {
        let (path, bytes) = self.read_either(|width| bundle_path(n, width), width)?;
        let entries =
            split_bundle(&bytes).ok_or_else(|| Error::damaged(&path, "the lengths of its entries do not fit"))?;
        let wanted = usize::try_from(width).expect("at most 256");
        if entries.len() < wanted {
            return Err(Error::damaged(&path, format!("{} entries instead of {width}", entries.len())));
        }
        Ok(entries[..wanted].iter().map(|entry| entry.to_vec()).collect())
    }

    /// The right edge of the tree of this size.
    pub(crate) fn edge(&self, size: u64) -> Result<Tree, Error> {
        let mut levels = Vec::new();
        for level in 0u8..8 {
            let hashes = size >> (8 * level);
            if hashes == 0 {
                break;
            }
            let width = hashes % WIDTH;
            levels.push(if width == 0 { Vec::new() } else { self.tile(level, hashes / WIDTH, width)? });
        }
        Ok(Tree::from_edge(size, levels))
    }
}

/// Reads subtree roots for proofs from the tiles of a tree of one size. Keeps the tiles that it has read: a proof reads at most
/// a few per level.
pub(crate) struct NodeReader<'a> {
    tiles: &'a TileStore,
    size: u64,
    cache: HashMap<(u8, u64), Vec<Hash>>,
}

impl<'a> NodeReader<'a> {
    pub(crate) fn new(tiles: &'a TileStore, size: u64) -> Self {
        Self { tiles, size, cache: HashMap::new() }
    }

    /// Root of the complete subtree of 2^height leaves that begins at n·2^height.
    pub(crate) fn node(&mut self, height: u8, n: u64) -> Result<Hash, Error> {
        let (level, within) = (height / 8, height % 8);
        let first = n << within;
        let tile = first / WIDTH;
        let key = (level, tile);
        if !self.cache.contains_key(&key) {
            let hashes = self.tiles.tile(level, tile, tile_width(level, tile, self.size))?;
            self.cache.insert(key, hashes);
        }
        let from = usize::try_from(first % WIDTH).expect("below 256");
        let hashes = self.cache[&key].get(from..from + (1 << within));
        hashes.map(root_over).ok_or_else(|| {
            Error::damaged(&self.tiles.dir.join(tile_path(level, tile, WIDTH)), "it does not reach far enough")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(tile_path(0, 1_234_067, 256), Path::new("tile/0/x001/x234/067"));
        assert_eq!(tile_path(2, 0, 17), Path::new("tile/2/000.p/17"));
        assert_eq!(bundle_path(273, 112), Path::new("tile/entries/273.p/112"));
        assert_eq!((tile_width(0, 273, 70_000), tile_width(1, 1, 70_000), tile_width(2, 0, 70_000)), (112, 17, 1));
        assert_eq!((tile_width(0, 0, 70_000), tile_width(0, 274, 70_000)), (256, 0));
    }

    #[test]
    fn bundles_come_back() {
        let mut bytes = Vec::new();
        let long = vec![7; 65_535];
        for leaf in [b"a".as_slice(), b"", &long] {
            push_entry(&mut bytes, leaf);
        }
        assert_eq!(split_bundle(&bytes).unwrap(), [b"a".as_slice(), b"", &long]);
        assert_eq!(split_bundle(&bytes[..bytes.len() - 1]), None);
    }
}
