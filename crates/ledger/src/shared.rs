//! What the threads of an open ledger share: the queue before the writer, and the tail behind it.

use crate::blocks::Blocks;
use crate::config::{Limits, Running};
use crate::error::{AppendError, Busy};
use crate::group::{Group, Position};
use crate::head::{Folder, Positions};
use crate::notice::Notice;
use crate::payload::Payload;
use chrono::{DateTime, Utc};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who waits for an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The ledger's owner, about itself: notices, heartbeats. Before all others, also when disk space is short.
    Own,
    /// A sender that will not come back. Before those that can wait.
    Push,
    /// A source that can wait: files, imports, scrapes.
    Pull,
}

const LANES: usize = 3;
/// Budget of [`Lane::Own`]: its entries are few and small.
const OWN_BYTES: usize = 4 << 20;
/// Committed bytes that wait for the sealer, at most. Beyond, the writer waits, and then the lanes fill up.
const TAIL_BYTES: usize = 128 << 20;
/// Committed bytes after which the sealer does not wait for its time.
pub(crate) const SEAL_BYTES: usize = 32 << 20;
/// Bytes of buffers that wait for their next group.
const BUFFER_BYTES: usize = 16 << 20;
/// Committed bytes that are worth waking the sealer for. Fewer wait for the next seal: a wake-up per group would take the core
/// from the one who waits for a receipt.
pub(crate) const WAKE_BYTES: usize = 256 << 10;

/// A writer waits so many times [`Limits::again`] for room behind it. Then the disk of `head` takes nothing, and senders are told.
const STUCK: u32 = 5;

/// A group's worth of appends.
pub(crate) struct Taken {
    pub(crate) jobs: Vec<Job>,
    /// The sealer is near enough: they can be written.
    pub(crate) room: bool,
}

/// While senders come together, a group waits so long for company: a sync costs the processor as much as some ten appends.
const GATHER: Duration = Duration::from_millis(2);
/// With so many appends or bytes it waits no longer.
const ENOUGH: usize = 32;
const ENOUGH_BYTES: usize = 256 << 10;

/// The answer to an append: it is durable, at these indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Index of its first leaf.
    pub first: u64,
    /// Index of its last leaf.
    pub last: u64,
    /// The time in its leaves.
    pub recorded_at: DateTime<Utc>,
}

/// Called once with the answer, from the writer's thread: be quick.
pub type Done = Box<dyn FnOnce(Result<Receipt, AppendError>) + Send>;

/// An append in the queue.
pub(crate) struct Job {
    pub(crate) lane: Lane,
    pub(crate) bodies: Vec<Vec<u8>>,
    pub(crate) payload: Option<Payload>,
    pub(crate) position: Option<Position>,
    pub(crate) bytes: usize,
    pub(crate) done: Done,
    pub(crate) since: Instant,
}

/// How much space there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceLevel {
    /// Enough.
    Enough,
    /// Those that can wait are refused.
    Low,
    /// All but the owner are refused.
    Short,
}

pub(crate) struct Queue {
    lanes: [VecDeque<Job>; LANES],
    /// Bytes queued or being written.
    bytes: [usize; LANES],
    pub(crate) space: SpaceLevel,
    /// The writer's last group was refused by the disk.
    pub(crate) obstacle: bool,
    /// The first refusal by the disk that the keeper has not dealt with: when, and why.
    pub(crate) refused: Option<(DateTime<Utc>, Busy)>,
    pub(crate) closing: bool,
    pub(crate) writer_done: bool,
    failed: Option<Arc<str>>,
    pub(crate) spare: Spare,
    /// Since when the writer has been at work on a group.
    writing_since: Option<Instant>,
    /// The writer waits until so many appends are queued. Only then it is woken: a call into the kernel per append would cost
    /// more than the append.
    wake_at: Option<usize>,
}

impl Queue {
    fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Whether a group of what is queued is as large as is worth waiting for.
    fn is_enough(&self) -> bool {
        self.closing
            || self.failed.is_some()
            || self.len() >= ENOUGH
            || self.bytes.iter().sum::<usize>() >= ENOUGH_BYTES
    }

