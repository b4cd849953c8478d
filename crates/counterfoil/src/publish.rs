//! Handing checkpoints out: to witnesses, who cosign them, to places that keep them, and to a time-stamping authority.
//!
//! Whoever holds the folder and the key can rewrite both; what somebody else holds they cannot. One thread does this, beside
//! everything else: it looks at the ledger's latest checkpoint and nothing waits for it. Only the newest checkpoint is handed
//! out, to one place after the other, each at its own pace (`pace`); what is known about them is in `outside`, for `doctor`,
//! `/metrics` and the entries that say when the ledger became unwitnessed and when that ended.

pub mod http;
pub mod outside;
pub mod pace;
pub mod s3;
pub mod target;
pub mod timestamp;
pub mod witness;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ledger::{Ledger, Policy};

use crate::{config::Config, desk::Desk, intake::now, own};
use http::Http;
use outside::{Kind, Outside, Turn};
use pace::Pace;
use target::Target;
use timestamp::Timestamps;
use witness::Witnesses;

/// Time between two looks at the latest checkpoint.
pub const PERIOD: Duration = Duration::from_millis(200);

/// How long one place may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long all of them together may take at the end of the process.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// A place that is so many periods late is behind.
const LATE: u32 = 3;

/// Why a place did not take a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Trouble {
    /// A word of a closed set, which may stand in an entry.
    pub reason: &'static str,
    /// Details, for the log and `doctor`.
    pub detail: String,
}

impl Trouble {
    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A checkpoint to hand out.
#[derive(Clone, Debug)]
pub struct Latest {
    /// As signed by the log.
    pub note: Arc<str>,
    /// Its size.
    pub size: u64,
}

impl Latest {
    /// Of a signed checkpoint; none if the tree is empty.
    pub fn of(note: Arc<str>) -> Option<Self> {
        let size = note.lines().nth(1)?.parse().ok().filter(|size| *size > 0)?;
        Some(Self { note, size })
    }

    /// Name of this checkpoint wherever several are kept. No two checkpoints of a log have the same one, so that nothing has
    /// to be overwritten; the size is padded, so that the order of names is that of time.
    pub fn key(&self) -> String {
        let origin = self.note.lines().next().unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
        format!("{}/checkpoint-{:020}", origin.chars().map(plain).collect::<String>(), self.size)
    }
}

/// A place and its pace.
struct Hand {
    target: Target,
    pace: Pace,
    /// Its line in `outside`.
    line: usize,
}

/// Hands checkpoints out.
pub struct Publisher {
    desk: Arc<Desk>,
    outside: Arc<Outside>,
    http: Http,
    witnesses: Option<Witnesses>,
    hands: Vec<Hand>,
}

impl Publisher {
    /// What the configuration asks for; none if it asks for nothing.
    pub fn new(config: &Config, desk: &Arc<Desk>, outside: &Arc<Outside>) -> Result<Option<Self>> {
        let witnesses = match &config.witness.policy {
            None => None,
            Some(path) => {
                let policy = read_policy(path)?;
                Some(Witnesses::new(policy, &config.witness, cosigned_path(&config.data), outside))
            }
        };
        let hand = |target: Target, seconds: u64| {
            let every = Duration::from_secs(seconds);
            let line = outside.add(target.kind(), target.name(), every * LATE);
            Hand { target, pace: Pace::new(every), line }
        };
        let targets = Target::all(&config.publish)?.into_iter();
        let mut hands: Vec<Hand> = targets.map(|target| hand(target, config.publish.every_seconds)).collect();
        if let Some(url) = &config.timestamp.url {
            let target = Target::Timestamp(Timestamps::new(url, &config.data));
            hands.push(hand(target, config.timestamp.every_seconds));
        }
        if witnesses.is_none() && hands.is_empty() {
            return Ok(None);
        }
        let (desk, outside) = (Arc::clone(desk), Arc::clone(outside));
        Ok(Some(Self { desk, outside, http: Http::new(), witnesses, hands }))
    }

    /// Hands out until the ledger is closed, and then its last checkpoint.
    pub fn run(&mut self, ledger: &Ledger, closed: &AtomicBool) {
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.open(ledger, &self.outside);
        }
        loop {
            let ending = closed.load(Ordering::Acquire);
            if let Some(latest) = Latest::of(ledger.checkpoint()) {
                self.round(ledger, &latest, ending);
            }
            if ending {
                return;
            }
            thread::sleep(PERIOD);
        }
    }

    fn round(&mut self, ledger: &Ledger, latest: &Latest, ending: bool) {
        let end = Instant::now() + LAST_PATIENCE;
        let patience = || if ending { end.saturating_duration_since(Instant::now()) } else { PATIENCE };
        self.outside.newest(latest.size, now());
        let mut best = latest.clone();
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.round(&self.http, ledger, latest, &self.outside, ending, &patience);
            // With its cosignatures, where they are there already.
            best.note = self.outside.cosigned().filter(|of| of.size == latest.size).map_or(best.note, |of| of.note);
        }
        for hand in &mut self.hands {
            let due = hand.pace.is_due(Instant::now(), ending);
            if !due || self.outside.size(hand.line) >= Some(latest.size) || patience().is_zero() {
                continue;
            }
            let outcome = hand.target.hand(&self.http, &best, patience());
            hand.pace.tried(Instant::now(), outcome.is_ok());
            self.outside.tried(hand.line, latest.size, outcome);
        }
        for turn in self.outside.turns(now()) {
            self.tell(&turn, ending);
        }
        self.outside.measure(&self.desk.metrics, now());
    }

    /// Says that a place is behind, or not any more: an entry, except at the end, when nothing can be appended.
    fn tell(&self, turn: &Turn, ending: bool) {
        let (what, detail) = match (turn.kind, turn.behind) {
            (Kind::Quorum, false) => ("witnessed", format!("{} entries have the quorum of the policy", turn.size)),
            (Kind::Quorum, true) => ("unwitnessed", format!("{} entries have the quorum of the policy", turn.size)),
            (kind, false) => ("published", format!("{} {:?} has {} entries", kind.as_str(), turn.name, turn.size)),
            (kind, true) => ("unpublished", format!("{} {:?} has {} entries", kind.as_str(), turn.name, turn.size)),
        };
        let since = turn.since.map(|since| format!(", no newer checkpoint since {since}")).unwrap_or_default();
        let why = turn.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        if turn.behind {
            tracing::warn!(what, "{detail}{since}{why}");
        } else {
            tracing::info!(what, "{detail}");
        }
        if !ending {
            own::outside(&self.desk, what, format!("{detail}{since}{why}"));
        }
    }
}

/// Where the newest cosigned checkpoint is kept (docs/formats/folder.md).
pub fn cosigned_path(data: &Path) -> PathBuf {
    data.join("published").join("cosigned")
}

/// Reads a policy file.
pub fn read_policy(path: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read policy {}", path.display()))?;
    Policy::parse(&text).with_context(|| format!("policy {}", path.display()))
}
