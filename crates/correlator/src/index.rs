//! Other keys to what the store holds. Derived from it, and kept in step.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use model::{
    Grade, SourceId, Time,
    credential::{Credential, CredentialEvent},
    edges::Direction,
    identity::SourceKind,
    workload::Workload,
};
use serde::{Deserialize, Serialize};

use crate::topology::{account, host};

/// An agent issued a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Issue {
    pub(crate) at: Time,
    pub(crate) agent: SourceId,
    pub(crate) entry: u64,
    /// End of the certificate that it replaced.
    pub(crate) replaced: Option<Time>,
}

/// A server signed a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// The best grade that may rest on the line; kept reversed, so that the least signature is the one to believe.
    pub(crate) best: Reverse<Grade>,
    /// For whom.
    pub(crate) id: String,
    pub(crate) entry: u64,
    pub(crate) at: Time,
}

/// True for the line of an agent that replaces or first makes a certificate.
pub(crate) const fn is_issue(step: &Credential) -> bool {
    matches!(step.event, CredentialEvent::Renewing | CredentialEvent::Creating)
}

/// Ways into the store by other keys, so that a verdict does not walk over everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Workload identities that steps name.
    pub(crate) identities: BTreeSet<String>,
    /// Workload identities by the name of their service account.
    pub(crate) accounts: BTreeMap<String, BTreeSet<String>>,
    /// Issues per identity, in order.
    pub(crate) issues: BTreeMap<String, BTreeSet<Issue>>,
    /// Shortest distance from signature to end per identity, in nanoseconds.
    pub(crate) lives: BTreeMap<String, i64>,
    /// Signatures by serial.
    pub(crate) signed: BTreeMap<String, Signature>,
    /// Names that callers give the upstreams at an address.
    pub(crate) names: BTreeMap<String, BTreeSet<String>>,
    /// uids of pods by address.
    pub(crate) by_address: BTreeMap<String, BTreeSet<String>>,
    /// uids of pods by name.
    pub(crate) by_name: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    pub(crate) fn step(&mut self, source: &SourceId, step: &Credential, entry: u64, best: Grade) {
        let Some(id) = step.spiffe_id.as_ref().filter(|id| !id.contains("/spire/")) else { return };
        if !self.identities.contains(id) {
            self.identities.insert(id.clone());
            if let Some((_, name)) = account(id) {
                self.accounts.entry(name.to_owned()).or_default().insert(id.clone());
            }
        }
        let at = step.occurred.at;
        if source.kind == SourceKind::Spire && is_issue(step) {
            let issue = Issue { at, agent: source.clone(), entry, replaced: step.replaces_not_after };
            self.issues.entry(id.clone()).or_default().insert(issue);
        }
        if let Some(end) = step.not_after.filter(|end| step.event == CredentialEvent::Signed && *end > at) {
            let life = self.lives.entry(id.clone()).or_insert(end - at);
            *life = (*life).min(end - at);
        }
        if let Some(serial) = step.serial.as_ref().filter(|_| step.event == CredentialEvent::Signed) {
            let signature = Signature { best: Reverse(best), id: id.clone(), entry, at };
            let known = self.signed.entry(serial.as_str().to_owned()).or_insert_with(|| signature.clone());
            if signature < *known {
                *known = signature;
            }
        }
    }

    pub(crate) fn call(&mut self, direction: Direction, peer: &str, names: &BTreeSet<String>) {
        if direction == Direction::Out && !names.is_empty() {
            self.names.entry(host(peer).to_owned()).or_default().extend(names.iter().cloned());
        }
    }

    pub(crate) fn pod(&mut self, workload: &Workload) {
        if workload.kind != "Pod" {
            return;
        }
        for address in &workload.addresses {
            self.by_address.entry(address.clone()).or_default().insert(workload.uid.clone());
        }
        self.by_name.entry(workload.name.clone()).or_default().insert(workload.uid.clone());
    }
}