    /// When the append that has waited longest came.
    fn oldest(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.front()).map(|job| job.since).min()
    }
}

/// The segment that is made ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spare {
    Wanted,
    Ready,
    /// The disk does not take it.
    Refused(Busy),
}

pub(crate) struct Tail {
    /// Groups that are committed and not in a checkpoint yet.
    pub(crate) groups: VecDeque<Arc<Group>>,
    pub(crate) bytes: usize,
    /// Of these bytes, those that the sealer has not taken in.
    pub(crate) unseen: usize,
    /// Memory of groups that are sealed, for the next ones: the kernel would have to clear every page of fresh memory.
    pub(crate) buffers: Vec<Vec<u8>>,
    pub(crate) committed: u64,
    pub(crate) sealed: u64,
    pub(crate) synced: u64,
    pub(crate) stored: u64,
    pub(crate) note: Arc<str>,
    pub(crate) writer_done: bool,
    pub(crate) failed: bool,
}

impl Tail {
    /// Keeps a buffer for the next group, unless there are enough.
    pub(crate) fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.iter().map(Vec::capacity).sum::<usize>() + buffer.capacity() <= BUFFER_BYTES {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

/// Counters since opening.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) journal_bytes: AtomicU64,
    pub(crate) sync_micros: AtomicU64,
    pub(crate) refused_push: AtomicU64,
    pub(crate) refused_pull: AtomicU64,
    /// Of the refused, those because of the disk.
    pub(crate) space_push: AtomicU64,
    pub(crate) space_pull: AtomicU64,
    pub(crate) notices_lost: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) folder: Folder,
    pub(crate) limits: Limits,
    pub(crate) clock: Running,
    queue: Mutex<Queue>,
    /// The writer has something to do.
    work: Condvar,
    /// Something happened to the segment that is made ahead, or there is an end.
    pub(crate) spare: Condvar,
    tail: Mutex<Tail>,
    /// Something happened to the tail.
    pub(crate) moved: Condvar,
    /// There is enough for the sealer to do, or an end.
    pub(crate) sealable: Condvar,
    pub(crate) positions: Mutex<Positions>,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) counters: Counters,
    pub(crate) notices: SyncSender<Notice>,
}

fn at(lane: Lane) -> usize {
    lane as usize
}

