//! An open ledger: creating, opening, appending, waiting, closing.

use crate::blocks::{Blocks, remove_torn};
use crate::config::{Config, Running};
use crate::durable::Lock;
use crate::error::{AppendError, Error};
use crate::group::{Group, Position, append_bytes};
use crate::head::{Folder, Head, KeyList, Positions, Signer, new_origin, read_positions};
use crate::journal::{self, Active, make_spare};
use crate::leaf::{MAX_BODY, split_leaf};
use crate::note::Checkpoint;
use crate::notice::Notice;
use crate::payload::Payload;
use crate::recover::{Recovered, recover};
use crate::seal::{Sealer, Store};
use crate::shared::{Job, Lane, Receipt, Shared, SpaceLevel, Tail};
use crate::tiles::TileStore;
use crate::writer::{Writer, run_sealer, run_writer};
use crate::{keeper, merkle};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Notices that wait for the owner, at most; beyond, they are counted as lost.
const NOTICES: usize = 1024;
/// Journal segments of earlier openings that are left for the sealer to store in its own time.
const SEGMENTS: usize = 4;
/// Sources whose position is kept.
const MAX_SOURCES: usize = 65_536;
const MAX_SOURCE: usize = 1024;
const MAX_POSITION: usize = 4096;

/// What is appended together, all of it or nothing.
#[derive(Debug)]
pub struct Append {
    /// Who waits for it.
    pub lane: Lane,
    /// One to many bodies, each becomes a leaf. One line each, at most [`MAX_BODY`] bytes.
    pub bodies: Vec<Vec<u8>>,
    /// The raw input. At least the first body names it (its top-level member `payload` is [`Payload::reference`]).
    pub payload: Option<Payload>,
    /// How far the source has been read with this append.
    pub position: Option<Position>,
}

impl Append {
    /// An append of one body and nothing else.
    pub fn one(lane: Lane, body: impl Into<Vec<u8>>) -> Self {
        Self { lane, bodies: vec![body.into()], payload: None, position: None }
    }
}

/// Counters and sizes of an open ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Entries that are durable.
    pub committed: u64,
    /// Entries in the latest checkpoint.
    pub sealed: u64,
    /// Entries whose tiles are synced.
    pub synced: u64,
    /// Unanswered bytes in the lanes own, push, pull.
    pub queued_bytes: [usize; 3],
    /// Appends answered since opening.
    pub appends: u64,
    /// Groups written since opening; each is one fdatasync.
    pub groups: u64,
    /// Bytes written to the journal since opening.
    pub journal_bytes: u64,
    /// Microseconds in write and fdatasync of groups since opening.
    pub sync_micros: u64,
    /// Appends of the lane push refused as busy since opening.
    pub refused_push: u64,
    /// Appends of the lane pull refused as busy since opening.
    pub refused_pull: u64,
    /// Notices that nobody took.
    pub notices_lost: u64,
    /// Space on disk.
    pub space: SpaceLevel,
}

