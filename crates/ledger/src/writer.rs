//! The two threads behind an append: the writer, which makes it durable, and the one that runs the sealer.

use crate::error::{AppendError, Busy, Error};
use crate::group::GroupBuilder;
use crate::journal::{self, Active};
use crate::leaf::time_text;
use crate::notice::Notice;
use crate::seal::{Sealer, Store};
use crate::shared::{Job, Receipt, SEAL_BYTES, Shared, Spare, Taken, WAKE_BYTES, sizes};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A group takes appends up to this size, unless one is larger by itself.
const GROUP_BYTES: usize = 4 << 20;
/// A step of the wall clock that is worth an entry.
const STEP: TimeDelta = TimeDelta::seconds(1);

/// What the writer knows besides the shared state.
pub(crate) struct Writer {
    pub(crate) active: Active,
    pub(crate) generation: u64,
    pub(crate) next: u64,
    pub(crate) crc: u32,
    /// Milliseconds that the ledger had been open before this opening.
    pub(crate) base_tick: u64,
    /// What the wall clock showed when the monotonic clock was at zero.
    pub(crate) zero: DateTime<Utc>,
}

/// The writer's thread: until the ledger closes or fails.
pub(crate) fn run_writer(mut writer: Writer, shared: &Shared) {
    let mut company = false;
    while let Some(Taken { jobs, room }) = shared.take(GROUP_BYTES, company) {
        company = jobs.len() > 1;
        let sizes = sizes(&jobs);
        let committed = if room { writer.commit(jobs, shared) } else { Err((jobs, Trouble::Passing(Busy::Space))) };
        match committed {
            Ok(answers) => {
                shared.taken();
                shared.answered(sizes);
                for (done, receipt) in answers {
                    done(Ok(receipt));
                }
            }
            Err((jobs, Trouble::Passing(busy))) => {
                shared.refuse(&jobs, busy);
                shared.answered(sizes);
                for job in jobs {
                    (job.done)(Err(AppendError::Busy(busy)));
                }
            }
            Err((jobs, Trouble::Fatal(error))) => {
                let reason: Arc<str> = error.to_string().into();
                shared.fail(&reason);
                for job in jobs {
                    (job.done)(Err(AppendError::Failed(Arc::clone(&reason))));
                }
            }
        }
    }
    shared.queue().writer_done = true;
    shared.spare.notify_all();
    shared.tail().writer_done = true;
    shared.moved.notify_all();
    shared.sealable.notify_all();
}

type Answers = Vec<(crate::shared::Done, Receipt)>;

/// Why a group is not in the journal.
enum Trouble {
    /// The disk takes nothing just now. Nothing has changed: the next group is written to the same place, over whatever part of
    /// this one may be there. A part is never taken for a group: its CRC is wrong, and of a longer one before only bytes without
    /// a header can remain behind a shorter one.
    Passing(Busy),
    Fatal(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        error.passing().map_or_else(|| Self::Fatal(error), Self::Passing)
    }
}

impl Writer {
    fn commit(&mut self, mut jobs: Vec<Job>, shared: &Shared) -> Result<Answers, (Vec<Job>, Trouble)> {
        let (now, tick) = self.clock(shared);
        let capacity: usize = 128 + crate::group::PAGE + jobs.iter().map(|job| job.bytes).sum::<usize>();
        if let Err(trouble) = self.make_room(capacity as u64, shared) {
            return Err((jobs, trouble));
        }
        let mut buffer = shared.tail().buffers.pop().unwrap_or_default();
        buffer.reserve(capacity);
        let mut builder =
            GroupBuilder::new(self.active.nonce, self.generation, self.next, self.crc, time_text(now), tick, buffer);
        let mut receipts = Vec::with_capacity(jobs.len());
        for job in &mut jobs {
            let first = builder.push(&job.bodies, job.payload.as_ref(), job.position.clone());
            receipts.push(Receipt { first, last: first + job.bodies.len() as u64 - 1, recorded_at: now });
        }
        let group = builder.finish();
        let begun = Instant::now();
        if let Err(error) =
            self.active.file.write_at(self.active.at, group.bytes()).and_then(|()| self.active.file.sync())
        {
            return Err((jobs, error.into()));
        }
        let counters = &shared.counters;
        let bytes = group.bytes().len();
        counters
            .sync_micros
            .fetch_add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.appends.fetch_add(jobs.len() as u64, Ordering::Relaxed);
        counters.journal_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.active.at += bytes as u64;
        self.crc = group.crc;
        self.next = group.end();
        {
            let mut positions = shared.positions();
            for position in jobs.iter_mut().filter_map(|job| job.position.take()) {
                positions.insert(position.source, position.position);
            }
        }
        {
            let mut tail = shared.tail();
            tail.committed = self.next;
            tail.bytes += bytes;
            tail.unseen += bytes;
            if tail.unseen >= WAKE_BYTES {
                shared.sealable.notify_one();
            }
            tail.groups.push_back(Arc::new(group));
        }
        shared.moved.notify_all();
        Ok(jobs.into_iter().map(|job| job.done).zip(receipts).collect())
    }

