//! `kill -9` at random moments under full load: what was acknowledged is there afterwards, unchanged.
//!
//! Sizes are small, so that segments end, payloads are stored, old segments go and the fold is snapshotted all the time. All
//! the time retention has to remove another day of the payloads that were laid in before the first life.

use std::{
    fs::File,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    aged,
    book::{Book, FOLLOWED, read_back},
    event,
    http::{self, NoAnswer},
    rng::Rng,
    server::Setup,
    table::Table,
};

/// How hard.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lives that end with SIGKILL.
    pub lives: u64,
    /// Every choice follows from it.
    pub seed: u64,
    /// Senders at once; every fourth posts lines.
    pub senders: u64,
    /// Longest time from the first acknowledgement of a life to its end, in milliseconds.
    pub longest_ms: u64,
    /// After so many lives everything is verified and read back, and at the end.
    pub check_every: u64,
    /// Largest event in bytes.
    pub event_bytes: u64,
}

/// What is small, so that it happens often. Whatever else can be set comes from the environment.
const SETTINGS: &str = "\
ledger.segment_bytes = 16777216
ledger.reserve_bytes = 65536
ledger.pause_below_percent = 0
ledger.sync_bytes = 1048576
ledger.sync_every_ms = 100
derive.commit_ms = 100
derive.snapshot_entries = 1000
retention.events.keep_days = \"off\"
";

/// How retention is told what goes in a life.
const KEEP_DAYS: &str = "COUNTERFOIL_RETENTION_LINES_KEEP_DAYS";

/// What happened.
#[derive(Debug, Default)]
pub struct Survived {
    /// SIGKILLs.
    pub kills: u64,
    /// Of these, before the life had acknowledged anything.
    pub while_starting: u64,
    /// Bodies answered 202.
    pub acknowledged: u64,
    /// Of these, payloads of earlier days that were laid in before the first life and that retention has to remove.
    pub to_prune: u64,
    /// Of these, read back by value at the end.
    pub same: u64,
    /// Payloads that are gone as an entry says, their leaves being there.
    pub pruned: u64,
    /// Entries that say so.
    pub prunings: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// Acknowledged and another.
    pub changed: u64,
    /// Bytes of the followed file that are in the ledger, each once and in order.
    pub followed_bytes: u64,
    /// Times that `counterfoil verify` was run with a checkpoint kept from an earlier life.
    pub verified: u64,
    /// Payload blocks at the end.
    pub blocks: u64,
    /// From starting a life to its first 202: the median and the longest.
    pub first_202: (Duration, Duration),
    /// Entries in the ledger at the end.
    pub entries: u64,
}

impl Survived {
    /// As a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new("kill -9 under load");
        table.row("kills", self.kills);
        table.row("of them before the first 202", self.while_starting);
        table.row("acknowledged bodies", self.acknowledged);
        table.row("read back by value", self.same);
        table.row("pruned, as an entry says, and proved", format!("{} of {}", self.pruned, self.to_prune));
        table.row("pruning entries", self.prunings);
        table.row("lost", self.lost);
        table.row("changed", self.changed);
        table.row("bytes of the followed file, each once", self.followed_bytes);
        table.row("entries in the ledger", self.entries);
        table.row("payload blocks", self.blocks);
        table.row("verified with a kept checkpoint", self.verified);
        table.row("start to first 202, median", format!("{} ms", self.first_202.0.as_millis()));
        table.row("start to first 202, longest", format!("{} ms", self.first_202.1.as_millis()));
        table
    }
}

/// What senders and the one who kills share.
struct Load {
    intake: SocketAddr,
    book: Book,
    /// When the present life was started, and its first 202.
    life: Mutex<(Instant, Option<Instant>)>,
    /// The first thing that must not be.
    wrong: Mutex<Option<String>>,
    done: AtomicBool,
}

impl Load {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    fn answered(&self, sent: Instant, answer: &http::Answer, body: &[u8]) {
        match (answer.status, answer.entries) {
            (202, Some((first, _))) => {
                if let Err(why) = self.book.note(first, body) {
                    self.wrong(why.to_string());
                }
                let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
                if sent >= life.0 {
                    life.1.get_or_insert_with(Instant::now);
                }
            }
            (503, _) => {}
            (status, entries) => self.wrong(format!("answered {status} with entries {entries:?}")),
        }
    }

    fn first_202(&self) -> Option<Duration> {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.1.map(|at| at.duration_since(life.0))
    }
}

