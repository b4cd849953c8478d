//! Runs: all sightings of one run folded into one account of it.
//!
//! Tekton says the same thing several times, in any order, under new ids and two spellings of its source. A sighting
//! is a repeat when (uid, attempt, state, reason, message, completed) were seen before. Lists take the union, scalars
//! that conflict are decided by value: earliest start, latest end, highest rank; never by arrival.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use model::{
    Entry, Grade, SourceId, Time,
    identity::{Actor, PersonRef},
    record::{ActorClaim, Evidence, Role, RunDetail},
    run::{ArtifactClaim, ChildRef, CommitClaim, Run, RunAccount, RunKind, RunState, Skipped},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    limits::{crowd_out, trim},
    pairs,
    store::{Store, best},
};

/// Cluster and uid; without a uid: kind, namespace and name.
pub(crate) type RunKey = (String, String);

/// What makes two sightings one: attempt, state, reason, message, completion.
type Repeat = (u32, RunState, String, String, Option<Time>);

/// The state that counts: the end before the rest, the last attempt, the highest rank.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Standing {
    terminal: bool,
    attempt: u32,
    state: RunState,
    completed: Option<Time>,
    reason: String,
    message: String,
}

/// One state as first seen, by what its envelope says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Sighting {
    sent: Option<Time>,
    id: String,
    entry: u64,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunFold {
    pub(crate) kind: RunKind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) source: SourceId,
    pub(crate) parent: Option<String>,
    pub(crate) parent_uid: Option<String>,
    pub(crate) pipeline: Option<String>,
    pub(crate) task: Option<String>,
    pub(crate) pipeline_task: Option<String>,
    standing: Standing,
    pub(crate) created: Option<Time>,
    pub(crate) started: Option<Time>,
    pub(crate) completed: Option<Time>,
    accounts: BTreeSet<(Option<String>, String)>,
    /// Pods with the attempt they were first named in, and the best grade that may rest on that.
    pods: BTreeMap<String, (u32, Grade)>,
    pub(crate) commits: BTreeSet<CommitClaim>,
    pub(crate) artifacts: BTreeSet<ArtifactClaim>,
    pub(crate) children: BTreeSet<ChildRef>,
    skipped: BTreeSet<Skipped>,
    trigger_event: Option<String>,
    senders: BTreeMap<String, u64>,
    #[serde(with = "pairs")]
    states: BTreeMap<Repeat, Sighting>,
    sightings: u64,
    /// Ledger milliseconds of the last sighting that said something new.
    pub(crate) changed: u64,
}

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
    pub(crate) by_key: BTreeMap<RunKey, RunFold>,
    /// Keys by namespace and name: a name is reused over time.
    #[serde(with = "pairs")]
    by_name: BTreeMap<(String, String, String), BTreeSet<RunKey>>,
    /// Keys by what else leads to a run.
    #[serde(with = "pairs")]
    by_place: BTreeMap<Place, BTreeSet<RunKey>>,
    /// To be looked at: not settled, or touched since.
    pub(crate) open: BTreeSet<RunKey>,
    /// Runs dropped before their time.
    pub(crate) evicted: u64,
}

impl Runs {
    /// Folds one sighting. The run's key, and whether it said something new.
    pub(crate) fn see(&mut self, entry: &Entry, run: &Run, config: &Config) -> (RunKey, bool) {
        let cluster = entry.body.source.cluster.clone();
        let namespace = run.namespace.clone().unwrap_or_default();
        let uid = run.uid.clone().unwrap_or_else(|| unnamed(run.kind, &namespace, &run.name));
        let key = (cluster.clone(), uid);
        let fold = self.by_key.entry(key.clone()).or_insert_with(|| RunFold::new(entry, run));
        let (new, dropped) = fold.see(entry, run, config);
        self.evicted += dropped;
        self.by_name.entry((cluster.clone(), namespace.clone(), run.name.clone())).or_default().insert(key.clone());
        if new {
            for place in fold.places() {
                self.by_place.entry(place).or_default().insert(key.clone());
            }
        }
        if new {
            self.open.insert(key.clone());
            // What its parent says of it may not hold any more.
            let parents = self.by_place.get(&Place::Child(namespace, run.name.clone()));
            self.open.extend(parents.into_iter().flatten().cloned());
        }
        let age = |fold: &RunFold| (fold.completed, fold.started);
        for (key, fold) in crowd_out(&mut self.by_key, config.max_runs, age) {
            self.evicted += 1;
            self.forget(&key, &fold);
        }
        (key, new)
    }

