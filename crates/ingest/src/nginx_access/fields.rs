//! The variables that we read of an access line, and the names under which JSON formats carry them.

/// What a field of an access line means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Var {
    /// `$msec`: end of the request in seconds and milliseconds.
    Msec,
    /// `$time_iso8601`, `$time_local`, or what a shipper put in their place.
    Time,
    RemoteAddr,
    Status,
    UpstreamAddr,
    UpstreamStatus,
    /// The name that the configuration gives the called service; no variable of NGINX has it.
    UpstreamName,
    ServerName,
    Hostname,
    /// `$protocol`: TCP or UDP, in `stream` only.
    Protocol,
    BytesSent,
    BytesReceived,
    /// `in` or `out`, a constant of our recommended formats.
    Direction,
    ConnectionRequests,
    SslProtocol,
    SslSessionReused,
    SslClientVerify,
    SslClientSerial,
    SslClientSubject,
    SslClientIssuer,
    SslClientNotBefore,
    SslClientNotAfter,
    SslClientCertificate,
    /// A variable of the operator's own that carries the URI SAN.
    SpiffeId,
}

impl Var {
    pub(super) const COUNT: usize = Self::SpiffeId as usize + 1;

    /// By the name of the variable in a `log_format`, without `$`.
    pub(super) fn of_variable(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"msec" => Self::Msec,
            b"time_iso8601" | b"time_local" => Self::Time,
            b"remote_addr" => Self::RemoteAddr,
            b"status" => Self::Status,
            b"upstream_addr" => Self::UpstreamAddr,
            b"upstream_status" => Self::UpstreamStatus,
            b"proxy_host" | b"proxy_upstream_name" | b"upstream_name" => Self::UpstreamName,
            b"server_name" => Self::ServerName,
            b"hostname" => Self::Hostname,
            b"protocol" => Self::Protocol,
            b"bytes_sent" => Self::BytesSent,
            b"bytes_received" => Self::BytesReceived,
            b"connection_requests" => Self::ConnectionRequests,
            b"ssl_protocol" => Self::SslProtocol,
            b"ssl_session_reused" => Self::SslSessionReused,
            b"ssl_client_verify" => Self::SslClientVerify,
            b"ssl_client_serial" => Self::SslClientSerial,
            b"ssl_client_s_dn" => Self::SslClientSubject,
            b"ssl_client_i_dn" => Self::SslClientIssuer,
            b"ssl_client_v_start" => Self::SslClientNotBefore,
            b"ssl_client_v_end" => Self::SslClientNotAfter,
            b"ssl_client_escaped_cert" => Self::SslClientCertificate,
            b"client_spiffe_id" | b"ssl_client_spiffe_id" | b"spiffe_id" => Self::SpiffeId,
            _ => return None,
        })
    }

    /// By the key of a JSON line, which its author chose freely: NGINX's names with or without `$`, and the common
    /// others.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let key = key.strip_prefix(b"$").unwrap_or(key);
        Self::of_variable(key).or_else(|| {
            Some(match key {
                b"time" | b"timestamp" | b"@timestamp" | b"ts" | b"date" | b"datetime" => Self::Time,
                b"epoch" | b"time_msec" => Self::Msec,
                b"client_ip" | b"clientip" | b"remote_ip" | b"remote_address" | b"client" => Self::RemoteAddr,
                b"status_code" | b"http_status" | b"response_code" => Self::Status,
                b"upstream_address" | b"upstream_host" => Self::UpstreamAddr,
                b"upstream_status_code" => Self::UpstreamStatus,
                b"upstream" => Self::UpstreamName,
                b"vhost" | b"server" => Self::ServerName,
                b"pod" | b"pod_name" => Self::Hostname,
                b"dir" | b"direction" => Self::Direction,
                b"tls_protocol" | b"tls_version" => Self::SslProtocol,
                b"verify" | b"client_verify" => Self::SslClientVerify,
                b"serial" | b"client_serial" => Self::SslClientSerial,
                b"subject" | b"ssl_client_subject" => Self::SslClientSubject,
                b"issuer" | b"ssl_client_issuer" => Self::SslClientIssuer,
                b"client_cert" | b"ssl_client_cert_escaped" => Self::SslClientCertificate,
                b"client_uri_san" | b"ssl_client_uri_san" => Self::SpiffeId,
                _ => return None,
            })
        })
    }
}

