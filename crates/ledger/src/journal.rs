//! Segments of the journal: their names, the next one, and reading them again (docs/formats/journal.md).

use crate::durable::{Disk, is_zero};
use crate::error::Error;
use crate::group::{Group, PAGE};
use crate::payload::random;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"CFLSEG01";
/// Name of the segment that is made ahead.
pub(crate) const SPARE: &str = "spare";

/// A segment with room for nothing but its first page and one more.
pub(crate) const SMALLEST: u64 = 2 * PAGE as u64;
/// Size of a segment that somebody waits for.
pub(crate) const QUICK: u64 = 4 << 20;

/// A segment file, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) generation: u64,
    pub(crate) path: PathBuf,
}

fn segment_name(first: u64, generation: u64) -> String {
    format!("{first:020}-{generation:08}.seg")
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (first, generation) = name.strip_suffix(".seg")?.split_once('-')?;
    let (first, generation) = (first.parse().ok()?, generation.parse().ok()?);
    (segment_name(first, generation) == name).then_some((first, generation))
}

/// Whether this is the name of a segment.
pub(crate) fn is_segment(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).and_then(parse_name).is_some()
}

/// All segments in order.
pub(crate) fn segments(disk: &Disk, dir: &Path) -> Result<Vec<Segment>, Error> {
    let mut list: Vec<Segment> = disk
        .list(dir)?
        .into_iter()
        .filter_map(|name| {
            parse_name(&name).map(|(first, generation)| Segment { first, generation, path: dir.join(name) })
        })
        .collect();
    list.sort_unstable();
    Ok(list)
}

/// Makes the next segment ahead. It gets its name when it is begun.
pub(crate) fn make_spare(disk: &Disk, dir: &Path, len: u64) -> Result<(), Error> {
    let mut page = Vec::with_capacity(20);
    page.extend_from_slice(MAGIC);
    let mut nonce = [0; 8];
    random(&mut nonce)?;
    page.extend_from_slice(&nonce);
    page.extend_from_slice(&crc32c::crc32c(&page).to_le_bytes());
    let tmp = dir.join("spare.tmp");
    disk.make_zeroed(&tmp, &page, len)?;
    disk.rename(&tmp, &dir.join(SPARE))?;
    disk.sync_dir(dir)
}

/// The nonce in page 0 of a segment, if the page is sound.
pub(crate) fn nonce(segment: &[u8]) -> Option<[u8; 8]> {
    let page = segment.get(..PAGE)?;
    let sound =
        &page[..8] == MAGIC && page[16..20] == crc32c::crc32c(&page[..16]).to_le_bytes() && is_zero(&page[20..]);
    sound.then(|| page[8..16].try_into().expect("8 bytes"))
}

/// A segment that is being written.
pub(crate) struct Active {
    pub(crate) file: crate::durable::SegmentFile,
    pub(crate) nonce: [u8; 8],
    /// Where the next group goes.
    pub(crate) at: u64,
    pub(crate) len: u64,
}

/// Opens the spare and gives it its name, which is durable before anything is acknowledged in it. In this order an error that
/// passes has changed nothing, and the same can be tried again.
pub(crate) fn begin(disk: &Disk, dir: &Path, first: u64, generation: u64) -> Result<Active, Error> {
    let spare = dir.join(SPARE);
    let (len, page) = disk.read_start(&spare, PAGE)?;
    let nonce = nonce(&page).ok_or_else(|| Error::damaged(&spare, "its first page is wrong"))?;
    let path = dir.join(segment_name(first, generation));
    let mut file = disk.open_segment(&spare)?;
    disk.rename(&spare, &path)?;
    file.is_now(&path);
    disk.sync_dir(dir)?;
    Ok(Active { file, nonce, at: PAGE as u64, len })
}

/// What reading the journal has found besides groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The last write did not complete; it was never acknowledged.
    Torn { path: PathBuf, offset: u64, bytes: u64, index: u64 },
    /// Something that was complete is not any more. `lost` entries from `first` on cannot be read here; it can be none.
    Damage { path: PathBuf, offset: u64, first: u64, lost: u64 },
}

/// The readable part of the journal.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) groups: Vec<Group>,
    pub(crate) findings: Vec<Finding>,
    /// First entry of the first segment that was read, if there is one.
    pub(crate) first: Option<u64>,
    /// Index after the last entry.
    pub(crate) next: u64,
    /// The highest generation in use.
    pub(crate) generation: u64,
}

