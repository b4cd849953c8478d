//! `kill -9` of a server that holds much: how soon does it accept again, how soon is everything searchable again?

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::{event, http, rng::Rng, server::Setup, table::Table};

/// How much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of events received before the kill.
    pub received_bytes: u64,
    /// Bytes of an event.
    pub event_bytes: usize,
    /// Senders at once.
    pub senders: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Restarted {
    /// Bytes of acknowledged events.
    pub received_bytes: u64,
    /// Entries at the kill.
    pub entries: u64,
    /// Of these, how many were in the index then.
    pub searchable_before: u64,
    /// From the start to the first 202.
    pub first_202: Duration,
    /// From the start until every acknowledged entry was searchable.
    pub searchable: Duration,
}

impl Restarted {
    /// As a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("restart after kill -9");
        table.row("received before", format!("{} MiB", self.received_bytes >> 20));
        table.row("entries, of them searchable at the kill", format!("{}, {}", self.entries, self.searchable_before));
        table.row("start to first 202 (goal 1,000 ms)", format!("{} ms", self.first_202.as_millis()));
        table.row("start to all searchable (goal 5,000 ms)", format!("{} ms", self.searchable.as_millis()));
        table
    }
}

struct Load {
    bytes: AtomicU64,
    /// One more than the last acknowledged entry.
    end: AtomicU64,
    done: AtomicBool,
    wrong: Mutex<Option<String>>,
}

/// Runs the campaign in `folder`.
pub async fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<Restarted> {
    let setup = Setup::new(program, folder, "ledger.pause_below_percent = 0\n")?;
    let server = setup.serve().await?;
    let load = Arc::new(Load {
        bytes: AtomicU64::new(0),
        end: AtomicU64::new(0),
        done: AtomicBool::new(false),
        wrong: Mutex::default(),
    });
    let mut senders = JoinSet::new();
    for sender in 0..plan.senders {
        senders.spawn(fill(Arc::clone(&load), sender, setup.clone(), plan.event_bytes));
    }
    let mut told = 0;
    let mut searchable_before = 0;
    while load.bytes.load(Ordering::Relaxed) < plan.received_bytes {
        let gib = load.bytes.load(Ordering::Relaxed) >> 30;
        if gib > told {
            told = gib;
            eprintln!("{gib} GiB received");
        }
        if let Some(wrong) = load.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            anyhow::bail!("{wrong}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Some(through) = through(&setup).await {
        searchable_before = through;
    }
    server.kill()?;
    load.done.store(true, Ordering::Release);
    while let Some(ended) = senders.join_next().await {
        ended.context("a sender panicked")?;
    }
    let mut restarted = Restarted {
        received_bytes: load.bytes.load(Ordering::Relaxed),
        entries: load.end.load(Ordering::Relaxed),
        searchable_before,
        ..Restarted::default()
    };
    let server = setup.start()?;
    let body = event::task_run(&mut Rng::new(7), "after", plan.event_bytes);
    let request = event::delivery("after", &body, false);
    while !matches!(http::once(Ipv4Addr::LOCALHOST, setup.intake, &request).await, Ok(answer) if answer.status == 202) {
        ensure!(server.started.elapsed() < 2 * http::PATIENCE, "no 202; see {}", setup.log().display());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    restarted.first_202 = server.started.elapsed();
    while through(&setup).await.is_none_or(|through| through < restarted.entries) {
        ensure!(server.started.elapsed() < 10 * http::PATIENCE, "not searchable; see {}", setup.log().display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    restarted.searchable = server.started.elapsed();
    let left = Instant::now();
    server.terminate()?;
    server.end().await?;
    eprintln!("ended in {} ms", left.elapsed().as_millis());
    Ok(restarted)
}

/// Entries that searches see.
async fn through(setup: &Setup) -> Option<u64> {
    let (status, answer) = http::get(setup.api, "/api/v1/search?limit=1").await.ok()?;
    (status == 200).then(|| answer["through"]["entries"].as_u64())?
}

async fn fill(load: Arc<Load>, sender: u64, setup: Setup, bytes: usize) {
    let mut rng = Rng::new(sender);
    let mut open = None;
    for n in 0u64.. {
        if load.done.load(Ordering::Acquire) {
            return;
        }
        let id = format!("{sender}-{n}");
        let body = event::task_run(&mut rng, &id, bytes);
        let request = event::delivery(&id, &body, true);
        let answer = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => http::connect(http::source(sender), setup.intake).await?,
            };
            let answer = http::exchange(&mut stream, &request).await?;
            open = Some(stream);
            Ok::<_, http::NoAnswer>(answer)
        };
        match answer.await {
            Ok(answer) if answer.status == 202 => {
                load.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
                let end = answer.entries.map_or(0, |(_, last)| last + 1);
                load.end.fetch_max(end, Ordering::Relaxed);
            }
            Ok(answer) if answer.status == 503 => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(answer) => {
                let mut wrong = load.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                wrong.get_or_insert(format!("answered {}", answer.status));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await, // it may be dead by now
        }
    }
}