    /// Reads the clocks and notices a step of one against the other.
    fn clock(&mut self, shared: &Shared) -> (DateTime<Utc>, u64) {
        let (now, millis) = (shared.clock.wall(), shared.clock.millis());
        let expected = self.zero + TimeDelta::milliseconds(i64::try_from(millis).unwrap_or(i64::MAX));
        if (now - expected).abs() > STEP {
            shared.notify(Notice::ClockStep { expected, actual: now });
        }
        self.zero += now - expected;
        (now, self.base_tick + millis)
    }

    /// Makes sure that so many bytes fit; takes the next segment if they do not.
    fn make_room(&mut self, bytes: u64, shared: &Shared) -> Result<(), Trouble> {
        // The first segment of an opening can be smaller than an append.
        while self.active.at + bytes > self.active.len {
            Self::wait_for_spare(shared)?;
            self.active = journal::begin(&shared.folder.disk, &shared.folder.journal(), self.next, self.generation)?;
            shared.queue().spare = Spare::Wanted;
            shared.spare.notify_all();
        }
        Ok(())
    }

    fn wait_for_spare(shared: &Shared) -> Result<(), Trouble> {
        let waiting = |queue: &mut crate::shared::Queue| queue.spare == Spare::Wanted;
        let mut queue = shared.queue();
        loop {
            match queue.spare {
                Spare::Ready => return Ok(()),
                Spare::Refused(why) => {
                    queue.spare = Spare::Wanted;
                    shared.spare.notify_all();
                    return Err(Trouble::Passing(why));
                }
                Spare::Wanted => {
                    if shared.tail().failed {
                        return Err(Error::Failed { reason: "no next journal segment".into() }.into());
                    }
                    let timeout = Duration::from_secs(1);
                    queue = shared
                        .spare
                        .wait_timeout_while(queue, timeout, waiting)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
            }
        }
    }
}

/// The sealer's thread. After the writer has ended it stores everything, so that a clean start finds an empty journal.
pub(crate) fn run_sealer(mut sealer: Sealer, shared: &Shared) {
    // A disk that takes nothing just now is waited for; anything else ends the ledger.
    let mut wait = shared.limits.seal_every().min(sealer.due_in());
    loop {
        let step = step(&mut sealer, shared, wait);
        match step {
            Ok(Next::Done) => return,
            Ok(Next::In(next)) => wait = next,
            Err(error) if error.passing().is_some() && !shared.tail().writer_done => wait = shared.limits.again(),
            Err(error) => {
                shared.fail(&error.to_string());
                return;
            }
        }
    }
}

enum Next {
    In(Duration),
    Done,
}

fn step(sealer: &mut Sealer, shared: &Shared, wait: Duration) -> Result<Next, Error> {
    let until = Instant::now() + wait;
    let closing = loop {
        // Take in what is there, hashing while the writer is at its next fsync.
        let seen = sealer.size();
        let left = until.saturating_duration_since(Instant::now());
        let idle = |tail: &mut crate::shared::Tail| tail.unseen < WAKE_BYTES && !tail.writer_done && !tail.failed;
        let mut tail =
            shared.sealable.wait_timeout_while(shared.tail(), left, idle).unwrap_or_else(PoisonError::into_inner).0;
        if tail.failed {
            return Ok(Next::Done);
        }
        tail.unseen = 0;
        let closing = tail.writer_done;
        let from = tail.groups.partition_point(|group| group.end() <= seen);
        let fresh: Vec<_> = tail.groups.range(from..).cloned().collect();
        let enough = tail.bytes >= SEAL_BYTES;
        drop(tail);
        for group in &fresh {
            sealer.ingest(group);
        }
        if !fresh.is_empty() {
            sealer.write_complete()?;
        }
        if closing && fresh.is_empty() {
            break true;
        }
        if enough || Instant::now() >= until {
            break false;
        }
    };
    if closing {
        sealer.sync(Store::All)?;
    } else if let Some(store) = sealer.due() {
        sealer.sync(store)?;
    } else if sealer.size() > sealer.head().checkpoint.size {
        sealer.seal()?;
    }
    publish(sealer, shared);
    if closing {
        return Ok(Next::Done);
    }
    Ok(Next::In(shared.limits.seal_every()))
}

/// Lets readers see the new checkpoint, and frees the groups that it covers.
pub(crate) fn publish(sealer: &Sealer, shared: &Shared) {
    let head = sealer.head();
    let mut tail = shared.tail();
    if (tail.sealed, tail.synced, tail.stored) == (head.checkpoint.size, head.synced, head.stored) {
        return;
    }
    tail.sealed = head.checkpoint.size;
    tail.synced = head.synced;
    tail.stored = head.stored;
    tail.note = head.note.as_str().into();
    while let Some(group) = tail.groups.pop_front_if(|group| group.end() <= head.checkpoint.size) {
        tail.bytes -= group.bytes().len();
        // Unless somebody is reading in it.
        if let Some(group) = Arc::into_inner(group) {
            tail.keep(group.into_buffer());
        }
    }
    drop(tail);
    shared.moved.notify_all();
}
