//! Groups: the unit that the journal writes and syncs (docs/formats/journal.md). Here are only bytes, no files.

use crate::durable::is_zero;
use crate::leaf::write_leaf;
use crate::payload::Payload;
use std::ops::Range;

/// Groups and segments are made of pages of this size.
pub(crate) const PAGE: usize = 4096;
const MAGIC: &[u8; 8] = b"CFLGRP01";
const HEADER: usize = 64;
const CRC_AT: usize = 60;
const HAS_PAYLOAD: u8 = 1;
const HAS_POSITION: u8 = 2;

/// How far a source has been read, as of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The source's name, the owner's choice; at most 1,024 bytes.
    pub source: String,
    /// Where to go on, the owner's text; at most 4,096 bytes.
    pub position: String,
}

/// A group in memory: as it was written, with the places of its parts.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) first: u64,
    pub(crate) generation: u64,
    pub(crate) crc: u32,
    bytes: Vec<u8>,
    leaves: Vec<Range<usize>>,
    pub(crate) appends: Vec<AppendView>,
}

/// What one append brought besides its leaves.
#[derive(Debug)]
pub(crate) struct AppendView {
    pub(crate) first: u64,
    class: Range<usize>,
    /// Salt ‖ bytes; empty without a payload.
    salted: Range<usize>,
    pub(crate) position: Option<Position>,
}

impl Group {
    /// Index after the last leaf.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// The bytes as written, padded to whole pages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The memory that held it, for another one.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn leaves(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.leaves.iter().map(|range| &self.bytes[range.clone()])
    }

    pub(crate) fn leaf(&self, index: u64) -> Option<&[u8]> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        Some(&self.bytes[self.leaves.get(at)?.clone()])
    }

    /// Retention class and salt ‖ bytes of an append's payload.
    pub(crate) fn payload(&self, append: &AppendView) -> Option<(&str, &[u8])> {
        if append.salted.is_empty() {
            return None;
        }
        Some((std::str::from_utf8(&self.bytes[append.class.clone()]).ok()?, &self.bytes[append.salted.clone()]))
    }

    /// Leaves that come from elsewhere than a journal group.
    pub(crate) fn of_leaves(first: u64, list: &[Vec<u8>]) -> Self {
        let mut bytes = Vec::new();
        let leaves = list
            .iter()
            .map(|leaf| {
                let from = bytes.len();
                bytes.extend_from_slice(leaf);
                from..bytes.len()
            })
            .collect();
        Self { first, generation: 0, crc: 0, bytes, leaves, appends: Vec::new() }
    }

    /// Reads the group that begins at `offset` of a segment, if a valid one does.
    pub(crate) fn parse(segment: &[u8], offset: usize, nonce: [u8; 8]) -> Option<Self> {
        let bytes = segment.get(offset..)?;
        let header = bytes.get(..HEADER)?;
        if &header[..8] != MAGIC || header[8..16] != nonce || header[44..CRC_AT] != [0; 16] {
            return None;
        }
        let mut numbers = Reader { bytes: header, at: 16 };
        let (generation, first, count) = (numbers.u64()?, numbers.u64()?, numbers.u32()?);
        let length = numbers.u32()? as usize;
        // No log has so many entries, and from a larger number one could not count on.
        if first > u64::MAX >> 1 {
            return None;
        }
        let body = bytes.get(HEADER..HEADER + length)?;
        let crc = u32::from_le_bytes(header[CRC_AT..].try_into().ok()?);
        if crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), body) != crc {
            return None;
        }
        let padded = bytes.get(..(HEADER + length).next_multiple_of(PAGE))?;
        if !is_zero(&padded[HEADER + length..]) {
            return None;
        }
        let mut group =
            Self { first, generation, crc, bytes: padded.to_vec(), leaves: Vec::new(), appends: Vec::new() };
        let mut at = HEADER;
        while at < HEADER + length {
            at = group.parse_append(at, HEADER + length)?;
        }
        (group.leaves.len() == count as usize).then_some(group)
    }

    /// CRC field of the group before, as the group's header says.
    pub(crate) fn previous(&self) -> u32 {
        u32::from_le_bytes(self.bytes[40..44].try_into().expect("4 bytes"))
    }

    fn parse_append(&mut self, at: usize, end: usize) -> Option<usize> {
        let first = self.end();
        let mut reader = Reader { bytes: &self.bytes[..end], at };
        let length = reader.u32()? as usize;
        let stop = reader.at.checked_add(length).filter(|&stop| stop <= end)?;
        let count = reader.u32()?;
        let flags = reader.u8()?;
        if count == 0 || flags & !(HAS_PAYLOAD | HAS_POSITION) != 0 {
            return None;
        }
        let mut leaves = Vec::new();
        for _ in 0..count {
            let len = reader.u32()? as usize;
            leaves.push(reader.range(len)?);
        }
        let (mut class, mut salted) = (0..0, 0..0);
        if flags & HAS_PAYLOAD != 0 {
            let len = usize::from(reader.u8()?);
            class = reader.range(len)?;
            let len = usize::from(reader.u8()?);
            reader.range(len)?;
            let len = reader.u32()? as usize;
            salted = reader.range(len.checked_add(32)?)?;
        }
        let mut position = None;
        if flags & HAS_POSITION != 0 {
            position = Some(Position { source: reader.text()?, position: reader.text()? });
        }
        if reader.at != stop {
            return None;
        }
        self.leaves.append(&mut leaves);
        self.appends.push(AppendView { first, class, salted, position });
        Some(stop)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn range(&mut self, len: usize) -> Option<Range<usize>> {
        let range = self.at..self.at.checked_add(len)?;
        self.bytes.get(range.clone())?;
        self.at = range.end;
        Some(range)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let range = self.range(N)?;
        self.bytes[range].try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::from(self.array().map(u16::from_le_bytes)?);
        let range = self.range(len)?;
        String::from_utf8(self.bytes[range].to_vec()).ok()
    }
}

