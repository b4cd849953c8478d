//! The keeper's thread: makes the next journal segment ahead, and watches the space on disk.

use crate::config::Limits;
use crate::durable::Space;
use crate::error::{Busy, Error};
use crate::journal::make_spare;
use crate::notice::Notice;
use crate::shared::{Queue, Shared, SpaceLevel, Spare};
use chrono::{DateTime, Utc};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// The level for so much space.
pub(crate) fn level(space: Space, limits: &Limits) -> SpaceLevel {
    if space.free < limits.stop_below_bytes {
        SpaceLevel::Short
    } else if space.free / 100 < space.total / 10_000 * limits.pause_below_percent {
        SpaceLevel::Low
    } else {
        SpaceLevel::Enough
    }
}

/// What has been told about refusals.
#[derive(Default)]
struct Told {
    /// Since when senders are refused, as told.
    gap: Option<(DateTime<Utc>, Busy)>,
    /// Refusals in the gaps that are over.
    push: u64,
    pull: u64,
}

/// Runs until the ledger closes or fails.
pub(crate) fn run(shared: &Shared) {
    let mut told = Told::default();
    loop {
        if let Err(error) = round(shared, &mut told) {
            let Some(why) = error.passing() else {
                shared.fail(&error.to_string());
                return;
            };
            let mut queue = shared.queue();
            if queue.spare == Spare::Wanted {
                queue.spare = Spare::Refused(why);
            }
            drop(queue);
            shared.spare.notify_all();
        }
        let queue = shared.queue();
        if queue.writer_done || shared.tail().failed {
            return;
        }
        let idle = |queue: &mut Queue| !queue.writer_done && queue.spare != Spare::Wanted;
        drop(
            shared.spare.wait_timeout_while(queue, shared.limits.again(), idle).unwrap_or_else(PoisonError::into_inner),
        );
    }
}

fn round(shared: &Shared, told: &mut Told) -> Result<(), Error> {
    let folder = &shared.folder;
    let level = level(folder.disk.space(&folder.dir)?, &shared.limits);
    tell(shared, level, told);
    if shared.queue().spare != Spare::Ready {
        if level == SpaceLevel::Short {
            shared.queue().spare = Spare::Refused(Busy::Space);
        } else {
            make_spare(&folder.disk, &folder.journal(), shared.limits.segment_bytes)?;
            shared.queue().spare = Spare::Ready;
        }
        shared.spare.notify_all();
    }
    let reserve = folder.path("reserve");
    let is_there = folder.disk.list(&folder.dir)?.iter().any(|name| name == "reserve");
    match level {
        // Room for the entry that says so, and for the seal after it.
        SpaceLevel::Short if is_there => folder.disk.remove(&reserve),
        SpaceLevel::Enough if !is_there && shared.limits.reserve_bytes > 0 => {
            folder.disk.make_zeroed(&reserve, &[], shared.limits.reserve_bytes)
        }
        _ => Ok(()),
    }
}

/// Lets senders see the level, and tells where a time of refusing begins and ends. It is over when there is space and the
/// writer's last group was not refused: nobody knows that a disk takes writes again before one has succeeded.
fn tell(shared: &Shared, level: SpaceLevel, told: &mut Told) {
    let now = shared.clock.wall();
    let (refused, obstacle) = {
        let mut queue = shared.queue();
        queue.space = level;
        (queue.refused.take(), queue.obstacle)
    };
    let short = level != SpaceLevel::Enough;
    if told.gap.is_none()
        && let Some((since, why)) = refused.or_else(|| short.then_some((now, Busy::Space)))
    {
        told.gap = Some((since, why));
        shared.notify(Notice::Gap { why, since, until: None, push: 0, pull: 0 });
    }
    if !short
        && !obstacle
        && let Some((since, why)) = told.gap.take()
    {
        // All refusals were counted before the obstacle or the level was taken away.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (push, pull) = (count(&shared.counters.space_push), count(&shared.counters.space_pull));
        let gap = Notice::Gap { why, since, until: Some(now), push: push - told.push, pull: pull - told.pull };
        (told.push, told.pull) = (push, pull);
        shared.notify(gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_the_thresholds_of_the_limits() {
        let limits = Limits::default();
        let of = |free_mib: u64, total_mib: u64| level(Space { free: free_mib << 20, total: total_mib << 20 }, &limits);
        assert_eq!(of(2_000, 10_000), SpaceLevel::Enough);
        assert_eq!(of(999, 10_000), SpaceLevel::Low);
        assert_eq!(of(511, 10_000), SpaceLevel::Short);
        assert_eq!(of(511, 1_000), SpaceLevel::Short);
    }
}