/// Runs the campaign in `folder`.
pub async fn run(program: &Path, folder: &Path, plan: &Plan) -> Result<Survived> {
    let file = folder.join("error.log");
    std::fs::create_dir_all(folder)?;
    std::fs::write(&file, "")?;
    let source = format!("[[source]]\nname = \"{FOLLOWED}\"\nformat = \"nginx-error\"\npath = '{}'\n", file.display());
    let setup = Setup::new(program, folder, &format!("{SETTINGS}{source}"))?;
    let load = Arc::new(Load {
        intake: setup.intake,
        book: Book::default(),
        life: Mutex::new((Instant::now(), None)),
        wrong: Mutex::new(None),
        done: AtomicBool::new(false),
    });
    let laid_in = aged::lay_in(&setup.data(), plan.lives, &load.book)?;
    let mut survived = Survived { to_prune: laid_in.to_prune, ..Survived::default() };
    let mut rng = Rng::new(plan.seed);
    let mut senders = JoinSet::new();
    for sender in 0..plan.senders {
        senders.spawn(send(Arc::clone(&load), sender, plan.clone(), Rng::new(rng.bits())));
    }
    senders.spawn(write(Arc::clone(&load), file.clone(), Rng::new(rng.bits())));

    let mut starts = Vec::new();
    let kept = folder.join("checkpoint.kept");
    let mut has_kept = false;
    for life in 1..=plan.lives {
        let server = setup.start_with(&[(KEEP_DAYS, aged::keep_days(life, plan.lives).to_string())])?;
        *load.life.lock().unwrap_or_else(PoisonError::into_inner) = (server.started, None);
        if rng.once_in(8) {
            // Also while it opens, mends and seals what the life before has left.
            tokio::time::sleep(Duration::from_millis(rng.between(0, 150))).await;
        } else {
            while load.first_202().is_none() {
                ensure!(
                    server.started.elapsed() < http::PATIENCE,
                    "no 202 in life {life}; see {}",
                    setup.log().display()
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.between(0, plan.longest_ms))).await;
        }
        server.kill()?;
        survived.kills += 1;
        match load.first_202() {
            Some(time) => starts.push(time),
            None => survived.while_starting += 1,
        }
        if let Some(wrong) = load.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
            anyhow::bail!("life {life}: {wrong}");
        }
        if life % plan.check_every == 0 || life == plan.lives {
            setup.verify(has_kept.then_some(kept.as_path())).with_context(|| format!("after life {life}"))?;
            survived.verified += u64::from(has_kept);
            std::fs::copy(setup.data().join("ledger").join("checkpoint"), &kept).context("keep the checkpoint")?;
            has_kept = true;
            let found = read_back(&setup.data(), &load.book)?;
            ensure!(found.whole(), "after life {life}: lost {:?}, changed {:?}", found.lost, found.changed);
            eprintln!("life {life}: {} bodies are there, {} were pruned", found.same, found.pruned);
        }
    }
    load.done.store(true, Ordering::Release);
    while let Some(ended) = senders.join_next().await {
        ended.context("a sender panicked")?;
    }
    // The last life reads the followed file to its end, removes what has to go, and stops in order.
    let server = setup.ready(setup.start_with(&[(KEEP_DAYS, aged::KEEP_AT_LAST.to_string())])?).await?;
    let length = std::fs::metadata(&file)?.len();
    let began = Instant::now();
    loop {
        let reader = ledger::Reader::open(&setup.data())?;
        let at = reader.positions()?;
        let read = at.values().any(|position| position.contains(&format!("\"offset\":{length}}}")));
        let goes = |day: &ledger::PayloadDay| day.class == aged::GOES && day.first.is_none_or(|at| at < laid_in.size);
        let days = reader.payload_days()?.into_iter().filter(goes).count();
        if read && days == 0 {
            break;
        }
        ensure!(
            began.elapsed() < http::PATIENCE,
            "the followed file ({length} bytes) is not read to its end ({at:?}), or {days} days that have to go are left"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.terminate()?;
    server.end().await?;
    setup.verify(Some(&kept))?;
    survived.verified += 1;
    let found = read_back(&setup.data(), &load.book)?;
    ensure!(found.followed == std::fs::read(&file)?, "the followed file is not in the ledger line by line");
    starts.sort_unstable();
    survived.first_202 =
        (starts.get(starts.len() / 2).copied().unwrap_or_default(), starts.last().copied().unwrap_or_default());
    survived.acknowledged = load.book.len() as u64;
    survived.same = found.same;
    survived.pruned = found.pruned;
    survived.prunings = found.prunings;
    survived.lost = found.lost.len() as u64;
    survived.changed = found.changed.len() as u64;
    survived.followed_bytes = found.followed.len() as u64;
    survived.blocks = found.blocks;
    survived.entries = found.size;
    Ok(survived)
}

/// Sends without a pause: every other sender with a connection per event, the others with one for many.
async fn send(load: Arc<Load>, sender: u64, plan: Plan, mut rng: Rng) {
    let from = http::source(sender);
    let keep_alive = !sender.is_multiple_of(2);
    let mut open: Option<TcpStream> = None;
    for n in 0u64.. {
        if load.is_done() {
            return;
        }
        let id = format!("{sender}-{n}");
        let (body, request) = if sender % 4 == 3 {
            let count = rng.between(1, 5);
            let body = event::lines(&mut rng, &id, count);
            let request = event::post(&body, keep_alive);
            (body, request)
        } else {
            let bytes = rng.between(1 << 10, plan.event_bytes);
            let body = event::task_run(&mut rng, &id, usize::try_from(bytes).unwrap_or(1 << 10));
            let request = event::delivery(&id, &body, keep_alive);
            (body, request)
        };
        let sent = Instant::now();
        let answer = async {
            let mut stream = match open.take() {
                Some(stream) => stream,
                None => http::connect(from, load.intake).await?,
            };
            let answer = http::exchange(&mut stream, &request).await?;
            open = keep_alive.then_some(stream);
            Ok::<_, NoAnswer>(answer)
        };
        match answer.await {
            Ok(answer) => load.answered(sent, &answer, &body),
            // Not answered: nothing is promised about it.
            Err(NoAnswer::Ours | NoAnswer::Timeout | NoAnswer::Garbage) => load.wrong("no proper answer".into()),
            Err(NoAnswer::Refused | NoAnswer::Reset) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Writes lines into the followed file, as NGINX does.
async fn write(load: Arc<Load>, path: PathBuf, mut rng: Rng) {
    let mut file = match File::options().append(true).open(&path) {
        Ok(file) => file,
        Err(error) => return load.wrong(error.to_string()),
    };
    for n in 0u64.. {
        if load.is_done() {
            return;
        }
        let count = rng.between(1, 3);
        if let Err(error) = file.write_all(&event::lines(&mut rng, &format!("followed-{n}"), count)) {
            return load.wrong(error.to_string());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
