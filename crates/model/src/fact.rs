//! Everything that can enter.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, Visitor},
};

pub use crate::{
    action::Action,
    credential::Credential,
    edges::Edges,
    handshake::Handshake,
    own::{Access, Amendment, Attestation, Change, Clock, Gap, Heartbeat, Import, LedgerNote, Metric, Opaque, Policy},
    run::{Run, Trigger},
    workload::Workload,
};

/// Declares [`Fact`] once: the enum, the names of its kinds and the reader that keeps kinds it does not know.
macro_rules! facts {
    ($($(#[$doc:meta])* $variant:ident($body:ty) = $name:literal,)*) => {
        /// Everything that can enter the ledger. Closed on purpose: a new variant is an architectural change. Written
        /// as an object with one field, the kind: `{"run":{…}}`.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        pub enum Fact {
            $($(#[$doc])* #[serde(rename = $name)] $variant($body),)*
            /// A kind that a newer version wrote: its name. Never written by this version.
            #[serde(rename = "unknown")]
            Unknown(String),
        }

        impl Fact {
            /// Every kind that this version writes, in the order of the enum.
            pub const KINDS: &'static [&'static str] = &[$($name),*];

            /// The kind's name as written.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Unknown(kind) => kind,
                }
            }
        }

        impl<'de> Deserialize<'de> for Fact {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct OneField;

                impl<'de> Visitor<'de> for OneField {
                    type Value = Fact;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object with one field, the kind of the fact")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fact, A::Error> {
                        let kind: String = map.next_key()?.ok_or_else(|| serde::de::Error::custom("a fact has a kind"))?;
                        let fact = match kind.as_str() {
                            $($name => Fact::$variant(map.next_value()?),)*
                            _ => {
                                map.next_value::<IgnoredAny>()?;
                                Fact::Unknown(kind)
                            }
                        };
                        match map.next_key::<IgnoredAny>()? {
                            None => Ok(fact),
                            Some(_) => Err(serde::de::Error::custom("a fact has one kind, this one has several")),
                        }
                    }
                }

                deserializer.deserialize_map(OneField)
            }
        }
    };
}

facts! {
    /// An EventListener handled a request.
    Trigger(Trigger) = "trigger",
    /// A PipelineRun, TaskRun or CustomRun changed condition.
    Run(Box<Run>) = "run",
    /// CDEvents: artifact, service, approval, incident.
    Change(Change) = "change",
    /// One mTLS handshake that failed, or a notable success.
    Handshake(Handshake) = "handshake",
    /// Requests per edge in one minute, folded from the access lines of one append.
    Edges(Edges) = "edges",
    /// Counters of one NGINX instance during one window.
    Metric(Metric) = "metric",
    /// An SVID, certificate or token was issued, renewed, not renewed, loaded, seen in use.
    Credential(Credential) = "credential",
    /// A pod or its owner over an interval: node, address, service account, image digests.
    Workload(Workload) = "workload",
    /// Kubernetes or SPIRE audit: who did what to which object.
    Action(Action) = "action",
    /// Chains, in-toto.
    Attestation(Attestation) = "attestation",
    /// What is allowed: which edge, which identity.
    Policy(Policy) = "policy",
    /// How far every source has been read; the ground of every statement about absence.
    Heartbeat(Heartbeat) = "heartbeat",
    /// Our wall clock stepped.
    Clock(Clock) = "clock",
    /// Something could not be kept; what and why.
    Gap(Gap) = "gap",
    /// Somebody read or exported.
    Access(Access) = "access",
    /// The account of one append of lines.
    Import(Import) = "import",
    /// The ledger about itself: created, cut, damaged, rolled back, upgraded, key changed.
    Ledger(LedgerNote) = "ledger",
    /// A better parser read an old payload again.
    Amendment(Amendment) = "amendment",
    /// Received, kept, not understood, and why.
    Opaque(Opaque) = "opaque",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_from_the_future_is_kept_by_name() {
        let fact: Fact = serde_json::from_str(r#"{"telepathy":{"strength":9}}"#).unwrap();
        assert_eq!(fact, Fact::Unknown("telepathy".into()));
        assert!(serde_json::from_str::<Fact>("{}").is_err());
    }
}
