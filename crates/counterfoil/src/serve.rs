//! `counterfoil serve`: the wiring, and the only place that spawns.
//!
//! ```text
//! intake listener ─► desk ─► ledger ─► derive thread ─► index ─► api listener
//! follow thread ───────┘        ├─ notices thread ─► desk
//! heartbeat task ──────┘        └─ publish thread ─► witnesses, places that keep checkpoints
//! ```
//! Both listeners are bound first and answer 503 until the ledger's lock is ours, so that a rolling restart loses no
//! delivery: Tekton tries for 20 s.

#![expect(clippy::disallowed_methods, reason = "this is the place that spawns")]

pub mod listener;
pub mod room;
mod rounds;

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use hyper_util::service::TowerToHyperService;
use ledger::{Ledger, Notice};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    api::Api,
    config::{Config, Loaded},
    derive::Derived,
    desk::Desk,
    follow::{self, Follower},
    intake::Intake,
    keys::Keys,
    log::Log,
    metrics::Metrics,
    own,
    people::People,
    publish::{Publisher, outside::Outside},
    selfcheck::Checker,
    telemetry,
};
use listener::Limits;

/// Where a running server is reached: `serving.json` in its data folder, for the command line and for scripts that
/// asked for free ports.
#[derive(Debug, Serialize, Deserialize)]
pub struct Serving {
    /// Process id.
    pub pid: u32,
    /// Address of the intake listener.
    pub intake: SocketAddr,
    /// Address of the api listener.
    pub api: SocketAddr,
}

impl Serving {
    /// Path of the file.
    pub fn path(data: &Path) -> PathBuf {
        data.join("serving.json")
    }

    /// Reads it; `None` when nothing serves this folder (or it ended without cleaning up and left nothing).
    pub fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data)).ok()?).ok()
    }
}

/// Creates what a new ledger needs. `head` of an old one is never overwritten.
pub fn init(config: &Config) -> Result<()> {
    fs::create_dir_all(&config.data).with_context(|| format!("create {}", config.data.display()))?;
    ledger::init(&ledger_config(config), config.origin.as_deref())
        .with_context(|| format!("create a ledger in {}", config.data.display()))?;
    Keys::create(&config.data)
}

/// The ledger's part of the configuration.
pub fn ledger_config(config: &Config) -> ledger::Config {
    let of = &config.ledger;
    let limits = ledger::Limits {
        segment_bytes: of.segment_bytes,
        reserve_bytes: of.reserve_bytes,
        pause_below_percent: of.pause_below_percent,
        stop_below_bytes: of.stop_below_bytes,
        sync_bytes: of.sync_bytes,
        sync_every_ms: of.sync_every_ms,
        ..ledger::Limits::default()
    };
    ledger::Config { head: config.head.clone(), limits, ..ledger::Config::new(&config.data) }
}

