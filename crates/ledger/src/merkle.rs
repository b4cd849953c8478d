//! The Merkle tree of RFC 9162 section 2.1: hashes, roots, proofs. No files here.

use crate::sha::digests;
use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hash of one entry: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// Hashes of many entries, in less time.
pub(crate) fn leaf_hashes(leaves: &[&[u8]]) -> Vec<Hash> {
    digests(&[0], leaves.iter().copied())
}

/// Hash of two subtrees: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the tree without entries: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The largest power of two below `n`, for n ≥ 2: where RFC 9162 splits a tree of n leaves.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Root over a list of subtrees of equal size, of which only the last may be smaller. The list must not be empty.
pub(crate) fn root_over(hashes: &[Hash]) -> Hash {
    match hashes {
        [only] => *only,
        [left, right] => node_hash(left, right),
        _ => {
            let (left, right) =
                hashes.split_at(usize::try_from(split(hashes.len() as u64)).expect("below the list's length"));
            node_hash(&root_over(left), &root_over(right))
        }
    }
}

/// The right edge of a tree in tiles: per tile level, the hashes of the tile that is not full yet. Enough to add leaves and to
/// compute the root, whatever the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    levels: Vec<Vec<Hash>>,
}

/// A tile that became full: level, index, its 256 hashes.
pub(crate) type FullTile = (u8, u64, Vec<Hash>);

impl Tree {
    /// A tree of `size` leaves from its right edge: for each tile level the hashes of the partial tile, none if it is empty.
    pub(crate) fn from_edge(size: u64, levels: Vec<Vec<Hash>>) -> Self {
        debug_assert!(levels.iter().enumerate().all(|(l, hashes)| hashes.len() as u64 == (size >> (8 * l)) % 256));
        Self { size, levels }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Per tile level, the hashes of the partial tile.
    pub(crate) fn edge(&self) -> impl Iterator<Item = (u8, &[Hash])> {
        (0u8..).zip(self.levels.iter().map(Vec::as_slice))
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_| {});
    }

    /// Adds a leaf by its hash and hands out every tile that becomes full by it.
    pub(crate) fn push_with(&mut self, leaf: Hash, full: impl FnMut(FullTile)) {
        self.size += 1;
        self.carry(0, leaf, full);
    }

    /// Adds a whole tile of leaves by its root and hands out every tile above it that becomes full by it. The size must be a
    /// multiple of 256.
    pub(crate) fn push_tile_with(&mut self, root: Hash, full: impl FnMut(FullTile)) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        debug_assert!(self.levels[0].is_empty(), "size {}", self.size);
        self.size += 256;
        self.carry(1, root, full);
    }

    /// Adds a hash to a level whose tile is the last one.
    fn carry(&mut self, level: u8, mut hash: Hash, mut full: impl FnMut(FullTile)) {
        for level in level.. {
            let l = usize::from(level);
            if self.levels.len() <= l {
                self.levels.push(Vec::with_capacity(256));
            }
            self.levels[l].push(hash);
            if self.levels[l].len() < 256 {
                return;
            }
            let tile = std::mem::take(&mut self.levels[l]);
            hash = root_over(&tile);
            full((level, (self.size >> (8 * (u32::from(level) + 1))) - 1, tile));
        }
    }

    /// The root hash.
    pub fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for hashes in &self.levels {
            if hashes.is_empty() {
                continue;
            }
            // What is left over from the levels below is the incomplete last subtree of this level.
            right = Some(match right {
                None => root_over(hashes),
                Some(rest) => {
                    let mut list = hashes.clone();
                    list.push(rest);
                    root_over(&list)
                }
            });
        }
        right.unwrap_or_else(empty_root)
    }
}

