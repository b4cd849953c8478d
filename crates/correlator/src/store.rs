//! What the fold remembers: facts put in an order that does not depend on when they arrived.
//!
//! Every collection is keyed by what a fact says (its time, its place in its source), never by arrival, so that the
//! same facts in another order give the same store. Every collection has a limit; the oldest by `occurred` goes first,
//! and `forgotten` remembers up to when, so that no verdict rests on what was thrown away.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Entry, Fact, Grade, SourceId, Time,
    action::Action,
    credential::{Credential, CredentialEvent},
    edges::Direction,
    entry::Place,
    identity::{Declared, SourceKind},
    own::{Gap, Import, Watermark},
    workload::Workload,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Config,
    index::Index,
    limits::crowd_out,
    pairs,
    traffic::{Calls, Certificates},
};

/// Resource, namespace and name of a Kubernetes object.
pub(crate) type Object = (String, String, String);

/// Orders facts of one source: time, place, and the entry's index only where a fact has no place.
pub(crate) type Key = (Time, Option<Place>, u64);

/// A fact and the entry that brought it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted<T> {
    pub(crate) entry: u64,
    pub(crate) fact: T,
    /// The best grade that may rest on it, by who handed it in.
    pub(crate) best: Grade,
}

impl<T> Noted<T> {
    fn new(entry: &Entry, fact: T) -> Self {
        Self { entry: entry.index, fact, best: best(entry) }
    }
}

/// The best grade that may rest on the entry.
pub(crate) fn best(entry: &Entry) -> Grade {
    entry.body.submitter.cap(Grade::Authenticated)
}

/// Facts of one kind in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub(crate) struct Timeline<T>(#[serde(with = "pairs")] pub(crate) BTreeMap<Key, Noted<T>>);

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Timeline<T> {
    /// Facts from `from` to `to`, both included.
    pub(crate) fn between(&self, from: Time, to: Time) -> impl DoubleEndedIterator<Item = (Time, &Noted<T>)> {
        let end = Time(to.0.max(from.0).saturating_add(1));
        self.0.range((from, None, 0)..(end, None, 0)).map(|(key, noted)| (key.0, noted))
    }
}

/// What is known of one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// What its owner declares, put together from the two below.
    pub(crate) declared: Declared,
    /// Declarations of submitters that somebody vouches for, and those of anonymous ones.
    vouched: Declared,
    claimed: Declared,
    /// Lines seen per level.
    pub(crate) levels: BTreeMap<String, u64>,
    /// Some access line carried TLS variables.
    pub(crate) tls_seen: bool,
    /// Some access line tells of a call to it.
    pub(crate) inbound: bool,
    /// It is a SPIRE server by its lines, and one of them carried a serial.
    pub(crate) server: bool,
    pub(crate) signs: bool,
    /// Lines that its imports say were understood, and requests that its rows stand for: equal when nothing is missing.
    pub(crate) understood: u64,
    /// Lines that could not be read.
    pub(crate) opaque: u64,
    pub(crate) requests: u64,
    /// Nothing of it before this moment is missing.
    pub(crate) complete_to: Option<Time>,
    /// Oldest and newest `occurred`.
    pub(crate) oldest: Option<Time>,
    pub(crate) newest: Option<Time>,
    /// First entry that told of it.
    pub(crate) entry: Option<u64>,
    /// Addresses that it listens on, from its own lines.
    pub(crate) listens: BTreeSet<String>,
    /// Names of its servers.
    pub(crate) serves: BTreeSet<String>,
    /// Pod names that its lines carry.
    pub(crate) pods: BTreeSet<String>,
}

