//! The bytes of one file: as they are, and as they would be without power.

use std::collections::BTreeSet;

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Inode {
    /// These bytes, durable.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { live: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }

    pub(super) fn write(&mut self, from: usize, bytes: &[u8]) {
        let to = from + bytes.len();
        if self.live.len() < to {
            self.live.resize(to, 0);
        }
        self.live[from..to].copy_from_slice(bytes);
        self.unsynced.push((from, bytes.to_vec()));
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.unsynced.clear();
    }

    /// What is left without power.
    pub(super) fn survive(&mut self, chance: &mut impl FnMut(u64) -> u64) {
        if self.unsynced.is_empty() {
            return;
        }
        let grown = self.live.len() - self.durable.len();
        let kept = match chance(3) {
            0 => 0,
            1 => grown,
            _ => usize::try_from(chance(grown as u64 + 1)).unwrap_or(grown),
        };
        let mut after = self.durable.clone();
        after.resize(self.durable.len() + kept, 0);
        let sectors: BTreeSet<usize> = self
            .unsynced
            .iter()
            .flat_map(|(from, bytes)| from / SECTOR..(from + bytes.len()).min(after.len()).div_ceil(SECTOR))
            .collect();
        for sector in sectors {
            let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(after.len()));
            let touching = |(from, bytes): &&(usize, Vec<u8>)| *from < end && start < from + bytes.len();
            let count = self.unsynced.iter().filter(touching).count() as u64;
            let kept = usize::try_from(chance(count + 1)).unwrap_or(usize::MAX);
            for (from, bytes) in self.unsynced.iter().filter(touching).take(kept) {
                let (start, end) = (start.max(*from), end.min(from + bytes.len()));
                after[start..end].copy_from_slice(&bytes[start - from..end - from]);
            }
        }
        self.live = after;
        self.sync();
    }
}
