//! Pruning: payload blocks whose time is over are removed, after an entry that says so (docs/formats/payload.md, "Pruning").
//!
//! The entry is appended first; the sealer lists it in `pruned` when it syncs the tree below it; only then block files go. So
//! a crash leaves at worst files that a listed entry speaks about, and the next pruning removes them without another entry.

use crate::durable::Disk;
use crate::error::{AppendError, Error};
use crate::head::Folder;
use crate::leaf::split_leaf;
use crate::ledger::{Append, Ledger};
use crate::payload::{BlockRow, block_first, block_path, check_word, first_member, read_rows};
use crate::shared::Lane;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the folder's format that pruning needs: readers of the one before take what is pruned for damage.
const NEEDED: u32 = 2;

/// So often a pruning that waits for its checkpoint looks whether it should go on.
const LOOK: Duration = Duration::from_millis(100);

/// What an entry says was pruned: its body's top-level member `pruned`. It speaks about every payload of the class whose append
/// is before the entry and whose stamp is of this UTC day or an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Retention class.
    pub class: String,
    /// The last day, `YYYY-MM-DD`.
    pub through: String,
}

impl Prune {
    /// Whether the class and the day are of the format.
    pub(crate) fn is_sound(&self) -> bool {
        check_word(&self.class).is_ok()
            && NaiveDate::parse_from_str(&self.through, "%Y-%m-%d")
                .is_ok_and(|day| day.format("%Y-%m-%d").to_string() == self.through)
    }

    /// Whether entry `by`, which says this, speaks about the payload of that append.
    pub(crate) fn covers(&self, by: u64, class: &str, day: &str, append: u64) -> bool {
        append < by && class == self.class && day <= self.through.as_str()
    }
}

/// Pruning entries with their index, in order.
pub(crate) type PruneList = Vec<(u64, Prune)>;

/// The first entry below `sealed` that speaks about the payload of that append.
pub(crate) fn covering(list: &[(u64, Prune)], sealed: u64, class: &str, day: &str, append: u64) -> Option<u64> {
    list.iter().find(|(by, prune)| *by < sealed && prune.covers(*by, class, day, append)).map(|(by, _)| *by)
}

/// What a body says was pruned, if it says so.
pub(crate) fn prune_in(body: &[u8]) -> Option<Prune> {
    // Looked for as bytes first: nearly no leaf has it, and this is on the way of every one.
    // An escape may hide it.
    memchr::memmem::find(body, b"pruned").or_else(|| memchr::memmem::find(body, b"\\u"))?;
    first_member(body, "pruned").filter(Prune::is_sound)
}

/// What an entry says was pruned, if it says so.
pub(crate) fn prune_of(leaf: &[u8]) -> Option<Prune> {
    let body = &leaf[memchr::memchr(b'\n', leaf)? + 1..];
    prune_in(body).filter(|_| split_leaf(leaf).is_some())
}

const FIRST_LINE: &str = "counterfoil-pruned/1";

/// The bytes of `pruned`.
pub(crate) fn list_text(list: &[(u64, Prune)]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (by, Prune { class, through }) in list {
        let _ = writeln!(text, "{by} {class} {through}");
    }
    let crc = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text
}

/// Reads `pruned`; a folder in which nothing was pruned has none.
pub(crate) fn read_list(folder: &Folder) -> Result<PruneList, Error> {
    let path = folder.path("pruned");
    let Some(text) = folder.disk.text_if_there(&path)? else { return Ok(PruneList::new()) };
    let line = |line: &str| {
        let mut parts = line.split(' ');
        let (by, class, through) = (parts.next()?.parse().ok()?, parts.next()?.to_owned(), parts.next()?.to_owned());
        Some((by, Prune { class, through })).filter(|(_, prune)| prune.is_sound())
    };
    let list =
        text.lines().skip(1).take_while(|line| !line.starts_with("crc ")).map(line).collect::<Option<PruneList>>();
    // Written again it must be the same bytes: this checks the CRC and everything else at once.
    list.filter(|list| list_text(list) == text).ok_or_else(|| Error::damaged(&path, "its CRC or a line is wrong"))
}