/// An open ledger. There is one per folder; dropping it closes it.
pub struct Ledger {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tiles: TileStore,
    version: u32,
    threads: Mutex<Vec<JoinHandle<()>>>,
    origin: String,
    keys: KeyList,
    locks: Mutex<Vec<Lock>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("dir", &self.shared.folder.dir)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Creates a ledger, with the given origin or one of 128 random bits. The only way to begin one, so that a file system that is
/// not mounted is not mistaken for a fresh start.
///
/// # Errors
/// [`Error::AlreadyExists`] if there is one, or a `head` of one.
pub fn init(config: &Config, origin: Option<&str>) -> Result<(), Error> {
    let folder = config.folder();
    let origin = new_origin(origin)?;
    if folder.disk.read_if_there(&folder.path("format"))?.is_some() {
        return Err(Error::AlreadyExists { path: folder.path("format") });
    }
    // A `head` without its ledger: that file system is not mounted. Unless nothing was ever signed: an `init` that was cut off.
    let cut_off = folder.disk.text_if_there(&folder.head)?;
    if cut_off.as_deref().is_some_and(|text| !text.starts_with("counterfoil-head/1\nsealed 0\n")) {
        return Err(Error::AlreadyExists { path: folder.head });
    }
    folder.disk.make_dirs(&folder.journal())?;
    folder.disk.make_dirs(crate::durable::parent(&folder.head))?;
    let _locks = lock(&folder)?;
    folder.disk.write_durably(&folder.path("origin"), format!("{origin}\n").as_bytes())?;
    let signer = Signer::create(&folder, &origin, 0, KeyList::default())?;
    for old in journal::segments(&folder.disk, &folder.journal())? {
        folder.disk.remove(&old.path)?;
    }
    // Never written to: each opening begins a segment of its own.
    make_spare(&folder.disk, &folder.journal(), journal::SMALLEST)?;
    journal::begin(&folder.disk, &folder.journal(), 0, 1)?;
    let head = first_head(&signer, 0, merkle::empty_root());
    head.replace(&folder, cut_off.as_deref())?;
    folder.disk.write_durably(&folder.path("checkpoint"), head.note.as_bytes())?;
    folder.write_format()
}

pub(crate) fn first_head(signer: &Signer, size: u64, root: merkle::Hash) -> Head {
    let checkpoint = Checkpoint { origin: signer.origin.clone(), size, root };
    Head { note: signer.sign(&checkpoint), checkpoint, synced: size, stored: size }
}

pub(crate) fn lock(folder: &Folder) -> Result<Vec<Lock>, Error> {
    let mut head = folder.head.clone().into_os_string();
    head.push(".lock");
    Ok(vec![folder.disk.lock(&folder.path("lock"))?, folder.disk.lock(head.as_ref())?])
}

/// What [`Ledger::open`] gives: the ledger, and the notices of recovery and of the time after it. The owner makes entries of them.
#[derive(Debug)]
pub struct Opened {
    /// The ledger, ready for appends.
    pub ledger: Ledger,
    /// First what recovery found, then what happens.
    pub notices: Receiver<Notice>,
}

/// A ledger that is ours, proven and sealed as far as it goes, with a new journal segment: the next entry can be written. No
/// thread runs yet.
pub(crate) struct Settled {
    pub(crate) folder: Folder,
    pub(crate) version: u32,
    pub(crate) locks: Vec<Lock>,
    pub(crate) signer: Signer,
    pub(crate) sealer: Sealer,
    pub(crate) positions: Positions,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) tail: EndOfLog,
    pub(crate) active: Active,
    pub(crate) clock: Running,
    /// What recovery found.
    pub(crate) notices: Vec<Notice>,
}

/// Where the log goes on.
pub(crate) struct EndOfLog {
    pub(crate) size: u64,
    pub(crate) generation: u64,
    /// Milliseconds that the ledger had been open before.
    pub(crate) tick: u64,
    /// What the wall clock showed when `clock` was at zero.
    pub(crate) zero: DateTime<Utc>,
}

/// Takes the locks, recovers, and seals what recovery found.
pub(crate) fn settle(config: &Config) -> Result<Settled, Error> {
    let folder = config.folder();
    let version = folder.check_format(true)?;
    let locks = lock(&folder)?;
    let (origin, list) = (folder.origin()?, KeyList::read(&folder)?);
    list.check_secrets(&folder, &origin)?;
    let head = Head::read(&folder, &origin, &list)?;
    let Recovered { groups, size, last, generation, mut notices, mended } = recover(&folder, &head)?;
    let signer = Signer::open(&folder, &origin, list, size)?;
    let head_text = head.to_text();
    let (_, mut positions) = read_positions(&folder)?;
    let blocks = Arc::new(Blocks::default());
    let stored = head.stored;
    let (to, sealed) = (Arc::clone(&blocks), positions.clone());
    let mut sealer = Sealer::load(&folder, signer.clone(), head, Some(head_text), to, sealed, &config.limits)?;
    remove_torn(&folder, mended, groups.iter())?;
    for group in &groups {
        sealer.ingest(group);
        collect_positions(group, stored, &mut positions);
    }
    // The tiles of the last checkpoint may have been lost with the power: write them again before anybody reads.
    sealer.remove_stale_partials()?;
    // A process that dies again and again begins a segment each time; they must not fill the disk.
    let many = journal::segments(&folder.disk, &folder.journal())?.len() > SEGMENTS;
    if mended || many {
        sealer.sync(Store::All)?;
    } else {
        sealer.seal()?;
    }
    sealer.caught_up();
    if config.disk.read_if_there(&folder.journal().join(journal::SPARE))?.is_none() {
        make_spare(&folder.disk, &folder.journal(), config.limits.segment_bytes.min(journal::QUICK))?;
    }
    let generation = generation + 1;
    let active = journal::begin(&folder.disk, &folder.journal(), size, generation)?;
    if mended {
        // The damaged segment has a copy in quarantine, and everything in it is stored.
        sealer.remove_segments(&folder.journal())?;
    }
    let clock = Running::start(&config.clock);
    let zero = clock.wall();
    let stamp = last.as_deref().and_then(split_leaf).map(|(stamp, _)| stamp);
    if let Some(last) =
        stamp.as_ref().map(|stamp| stamp.recorded_at).filter(|last| *last > zero + TimeDelta::seconds(1))
    {
        notices.push(Notice::ClockStep { expected: last, actual: zero });
    }
    let tail = EndOfLog { size, generation, tick: stamp.map_or(0, |stamp| stamp.tick), zero };
    Ok(Settled { folder, version, locks, signer, sealer, positions, blocks, tail, active, clock, notices })
}

