//! One run: all its sightings folded into one account of it.
//!
//! Tekton says the same thing several times, in any order, under new ids and two spellings of its source. A sighting
//! is a repeat when (uid, attempt, state, reason, message, completed) were seen before. Lists take the union, scalars
//! that conflict are decided by value: earliest start, latest end, highest rank; never by arrival.

use std::{cmp::Ordering, collections::BTreeSet};

use model::{
    Entry, Grade, SourceId, Time,
    identity::{Actor, PersonRef},
    record::{ActorClaim, Evidence, Role, RunDetail},
    run::{ArtifactClaim, ChildRef, CommitClaim, Run, RunAccount, RunKind, RunState, Skipped},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    few::{Few, Room},
    runs::{Place, RunKey, Runs, unnamed},
    store::{Store, best},
};

/// What makes two sightings one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Repeat {
    attempt: u32,
    state: RunState,
    reason: String,
    message: String,
    completed: Option<Time>,
}

impl Repeat {
    fn of(run: &Run) -> Self {
        Self {
            attempt: run.attempt,
            state: run.state,
            reason: run.reason.clone(),
            message: run.message.clone(),
            completed: run.completed,
        }
    }

    fn cmp_to(&self, run: &Run) -> Ordering {
        let this = (self.attempt, self.state, &self.reason, &self.message, self.completed);
        this.cmp(&(run.attempt, run.state, &run.reason, &run.message, run.completed))
    }
}

/// The state that counts: the end before the rest, the last attempt, the highest rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Standing {
    terminal: bool,
    attempt: u32,
    state: RunState,
    completed: Option<Time>,
    reason: String,
    message: String,
}

impl Standing {
    fn of(run: &Run) -> Self {
        Self {
            terminal: run.state.is_terminal(),
            attempt: run.attempt,
            state: run.state,
            completed: run.completed,
            reason: run.reason.clone(),
            message: run.message.clone(),
        }
    }

    /// Becomes what the sighting says when that counts more. True when it does.
    fn rise(&mut self, run: &Run) -> bool {
        let stands = (self.terminal, self.attempt, self.state, self.completed, &self.reason, &self.message);
        let says = (run.state.is_terminal(), run.attempt, run.state, run.completed, &run.reason, &run.message);
        let rises = stands < says;
        if rises {
            *self = Self::of(run);
        }
        rises
    }
}

/// A pod, the attempt that it was first named in, and the best grade that may rest on that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pod {
    pub(crate) name: String,
    attempt: u32,
    pub(crate) best: Grade,
}

/// One state as first seen, by what its envelope says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    accounts: Few<RunAccount>,
    pub(crate) pods: Few<Pod>,
    pub(crate) commits: Few<CommitClaim>,
    pub(crate) artifacts: Few<ArtifactClaim>,
    pub(crate) children: Few<ChildRef>,
    skipped: Few<Skipped>,
    trigger_event: Option<String>,
    /// Persons whom annotations name, and the entry that did first.
    senders: Few<(String, u64)>,
    states: Few<(Repeat, Sighting)>,
    sightings: u64,
    /// Ledger milliseconds of the last sighting that said something new.
    pub(crate) changed: u64,
}

