//! The query language: parsing, and asking an index.
#![no_main]

use std::{path::Path, sync::LazyLock};

use indexer::{Config, Index, IndexError, Search, query};

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzz-query-{}", std::process::id()));
    Index::open(Path::new(&folder), &Config { memory_bytes: 15_000_000, ..Config::default() }).expect("an empty index")
});

libfuzzer_sys::fuzz_target!(|text: &str| {
    let search = Search { query: text.to_owned(), limit: 10, ..Search::default() };
    match INDEX.search(&search) {
        Ok(page) => assert_eq!(page.total, 0),
        Err(IndexError::Query(error)) => {
            if let Some(at) = error.at {
                assert!(at.start <= at.end && at.end <= text.len(), "{error}");
                assert!(text.is_char_boundary(at.start) && text.is_char_boundary(at.end), "{error}");
            }
            assert!(!error.what.is_empty());
        }
        Err(error) => panic!("{error}"),
    }
    // A quoted value is one value, whatever stands in it.
    let quoted = Search { query: format!("name:{}", query::quote(text)), limit: 0, ..Search::default() };
    match INDEX.search(&quoted) {
        Ok(_) | Err(IndexError::Query(_)) => {}
        Err(error) => panic!("{error}"),
    }
});
