//! Indexing entries, beside tantivy alone taking the same documents ready-made: one commit each, all of it on disk.

use indexer::{Config, Cursor, Index};
use model::Entry;
use tantivy::{IndexWriter, TantivyDocument, indexer::IndexWriterOptions};

use crate::{Clock, Table};

const ENTRIES: u64 = 30_000;

pub fn run() {
    let entries: Vec<Entry> = (0..ENTRIES)
        .map(|index| Entry::from_leaf(index, leaf(index).as_bytes()).expect("a leaf of the bench"))
        .collect();
    let config = Config::default();
    let fresh = || tempfile::tempdir().expect("a temporary folder");
    let place = fresh();
    let index = Index::open(place.path(), &config).expect("an empty index");
    let documents: Vec<TantivyDocument> =
        entries.iter().filter_map(|entry| index.document(entry).expect("a document")).collect();
    let schema = tantivy::Index::open_in_dir(place.path()).expect("the same index").schema();
    assert_eq!(documents.len(), entries.len());

    // Outside of the time: copies of the documents and folders for each round.
    const ROUNDS: usize = 5;
    let mut copies: Vec<Vec<TantivyDocument>> = vec![documents; ROUNDS];
    let (bare, ours): (Vec<_>, Vec<_>) =
        ((0..ROUNDS).map(|_| fresh()).collect(), (0..ROUNDS).map(|_| fresh()).collect());
    let (mut bare_round, mut our_round) = (bare.iter(), ours.iter());
    let works: &mut [crate::Work<'_>] = &mut [
        (
            "tantivy, ready-made documents",
            Box::new(|| {
                let folder = bare_round.next().expect("a folder per round");
                let index = tantivy::Index::create_in_dir(folder, schema.clone()).expect("an empty index");
                let options = IndexWriterOptions::builder()
                    .num_worker_threads(1)
                    .num_merge_threads(1)
                    .memory_budget_per_thread(config.memory_bytes)
                    .build();
                let mut writer: IndexWriter = index.writer_with_options(options).expect("a writer");
                for document in copies.pop().expect("a copy per round") {
                    writer.add_document(document).expect("added");
                }
                writer.commit().expect("committed");
            }),
        ),
        (
            "entries to documents, indexed",
            Box::new(|| {
                let folder = our_round.next().expect("a folder per round");
                let index = Index::open(folder.path(), &config).expect("an empty index");
                entries.iter().for_each(|entry| index.add_entry(entry).expect("added"));
                index.commit(&Cursor { size: ENTRIES, leaf_hash: String::new(), rules: 1 }).expect("committed");
            }),
        ),
    ];
    let bytes = (0..ENTRIES).map(|index| leaf(index).len()).sum();
    Table { bytes, items: entries.len(), rounds: ROUNDS, clock: Clock::Wall }.print(Some(0.9), works);
}

/// A certificate every 100 ms, for a thousand identities.
fn leaf(index: u64) -> String {
    let begin = model::Time::from_millis(1_795_392_000_000).0;
    let at = model::Time(begin + i64::try_from(index).expect("few entries") * 100_000_000);
    let event = if (index / 1000).is_multiple_of(2) { "signed" } else { "received" };
    let app = index % 1000;
    let serial = index.wrapping_mul(0x9E37_79B9_7F4A_7C15); // spread, as serials are
    format!(
        r#"{{"recorded_at":"{at}","tick":{index},"append":{index},"part":[1,1]}}
{{"v":1,"source":{{"cluster":"default","kind":"spire","name":"server"}},"parser":"bench/1","observed_at":"{at}","submitter":{{"by":"local"}},"fact":{{"credential":{{"occurred":{{"at":"{at}"}},"event":"{event}","spiffe_id":"spiffe://example.org/ns/shop/sa/app-{app}","serial":"{serial:016X}","message":"{event} X509 SVID for app-{app}"}}}}}}"#
    )
}
