//! The edge from which recovery goes on: the partial hash tiles and the partial entry bundle of the synced size. Where one of
//! these files is damaged, the others, full tiles and the journal may still say what should be in it. What is right is decided by
//! the root that was signed (`recover`), never here.

use crate::durable::Disk;
use crate::error::Error;
use crate::journal::{scan, segments};
use crate::merkle::{Hash, Tree, leaf_hash, root_over};
use crate::tiles::{TileStore, WIDTH, bundle_path, push_entry, split_prefix, tile_path};
use std::path::{Path, PathBuf};

/// Partial tiles and bundle of a tree of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    size: u64,
    /// Hashes of each level's partial tile; empty where the size makes none.
    levels: Vec<Vec<Hash>>,
    /// Entries of the partial bundle.
    pub(crate) bundle: Vec<Vec<u8>>,
}

/// Number of the partial tile of a level, and how many hashes it has.
fn place(size: u64, level: usize) -> (u64, u64) {
    let hashes = size >> (8 * level);
    (hashes / WIDTH, hashes % WIDTH)
}

fn levels(size: u64) -> impl Iterator<Item = u8> {
    (0u8..8).take_while(move |level| size >> (8 * level) > 0)
}

impl Edge {
    /// Reads the edge. [`Error::Unmendable`] names the file that is missing, or does not agree with the others.
    pub(crate) fn read(tiles: &TileStore, size: u64) -> Result<Self, Error> {
        let hashes = |level: u8| {
            let (n, width) = place(size, level.into());
            if width == 0 { Ok(Vec::new()) } else { tiles.tile(level, n, width) }
        };
        let levels = levels(size).map(hashes).collect::<Result<Vec<_>, _>>().map_err(unmendable)?;
        let (n, width) = place(size, 0);
        let bundle = if width == 0 { Vec::new() } else { tiles.bundle(n, width).map_err(unmendable)? };
        let edge = Self { size, levels, bundle };
        if let Some(at) = edge.bundle.iter().zip(edge.level(0)).position(|(entry, hash)| leaf_hash(entry) != *hash) {
            let path = tiles.dir.join(bundle_path(n, width));
            let detail = format!("its entry {} does not agree with the hash tile", n * WIDTH + at as u64);
            return Err(Error::Unmendable { path, detail });
        }
        match edge.wrong_files(tiles)?.pop() {
            Some((path, _)) => Err(Error::Unmendable { path, detail: "its length is wrong".to_owned() }),
            None => Ok(edge),
        }
    }

