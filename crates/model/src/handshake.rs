//! mTLS handshakes that failed, one line each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Text, When};

/// One failed handshake, or one failure that looks like one and is not; `failure` says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Handshake {
    /// When, by the log's own clock.
    pub occurred: When,
    /// Which end wrote the line.
    pub side: Side,
    /// Which part of NGINX wrote it.
    pub layer: Layer,
    /// What the fixed text of the line says.
    pub failure: Failure,
    /// X.509 verify code from `(10:certificate has expired)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_code: Option<u16>,
    /// OpenSSL reason: the low 12 bits of the first `error:HHHHHHHH` of the SSL library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u16>,
    /// TLS alert that the peer sent: reason - 1000, or the number in `SSL alert number N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// The two witnesses of the alert disagree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alert_disputed: bool,
    /// The expected name of `does not match "…"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_name: Option<String>,
    /// `client:` address without port; for `side: client` this is the local application, not the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `server:` as written: a server name, or the listen address while the handshake lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Address with port of the upstream that was called. Untrusted when `tainted`; absent when cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// NGINX's own part of the line: message, error and action, before any byte that a client chose.
    pub message: Text,
    /// Worker process id.
    pub pid: u32,
    /// `*N`; absent on master lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<u64>,
    /// A field name occurs twice or before its place: a client may have forged fields.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tainted: bool,
    /// The line was cut at 2047 bytes: absent fields are unknown, not empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How many lines this stands for (more than 1 only for counted rows above the per-minute limit).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
}

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_one(n: &u64) -> bool {
    *n == 1
}

/// Which end of the connection the writer of a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It was called: the peer is the client.
    Server,
    /// It called: the peer is the upstream.
    Client,
}

impl Side {
    /// The word as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// The part of NGINX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// `http {}`.
    Http,
    /// `stream {}`: no request, byte counters at the end.
    Stream,
    /// The line does not tell.
    Unknown,
}

/// What the fixed text says (NGINX sources as listed in `docs/formats/facts.md`). Keyed on text, verify code, OpenSSL
/// reason and alert number, never on the log level, which moved between releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// `(client|upstream) SSL certificate verify error: (N:…)`: the peer's certificate did not verify.
    VerifyFailed,
    /// `client sent no required SSL certificate`.
    NoCertificate,
    /// `client sent plain HTTP request to HTTPS port`, or OpenSSL reason 0x09C `http request`.
    PlainHttp,
    /// OpenSSL reason 0x10B `wrong version number`: the peer does not speak TLS.
    NotTls,
    /// `upstream SSL certificate does not match "…"`.
    NameMismatch,
    /// The peer sent an alert: it refused us, or our offer.
    PeerAlert,
    /// OpenSSL reason 0x102 `unsupported protocol` and its kin.
    NoCommonProtocol,
    /// OpenSSL reason 0x0C1 `no shared cipher`.
    NoCommonCipher,
    /// `cannot load certificate "…"`: our own certificate or key is missing or broken.
    CannotLoadCertificate,
    /// `handshake rejected`: `ssl_reject_handshake` or an unknown server name.
    Rejected,
    /// `client attempted to request the server name different from the one that was negotiated`.
    WrongServerName,
    /// The peer closed or reset the connection during the handshake; scans and health checks do that too.
    ClosedDuringHandshake,
    /// `client closed connection while waiting for request`: handshake done, then the caller left without a word. A
    /// caller that refused our certificate looks like this.
    ClosedBeforeRequest,
    /// The handshake was not finished in time.
    HandshakeTimedOut,
    /// Another `SSL_do_handshake()`, `SSL_read()` or `SSL_write()` failure; the reason says which.
    OtherTls,
    /// `client sent invalid method` and the like: not HTTP at all.
    NotHttp,
    /// `connect() failed`: nothing listens there, no handshake took place.
    ConnectFailed,
    /// The upstream accepted and did not answer in time: no handshake failure.
    UpstreamTimedOut,
    /// The upstream closed the connection before it answered: no handshake failure by itself.
    UpstreamClosed,
}

impl Failure {
    /// The word as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyFailed => "verify_failed",
            Self::NoCertificate => "no_certificate",
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::NameMismatch => "name_mismatch",
            Self::PeerAlert => "peer_alert",
            Self::NoCommonProtocol => "no_common_protocol",
            Self::NoCommonCipher => "no_common_cipher",
            Self::CannotLoadCertificate => "cannot_load_certificate",
            Self::Rejected => "rejected",
            Self::WrongServerName => "wrong_server_name",
            Self::ClosedDuringHandshake => "closed_during_handshake",
            Self::ClosedBeforeRequest => "closed_before_request",
            Self::HandshakeTimedOut => "handshake_timed_out",
            Self::OtherTls => "other_tls",
            Self::NotHttp => "not_http",
            Self::ConnectFailed => "connect_failed",
            Self::UpstreamTimedOut => "upstream_timed_out",
            Self::UpstreamClosed => "upstream_closed",
        }
    }
}