    /// Somebody created or deleted that run: its record may say something else now.
    pub(crate) fn touch(&mut self, cluster: &str, uid: Option<&str>, namespace: &str, name: Option<&str>) {
        let by_uid = uid.map(|uid| (cluster.to_owned(), uid.to_owned()));
        self.open.extend(by_uid.filter(|key| self.by_key.contains_key(key)));
        let by_name = name.and_then(|name| self.by_name.get(&(cluster.into(), namespace.into(), name.into())));
        self.open.extend(by_name.into_iter().flatten().cloned());
    }

    /// Takes a run that is gone out of the indices.
    fn forget(&mut self, key: &RunKey, fold: &RunFold) {
        self.open.remove(key);
        unlist(&mut self.by_name, &(key.0.clone(), fold.namespace.clone(), fold.name.clone()), key);
        for place in fold.places() {
            unlist(&mut self.by_place, &place, key);
        }
    }

    /// Runs that have to do with something.
    pub(crate) fn at<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a RunFold> + use<'a> {
        self.by_place.get(place).into_iter().flatten().filter_map(|key| self.by_key.get(key))
    }

    /// The child that a parent lists, when an event of it was seen.
    pub(crate) fn child(&self, cluster: &str, parent: &RunFold, child: &ChildRef) -> Option<&RunFold> {
        let keys = self.by_name.get(&(cluster.into(), parent.namespace.clone(), child.name.clone()))?;
        let mut folds =
            keys.iter().filter_map(|key| self.by_key.get(key)).filter(|fold| fold.kind.as_str() == child.kind);
        let of_parent = |fold: &&RunFold| fold.parent_uid.as_ref().is_none_or(|uid| *uid == parent.uid);
        folds.clone().find(of_parent).or_else(|| folds.next())
    }

    /// The run that a pod belongs to, or its PipelineRun if it has one, and the best grade that may rest on that. Of
    /// several runs that name the pod, the one of the better submitter counts.
    pub(crate) fn of_pod(&self, cluster: &str, namespace: &str, pod: &str) -> Option<(&RunFold, Grade)> {
        let named = self.at(&Place::Pod(namespace.into(), pod.into()));
        let named = named.filter_map(|fold| fold.pods.get(pod).map(|(_, best)| (fold, *best)));
        let (task, best) = named.max_by_key(|(fold, best)| (*best, Reverse(&fold.uid)))?;
        let parents =
            task.parent.as_ref().and_then(|name| self.by_name.get(&(cluster.into(), namespace.into(), name.clone())));
        let mut parents = parents.into_iter().flatten().filter_map(|key| self.by_key.get(key));
        let exact = parents.find(|parent| task.parent_uid.as_ref().is_none_or(|uid| *uid == parent.uid));
        Some((exact.unwrap_or(task), best))
    }
}

impl RunFold {
    fn new(entry: &Entry, run: &Run) -> Self {
        Self {
            kind: run.kind,
            namespace: run.namespace.clone().unwrap_or_default(),
            name: run.name.clone(),
            uid: run.uid.clone().unwrap_or_default(),
            source: entry.body.source.clone(),
            parent: None,
            parent_uid: None,
            pipeline: None,
            task: None,
            pipeline_task: None,
            standing: standing(run),
            created: None,
            started: None,
            completed: None,
            accounts: BTreeSet::new(),
            pods: BTreeMap::new(),
            commits: BTreeSet::new(),
            artifacts: BTreeSet::new(),
            children: BTreeSet::new(),
            skipped: BTreeSet::new(),
            trigger_event: None,
            senders: BTreeMap::new(),
            states: BTreeMap::new(),
            sightings: 0,
            changed: entry.stamp.tick,
        }
    }

