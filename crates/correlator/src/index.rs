//! Other keys to what the store holds. Derived from it, and kept in step.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    credential::{Credential, CredentialEvent},
    edges::Direction,
    workload::Workload,
};
use serde::{Deserialize, Serialize};

use crate::topology::host;

/// Ways into the store by other keys, so that a verdict does not walk over everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Workload identities that steps name.
    pub(crate) identities: BTreeSet<String>,
    /// Whom a serial was signed for, and the entry.
    pub(crate) signed: BTreeMap<String, (String, u64)>,
    /// Names that callers give the upstreams at an address.
    pub(crate) names: BTreeMap<String, BTreeSet<String>>,
    /// uids of pods by address.
    pub(crate) by_address: BTreeMap<String, BTreeSet<String>>,
    /// uids of pods by name.
    pub(crate) by_name: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    pub(crate) fn step(&mut self, step: &Credential, entry: u64) {
        let Some(id) = step.spiffe_id.as_ref().filter(|id| !id.contains("/spire/")) else { return };
        if !self.identities.contains(id) {
            self.identities.insert(id.clone());
        }
        if let Some(serial) = step.serial.as_ref().filter(|_| step.event == CredentialEvent::Signed) {
            let known = self.signed.entry(serial.as_str().to_owned()).or_insert_with(|| (id.clone(), entry));
            if (id, entry) < (&known.0, known.1) {
                *known = (id.clone(), entry);
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
