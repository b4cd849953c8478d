//! When what was signed last is lost: all entries that can be read go on under a new origin. These are the entry bundles from
//! the beginning, as far as they agree with their hash tiles, and the journal after them.

use crate::blocks::{Blocks, OVERLAP, remove_torn, set_aside};
use crate::config::{Config, Running};
use crate::error::Error;
use crate::group::Group;
use crate::head::{Folder, KeyLine, KeyList, Signer, new_origin, read_positions, secret_path};
use crate::journal::{self, Scan, make_spare, scan, segments};
use crate::leaf::{MAX_BODY, split_leaf, time_text, write_leaf};
use crate::ledger::{first_head, lock};
use crate::merkle::{self, leaf_hash};
use crate::note::Checkpoint;
use crate::notice::Notice;
use crate::payload::{Block, OpenBlock, block_first};
use crate::seal::{Sealer, Store};
use crate::tiles::{TileStore, WIDTH, bundle_path};
use std::sync::Arc;

/// Restores service when `head` is missing, ahead, or signed other entries: keeps what can be read, goes on under a new origin
/// and key, and appends as the first entry under it the body that `body` makes of the notice ([`Notice::RolledBack`]).
///
/// Reads all entries, so it can take long. Afterwards [`crate::Ledger::open`] works.
///
/// # Errors
/// Those of reading and writing; [`Error::Locked`] while the ledger is open; [`Error::BadOrigin`] also for an origin that this log has had
/// (but not for one that a cut-off call of this function has only written into the list of keys).
pub fn accept_rollback(
    config: &Config,
    origin: Option<&str>,
    body: impl FnOnce(&Notice) -> Vec<u8>,
) -> Result<u64, Error> {
    let folder = config.folder();
    folder.check_format(true)?;
    let _locks = lock(&folder)?;
    let (old_origin, mut list) = (folder.origin()?, KeyList::read(&folder)?);
    let new = new_origin(origin)?;
    // The folder takes the name before anything is signed under it, and the next rollback ends its keys: one that has neither
    // the name nor an end is of this command, cut off, and has signed nothing.
    let is_cut_off = |line: &KeyLine| line.end.is_none() && old_origin != new;
    if list.0.iter().any(|line| line.vkey.name() == new && !is_cut_off(line)) {
        return Err(Error::BadOrigin { origin: new });
    }
    let old_checkpoint = last_checkpoint(&folder, &list)?;
    let (salvage, generation) = leaves(&folder)?;
    let kept = salvage.len();
    let notice = Notice::RolledBack { old_origin, old_checkpoint, new_origin: new.clone(), kept };
    let clock = Running::start(&config.clock);
    let mut leaf = Vec::new();
    let tick = salvage.last().as_deref().and_then(split_leaf).map_or(0, |(stamp, _)| stamp.tick);
    let body = body(&notice);
    if body.len() > MAX_BODY || body.contains(&b'\n') {
        return Err(Error::damaged(
            &folder.dir,
            "the body of the first entry under the new origin is no line of at most 65,400 bytes",
        ));
    }
    write_leaf(&mut leaf, &time_text(clock.wall()), tick, kept, (1, 1), &body);

    // Nothing of the old state is changed in place before the new one is complete, but for tiles, which are made of the same
    // entries again, and payloads of entries that are lost, which are set aside. A crash on the way leaves a folder that still asks for this command.
    set_payloads_aside(&folder, kept)?;
    let size = kept + 1;
    for line in list.0.extract_if(.., |line| line.vkey.name() == new) {
        folder.disk.remove(&folder.path(secret_path(&line.vkey)))?;
    }
    let signer = Signer::create(&folder, &new, size, list)?;
    let blocks = Arc::new(Blocks::default());
    let nothing = first_head(&signer, 0, merkle::empty_root());
    folder.disk.remove(&folder.head)?;
    let (_, positions) = read_positions(&folder).unwrap_or_default();
    let mut sealer = Sealer::load(&folder, signer, nothing, None, blocks, positions, &config.limits)?;
    salvage.feed(&folder, &mut sealer)?;
    sealer.ingest(&Group::of_leaves(kept, &[leaf]));
    folder.disk.write_durably(&folder.path("origin"), format!("{new}\n").as_bytes())?;
    sealer.sync(Store::All)?;
    if config.disk.read_if_there(&folder.journal().join(journal::SPARE))?.is_none() {
        make_spare(&folder.disk, &folder.journal(), config.limits.segment_bytes.min(journal::QUICK))?;
    }
    let old = journal::segments(&folder.disk, &folder.journal())?;
    journal::begin(&folder.disk, &folder.journal(), size, generation + 1)?;
    // What the old journal held and could not be used stays for people.
    let aside = folder.path("quarantine");
    folder.disk.make_dirs(&aside)?;
    for segment in &old {
        folder.disk.rename(&segment.path, &aside.join(segment.path.file_name().unwrap_or_default()))?;
    }
    folder.disk.sync_dir(&aside)?;
    folder.disk.sync_dir(&folder.journal())?;
    Ok(kept)
}

