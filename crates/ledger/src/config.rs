//! What an owner decides: where the ledger is, its limits, and which clock and disk it sees.

use crate::durable::Disk;
use crate::head::Folder;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a ledger is and how it works.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder. The ledger is in its subfolder `ledger`.
    pub dir: PathBuf,
    /// The small trusted file; by default `head` in the data folder. Better on another disk.
    pub head: Option<PathBuf>,
    /// Sizes and times.
    pub limits: Limits,
    /// The file system.
    pub disk: Disk,
    /// Wall clock and monotonic clock.
    pub clock: Clock,
}

impl Config {
    /// A ledger in this data folder, everything else as by default.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), head: None, limits: Limits::default(), disk: Disk::Real, clock: Clock::System }
    }

    pub(crate) fn folder(&self) -> Folder {
        Folder {
            disk: self.disk.clone(),
            dir: self.dir.join("ledger"),
            head: self.head.clone().unwrap_or_else(|| self.dir.join("head")),
        }
    }
}

/// Limits of a ledger. All have defaults; unknown names are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a journal segment. At most half of it can be one append.
    pub segment_bytes: u64,
    /// Bytes that the lane of senders that will not come back may hold unanswered.
    pub push_bytes: usize,
    /// Bytes that the lane of senders that can wait may hold unanswered.
    pub pull_bytes: usize,
    /// At most so long after an entry is committed a checkpoint covers it, in milliseconds.
    pub seal_every_ms: u64,
    /// So often tiles are synced, in milliseconds.
    pub sync_every_ms: u64,
    /// After so many bytes of leaves they are synced earlier, and after so many bytes of journal payloads are stored.
    pub sync_bytes: u64,
    /// So often payload blocks are closed though not full, in milliseconds.
    pub store_every_ms: u64,
    /// Below this share of free disk space, in percent, the lane that can wait is refused.
    pub pause_below_percent: u64,
    /// Below so many free bytes both lanes are refused.
    pub stop_below_bytes: u64,
    /// Size of the reserve file that is given back when both lanes are refused.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            segment_bytes: 64 * MIB,
            push_bytes: 64 << 20,
            pull_bytes: 32 << 20,
            seal_every_ms: 1_000,
            sync_every_ms: 10_000,
            sync_bytes: 64 * MIB,
            store_every_ms: 15 * 60 * 1_000,
            pause_below_percent: 10,
            stop_below_bytes: 512 * MIB,
            reserve_bytes: 64 * MIB,
        }
    }
}

impl Limits {
    /// For a ledger that is small or lives shortly: segments of 4 MiB and no reserve.
    pub fn small() -> Self {
        Self { segment_bytes: 4 << 20, reserve_bytes: 0, ..Self::default() }
    }

    /// The largest append.
    pub fn append_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX).min(32 << 20)
    }

    pub(crate) fn seal_every(&self) -> Duration {
        Duration::from_millis(self.seal_every_ms)
    }

    /// When to try again what the disk has refused, and to look at its space.
    pub(crate) fn again(&self) -> Duration {
        self.seal_every().min(Duration::from_secs(1))
    }
}

/// The clocks that a ledger reads.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Hands that a test moves.
    Manual(Arc<ManualClock>),
}

/// Clocks that stand still until they are set.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_micros: AtomicI64,
    mono_millis: AtomicU64,
}

impl ManualClock {
    /// Sets the wall clock, in microseconds since 1970.
    pub fn set_wall(&self, micros: i64) {
        self.wall_micros.store(micros, Ordering::SeqCst);
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall_micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.mono_millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

/// A clock that began to run.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    clock: Clock,
    start: Instant,
    start_millis: u64,
}

impl Running {
    pub(crate) fn start(clock: &Clock) -> Self {
        let start_millis = match clock {
            Clock::System => 0,
            Clock::Manual(manual) => manual.mono_millis.load(Ordering::SeqCst),
        };
        Self { clock: clock.clone(), start: Instant::now(), start_millis }
    }

    pub(crate) fn wall(&self) -> DateTime<Utc> {
        let micros = match &self.clock {
            Clock::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
            }
            Clock::Manual(manual) => manual.wall_micros.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or_default()
    }

    /// Milliseconds since the start.
    pub(crate) fn millis(&self) -> u64 {
        match &self.clock {
            Clock::System => u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            Clock::Manual(manual) => manual.mono_millis.load(Ordering::SeqCst).saturating_sub(self.start_millis),
        }
    }
}
