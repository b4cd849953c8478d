//! Entries in, audit records out.
//!
//! [`Correlator::apply`] folds one ledger entry and appends the records that it changed. It is pure and total: no clock
//! (joins compare `occurred`, waiting counts the ledger's `tick`), no error, no IO, no randomness, no floating point,
//! and every collection is ordered and bounded. So the same entries give the same records, byte for byte, and a restored
//! snapshot goes on as if there had been no stop.
//!
//! Clusters never meet: each has a [`fold::Fold`] of its own, and no name, address or serial of one means anything in
//! another.
//!
//! How a fold works: facts are put into [`store`] in an order that arrival does not change; what failed is counted per
//! minute in [`episode`]; records are *computed* from the two, never edited. A record is written at once, written again
//! when it says something new, and settles when every source that could change it has passed its window.
//!
//! Reading order: this page, [`fold`], [`store`], [`traffic`], [`episode`], [`topology`] (who is at an end), [`causes`], [`links`],
//! [`runs`], [`run_fold`].

mod book;
mod causes;
mod config;
mod credentials;
mod episode;
mod few;
mod finding;
mod fold;
mod handshakes;
mod index;
mod late;
mod limits;
mod links;
mod pairs;
mod queries;
mod run_fold;
mod run_records;
mod runs;
mod sources;
mod store;
#[cfg(test)]
mod tests;
mod topology;
mod traffic;

use std::collections::BTreeMap;

use model::{Entry, Fact, Record};
use serde::{Deserialize, Serialize};

pub use config::Config;

use fold::Fold;

/// Version of the rules: a snapshot made by others is not restored, and records say so by being written anew.
pub const RULES_VERSION: u32 = 2;

/// Version of the snapshot's form.
const SCHEMA: u32 = 3;

/// Why a snapshot cannot be used; the remedy is always to fold from entry 0.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not a snapshot, or damaged.
    #[error("the correlator's snapshot cannot be read: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Other rules or another form made it.
    #[error(
        "the correlator's snapshot has schema {schema} and rules {rules}; this version has {SCHEMA} and {RULES_VERSION}"
    )]
    Version {
        /// Schema found.
        schema: u32,
        /// Rules version found.
        rules: u32,
    },
    /// Other windows or limits made it: it may have settled or dropped what these would not.
    #[error("the correlator's snapshot was made with another configuration")]
    Configuration,
}

/// The folds of all clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlator {
    config: Config,
    clusters: BTreeMap<String, Fold>,
    /// Entries of clusters beyond the limit.
    refused: u64,
}

/// A snapshot as written.
#[derive(Serialize, Deserialize)]
struct Snapshot<C> {
    schema: u32,
    rules: u32,
    state: C,
}

/// The versions alone, read first.
#[derive(Deserialize)]
struct Versions {
    schema: u32,
    rules: u32,
}

impl Correlator {
    /// An empty fold.
    pub fn new(config: Config) -> Self {
        Self { config, clusters: BTreeMap::new(), refused: 0 }
    }

    /// Folds one entry; appends the revisions of records that it brought about. Entries come in order of their index.
    ///
    /// Each goes to the fold of its source's cluster. A heartbeat speaks of all sources: every fold gets it, with the
    /// marks of its own cluster alone, since waiting is counted from heartbeat to heartbeat. A gap is its source's, or
    /// everybody's when it names none.
    pub fn apply(&mut self, entry: &Entry, out: &mut Vec<Record>) {
        match &entry.body.fact {
            Fact::Heartbeat(heartbeat) => {
                for mark in &heartbeat.sources {
                    self.fold(&mark.source.cluster);
                }
                for (cluster, fold) in &mut self.clusters {
                    let own = heartbeat.sources.iter().filter(|mark| mark.source.cluster == *cluster);
                    fold.beat(&entry.stamp, entry.index, own, out);
                }
            }
            Fact::Gap(gap) if gap.source.is_none() => {
                self.clusters.values_mut().for_each(|fold| fold.apply(entry, out));
            }
            fact => {
                let source = if let Fact::Gap(gap) = fact { gap.source.as_ref() } else { None };
                let cluster = &source.unwrap_or(&entry.body.source).cluster;
                if let Some(fold) = self.fold(cluster) {
                    fold.apply(entry, out);
                }
            }
        }
    }

    /// The fold of a cluster, made when it is new; none when there are too many.
    fn fold(&mut self, cluster: &str) -> Option<&mut Fold> {
        if !self.clusters.contains_key(cluster) {
            if self.clusters.len() >= self.config.max_clusters {
                self.refused += 1;
                return None;
            }
            self.clusters.insert(cluster.to_owned(), Fold::new(self.config.clone()));
        }
        self.clusters.get_mut(cluster)
    }

    /// The whole state with its versions, to be written as JSON. Restoring that and applying what follows equals no stop.
    pub fn state(&self) -> impl Serialize {
        Snapshot { schema: SCHEMA, rules: RULES_VERSION, state: self }
    }

    /// [`Correlator::state`] as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        // Every key is a string or lies in a list of pairs, so writing cannot fail; an empty snapshot is refused.
        serde_json::to_vec(&self.state()).unwrap_or_default()
    }

    /// Reads a snapshot that was made with the default configuration.
    ///
    /// # Errors
    /// It is damaged, or other rules or another configuration made it.
    pub fn restore(bytes: &[u8]) -> Result<Self, RestoreError> {
        Self::restore_with(bytes, &Config::default())
    }

    /// Reads a snapshot that was made with that configuration.
    ///
    /// # Errors
    /// As for [`Correlator::restore`].
    pub fn restore_with(bytes: &[u8], config: &Config) -> Result<Self, RestoreError> {
        let Versions { schema, rules } = serde_json::from_slice(bytes)?;
        if (schema, rules) != (SCHEMA, RULES_VERSION) {
            return Err(RestoreError::Version { schema, rules });
        }
        let state = serde_json::from_slice::<Snapshot<Self>>(bytes)?.state;
        if state.config == *config { Ok(state) } else { Err(RestoreError::Configuration) }
    }

    /// How many facts, runs and kinds of failure were dropped before their time to keep within the limits, and entries
    /// of clusters beyond [`Config::max_clusters`].
    pub fn evicted(&self) -> u64 {
        self.clusters.values().fold(self.refused, |sum, fold| sum.saturating_add(fold.evicted()))
    }
}