/// Serves until SIGTERM or SIGINT.
pub fn run(loaded: Loaded) -> Result<()> {
    let config = loaded.config;
    let _telemetry = telemetry::start(&config.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .context("start the runtime")?;
    runtime.block_on(serve(config, !loaded.from_file))
}

async fn serve(config: Config, create: bool) -> Result<()> {
    // Bound first: a port that is taken must not leave a folder behind.
    let before = Serving::read(&config.data);
    let intake_listener = bind(config.intake.listen, before.as_ref()).await?;
    let api_listener = bind(config.api.listen, before.as_ref()).await?;
    if create && !config.data.join("ledger").exists() {
        init(&config)?;
        tracing::info!(data = %config.data.display(), "a new ledger was created");
    }
    let metrics = Arc::new(Metrics::default());
    let keys = Keys::open(&config.data)?;
    let desk = Arc::new(Desk::new(&keys, People::open(&config.data)?, Arc::clone(&metrics)));
    let outside = Arc::new(Outside::default());
    let publisher = Publisher::new(&config, &desk, &outside)?;
    let api = Arc::new(Api::new(&config, Arc::clone(&desk), outside));
    let intake = Arc::new(Intake::new(config.intake.clone(), Arc::clone(&desk))?);
    let serving = Serving {
        pid: std::process::id(),
        intake: intake_listener.local_addr().context("address of the intake listener")?,
        api: api_listener.local_addr().context("address of the api listener")?,
    };
    let (stop, stopped) = watch::channel(false);
    let header_timeout = Duration::from_secs(config.intake.read_timeout_seconds);
    let (senders, people) = connections(config.intake.max_connections);
    let of_senders = Limits { connections: senders, header_timeout, refusals: Some(Arc::clone(&desk.metrics)) };
    let of_people = Limits { connections: people, header_timeout, refusals: None };
    let router = Arc::clone(&api).router();
    let listeners = [
        tokio::spawn(listener::run(intake_listener, move |peer| intake.service(peer), of_senders, stopped.clone())),
        tokio::spawn(listener::run(
            api_listener,
            move |_| TowerToHyperService::new(router.clone()),
            of_people,
            stopped.clone(),
        )),
    ];

    let workers = open(&config, &desk, &api, publisher, stopped.clone(), &serving).await?;
    announce(&config, &serving)?;
    wait_for_end(&desk).await;

    tracing::info!("stopping: open requests end, then the ledger is sealed");
    let _ = stop.send(true); // receivers that are gone have stopped already
    for listener in listeners {
        let _ = listener.await; // a panic in a listener has been logged; the ledger is closed all the same
    }
    // Before the lock is let go: the next process writes its own. A stale one is harmless, its port answers nobody.
    let _ = fs::remove_file(Serving::path(&config.data));
    tokio::task::spawn_blocking(move || workers.end()).await.context("end the workers")?
}

/// How long the process that served before may go on listening.
const HANDOVER: Duration = Duration::from_secs(30);

/// Listens on an address. If it is that of the process that serves this folder now, waits until it lets go, so that the next
/// process can be started as soon as this one is asked to stop. Anybody else's address is an error at once.
async fn bind(address: SocketAddr, before: Option<&Serving>) -> Result<TcpListener> {
    let began = Instant::now();
    let handed_over = before.is_some_and(|before| before.intake == address || before.api == address);
    loop {
        match listener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && handed_over && began.elapsed() < HANDOVER => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other.with_context(|| format!("listen on {address}")),
        }
    }
}

/// Files that the process needs for itself: ledger, index, followed files.
const OWN_FILES: u64 = 256;

/// Connections that the two listeners may have, intake and api: as many as wished, as long as files are left for the
/// ledger. The soft limit of open files is raised to the hard one first.
fn connections(wished: usize) -> (usize, usize) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused, the old limit stays; it is asked for again below.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    let files = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(OWN_FILES).max(32)).unwrap_or(usize::MAX);
    let people = (most / 8).min(512);
    let senders = wished.min(most - people);
    if senders < wished {
        tracing::warn!(wished, senders, files, "fewer connections than configured: raise the limit of open files");
    }
    (senders, people)
}

/// Threads beside the runtime, and what ends them.
struct Workers {
    /// No more input.
    stop: Arc<AtomicBool>,
    inputs: Vec<JoinHandle<()>>,
    /// Nothing more to follow.
    closed: Arc<AtomicBool>,
    followers: Vec<JoinHandle<()>>,
    desk: Arc<Desk>,
    ledger: Arc<Ledger>,
    life: own::Life,
}

impl Workers {
    /// Ends the inputs, writes the last heartbeat, closes the ledger, and lets the derived world finish.
    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        for thread in self.inputs {
            thread.thread().unpark(); // those that wait for their next time
            let _ = thread.join(); // a panic has been logged by its hook
        }
        own::heartbeat(&self.desk, &self.life, own::Phase::Last);
        let closed = self.ledger.close();
        self.closed.store(true, Ordering::Release);
        for thread in self.followers {
            let _ = thread.join();
        }
        closed.context("close the ledger")
    }
}

