//! What ten times as many entries cost a question: each of them asked of an index, and of one with ten times as much in it.
//!
//! `cargo run --release -p indexer --example questions [ENTRIES] [tied]`
//!
//! An entry is a TaskRun that ended, with the record of it, which is settled by a second revision a while later. Moments are
//! whole seconds, a hundred entries in each, as Tekton writes them; `tied`: all in the same one.

use std::{error::Error, path::Path, time::Duration};

use indexer::{Config, Cursor, Index, Search};
use model::{Entry, Record, Time};

/// Times that each question is asked.
const ROUNDS: u32 = 200;
/// Entries between two commits.
const COMMIT: u64 = 5000;
/// Entries after which a record is settled.
const SETTLED: u64 = 8000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let entries = arguments.first().map_or(Ok(30_000), |n| n.parse())?;
    let tied = arguments.iter().any(|argument| argument == "tied");
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let sizes = [entries, 10 * entries];
    let mut indices = Vec::new();
    for (folder, entries) in folders.iter().zip(sizes) {
        indices.push(fill(folder.path(), entries, tied)?);
    }
    println!(
        "{:>12} {:>12} {:>7} {:>9} {:>9}  {} and {} entries",
        "one", "10x", "ratio", "hits", "10x", sizes[0], sizes[1]
    );
    for (query, limit, middle) in [
        ("", 20, false),
        ("type:entry.run", 20, false),
        ("type:run.completed", 20, false),
        ("type:entry", 20, false),
        ("result:success", 20, false),
        ("result:success type:entry.run", 20, false),
        ("result:success ns:shop-ci cluster:default", 20, false),
        ("state:settled", 20, false),
        ("succeeded", 20, false),
        ("NOT result:failure", 20, false),
        ("result:failure OR result:success", 20, false),
        ("pipeline:build-*", 20, false),
        ("run:shop-ci/build-7", 20, false),
        ("result:failure", 20, false),
        ("", 20, true),
        ("type:entry.run", 20, true),
        ("", 1000, false),
        ("", 0, false),
        ("result:success type:entry.run", 0, false),
        ("result:success", 0, false),
        ("NOT result:failure", 0, false),
        ("type:entry.run", 0, true),
    ] {
        let [small, large] = [0, 1].map(|size| {
            let from = middle.then(|| moment(sizes[size] / 2, tied));
            ask(&indices[size], &Search { query: query.into(), limit, from, ..Search::default() })
        });
        let ((small, hits), (large, more)) = (small?, large?);
        println!(
            "{small:>12.2?} {large:>12.2?} {:>7.2} {hits:>9} {more:>9}  {query} {}limit {limit}",
            large.as_secs_f64() / small.as_secs_f64(),
            if middle { "from the middle, " } else { "" },
        );
    }
    Ok(())
}

/// Processor time of one question, and how many match.
fn ask(index: &Index, search: &Search) -> Result<(Duration, u64), Box<dyn Error>> {
    let mut total = index.search(search)?.total;
    let begun = processor_time()?;
    for _ in 0..ROUNDS {
        total = index.search(search)?.total;
    }
    Ok((processor_time()?.saturating_sub(begun) / ROUNDS, total))
}

/// What this thread has had, as Linux counts it: other programs do not disturb it as they do a clock.
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(text.split(' ').next().unwrap_or_default().parse()?))
}

fn fill(folder: &Path, entries: u64, tied: bool) -> Result<Index, Box<dyn Error>> {
    let index = Index::open(folder, &Config::default())?;
    for n in 0..entries {
        index.add_entry(&Entry::from_leaf(n, leaf(n, tied).as_bytes())?)?;
        index.add_record(&record(n, false, tied)?)?;
        if n >= SETTLED {
            index.add_record(&record(n - SETTLED, true, tied)?)?;
        }
        if (n + 1) % COMMIT == 0 || n + 1 == entries {
            index.commit(&Cursor { size: n + 1, leaf_hash: String::new(), rules: 1 })?;
        }
    }
    // Merges go on in the background; what is asked is what a server has that has come to rest.
    drop(index);
    Ok(Index::open(folder, &Config::default())?)
}

/// The second in which a run ends.
fn moment(n: u64, tied: bool) -> Time {
    let second = if tied { 0 } else { n / 100 };
    Time::from_millis(1_795_392_000_000).plus_seconds(i64::try_from(second).unwrap_or(i64::MAX))
}

/// Every 100th run fails.
fn outcome(n: u64) -> (&'static str, &'static str) {
    if n % 100 == 7 { ("failed", "Failed") } else { ("successful", "Succeeded") }
}

fn leaf(n: u64, tied: bool) -> String {
    let (at, (state, reason)) = (moment(n, tied), outcome(n));
    format!(
        r#"{{"recorded_at":"{at}","tick":{n},"append":{n},"part":[1,1]}}
{{"v":1,"source":{{"cluster":"default","kind":"cloudevents","name":"tekton"}},"parser":"bench/1","observed_at":"{at}","submitter":{{"by":"local"}},"fact":{{"run":{{"kind":"TaskRun","namespace":"shop-ci","name":"build-{n}","uid":"{n:08x}-0000-4000-8000-000000000000","pipeline":"build-and-ship","task":"build","state":"{state}","reason":"{reason}","message":"All Steps have completed executing","transition":"{at}","completed":"{at}","service_accounts":[{{"name":"builder"}}],"pods":["build-{n}-pod"],"event":{{"id":"{n}","source":"/apis/tekton","type":"dev.tekton.event.taskrun.successful.v1"}}}}}}}}"#
    )
}

fn record(n: u64, settled: bool, tied: bool) -> Result<Record, serde_json::Error> {
    let (at, (state, reason)) = (moment(n, tied), outcome(n));
    let (revision, is) = if settled { (2, "settled") } else { (1, "provisional") };
    // Spread, as ids are: an odd factor gives every number another one.
    let mut spread = n.wrapping_mul(0x9E_3779_B97F) & ((1 << 40) - 1);
    let mut id = String::new();
    for _ in 0..8 {
        id.push(char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[usize::try_from(spread & 31).unwrap_or(0)]));
        spread >>= 5;
    }
    serde_json::from_str(&format!(
        r#"{{"id":"{id}","type":"run.completed","version":1,"revision":{revision},"state":{{"is":"{is}"}},"from":"{at}","to":"{at}","count":1,"summary":"shop-ci/build-{n} {reason}","detail":{{"run":{{"cluster":"default","kind":"TaskRun","namespace":"shop-ci","name":"build-{n}","uid":"{n:08x}-0000-4000-8000-000000000000","pipeline":"build-and-ship","state":"{state}","reason":"{reason}","message":"All Steps have completed executing","attempts":1,"service_accounts":[{{"name":"builder"}}],"pods":["build-{n}-pod"],"commits":[],"disputed":false,"artifacts":[],"children":[],"skipped":[],"repeats":0,"started_by":[]}}}},"evidence":[{{"entry":{n},"at":"{at}","role":"supports","says":"{reason}"}}],"through":{n}}}"#
    ))
}
