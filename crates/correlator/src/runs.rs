//! All runs, and the ways that lead to them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use model::{
    Entry, Grade,
    run::{ChildRef, Run, RunKind},
};
use serde::{Deserialize, Serialize};

use crate::{Config, limits::crowd_out, pairs, run_fold::RunFold};

/// Cluster and uid; without a uid: kind, namespace and name.
pub(crate) type RunKey = (String, String);

/// What leads to a run, but for its key and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Namespace and name of a pod of it.
    Pod(String, String),
    /// Namespace and name of a child that it lists.
    Child(String, String),
    /// Namespace and name of a service account that it uses.
    Account(String, String),
    /// Digest of something that it says it made.
    Digest(String),
}

/// All runs, up to a number: their age does not matter, since Tekton tells them all again after each restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Runs {
    #[serde(with = "pairs")]
    pub(crate) by_key: BTreeMap<RunKey, Box<RunFold>>,
    /// Keys by namespace and name: a name is reused over time.
    #[serde(with = "pairs")]
    by_name: BTreeMap<(String, String, String), BTreeSet<RunKey>>,
    /// Keys by what else leads to a run.
    #[serde(with = "pairs")]
    by_place: BTreeMap<Place, BTreeSet<RunKey>>,
    /// To be looked at: what their records say may have changed.
    news: BTreeSet<RunKey>,
    /// Ended and looked at, not settled: only time, or how far their source is, can bring them news.
    waiting: BTreeSet<RunKey>,
    /// Runs dropped before their time.
    pub(crate) evicted: u64,
}

impl Runs {
    /// One run.
    pub(crate) fn get(&self, key: &RunKey) -> Option<&RunFold> {
        self.by_key.get(key).map(Box::as_ref)
    }

    /// Folds one sighting. The run's key, and whether it said something new.
    pub(crate) fn see(&mut self, entry: &Entry, run: &Run, config: &Config) -> (RunKey, bool) {
        let cluster = entry.body.source.cluster.clone();
        let namespace = run.namespace.clone().unwrap_or_default();
        let uid = run.uid.clone().unwrap_or_else(|| unnamed(run.kind, &namespace, &run.name));
        let key = (cluster.clone(), uid);
        let fold = self.by_key.entry(key.clone()).or_insert_with(|| Box::new(RunFold::new(entry, run)));
        let (new, dropped) = fold.see(entry, run, config);
        let evicted = self.evicted;
        self.evicted += dropped;
        if new {
            for place in fold.places() {
                self.by_place.entry(place).or_default().insert(key.clone());
            }
            self.news.insert(key.clone());
            // What its parent says of it may not hold any more.
            let parents = self.by_place.get(&Place::Child(namespace.clone(), run.name.clone()));
            self.news.extend(parents.into_iter().flatten().cloned());
        } else if self.waiting.remove(&key) {
            self.news.insert(key.clone()); // its record counts sightings
        }
        self.by_name.entry((cluster, namespace, run.name.clone())).or_default().insert(key.clone());
        for (key, fold) in crowd_out(&mut self.by_key, config.max_runs, |fold| (fold.completed, fold.started)) {
            self.evicted += 1;
            self.forget(&key, &fold);
        }
        if evicted == 0 && self.evicted > 0 {
            self.stir(); // every record says from now on that runs were dropped
        }
        (key, new)
    }

    /// The run has ended, was looked at, and is not settled.
    pub(crate) fn wait(&mut self, key: RunKey) {
        self.news.remove(&key);
        if self.by_key.contains_key(&key) {
            self.waiting.insert(key);
        }
    }

    /// What records of runs rest on has changed in a way that no run knows of.
    pub(crate) fn stir(&mut self) {
        self.news.append(&mut self.waiting);
    }

    /// Takes the runs with news, and those that wait.
    pub(crate) fn take_open(&mut self) -> (BTreeSet<RunKey>, BTreeSet<RunKey>) {
        (std::mem::take(&mut self.news), std::mem::take(&mut self.waiting))
    }

    /// Somebody created or deleted that run: its record may say something else now.
    pub(crate) fn touch(&mut self, cluster: &str, uid: Option<&str>, namespace: &str, name: Option<&str>) {
        let by_uid = uid.map(|uid| (cluster.to_owned(), uid.to_owned()));
        self.news.extend(by_uid.filter(|key| self.by_key.contains_key(key)));
        let by_name = name.and_then(|name| self.by_name.get(&(cluster.into(), namespace.into(), name.into())));
        self.news.extend(by_name.into_iter().flatten().cloned());
    }

    /// Takes a run that is gone out of the indices.
    fn forget(&mut self, key: &RunKey, fold: &RunFold) {
        self.news.remove(key);
        self.waiting.remove(key);
        // What waiting parents say of it does not hold any more.
        let parents = self.by_place.get(&Place::Child(fold.namespace.clone(), fold.name.clone()));
        self.news.extend(parents.into_iter().flatten().filter(|parent| self.waiting.contains(parent)).cloned());
        unlist(&mut self.by_name, &(key.0.clone(), fold.namespace.clone(), fold.name.clone()), key);
        for place in fold.places() {
            unlist(&mut self.by_place, &place, key);
        }
    }

    /// Runs that have to do with something.
    pub(crate) fn at<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a RunFold> + use<'a> {
        self.by_place.get(place).into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// The child that a parent lists, when an event of it was seen.
    pub(crate) fn child(&self, cluster: &str, parent: &RunFold, child: &ChildRef) -> Option<&RunFold> {
        let keys = self.by_name.get(&(cluster.into(), parent.namespace.clone(), child.name.clone()))?;
        let mut folds = keys.iter().filter_map(|key| self.get(key)).filter(|fold| fold.kind.as_str() == child.kind);
        let of_parent = |fold: &&RunFold| fold.parent_uid.as_ref().is_none_or(|uid| *uid == parent.uid);
        folds.clone().find(of_parent).or_else(|| folds.next())
    }

    /// The run that a pod belongs to, or its PipelineRun if it has one, and the best grade that may rest on that. Of
    /// several runs that name the pod, the one of the better submitter counts.
    pub(crate) fn of_pod(&self, cluster: &str, namespace: &str, pod: &str) -> Option<(&RunFold, Grade)> {
        let named = self.at(&Place::Pod(namespace.into(), pod.into()));
        let named =
            named.filter_map(|fold| fold.pods.iter().find(|known| known.name == pod).map(|known| (fold, known.best)));
        let (task, best) = named.max_by_key(|(fold, best)| (*best, Reverse(&fold.uid)))?;
        let parents =
            task.parent.as_ref().and_then(|name| self.by_name.get(&(cluster.into(), namespace.into(), name.clone())));
        let mut parents = parents.into_iter().flatten().filter_map(|key| self.get(key));
        let exact = parents.find(|parent| task.parent_uid.as_ref().is_none_or(|uid| *uid == parent.uid));
        Some((exact.unwrap_or(task), best))
    }
}

/// Stands for the uid of a run whose events carry none.
pub(crate) fn unnamed(kind: RunKind, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.as_str())
}

/// Takes a run's key out of an index.
fn unlist<K: Ord>(index: &mut BTreeMap<K, BTreeSet<RunKey>>, at: &K, key: &RunKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}
