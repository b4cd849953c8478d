//! What a message says: the table of fixed texts.
//!
//! Keyed on the text that stands in NGINX's source, then on the verify code, the OpenSSL reason and the alert number.
//! OpenSSL's wording is read only where the number is missing or another library (BoringSSL) numbers differently.

use memchr::memmem;
use model::handshake::Failure;

use crate::find::find;

/// One understood message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) failure: Failure,
    pub(super) verify_code: Option<u16>,
    pub(super) reason: Option<u16>,
    pub(super) alert: Option<u8>,
    pub(super) alert_disputed: bool,
    pub(super) expected_name: Option<String>,
}

/// Reads a message; `None` when it is not about a handshake and decides no cause.
pub(super) fn read(message: &[u8]) -> Option<Message> {
    // Most lines are about something else: none of the texts below begins like them.
    if !matches!(message.first(), Some(b'c' | b'u' | b'S' | b'p' | b'h' | b'r' | b's')) {
        return None;
    }
    let begins = |text: &str| message.starts_with(text.as_bytes());
    let says = |text: &str| find(message, text.as_bytes()).is_some();
    let only = |failure| {
        let (verify_code, expected_name) = (None, None);
        Message { failure, verify_code, reason: None, alert: None, alert_disputed: false, expected_name }
    };

    // We look at the peer's certificate: ngx_http_request.c, ngx_http_upstream.c, ngx_stream_ssl_module.c,
    // ngx_stream_proxy_module.c, ngx_mail_handler.c. With OCSP the code is missing.
    for text in ["client SSL certificate verify error: ", "upstream SSL certificate verify error: "] {
        if let Some(rest) = message.strip_prefix(text.as_bytes()) {
            return Some(Message { verify_code: verify_code(rest), ..only(Failure::VerifyFailed) });
        }
    }
    if begins("client sent no required SSL certificate") {
        return Some(only(Failure::NoCertificate));
    }
    if let Some(rest) = message.strip_prefix(b"upstream SSL certificate does not match \"") {
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len()).min(256);
        let expected_name = Some(String::from_utf8_lossy(&rest[..end]).into_owned());
        return Some(Message { expected_name, ..only(Failure::NameMismatch) });
    }

    // The TLS library: ngx_event_openssl.c. SSL_shutdown() fails after the fact and decides nothing.
    for text in ["SSL_do_handshake() failed", "SSL_read() failed", "SSL_write() failed", "SSL_sendfile() failed"] {
        if begins(text) {
            return ssl(message, begins("SSL_do_handshake"));
        }
    }
    let failure = if begins("peer closed connection in SSL handshake")
        || begins("client closed connection while SSL handshaking")
    {
        Failure::ClosedDuringHandshake
    } else if begins("client timed out") && says("while SSL handshaking") {
        Failure::HandshakeTimedOut
    } else if begins("handshake rejected") {
        Failure::Rejected
    } else if begins("cannot load certificate") {
        Failure::CannotLoadCertificate
    } else if begins("client sent plain HTTP request to HTTPS port") {
        Failure::PlainHttp
    } else if begins("client attempted to request the server name different from the one that was negotiated") {
        Failure::WrongServerName
    } else if begins("client closed connection while waiting for request") {
        Failure::ClosedBeforeRequest
    } else if begins("client sent invalid method") || begins("client sent invalid version") {
        Failure::NotHttp
    } else if begins("upstream timed out") {
        // The same words for three things: no TCP connection, no handshake, no answer.
        if says("while connecting to upstream") {
            Failure::ConnectFailed
        } else if says("while SSL handshaking to upstream") {
            Failure::HandshakeTimedOut
        } else {
            Failure::UpstreamTimedOut
        }
    } else if begins("upstream prematurely closed connection")
        || (begins("recv() failed") && says("from upstream"))
        || (begins("send() failed") && says("to upstream"))
    {
        Failure::UpstreamClosed
    } else if (begins("connect() failed") || begins("connect() to unix:")) && !says("certificate status") {
        Failure::ConnectFailed
    } else {
        return None;
    };
    Some(only(failure))
}

