//! The rolling self-check of a server: round after round, every sealed entry and every stored payload is read again and
//! compared with what was signed (`ledger::Ledger::recheck`), at a bounded rate. What it finds is logged, counted, shown by
//! `doctor`, and becomes an entry.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ledger::{Damage, Ledger, Rechecked};
use model::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{config::keep::SelfCheck, desk::Desk, intake::now, own};

/// So often the state is written while a round goes on; as much is read again after a crash.
const SAVE: Duration = Duration::from_secs(5);

/// How far the self-check is. Kept in `derived/selfcheck.json`; lost, a round begins anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Rounds that have ended.
    pub rounds: u64,
    /// When the last of them ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// When the round that goes on began, or the last one.
    pub began: Time,
    /// Whether a round goes on.
    pub running: bool,
    /// Entries of this round's checkpoint.
    pub size: u64,
    /// The entry with which it goes on.
    pub next: u64,
    /// Entries that were proved in this round.
    pub entries: u64,
    /// Payloads that fit their commitment.
    pub payloads: u64,
    /// Payloads that were pruned as entries say.
    pub pruned: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Things that are not as they were signed.
    pub damaged: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_damage: Option<Found>,
}

/// Something that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// The first entry concerned.
    pub entry: u64,
    /// The file, as seen from the ledger's folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub detail: String,
}

impl State {
    fn path(data: &Path) -> PathBuf {
        data.join("derived").join("selfcheck.json")
    }

    /// Reads it; none if there was no self-check yet, or it cannot be read.
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data)).ok()?).ok()
    }

    fn write(&self, data: &Path) -> Result<()> {
        let path = Self::path(data);
        let new = path.with_extension("json.tmp");
        fs::create_dir_all(data.join("derived")).with_context(|| format!("create {}", data.display()))?;
        fs::write(&new, serde_json::to_vec(self)?).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("rename {}", new.display()))
    }

    /// A new round.
    fn begin(&mut self, at: Time) {
        *self = Self { rounds: self.rounds, ended: self.ended, began: at, running: true, ..Self::default() };
    }

    /// Takes a step's outcome in. True when it is the first damage of the round.
    fn add(&mut self, step: &Rechecked, ledger: &Path) -> bool {
        self.entries += step.entries;
        self.payloads += step.payloads;
        self.pruned += step.pruned;
        self.bytes += step.bytes;
        self.damaged += step.damage.len() as u64;
        let first = step.damage.first().filter(|_| self.first_damage.is_none());
        self.first_damage = self.first_damage.take().or_else(|| first.map(|damage| found(damage, ledger)));
        first.is_some()
    }

    fn of_round(&self) -> String {
        format!(
            "{} entries and {} payloads ({} bytes) were read again and are as they were signed; {} payloads are pruned; {} \
             damaged",
            self.entries, self.payloads, self.bytes, self.pruned, self.damaged
        )
    }
}

fn found(damage: &Damage, ledger: &Path) -> Found {
    let file = damage.path.strip_prefix(ledger).unwrap_or(&damage.path).to_owned();
    Found { entry: damage.entry, file, detail: damage.detail.clone() }
}

/// The self-check of one server.
pub struct Checker {
    data: PathBuf,
    config: SelfCheck,
    desk: Arc<Desk>,
    ledger: Arc<Ledger>,
    state: State,
    saved: Instant,
}

impl Checker {
    /// Goes on where the last process was.
    pub fn new(data: &Path, config: &SelfCheck, desk: Arc<Desk>, ledger: Arc<Ledger>) -> Self {
        let state = State::read(data).unwrap_or_default();
        Self { data: data.to_owned(), config: config.clone(), desk, ledger, state, saved: Instant::now() }
    }

    /// How long the next round has to wait.
    pub fn wait(&self) -> Duration {
        if self.state.running || self.state.ended.is_none() {
            return Duration::ZERO;
        }
        let every = i64::try_from(self.config.round_seconds).unwrap_or(i64::MAX);
        // Nanoseconds; a clock that was set back must not put it off for longer than a round.
        let left = self.state.began.plus_seconds(every).0.saturating_sub(now().0).max(0);
        Duration::from_nanos(u64::try_from(left).unwrap_or(0)).min(Duration::from_secs(self.config.round_seconds))
    }

    /// Reads until the round is through or `pause`, which is told how long to wait after each step, says to stop.
    pub fn round(&mut self, mut pause: impl FnMut(Duration) -> bool) -> Result<()> {
        if !self.state.running {
            self.state.begin(now());
        }
        let mut round = self.ledger.recheck(self.state.next).context("begin a round of the self-check")?;
        self.state.size = round.size();
        loop {
            let step = self.ledger.recheck_step(&mut round);
            self.state.next = round.next();
            let Some(step) = step.context("read old entries again")? else { break };
            self.took(&step);
            if !pause(Duration::from_secs_f64(self.seconds_for(step.bytes))) {
                self.save();
                return Ok(());
            }
        }
        self.state.running = false;
        self.state.rounds += 1;
        self.state.next = 0;
        self.state.ended = Some(now());
        self.desk.metrics.selfcheck_rounds.inc();
        let round = self.state.of_round();
        tracing::info!(rounds = self.state.rounds, "a round of the self-check has ended: {round}");
        // A round over an empty ledger says nothing.
        if self.state.size > 0 {
            own::note(&self.desk, "checked", format!("a round of the self-check from {}: {round}", self.state.began));
        }
        self.save();
        Ok(())
    }

    fn seconds_for(&self, bytes: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a pause, not an account")]
        let seconds = bytes as f64 / self.config.bytes_per_second.max(1) as f64;
        seconds.min(60.0)
    }

    fn took(&mut self, step: &Rechecked) {
        let metrics = &self.desk.metrics;
        metrics.selfcheck_bytes.inc_by(step.bytes);
        metrics.selfcheck_entries.inc_by(step.entries);
        metrics.selfcheck_damaged.inc_by(step.damage.len() as u64);
        for damage in &step.damage {
            let (entry, file) = (damage.entry, damage.path.display());
            tracing::error!(entry, %file, detail = damage.detail, "the self-check has found damage");
        }
        let first = self.state.add(step, &self.data.join("ledger"));
        if let Some(Found { entry, file, detail }) = self.state.first_damage.clone().filter(|_| first) {
            let detail = format!("the self-check found entry #{entry} damaged in {}: {detail}", file.display());
            own::note(&self.desk, "damaged", detail);
            self.save();
        } else if self.saved.elapsed() >= SAVE {
            self.save();
        }
    }

    /// Trouble is logged only: without the file a round begins anew.
    fn save(&mut self) {
        self.saved = Instant::now();
        if let Err(error) = self.state.write(&self.data) {
            tracing::warn!(error = format!("{error:#}"), "the state of the self-check could not be written");
        }
    }
}