/// The payload blocks of one class and day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadDay {
    /// Retention class.
    pub class: String,
    /// UTC day of `recorded_at`, `YYYY-MM-DD`.
    pub day: String,
    /// Block files.
    pub blocks: u64,
    /// Of these, files whose footer cannot be read; nothing else is known about them, and they are never pruned.
    pub unreadable: u64,
    /// Payloads in the others.
    pub payloads: u64,
    /// Their bytes without salts.
    pub bytes: u64,
    /// Bytes of all files.
    pub disk_bytes: u64,
    /// First entry of the oldest append; none without a readable block.
    pub first: Option<u64>,
    /// First entry of the newest append.
    pub last: Option<u64>,
}

/// A block file as its footer describes it.
struct Listed {
    path: PathBuf,
    disk_bytes: u64,
    /// None: the footer cannot be read.
    rows: Option<Vec<BlockRow>>,
}

fn blocks_of(disk: &Disk, dir: &Path, class: &str, day: &str) -> Result<Vec<Listed>, Error> {
    let mut list = Vec::new();
    for first in disk.list(&dir.join(class).join(day))?.iter().filter_map(|name| block_first(name)) {
        let path = dir.join(block_path(class, day, first));
        match read_rows(disk, &path) {
            Ok((disk_bytes, rows)) => list.push(Listed { path, disk_bytes, rows }),
            // Pruned meanwhile.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(list)
}

/// What lies in blocks, by class and day in order; only rows below `stored` count, as others may not be durable.
pub(crate) fn payload_days(folder: &Folder, stored: u64) -> Result<Vec<PayloadDay>, Error> {
    let dir = folder.path("payload");
    let mut days = Vec::new();
    for class in folder.disk.list(&dir)? {
        for day in folder.disk.list(&dir.join(&class))? {
            let day = day_of_blocks(folder, &class, &day, stored)?;
            days.extend(Some(day).filter(|day| day.blocks > 0));
        }
    }
    Ok(days)
}

fn day_of_blocks(folder: &Folder, class: &str, day: &str, stored: u64) -> Result<PayloadDay, Error> {
    let mut sum = PayloadDay {
        class: class.to_owned(),
        day: day.to_owned(),
        blocks: 0,
        unreadable: 0,
        payloads: 0,
        bytes: 0,
        disk_bytes: 0,
        first: None,
        last: None,
    };
    for block in blocks_of(&folder.disk, &folder.path("payload"), class, day)? {
        match block.rows {
            None => sum.unreadable += 1,
            Some(rows) if rows.iter().any(|row| row.entry >= stored) => continue,
            Some(rows) => {
                sum.payloads += rows.len() as u64;
                sum.bytes += rows.iter().map(|row| u64::from(row.len)).sum::<u64>();
                sum.first = rows.first().map(|row| row.entry).into_iter().chain(sum.first).min();
                sum.last = sum.last.max(rows.last().map(|row| row.entry));
            }
        }
        sum.blocks += 1;
        sum.disk_bytes += block.disk_bytes;
    }
    Ok(sum)
}

/// What a pruning has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The entry that says so; none if there was nothing to prune.
    pub by: Option<u64>,
    /// Block files removed.
    pub blocks: u64,
    /// Payloads in them.
    pub payloads: u64,
    /// Bytes of the files.
    pub disk_bytes: u64,
    /// It was told to stop before it was through; calling again goes on.
    pub stopped: bool,
}

impl Ledger {
    /// What lies in payload blocks, by class and day in order. Payloads that are not stored yet are not counted.
    pub fn payload_days(&self) -> Result<Vec<PayloadDay>, Error> {
        payload_days(&self.shared.folder, self.shared.tail().stored)
    }

    /// Removes the payload blocks that `prune` speaks about. If no entry says so yet, the body that `body` makes of what is
    /// there is appended: its top-level member `pruned` has to be `prune`. Files go only when a checkpoint over it is synced.
    /// Blocks that are not stored yet, or hold a younger payload than the entry, stay. `go_on` is asked while waiting and
    /// between days.
    ///
    /// # Errors
    /// [`Error::PruneUnnamed`]: the body does not say what is to be pruned; nothing was done. [`Error::Failed`]. [`Error::Older`] on
    /// a folder of version 1 that has something to prune.
    pub fn prune(
        &self,
        prune: &Prune,
        body: impl FnOnce(&[PayloadDay]) -> Vec<u8>,
        go_on: impl Fn() -> bool,
    ) -> Result<Pruned, Error> {
        let mut done = Pruned::default();
        let days: Vec<PayloadDay> = self
            .payload_days()?
            .into_iter()
            .filter(|day| day.class == prune.class && day.day <= prune.through && day.payloads > 0)
            .collect();
        let Some(last) = days.iter().filter_map(|day| day.last).max() else { return Ok(done) };
        if self.version() < NEEDED {
            let path = self.shared.folder.path("format");
            return Err(Error::Older { path, version: self.version(), needed: NEEDED, what: "pruning payloads" });
        }
        let listed = self.shared.blocks.prunes();
        let known = listed
            .iter()
            .find(|(by, listed)| days.iter().all(|day| listed.covers(*by, &day.class, &day.day, last)))
            .map(|(by, _)| *by);
        let by = match known {
            Some(by) => by,
            None => match self.append_prune(prune, body(&days))? {
                Some(by) => by,
                None => return Ok(Pruned { stopped: true, ..done }),
            },
        };
        done.by = Some(by);
        while self.shared.wait_tail(LOOK, |tail| tail.synced > by || tail.writer_done).synced <= by {
            if let Some(reason) = self.failure() {
                return Err(Error::Failed { reason });
            }
            if !go_on() {
                return Ok(Pruned { stopped: true, ..done });
            }
        }
        for day in &days {
            if !go_on() {
                return Ok(Pruned { stopped: true, ..done });
            }
            self.remove_day(prune, by, &day.day, &mut done)?;
        }
        Ok(done)
    }

    /// None: the ledger takes nothing now.
    fn append_prune(&self, prune: &Prune, body: Vec<u8>) -> Result<Option<u64>, Error> {
        if prune_in(&body).as_ref() != Some(prune) {
            return Err(Error::PruneUnnamed { class: prune.class.clone(), through: prune.through.clone() });
        }
        match self.append_wait(Append::one(Lane::Own, body)) {
            Ok(receipt) => Ok(Some(receipt.first)),
            Err(AppendError::Busy(_)) => Ok(None),
            Err(error) => Err(Error::Failed { reason: error.to_string().into() }),
        }
    }

    fn remove_day(&self, prune: &Prune, by: u64, day: &str, done: &mut Pruned) -> Result<(), Error> {
        let (disk, dir) = (&self.shared.folder.disk, self.shared.folder.path("payload"));
        let stored = self.shared.tail().stored;
        for block in blocks_of(disk, &dir, &prune.class, day)? {
            let Some(rows) = block.rows else { continue };
            if rows.iter().all(|row| row.entry < stored && prune.covers(by, &prune.class, day, row.entry)) {
                // Not synced: a file that comes back is one that the entry speaks about.
                disk.remove(&block.path)?;
                done.blocks += 1;
                done.payloads += rows.len() as u64;
                done.disk_bytes += block.disk_bytes;
            }
        }
        disk.remove_empty_dir(&dir.join(&prune.class).join(day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pruning_speaks_about_its_class_its_days_and_what_was_before_it() {
        let prune = Prune { class: "lines".into(), through: "2026-11-17".into() };
        assert!(prune.is_sound());
        assert!(prune.covers(9, "lines", "2026-11-17", 8));
        assert!(prune.covers(9, "lines", "2025-12-31", 0));
        assert!(!prune.covers(9, "lines", "2026-11-18", 8));
        assert!(!prune.covers(9, "events", "2026-11-17", 8));
        assert!(!prune.covers(9, "lines", "2026-11-17", 9));
        for through in ["2026-11-31", "2026-1-1", "9", "", "+2026-11-17", "2026-11-17 "] {
            assert!(!Prune { class: "lines".into(), through: through.into() }.is_sound(), "{through:?}");
        }
    }
}
