//! Turns recordings and scenario files into entries, folds them, and gives the records to the tests.

pub mod recording;
pub mod scenario;

use std::collections::BTreeMap;

use correlator::{Config, Correlator};
use model::{Entry, Record, record::State};

/// Folds the entries; the last revision of every record that was not withdrawn, by id.
pub fn fold(entries: &[Entry]) -> BTreeMap<String, Record> {
    let mut out = Vec::new();
    let mut correlator = Correlator::new(Config::default());
    for entry in entries {
        correlator.apply(entry, &mut out);
    }
    last(out)
}

/// The last revision of every record that was not withdrawn.
pub fn last(records: Vec<Record>) -> BTreeMap<String, Record> {
    let mut last: BTreeMap<String, Record> = BTreeMap::new();
    for record in records {
        last.insert(record.id.0.clone(), record);
    }
    last.retain(|_, record| !matches!(record.state, State::Withdrawn { .. }));
    last
}
