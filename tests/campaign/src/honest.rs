//! Honest senders: events without a pause, each delivered as Tekton does, each promise kept in the book.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::{book::Book, event, http, rng::Rng, tekton};

/// What is known about deliveries so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Deliveries that ended in a 202.
    pub kept: u64,
    /// Deliveries that were given up, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Attempts that failed, by status or kind.
    pub failures: BTreeMap<String, u64>,
    /// From the first attempt to the 202.
    pub times: Vec<Duration>,
}

impl Tally {
    /// Counts a delivery.
    pub fn add(&mut self, delivered: tekton::Delivered) {
        for failure in delivered.failures {
            let kind = match failure {
                Ok(status) => status.to_string(),
                Err(why) => format!("{why:?}").to_lowercase(),
            };
            *self.failures.entry(kind).or_default() += 1;
        }
        match delivered.outcome {
            Ok(_) => self.kept += 1,
            Err(why) => *self.lost.entry(why).or_default() += 1,
        }
        self.times.push(delivered.took);
    }

    /// The time that this share of the deliveries was done in. Sorts.
    pub fn percentile(&mut self, per_mille: usize) -> Duration {
        self.times.sort_unstable();
        let at = (self.times.len().saturating_sub(1) * per_mille).div_ceil(1000);
        self.times.get(at).copied().unwrap_or_default()
    }

    /// Failed attempts in one line.
    pub fn failures(&self) -> String {
        words(&self.failures)
    }
}

/// A few counters in one line.
pub fn words(counts: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

/// Senders that go on until they are stopped.
#[derive(Debug)]
pub struct Senders {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    book: Arc<Book>,
    tally: Mutex<Tally>,
    done: AtomicBool,
    kept: AtomicU64,
    wrong: Mutex<Option<String>>,
}

impl Senders {
    /// Starts so many, with events of so many bytes.
    pub fn start(to: SocketAddr, book: &Arc<Book>, senders: u64, bytes: usize, name: &str) -> Self {
        let shared = Arc::new(Shared {
            to,
            book: Arc::clone(book),
            tally: Mutex::default(),
            done: AtomicBool::new(false),
            kept: AtomicU64::new(0),
            wrong: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for sender in 0..senders {
            tasks.spawn(send(Arc::clone(&shared), sender, bytes, name.to_owned()));
        }
        Self { shared, tasks }
    }

    /// Deliveries kept so far.
    pub fn kept(&self) -> u64 {
        self.shared.kept.load(Ordering::Relaxed)
    }

    /// Lets every sender end its delivery.
    pub async fn stop(mut self) -> Result<Tally> {
        self.shared.done.store(true, Ordering::Release);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a sender panicked")?;
        }
        let wrong = self.shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).take();
        ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        Ok(std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

async fn send(shared: Arc<Shared>, sender: u64, bytes: usize, name: String) {
    let mut rng = Rng::new(sender);
    for n in 0u64.. {
        if shared.done.load(Ordering::Acquire) {
            return;
        }
        let id = format!("{name}-{sender}-{n}");
        let body = event::task_run(&mut rng, &id, bytes);
        let from = http::source(n * 64 + sender);
        let delivered = tekton::deliver(from, shared.to, &event::delivery(&id, &body, false)).await;
        if let Ok(index) = delivered.outcome {
            shared.kept.fetch_add(1, Ordering::Relaxed);
            if let Err(why) = shared.book.note(index, &body) {
                shared.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why.to_string());
            }
        }
        shared.tally.lock().unwrap_or_else(PoisonError::into_inner).add(delivered);
    }
}
