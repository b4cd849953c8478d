//! What somebody has in the hand: whatever it is, its query can be asked.
#![no_main]

use std::{path::Path, sync::LazyLock};

use indexer::{Config, Index, Search, hand};

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzz-hand-{}", std::process::id()));
    Index::open(Path::new(&folder), &Config { memory_bytes: 15_000_000, ..Config::default() }).expect("an empty index")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let hand = hand(text);
    assert!(!hand.is.is_empty());
    // A query has a length that a pasted line may exceed.
    if hand.entry.is_none() && text.len() <= 1024 {
        let search = Search { query: hand.query.clone(), limit: 0, ..Search::default() };
        if let Err(error) = INDEX.search(&search) {
            panic!("{hand:?}: {error}");
        }
    }
});
