//! Durable appends per second with 1, 8 and 64 waiting clients, beside a bare write-and-fdatasync loop on the same disk.
//!
//! `cargo run --release -p ledger --example bench [-- DIR [SECONDS]]`. Clients are threads of this process, so they take their
//! share of the same cores; committing to the payload (SHA-256) is done by the client, as in the real program.

#![expect(clippy::disallowed_methods, reason = "a benchmark compares with a bare loop")]

use ledger::{Append, Config, Lane, Ledger, Payload, init};
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BODY: usize = 800;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let time = Duration::from_secs(arguments.next().map_or(Ok(3), |text| text.parse())?);
    let dir = dir.join(format!("ledger-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    // Before and after: other programs on the machine move this figure, and the better one is the disk's.
    let mut bare = bare_loop(&dir, time)?;
    let again = bare_loop(&dir, time)?;
    if again.rate() > bare.rate() {
        bare = again;
    }
    println!(
        "durability: after fdatasync; loader: threads of this process; {} s each; folder {}",
        time.as_secs(),
        dir.display()
    );
    println!(
        "{:<34} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}",
        "", "per second", "p50 us", "p99 us", "p99.9 us", "groups/s", "MB/s", "x bare"
    );
    println!(
        "{:<34} {:>10.0} {:>9} {:>9} {:>9} {:>9} {:>8.1} {:>7.2}",
        "bare 4 KiB pwrite + fdatasync",
        bare.rate(),
        bare.at(500),
        bare.at(990),
        bare.at(999),
        "",
        bare.rate() * 4096.0 / 1e6,
        1.0
    );
    for payload in [0usize, 3_900, 14_000] {
        for clients in [1usize, 8, 64] {
            let (run, groups, bytes) = append_loop(&dir, clients, payload, time)?;
            println!(
                "{:<34} {:>10.0} {:>9} {:>9} {:>9} {:>9.0} {:>8.1} {:>7.2}",
                format!("{clients} clients, {BODY} B + payload {payload} B"),
                run.rate(),
                run.at(500),
                run.at(990),
                run.at(999),
                groups / run.seconds,
                bytes / run.seconds / 1e6,
                run.rate() / bare.rate(),
            );
        }
    }
    reopen(&dir)?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

struct Run {
    micros: Vec<u64>,
    seconds: f64,
}

impl Run {
    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.seconds
    }

    /// The latency below which so many of a thousand were.
    fn at(&self, per_mille: usize) -> u64 {
        self.micros.get(self.micros.len() * per_mille / 1000).copied().unwrap_or_default()
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn bare_loop(dir: &Path, time: Duration) -> Result<Run, Box<dyn Error>> {
    let path = dir.join("bare");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    let len = 64 << 20;
    file.write_all(&vec![0; len])?;
    file.sync_all()?;
    let page = [7u8; 4096];
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < time {
        let begun = Instant::now();
        file.write_all_at(&page, (latencies.len() * page.len() % len) as u64)?;
        file.sync_data()?;
        latencies.push(micros(begun));
    }
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    latencies.sort_unstable();
    Ok(Run { micros: latencies, seconds })
}

#[allow(clippy::cast_precision_loss, reason = "rates for people")]
fn append_loop(dir: &Path, clients: usize, payload: usize, time: Duration) -> Result<(Run, f64, f64), Box<dyn Error>> {
    let data = dir.join(format!("log-{clients}-{payload}"));
    let config = Config::new(&data);
    init(&config, None)?;
    let log = Arc::new(Ledger::open(&config)?.ledger);
    // Text of the kind that an event is: not random, not all the same.
    let raw: Vec<u8> = (0..payload)
        .map(|i| b"{\"status\":\"True\",\"reason\":\"Succeeded\",\"n\":"[i % 42] ^ u8::from(i % 97 == 0))
        .collect();
    let start = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (log, raw) = (Arc::clone(&log), raw.clone());
            std::thread::spawn(move || {
                let mut latencies = Vec::new();
                while start.elapsed() < time {
                    let begun = Instant::now();
                    let Some(append) = append(client, latencies.len(), &raw) else { break };
                    if log.append_wait(append).is_err() {
                        break;
                    }
                    latencies.push(micros(begun));
                }
                latencies
            })
        })
        .collect();
    let mut latencies: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect();
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let stats = log.stats();
    log.close()?;
    assert_eq!(log.size(), latencies.len() as u64, "every answer is an entry");
    drop(log);
    std::fs::remove_dir_all(data)?;
    Ok((Run { micros: latencies, seconds }, stats.groups as f64, stats.journal_bytes as f64))
}

/// How long opening takes after a crash with as much in the journal as there can be before tiles are synced.
fn reopen(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (data, copy) = (dir.join("reopen"), dir.join("reopen-copy"));
    let config = Config::new(&data);
    init(&config, None)?;
    let log = Ledger::open(&config)?.ledger;
    let raw = vec![b'r'; 3_900];
    let mut sent = 0;
    while log.stats().journal_bytes < 60 << 20 {
        let bodies: Vec<_> = (0..64).filter_map(|n| append(0, n, &raw)).collect();
        for append in bodies {
            log.append(append, |_| {})?;
            sent += 1;
        }
        log.wait_beyond(sent - 1, Duration::from_secs(10));
    }
    // What a crash leaves is what the files hold while the ledger is open.
    copy_folder(&data, &copy)?;
    let begun = Instant::now();
    let again = Ledger::open(&Config::new(&copy))?.ledger;
    println!(
        "open after a crash: {} ms, {} entries, {} MB of journal",
        begun.elapsed().as_millis(),
        again.size(),
        log.stats().journal_bytes / 1_000_000
    );
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &to)?;
        } else {
            std::fs::copy(&path, &to)?;
        }
    }
    Ok(())
}

fn append(client: usize, n: usize, raw: &[u8]) -> Option<Append> {
    let payload = (!raw.is_empty()).then(|| Payload::new(raw.to_vec(), "raw", "identity").ok()).flatten();
    let reference = serde_json::to_string(&payload.as_ref().map(Payload::reference)).ok()?;
    let mut body = format!("{{\"client\":{client},\"n\":{n},\"payload\":{reference},\"fill\":\"").into_bytes();
    body.resize(BODY - 2, b'x');
    body.extend_from_slice(b"\"}");
    Some(Append { payload, ..Append::one(Lane::Push, body) })
}
