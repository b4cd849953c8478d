//! A verdict under construction: cause, standing, evidence for and against, what is missing, and who was asked.

use std::collections::BTreeSet;

use model::{
    SourceId, Time,
    identity::SourceKind,
    record::{Cause, CauseFinding, Endpoint, Evidence, Missing, Role, RuledOut, Standing},
};

use crate::{Config, episode::Episode, store::Store, topology::Known};

/// What a rule may look at.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) store: &'a Store,

    pub(crate) config: &'a Config,
    pub(crate) episode: &'a Episode,
    pub(crate) from: &'a Endpoint,
    pub(crate) to: &'a Endpoint,
}

/// What a rule found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) cause: CauseFinding,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) missing: Vec<Missing>,
    /// Sources whose silence or words the verdict rests on.
    pub(crate) asked: BTreeSet<SourceId>,
    /// Whose credential it is about.
    pub(crate) identity: Option<Known>,
    /// The agent that serves that identity.
    pub(crate) agent: Option<SourceId>,
}

impl Finding {
    pub(crate) fn new(word: Cause, standing: Standing) -> Self {
        Self {
            cause: CauseFinding { word, standing, ruled_out: Vec::new() },
            evidence: Vec::new(),
            missing: Vec::new(),
            asked: BTreeSet::new(),
            identity: None,
            agent: None,
        }
    }

    pub(crate) fn undetermined() -> Self {
        Self::new(Cause::Undetermined, Standing::Undetermined)
    }

    /// What it is, and that nothing else can be: the line itself says so.
    pub(crate) fn established(word: Cause) -> Self {
        Self::new(word, Standing::Established)
    }

    pub(crate) fn consistent(word: Cause) -> Self {
        Self::new(word, Standing::Consistent)
    }

    #[must_use]
    pub(crate) fn supports(mut self, at: Time, entry: u64, says: impl Into<String>) -> Self {
        self.add(Role::Supports, at, entry, says.into(), 1);
        self
    }

    #[must_use]
    pub(crate) fn context(mut self, at: Time, entry: u64, says: impl Into<String>) -> Self {
        self.add(Role::Context, at, entry, says.into(), 1);
        self
    }

    #[must_use]
    pub(crate) fn rules_out(mut self, cause: Cause, why: impl Into<String>, entries: Vec<u64>) -> Self {
        self.cause.ruled_out.push(RuledOut { cause, why: why.into(), entries });
        self
    }

    #[must_use]
    pub(crate) fn lacks(mut self, what: impl Into<String>, source: impl Into<String>) -> Self {
        self.missing.push(Missing { what: what.into(), source: source.into() });
        self
    }

    #[must_use]
    pub(crate) fn asking(mut self, source: &SourceId) -> Self {
        self.asked.insert(source.clone());
        self
    }

    pub(crate) fn add(&mut self, role: Role, at: Time, entry: u64, says: String, times: u64) {
        let times = (times > 1).then_some(times);
        self.evidence.push(Evidence { entry, at, role, says, times });
    }
}

impl Case<'_> {
    /// True when an error log is read at a level that shows notices (reloads), by the levels seen in it.
    pub(crate) fn shows_notices(&self, source: &SourceId) -> bool {
        let levels = self.store.sources.get(source).map(|known| &known.levels);
        let steps = self.store.steps.get(source).is_some_and(|timeline| !timeline.0.is_empty());
        steps
            || levels.is_some_and(|levels| ["notice", "info", "debug"].iter().any(|level| levels.contains_key(*level)))
    }

    /// True when nothing of the source between two moments can be missing.
    pub(crate) fn complete(&self, source: &SourceId, from: Time, to: Time) -> bool {
        let mark = self.store.sources.get(source).and_then(|known| known.complete_to);
        mark.is_some_and(|mark| mark >= to) && !self.store.lost(source, from, to)
    }

    /// The caller's address, when a line says it.
    pub(crate) fn caller(&self) -> Option<&str> {
        match self.episode.key.side {
            model::handshake::Side::Server => Some(self.episode.key.peer.as_str()).filter(|peer| !peer.is_empty()),
            model::handshake::Side::Client => self.from.address.as_deref(),
        }
    }

    /// The caller has shown a certificate that verified, here or to another server.
    pub(crate) fn caller_shown(&self) -> Option<(Time, u64)> {
        let shown = self.store.certificates(self.caller()?, self.episode.first);
        shown
            .into_iter()
            .find(|shown| shown.verify.as_deref() == Some("SUCCESS"))
            .map(|shown| (shown.first, shown.entry))
    }

    /// Every line that the called side's access log wrote up to the end of the episode is accounted for, so that what is
    /// not in it did not happen: read, understood, and folded into rows.
    pub(crate) fn access_log_is_whole(&self) -> bool {
        let mut logs = self.store.siblings(&self.episode.key.source, SourceKind::NginxAccess);
        logs.retain(|log| self.store.sources[log].understood > 0);
        let whole = |log: &SourceId| {
            let known = &self.store.sources[log];
            known.opaque == 0
                && known.requests >= known.understood
                && self.complete(log, Time(i64::MIN), self.episode.last)
        };
        logs.iter().all(whole) && logs.iter().any(|log| self.store.sources[log].tls_seen)
    }
}

/// `source kind name` for people.
pub(crate) fn named(source: &SourceId) -> String {
    source.to_string()
}