    fn level(&self, level: usize) -> &[Hash] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::from_edge(self.size, self.levels.clone())
    }

    /// Files that are not what they should be, with what they should be. A partial file that was cleaned away is not missed
    /// where the full one is right.
    fn wrong_files(&self, tiles: &TileStore) -> Result<Vec<(PathBuf, Vec<u8>)>, Error> {
        let mut wrong = Vec::new();
        for (level, hashes) in (0u8..).zip(&self.levels).filter(|(_, hashes)| !hashes.is_empty()) {
            let (n, width) = place(self.size, level.into());
            let path = tiles.dir.join(tile_path(level, n, width));
            let bytes = hashes.as_flattened().to_vec();
            let there = tiles.disk.read_if_there(&path)?;
            if there.as_ref().map_or(tiles.tile(level, n, width).ok().as_ref() != Some(hashes), |there| *there != bytes)
            {
                wrong.push((path, bytes));
            }
        }
        if !self.bundle.is_empty() {
            let (n, width) = place(self.size, 0);
            let path = tiles.dir.join(bundle_path(n, width));
            let mut bytes = Vec::new();
            for entry in &self.bundle {
                push_entry(&mut bytes, entry);
            }
            let there = tiles.disk.read_if_there(&path)?;
            let full = || tiles.bundle(n, width).ok().as_ref() != Some(&self.bundle);
            if there.as_ref().map_or_else(full, |there| *there != bytes) {
                wrong.push((path, bytes));
            }
        }
        Ok(wrong)
    }

    /// Makes the files right, durably. Gives those that were not.
    pub(crate) fn write(&self, tiles: &TileStore) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::new();
        for (path, bytes) in self.wrong_files(tiles)? {
            tiles.disk.make_dirs(crate::durable::parent(&path))?;
            tiles.disk.write_durably(&path, &bytes)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

/// What is there and not right; an error of reading stays one.
fn unmendable(error: Error) -> Error {
    match error {
        Error::Damaged { path, detail } => Error::Unmendable { path, detail },
        Error::Io { path, ref source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::Unmendable { path, detail: "it is missing".to_owned() }
        }
        other => other,
    }
}

/// Every other edge that the files and the journal could mean, the likeliest first.
pub(crate) fn others(tiles: &TileStore, journal: &Path, size: u64, not: Option<&Edge>) -> Result<Vec<Edge>, Error> {
    let (n, width) = place(size, 0);
    let wanted = usize::try_from(width).expect("below 256");
    let sources = if width == 0 { Vec::new() } else { entries(tiles, journal, n, wanted)? };
    // Level 0: as a hash tile says, or as the entries are.
    let mut bottoms: Vec<Vec<Hash>> = if width == 0 { vec![Vec::new()] } else { hash_tiles(tiles, n, wanted)? };
    bottoms
        .extend(sources.iter().filter_map(|source| source.iter().map(|(hash, _)| *hash).collect::<Option<Vec<_>>>()));
    let above: Vec<u8> = levels(size).skip(1).collect();
    let made = |level: &u8| made_again(tiles, size, *level);
    let as_stored = |level: &u8| {
        let (n, width) = place(size, (*level).into());
        if width == 0 { Some(Vec::new()) } else { tiles.tile(*level, n, width).ok().or_else(|| made(level)) }
    };
    let tops: [Option<Vec<Vec<Hash>>>; 2] = [above.iter().map(as_stored).collect(), above.iter().map(made).collect()];
    let mut edges: Vec<Edge> = Vec::new();
    for bottom in bottoms {
        let Some(bundle) = choose(&sources, &bottom) else { continue };
        for top in tops.iter().flatten() {
            let levels: Vec<Vec<Hash>> = std::iter::once(bottom.clone()).chain(top.iter().cloned()).collect();
            let edge = Edge { size, levels, bundle: bundle.clone() };
            if Some(&edge) != not && !edges.contains(&edge) {
                edges.push(edge);
            }
        }
    }
    Ok(edges)
}

/// What one source has for each index of the partial bundle: the entry's hash, and the entry.
type Source = Vec<(Option<Hash>, Vec<u8>)>;

/// Entries of the partial bundle `n` from everything that could have them.
fn entries(tiles: &TileStore, journal: &Path, n: u64, wanted: usize) -> Result<Vec<Source>, Error> {
    let source = |leaves: &mut dyn Iterator<Item = Option<Vec<u8>>>| -> Source {
        let mut source: Source =
            leaves.take(wanted).map(|leaf| (leaf.as_deref().map(leaf_hash), leaf.unwrap_or_default())).collect();
        source.resize(wanted, (None, Vec::new()));
        source
    };
    let mut sources = Vec::new();
    for path in widths(&tiles.disk, &tiles.dir.join(bundle_path(n, WIDTH)))? {
        let bytes = tiles.disk.read(&path)?;
        sources.push(source(&mut split_prefix(&bytes).0.into_iter().map(|leaf| Some(leaf.to_vec()))));
    }
    if let Some(first) = segments(&tiles.disk, journal)?.first() {
        let groups = scan(&tiles.disk, journal, first.first)?.groups;
        let leaf = |index| groups.iter().find_map(|group| group.leaf(index)).map(<[u8]>::to_vec);
        sources.push(source(&mut (n * WIDTH..).map(leaf)));
    }
    Ok(sources)
}

/// The first hashes of every file of the level-0 tile `n` that has so many.
fn hash_tiles(tiles: &TileStore, n: u64, wanted: usize) -> Result<Vec<Vec<Hash>>, Error> {
    let mut found = Vec::new();
    for path in widths(&tiles.disk, &tiles.dir.join(tile_path(0, n, WIDTH)))? {
        let bytes = tiles.disk.read(&path)?;
        found.extend(bytes.as_chunks::<32>().0.get(..wanted).map(<[Hash]>::to_vec));
    }
    Ok(found)
}

/// The full file and all partial ones that there are.
fn widths(disk: &Disk, full: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut partials = full.to_owned().into_os_string();
    partials.push(".p");
    let partials = PathBuf::from(partials);
    let names = disk.list(&partials)?.into_iter().filter(|name| name.parse::<u64>().is_ok());
    let mut paths: Vec<PathBuf> = names.map(|name| partials.join(name)).collect();
    if disk.len(full)?.is_some() {
        paths.push(full.to_owned());
    }
    Ok(paths)
}

/// For each hash an entry that has it.
fn choose(sources: &[Source], hashes: &[Hash]) -> Option<Vec<Vec<u8>>> {
    let of = |(i, hash): (usize, &Hash)| {
        let mut all = sources.iter().map(|source| &source[i]);
        all.find(|(has, _)| has.as_ref() == Some(hash)).map(|(_, entry)| entry.clone())
    };
    hashes.iter().enumerate().map(of).collect()
}

/// A level's partial tile from the full tiles of the level below.
fn made_again(tiles: &TileStore, size: u64, level: u8) -> Option<Vec<Hash>> {
    let (n, width) = place(size, level.into());
    (n * WIDTH..n * WIDTH + width)
        .map(|below| tiles.tile(level - 1, below, WIDTH).ok().map(|hashes| root_over(&hashes)))
        .collect()
}