impl Ledger {
    /// Opens a ledger for writing. Only the tail that is not sealed and synced is read, so this takes less than a second
    /// whatever the size.
    ///
    /// # Errors
    /// [`Error::Locked`]: try again. [`Error::NotALedger`], [`Error::Newer`], [`Error::HeadMissing`], [`Error::HeadAhead`],
    /// [`Error::Inconsistent`], [`Error::Damaged`], [`Error::NoSigningKey`]: a person has to decide.
    pub fn open(config: &Config) -> Result<Opened, Error> {
        let Settled { folder, version, locks, signer, sealer, positions, blocks, tail, active, clock, notices } =
            settle(config)?;
        let (sender, receiver) = sync_channel(NOTICES);
        let head = sealer.head();
        let state = Tail {
            groups: VecDeque::new(),
            bytes: 0,
            unseen: 0,
            buffers: Vec::new(),
            committed: tail.size,
            sealed: head.checkpoint.size,
            synced: head.synced,
            stored: head.stored,
            note: head.note.as_str().into(),
            writer_done: false,
            failed: false,
        };
        let shared =
            Arc::new(Shared::new(folder.clone(), config.limits.clone(), clock, state, positions, blocks, sender));
        for notice in notices {
            shared.notify(notice);
        }
        let EndOfLog { size, generation, tick, zero } = tail;
        let writer = Writer { active, generation, next: size, crc: 0, base_tick: tick, zero };
        let threads = vec![
            spawn("ledger-writer", &shared, move |shared| run_writer(writer, shared))?,
            spawn("ledger-sealer", &shared, move |shared| run_sealer(sealer, shared))?,
            spawn("ledger-keeper", &shared, keeper::run)?,
        ];
        let tiles = TileStore::new(folder.disk.clone(), &folder.dir);
        let ledger = Self {
            shared,
            tiles,
            version,
            threads: Mutex::new(threads),
            origin: signer.origin,
            keys: signer.list,
            locks: Mutex::new(locks),
        };
        Ok(Opened { ledger, notices: receiver })
    }

