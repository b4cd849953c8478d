//! How fast documents go in and questions are answered, beside a scan over the same documents in the same run.
//!
//! `cargo run --release -p indexer --example index_bench [DOCUMENTS]`

use std::{
    error::Error,
    time::{Duration, Instant},
};

use indexer::{Config, Cursor, Index, Search};
use model::Entry;

/// Times that each question is asked.
const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let documents: u64 = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    let leaves: Vec<String> = (0..documents).map(leaf).collect();
    let entries = leaves
        .iter()
        .zip(0_u64..)
        .map(|(leaf, index)| Entry::from_leaf(index, leaf.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;

    let folder = tempfile::tempdir()?;
    let index = Index::open(folder.path(), &Config::default())?;
    let begun = Instant::now();
    for entry in &entries {
        index.add_entry(entry)?;
    }
    index.commit(&Cursor { size: documents, leaf_hash: String::new(), rules: 1 })?;
    let took = begun.elapsed();
    let rate = u128::from(documents) * 1_000_000 / took.as_micros().max(1);
    let mut bytes = 0;
    for file in std::fs::read_dir(folder.path())? {
        bytes += file?.metadata()?.len();
    }
    println!(
        "in        {documents} documents in {took:.2?}: {rate}/s with one commit, {} B each on disk",
        bytes / documents.max(1)
    );

    // The scan: what answering costs without an index, reading leaves as they lie in memory.
    let begun = Instant::now();
    let hits = leaves.iter().filter(|leaf| leaf.contains("sa/app-7\"")).count();
    println!("scan      {:>12.2?}       {hits} hits, searching the text of every leaf", begun.elapsed());
    let begun = Instant::now();
    let mut hits = 0;
    for (leaf, at) in leaves.iter().zip(0_u64..) {
        let entry = Entry::from_leaf(at, leaf.as_bytes())?;
        hits += usize::from(
            matches!(&entry.body.fact, model::Fact::Credential(fact) if fact.spiffe_id.as_deref() == Some("spiffe://example.org/ns/shop/sa/app-7")),
        );
    }
    println!("scan      {:>12.2?}       {hits} hits, reading every leaf as JSON", begun.elapsed());

    println!("query     {:>12} {:>12} {:>9}", "p50", "p99", "hits");
    for query in [
        "",
        "identity:app-7",
        "identity:app-7 credential.event:signed time:[2026-11-23T00:00 TO 2026-11-23T01:00]",
        "serial:9E37",
        "signed app-7",
        "identity:*p-7",
        "NOT credential.event:signed",
    ] {
        let search = Search { query: query.into(), limit: 50, ..Search::default() };
        let mut times = Vec::with_capacity(ROUNDS);
        let mut total = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            total = index.search(&search)?.total;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let at = |percent: usize| -> Duration { times[(ROUNDS - 1) * percent / 100] };
        println!("          {:>12.2?} {:>12.2?} {total:>9}  {query}", at(50), at(99));
    }
    Ok(())
}

/// A certificate every 100 ms, for a thousand identities.
fn leaf(index: u64) -> String {
    let at =
        model::Time::from_millis(1_795_392_000_000).0.saturating_add(i64::try_from(index).unwrap_or(0) * 100_000_000);
    let at = model::Time(at);
    let event = if (index / 1000).is_multiple_of(2) { "signed" } else { "received" };
    let app = index % 1000;
    let serial = index.wrapping_mul(0x9E37_79B9_7F4A_7C15); // spread, as serials are
    format!(
        r#"{{"recorded_at":"{at}","tick":{index},"append":{index},"part":[1,1]}}
{{"v":1,"source":{{"cluster":"default","kind":"spire","name":"server"}},"parser":"bench/1","observed_at":"{at}","submitter":{{"by":"local"}},"fact":{{"credential":{{"occurred":{{"at":"{at}"}},"event":"{event}","spiffe_id":"spiffe://example.org/ns/shop/sa/app-{app}","serial":"{serial:016X}","message":"{event} X509 SVID for app-{app}"}}}}}}"#
    )
}
