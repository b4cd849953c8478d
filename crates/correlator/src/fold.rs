//! One cluster's fold: facts in, records out. See the crate's page for how it works.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Entry, Fact, Record, SourceId, Time,
    credential::{Credential, CredentialEvent},
    entry::Stamp,
    handshake::Side,
    own::Watermark,
    run::Run,
};
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    book::{Book, Draft},
    episode::{Counted, FailureKey, Failures, Minutes, Span},
    handshakes::{Told, World},
    late::Late,
    limits::add,
    pairs,
    run_fold::RunFold,
    run_records,
    runs::{RunKey, Runs},
    store::{self, Key, Store},
    topology,
};

/// Old facts are forgotten this often, in seconds of `occurred`: it walks over everything.
const AGE_SECONDS: i64 = 600;

/// What the entries of one cluster have told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fold {
    config: Config,
    pub(crate) store: Store,
    pub(crate) failures: Failures,
    pub(crate) runs: Runs,
    book: Book,
    late: Late,
    /// Ledger milliseconds and append of the last entry.
    tick: u64,
    append: u64,
    /// Ledger milliseconds of the last look at open records.
    looked: u64,
    /// How many records the book had dropped then.
    dropped: u64,
    /// Time that was newest when old facts were last forgotten.
    aged: Time,
    /// Oldest fact since the last look: episodes from there on are looked at again.
    stale: Option<Time>,
    /// Keys with an episode that is not settled.
    pending: BTreeSet<FailureKey>,
    /// Keys whose episodes settled without a source that never had a watermark; its first one brings them back.
    waiting: BTreeSet<FailureKey>,
    /// Rotations that are not settled, with the ledger milliseconds of their coming.
    #[serde(with = "pairs")]
    rotations: BTreeMap<(SourceId, Key), u64>,
    /// Agents with steps since the last look, agents with a stall that is not settled, ids of stalls per agent.
    agents: BTreeSet<SourceId>,
    stalled: BTreeSet<SourceId>,
    #[serde(with = "pairs")]
    stalls: BTreeMap<SourceId, BTreeSet<String>>,
    /// What imports of the present append say is complete; it holds when the append is over.
    marks: Vec<(SourceId, Time)>,
    /// A heartbeat is among the parts of the present append.
    beaten: bool,
}

/// What is left to do for a key's episodes, least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    /// All settled.
    Done,
    /// Some settled without a source.
    Waits,
    /// Some are provisional.
    Open,
}