/// Everything remembered but runs and failures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Store {
    /// Newest credible `occurred`.
    pub(crate) now: Time,
    /// Everything before this moment may have been thrown away for want of space.
    pub(crate) forgotten: Option<Time>,
    /// How many facts were thrown away before their time.
    pub(crate) evicted: u64,
    #[serde(with = "pairs")]
    pub(crate) sources: BTreeMap<SourceId, Source>,
    /// Stretches of time of which lines of a source are lost; without a source, of all.
    #[serde(with = "pairs")]
    gaps: BTreeMap<Option<SourceId>, BTreeSet<(Time, Time)>>,
    /// Sources that told something since what they cannot show was last looked at.
    pub(crate) changed: BTreeSet<SourceId>,
    #[serde(with = "pairs")]
    pub(crate) steps: BTreeMap<SourceId, Timeline<Credential>>,
    pub(crate) actions: Timeline<Action>,
    /// Actions by resource, namespace and name.
    #[serde(with = "pairs")]
    pub(crate) on: BTreeMap<Object, BTreeSet<Key>>,
    /// Who created a run: by resource and uid, or by resource and `namespace/name` when the uid is not known.
    #[serde(with = "pairs")]
    pub(crate) created: BTreeMap<(String, String), BTreeSet<Key>>,
    /// Looks at Kubernetes objects by uid.
    pub(crate) workloads: BTreeMap<String, Looks>,
    /// By caller's address, then (called source, certificate).
    pub(crate) shown: BTreeMap<String, Certificates>,
    #[serde(with = "pairs")]
    pub(crate) calls: BTreeMap<(SourceId, Direction, String), Calls>,
    /// Ways into the collections above.
    pub(crate) index: Index,
    /// Repeat keys with the tick of their first sighting.
    #[serde(with = "pairs")]
    seen: BTreeMap<u64, u64>,
    /// The same by age, to forget the oldest.
    seen_by_age: BTreeSet<(u64, u64)>,
}

/// Looks at one object that differ, by time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Looks(#[serde(with = "pairs")] pub(crate) BTreeMap<Time, Noted<Workload>>);

/// SHA-256 over parts, each with its length before it, so that they are kept apart.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Its first eight bytes: enough for repeat keys.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    hash(parts).iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Source {
    /// Takes a declaration. Conflicts are decided by value, and for one that somebody vouches for.
    fn declare(&mut self, declared: &Declared, vouched: bool) {
        let known = if vouched { &mut self.vouched } else { &mut self.claimed };
        *known = united(known, declared);
        let (sure, claimed) = (&self.vouched, &self.claimed);
        // A workload and its namespace belong together: they come from the same side.
        let workload = if sure.workload.is_some() || sure.namespace.is_some() { sure } else { claimed };
        self.declared = Declared {
            namespace: workload.namespace.clone(),
            workload: workload.workload.clone(),
            node: sure.node.clone().or_else(|| claimed.node.clone()),
            zone: sure.zone.clone().or_else(|| claimed.zone.clone()),
        };
    }
}

/// The union of two declarations; of two values the smaller, and a workload with its own namespace.
fn united(a: &Declared, b: &Declared) -> Declared {
    let least = |a: &Option<String>, b: &Option<String>| a.iter().chain(b).min().cloned();
    let named = [a, b].into_iter().filter(|declared| declared.workload.is_some());
    let workload = named.min_by_key(|declared| (&declared.workload, declared.namespace.is_none(), &declared.namespace));
    Declared {
        namespace: workload.map_or_else(|| least(&a.namespace, &b.namespace), |named| named.namespace.clone()),
        workload: workload.and_then(|named| named.workload.clone()),
        node: least(&a.node, &b.node),
        zone: least(&a.zone, &b.zone),
    }
}

impl Store {
    /// Remembers the entry as seen. False when the same fact of the same source at the same place was seen before.
    pub(crate) fn first_sight(&mut self, entry: &Entry, config: &Config) -> bool {
        let source = serde_json::to_vec(&entry.body.source).unwrap_or_default();
        let place = serde_json::to_vec(&entry.body.place).unwrap_or_default();
        let fact = serde_json::to_vec(&entry.body.fact).unwrap_or_default();
        let key = digest(&[&source, &place, &fact]);
        if self.seen.contains_key(&key) {
            return false;
        }
        self.seen.insert(key, entry.stamp.tick);
        self.seen_by_age.insert((entry.stamp.tick, key));
        while self.seen.len() > config.max_seen {
            let Some((_, oldest)) = self.seen_by_age.pop_first() else { break };
            self.seen.remove(&oldest);
        }
        true
    }

    /// True when the source is known or there is room for it; otherwise its fact is counted as dropped.
    pub(crate) fn admits(&mut self, source: &SourceId, config: &Config) -> bool {
        let fits = self.sources.len() < config.max_sources || self.sources.contains_key(source);
        self.evicted += u64::from(!fits);
        fits
    }

    /// The line of the entry's source, made when it is new. What it cannot show is looked at again.
    pub(crate) fn source(&mut self, entry: &Entry) -> &mut Source {
        if !self.changed.contains(&entry.body.source) {
            self.changed.insert(entry.body.source.clone());
        }
        let source = self.known(&entry.body.source);
        source.entry = Some(source.entry.map_or(entry.index, |first| first.min(entry.index)));
        if !entry.body.declared.is_empty() {
            source.declare(&entry.body.declared, best(entry) == Grade::Authenticated);
        }
        source
    }

