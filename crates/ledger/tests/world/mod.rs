//! A ledger at work on a simulated disk, and what was promised about it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use ledger::{
    Append, AppendError, Busy, Checkpoint, Config, Disk, Error, Lane, Ledger, Notice, Opened, Operation, Outcome,
    Payload, Position, SimDisk, VerifyOptions, split_leaf, verify, verify_consistency,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long something may take that happens by itself.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) sim: Arc<SimDisk>,
    pub(crate) config: Config,
    /// Index and body of everything that was acknowledged.
    pub(crate) acknowledged: BTreeMap<u64, Vec<u8>>,
    pub(crate) payloads: BTreeMap<u64, Vec<u8>>,
    pub(crate) positions: BTreeMap<String, String>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) tried: u64,
    /// Appends that the disk refused since the ledger was opened last, and what it has told since.
    pub(crate) refused: u64,
    pub(crate) notices: Option<Receiver<Notice>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let sim = Arc::new(SimDisk::default());
        let mut config = Config::new("/data");
        config.disk = Disk::Simulated(Arc::clone(&sim));
        config.limits.segment_bytes = 64 << 10;
        config.limits.reserve_bytes = 4096;
        config.limits.seal_every_ms = 1;
        config.limits.sync_every_ms = 4;
        config.limits.store_every_ms = 9;
        Self {
            sim,
            config,
            acknowledged: BTreeMap::new(),
            payloads: BTreeMap::new(),
            positions: BTreeMap::new(),
            checkpoints: Vec::new(),
            tried: 0,
            refused: 0,
            notices: None,
        }
    }

    fn see(&mut self, log: &Ledger) {
        let key = log.vkeys()[0].parse().unwrap();
        let checkpoint = Checkpoint::verify(&log.checkpoint(), [&key]).unwrap();
        if self.checkpoints.last() != Some(&checkpoint) {
            self.checkpoints.push(checkpoint);
        }
    }

    /// Appends until the ledger stops or `rounds` are over. Everything that is acknowledged is noted.
    pub(crate) fn work(&mut self, log: &Ledger, rounds: u64) {
        for _ in 0..rounds {
            self.tried += 1;
            let n = self.tried;
            let big = n.is_multiple_of(7);
            let payload =
                big.then(|| Payload::new(vec![b'r'; 3000 + usize::try_from(n).unwrap()], "raw", "identity").unwrap());
            let parts = if n.is_multiple_of(6) { 70 } else { 1 + n % 3 };
            let bodies: Vec<Vec<u8>> = (0..parts)
                .map(|i| {
                    serde_json::json!({"n": n, "i": i, "payload": payload.as_ref().map(Payload::reference)})
                        .to_string()
                        .into_bytes()
                })
                .collect();
            let position =
                (n.is_multiple_of(5)).then(|| Position { source: format!("s{}", n % 2), position: n.to_string() });
            let raw = payload.as_ref().map(|payload| payload.bytes().to_vec());
            let append = Append { lane: Lane::Push, bodies: bodies.clone(), payload, position: position.clone() };
            let receipt = match log.append_wait(append) {
                Ok(receipt) => receipt,
                Err(AppendError::Busy(Busy::Space | Busy::ReadOnly)) => {
                    self.refused += 1;
                    continue;
                }
                Err(_) => return,
            };
            self.acknowledged.extend((receipt.first..).zip(bodies));
            self.payloads.extend(raw.map(|raw| (receipt.first, raw)));
            self.positions.extend(position.map(|position| (position.source, position.position)));
            if n.is_multiple_of(4) {
                log.wait_sealed(receipt.last, Duration::from_secs(5));
            }
            self.see(log);
        }
    }

    /// Opens, and checks that nothing is lost and nothing contradicted.
    pub(crate) fn check(&mut self) -> Option<Ledger> {
        let log = match Ledger::open(&self.config) {
            Ok(Opened { ledger, notices }) => {
                (self.notices, self.refused) = (Some(notices), 0);
                ledger
            }
            Err(error) => {
                assert!(self.sim.is_off() || matches!(error, Error::Io { .. }), "it does not open: {error}");
                return None;
            }
        };
        let mut leaves = Vec::new();
        while let some @ [_, ..] = &log.entries(leaves.len() as u64, 1000).unwrap()[..] {
            leaves.extend_from_slice(some);
        }
        for (index, body) in &self.acknowledged {
            let leaf = usize::try_from(*index).ok().and_then(|index| leaves.get(index));
            let leaf = leaf.unwrap_or_else(|| panic!("entry {index} is lost"));
            assert_eq!(split_leaf(leaf).unwrap().1, body, "entry {index}");
        }
        for (index, raw) in &self.payloads {
            assert_eq!(log.payload(*index).unwrap().as_ref(), Some(raw), "payload {index}");
        }
        for (source, position) in &self.positions {
            // A later append can have survived without having been acknowledged.
            let now: u64 = log.positions()[source].parse().unwrap();
            assert!(now >= position.parse().unwrap());
        }
        let known = self.checkpoints.len();
        self.see(&log);
        let now = self.checkpoints.last().unwrap().clone();
        for old in &self.checkpoints[known.saturating_sub(3)..] {
            let path = log.consistency_proof(old.size, now.size).unwrap();
            assert!(
                old.size == 0 || verify_consistency(old.size, &old.root, now.size, &now.root, &path),
                "{old:?} {now:?}"
            );
        }
        Some(log)
    }

    /// Waits until the ledger has told of all refusals since it was opened. How many gaps it told of.
    pub(crate) fn told(&self) -> u64 {
        let (mut told, mut gaps, mut begun) = (0, 0, None);
        while told < self.refused {
            let notice = self.notices.as_ref().unwrap().recv_timeout(PATIENCE).expect("refusals are told");
            let Notice::Gap { why, since, until, push, pull } = notice else { continue };
            match until {
                None => assert_eq!((begun.replace((why, since)), push, pull), (None, 0, 0)),
                Some(until) => {
                    assert_eq!((begun.take(), pull), (Some((why, since)), 0), "an end without its beginning");
                    assert!(since <= until);
                    gaps += 1;
                    told += push;
                }
            }
        }
        assert_eq!(told, self.refused);
        gaps
    }

    pub(crate) fn verify(&self) {
        let report =
            verify(Path::new("/data"), &VerifyOptions { disk: self.config.disk.clone(), ..VerifyOptions::default() });
        assert_eq!((report.outcome(), report.damaged, report.fillers), (Outcome::Verified, 0, 0), "{report}");
    }
}

