//! The flood after a restart of Tekton's controller: one event for every run that is kept, at once, each on a connection of
//! its own; while files of lines are followed at full speed.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    book::{Book, FOLLOWED, read_back},
    event,
    honest::{Tally, words},
    http,
    rng::Rng,
    server::{Memory, Setup},
    table::Table,
    tekton,
};

/// How much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Events.
    pub events: u64,
    /// Sent evenly within this time; as fast as the loader can when zero.
    pub within: Duration,
    /// Deliveries under way at once.
    pub at_once: usize,
    /// Bytes of an event.
    pub event_bytes: usize,
    /// Bytes of lines that wait in the followed file when the flood begins.
    pub followed_bytes: u64,
}

/// What happened.
#[derive(Debug)]
pub struct Flooded {
    plan: Plan,
    /// Deliveries.
    pub tally: Tally,
    /// First attempts that were answered 202.
    pub at_once: u64,
    /// From the first connection to the last answer.
    pub took: Duration,
    /// Bytes of the followed file that were taken in while the flood went on.
    pub followed: u64,
    /// Memory of the server at the end.
    pub memory: Memory,
    /// Events read back by value.
    pub same: u64,
}

impl Flooded {
    /// As a table.
    pub fn table(&mut self) -> Table {
        let sysctl =
            |name: &str| fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap_or_default().trim().to_owned();
        let mut table = Table::new(format!(
            "flood of {} events of {} bytes, a connection each, 202 after fsync, loader on the same {} cores",
            self.plan.events,
            self.plan.event_bytes,
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        ));
        table.row(
            "open files, somaxconn, tcp_max_syn_backlog",
            format!("{}, {}, {}", http::open_files(), sysctl("core/somaxconn"), sysctl("ipv4/tcp_max_syn_backlog")),
        );
        table.row("source addresses, deliveries under way", format!("{}, {}", self.plan.events, self.plan.at_once));
        table.row("kept", self.tally.kept);
        table.row("kept at the first attempt", self.at_once);
        table.row("attempts refused", self.tally.failures());
        table.row("given up", words(&self.tally.lost));
        table.row("read back by value", self.same);
        table.row("sent within", format!("{} ms", self.plan.within.as_millis()));
        table.row("all answered after", format!("{} ms", self.took.as_millis()));
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999), ("longest", 1000)] {
            table
                .row(format!("connect to 202, {name}"), format!("{} ms", self.tally.percentile(per_mille).as_millis()));
        }
        table.row("lines followed meanwhile", format!("{} KiB", self.followed >> 10));
        table.row(
            "memory: peak, anonymous",
            format!("{} MiB, {} MiB", self.memory.peak >> 20, self.memory.anonymous >> 20),
        );
        table
    }
}

/// Runs one flood in `folder`.
pub async fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<Flooded> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let file = folder.join("error.log");
    let mut rng = Rng::new(1);
    let mut lines = Vec::new();
    while (lines.len() as u64) < plan.followed_bytes {
        lines.extend_from_slice(&event::lines(&mut rng, "flood", 100));
    }
    let settings = format!(
        "ledger.pause_below_percent = 0\n[[source]]\nname = \"{FOLLOWED}\"\nformat = \"nginx-error\"\npath = '{}'\n",
        file.display()
    );
    let setup = Setup::new(program, folder, &settings)?;
    fs::write(&file, "")?;
    let server = setup.serve().await?;
    let followed = || -> Result<u64> {
        let positions = ledger::Reader::open(&setup.data())?.positions()?;
        let offset = positions.values().find_map(|position| position.split_once("\"offset\":")).map(|(_, rest)| rest);
        Ok(offset.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).unwrap_or(0))
    };
    // The lines are there when the flood begins: reading them goes on at full speed beside it.
    fs::write(&file, &lines)?;
    let began_lines = Instant::now();
    while plan.followed_bytes > 0 && followed()? == 0 {
        ensure!(began_lines.elapsed() < http::PATIENCE, "the file is not followed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = followed()?;

    let book = Arc::new(Book::default());
    let under_way = Arc::new(Semaphore::new(plan.at_once));
    let (to, bytes) = (setup.intake, plan.event_bytes);
    let mut deliveries = JoinSet::new();
    let mut flooded = Flooded {
        plan: plan.clone(),
        tally: Tally::default(),
        at_once: 0,
        took: Duration::ZERO,
        followed: 0,
        memory: Memory::default(),
        same: 0,
    };
    let began = Instant::now();
    for n in 0..plan.events {
        let due = plan.within.mul_f64(to_f64(n) / to_f64(plan.events));
        if let Some(early) = due.checked_sub(began.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let slot = Arc::clone(&under_way).acquire_owned().await.context("never closed")?;
        let book = Arc::clone(&book);
        deliveries.spawn(async move {
            let id = format!("flood-{n}");
            let body = event::task_run(&mut Rng::new(n), &id, bytes);
            let delivered = tekton::deliver(http::source(n), to, &event::delivery(&id, &body, false)).await;
            drop(slot);
            let noted = delivered.outcome.as_ref().map_or(Ok(()), |index| book.note(*index, &body));
            noted.map(|()| delivered)
        });
        while let Some(ended) = deliveries.try_join_next() {
            flooded.add(ended.context("a sender panicked")??);
        }
    }
    while let Some(ended) = deliveries.join_next().await {
        flooded.add(ended.context("a sender panicked")??);
    }
    flooded.took = began.elapsed();
    flooded.followed = followed()? - before;
    flooded.memory = server.memory()?;
    server.terminate()?;
    server.end().await?;
    let found = read_back(&setup.data(), &book)?;
    ensure!(found.whole(), "lost {:?}, changed {:?}", found.lost, found.changed);
    flooded.same = found.same;
    Ok(flooded)
}

impl Flooded {
    fn add(&mut self, delivered: tekton::Delivered) {
        self.at_once += u64::from(delivered.at_once);
        self.tally.add(delivered);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of a time")]
fn to_f64(n: u64) -> f64 {
    n as f64
}
