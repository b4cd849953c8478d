//! The cost of ten times the data: intake and questions on a ledger, and on one with ten times as many entries.

use crate::{
    event::{self, Event},
    load::{self, Load},
    median,
    server::Server,
};
use std::time::{Duration, Instant};

const SIZES: [usize; 2] = [30_000, 300_000];
/// Events of one round of intake.
const ROUND: usize = 5_000;
const ROUNDS: usize = 5;
/// Questions of each form.
const QUESTIONS: usize = 60;

pub(crate) fn run(senders: usize) {
    println!("\n{} and {} entries of 4 KB, all on", SIZES[0], SIZES[1]);
    let body = event::of(4 << 10);
    let servers = SIZES.map(|events| {
        let server = Server::counterfoil(true);
        Load { to: server.address, events, senders, round: 0, pace: None }.run(&body, true);
        server.settle();
        server
    });
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (server, rates) in servers.iter().zip(&mut rates) {
            // Ids beyond those that are there.
            let round = SIZES[1] / ROUND + 1 + round;
            rates.push(Load { to: server.address, events: ROUND, senders, round, pace: None }.run(&body, false).rate);
            server.settle();
        }
    }
    let [small, large] = rates.map(median);
    println!(
        "intake, a connection per event: {small:.0} and {large:.0} acks/s, ratio {:.2} (goal 0.95)",
        large / small
    );
    let [small, large] = [0, 1].map(|n| questions(&servers[n], SIZES[n], &body));
    println!("{:<34} {:>9} {:>9} {:>9} {:>9}", "questions, ms", "p50", "p99", "10x p50", "10x p99");
    let all = |of: &[(&str, Vec<Duration>)]| {
        let mut all: Vec<Duration> = of.iter().flat_map(|(_, times)| times.iter().copied()).collect();
        all.sort();
        ("all", all)
    };
    let (small, large) = ([vec![all(&small)], small].concat(), [vec![all(&large)], large].concat());
    for ((name, small), (_, large)) in small.iter().zip(&large) {
        println!(
            "{name:<34} {:>9.2} {:>9.2} {:>9.2} {:>9.2}   ratio of p99 {:.2}",
            load::at(small, 0.5),
            load::at(small, 0.99),
            load::at(large, 0.5),
            load::at(large, 0.99),
            load::at(large, 0.99) / load::at(small, 0.99)
        );
    }
    println!("(goal: ratio of p99 at most 2)");
}

/// The path that asks about event `n` with its uid.
type Form = fn(usize, &str) -> String;

/// Questions of each form, the times of each sorted.
fn questions(server: &Server, size: usize, body: &Event) -> Vec<(&'static str, Vec<Duration>)> {
    let mut asker = server.asker();
    let forms: [(&str, Form); 6] = [
        ("one run, by its uid", |_, uid| format!("/api/v1/search?q=uid:{uid}")),
        ("one entry", |n, _| format!("/api/v1/search?q=entry:{n}")),
        ("one run, by a word", |_, uid| format!("/api/v1/search?q=%22{uid}%22")),
        ("every entry, newest first", |_, _| "/api/v1/search?q=type:entry.run".into()),
        ("two conditions that all meet", |_, _| "/api/v1/search?q=result:success%20type:entry.run".into()),
        ("an entry with its payload", |n, _| format!("/api/v1/entries/{n}")),
    ];
    forms
        .into_iter()
        .map(|(name, path)| {
            let mut times = Vec::new();
            for n in 0..QUESTIONS {
                let n = (n * 7919 + 1000) % size;
                let began = Instant::now();
                asker.ask(&path(n, &body.uid_of(n)));
                times.push(began.elapsed());
            }
            times.sort();
            (name, times)
        })
        .collect()
}