    /// The source's line. A new one may show what a sibling cannot.
    fn known(&mut self, source: &SourceId) -> &mut Source {
        if !self.sources.contains_key(source) {
            let siblings = SourceKind::LINES.into_iter().map(|kind| SourceId { kind, ..source.clone() });
            self.changed.extend(siblings.filter(|sibling| self.sources.contains_key(sibling)));
        }
        self.sources.entry(source.clone()).or_default()
    }

    /// Moves the newest time, unless it lies beyond what our own clock makes credible.
    pub(crate) fn passed(&mut self, entry: &Entry, at: Time) {
        if at <= entry.body.observed_at.plus_seconds(3600) {
            self.now = self.now.max(at);
        }
        let source = self.source(entry);
        source.oldest = Some(source.oldest.map_or(at, |old| old.min(at)));
        source.newest = Some(source.newest.map_or(at, |old| old.max(at)));
    }

    /// The key of the entry's fact at that time.
    pub(crate) fn key(entry: &Entry, at: Time) -> Key {
        (at, entry.body.place.clone(), if entry.body.place.is_none() { entry.index } else { 0 })
    }

    pub(crate) fn credential(&mut self, entry: &Entry, step: &Credential, config: &Config) {
        let at = step.occurred.at;
        let known = self.source(entry);
        known.signs |= step.event == CredentialEvent::Signed;
        known.server |= matches!(
            step.event,
            CredentialEvent::AttestationRefused
                | CredentialEvent::EntryChanged
                | CredentialEvent::AuthorityChanged
                | CredentialEvent::ServerStarted
        );
        let timeline = self.steps.entry(entry.body.source.clone()).or_default();
        timeline.0.insert(Self::key(entry, at), Noted::new(entry, step.clone()));
        self.index.step(&entry.body.source, step, entry.index, best(entry));
        let mut lost = Vec::new();
        while timeline.0.len() > config.max_steps {
            lost.extend(timeline.0.pop_first().map(|((at, ..), _)| at));
        }
        for at in lost {
            self.lose(Some(at));
        }
    }

    pub(crate) fn action(&mut self, entry: &Entry, action: &Action, config: &Config) {
        let key = Self::key(entry, action.occurred.at);
        if let Some(object) = created(action) {
            self.created.entry(object).or_default().insert(key.clone());
        }
        if let Some(object) = object(action) {
            self.on.entry(object).or_default().insert(key.clone());
        }
        self.actions.0.insert(key, Noted::new(entry, action.clone()));
        while self.actions.0.len() > config.max_facts {
            let Some((key, noted)) = self.actions.0.pop_first() else { break };
            self.lose(Some(key.0));
            unlist(&mut self.created, created(&noted.fact), &key);
            unlist(&mut self.on, object(&noted.fact), &key);
        }
    }

    pub(crate) fn workload(&mut self, entry: &Entry, workload: &Workload, config: &Config) {
        let looks = self.workloads.entry(workload.uid.clone()).or_default();
        let at = workload.occurred.at;
        // A list is taken again and again: of looks that say the same, one after the other, the first is kept.
        let same =
            |noted: &Noted<Workload>| Workload { occurred: workload.occurred, ..noted.fact.clone() } == *workload;
        if looks.0.range(..=at).next_back().is_some_and(|(_, noted)| same(noted)) {
            return;
        }
        let next = looks.0.range(at..).next().filter(|(_, noted)| same(noted)).map(|(at, _)| *at);
        if let Some(next) = next {
            looks.0.remove(&next);
        }
        looks.0.insert(at, Noted::new(entry, workload.clone()));
        self.index.pod(workload);
        let newest = |looks: &Looks| looks.0.keys().next_back().copied();
        for (_, looks) in crowd_out(&mut self.workloads, config.max_facts, newest) {
            self.lose(newest(&looks));
        }
    }

    pub(crate) fn import(&mut self, entry: &Entry, import: &Import) {
        let source = self.source(entry);
        for (level, n) in &import.levels {
            *source.levels.entry(level.clone()).or_default() += n;
        }
        source.understood += import.understood;
        source.opaque += import.opaque;
        for at in [import.oldest, import.newest].into_iter().flatten() {
            self.passed(entry, at);
        }
    }

