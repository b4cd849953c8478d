//! Who and what: grades, sources, submitters, persons, workload identities.

use std::fmt::{self, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How well an identity, actor, link or time zone is known. Never raised without new evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing says so.
    #[default]
    Unknown,
    /// We concluded it from circumstances.
    Inferred,
    /// Somebody who could be wrong or lie says so.
    Asserted,
    /// Proved by a credential that was checked (a bound token, a certificate serial signed by SPIRE).
    Authenticated,
}

impl Grade {
    /// The field's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inferred => "inferred",
            Self::Asserted => "asserted",
            Self::Authenticated => "authenticated",
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of thing a source is; also the word for its format in `/logs/{format}` and `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Tekton and any other sender of CloudEvents; as a line format: recorded deliveries.
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// `error_log` of NGINX.
    NginxError,
    /// `access_log` of NGINX.
    NginxAccess,
    /// SPIRE server or agent log.
    Spire,
    /// spiffe-helper log.
    SpiffeHelper,
    /// `kubectl get pods,replicasets -A -o json`.
    K8sObjects,
    /// Kubernetes API server audit log (`audit.k8s.io/v1`).
    K8sAudit,
    /// Counterfoil itself.
    Counterfoil,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl SourceKind {
    /// Every kind whose lines can be posted, followed and imported.
    pub const LINES: [Self; 7] = [
        Self::CloudEvents,
        Self::NginxError,
        Self::NginxAccess,
        Self::Spire,
        Self::SpiffeHelper,
        Self::K8sObjects,
        Self::K8sAudit,
    ];

    /// The word used in addresses, options and leaves.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::NginxError => "nginx-error",
            Self::NginxAccess => "nginx-access",
            Self::Spire => "spire",
            Self::SpiffeHelper => "spiffe-helper",
            Self::K8sObjects => "k8s-objects",
            Self::K8sAudit => "k8s-audit",
            Self::Counterfoil => "counterfoil",
            Self::Unknown => "unknown",
        }
    }

    /// The line format of this name, if there is one.
    pub fn from_format(name: &str) -> Option<Self> {
        Self::LINES.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Names one source: the key of positions, watermarks and repeats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SourceId {
    /// The cluster that it belongs to; `default` when nothing was said.
    pub cluster: String,
    /// What it is.
    pub kind: SourceKind,
    /// The name that its owner gave it, unique per cluster and kind; for CloudEvents `tekton` or the sender's host.
    pub name: String,
    /// Which one of several of that name (a pod, a file); empty when there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

impl fmt::Display for SourceId {
    /// `kind name[/instance]`, with `cluster:` before it unless the cluster is `default`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cluster != DEFAULT_CLUSTER {
            write!(f, "{}:", self.cluster)?;
        }
        write!(f, "{} {}", self.kind, self.name)?;
        if !self.instance.is_empty() {
            write!(f, "/{}", self.instance)?;
        }
        Ok(())
    }
}

/// The cluster of everything that names none.
pub const DEFAULT_CLUSTER: &str = "default";

/// What the owner of a source declares about it (grade: asserted). The fold reads it from the leaf, never from a
/// configuration, so that an old entry means tomorrow what it meant today.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Declared {
    /// Kubernetes namespace of the workload that writes the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The workload (Deployment, DaemonSet, …) that writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// IANA time zone of its local times; absent means UTC was assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Declared {
    /// True when nothing was declared.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Who handed us the bytes, and how sure we are of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Submitter {
    /// Nobody proved anything: a network peer (address without port).
    Anonymous {
        /// The peer's address.
        peer: String,
    },
    /// Knew the path token of that name.
    PathToken {
        /// The token's name in the configuration, not its value.
        name: String,
    },
    /// HTTP Basic with a configured password.
    Basic {
        /// The user name.
        user: String,
    },
    /// This process read a file of its own machine (followed source, `import`, `explain`).
    Local,
    /// The ledger's own process, about itself.
    Counterfoil,
}

impl Submitter {
    /// The grade that remains of a claim of this grade when this submitter handed it in: nobody vouches for what an
    /// anonymous one sends, so the best of it is `asserted`. The others are known to the owner of this installation.
    #[must_use]
    pub fn cap(&self, grade: Grade) -> Grade {
        match self {
            Self::Anonymous { .. } => grade.min(Grade::Asserted),
            Self::PathToken { .. } | Self::Basic { .. } | Self::Local | Self::Counterfoil => grade,
        }
    }
}

/// A person in a leaf: a keyed reference (`p-` and 32 hex digits of an HMAC-SHA-256 with the installation's key). The
/// value stands in the payload and in the erasable table `people/` only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PersonRef(pub String);

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A human's account, by reference.
    Person {
        /// Keyed reference.
        person: PersonRef,
    },
    /// A Kubernetes service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A node (`system:node:…`).
    Node {
        /// The node's name.
        name: String,
    },
    /// A component of the control plane (`system:…`).
    System {
        /// As Kubernetes names it.
        name: String,
    },
}

/// A certificate serial number: upper-case hex, no leading zeros, at most 40 digits (20 bytes, RFC 5280 4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Serial(String);

impl Serial {
    /// From hex in any case, with or without `0x`, colons or leading zeros. `None` if it is not a serial.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.strip_prefix("0x").unwrap_or(text);
        let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_uppercase();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        (digits.len() <= 40).then(|| Self(if digits.is_empty() { "0".into() } else { digits.into() }))
    }

    /// From decimal, as SPIRE logs it. `None` if it is not a serial of at most 20 bytes.
    pub fn from_decimal(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 49 {
            return None;
        }
        // Long multiplication into 20 big-endian bytes: the numbers have up to 160 bits.
        let mut bytes = [0u8; 20];
        for digit in text.bytes() {
            let mut carry = u16::from(digit.checked_sub(b'0').filter(|d| *d <= 9)?);
            for byte in bytes.iter_mut().rev() {
                let value = u16::from(*byte) * 10 + carry;
                *byte = value.to_le_bytes()[0];
                carry = value >> 8;
            }
            if carry != 0 {
                return None;
            }
        }
        let mut hex = String::with_capacity(40);
        for byte in bytes {
            let _ = write!(hex, "{byte:02X}"); // writing to a String cannot fail
        }
        Self::from_hex(&hex)
    }

    /// The canonical hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_the_same_in_hex_and_decimal() {
        let hex = Serial::from_hex("0E1F4292977A598AE90BFF8ACCB5AAB3").unwrap();
        assert_eq!(hex.as_str(), "E1F4292977A598AE90BFF8ACCB5AAB3");
        let decimal = Serial::from_decimal("18771503396829118256055557720416561843").unwrap();
        assert_eq!(decimal, hex);
        assert_eq!(Serial::from_hex("0e:1f:42:92:97:7a:59:8a:e9:0b:ff:8a:cc:b5:aa:b3").unwrap(), hex);
    }

    #[test]
    fn an_anonymous_submitter_proves_nothing() {
        let anonymous = Submitter::Anonymous { peer: "192.0.2.7".into() };
        assert_eq!(anonymous.cap(Grade::Authenticated), Grade::Asserted);
        assert_eq!(anonymous.cap(Grade::Inferred), Grade::Inferred);
        let named = Submitter::PathToken { name: "prod".into() };
        assert_eq!(named.cap(Grade::Authenticated), Grade::Authenticated);
        assert_eq!(Submitter::Local.cap(Grade::Authenticated), Grade::Authenticated);
    }

    #[test]
    fn what_is_no_serial_is_refused() {
        for bad in ["", "0x", "xyz", "1".repeat(41).as_str()] {
            assert_eq!(Serial::from_hex(bad), None, "{bad}");
        }
        for bad in ["", "-1", "12a", "9".repeat(49).as_str()] {
            assert_eq!(Serial::from_decimal(bad), None, "{bad}");
        }
    }
}
