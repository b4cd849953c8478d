//! All entries that can be read, for [`crate::accept_rollback`]: entry bundles from the beginning, as far as they agree with
//! their hash tiles, and the journal after them.

use crate::error::Error;
use crate::group::Group;
use crate::head::Folder;
use crate::journal::{Scan, scan, segments};
use crate::merkle::leaf_hash;
use crate::seal::Sealer;
use crate::tiles::{TileStore, WIDTH, bundle_path};

/// Entries `0..len()`.
pub(crate) struct Salvage {
    tiles: TileStore,
    /// Entries that bundles hold.
    in_bundles: u64,
    groups: Vec<Group>,
    len: u64,
}

/// Finds what can be read, and the highest generation of the journal.
pub(crate) fn leaves(folder: &Folder) -> Result<(Salvage, u64), Error> {
    let tiles = TileStore::new(folder.disk.clone(), &folder.dir);
    let mut in_bundles = 0;
    loop {
        let got = sound(&tiles, in_bundles / WIDTH).len() as u64;
        in_bundles += got;
        if got < WIDTH {
            break;
        }
    }
    let journal = folder.journal();
    let scan = match segments(&folder.disk, &journal)?.first() {
        Some(segment) => scan(&folder.disk, &journal, segment.first)?,
        None => Scan::default(),
    };
    let mut len = in_bundles;
    for group in &scan.groups {
        if group.first <= len {
            len = len.max(group.end());
        }
    }
    Ok((Salvage { tiles, in_bundles, groups: scan.groups, len }, scan.generation))
}

/// The entries of a bundle that agree with its hash tile, up to the first that does not.
fn sound(tiles: &TileStore, n: u64) -> Vec<Vec<u8>> {
    let full = tiles.dir.join(bundle_path(n, WIDTH));
    let partials = tiles.dir.join(bundle_path(n, 1));
    let mut widths: Vec<u64> = partials
        .parent()
        .and_then(|dir| tiles.disk.list(dir).ok())
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    if matches!(tiles.disk.read_if_there(&full), Ok(Some(_))) {
        widths.push(WIDTH);
    }
    widths.sort_unstable();
    widths
        .into_iter()
        .map(|width| {
            let (Ok(entries), Ok(hashes)) = (tiles.bundle(n, width), tiles.tile(0, n, width)) else {
                return Vec::new();
            };
            entries
                .into_iter()
                .zip(hashes)
                .take_while(|(entry, hash)| leaf_hash(entry) == *hash)
                .map(|(entry, _)| entry)
                .collect()
        })
        .max_by_key(Vec::len)
        .unwrap_or_default()
}

impl Salvage {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<Vec<u8>> {
        let index = self.len.checked_sub(1)?;
        if index < self.in_bundles {
            return sound(&self.tiles, index / WIDTH).into_iter().nth(usize::try_from(index % WIDTH).ok()?);
        }
        self.groups.iter().find_map(|group| group.leaf(index)).map(<[u8]>::to_vec)
    }

    /// Gives all of them to the sealer, with the payloads and positions that the journal still has.
    pub(crate) fn feed(&self, sealer: &mut Sealer) -> Result<(), Error> {
        for n in 0..self.in_bundles.div_ceil(WIDTH) {
            sealer.ingest(&Group::of_leaves(n * WIDTH, &sound(&self.tiles, n)));
            sealer.write_complete()?;
        }
        for group in self.groups.iter().filter(|group| group.end() <= self.len) {
            sealer.ingest(group);
            sealer.write_complete()?;
        }
        Ok(())
    }
}
