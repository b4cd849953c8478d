//! Durable acknowledgements per second beside a bare axum handler that reads the body and forgets it.
//!
//! Three processes share the machine: the loader (this one), `counterfoil serve`, and the bare server (this program
//! again). For each case the two servers are loaded in turn, several times; the figure is the ratio of the medians.
//! Tekton's way is a new connection per event; keep-alive is shown beside it. Bodies are a recorded TaskRun event, each
//! with a uid of its own.
//!
//! With `--only searchable` or `--only tenfold`: from the acknowledgement to the entry being found, and the cost of ten
//! times the data.
//!
//! `cargo bench -p counterfoil --bench acks [-- --events N --rounds N --senders N --only WORD]`

#[path = "acks/bare.rs"]
mod bare;
#[path = "acks/event.rs"]
mod event;
#[path = "acks/load.rs"]
mod load;
#[path = "acks/postgres.rs"]
mod postgres;
#[path = "acks/searchable.rs"]
mod searchable;
#[path = "acks/server.rs"]
mod server;
#[path = "acks/tenfold.rs"]
mod tenfold;

use load::Load;
use postgres::Postgres;
use server::Server;

/// One comparison.
struct Case {
    name: &'static str,
    bytes: usize,
    keep_alive: bool,
    derive: bool,
}

const CASES: &[Case] = &[
    Case { name: "4 KB, connection per event, index off", bytes: 4 << 10, keep_alive: false, derive: false },
    Case { name: "4 KB, connection per event, all on", bytes: 4 << 10, keep_alive: false, derive: true },
    Case { name: "14 KB, connection per event, index off", bytes: 14 << 10, keep_alive: false, derive: false },
    Case { name: "14 KB, connection per event, all on", bytes: 14 << 10, keep_alive: false, derive: true },
    Case { name: "4 KB, keep-alive, index off", bytes: 4 << 10, keep_alive: true, derive: false },
    Case { name: "4 KB, keep-alive, all on", bytes: 4 << 10, keep_alive: true, derive: true },
    Case { name: "14 KB, keep-alive, index off", bytes: 14 << 10, keep_alive: true, derive: false },
    Case { name: "14 KB, keep-alive, all on", bytes: 14 << 10, keep_alive: true, derive: true },
];

struct Options {
    events: usize,
    rounds: usize,
    senders: usize,
    only: String,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { events: 20_000, rounds: 3, senders: 64, only: String::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|n| n.parse().ok()).expect("a number follows");
            match word.as_str() {
                "--events" => options.events = number(),
                "--rounds" => options.rounds = number(),
                "--senders" => options.senders = number(),
                "--only" => options.only = words.next().expect("a word of a case's name follows"),
                _ => {} // cargo's own `--bench`
            }
        }
        options
    }
}

fn main() {
    if std::env::args().any(|word| word == "--bare") {
        return bare::serve();
    }
    let options = Options::read();
    let files = load::raise_file_limit();
    println!(
        "{} events a round, {} senders, {} rounds, loader and servers on the same {} cores; sources in 127.0.0.0/8; \
         file limit {files}, somaxconn {}",
        options.events,
        options.senders,
        options.rounds,
        std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default().trim(),
    );
    match options.only.as_str() {
        "searchable" => return searchable::run(options.senders),
        "tenfold" => return tenfold::run(options.senders),
        _ => {}
    }
    println!("counterfoil answers 202 after fsync; bare axum answers 202 after reading the body, and keeps nothing");
    for case in CASES.iter().filter(|case| case.name.contains(&options.only)) {
        run(case, &options);
    }
    if "postgres".contains(&options.only) {
        beside_postgres(&options);
    }
}

/// The same events into PostgreSQL, one commit each.
fn beside_postgres(options: &Options) {
    let Some(postgres) = Postgres::start() else { return println!("\nPostgreSQL is not installed: not compared") };
    let ours = Server::counterfoil(true);
    let body = event::of(4 << 10);
    println!("\n4 KB into PostgreSQL, {} clients; both durable at the answer, everything on here", options.senders);
    for (name, keep_alive) in [("a connection per event", false), ("open connections", true)] {
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            let load = Load { to: ours.address, events: options.events, senders: options.senders, round, pace: None };
            rates[0].push(load.run(&body, keep_alive).rate);
            rates[1].push(postgres.rate(&body, options.senders, keep_alive));
        }
        let [ours, theirs] = rates.map(median);
        println!("{name}: counterfoil {ours:.0} acks/s, PostgreSQL {theirs:.0} commits/s, ratio {:.1}", ours / theirs);
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn run(case: &Case, options: &Options) {
    let ours = Server::counterfoil(case.derive);
    let bare = Server::bare();
    let body = event::of(case.bytes);
    println!("\n{} ({} bytes)", case.name, body.len());
    println!("{:<12} {:>9} {:>8} {:>8} {:>9} {:>12}", "", "acks/s", "p50 ms", "p99 ms", "p99.9 ms", "cpu us/event");
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        for (n, server) in [&ours, &bare].into_iter().enumerate() {
            let load = Load { to: server.address, events: options.events, senders: options.senders, round, pace: None };
            let before = server.cpu();
            let outcome = load.run(&body, case.keep_alive);
            let cpu = server.cpu().saturating_sub(before).as_secs_f64() * 1e6 / load::float(options.events);
            println!(
                "{:<12} {:>9.0} {:>8.2} {:>8.2} {:>9.2} {:>12.1}",
                server.name,
                outcome.rate,
                outcome.at(0.5),
                outcome.at(0.99),
                outcome.at(0.999),
                cpu
            );
            rates[n].push(outcome.rate);
        }
    }
    let [ours_rate, bare_rate] = rates.map(median);
    let lag = if case.derive { format!(", lag {} entries", ours.lag()) } else { String::new() };
    println!("ratio {:.2}, anonymous memory {} MiB{lag}", ours_rate / bare_rate, ours.anonymous() >> 20);
}