pub(crate) fn dice(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |n| {
        // SplitMix64
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// An operation, and the kind of file or folder that it is done to.
pub(crate) type Kind = (Operation, &'static str);

/// What kind of file or folder this is.
pub(crate) fn kind(path: &Path) -> &'static str {
    let path = &path.with_extension(path.extension().filter(|extension| *extension != "tmp").unwrap_or_default());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let inside = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
    let partial = path.parent().and_then(Path::extension).is_some_and(|extension| extension == "p");
    match (name, extension) {
        ("format", _) => "format",
        ("origin", _) => "origin",
        ("vkeys", _) => "vkeys",
        ("head", _) => "head",
        ("checkpoint", _) => "checkpoint",
        ("positions", _) => "positions",
        ("reserve", _) => "reserve",
        ("spare", _) => "spare",
        ("keys", _) => "folder of keys",
        ("journal", _) => "folder of segments",
        ("quarantine", _) => "folder of the quarantine",
        ("data", _) => "data folder",
        ("ledger", _) => "ledger folder",
        (_, "seg") if inside("quarantine") => "quarantined segment",
        (_, "seg") => "segment",
        (_, "skey") => "secret key",
        (_, "blk") => "block",
        (_, "p") => "folder of partials",
        _ if inside("payload") => "folder of blocks",
        _ if partial && inside("entries") => "partial bundle",
        _ if partial => "partial tile",
        _ if inside("entries") && name.parse::<u64>().is_ok() => "bundle",
        _ if inside("tile") && name.len() == 3 => "tile",
        _ if inside("tile") => "folder of tiles",
        _ => panic!("a file of no kind: {}", path.display()),
    }
}
