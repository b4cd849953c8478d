//! Traffic, folded per edge and minute from access lines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Time, identity::Serial};

/// The access lines of one append, a row per edge and minute. Rows are sorted by (minute, direction, peer, rest), so
/// equal lines give equal bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Edges {
    /// The rows.
    pub rows: Vec<EdgeRow>,
}

/// Requests of one minute that share direction, peer, names and certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeRow {
    /// Start of the minute, by the end of the requests.
    pub minute: Time,
    /// Who called whom.
    pub direction: Direction,
    /// Inbound: `$remote_addr`. Outbound: `$upstream_addr` (address with port; the last one of a retry list).
    pub peer: String,
    /// `$server_name` (inbound) as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The name that the configuration gives the upstream, when the format carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_name: Option<String>,
    /// `$hostname` of the writer, when the format carries it: the pod's name in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// `$protocol` was there: a stream line, one per connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// What the format can tell about TLS; absent when it has no TLS variable at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSeen>,
    /// Number of requests (stream: connections).
    pub requests: u64,
    /// By answer, sorted.
    pub answers: Vec<Answer>,
    /// Requests on resumed sessions (`$ssl_session_reused` = `r`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumed: u64,
    /// Requests that were not the first on their connection.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept_alive: u64,
    /// Requests answered after `not_after` of the certificate with verify SUCCESS.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_expiry: u64,
    /// Stream connections that carried no byte in either direction: SUCCESS here is not a good handshake.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub empty: u64,
    /// End of the first request.
    pub first: Time,
    /// End of the last request.
    pub last: Time,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Direction of a row seen from the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer called the writer.
    In,
    /// The writer called the peer.
    Out,
}

/// TLS variables of a row; each absent when the format lacks it, empty when NGINX wrote nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TlsSeen {
    /// `$ssl_protocol`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `$ssl_client_verify`: `SUCCESS`, `FAILED:…`, `NONE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<String>,
    /// `$ssl_client_serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    /// URI SAN out of `$ssl_client_escaped_cert`, or a variable that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// `$ssl_client_s_dn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `$ssl_client_i_dn`; its serialNumber names the generation of SPIRE's CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `$ssl_client_v_start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Time>,
    /// `$ssl_client_v_end`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
}

/// How often one answer was given in the row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// `$status`.
    pub status: u16,
    /// `$upstream_status` as written (`502, 200` for retries); empty when no upstream answered; absent when the format
    /// lacks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// How often.
    pub n: u64,
    /// End of the first such request.
    pub first: Time,
    /// End of the last such request.
    pub last: Time,
}
