//! Durable acknowledgements per second, a new connection per event as Tekton does, beside a bare axum handler that
//! reads the body and forgets it. Both servers and the loader share the machine; the ratio is the figure.
//!
//! `cargo bench -p counterfoil --bench acks`

#![expect(clippy::disallowed_methods, reason = "a server to compare with")]

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const EVENTS: usize = 20_000;
const SENDERS: usize = 64;
const ROUNDS: usize = 3;
const BYTES: usize = 4096;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut server = Command::new(env!("CARGO_BIN_EXE_counterfoil"))
        .args(["serve", "--intake", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stderr(Stdio::null())
        .spawn()
        .expect("start the server");
    let counterfoil = wait_for(&data);
    let bare = bare();
    let body = event(BYTES);
    println!(
        "{EVENTS} events of {} bytes, a connection each, {SENDERS} senders, {ROUNDS} rounds; loader on the same {} cores",
        body.len(),
        thread::available_parallelism().map_or(0, std::num::NonZero::get)
    );
    println!("{:<44} {:>9} {:>8} {:>8} {:>8}", "", "acks/s", "p50 ms", "p99 ms", "p99.9 ms");
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (n, (name, to)) in
            [("counterfoil serve (202 after fsync)", counterfoil), ("bare axum (read body, 202, nothing kept)", bare)]
                .into_iter()
                .enumerate()
        {
            let (rate, times) = load(to, &body);
            let at = |share: f64| {
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "an index"
                )]
                let index = ((times.len() - 1) as f64 * share) as usize;
                times[index].as_secs_f64() * 1000.0
            };
            println!("{name:<44} {rate:>9.0} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.99), at(0.999));
            rates[n].push(rate);
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let [ours, theirs] = &mut rates;
    println!("ratio of medians, counterfoil / bare axum: {:.2}", median(ours) / median(theirs));
    let _ = server.kill(); // ours
    let _ = server.wait();
}

fn wait_for(data: &std::path::Path) -> SocketAddr {
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read(data.join("serving.json")) {
            let at: serde_json::Value = serde_json::from_slice(&text).expect("serving.json");
            return at["intake"].as_str().and_then(|a| a.parse().ok()).expect("an address");
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the server does not answer");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The least that an axum server does with a POST.
fn bare() -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let app = axum::Router::new().fallback(|body: bytes::Bytes| async move {
                std::hint::black_box(body.len());
                axum::http::StatusCode::ACCEPTED
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("an address")).expect("main waits");
            axum::serve(listener, app).await.expect("serve");
        });
    });
    receiver.recv().expect("the server starts")
}

/// A TaskRun event of about so many bytes.
fn event(bytes: usize) -> Vec<u8> {
    let head = r#"{"taskRun":{"metadata":{"name":"bench","namespace":"ci","uid":"11111111-2222-3333-4444-555555555555","annotations":{"note":""#;
    let tail = r#""}},"spec":{"serviceAccountName":"builder"},"status":{"podName":"bench-pod","conditions":[{"type":"Succeeded","status":"Unknown","reason":"Running","lastTransitionTime":"2026-11-23T15:20:59Z"}]}}}"#;
    let mut body = head.as_bytes().to_vec();
    body.resize(bytes - tail.len(), b'x');
    body.extend_from_slice(tail.as_bytes());
    body
}

fn load(to: SocketAddr, body: &[u8]) -> (f64, Vec<Duration>) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= EVENTS {
                            return times;
                        }
                        let head = format!(
                            "POST /events HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\nCe-Id: {n}\r\nCe-Source: /b\r\n\
                             Ce-Specversion: 1.0\r\nCe-Type: dev.tekton.event.taskrun.running.v1\r\n\
                             Content-Type: application/json\r\nConnection: close\r\n\r\n",
                            body.len()
                        );
                        let sent = Instant::now();
                        let mut stream = TcpStream::connect(to).expect("connect");
                        stream.set_nodelay(true).expect("nodelay");
                        stream.write_all(&[head.as_bytes(), body].concat()).expect("send");
                        let mut answer = Vec::new();
                        stream.read_to_end(&mut answer).expect("answer");
                        assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer));
                        times.push(sent.elapsed());
                    }
                })
            })
            .collect();
        senders.into_iter().flat_map(|s| s.join().expect("a sender ends")).collect()
    });
    let rate = {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let events = EVENTS as f64;
        events / began.elapsed().as_secs_f64()
    };
    times.sort();
    (rate, times)
}
