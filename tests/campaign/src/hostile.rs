//! Hostile senders, while honest ones go on: the honest are served within Tekton's patience, and memory stays within its
//! budget.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    attack::Attack,
    book::{Book, read_back},
    honest::{Senders, words},
    http::{self, NoAnswer},
    server::{Memory, Setup},
    table::Table,
};

/// How hard.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Connections of each attack at once.
    pub connections: u64,
    /// Connections that the server may have (`intake.max_connections`). Fewer than those of the attacks, or it is none.
    pub slots: u64,
    /// `intake.memory_bytes`.
    pub memory_bytes: u64,
    /// Events that must be kept while each attack goes on.
    pub events: u64,
    /// Each attack goes on for at least so long.
    pub least: Duration,
    /// The attacks.
    pub attacks: Vec<Attack>,
}

/// What one process may hold beside bodies, connections and the fold (ARCHITECTURE.md, Limits): the ledger's queues, what
/// waits for the sealer, the index writer, and 48 MiB for the program itself.
const BESIDE_BODIES: u64 = (64 + 32 + 4 + 128 + 64 + 48) << 20;

/// Headers of one connection.
const OF_A_CONNECTION: u64 = 64 << 10;

/// What one attack did.
#[derive(Debug)]
pub struct Suffered {
    /// The attack.
    pub attack: Attack,
    /// Attacking connections that were made.
    pub connections: u64,
    /// What they were answered, or why not.
    pub answers: BTreeMap<String, u64>,
    /// What the server counted as refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Honest events kept meanwhile.
    pub kept: u64,
    /// Honest events given up.
    pub lost: BTreeMap<String, u64>,
    /// Slowest honest delivery.
    pub slowest: Duration,
    /// Most memory: resident and anonymous.
    pub memory: Memory,
}

/// All attacks.
#[derive(Debug)]
pub struct Report {
    /// One by one.
    pub attacks: Vec<Suffered>,
    /// Most anonymous memory that is allowed.
    pub budget: u64,
    /// Honest events read back by value afterwards.
    pub same: u64,
}

impl Report {
    /// As a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new(format!("hostile senders; budget of anonymous memory {} MiB", self.budget >> 20));
        for of in &self.attacks {
            table.row(
                format!("{:?}", of.attack),
                format!(
                    "{} connections ({}); counted: {}; honest: {} kept, lost: {}, slowest {} ms; peak {} MiB, anonymous {} MiB",
                    of.connections,
                    words(&of.answers),
                    words(&of.refused),
                    of.kept,
                    words(&of.lost),
                    of.slowest.as_millis(),
                    of.memory.peak >> 20,
                    of.memory.anonymous >> 20,
                ),
            );
        }
        table.row("honest events read back by value", self.same);
        table
    }
}