/// Root of the leaves `lo..hi`, where `lo` is a multiple of the power of two above; `node(height, n)` reads the root of the
/// complete subtree of 2^height leaves that begins at n·2^height.
pub(crate) fn subtree_root<E>(lo: u64, hi: u64, node: &mut impl FnMut(u8, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let n = hi - lo;
    if n.is_power_of_two() {
        let height = n.trailing_zeros();
        return node(u8::try_from(height).expect("at most 63"), lo >> height);
    }
    let k = split(n);
    Ok(node_hash(&subtree_root(lo, lo + k, node)?, &subtree_root(lo + k, hi, node)?))
}

/// Inclusion path of leaf `index` in the tree of `size` leaves (RFC 9162 section 2.1.3.1), leaf side first. `index < size`.
pub(crate) fn inclusion_path<E>(
    index: u64,
    size: u64,
    node: &mut impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut lo, mut hi) = (0, size);
    let mut path = Vec::new();
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            path.push(subtree_root(middle, hi, node)?);
            hi = middle;
        } else {
            path.push(subtree_root(lo, middle, node)?);
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency path from the tree of `old` leaves to that of `new` (RFC 9162 section 2.1.4.1). `0 < old <= new`.
pub(crate) fn consistency_path<E>(
    old: u64,
    new: u64,
    node: &mut impl FnMut(u8, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut lo, mut hi) = (0, new);
    let mut path = Vec::new();
    // Whether the old tree's part is a whole subtree that the verifier knows already.
    let mut whole = true;
    while old < hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            path.push(subtree_root(middle, hi, node)?);
            hi = middle;
        } else {
            path.push(subtree_root(lo, middle, node)?);
            lo = middle;
            whole = false;
        }
    }
    if !whole {
        path.push(subtree_root(lo, hi, node)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that the leaf with this hash is at `index` in the tree with this size and root
/// (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree (`new`, `new_root`) begins with the tree (`old`, `old_root`)
/// (RFC 9162 section 2.1.4.2). The empty tree is the beginning of every tree, with an empty path.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == 0 {
        return path.is_empty() && *old_root == empty_root();
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    let mut path = path.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node % 2 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if node % 2 == 1 || node == last {
            from_old = node_hash(hash, &from_old);
            from_new = node_hash(hash, &from_new);
            while node % 2 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// RFC 9162 section 2.1.1 written down as it stands.
    fn by_definition(hashes: &[Hash]) -> Hash {
        match hashes {
            [] => empty_root(),
            [one] => *one,
            _ => {
                let mut k = 1;
                while k * 2 < hashes.len() {
                    k *= 2;
                }
                node_hash(&by_definition(&hashes[..k]), &by_definition(&hashes[k..]))
            }
        }
    }

    #[test]
    fn roots_and_proofs_agree_with_the_definition() {
        let all = leaves(700);
        let mut node = |height: u8, n: u64| -> Result<Hash, std::convert::Infallible> {
            let from = usize::try_from(n << height).unwrap();
            Ok(by_definition(&all[from..from + (1 << height)]))
        };
        let mut tree = Tree::default();
        let mut roots = vec![tree.root()];
        let mut full = Vec::new();
        for leaf in &all {
            tree.push_with(*leaf, |(level, n, hashes)| full.push((level, n, hashes.len())));
            roots.push(tree.root());
        }
        assert_eq!(full, [(0, 0, 256), (0, 1, 256)]);
        let mut tiled = Tree::default();
        tiled.push_tile_with(root_over(&all[..256]), |_| {});
        for leaf in &all[256..] {
            tiled.push(*leaf);
        }
        assert_eq!(tiled, tree);
        for size in [0usize, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 700] {
            assert_eq!(roots[size], by_definition(&all[..size]), "size {size}");
            let n = size as u64;
            for index in (0..n).step_by(13).chain(n.checked_sub(1)) {
                let path = inclusion_path(index, n, &mut node).unwrap();
                let leaf = &all[usize::try_from(index).unwrap()];
                assert!(verify_inclusion(leaf, index, n, &path, &roots[size]));
                assert!(!verify_inclusion(leaf, index, n, &path, &empty_root()));
                assert!(n == 1 || !verify_inclusion(leaf, index ^ 1, n, &path, &roots[size]));
            }
            for old in (1..=n).step_by(17) {
                let path = consistency_path(old, n, &mut node).unwrap();
                let old_root = &roots[usize::try_from(old).unwrap()];
                assert!(verify_consistency(old, old_root, n, &roots[size], &path), "{old} {n}");
                assert!(!verify_consistency(old, &empty_root(), n, &roots[size], &path));
            }
        }
    }
}