impl Shared {
    pub(crate) fn new(
        folder: Folder,
        limits: Limits,
        clock: Running,
        tail: Tail,
        positions: Positions,
        blocks: Arc<Blocks>,
        notices: SyncSender<Notice>,
    ) -> Self {
        let queue = Queue {
            lanes: Default::default(),
            bytes: [0; LANES],
            space: SpaceLevel::Enough,
            obstacle: false,
            refused: None,
            closing: false,
            writer_done: false,
            failed: None,
            spare: Spare::Wanted,
            writing_since: None,
            wake_at: None,
        };
        Self {
            folder,
            limits,
            clock,
            queue: Mutex::new(queue),
            work: Condvar::new(),
            spare: Condvar::new(),
            tail: Mutex::new(tail),
            moved: Condvar::new(),
            sealable: Condvar::new(),
            positions: Mutex::new(positions),
            blocks,
            counters: Counters::default(),
            notices,
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.counters.notices_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn budget(&self, lane: Lane) -> usize {
        match lane {
            Lane::Own => OWN_BYTES,
            Lane::Push => self.limits.push_bytes,
            Lane::Pull => self.limits.pull_bytes,
        }
    }

    fn count_refusal(&self, lane: Lane, by_disk: bool) {
        let (all, space) = match lane {
            Lane::Own => return,
            Lane::Push => (&self.counters.refused_push, &self.counters.space_push),
            Lane::Pull => (&self.counters.refused_pull, &self.counters.space_pull),
        };
        all.fetch_add(1, Ordering::Relaxed);
        if by_disk {
            space.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts an append into its lane, or says why not.
    pub(crate) fn enqueue(&self, job: Job) -> Result<(), AppendError> {
        let lane = job.lane;
        let mut queue = self.queue();
        if let Some(reason) = &queue.failed {
            return Err(AppendError::Failed(Arc::clone(reason)));
        }
        let full = queue.bytes[at(lane)].saturating_add(job.bytes) > self.budget(lane);
        let short = match lane {
            Lane::Own => false,
            Lane::Push => queue.space >= SpaceLevel::Short,
            Lane::Pull => queue.space >= SpaceLevel::Low,
        };
        let busy = match (queue.closing, short, full) {
            (true, _, _) => Busy::Closing,
            (_, true, _) => Busy::Space,
            (_, _, true) => Busy::Queue,
            _ => {
                queue.bytes[at(lane)] += job.bytes;
                queue.lanes[at(lane)].push_back(job);
                let wake = queue.wake_at.is_some_and(|at| queue.len() >= at || queue.is_enough());
                if wake {
                    queue.wake_at = None;
                }
                drop(queue);
                if wake {
                    self.work.notify_one();
                }
                return Ok(());
            }
        };
        // Counted before the keeper can take the level away and tell how many were refused.
        self.count_refusal(lane, busy == Busy::Space);
        drop(queue);
        Err(AppendError::Busy(busy))
    }

    /// Waits for work and takes the next group's worth: one append, then more while they fit. With `gather` it also waits a
    /// moment for company. None when closing and empty, or after a failure.
    pub(crate) fn take(&self, limit: usize, gather: bool) -> Option<Taken> {
        // What is committed waits in memory for the sealer; there is a bound on that. A sealer that goes on makes room soon.
        let over = |tail: &mut Tail| tail.bytes > TAIL_BYTES && !tail.failed;
        let patience = self.limits.again() * STUCK;
        drop(self.moved.wait_timeout_while(self.tail(), patience, over).unwrap_or_else(PoisonError::into_inner));
        let mut queue = self.queue();
        loop {
            if queue.failed.is_some() {
                return None;
            }
            if let Some(oldest) = queue.oldest().filter(|_| gather) {
                let left = GATHER.saturating_sub(oldest.elapsed());
                if !left.is_zero() && !queue.is_enough() {
                    queue.wake_at = Some(ENOUGH);
                    queue = self.work.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
                    continue;
                }
            }
            queue.wake_at = None;
            let mut jobs = Vec::new();
            let mut bytes = 0;
            for lane in &mut queue.lanes {
                while let Some(job) = lane.pop_front_if(|job| bytes == 0 || bytes + job.bytes <= limit) {
                    bytes += job.bytes;
                    jobs.push(job);
                }
            }
            if !jobs.is_empty() {
                queue.writing_since = jobs.iter().map(|job| job.since).min();
                return Some(Taken { jobs, room: !over(&mut self.tail()) });
            }
            if queue.closing {
                return None;
            }
            queue.wake_at = Some(1);
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The disk refuses these appends. They are counted before the keeper can see that it is over.
    pub(crate) fn refuse(&self, jobs: &[Job], why: Busy) {
        for job in jobs {
            self.count_refusal(job.lane, true);
        }
        let now = self.clock.wall();
        let mut queue = self.queue();
        queue.obstacle = true;
        queue.refused.get_or_insert((now, why));
    }

    /// The disk has taken a group.
    pub(crate) fn taken(&self) {
        self.queue().obstacle = false;
    }

    /// Gives the bytes of answered appends back to their lanes.
    pub(crate) fn answered(&self, sizes: [usize; LANES]) {
        let mut queue = self.queue();
        for (bytes, size) in queue.bytes.iter_mut().zip(sizes) {
            *bytes -= size;
        }
        queue.writing_since = None;
    }

    /// Stops everything. Only the first reason counts.
    pub(crate) fn fail(&self, reason: &str) {
        let mut queue = self.queue();
        let reason: Arc<str> = Arc::clone(queue.failed.get_or_insert_with(|| reason.into()));
        let waiting: Vec<Job> = queue.lanes.iter_mut().flat_map(std::mem::take).collect();
        drop(queue);
        self.tail().failed = true;
        for job in waiting {
            (job.done)(Err(AppendError::Failed(Arc::clone(&reason))));
        }
        self.work.notify_all();
        self.spare.notify_all();
        self.moved.notify_all();
        self.sealable.notify_all();
    }

    /// Takes no more appends; the threads end when everything is answered and sealed.
    pub(crate) fn close(&self) {
        self.queue().closing = true;
        self.work.notify_all();
    }

    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.queue().failed.clone()
    }

    /// Since when the append that has waited longest has been waiting; none when idle.
    pub(crate) fn oldest_wait(&self) -> Option<Duration> {
        let queue = self.queue();
        queue.oldest().into_iter().chain(queue.writing_since).min().map(|since| since.elapsed())
    }

    /// Bytes unanswered in the lanes own, push, pull.
    pub(crate) fn queued_bytes(&self) -> [usize; LANES] {
        self.queue().bytes
    }

    /// Waits until `ready` says so, the time is over, or the ledger fails.
    pub(crate) fn wait_tail(&self, timeout: Duration, ready: impl Fn(&Tail) -> bool) -> MutexGuard<'_, Tail> {
        let guard = self.tail();
        self.moved
            .wait_timeout_while(guard, timeout, |tail| !ready(tail) && !tail.failed)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// Bytes of these jobs per lane.
pub(crate) fn sizes(jobs: &[Job]) -> [usize; LANES] {
    let mut sizes = [0; LANES];
    for job in jobs {
        sizes[at(job.lane)] += job.bytes;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Clock;
    use crate::durable::Disk;
    use std::path::PathBuf;

    fn shared() -> Shared {
        let folder = Folder { disk: Disk::Real, dir: PathBuf::new(), head: PathBuf::new() };
        let tail = Tail {
            groups: VecDeque::new(),
            bytes: 0,
            unseen: 0,
            buffers: Vec::new(),
            committed: 0,
            sealed: 0,
            synced: 0,
            stored: 0,
            note: "".into(),
            writer_done: false,
            failed: false,
        };
        let limits = Limits { push_bytes: 100, pull_bytes: 60, ..Limits::default() };
        let (notices, _) = std::sync::mpsc::sync_channel(1);
        let clock = Running::start(&Clock::System);
        Shared::new(folder, limits, clock, tail, Positions::new(), Arc::default(), notices)
    }

    fn job(lane: Lane, bytes: usize) -> Job {
        let done: Done = Box::new(|_| {});
        Job { lane, bodies: vec![], payload: None, position: None, bytes, done, since: Instant::now() }
    }

    #[test]
    fn those_who_do_not_come_back_go_first_and_budgets_last_until_the_answer() {
        let shared = shared();
        for (lane, bytes) in [(Lane::Pull, 30), (Lane::Pull, 30), (Lane::Push, 40), (Lane::Own, 1), (Lane::Push, 50)] {
            assert_eq!(shared.enqueue(job(lane, bytes)), Ok(()));
        }
        assert_eq!(shared.enqueue(job(Lane::Pull, 1)), Err(AppendError::Busy(Busy::Queue)));
        assert_eq!(shared.enqueue(job(Lane::Push, 11)), Err(AppendError::Busy(Busy::Queue)));
        let lanes = |jobs: &[Job]| jobs.iter().map(|job| (job.lane, job.bytes)).collect::<Vec<_>>();
        let first = shared.take(95, false).unwrap().jobs;
        assert_eq!(lanes(&first), [(Lane::Own, 1), (Lane::Push, 40), (Lane::Push, 50)]);
        assert!(shared.oldest_wait().is_some());
        // Taken is not answered.
        assert_eq!(shared.enqueue(job(Lane::Push, 11)), Err(AppendError::Busy(Busy::Queue)));
        shared.answered(sizes(&first));
        assert_eq!(shared.enqueue(job(Lane::Push, 100)), Ok(()));
        // One append is taken whatever its size.
        assert_eq!(lanes(&shared.take(50, false).unwrap().jobs), [(Lane::Push, 100)]);
        assert_eq!(lanes(&shared.take(50, false).unwrap().jobs), [(Lane::Pull, 30)]);
        shared.fail("enough");
        assert!(shared.take(50, false).is_none());
        assert_eq!(shared.enqueue(job(Lane::Own, 1)), Err(AppendError::Failed("enough".into())));
    }
}