/// The checkpoint that was signed last, as far as anybody can tell: the one in `head`, or the published one. That was not synced,
/// so after a power cut it can hold anything; what is no checkpoint of ours is not named.
fn last_checkpoint(folder: &Folder, keys: &KeyList) -> Result<Option<String>, Error> {
    let text = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let head = text(folder.disk.read_if_there(&folder.head)?);
    let published = text(folder.disk.read_if_there(&folder.path("checkpoint"))?);
    let in_head = head.as_deref().and_then(|head| head.split_once("\n\n")).map(|(_, note)| note);
    let is_ours = |note: &&str| Checkpoint::verify(note, keys.0.iter().map(|line| &line.vkey)).is_ok();
    Ok([in_head, published.as_deref()].into_iter().flatten().find(is_ours).map(str::to_owned))
}

/// Payloads of entries from `kept` on go to `quarantine/`: other entries will have those indices.
fn set_payloads_aside(folder: &Folder, kept: u64) -> Result<(), Error> {
    let (disk, payload) = (&folder.disk, folder.path("payload"));
    for class in disk.list(&payload)? {
        for day in disk.list(&payload.join(&class))? {
            let dir = payload.join(&class).join(&day);
            let mut blocks: Vec<(u64, String)> =
                disk.list(&dir)?.into_iter().filter_map(|name| Some((block_first(&name)?, name))).collect();
            blocks.sort_unstable();
            // Of those that begin below, only the last ones can reach so far.
            let from = blocks.partition_point(|(first, _)| *first < kept).saturating_sub(OVERLAP);
            for (_, name) in &blocks[from..] {
                let path = dir.join(name);
                let bytes = disk.read(&path)?;
                // What cannot be read is damage, which verification tells.
                let Ok(block) = Block::decode(&bytes) else { continue };
                if block.rows().iter().all(|row| row.entry < kept) {
                    continue;
                }
                set_aside(folder, &format!("{class}-{day}-{name}"), &bytes)?;
                let mut rest = OpenBlock::default();
                for row in block.rows().iter().filter(|row| row.entry < kept) {
                    rest.push(row.entry, block.salted(row));
                }
                if rest.first().is_some() {
                    disk.write_durably(&path, &rest.encode())?;
                } else {
                    disk.remove(&path)?;
                    disk.sync_dir(&dir)?;
                }
            }
        }
    }
    Ok(())
}

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
    pub(crate) fn feed(&self, folder: &Folder, sealer: &mut Sealer) -> Result<(), Error> {
        for n in 0..self.in_bundles.div_ceil(WIDTH) {
            sealer.ingest(&Group::of_leaves(n * WIDTH, &sound(&self.tiles, n)));
            sealer.write_complete()?;
        }
        let groups = self.groups.iter().filter(|group| group.end() <= self.len);
        remove_torn(folder, true, groups.clone())?;
        for group in groups {
            sealer.ingest(group);
            sealer.write_complete()?;
        }
        Ok(())
    }
}
