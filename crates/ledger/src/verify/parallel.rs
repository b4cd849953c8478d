//! Work on many files at once. Verification is a command and may take the whole machine; its threads end before it does.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Most threads: beyond these the disk is what one waits for.
const MOST_THREADS: usize = 8;

/// Does the work for every item on all cores, and gives the results in the order of the items. Each thread has an `S` of its
/// own, for what is used again from item to item.
pub(super) fn map<T: Sync, S: Default, R: Send>(items: &[T], work: impl Fn(&mut S, &T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS).min(items.len());
    let next = AtomicUsize::new(0);
    let share = || {
        let (mut own, mut done) = (S::default(), Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(&mut own, item)));
        }
    };
    if threads <= 1 {
        return share().into_iter().map(|(_, result)| result).collect();
    }
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a panic is a bug: it goes on here")).collect()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_item_is_done_once_and_in_order() {
        for n in [0, 1, 2, 1000] {
            let items: Vec<u32> = (0..n).collect();
            let squares: Vec<u32> = items.iter().map(|n| n * n).collect();
            assert_eq!(super::map(&items, |(): &mut (), n| n * n), squares);
        }
    }
}
