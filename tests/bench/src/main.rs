//! The goals of speed as ratios, each beside something measured in the same process and in the same run.
//!
//! `tests/bench/run [lines|events|index|verify …]`; without words all of them.

mod events;
mod index;
mod lines;
mod verify;

use std::{
    env, fs,
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

fn main() {
    let wanted: Vec<String> = env::args().skip(1).collect();
    for (name, run) in [
        ("lines", lines::run as fn()),
        ("events", events::run as fn()),
        ("index", index::run as fn()),
        ("verify", verify::run as fn()),
    ] {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            println!("\n{name}");
            run();
        }
    }
}

/// A piece of work: its name, and what does it once.
type Work<'a> = (&'a str, Box<dyn FnMut() + 'a>);

/// The rates of works over the same bytes, and a ratio against the first of them.
struct Table {
    /// Bytes that each work reads once.
    bytes: usize,
    /// Lines, events or entries in them.
    items: usize,
    rounds: usize,
    clock: Clock,
}

/// What of a round counts.
#[derive(Clone, Copy)]
enum Clock {
    /// The time that this thread had a processor: for works of one thread that wait for nothing. On a busy machine a long
    /// work would otherwise wait for others more often than a short one, and the ratio would be flattered.
    Thread,
    /// All of it.
    Wall,
}

impl Clock {
    fn time(self, work: impl FnOnce()) -> Duration {
        let (begun, before) = (Instant::now(), on_processor());
        work();
        match (self, before, on_processor()) {
            (Self::Thread, Some(before), Some(after)) => after - before,
            _ => begun.elapsed(),
        }
    }
}

/// How long this thread has had a processor so far, where the system says so.
fn on_processor() -> Option<Duration> {
    // The system brings its account up to date when a thread gives way.
    thread::yield_now();
    let account = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    account.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

impl Table {
    /// Runs the works in turn, as many times as there are rounds, prints the median of each, and gives them in seconds.
    /// Whatever else the machine does disturbs all of them alike, and the median forgets the worst of it. `goal` is about the
    /// second.
    fn print(&self, goal: Option<f64>, works: &mut [Work<'_>]) -> Vec<f64> {
        let mut times = vec![Vec::new(); works.len()];
        for _ in 0..self.rounds {
            for ((_, work), times) in works.iter_mut().zip(&mut times) {
                times.push(self.clock.time(|| black_box(work())));
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        for (n, ((name, _), time)) in works.iter().zip(&medians).enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let (bytes, items) = (self.bytes as f64, self.items as f64);
            print!("  {name:<52} {:>11.0}/s {:>8.3} GB/s", items / time, bytes / time / 1e9);
            match goal.filter(|_| n == 1) {
                _ if n == 0 => println!(),
                Some(goal) => println!(" {:>7.2} x   goal {goal}", medians[0] / time),
                None => println!(" {:>7.2} x", medians[0] / time),
            }
        }
        medians
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
