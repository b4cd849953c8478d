//! Questions that rules ask of the store.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    SourceId, Time, action::Action, credential::Credential, edges::Direction, identity::SourceKind, time::SECOND,
};

use crate::{
    index::{Issue, Signature},
    store::{Looks, Noted, Object, Store},
    topology::host,
    traffic::Calls,
};

/// From the issue of a certificate to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// The shortest that the lines prove, in nanoseconds.
    pub(crate) nanos: i64,
    /// The identity's own lines prove it. Another's is a guess, and carries no more than `consistent`.
    pub(crate) own: bool,
}

impl Store {
    /// Requests that created that object of Tekton.
    pub(crate) fn creations(&self, resource: &str, object: &str) -> impl Iterator<Item = &Noted<Action>> {
        let keys = self.created.get(&(resource.to_owned(), object.to_owned()));
        keys.into_iter().flatten().filter_map(|key| self.actions.0.get(key))
    }

    /// Requests about that object between two times, both included.
    pub(crate) fn actions_on(&self, object: &Object, from: Time, to: Time) -> Vec<&Noted<Action>> {
        let Some(keys) = self.on.get(object) else { return Vec::new() };
        let keys = keys.range((from, None, 0)..).take_while(|key| key.0 <= to);
        keys.filter_map(|key| self.actions.0.get(key)).collect()
    }

    /// Steps of one source between two times.
    pub(crate) fn steps_of(&self, source: &SourceId, from: Time, to: Time) -> Vec<(Time, u64, &Credential)> {
        let Some(timeline) = self.steps.get(source) else { return Vec::new() };
        timeline.between(from, to).map(|(at, noted)| (at, noted.entry, &noted.fact)).collect()
    }

    /// Sources of a kind that have credential steps.
    pub(crate) fn stepping(&self, kind: SourceKind) -> impl Iterator<Item = &SourceId> {
        self.steps.keys().filter(move |source| source.kind == kind)
    }

    /// The signature of that serial.
    pub(crate) fn signed(&self, serial: &str) -> Option<&Signature> {
        self.index.signed.get(serial)
    }

    /// Issues for an identity by any agent, in order.
    pub(crate) fn issues(&self, id: &str) -> Vec<&Issue> {
        self.index.issues.get(id).into_iter().flatten().collect()
    }

    /// How long certificates of an identity live: by its own lines, else as those of all other identities when they
    /// agree.
    pub(crate) fn lifetime(&self, id: &str) -> Option<Life> {
        if let Some(nanos) = self.lifetime_of(id) {
            return Some(Life { nanos, own: true });
        }
        let mut known = self.index.issues.keys().filter_map(|id| self.lifetime_of(id));
        let first = known.next()?;
        let (least, most) = known.fold((first, first), |(least, most), life| (least.min(life), most.max(life)));
        (most - least <= 2 * SECOND).then_some(Life { nanos: least, own: false })
    }

    /// From signatures, and from what renewals say of the end of the one before.
    fn lifetime_of(&self, id: &str) -> Option<i64> {
        let mut shortest = self.index.lives.get(id).copied();
        let mut before: BTreeMap<&SourceId, Time> = BTreeMap::new();
        for issue in self.index.issues.get(id).into_iter().flatten() {
            if let (Some(issued), Some(end)) = (before.get(&issue.agent), issue.replaced)
                && end > *issued
            {
                let life = end - *issued;
                shortest = Some(shortest.map_or(life, |known| known.min(life)));
            }
            before.insert(&issue.agent, issue.at);
        }
        shortest
    }

    /// The last step of a source up to a time that is of that sort.
    pub(crate) fn last_step(
        &self,
        source: &SourceId,
        to: Time,
        is: impl Fn(&Credential) -> bool,
    ) -> Option<(Time, u64, &Credential)> {
        let mut steps = self.steps.get(source)?.between(Time(i64::MIN), to).rev();
        steps.find(|(_, noted)| is(&noted.fact)).map(|(at, noted)| (at, noted.entry, &noted.fact))
    }

    /// Workload identities of a service account of that name, in any namespace.
    pub(crate) fn accounts(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.index.accounts.get(name)
    }

    /// Every workload identity that SPIRE's or a helper's lines name.
    pub(crate) fn identities(&self) -> &BTreeSet<String> {
        &self.index.identities
    }

    /// Names that callers' configurations give the upstreams at an address, whatever the port.
    pub(crate) fn names_for(&self, address: &str) -> BTreeSet<String> {
        self.index.names.get(host(address)).cloned().unwrap_or_default()
    }

    /// Calls that a log tells of in one direction, by peer.
    pub(crate) fn calls_of(&self, log: &SourceId, direction: Direction) -> impl Iterator<Item = (&str, &Calls)> {
        let least = (log.clone(), direction, String::new());
        let log = log.clone();
        let calls = self.calls.range(least..);
        let calls = calls.take_while(move |((source, towards, _), _)| *source == log && *towards == direction);
        calls.map(|((.., peer), calls)| (peer.as_str(), calls))
    }

    /// Looks at pods that had that address at some time.
    pub(crate) fn pods_by_address(&self, address: &str) -> impl Iterator<Item = &Looks> {
        self.index.by_address.get(address).into_iter().flatten().filter_map(|uid| self.workloads.get(uid))
    }

    /// Looks at pods of that name.
    pub(crate) fn pods_by_name(&self, name: &str) -> impl Iterator<Item = &Looks> {
        self.index.by_name.get(name).into_iter().flatten().filter_map(|uid| self.workloads.get(uid))
    }
}