impl Fold {
    /// An empty fold.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            store: Store::default(),
            failures: Failures::default(),
            runs: Runs::default(),
            book: Book::default(),
            late: Late::default(),
            tick: 0,
            append: 0,
            looked: 0,
            dropped: 0,
            aged: Time::default(),
            stale: None,
            pending: BTreeSet::new(),
            waiting: BTreeSet::new(),
            rotations: BTreeMap::new(),
            agents: BTreeSet::new(),
            stalled: BTreeSet::new(),
            stalls: BTreeMap::new(),
            marks: Vec::new(),
            beaten: false,
        }
    }

    /// Folds one entry of this cluster; appends the revisions of records that it brought about.
    pub(crate) fn apply(&mut self, entry: &Entry, out: &mut Vec<Record>) {
        let moved = self.begin(&entry.stamp);
        if let Fact::Gap(gap) = &entry.body.fact {
            self.store.gap(entry, gap, &self.config);
            self.touched_from(gap.from.or(gap.to).unwrap_or(entry.body.observed_at));
        } else if self.store.admits(&entry.body.source, &self.config) {
            self.fold(entry, out);
        }
        self.end(&entry.stamp, entry.index, moved, out);
    }

    /// Takes the marks of this cluster's sources out of a heartbeat.
    pub(crate) fn beat<'a>(
        &mut self,
        stamp: &Stamp,
        index: u64,
        marks: impl Iterator<Item = &'a Watermark>,
        out: &mut Vec<Record>,
    ) {
        let moved = self.begin(stamp);
        for mark in marks {
            let first = self.store.watermark(mark, &self.config);
            if first {
                self.pending.append(&mut self.waiting);
            }
        }
        self.beaten = true;
        self.end(stamp, index, moved, out);
    }

    /// A new append ends the one before. True when open records must be looked at for that.
    fn begin(&mut self, stamp: &Stamp) -> bool {
        let moved = stamp.append != self.append && self.complete_append();
        self.append = stamp.append;
        self.tick = self.tick.max(stamp.tick);
        moved
    }

    /// Looks at open records at the end of an append that moved a watermark, and when it is time.
    fn end(&mut self, stamp: &Stamp, through: u64, moved: bool, out: &mut Vec<Record>) {
        let over = stamp.part[0] >= stamp.part[1] && self.complete_append();
        let due = self.tick.saturating_sub(self.looked) >= self.config.refresh_ms;
        if moved || over || due {
            if moved || over {
                // A watermark may have settled what no new line touches.
                self.agents.append(&mut self.stalled);
            }
            self.look(through, out);
        }
        if self.store.now >= self.aged.plus_seconds(AGE_SECONDS) {
            self.age();
        }
    }

    /// How many facts, runs, kinds of failure and records were dropped before their time to keep within the limits.
    pub(crate) fn evicted(&self) -> u64 {
        let counts = [self.store.evicted, self.runs.evicted, self.failures.evicted, self.book.evicted()];
        counts.into_iter().fold(0, u64::saturating_add)
    }

    fn world(&self) -> World<'_> {
        World { store: &self.store, failures: &self.failures, runs: &self.runs, config: &self.config, tick: self.tick }
    }

    /// Watermarks of an append hold when all its parts are in. True when one moved, or a heartbeat was among the parts.
    fn complete_append(&mut self) -> bool {
        let mut moved = std::mem::take(&mut self.beaten);
        for (source, at) in std::mem::take(&mut self.marks) {
            let known = self.store.sources.entry(source).or_default();
            moved |= known.complete_to < Some(at);
            if known.complete_to.is_none() {
                self.pending.append(&mut self.waiting);
            }
            known.complete_to = known.complete_to.max(Some(at));
        }
        moved
    }

    /// Takes in the entry's fact.
    fn fold(&mut self, entry: &Entry, out: &mut Vec<Record>) {
        let through = entry.index;
        if let Fact::Run(run) = &entry.body.fact {
            self.run(entry, run, out);
            return;
        }
        if !self.store.first_sight(entry, &self.config) {
            return;
        }
        if let Some(at) = store::occurred(&entry.body.fact) {
            if at < self.store.now.plus_seconds(-self.config.reach_seconds) {
                self.late
                    .beyond_reach(entry, at, self.store.now)
                    .into_iter()
                    .for_each(|draft| self.write(draft, through, out));
                return;
            }
            let mark = self.store.sources.get(&entry.body.source).and_then(|known| known.complete_to);
            if let Some(mark) = mark.filter(|mark| at.plus_seconds(1) < *mark) {
                self.late.behind_mark(entry, at, mark).into_iter().for_each(|draft| self.write(draft, through, out));
            }
            self.store.passed(entry, at);
            // A pod list tells of pods from their birth on.
            let from = match &entry.body.fact {
                Fact::Workload(workload) => workload.created.map_or(at, |created| created.min(at)),
                _ => at,
            };
            self.touched_from(from);
        }
        match &entry.body.fact {
            Fact::Handshake(line) => {
                let limit = self.config.max_names;
                let known = self.store.source(entry);
                let (sockets, names): (Vec<String>, Vec<String>) =
                    line.server.iter().cloned().partition(|server| topology::is_socket(server));
                let mut lost = add(&mut known.listens, sockets, limit);
                if line.side == Side::Server {
                    lost += add(&mut known.serves, names, limit);
                }
                self.store.evicted += lost;
                let counted = self.failures.line(entry, line, &self.config);
                self.failed(counted, through, out);
            }
            Fact::Edges(edges) => {
                self.store.edges(entry, edges, &self.config);
                for row in &edges.rows {
                    for counted in self.failures.row(entry, row, &self.config) {
                        self.failed(counted, through, out);
                    }
                }
            }
            Fact::Credential(step) => self.credential(entry, step, through, out),
            Fact::Action(action) => {
                let dropped = self.store.evicted;
                self.store.action(entry, action, &self.config);
                if self.store.evicted != dropped {
                    self.runs.stir(); // what is gone may have told who made a run
                }
                if action.resource.ends_with("runs") && matches!(action.verb.as_str(), "create" | "delete") {
                    let namespace = action.namespace.as_deref().unwrap_or_default();
                    let cluster = &entry.body.source.cluster;
                    self.runs.touch(cluster, action.uid.as_deref(), namespace, action.name.as_deref());
                }
            }
            Fact::Workload(workload) => self.store.workload(entry, workload, &self.config),
            Fact::Import(import) => {
                self.store.import(entry, import);
                self.marks.extend(import.complete_to.map(|at| (entry.body.source.clone(), at)));
            }
            _ => {
                self.store.source(entry);
            }
        }
    }

    fn run(&mut self, entry: &Entry, run: &Run, out: &mut Vec<Record>) {
        self.store.source(entry);
        for at in [run.created, run.started, run.completed, run.event.time].into_iter().flatten() {
            self.store.passed(entry, at);
        }
        let (key, new) = self.runs.see(entry, run, &self.config);
        let Some(fold) = self.runs.get(&key).filter(|_| new) else { return };
        // Links of failures from its start on may lead to it.
        let (from, alone) = (fold.span().0, fold.children.is_empty());
        self.touched_from(from);
        if run.state.is_terminal() {
            self.write_run(&key, entry.index, out);
            // Without children there is no more to say of it than that.
            if alone && !self.settled(&key) {
                self.runs.wait(key);
            }
        }
    }

    /// Episodes that go on at that moment or later are looked at again.
    fn touched_from(&mut self, at: Time) {
        self.stale = Some(self.stale.map_or(at, |stale| stale.min(at)));
    }

    fn credential(&mut self, entry: &Entry, step: &Credential, through: u64, out: &mut Vec<Record>) {
        self.store.source(entry);
        self.store.credential(entry, step, &self.config);
        let source = entry.body.source.clone();
        if step.trouble.is_some() || step.event == CredentialEvent::AgentRenewed {
            self.agents.insert(source.clone());
        }
        let key = Store::key(entry, step.occurred.at);
        if let Some(draft) = self.world().rotated(&source, &key, self.tick) {
            if draft.settled.is_none() {
                self.rotations.insert((source, key), self.tick);
            }
            self.write(draft, through, out);
        }
    }

    /// A failure came in: its record is written at once when it is the first of its episode.
    fn failed(&mut self, counted: Counted, through: u64, out: &mut Vec<Record>) {
        if counted.begins {
            let spans = self.failures.spans(&counted.key, &self.config);
            let mine = spans.into_iter().find(|span| span.start <= counted.minute && counted.minute <= span.last);
            mine.map(|span| self.write_episode(&counted.key, span, through, out));
        }
        self.pending.insert(counted.key);
    }

    /// Looks again at everything that is open or touched.
    fn look(&mut self, through: u64, out: &mut Vec<Record>) {
        self.looked = self.tick;
        let stale = self.stale.take();
        let mut keys = std::mem::take(&mut self.pending);
        let since = stale.map(|stale| stale.plus_seconds(-self.config.recovery_seconds));
        if let Some(since) = since {
            let touched = |minutes: &Minutes| minutes.0.values().next_back().is_some_and(|minute| minute.last >= since);
            let keys_touched = self.failures.keys.iter().filter(|(_, minutes)| touched(minutes));
            keys.extend(keys_touched.map(|(key, _)| key.clone()));
        }
        for key in keys {
            match self.write_failures(&key, since, through, out) {
                Rest::Open => self.pending.insert(key),
                Rest::Waits => self.waiting.insert(key),
                Rest::Done => false,
            };
        }
        self.look_at_runs(through, out);
        self.look_at_credentials(through, out);
        for source in std::mem::take(&mut self.store.changed) {
            for (draft, is) in self.world().blind(&source) {
                self.blind(draft, is, through, out);
            }
        }
    }

    /// Writes the records of runs with news, and of those that have waited long enough, in the order of their keys.
    fn look_at_runs(&mut self, through: u64, out: &mut Vec<Record>) {
        let dropped = std::mem::replace(&mut self.dropped, self.book.evicted());
        let (news, mut open) = self.runs.take_open();
        open.extend(news.iter().cloned());
        for key in open {
            if !news.contains(&key) && !self.due(&key, dropped) {
                self.runs.wait(key);
                continue;
            }
            self.write_run(&key, through, out);
            for draft in self.world().incomplete(&key) {
                self.write(draft, through, out);
            }
            for (draft, stands) in self.world().heard_of(&key, &self.book) {
                self.book.withdraw(draft, stands, through, out);
            }
            // One that has not ended changes by news only.
            if self.runs.get(&key).is_some_and(RunFold::ended) && !self.settled(&key) {
                self.runs.wait(key);
            }
        }
    }

    /// A run that waits can be settled now, or its record was dropped since the book had dropped so many.
    fn due(&self, key: &RunKey, dropped: u64) -> bool {
        let passed = |fold: &RunFold| self.world().run_passed(fold, fold.span().1).is_some();
        let forgotten = || self.book.evicted() != dropped && !self.book.holds(&run_records::completed_id(key));
        self.runs.get(key).is_some_and(passed) || forgotten()
    }

    fn settled(&self, key: &RunKey) -> bool {
        self.book.is_settled(&run_records::completed_id(key))
    }

    fn look_at_credentials(&mut self, through: u64, out: &mut Vec<Record>) {
        for ((source, key), since) in std::mem::take(&mut self.rotations) {
            if let Some(draft) = self.world().rotated(&source, &key, since) {
                if draft.settled.is_none() {
                    self.rotations.insert((source, key), since);
                }
                self.write(draft, through, out);
            }
        }
        for source in std::mem::take(&mut self.agents) {
            let drafts = self.world().stalls(&source);
            let open = drafts.iter().any(|draft| draft.settled.is_none());
            let ids: BTreeSet<String> = drafts.iter().map(|draft| draft.id.clone()).collect();
            let gone: Vec<String> =
                self.stalls.get(&source).into_iter().flatten().filter(|id| !ids.contains(*id)).cloned().collect();
            if let Some(first) = drafts.first() {
                for id in gone {
                    let by = first.id.clone();
                    self.book.withdraw(Draft { id, ..first.clone() }, by, through, out);
                }
            }
            for draft in drafts {
                self.write(draft, through, out);
            }
            self.stalls.insert(source.clone(), ids);
            if open {
                self.stalled.insert(source);
            }
        }
    }

    /// Writes the episodes of a key. Those that are settled and ended before `since` are left alone.
    fn write_failures(&mut self, key: &FailureKey, since: Option<Time>, through: u64, out: &mut Vec<Record>) -> Rest {
        let mut rest = Rest::Done;
        for span in self.failures.spans(key, &self.config) {
            if since.is_some_and(|since| span.last >= since) || !self.book.is_settled(&key.id(span.start)) {
                rest = rest.max(self.write_episode(key, span, through, out));
            }
        }
        rest
    }

    /// Writes one episode and withdraws records of episodes that are part of it now.
    fn write_episode(&mut self, key: &FailureKey, span: Span, through: u64, out: &mut Vec<Record>) -> Rest {
        let episode = self.failures.episode(key, span);
        if self.world().explained(&episode).is_some() && !self.book.holds(&episode.id) {
            return Rest::Done; // told already, and nothing to withdraw
        }
        match self.world().tell(&episode) {
            Told::By(by, draft) => {
                self.book.withdraw(*draft, by, through, out);
                Rest::Done
            }
            Told::Own(draft) => {
                let rest = match &draft.settled {
                    None if !self.book.is_settled(&draft.id) => Rest::Open,
                    Some(without) if !without.is_empty() => Rest::Waits,
                    _ => Rest::Done,
                };
                for id in self.failures.joined(key, span) {
                    let joined = Draft { id, ..(*draft).clone() };
                    self.book.withdraw(joined, episode.id.clone(), through, out);
                }
                self.failures.told(key, span.start);
                self.write(*draft, through, out);
                rest
            }
        }
    }

    fn write_run(&mut self, key: &RunKey, through: u64, out: &mut Vec<Record>) {
        let Some(draft) = self.world().completed(key) else { return };
        let open = run_records::incomplete_id(key);
        if self.book.holds(&open) {
            let withdrawn = Draft { id: open, kind: model::record::RecordKind::RunIncomplete, ..draft.clone() };
            self.book.withdraw(withdrawn, draft.id.clone(), through, out);
        }
        self.write(draft, through, out);
    }

    /// A source that turns out to see after all withdraws its record, by itself.
    fn blind(&mut self, draft: Draft, is: bool, through: u64, out: &mut Vec<Record>) {
        if is {
            self.write(draft, through, out);
        } else {
            let by = draft.id.clone();
            self.book.withdraw(draft, by, through, out);
        }
    }

    fn write(&mut self, draft: Draft, through: u64, out: &mut Vec<Record>) {
        self.book.write(draft, through, self.config.max_records, out);
    }

    fn age(&mut self) {
        self.aged = self.store.now;
        let end = self.store.now.plus_seconds(-self.config.reach_seconds);
        self.store.age(&self.config);
        self.runs.stir();
        self.failures.age(end, &self.config);
        self.book.age(end.plus_seconds(-self.config.reach_seconds));
        self.rotations.retain(|(_, key), _| key.0 >= end);
        self.pending.retain(|key| self.failures.keys.contains_key(key));
        self.waiting.retain(|key| self.failures.keys.contains_key(key));
    }
}