/// Puts a group together.
pub(crate) struct GroupBuilder {
    group: Group,
    time: String,
    tick: u64,
}

fn u32_of(n: usize) -> u32 {
    u32::try_from(n).expect("the writer bounds a group well below 4 GiB")
}

impl GroupBuilder {
    /// Begins a group in an empty buffer. All its leaves get the same time and tick: those at which the writer began it.
    pub(crate) fn new(
        nonce: [u8; 8],
        generation: u64,
        first: u64,
        previous: u32,
        time: String,
        tick: u64,
        mut bytes: Vec<u8>,
    ) -> Self {
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&generation.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&previous.to_le_bytes());
        bytes.resize(HEADER, 0);
        let group = Group { first, generation, crc: 0, bytes, leaves: Vec::new(), appends: Vec::new() };
        Self { group, time, tick }
    }

    /// Adds an append and returns the index of its first leaf. Sizes have been checked when it was queued.
    pub(crate) fn push(&mut self, bodies: &[Vec<u8>], payload: Option<&Payload>, position: Option<Position>) -> u64 {
        let first = self.group.end();
        let count = u32_of(bodies.len());
        let bytes = &mut self.group.bytes;
        let record = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&count.to_le_bytes());
        let flags = if payload.is_some() { HAS_PAYLOAD } else { 0 } | if position.is_some() { HAS_POSITION } else { 0 };
        bytes.push(flags);
        for (i, body) in (1u32..).zip(bodies) {
            let from = bytes.len() + 4;
            bytes.extend_from_slice(&[0; 4]);
            write_leaf(bytes, &self.time, self.tick, first, (i, count), body);
            let len = u32_of(bytes.len() - from);
            bytes[from - 4..from].copy_from_slice(&len.to_le_bytes());
            self.group.leaves.push(from..bytes.len());
        }
        let (mut class, mut salted) = (0..0, 0..0);
        if let Some(payload) = payload {
            let reference = payload.reference();
            let short = |text: &str| u8::try_from(text.len()).expect("a class has at most 32 bytes");
            bytes.push(short(&reference.class));
            class = bytes.len()..bytes.len() + reference.class.len();
            bytes.extend_from_slice(reference.class.as_bytes());
            bytes.push(short(&reference.encoding));
            bytes.extend_from_slice(reference.encoding.as_bytes());
            bytes.extend_from_slice(&u32_of(payload.bytes.len()).to_le_bytes());
            let from = bytes.len();
            bytes.extend_from_slice(&payload.salt);
            bytes.extend_from_slice(&payload.bytes);
            salted = from..bytes.len();
        }
        if let Some(position) = &position {
            for text in [&position.source, &position.position] {
                bytes.extend_from_slice(&u16::try_from(text.len()).expect("checked when it was queued").to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        let len = u32_of(bytes.len() - record - 4);
        bytes[record..record + 4].copy_from_slice(&len.to_le_bytes());
        self.group.appends.push(AppendView { first, class, salted, position });
        first
    }

    /// The finished group.
    pub(crate) fn finish(mut self) -> Group {
        let group = &mut self.group;
        let length = u32_of(group.bytes.len() - HEADER);
        group.bytes[32..36].copy_from_slice(&u32_of(group.leaves.len()).to_le_bytes());
        group.bytes[36..40].copy_from_slice(&length.to_le_bytes());
        group.crc = crc32c::crc32c_append(crc32c::crc32c(&group.bytes[..CRC_AT]), &group.bytes[HEADER..]);
        group.bytes[CRC_AT..HEADER].copy_from_slice(&group.crc.to_le_bytes());
        let padded = group.bytes.len().next_multiple_of(PAGE);
        group.bytes.resize(padded, 0);
        self.group
    }
}

/// An upper bound for the bytes that an append takes in a group.
pub(crate) fn append_bytes(bodies: &[Vec<u8>], payload: Option<&Payload>, position: Option<&Position>) -> usize {
    const STAMP: usize = 140;
    let leaves: usize = bodies.iter().map(|body| body.len() + STAMP + 4).sum();
    let payload = payload.map_or(0, |payload| payload.bytes.len() + 32 + 4 + 66);
    let position = position.map_or(0, |position| position.source.len() + position.position.len() + 4);
    leaves + payload + position + 9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Group {
        let mut builder = GroupBuilder::new(
            *b"nonce-01",
            3,
            41,
            0xAABB_CCDD,
            "2026-11-24T12:00:00.000123Z".to_owned(),
            8123,
            Vec::new(),
        );
        let payload = Payload::with_salt(b"raw bytes".to_vec(), "raw-7d", "identity", [5; 32]).unwrap();
        let bodies = [b"{\"n\":1}".to_vec(), b"{\"n\":2}".to_vec()];
        let position = Position { source: "a.log".to_owned(), position: "991".to_owned() };
        assert_eq!(builder.push(&bodies, Some(&payload), Some(position)), 41);
        assert_eq!(builder.push(&[b"{}".to_vec()], None, None), 43);
        builder.finish()
    }

    #[test]
    fn a_group_comes_back() {
        let group = sample();
        let read = Group::parse(group.bytes(), 0, *b"nonce-01").unwrap();
        assert_eq!((read.first, read.end(), read.generation, read.previous()), (41, 44, 3, 0xAABB_CCDD));
        assert_eq!(read.leaves().collect::<Vec<_>>(), group.leaves().collect::<Vec<_>>());
        let append = &read.appends[0];
        assert_eq!(read.payload(append), Some(("raw-7d", [[5u8; 32].as_slice(), b"raw bytes"].concat().as_slice())));
        assert_eq!(append.position.as_ref().unwrap().source, "a.log");
        assert!(read.payload(&read.appends[1]).is_none());
        assert!(read.leaf(43).unwrap().ends_with(b"\n{}"));
        assert!(Group::parse(group.bytes(), 0, *b"nonce-02").is_none());
    }

    #[test]
    fn the_bound_on_an_appends_size_holds() {
        let payload = Payload::with_salt(vec![1; 77], "c", "e", [5; 32]).unwrap();
        let bodies = vec![vec![b'x'; 10]; 20];
        let mut builder = GroupBuilder::new(
            [0; 8],
            u64::MAX,
            1 << 60,
            0,
            "2026-11-24T12:00:00.000123Z".to_owned(),
            u64::MAX,
            Vec::new(),
        );
        builder.push(&bodies, Some(&payload), None);
        let bound = append_bytes(&bodies, Some(&payload), None);
        assert!(builder.group.bytes.len() - HEADER <= bound);
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let group = sample();
        for bit in 0..group.bytes().len() * 8 {
            let mut bytes = group.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Group::parse(&bytes, 0, *b"nonce-01").is_none(), "bit {bit}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        // The fixture is described in docs/formats/journal.md; it must never change.
        assert_eq!(sample().bytes(), include_bytes!("../tests/fixtures/group.bin"));
    }
}