/// Reads the journal from the segment that holds entry `from` on.
pub(crate) fn scan(disk: &Disk, dir: &Path, from: u64) -> Result<Scan, Error> {
    let all = segments(disk, dir)?;
    let start = all.iter().rposition(|segment| segment.first <= from);
    let Some(start) = start else {
        return Err(Error::damaged(dir, format!("no journal segment holds entry {from}")));
    };
    let mut scan = Scan {
        first: Some(all[start].first),
        next: all[start].first,
        generation: all.iter().map(|segment| segment.generation).max().unwrap_or(0),
        ..Scan::default()
    };
    for (i, segment) in all.iter().enumerate().skip(start) {
        let bytes = SegmentBytes::read(disk, &segment.path)?;
        scan.segment(segment, &bytes, all.get(i + 1).map(|next| next.first));
    }
    Ok(scan)
}

/// What is in a segment's file.
pub(crate) struct SegmentBytes {
    bytes: Vec<u8>,
    /// From here on all bytes are zero.
    used: usize,
}

impl SegmentBytes {
    /// Reads the file. A segment that was just begun is nearly all zeros: memory for these is never touched.
    pub(crate) fn read(disk: &Disk, path: &Path) -> Result<Self, Error> {
        let len = usize::try_from(disk.len(path)?.unwrap_or(0)).unwrap_or(usize::MAX);
        // Asked first: what is longer than memory is an error and not the end of the process.
        let room = Vec::<u8>::new().try_reserve_exact(len);
        room.map_err(|_| Error::io("read", path)(std::io::ErrorKind::OutOfMemory.into()))?;
        let (mut bytes, mut at, mut used) = (vec![0; len], 0, 0);
        disk.read_pieces(path, |piece| {
            let end = at + piece.len();
            bytes.resize(bytes.len().max(end), 0);
            if !is_zero(piece) {
                bytes[at..end].copy_from_slice(piece);
                used = end;
            }
            at = end;
        })?;
        bytes.truncate(at);
        Ok(Self { bytes, used })
    }
}

/// Reads the whole journal while another process may write to it: segments can vanish between listing and reading, and a group
/// can become visible after the one behind it. So what looks wrong is looked at again.
pub(crate) fn scan_live(disk: &Disk, dir: &Path) -> Result<Scan, Error> {
    const TRIES: usize = 5;
    let once = || {
        let first = segments(disk, dir)?.first().map_or(0, |segment| segment.first);
        scan(disk, dir, first)
    };
    let mut result = once();
    for _ in 1..TRIES {
        let again = match &result {
            Ok(scan) => scan.findings.iter().any(|finding| matches!(finding, Finding::Damage { .. })),
            Err(_) => true,
        };
        if !again {
            break;
        }
        result = once();
    }
    result
}

