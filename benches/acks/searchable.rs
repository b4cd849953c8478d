//! From the 202 to the entry being found, at a steady rate, with everything on; and what the process holds meanwhile.

use crate::{
    event,
    load::{self, Load, Outcome},
    server::Server,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Rates that are tried, until one is kept within [`GOAL`].
const RATES: [usize; 8] = [5000, 4000, 3000, 2500, 2000, 1500, 1000, 500];
/// The goal of the slowest of a hundred.
const GOAL: Duration = Duration::from_secs(1);
/// Events come for so long.
const SECONDS: usize = 25;
/// So often the server is asked how far it is.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) fn run(senders: usize) {
    println!(
        "\nack to searchable: 4 KB, a connection per event, all on, {SECONDS} s a rate; asked every {} ms, goal p99 {} ms",
        LOOK.as_millis(),
        GOAL.as_millis()
    );
    println!(
        "{:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>24} {:>9}",
        "asked/s", "acks/s", "ack p99", "p50 ms", "p99 ms", "p99.9 ms", "found ms", "MiB at 25/50/75/100 %", "most MiB"
    );
    for rate in RATES {
        if at_rate(rate, senders) {
            return println!("highest rate of these with p99 within the goal: {rate} events/s");
        }
    }
    println!("no rate of these is within the goal");
}

/// What was seen while events came.
#[derive(Default)]
struct Seen {
    /// When an answer said that so many entries are searchable.
    through: Vec<(Instant, u64)>,
    /// When a search found an entry, asked for again and again since before it was acknowledged.
    found: Vec<(Instant, u64)>,
    /// Anonymous memory in bytes.
    memory: Vec<(Instant, usize)>,
}

/// Gives whether the rate and the goal were kept.
fn at_rate(rate: usize, senders: usize) -> bool {
    let server = Server::counterfoil(true);
    let body = event::of(4 << 10);
    let load = Load { to: server.address, events: rate * SECONDS, senders, round: 0, pace: Some(rate) };
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let (outcome, ended, seen) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&server, &done));
        let outcome = load.run(&body, false);
        let ended = Instant::now();
        server.settle();
        done.store(true, Ordering::Release);
        (outcome, ended, watcher.join().expect("the watcher ends"))
    });
    let times = times(&outcome, &seen.through);
    let found = times_found(&outcome, &seen.found);
    let quarter = (ended - began) / 4;
    let memory = |n: u32| {
        let until = began + quarter * n;
        seen.memory.iter().take_while(|(at, _)| *at <= until).last().map_or(0, |(_, bytes)| bytes >> 20)
    };
    let most = seen.memory.iter().map(|(_, bytes)| bytes >> 20).max().unwrap_or(0);
    println!(
        "{rate:>8} {:>8.0} {:>7.1} {:>7.0} {:>8.0} {:>8.0} {:>8.0} {:>24} {most:>9}",
        outcome.rate,
        outcome.at(0.99),
        load::at(&times, 0.5),
        load::at(&times, 0.99),
        load::at(&times, 0.999),
        load::at(&found, 0.5),
        (1..=4).map(|n| memory(n).to_string()).collect::<Vec<_>>().join("/"),
    );
    outcome.rate >= load::float(rate) * 0.97 && load::at(&times, 0.99) <= GOAL.as_secs_f64() * 1000.0
}

/// Asks for the next entry that is not searchable yet until it is found, again and again.
fn watch(server: &Server, done: &AtomicBool) -> Seen {
    let (mut seen, mut asker) = (Seen::default(), server.asker());
    let mut wanted = 0;
    while !done.load(Ordering::Acquire) {
        let answer = asker.ask(&format!("/api/v1/search?q=entry:{wanted}&limit=1"));
        let now = Instant::now();
        let through = answer["through"]["entries"].as_u64().expect("a number");
        if answer["hits"].as_array().is_some_and(|hits| !hits.is_empty()) {
            seen.found.push((now, wanted));
            wanted = through;
        } else if through > wanted + 1 {
            wanted = through; // a heartbeat is in no search
        }
        seen.through.push((now, through));
        seen.memory.push((now, server.anonymous()));
        thread::sleep(LOOK);
    }
    seen
}

/// From each acknowledgement to the first answer that covered it, sorted.
fn times(outcome: &Outcome, through: &[(Instant, u64)]) -> Vec<Duration> {
    let covered =
        |entry: u64| &through[through.partition_point(|(_, through)| *through <= entry).min(through.len() - 1)];
    let mut times: Vec<Duration> = outcome
        .acks
        .iter()
        .map(|(entry, acknowledged)| covered(*entry).0.saturating_duration_since(*acknowledged))
        .collect();
    times.sort();
    times
}

/// From the acknowledgement of each entry that was looked for to its being found, sorted.
fn times_found(outcome: &Outcome, found: &[(Instant, u64)]) -> Vec<Duration> {
    let acks: std::collections::HashMap<u64, Instant> = outcome.acks.iter().copied().collect();
    let mut times: Vec<Duration> =
        found.iter().filter_map(|(at, entry)| Some(at.saturating_duration_since(*acks.get(entry)?))).collect();
    times.sort();
    assert!(!times.is_empty(), "no entry was found by a search");
    times
}
