//! Credentials: issued, renewed, not renewed, delivered, loaded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Text, Time, When, identity::Serial};

/// One step in the life of a credential, or one failure to take it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Credential {
    /// When, by the source's clock.
    pub occurred: When,
    /// What happened.
    pub event: CredentialEvent,
    /// The workload's or agent's SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// SPIRE's registration entry; survives a change of the SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
    /// SPIFFE ID of the agent that asked, when a server says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Serial number of the new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// End of validity of the new certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// End of validity of the certificate that is replaced (`expires_at` of `Renewing X509-SVID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces_not_after: Option<Time>,
    /// Seconds that the new certificate is still valid (`ttl` of `Fetched X.509 SVID`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Why it failed, by the error's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The process that wrote the line, of NGINX.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A client may have written the whole line, through a line feed in text that NGINX logs unescaped: it can neither
    /// establish nor rule out anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
    /// The source's words: message and error, at most 512 bytes.
    pub message: Text,
}

/// What happened to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialEvent {
    /// The server signed a workload's certificate (`Signed X509 SVID`, debug: the only line with a serial).
    Signed,
    /// An agent replaces a certificate (`Renewing X509-SVID`); the new one ends one lifetime after this line.
    Renewing,
    /// An agent makes the first certificate of an entry since it started (`Creating X509-SVID`).
    Creating,
    /// An agent got its own credential (attested, re-attested, rotated).
    AgentRenewed,
    /// An agent could not get or renew its own credential.
    AgentRefused,
    /// An agent could not reach or was not served by the server (`Synchronize failed`, …).
    SyncFailed,
    /// An agent process ended (`Agent crashed`, shutting down).
    AgentStopped,
    /// An agent process began.
    AgentStarted,
    /// A server refused an attestation.
    AttestationRefused,
    /// A server process began or ended.
    ServerStarted,
    /// A server process ended.
    ServerStopped,
    /// A registration entry was created, updated or deleted (audit).
    EntryChanged,
    /// An X.509 authority was prepared, activated, tainted or revoked.
    AuthorityChanged,
    /// An agent or helper took a new trust bundle.
    BundleUpdated,
    /// A workload asked and has no identity (`No identity issued`).
    NoIdentity,
    /// A helper received a certificate from its agent.
    Received,
    /// A helper wrote the certificate to disk and signalled its server.
    Delivered,
    /// A helper could not watch or write.
    DeliveryFailed,
    /// NGINX was asked to load again (`signal 1 (SIGHUP)`, `reconfiguring`).
    ReloadAsked,
    /// NGINX works with what is on disk (`start worker process`).
    Loaded,
    /// NGINX refused to load (`[emerg]`) and goes on with what it had.
    LoadRefused,
    /// NGINX ended or lost a worker: not a credential event, but it ends the use of one.
    HolderStopped,
}

impl CredentialEvent {
    /// The word as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Renewing => "renewing",
            Self::Creating => "creating",
            Self::AgentRenewed => "agent_renewed",
            Self::AgentRefused => "agent_refused",
            Self::SyncFailed => "sync_failed",
            Self::AgentStopped => "agent_stopped",
            Self::AgentStarted => "agent_started",
            Self::AttestationRefused => "attestation_refused",
            Self::ServerStarted => "server_started",
            Self::ServerStopped => "server_stopped",
            Self::EntryChanged => "entry_changed",
            Self::AuthorityChanged => "authority_changed",
            Self::BundleUpdated => "bundle_updated",
            Self::NoIdentity => "no_identity",
            Self::Received => "received",
            Self::Delivered => "delivered",
            Self::DeliveryFailed => "delivery_failed",
            Self::ReloadAsked => "reload_asked",
            Self::Loaded => "loaded",
            Self::LoadRefused => "load_refused",
            Self::HolderStopped => "holder_stopped",
        }
    }
}

/// Why a credential was not had, read from the error's text; the message around it does not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// `token has expired`, in any of Kubernetes' wordings: the service account token was not rotated.
    TokenExpired,
    /// The token was refused for another reason (audience, account not allowed, pod unknown).
    TokenRefused,
    /// `connection refused`, `deadline exceeded`, `no such host`, …: nobody answered.
    Unreachable,
    /// `PermissionDenied`, banned, evicted, `not re-attestable`: the server no longer knows the agent.
    AttestationLost,
    /// `certificate signed by unknown authority`, bundle disagreement: the trust bundle is older than the CA.
    BundleStale,
    /// The agent's own certificate has ended.
    OwnExpired,
    /// Something else; the message has it.
    Other,
}

impl Trouble {
    /// The word as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenExpired => "token_expired",
            Self::TokenRefused => "token_refused",
            Self::Unreachable => "unreachable",
            Self::AttestationLost => "attestation_lost",
            Self::BundleStale => "bundle_stale",
            Self::OwnExpired => "own_expired",
            Self::Other => "other",
        }
    }
}