/// `N` of `(N:text)`.
fn verify_code(text: &[u8]) -> Option<u16> {
    let text = text.strip_prefix(b"(")?;
    let end = memchr::memchr(b':', &text[..text.len().min(6)])?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

// Reasons of OpenSSL's SSL library (include/openssl/sslerr.h); alerts that the peer sent are 1000 + alert.
const HTTPS_PROXY_REQUEST: u16 = 0x9B;
const HTTP_REQUEST: u16 = 0x9C;
const VERSION_TOO_HIGH: u16 = 0xA6;
const NO_PROTOCOLS_AVAILABLE: u16 = 0xBF;
const NO_SHARED_CIPHER: u16 = 0xC1;
const UNSUPPORTED_PROTOCOL: u16 = 0x102;
const WRONG_SSL_VERSION: u16 = 0x10A;
const WRONG_VERSION_NUMBER: u16 = 0x10B;
const UNEXPECTED_EOF: u16 = 0x126;
const VERSION_TOO_LOW: u16 = 0x18C;

/// A failed call into the TLS library.
fn ssl(message: &[u8], handshake: bool) -> Option<Message> {
    let says = |text: &str| find(message, text.as_bytes()).is_some();
    let code = first_ssl_code(message);
    // BoringSSL shares the numbers of alerts, not those of its own reasons; its texts are the macro names.
    let boring = says("OPENSSL_internal:");
    let reason = code.map(|code| u16::try_from(code & 0xFFF).unwrap_or(0));
    let by_reason = reason.and_then(|reason| reason.checked_sub(1000)).and_then(|alert| u8::try_from(alert).ok());
    let by_text = find(message, b"SSL alert number ").and_then(|at| {
        let digits = &message[at + 17..];
        let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
        std::str::from_utf8(&digits[..end]).ok()?.parse::<u8>().ok()
    });
    let alert = by_reason.or(by_text);
    let failure = if alert.is_some() {
        Failure::PeerAlert
    } else if boring {
        if says("WRONG_VERSION_NUMBER") {
            Failure::NotTls
        } else if says("HTTP_REQUEST") || says("HTTPS_PROXY_REQUEST") {
            Failure::PlainHttp
        } else if says("NO_SHARED_CIPHER") {
            Failure::NoCommonCipher
        } else if says("UNSUPPORTED_PROTOCOL") {
            Failure::NoCommonProtocol
        } else {
            Failure::OtherTls
        }
    } else {
        match reason {
            Some(WRONG_VERSION_NUMBER) => Failure::NotTls,
            Some(HTTP_REQUEST | HTTPS_PROXY_REQUEST) => Failure::PlainHttp,
            Some(NO_SHARED_CIPHER) => Failure::NoCommonCipher,
            Some(
                UNSUPPORTED_PROTOCOL | WRONG_SSL_VERSION | VERSION_TOO_LOW | VERSION_TOO_HIGH | NO_PROTOCOLS_AVAILABLE,
            ) => Failure::NoCommonProtocol,
            // The peer went away without closing TLS: what that means depends on what we waited for.
            Some(UNEXPECTED_EOF) if handshake => Failure::ClosedDuringHandshake,
            Some(UNEXPECTED_EOF) if says("while waiting for request") => Failure::ClosedBeforeRequest,
            Some(UNEXPECTED_EOF) if says("from upstream") => Failure::UpstreamClosed,
            Some(UNEXPECTED_EOF) => return None,
            _ => Failure::OtherTls,
        }
    };
    let alert_disputed = matches!((by_reason, by_text), (Some(a), Some(b)) if a != b);
    Some(Message { failure, verify_code: None, reason, alert, alert_disputed, expected_name: None })
}

/// The first code of the SSL library: `error:HHHHHHHH:SSL routines:…`; a line can chain codes of several libraries.
fn first_ssl_code(message: &[u8]) -> Option<u32> {
    memmem::find_iter(message, b"error:").find_map(|at| {
        let text = &message[at + 6..];
        let end = memchr::memchr(b':', &text[..text.len().min(17)])?;
        if !text[end + 1..].starts_with(b"SSL routines") {
            return None;
        }
        u32::from_str_radix(std::str::from_utf8(&text[..end]).ok()?, 16).ok()
    })
}