    /// Folds a sighting: whether it said something new, and how much of it there was no room for.
    fn see(&mut self, entry: &Entry, run: &Run, config: &Config) -> (bool, u64) {
        let before = self.clone();
        let sure = best(entry);
        self.standing = self.standing.clone().max(standing(run));
        self.source = self.source.clone().min(entry.body.source.clone());
        earliest(&mut self.created, run.created);
        earliest(&mut self.started, run.started);
        self.completed = self.completed.max(run.completed);
        first(&mut self.parent, run.parent.as_ref().map(|parent| &parent.name));
        first(&mut self.parent_uid, run.parent.as_ref().and_then(|parent| parent.uid.as_ref()));
        first(&mut self.pipeline, run.pipeline.as_ref());
        first(&mut self.task, run.task.as_ref());
        first(&mut self.pipeline_task, run.pipeline_task.as_ref());
        first(&mut self.trigger_event, run.trigger.as_ref().and_then(|trigger| trigger.event_id.as_ref()));
        self.accounts.extend(run.service_accounts.iter().map(|account| (account.task.clone(), account.name.clone())));
        for pod in &run.pods {
            let (attempt, best) = self.pods.entry(pod.clone()).or_insert((run.attempt, sure));
            *attempt = (*attempt).min(run.attempt);
            *best = (*best).max(sure);
        }
        // The same claim of two submitters is one, with the better grade.
        for claim in &run.commits {
            let claim = CommitClaim { grade: claim.grade.min(sure), ..claim.clone() };
            let same = |old: &CommitClaim| CommitClaim { grade: claim.grade, ..old.clone() } == claim;
            let known = self.commits.iter().find(|old| same(old)).cloned();
            let grade = known.as_ref().map_or(claim.grade, |old| old.grade.max(claim.grade));
            known.map(|old| self.commits.remove(&old));
            self.commits.insert(CommitClaim { grade, ..claim });
        }
        for claim in &run.artifacts {
            let claim = ArtifactClaim { grade: claim.grade.min(sure), ..claim.clone() };
            let same = |old: &ArtifactClaim| ArtifactClaim { grade: claim.grade, ..old.clone() } == claim;
            let known = self.artifacts.iter().find(|old| same(old)).cloned();
            let grade = known.as_ref().map_or(claim.grade, |old| old.grade.max(claim.grade));
            known.map(|old| self.artifacts.remove(&old));
            self.artifacts.insert(ArtifactClaim { grade, ..claim });
        }
        self.children.extend(run.children.iter().cloned());
        self.skipped.extend(run.skipped.iter().cloned());
        let repeat = (run.attempt, run.state, run.reason.clone(), run.message.clone(), run.completed);
        let sighting = Sighting { sent: run.event.time, id: run.event.id.clone(), entry: entry.index };
        match self.states.get_mut(&repeat) {
            // Envelope first: a delivery that arrives twice is one, whichever copy came first.
            Some(known) if (known.sent, &known.id) > (sighting.sent, &sighting.id) => *known = sighting.clone(),
            Some(_) => {}
            None => {
                self.states.insert(repeat, sighting.clone());
            }
        }
        if let Some(PersonRef(person)) = &run.sender {
            self.senders.entry(person.clone()).or_insert(entry.index);
        }
        // The largest go first, so that what stays does not depend on the order.
        let limit = config.max_parts;
        let mut dropped = trim(&mut self.accounts, limit) + trim(&mut self.commits, limit);
        dropped += trim(&mut self.artifacts, limit) + trim(&mut self.children, limit) + trim(&mut self.skipped, limit);
        while self.states.len() > limit {
            dropped += u64::from(self.states.pop_last().is_some());
        }
        while self.pods.len() > limit {
            dropped += u64::from(self.pods.pop_last().is_some());
        }
        while self.senders.len() > limit {
            dropped += u64::from(self.senders.pop_last().is_some());
        }
        let new = Self { sightings: 0, ..before } != Self { sightings: 0, ..self.clone() };
        self.sightings += 1;
        if new {
            self.changed = entry.stamp.tick;
        }
        (new, dropped)
    }

    /// Everything that leads to it.
    fn places(&self) -> Vec<Place> {
        let inside = |name: &String| (self.namespace.clone(), name.clone());
        let mut places = Vec::new();
        places.extend(self.pods.keys().map(inside).map(|(namespace, pod)| Place::Pod(namespace, pod)));
        places.extend(self.children.iter().map(|child| inside(&child.name)).map(|(ns, name)| Place::Child(ns, name)));
        places.extend(self.accounts.iter().map(|(_, name)| inside(name)).map(|(ns, name)| Place::Account(ns, name)));
        places.extend(self.artifacts.iter().filter_map(|made| made.digest.clone()).map(Place::Digest));
        places
    }

    /// Its key.
    pub(crate) fn key(&self, cluster: &str) -> RunKey {
        let uid = if self.uid.is_empty() { unnamed(self.kind, &self.namespace, &self.name) } else { self.uid.clone() };
        (cluster.into(), uid)
    }

    /// The run has ended.
    pub(crate) fn ended(&self) -> bool {
        self.standing.terminal
    }

    /// `PipelineRun ns/name`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }

    /// First and last moment that it tells of.
    pub(crate) fn span(&self) -> (Time, Time) {
        let sent = self.states.values().filter_map(|sighting| sighting.sent);
        let from = self.started.or(self.created).or_else(|| sent.clone().min()).unwrap_or_default();
        (from, self.completed.or_else(|| sent.max()).unwrap_or(from).max(from))
    }

    /// Open at that moment.
    pub(crate) fn open_at(&self, at: Time) -> bool {
        let (from, to) = self.span();
        from <= at && (at <= to || !self.ended())
    }