impl Scan {
    /// Reads one segment; `next_first` is where the next one begins.
    pub(crate) fn segment(&mut self, segment: &Segment, read: &SegmentBytes, next_first: Option<u64>) {
        let SegmentBytes { bytes, used } = read;
        let damage = |offset: usize, first: u64, lost: u64| Finding::Damage {
            path: segment.path.clone(),
            offset: offset as u64,
            first,
            lost,
        };
        let nonce = nonce(bytes).unwrap_or_else(|| {
            // The groups carry the nonce too.
            self.findings.push(damage(0, self.next, 0));
            bytes.get(PAGE + 8..PAGE + 16).and_then(|nonce| nonce.try_into().ok()).unwrap_or_default()
        });
        let mut at = PAGE;
        let mut before: Option<u32> =
            self.groups.last().filter(|group| group.generation == segment.generation).map(|group| group.crc);
        let mut end = at;
        while at < *used {
            let group = Group::parse(bytes, at, nonce)
                .filter(|group| group.generation == segment.generation && group.first >= self.next);
            let Some(group) = group else {
                at += PAGE;
                continue;
            };
            if next_first.is_some_and(|limit| group.first >= limit) {
                // A later opening did not see this group and began anew at its index; it has said so then.
                return;
            }
            let broken = end == at && before.is_some_and(|crc| crc != group.previous());
            if end != at || group.first != self.next || broken {
                self.findings.push(damage(end, self.next, group.first - self.next));
            }
            at += group.bytes().len();
            end = at;
            before = Some(group.crc);
            self.next = group.end();
            self.groups.push(group);
        }
        match next_first {
            Some(limit) if limit > self.next => {
                self.findings.push(damage(end, self.next, limit - self.next));
                self.next = limit;
            }
            Some(_) => {}
            None => {
                let rest = bytes.get(end..*used).unwrap_or_default();
                if let Some(last) = rest.iter().rposition(|&byte| byte != 0) {
                    self.findings.push(Finding::Torn {
                        path: segment.path.clone(),
                        offset: end as u64,
                        bytes: last as u64 + 1,
                        index: self.next,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupBuilder;
    use crate::simulated::SimDisk;
    use std::sync::Arc;

    /// A segment of three groups of two entries each; the middle one has two pages.
    fn journal() -> (Disk, PathBuf, PathBuf) {
        let disk = Disk::Simulated(Arc::new(SimDisk::default()));
        let dir = PathBuf::from("/j");
        make_spare(&disk, &dir, 64 * 1024).unwrap();
        let mut active = begin(&disk, &dir, 0, 1).unwrap();
        let mut crc = 0;
        for i in 0..3u64 {
            let mut builder =
                GroupBuilder::new(active.nonce, 1, i * 2, crc, "2026-11-24T12:00:00.000000Z".to_owned(), i, Vec::new());
            let body = vec![b'x'; if i == 1 { 2500 } else { 10 }];
            builder.push(&[body.clone(), body], None, None);
            let group = builder.finish();
            active.file.write_at(active.at, group.bytes()).unwrap();
            active.at += group.bytes().len() as u64;
            crc = group.crc;
        }
        active.file.sync().unwrap();
        let path = dir.join(segment_name(0, 1));
        (disk, dir, path)
    }

    fn corrupt(disk: &Disk, path: &Path, offset: usize) {
        let Disk::Simulated(sim) = disk else { unreachable!() };
        sim.corrupt(path, offset, 4);
    }

    #[test]
    fn a_sound_journal_has_no_findings() {
        let (disk, dir, _) = journal();
        let scan = scan(&disk, &dir, 3).unwrap();
        assert_eq!((scan.groups.len(), scan.next, scan.generation), (3, 6, 1));
        assert_eq!(scan.findings, []);
    }

    #[test]
    fn a_bad_last_group_is_torn() {
        let (disk, dir, path) = journal();
        corrupt(&disk, &path, PAGE * 4 + 100);
        let scan = scan(&disk, &dir, 0).unwrap();
        assert_eq!(scan.next, 4);
        assert!(matches!(scan.findings[..], [Finding::Torn { offset: 16384, index: 4, .. }]));
    }

    #[test]
    fn a_bad_group_before_a_good_one_is_damage() {
        let (disk, dir, path) = journal();
        corrupt(&disk, &path, PAGE * 3);
        let scan = scan(&disk, &dir, 0).unwrap();
        assert_eq!(scan.next, 6);
        assert_eq!(scan.findings, [Finding::Damage { path, offset: 8192, first: 2, lost: 2 }]);
    }

    #[test]
    fn a_bad_first_page_is_damage_that_loses_nothing() {
        let (disk, dir, path) = journal();
        corrupt(&disk, &path, 9);
        let scan = scan(&disk, &dir, 0).unwrap();
        assert_eq!((scan.groups.len(), scan.next), (3, 6));
        assert_eq!(scan.findings, [Finding::Damage { path, offset: 0, first: 0, lost: 0 }]);
    }

    #[test]
    fn a_later_opening_decides_where_a_segment_ends() {
        let (disk, dir, path) = journal();
        corrupt(&disk, &path, PAGE * 4 + 100);
        make_spare(&disk, &dir, 64 * 1024).unwrap();
        begin(&disk, &dir, 4, 2).unwrap();
        let cut = scan(&disk, &dir, 0).unwrap();
        assert_eq!((cut.next, cut.findings), (4, vec![]));
        // What was cut reads well again: it stays cut, and its index belongs to the later segment.
        corrupt(&disk, &path, PAGE * 4 + 100);
        let cut = scan(&disk, &dir, 0).unwrap();
        assert_eq!((cut.next, cut.findings), (4, vec![]));
        make_spare(&disk, &dir, 64 * 1024).unwrap();
        begin(&disk, &dir, 9, 3).unwrap();
        assert!(matches!(scan(&disk, &dir, 0).unwrap().findings[..], [Finding::Damage { first: 4, lost: 5, .. }]));
    }
}
