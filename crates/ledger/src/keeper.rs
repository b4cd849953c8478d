//! The keeper's thread: makes the next journal segment ahead, and watches the space on disk.

use crate::config::Limits;
use crate::durable::Space;
use crate::error::Error;
use crate::journal::make_spare;
use crate::notice::Notice;
use crate::shared::{Shared, SpaceLevel, Spare};
use chrono::{DateTime, Utc};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(1);

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

/// A time of refusing that goes on.
struct Episode {
    since: DateTime<Utc>,
    push: u64,
    pull: u64,
}

/// Runs until the ledger closes or fails.
pub(crate) fn run(shared: &Shared) {
    let mut episode = None;
    loop {
        if let Err(error) = round(shared, &mut episode) {
            if !error.is_full() {
                shared.fail(&error.to_string());
                return;
            }
            shared.queue().spare = Spare::NoSpace;
            shared.spare.notify_all();
        }
        let queue = shared.queue();
        if queue.writer_done || shared.tail().failed {
            return;
        }
        let idle = |queue: &mut crate::shared::Queue| !queue.writer_done && queue.spare != Spare::Wanted;
        drop(shared.spare.wait_timeout_while(queue, ROUND, idle).unwrap_or_else(PoisonError::into_inner));
    }
}

fn round(shared: &Shared, episode: &mut Option<Episode>) -> Result<(), Error> {
    let folder = &shared.folder;
    let space = folder.disk.space(&folder.dir)?;
    let level = level(space, &shared.limits);
    let before = std::mem::replace(&mut shared.queue().space, level);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (push, pull) = (count(&shared.counters.space_push), count(&shared.counters.space_pull));
    match (&*episode, level) {
        (None, SpaceLevel::Low | SpaceLevel::Short) => {
            let since = shared.clock.wall();
            *episode = Some(Episode { since, push, pull });
            shared.notify(Notice::Gap { since, until: None, push: 0, pull: 0 });
        }
        (Some(over), SpaceLevel::Enough) => {
            shared.notify(Notice::Gap {
                since: over.since,
                until: Some(shared.clock.wall()),
                push: push - over.push,
                pull: pull - over.pull,
            });
            *episode = None;
        }
        _ => {}
    }
    let reserve = folder.path("reserve");
    if level == SpaceLevel::Short && before != SpaceLevel::Short {
        // Room for the entry that says so, and for the seal after it.
        folder.disk.remove(&reserve)?;
    }
    if level == SpaceLevel::Enough
        && folder.disk.list(&folder.dir)?.iter().all(|name| name != "reserve")
        && shared.limits.reserve_bytes > 0
    {
        folder.disk.make_zeroed(&reserve, &[], shared.limits.reserve_bytes)?;
    }
    if shared.queue().spare != Spare::Ready {
        if level == SpaceLevel::Short {
            shared.queue().spare = Spare::NoSpace;
        } else {
            make_spare(&folder.disk, &folder.journal(), shared.limits.segment_bytes)?;
            shared.queue().spare = Spare::Ready;
        }
        shared.spare.notify_all();
    }
    Ok(())
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