/// Runs the attacks, one after the other, in `folder`.
pub async fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<Report> {
    ensure!(plan.slots < plan.connections, "as many slots as hostile connections prove nothing");
    let settings = format!(
        "intake.max_connections = {}\nintake.memory_bytes = {}\nintake.max_lines_bytes = {}\n\
         ledger.segment_bytes = 16777216\nledger.reserve_bytes = 65536\nledger.pause_below_percent = 0\n",
        plan.slots,
        plan.memory_bytes,
        (plan.memory_bytes / 4).min(64 << 20),
    );
    let setup = Setup::new(program, folder, &settings)?;
    let server = setup.serve().await?;
    let book = Arc::new(Book::default());
    let budget = plan.memory_bytes + BESIDE_BODIES + plan.slots * OF_A_CONNECTION;
    let mut report = Report { attacks: Vec::new(), budget, same: 0 };
    for &attack in &plan.attacks {
        let before = refused(setup.api).await?;
        server.forget_peak();
        let wanted = attack.connections(plan.connections);
        let attackers = Attackers::start(attack, setup.intake, wanted);
        let began = Instant::now();
        // Honest senders come when every attacker is in his place.
        while attackers.placed() < wanted {
            ensure!(began.elapsed() < 2 * http::PATIENCE, "{attack:?}: only {} are in place", attackers.placed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let honest = Senders::start(setup.intake, &book, 4, 4 << 10, &format!("{attack:?}"));
        let mut memory = Memory::default();
        let began = Instant::now();
        while honest.kept() < plan.events || began.elapsed() < plan.least {
            let now = server.memory().with_context(|| format!("{attack:?}: the server is gone"))?;
            memory = Memory { peak: now.peak, anonymous: memory.anonymous.max(now.anonymous) };
            ensure!(began.elapsed() < 3 * http::PATIENCE, "{attack:?}: only {} honest events were kept", honest.kept());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (connections, answers) = attackers.stop().await?;
        let mut tally = honest.stop().await?;
        let mut counted = refused(setup.api).await?;
        counted.retain(|reason, count| {
            *count -= before.get(reason).copied().unwrap_or_default();
            *count > 0
        });
        let slowest = tally.percentile(1000);
        eprintln!(
            "{attack:?}: {} honest events kept beside {connections} connections, slowest {} ms; peak {} MiB, anonymous {} MiB",
            tally.kept,
            slowest.as_millis(),
            memory.peak >> 20,
            memory.anonymous >> 20
        );
        report.attacks.push(Suffered {
            attack,
            connections,
            answers,
            refused: counted,
            kept: tally.kept,
            slowest,
            lost: tally.lost,
            memory,
        });
    }
    server.terminate()?;
    server.end().await?;
    setup.verify(None)?;
    let found = read_back(&setup.data(), &book)?;
    ensure!(found.whole(), "lost {:?}, changed {:?}", found.lost, found.changed);
    report.same = found.same;
    Ok(report)
}

/// Refusals by reason, from the metrics.
async fn refused(api: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let page = http::page(api, "/metrics").await.map_err(|why| anyhow::anyhow!("read the metrics: {why:?}"))?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| {
            let (reason, count) =
                line.strip_prefix("counterfoil_intake_refused_total{reason=\"")?.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        })
        .collect())
}

/// Connections that do the same again and again.
struct Attackers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    stays: bool,
}

#[derive(Default)]
struct Shared {
    placed: AtomicU64,
    made: AtomicU64,
    answers: Mutex<BTreeMap<String, u64>>,
    done: AtomicBool,
}

impl Attackers {
    fn start(attack: Attack, to: SocketAddr, connections: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for n in 0..connections {
            tasks.spawn(attack_on(Arc::clone(&shared), attack, n, to));
        }
        Self { shared, tasks, stays: attack.stays() }
    }

    /// Connections that are where they want to be, or were there once.
    fn placed(&self) -> u64 {
        self.shared.placed.load(Ordering::Relaxed)
    }

    async fn stop(mut self) -> Result<(u64, BTreeMap<String, u64>)> {
        self.shared.done.store(true, Ordering::Release);
        if self.stays {
            self.tasks.abort_all();
        }
        while let Some(ended) = self.tasks.join_next().await {
            ensure!(
                ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled) || ended.is_ok(),
                "an attacker panicked"
            );
        }
        let answers = std::mem::take(&mut *self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((self.shared.made.load(Ordering::Relaxed), answers))
    }
}

async fn attack_on(shared: Arc<Shared>, attack: Attack, n: u64, to: SocketAddr) {
    let mut first = true;
    for round in 0u64.. {
        if shared.done.load(Ordering::Acquire) {
            return;
        }
        shared.made.fetch_add(1, Ordering::Relaxed);
        let placed = || {
            if std::mem::take(&mut first) {
                shared.placed.fetch_add(1, Ordering::Relaxed);
            }
        };
        let from = http::source(1 << 20 | (round * 16384 + n));
        let answer = match attack.run(from, to, placed).await {
            Ok(status) => status.to_string(),
            Err(NoAnswer::Ours) if attack == Attack::Churn => "gone".into(),
            Err(why) => format!("{why:?}").to_lowercase(),
        };
        *shared.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(answer).or_default() += 1;
        // One that never came to its place has had its turn all the same.
        if std::mem::take(&mut first) {
            shared.placed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