    /// Queues an append; `done` is called once with the receipt, after the fsync, in the order of the indices. If this returns
    /// an error, `done` is not called and nothing was kept.
    ///
    /// # Errors
    /// [`AppendError::Busy`]: later. [`AppendError::TooLarge`], [`AppendError::Malformed`]: never as it is.
    pub fn append(
        &self,
        append: Append,
        done: impl FnOnce(Result<Receipt, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let bytes = self.check(&append)?;
        let Append { lane, bodies, payload, position } = append;
        self.shared.enqueue(Job { lane, bodies, payload, position, bytes, done: Box::new(done), since: Instant::now() })
    }

    /// Appends and waits for the receipt.
    ///
    /// # Errors
    /// Those of [`Ledger::append`].
    pub fn append_wait(&self, append: Append) -> Result<Receipt, AppendError> {
        let (sender, receiver) = sync_channel(1);
        self.append(append, move |receipt| {
            // The receiver is waiting below, so this cannot fail.
            let _ = sender.send(receipt);
        })?;
        receiver.recv().unwrap_or_else(|_| Err(AppendError::Failed("the writer has ended".into())))
    }

    fn check(&self, append: &Append) -> Result<usize, AppendError> {
        let Append { bodies, payload, position, .. } = append;
        let Some(first) = bodies.first() else { return Err(AppendError::Malformed("it has no body")) };
        for body in bodies {
            if body.len() > MAX_BODY {
                return Err(AppendError::TooLarge { what: "a body", len: body.len(), limit: MAX_BODY });
            }
            if body.contains(&b'\n') {
                return Err(AppendError::Malformed("a body contains a line feed"));
            }
        }
        if let Some(payload) = payload {
            let commit = payload.reference().commit.as_bytes();
            if !first.windows(commit.len()).any(|window| window == commit) {
                return Err(AppendError::Malformed("its first body does not name its payload"));
            }
        }
        if let Some(position) = position {
            if position.source.is_empty()
                || position.source.len() > MAX_SOURCE
                || position.position.len() > MAX_POSITION
            {
                return Err(AppendError::Malformed("a source has 1 to 1,024 bytes, its position at most 4,096"));
            }
            let positions = self.shared.positions();
            if positions.len() >= MAX_SOURCES && !positions.contains_key(&position.source) {
                return Err(AppendError::Malformed("there are 65,536 sources already"));
            }
        }
        let bytes = append_bytes(bodies, payload.as_ref(), position.as_ref());
        let limit = self.shared.limits.append_bytes();
        if bytes > limit { Err(AppendError::TooLarge { what: "the append", len: bytes, limit }) } else { Ok(bytes) }
    }

    /// Number of durable entries.
    pub fn size(&self) -> u64 {
        self.shared.tail().committed
    }

    /// Waits until entry `index` is durable, the time is over or the ledger stops. Returns the number of durable entries.
    pub fn wait_beyond(&self, index: u64, timeout: Duration) -> u64 {
        self.shared.wait_tail(timeout, |tail| tail.committed > index || tail.writer_done).committed
    }

    /// Waits until a checkpoint covers entry `index`, the time is over or the ledger stops. Returns the size of the latest
    /// checkpoint. The proof of a durable entry is never absent, only not there yet: wait here for it.
    pub fn wait_sealed(&self, index: u64, timeout: Duration) -> u64 {
        self.shared.wait_tail(timeout, |tail| tail.sealed > index).sealed
    }

    /// The latest signed checkpoint.
    pub fn checkpoint(&self) -> Arc<str> {
        Arc::clone(&self.shared.tail().note)
    }

    /// Version of the folder's format. What only a later version can hold has to be refused, see [`crate::upgrade`].
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The verifier keys that sign now.
    pub fn vkeys(&self) -> Vec<String> {
        self.keys.at(&self.origin, self.size()).map(ToString::to_string).collect()
    }

    /// How far each source has been read: the last position that came with a durable append.
    pub fn positions(&self) -> BTreeMap<String, String> {
        self.shared.positions().clone()
    }

    /// How long the oldest unanswered append has been waiting; none when idle.
    pub fn oldest_wait(&self) -> Option<Duration> {
        self.shared.oldest_wait()
    }

    /// Why the ledger has stopped, if it has.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.shared.failure()
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        let (committed, sealed, synced) = {
            let tail = self.shared.tail();
            (tail.committed, tail.sealed, tail.synced)
        };
        Stats {
            committed,
            sealed,
            synced,
            queued_bytes: self.shared.queued_bytes(),
            appends: of(&counters.appends),
            groups: of(&counters.groups),
            journal_bytes: of(&counters.journal_bytes),
            sync_micros: of(&counters.sync_micros),
            refused_push: of(&counters.refused_push),
            refused_pull: of(&counters.refused_pull),
            notices_lost: of(&counters.notices_lost),
            space: self.shared.queue().space,
        }
    }

    /// Answers what is queued, seals, stores and lets go of the folder. Appends from now on are refused as busy.
    ///
    /// # Errors
    /// [`Error::Failed`] if the ledger had stopped, or stopped on the way.
    pub fn close(&self) -> Result<(), Error> {
        self.shared.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has said so to the others (see `Watch`).
            let _ = thread.join();
        }
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        match self.shared.failure() {
            Some(reason) => Err(Error::Failed { reason }),
            None => Ok(()),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.close();
    }
}

/// Tells the other threads when one of them panics, so that nobody waits for it for ever.
struct Watch(Arc<Shared>, &'static str);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&format!("the thread {} panicked", self.1));
        }
    }
}

fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Shared) + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let watch = Watch(Arc::clone(shared), name);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&watch.0));
    thread.map_err(Error::io("start a thread for", &shared.folder.dir))
}

fn collect_positions(group: &Group, stored: u64, positions: &mut Positions) {
    for position in
        group.appends.iter().filter(|append| append.first >= stored).filter_map(|append| append.position.as_ref())
    {
        positions.insert(position.source.clone(), position.position.clone());
    }
}