/// Waits for the lock, opens the ledger and starts everything that needs it.
async fn open(
    config: &Config,
    desk: &Arc<Desk>,
    api: &Arc<Api>,
    publisher: Option<Publisher>,
    stopped: watch::Receiver<bool>,
    serving: &Serving,
) -> Result<Workers> {
    let mut told: Option<Instant> = None;
    let opened = loop {
        let of = ledger_config(config);
        let opened = tokio::task::spawn_blocking(move || Ledger::open(&of)).await.context("open the ledger")?;
        match opened {
            Err(ledger::Error::Locked { .. }) => {
                if told.is_none_or(|told| told.elapsed() > Duration::from_mins(1)) {
                    told = Some(Instant::now());
                    tracing::warn!(
                        intake = %serving.intake,
                        "another process holds the ledger; answering 503 until it ends"
                    );
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            // What a full disk refuses now it may take later; the process that opens then need not be a new one.
            Err(error) if error.passing().is_some() => {
                if told.is_none_or(|told| told.elapsed() > Duration::from_mins(1)) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, intake = %serving.intake, "the disk takes nothing; answering 503 until it does");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            other => break other.with_context(|| format!("open the ledger in {}", config.data.display()))?,
        }
    };
    let ledger = Arc::new(opened.ledger);
    let log = Log::Open(Arc::clone(&ledger));
    let life = own::Life::new()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (first, of) = (Arc::clone(desk), life.clone());
    let opening = Arc::clone(&ledger);
    // The first entry of a life is its heartbeat; then the others may come.
    tokio::task::spawn_blocking(move || own::first(&first, &opening, &of)).await.context("write the first entry")?;
    desk.open(Arc::clone(&ledger));

    let closed = Arc::new(AtomicBool::new(false));
    let mut followers = Vec::new();
    if config.derive.enabled {
        let (ledger, config, closed) = (Arc::clone(&ledger), config.clone(), Arc::clone(&closed));
        let (api, metrics) = (Arc::clone(api), Arc::clone(&desk.metrics));
        followers.push(spawn("derive", move || derive(&config, &ledger, &log, &api, &metrics, &closed))?);
    }
    if let Some(mut publisher) = publisher {
        let (ledger, closed) = (Arc::clone(&ledger), Arc::clone(&closed));
        followers.push(spawn("publish", move || publisher.run(&ledger, &closed))?);
    }
    let mut inputs = vec![spawn("notices", {
        let (desk, stop) = (Arc::clone(desk), Arc::clone(&stop));
        move || notices(&desk, &opened.notices, &stop)
    })?];
    inputs.push(spawn("retention", {
        let (config, desk, ledger, stop) = (config.clone(), Arc::clone(desk), Arc::clone(&ledger), Arc::clone(&stop));
        move || rounds::retain(&config, &desk.metrics, &ledger, &stop)
    })?);
    if config.selfcheck.bytes_per_second > 0 {
        let checker = Checker::new(&config.data, &config.selfcheck, Arc::clone(desk), Arc::clone(&ledger));
        let (desk, stop) = (Arc::clone(desk), Arc::clone(&stop));
        inputs.push(spawn("selfcheck", move || rounds::selfcheck(checker, &desk.metrics, &stop))?);
    }
    let positions = ledger.positions();
    let files = config.source.iter().map(|s| Follower::new(s, &positions)).collect::<Result<Vec<_>>>()?;
    if !files.is_empty() {
        let (desk, stop) = (Arc::clone(desk), Arc::clone(&stop));
        inputs.push(spawn("follow", move || follow(files, &desk, &stop))?);
    }
    tokio::spawn(beat(Arc::clone(desk), life.clone(), stopped));
    Ok(Workers { stop, inputs, closed, followers, desk: Arc::clone(desk), ledger, life })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).with_context(|| format!("start the thread {name}"))
}

/// Tells people and scripts where we are.
fn announce(config: &Config, serving: &Serving) -> Result<()> {
    let path = Serving::path(&config.data);
    let new = path.with_extension("tmp");
    fs::write(&new, serde_json::to_vec(serving)?).with_context(|| format!("write {}", new.display()))?;
    fs::rename(&new, &path).with_context(|| format!("rename {}", new.display()))?;
    tracing::info!(
        intake = %format_args!("http://{}", serving.intake),
        api = %format_args!("http://{}", serving.api),
        data = %config.data.display(),
        "serving"
    );
    Ok(())
}

/// Returns on SIGTERM, SIGINT, or when the ledger has stopped by itself (a failed fsync is never retried).
async fn wait_for_end(desk: &Desk) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("signals cannot be caught; stopping");
        return;
    };
    let mut look = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = term.recv() => return,
            _ = int.recv() => return,
            _ = look.tick() => {
                if let Some(why) = desk.ledger().and_then(|ledger| ledger.failure()) {
                    tracing::error!(%why, "the ledger has stopped; nothing is acknowledged any more");
                    return;
                }
            }
        }
    }
}