impl RunFold {
    pub(crate) fn new(entry: &Entry, run: &Run) -> Self {
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
            standing: Standing::of(run),
            created: None,
            started: None,
            completed: None,
            accounts: Few::default(),
            pods: Few::default(),
            commits: Few::default(),
            artifacts: Few::default(),
            children: Few::default(),
            skipped: Few::default(),
            trigger_event: None,
            senders: Few::default(),
            states: Few::default(),
            sightings: 0,
            changed: entry.stamp.tick,
        }
    }

    /// Folds a sighting: whether it said something new, and how much of it there was no room for.
    pub(crate) fn see(&mut self, entry: &Entry, run: &Run, config: &Config) -> (bool, u64) {
        let sure = best(entry);
        let mut room = Room { limit: config.max_parts, lost: 0 };
        let mut new = self.standing.rise(run);
        if entry.body.source < self.source {
            self.source = entry.body.source.clone();
            new = true;
        }
        new |= earliest(&mut self.created, run.created);
        new |= earliest(&mut self.started, run.started);
        new |= self.completed < run.completed;
        self.completed = self.completed.max(run.completed);
        let parent = run.parent.as_ref();
        new |= first(&mut self.parent, parent.map(|parent| &parent.name));
        new |= first(&mut self.parent_uid, parent.and_then(|parent| parent.uid.as_ref()));
        new |= first(&mut self.pipeline, run.pipeline.as_ref());
        new |= first(&mut self.task, run.task.as_ref());
        new |= first(&mut self.pipeline_task, run.pipeline_task.as_ref());
        new |= first(&mut self.trigger_event, run.trigger.as_ref().and_then(|trigger| trigger.event_id.as_ref()));
        new |= self.accounts.add(&run.service_accounts, &mut room);
        for name in &run.pods {
            let pod = Pod { name: name.clone(), attempt: run.attempt, best: sure };
            new |= match self.pods.find(|known| known.name.cmp(name)) {
                Err(at) => self.pods.put(at, pod, &mut room),
                Ok(known) => {
                    let both = Pod { attempt: known.attempt.min(pod.attempt), best: known.best.max(sure), ..pod };
                    both != std::mem::replace(known, both.clone())
                }
            };
        }
        // The same claim of two submitters is one, with the better grade.
        for claim in &run.commits {
            let says = (&claim.revision, &claim.repository, &claim.source);
            let grade = claim.grade.min(sure);
            new |= match self.commits.find(|known| (&known.revision, &known.repository, &known.source).cmp(&says)) {
                Ok(known) => better(&mut known.grade, grade),
                Err(at) => self.commits.put(at, CommitClaim { grade, ..claim.clone() }, &mut room),
            };
        }
        for claim in &run.artifacts {
            let says = (&claim.uri, &claim.digest, &claim.source);
            let grade = claim.grade.min(sure);
            new |= match self.artifacts.find(|known| (&known.uri, &known.digest, &known.source).cmp(&says)) {
                Ok(known) => better(&mut known.grade, grade),
                Err(at) => self.artifacts.put(at, ArtifactClaim { grade, ..claim.clone() }, &mut room),
            };
        }
        new |= self.children.add(&run.children, &mut room);
        new |= self.skipped.add(&run.skipped, &mut room);
        let sighting = || Sighting { sent: run.event.time, id: run.event.id.clone(), entry: entry.index };
        new |= match self.states.find(|(known, _)| known.cmp_to(run)) {
            // Envelope first: a delivery that arrives twice is one, whichever copy came first.
            Ok((_, known)) if (known.sent, &known.id) > (run.event.time, &run.event.id) => {
                *known = sighting();
                true
            }
            Ok(_) => false,
            Err(at) => self.states.put(at, (Repeat::of(run), sighting()), &mut room),
        };
        if let Some(PersonRef(person)) = &run.sender {
            new |= match self.senders.find(|(known, _)| known.cmp(person)) {
                Ok(_) => false,
                Err(at) => self.senders.put(at, (person.clone(), entry.index), &mut room),
            };
        }
        self.sightings += 1;
        if new {
            self.changed = entry.stamp.tick;
        }
        (new, room.lost)
    }

    /// Everything that leads to it.
    pub(crate) fn places(&self) -> Vec<Place> {
        let inside = |name: &String| (self.namespace.clone(), name.clone());
        let mut places = Vec::new();
        places.extend(self.pods.iter().map(|pod| inside(&pod.name)).map(|(ns, name)| Place::Pod(ns, name)));
        places.extend(self.children.iter().map(|child| inside(&child.name)).map(|(ns, name)| Place::Child(ns, name)));
        places.extend(
            self.accounts.iter().map(|account| inside(&account.name)).map(|(ns, name)| Place::Account(ns, name)),
        );
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
        let sent = self.states.iter().filter_map(|(_, sighting)| sighting.sent);
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
        let seen = self.states.iter().map(|(Repeat { state, reason, completed, .. }, sighting)| Evidence {
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
        let mut pods: Vec<&Pod> = self.pods.iter().collect();
        pods.sort_by_key(|pod| pod.attempt); // in one attempt by name
        let open = self.children.iter().filter(|child| !runs.child(cluster, self, child).is_some_and(Self::ended));
        let attempts = self.states.iter().map(|(repeat, _)| repeat.attempt).max().unwrap_or(0);
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
            service_accounts: self.accounts.to_vec(),
            pods: pods.into_iter().map(|pod| pod.name.clone()).collect(),
            commits: self.commits.to_vec(),
            disputed: self.disputed(),
            artifacts: self.artifacts.to_vec(),
            children: self.children.to_vec(),
            open_children: if self.ended() { open.map(|child| child.name.clone()).collect() } else { Vec::new() },
            skipped: self.skipped.to_vec(),
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

/// Conflicting values are decided by value: the smallest stays. True when it is another one now.
fn earliest(slot: &mut Option<Time>, value: Option<Time>) -> bool {
    let earlier = value.is_some_and(|value| slot.is_none_or(|old| value < old));
    if earlier {
        *slot = value;
    }
    earlier
}

/// As [`earliest`], of names.
fn first(slot: &mut Option<String>, value: Option<&String>) -> bool {
    let smaller = value.is_some_and(|value| slot.as_ref().is_none_or(|old| value < old));
    if smaller {
        *slot = value.cloned();
    }
    smaller
}

/// Raises a grade. True when it is another one now.
fn better(slot: &mut Grade, grade: Grade) -> bool {
    let better = *slot < grade;
    *slot = grade.max(*slot);
    better
}
