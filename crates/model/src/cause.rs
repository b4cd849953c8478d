//! Why calls fail, and how well that is known.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cause and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CauseFinding {
    /// The cause.
    pub word: Cause,
    /// How it stands.
    pub standing: Standing,
    /// Causes that were considered and are contradicted, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ruled_out: Vec<RuledOut>,
}

/// How a cause stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Every rival is contradicted by evidence.
    Established,
    /// It explains what was seen; rivals are not excluded.
    Consistent,
    /// The evidence does not decide.
    Undetermined,
}

impl Standing {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Consistent => "consistent",
            Self::Undetermined => "undetermined",
        }
    }
}

/// A rival that is contradicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuledOut {
    /// The rival.
    pub cause: Cause,
    /// Why not.
    pub why: String,
    /// Entries that say so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<u64>,
}

/// Declares [`Cause`] with its words once.
macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// Why calls failed on an edge.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum Cause {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word as written.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

causes! {
    /// The evidence does not say why.
    Undetermined = "undetermined",
    /// Certificate expired: the agent's service account token was not rotated, so it could not re-attest.
    TokenNotRotated = "svid_expired_token_not_rotated",
    /// Certificate expired: the agent could not reach the SPIRE server.
    ServerUnreachable = "svid_expired_agent_cannot_reach_server",
    /// Certificate expired: the server no longer accepts the agent.
    AttestationLost = "svid_expired_agent_attestation_lost",
    /// Certificate renewed on disk, NGINX never loaded it.
    NotReloaded = "renewed_on_disk_but_not_reloaded",
    /// Certificate renewed on disk, NGINX refused to load.
    ReloadRejected = "reload_rejected_old_certificate_in_use",
    /// Expired, and calls go on over connections or sessions made before.
    KeptAlive = "svid_expired_but_connection_kept_alive",
    /// The called side's trust bundle lacks the caller's CA.
    BundleServerSide = "trust_bundle_not_updated_on_server_side",
    /// The calling side's trust bundle lacks the called side's CA.
    BundleClientSide = "trust_bundle_not_updated_on_client_side",
    /// A valid certificate with an identity that policy does not allow.
    WrongIdentity = "wrong_spiffe_id_refused_by_policy",
    /// The upstream's certificate does not carry the expected name.
    NameMismatch = "upstream_certificate_name_mismatch",
    /// No client certificate, from a caller that never showed one.
    NoCertificateOutsider = "no_client_certificate_caller_outside_mesh",
    /// No client certificate, from a caller that has one and does not present it.
    NoCertificateConfiguration = "no_client_certificate_configuration",
    /// Plain HTTP to a TLS port.
    PlaintextToTls = "plaintext_to_tls_port",
    /// The upstream speaks plain text where TLS is expected.
    UpstreamPlaintext = "upstream_speaks_plaintext",
    /// Connections that are no calls: scans, health checks.
    PortScan = "port_scan_noise",
    /// Certificate not yet valid for good: its NotBefore lies in the future.
    NotYetValid = "certificate_not_yet_valid",
    /// Certificate not yet valid on a checking side whose clock is behind.
    ClockSkew = "clock_skew_server_behind",
    /// The application behind the called sidecar is down.
    ApplicationDown = "application_down_not_mtls",
    /// The application answers errors.
    ApplicationError = "application_error_not_mtls",
    /// The application does not answer in time.
    ApplicationTimeout = "application_timeout_not_mtls",
    /// The called pod is gone.
    UpstreamDown = "upstream_pod_down_not_mtls",
    /// The called port accepts and never answers TLS.
    UpstreamSilent = "upstream_not_answering_tls_not_identity",
    /// The calling client gave up first.
    ClientGaveUp = "client_gave_up_not_mtls",
    /// No common TLS version.
    ProtocolMismatch = "tls_protocol_mismatch",
    /// No common cipher suite.
    NoSharedCipher = "no_shared_cipher",
    /// The caller refused our certificate; why stands in the caller's log.
    CallerRefused = "refused_by_caller",
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