    /// One entry per state, in the order of their sending.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        let seen = self.states.iter().map(|((_, state, reason, _, completed), sighting)| Evidence {
            entry: sighting.entry,
            at: sighting.sent.or(*completed).unwrap_or_default(),
            role: Role::Supports,
            says: if reason.is_empty() { state.as_str().into() } else { format!("{} {reason}", state.as_str()) },
            times: None,
        });
        seen.collect()
    }

    /// Reason of the state that counts.
    pub(crate) fn reason(&self) -> &str {
        if self.standing.reason.is_empty() { self.standing.state.as_str() } else { &self.standing.reason }
    }

    /// Number of sightings.
    pub(crate) fn sightings(&self) -> u64 {
        self.sightings
    }

    /// Whether claims name different revisions of what was built. A resolver's provenance speaks of the pipeline's own
    /// definition, which is another repository's commit by right.
    pub(crate) fn disputed(&self) -> bool {
        let claims = self.commits.iter().filter(|claim| !claim.source.starts_with("provenance"));
        let revisions: BTreeSet<&String> = claims.filter_map(|claim| claim.revision.as_ref()).collect();
        revisions.iter().any(|a| revisions.iter().any(|b| !a.starts_with(b.as_str()) && !b.starts_with(a.as_str())))
    }

    /// The account for a record.
    pub(crate) fn detail(&self, cluster: &str, runs: &Runs, store: &Store) -> RunDetail {
        let mut pods: Vec<(&u32, &String)> = self.pods.iter().map(|(pod, (attempt, _))| (attempt, pod)).collect();
        pods.sort();
        let open = self.children.iter().filter(|child| !runs.child(cluster, self, child).is_some_and(Self::ended));
        let attempts = self.states.keys().map(|(attempt, ..)| *attempt).max().unwrap_or(0);
        RunDetail {
            cluster: cluster.into(),
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            parent: self.parent.clone(),
            pipeline: self.pipeline.clone(),
            task: self.task.clone(),
            pipeline_task: self.pipeline_task.clone(),
            state: self.standing.state,
            reason: self.standing.reason.clone(),
            message: self.standing.message.clone(),
            attempts: attempts.saturating_add(1),
            started: self.started,
            completed: self.completed,
            service_accounts: self.accounts.iter().cloned().map(|(task, name)| RunAccount { task, name }).collect(),
            pods: pods.into_iter().map(|(_, pod)| pod.clone()).collect(),
            commits: self.commits.iter().cloned().collect(),
            disputed: self.disputed(),
            artifacts: self.artifacts.iter().cloned().collect(),
            children: self.children.iter().cloned().collect(),
            open_children: if self.ended() { open.map(|child| child.name.clone()).collect() } else { Vec::new() },
            skipped: self.skipped.iter().cloned().collect(),
            trigger_event: self.trigger_event.clone(),
            started_by: self.started_by(store),
            repeats: self.sightings.saturating_sub(u64::try_from(self.states.len()).unwrap_or(self.sightings)),
        }
    }

    /// Who made it: the API server's audit (authenticated), its own annotations (asserted).
    fn started_by(&self, store: &Store) -> Vec<ActorClaim> {
        let resource = format!("{}s", self.kind.as_str().to_lowercase());
        let name = format!("{}/{}", self.namespace, self.name);
        let created = store.creations(&resource, &self.uid).chain(store.creations(&resource, &name));
        let mut claims: Vec<ActorClaim> = created
            .filter(|noted| noted.fact.status.is_none_or(|status| status < 300))
            .map(|noted| ActorClaim {
                actor: noted.fact.actor.clone(),
                did: "create".into(),
                grade: noted.best,
                entry: noted.entry,
            })
            .collect();
        claims.extend(self.senders.iter().map(|(person, entry)| ActorClaim {
            actor: Actor::Person { person: PersonRef(person.clone()) },
            did: "sender annotation".into(),
            grade: Grade::Asserted,
            entry: *entry,
        }));
        claims.dedup_by(|a, b| a.actor == b.actor && a.did == b.did);
        claims
    }
}

/// Stands for the uid of a run whose events carry none.
fn unnamed(kind: RunKind, namespace: &str, name: &str) -> String {
    format!("{}/{namespace}/{name}", kind.as_str())
}

fn standing(run: &Run) -> Standing {
    Standing {
        terminal: run.state.is_terminal(),
        attempt: run.attempt,
        state: run.state,
        completed: run.completed,
        reason: run.reason.clone(),
        message: run.message.clone(),
    }
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

fn earliest(slot: &mut Option<Time>, value: Option<Time>) {
    *slot = match (*slot, value) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// Conflicting names are decided by value: the smallest stays.
fn first(slot: &mut Option<String>, value: Option<&String>) {
    if let Some(value) = value
        && slot.as_ref().is_none_or(|old| value < old)
    {
        *slot = Some(value.clone());
    }
}