/// The fields of one line as written, before escapes are undone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a>([Option<&'a [u8]>; Var::COUNT]);

impl<'a> Values<'a> {
    pub(super) const fn new() -> Self {
        Self([None; Var::COUNT])
    }

    /// Of two fields with one meaning the first with a value stays.
    pub(super) fn set(&mut self, var: Var, value: &'a [u8]) {
        // `-` is how NGINX writes "nothing" outside JSON.
        let value = if value == b"-" || value == b"null" { b"" } else { value };
        let slot = &mut self.0[var as usize];
        if slot.is_none_or(<[u8]>::is_empty) {
            *slot = Some(value);
        }
    }

    pub(super) fn take(&mut self, var: Var) -> Option<&'a [u8]> {
        self.0[var as usize].take()
    }

    /// The value; `None` when the format has no such field, empty when NGINX had nothing to write.
    pub(super) fn get(&self, var: Var) -> Option<&'a [u8]> {
        self.0[var as usize]
    }

    /// The value if there is one and it is not empty.
    pub(super) fn some(&self, var: Var) -> Option<&'a [u8]> {
        self.get(var).filter(|value| !value.is_empty())
    }

    /// Calls `f` with those of these variables that the format has, and returns which they were, a bit each.
    pub(super) fn present(&self, vars: &[Var], mut f: impl FnMut(&'a [u8])) -> u32 {
        let mut bits = 0;
        for var in vars {
            if let Some(value) = self.get(*var) {
                bits |= 1 << *var as usize;
                f(value);
            }
        }
        bits
    }

    /// The format has a TLS variable.
    pub(super) fn has_tls(&self) -> bool {
        self.0[Var::SslProtocol as usize..=Var::SpiffeId as usize].iter().any(Option::is_some)
    }
}

/// Undoes the escapes of `escape=default` (`\xHH`) and `escape=json` (`\"`, `\\`, `\n`, `\uHHHH`), which may meet in
/// one line when a JSON template lacks `escape=json`. Control bytes stay escaped: the text ends in terminals. At most
/// `max` bytes.
pub(super) fn unescape(raw: &[u8], max: usize) -> String {
    let mut out = Vec::with_capacity(raw.len().min(max));
    let mut rest = raw;
    while let Some(&byte) = rest.first() {
        if out.len() >= max {
            break;
        }
        let (value, used) = if byte == b'\\' { escape(rest) } else { (Some(byte), 1) };
        match value {
            Some(byte) if byte >= b' ' && byte != 0x7F => out.push(byte),
            Some(byte) => out.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
            None => out.extend_from_slice(&rest[..used]),
        }
        rest = &rest[used..];
    }
    let text = String::from_utf8_lossy(&out);
    text[..text.floor_char_boundary(max)].to_owned()
}

/// The byte that an escape means and its length; `None` when it is to be kept as it stands.
fn escape(text: &[u8]) -> (Option<u8>, usize) {
    let hex = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    match text.get(1) {
        Some(b'x') => match hex(text.get(2..4)) {
            Some(byte) => (Some(byte), 4),
            None => (None, 1),
        },
        // NGINX writes `\u00HH` for control bytes and nothing above.
        Some(b'u') if text.get(2..4) == Some(b"00") => match hex(text.get(4..6)) {
            Some(byte) if byte < 0x80 => (Some(byte), 6),
            _ => (None, 1),
        },
        Some(b'"' | b'\\' | b'/') => (Some(text[1]), 2),
        Some(b'n') => (Some(b'\n'), 2),
        Some(b't') => (Some(b'\t'), 2),
        Some(b'r') => (Some(b'\r'), 2),
        _ => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_both_kinds_are_undone_but_control_bytes_stay_visible() {
        for (raw, text) in [
            (r"CN=a \x22b\x22", "CN=a \"b\""),
            (r#"CN=a \"b\" \\ \u001b[31m"#, r#"CN=a "b" \ \x1B[31m"#),
            (r"a\x5Cb\xC3\xA9", "a\\bé"),
            (r"a\xZZ\", r"a\xZZ\"),
        ] {
            assert_eq!(unescape(raw.as_bytes(), 256), text);
        }
        assert_eq!(unescape("aé".as_bytes(), 2), "a");
    }
}