    /// Lines of a source, or of all, are lost. Without a beginning it is the last line that was read of the source.
    pub(crate) fn gap(&mut self, entry: &Entry, gap: &Gap, config: &Config) {
        let to = gap.to.unwrap_or(entry.body.observed_at);
        let newest = gap.source.as_ref().and_then(|source| self.sources.get(source)).and_then(|known| known.newest);
        let from = gap.from.or(newest).unwrap_or(Time(i64::MIN)).min(to);
        if self.gaps.len() >= config.max_sources && !self.gaps.contains_key(&gap.source) {
            self.evicted += 1;
            return;
        }
        let gaps = self.gaps.entry(gap.source.clone()).or_default();
        gaps.insert((from, to));
        while gaps.len() > config.max_names {
            // The two oldest become one that holds both: no evidence is made of what is lost.
            let (Some(first), Some(second)) = (gaps.pop_first(), gaps.pop_first()) else { break };
            gaps.insert((first.0, first.1.max(second.1)));
            self.evicted += 1;
        }
    }

    /// Lines of the source between two moments may be lost.
    pub(crate) fn lost(&self, source: &SourceId, from: Time, to: Time) -> bool {
        let gaps = [self.gaps.get(&Some(source.clone())), self.gaps.get(&None)];
        gaps.into_iter().flatten().flatten().any(|(begin, end)| *begin <= to && from <= *end)
    }

    /// Takes a watermark. True when it is the source's first.
    pub(crate) fn watermark(&mut self, mark: &Watermark, config: &Config) -> bool {
        if !self.admits(&mark.source, config) {
            return false;
        }
        let source = self.known(&mark.source);
        let first = source.complete_to.is_none() && mark.complete_to.is_some();
        source.complete_to = source.complete_to.max(mark.complete_to);
        source.newest = source.newest.max(mark.newest);
        first
    }

    /// Forgets what lies beyond the reach.
    pub(crate) fn age(&mut self, config: &Config) {
        let end = (self.now.plus_seconds(-config.reach_seconds), None, 0);
        for timeline in self.steps.values_mut() {
            timeline.0 = timeline.0.split_off(&end);
        }
        self.actions.0 = self.actions.0.split_off(&end);
        let live = |keys: &mut BTreeSet<Key>| {
            *keys = keys.split_off(&end);
            !keys.is_empty()
        };
        self.created.retain(|_, keys| live(keys));
        self.on.retain(|_, keys| live(keys));
        self.calls.retain(|_, calls| calls.last >= end.0);
        for certificates in self.shown.values_mut() {
            certificates.0.retain(|_, shown| shown.last >= end.0);
        }
        self.shown.retain(|_, certificates| !certificates.0.is_empty());
        let mut index = Index::default();
        for (source, timeline) in &self.steps {
            timeline.0.values().for_each(|noted| index.step(source, &noted.fact, noted.entry, noted.best));
        }
        for ((_, direction, peer), calls) in &self.calls {
            index.call(*direction, peer, &calls.names);
        }
        for noted in self.workloads.values().flat_map(|looks| looks.0.values()) {
            index.pod(&noted.fact);
        }
        self.index = index;
    }

    pub(crate) fn lose(&mut self, lost: Option<Time>) {
        if let Some(at) = lost {
            self.evicted += 1;
            self.forgotten = self.forgotten.max(Some(at));
        }
    }
}

/// The object that a request was about.
fn object(action: &Action) -> Option<Object> {
    Some((action.resource.clone(), action.namespace.clone()?, action.name.clone()?))
}

/// The run that a request created.
fn created(action: &Action) -> Option<(String, String)> {
    let is = action.verb == "create" && action.resource.ends_with("runs") && action.subresource.is_none();
    let named = || Some(format!("{}/{}", action.namespace.as_deref()?, action.name.as_deref()?));
    let object = action.uid.clone().or_else(named).filter(|_| is)?;
    Some((action.resource.clone(), object))
}

/// Takes a key that is gone out of an index.
fn unlist<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Key>>, at: Option<K>, key: &Key) {
    let Some(at) = at else { return };
    if let Some(keys) = index.get_mut(&at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(&at);
        }
    }
}

/// The kind of a fact that the fold keeps by line.
pub(crate) fn occurred(fact: &Fact) -> Option<Time> {
    match fact {
        Fact::Handshake(handshake) => Some(handshake.occurred.at),
        Fact::Credential(step) => Some(step.occurred.at),
        Fact::Action(action) => Some(action.occurred.at),
        Fact::Workload(workload) => Some(workload.occurred.at),
        Fact::Edges(edges) => edges.rows.iter().map(|row| row.first).min(),
        _ => None,
    }
}