/// Heartbeats every period, and one when input pauses after a burst: the fold looks again at what is open when it sees
/// one, so somebody who has just posted a log need not wait for the period.
async fn beat(desk: Arc<Desk>, life: own::Life, mut stopped: watch::Receiver<bool>) {
    let mut look = tokio::time::interval(own::PAUSE);
    let (mut last_beat, mut beaten, mut seen) = (Instant::now(), 0, 0);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = stopped.changed() => return, // it changes once, to true
        }
        let size = desk.ledger().map_or(0, |ledger| ledger.size());
        let paused = size == std::mem::replace(&mut seen, size) && size > beaten;
        if paused || last_beat.elapsed() >= own::PERIOD {
            let (beating, life) = (Arc::clone(&desk), life.clone());
            let _ = tokio::task::spawn_blocking(move || own::heartbeat(&beating, &life, own::Phase::Beat)).await;
            last_beat = Instant::now();
            // The heartbeat itself is no input: it must not call for the next one.
            seen = desk.ledger().map_or(0, |ledger| ledger.size());
            beaten = seen;
        }
    }
}

fn follow(mut followers: Vec<Follower>, desk: &Arc<Desk>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let began = Instant::now();
        for follower in &mut followers {
            follower.look(desk);
        }
        thread::sleep(follow::PERIOD.saturating_sub(began.elapsed()));
    }
}

fn notices(desk: &Arc<Desk>, notices: &Receiver<Notice>, stop: &AtomicBool) {
    loop {
        // Looked at before the queue: what was told before the end is still written.
        let ending = stop.load(Ordering::Acquire);
        match notices.recv_timeout(Duration::from_millis(200)) {
            Ok(notice) => own::notice(desk, &notice, stop),
            Err(RecvTimeoutError::Timeout) if ending => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Nice value of the derived work: intake goes first when processors are short.
const BEHIND_INTAKE: i32 = 19;

/// Lowers the priority of this thread. On Linux a priority belongs to the thread. Refused (a container may forbid it), the
/// work is done all the same.
fn behind_intake() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), BEHIND_INTAKE);
}

/// Keeps the derived world going. After trouble (a full disk, a damaged index) it is opened again from its last
/// snapshot; meanwhile searches answer 503 and intake does not notice.
fn derive(config: &Config, ledger: &Ledger, log: &Log, api: &Api, metrics: &Arc<Metrics>, closed: &AtomicBool) {
    behind_intake();
    loop {
        let following = || -> Result<()> {
            let mut derived = Derived::open(&config.data, log, config.derive.index_memory_bytes, Arc::clone(metrics))?;
            api.open(log.clone(), &derived);
            follow_ledger(&mut derived, ledger, log, &config.derive, closed)
        };
        // A panic in the fold is a bug of ours; answers stop and say so instead of growing old unnoticed.
        let result = catch_unwind(AssertUnwindSafe(following)).unwrap_or_else(|_| Err(anyhow!("the fold panicked")));
        let Err(error) = result else { return };
        metrics.trouble("derive");
        tracing::error!(error = format!("{error:#}"), "the derived world has stopped; opening it again");
        api.shut(&error);
        for _ in 0..50 {
            if closed.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Work after which the fold is snapshotted, at least: about so much is done again after `kill -9`.
const WORK: Duration = Duration::from_secs(1);

/// A snapshot may cost this share of the work, so a large state is snapshotted less often.
const SHARE: u32 = 20;

/// Follows the ledger until it is closed. What is left then is followed at the next start: ending must not wait for it.
fn follow_ledger(
    derived: &mut Derived,
    ledger: &Ledger,
    log: &Log,
    config: &crate::config::Derive,
    closed: &AtomicBool,
) -> Result<()> {
    let every = Duration::from_millis(config.commit_ms);
    let mut last_commit = Instant::now();
    let (mut worked, mut cost) = (Duration::ZERO, Duration::ZERO);
    loop {
        let ending = closed.load(Ordering::Acquire);
        let began = Instant::now();
        let caught_up = derived.step(log)? == 0;
        if derived.is_dirty() && (last_commit.elapsed() >= every || ending) {
            derived.commit()?;
            last_commit = Instant::now();
        }
        worked += began.elapsed();
        if derived.since_snapshot() >= config.snapshot_entries || worked >= WORK.max(cost * SHARE) || ending {
            let began = Instant::now();
            if derived.snapshot()? {
                (worked, cost) = (Duration::ZERO, began.elapsed());
            }
        }
        if ending {
            return Ok(());
        }
        if caught_up {
            let wait = if derived.is_dirty() { every.saturating_sub(last_commit.elapsed()) } else { every };
            ledger.wait_beyond(derived.next(), wait.max(Duration::from_millis(1)));
        }
    }
}
