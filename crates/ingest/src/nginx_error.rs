//! The error log of NGINX.
//!
//! One line is `YYYY/MM/DD HH:MM:SS [level] PID#TID: *CONN MESSAGE (ERRNO: TEXT) while ACTION, client: A, server: S,
//! request: "R", upstream: "U", host: "H", referrer: "F"` (`src/core/ngx_log.c`, the log handlers of
//! `ngx_http_core_module`, `ngx_stream_handler.c`, `ngx_mail_handler.c`); every part after the message can be missing.
//!
//! Three things make it treacherous, and this parser is built around them:
//! - The **level** of one and the same message moved between releases, so nothing is keyed on it. The one exception is
//!   `[emerg]`, see [`lifecycle`].
//! - Request, host and referrer are written **unescaped**, so a client can forge fields. Message, client and server
//!   come first and are read from left to right; what follows `request: "` is marked when it repeats a field's name.
//!   Whole lines can be forged too, see [`Torn`].
//! - The line is **cut** at 2047 bytes, and upstream comes last.

mod lifecycle;
mod message;
mod torn;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta, TimeZone as _};
use model::{
    Fact, Grade, Text, Time, When,
    credential::Credential,
    handshake::{Handshake, Layer, Side},
};
pub use torn::Torn;

use crate::{
    Context, Draft, Outcome,
    find::find,
    lines::{Framed, Seen},
};

/// Parser and version as they stand in a body.
pub const PARSER: &str = "nginx-error/1";

/// Longest line that NGINX writes, without its line feed (`NGX_MAX_ERROR_STR` is 2048).
const LONGEST_LINE: usize = 2047;

/// Longest message kept in a fact; NGINX's own part is much shorter unless a path in it is long.
const LONGEST_MESSAGE: usize = 1024;

/// Reads one line. A failed handshake becomes a [`Handshake`], a step of a reload or the end of a process a
/// [`Credential`]; every other line of NGINX is passed.
pub fn parse(line: &Framed<'_>, context: &Context<'_>, seen: &mut Seen, out: &mut Vec<Draft>) -> Outcome {
    let Some(head) = Head::read(line.text) else {
        return Outcome::Opaque("not_a_line_of_this_format", "no `[level] pid#tid:` of an NGINX error log".into());
    };
    let occurred = head.occurred(line, context);
    seen.level(head.level);
    seen.when(&occurred);

    let fields = Fields::split(head.rest);
    if let Some(event) = lifecycle::event(head.level, fields.message) {
        let fact = Credential {
            occurred,
            event,
            spiffe_id: None,
            entry_id: None,
            agent_id: None,
            serial: None,
            not_after: None,
            replaces_not_after: None,
            ttl_seconds: None,
            trouble: None,
            pid: (head.pid > 0).then_some(head.pid),
            tainted: false,
            message: clip(fields.message, 512),
        };
        out.push(Draft { place: None, parser: PARSER, fact: Fact::Credential(fact), cut: Vec::new() });
        return Outcome::Understood;
    }
    let Some(read) = message::read(fields.message) else {
        return Outcome::Passed;
    };
    let written = line.text.len().saturating_add_signed(line.redacted);
    let truncated = line.partial || (written >= LONGEST_LINE && !fields.closed());
    let fact = Handshake {
        occurred,
        side: fields.side(),
        layer: fields.layer(),
        failure: read.failure,
        verify_code: read.verify_code,
        reason: read.reason,
        alert: read.alert,
        alert_disputed: read.alert_disputed,
        expected_name: read.expected_name,
        client: fields.client.map(lossy),
        server: fields.server.map(lossy),
        upstream: fields.upstream(),
        message: clip(fields.message, LONGEST_MESSAGE),
        pid: head.pid,
        connection: head.connection,
        tainted: fields.tainted(),
        truncated,
        count: 1,
    };
    out.push(Draft { place: None, parser: PARSER, fact: Fact::Handshake(fact), cut: Vec::new() });
    Outcome::Understood
}

/// True when a line can be one of this format.
pub fn recognises(line: &[u8]) -> bool {
    Head::read(Framed::read(line).text).is_some()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned()
}

fn clip(bytes: &[u8], max: usize) -> Text {
    Text::new(&bytes[..bytes.len().min(max)])
}

/// What stands before the message.
#[derive(Debug, PartialEq)]
struct Head<'a> {
    /// Local time as written; absent in excerpts.
    time: Option<NaiveDateTime>,
    /// Time with zone in what another program wrote before the line.
    prefix_time: Option<Time>,
    level: &'static str,
    pid: u32,
    connection: Option<u64>,
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    /// Finds `YYYY/MM/DD HH:MM:SS [level] PID#TID: `, at the start or behind a prefix of at most 512 bytes (syslog
    /// receivers, `stern`), or a line that begins with `[level] PID#TID: ` (an excerpt).
    fn read(line: &'a [u8]) -> Option<Self> {
        if line.first() == Some(&b'[') {
            return Self::after_time(line, None, None);
        }
        if let Some(text) = line.strip_prefix(b"nginx: [") {
            // Written to stderr before the log is open: no time, no process.
            let end = memchr::memchr(b']', text)?;
            let rest = text[end + 1..].strip_prefix(b" ")?;
            let level = level_of(&text[..end])?;
            return Some(Self { time: None, prefix_time: None, level, pid: 0, connection: None, rest });
        }
        let mut starts =
            memchr::memchr_iter(b'/', &line[..line.len().min(512)]).filter_map(|slash| slash.checked_sub(4));
        let start = if date_time_at(line) { 0 } else { starts.find(|start| date_time_at(&line[*start..]))? };
        let time = read_date_time(&line[start..])?;
        let prefix_time = line[..start]
            .split(|b| *b == b' ')
            .rev()
            .filter(|word| word.len() >= 20)
            .find_map(|word| Time::parse(std::str::from_utf8(word).ok()?));
        Self::after_time(&line[start + 20..], Some(time), prefix_time)
    }

    /// Reads `[level] PID#TID: [*CONN ]`.
    fn after_time(text: &'a [u8], time: Option<NaiveDateTime>, prefix_time: Option<Time>) -> Option<Self> {
        let text = text.strip_prefix(b"[")?;
        let end = memchr::memchr(b']', &text[..text.len().min(8)])?;
        let level = level_of(&text[..end])?;
        let text = text[end + 1..].strip_prefix(b" ")?;
        let (pid, text) = number(text)?;
        let (_, text) = number(text.strip_prefix(b"#")?)?;
        let mut rest = text.strip_prefix(b": ")?;
        let mut connection = None;
        if let Some((n, after)) = rest.strip_prefix(b"*").and_then(number)
            && let Some(after) = after.strip_prefix(b" ")
        {
            connection = Some(n);
            rest = after;
        }
        Some(Self { time, prefix_time, level, pid: u32::try_from(pid).ok()?, connection, rest })
    }

    /// The best time that the line carries: a frame's, else the local one in the declared zone (UTC, graded inferred,
    /// when none is declared), else, for excerpts without any, the time of receipt with nothing claimed about it.
    fn occurred(&self, line: &Framed<'_>, context: &Context<'_>) -> When {
        if let Some(at) = line.at {
            return at;
        }
        if let Some(at) = self.prefix_time {
            return When::exact(at);
        }
        let zone = if context.declared.zone.is_some() { Grade::Asserted } else { Grade::Inferred };
        match self.time {
            Some(local) => local_time(local, context.zone, zone),
            None => When { at: context.observed_at, within_ms: 0, zone: Grade::Unknown },
        }
    }
}

/// A local time of whole seconds in UTC. In the hour that summer time repeats it is the earlier moment with a width
/// that reaches over both; in the hour that summer time skips, the clock is taken to have run on.
fn local_time(local: NaiveDateTime, zone: chrono_tz::Tz, grade: Grade) -> When {
    let utc = |time: NaiveDateTime| Time::from_seconds(time.and_utc().timestamp());
    if zone == chrono_tz::UTC {
        return When { at: utc(local), within_ms: 1000, zone: grade };
    }
    match zone.from_local_datetime(&local) {
        chrono::LocalResult::Single(time) => {
            When { at: Time::from_seconds(time.timestamp()), within_ms: 1000, zone: grade }
        }
        chrono::LocalResult::Ambiguous(a, b) => {
            let (first, last) = (a.timestamp().min(b.timestamp()), a.timestamp().max(b.timestamp()));
            let within_ms = u32::try_from((last - first) * 1000 + 1000).unwrap_or(u32::MAX);
            When { at: Time::from_seconds(first), within_ms, zone: grade }
        }
        chrono::LocalResult::None => {
            let before = zone.from_local_datetime(&(local - TimeDelta::hours(2))).earliest();
            let at = before.map_or_else(|| utc(local), |time| Time::from_seconds(time.timestamp() + 2 * 3600));
            When { at, within_ms: 1000, zone: Grade::Inferred }
        }
    }
}

/// `YYYY/MM/DD HH:MM:SS [` by its shape.
fn date_time_at(text: &[u8]) -> bool {
    const SHAPE: &[u8; 21] = b"0000/00/00 00:00:00 [";
    text.len() >= SHAPE.len()
        && text.iter().zip(SHAPE).all(|(b, shape)| if *shape == b'0' { b.is_ascii_digit() } else { b == shape })
}

fn read_date_time(text: &[u8]) -> Option<NaiveDateTime> {
    let digits =
        |range: std::ops::Range<usize>| text[range].iter().fold(0u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    let year = i32::try_from(digits(0..4)).ok()?;
    NaiveDate::from_ymd_opt(year, digits(5..7), digits(8..10))?.and_hms_opt(
        digits(11..13),
        digits(14..16),
        digits(17..19).min(59),
    )
}

/// The number at the start and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let push = |n: u64, digit: &u8| n.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    (end > 0).then_some((digits.iter().try_fold(0, push)?, rest))
}

/// The level's word (`err_levels` in `ngx_log.c`).
fn level_of(text: &[u8]) -> Option<&'static str> {
    ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"]
        .into_iter()
        .find(|level| level.as_bytes() == text)
}

/// A line's message and the fields behind it.
#[derive(Debug, PartialEq)]
struct Fields<'a> {
    /// NGINX's own part.
    message: &'a [u8],
    client: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
    /// Everything behind `server`: the fields that a client can reach.
    tail: &'a [u8],
}

/// What can follow the server's name, which itself may hold commas and braces when it is a regular expression.
const AFTER_SERVER: [&[u8]; 7] = [
    b", request: \"",
    b", subrequest: \"",
    b", upstream: \"",
    b", bytes from/to client:",
    b", login: \"",
    b", host: \"",
    b", referrer: \"",
];

impl<'a> Fields<'a> {
    /// Left to right: the message ends before the first `, client: `, the client before the first `, server: `.
    fn split(rest: &'a [u8]) -> Self {
        let client = |at: usize| match &rest[at + 1..] {
            [b' ', b'c', b'l', b'i', b'e', b'n', b't', b':', b' ', ..] => Some((at, at + 10)),
            udp if udp.starts_with(b" udp client: ") => Some((at, at + 14)),
            _ => None,
        };
        let Some((end, start)) = memchr::memchr_iter(b',', rest).find_map(client) else {
            return Self { message: rest, client: None, server: None, tail: b"" };
        };
        let (message, after) = (&rest[..end], &rest[start..]);
        let Some(server) = find(after, b", server: ") else {
            let end = memchr::memchr(b',', after).unwrap_or(after.len());
            return Self { message, client: Some(address(&after[..end])), server: None, tail: &after[end..] };
        };
        let client = address(&after[..server]);
        let after = &after[server + 10..];
        let mut commas = memchr::memchr_iter(b',', after);
        let end = commas.find(|at| AFTER_SERVER.iter().any(|name| after[*at..].starts_with(name)));
        let end = end.unwrap_or(after.len());
        Self { message, client: Some(client), server: Some(&after[..end]), tail: &after[end..] }
    }

    /// We are the caller when NGINX's own words speak of an upstream, or a stream line names one.
    fn side(&self) -> Side {
        let calls = find(self.message, b"upstream").is_some()
            || find(self.message, b"connect() ").is_some()
            || (self.stream_counters() && find(self.message, b"client").is_none());
        if calls { Side::Client } else { Side::Server }
    }

    fn stream_counters(&self) -> bool {
        !self.has_request() && find(self.tail, b", bytes from/to client:").is_some()
    }

    fn has_request(&self) -> bool {
        self.tail.starts_with(b", request: \"")
    }

    fn layer(&self) -> Layer {
        let says = |text: &[u8]| find(self.message, text).is_some();
        if self.stream_counters() {
            Layer::Stream
        } else if self.has_request() || says(b"while reading client request") || says(b"while waiting for request") {
            Layer::Http
        } else if says(b" while SSL handshaking")
            && !says(b"upstream")
            && (says(b"SSL certificate verify error") || says(b"no required SSL certificate"))
            && self.client.is_some()
            && !self.tail.starts_with(b", login: \"")
        {
            // `http` looks at the certificate only once it has the request's headers.
            Layer::Stream
        } else {
            Layer::Unknown
        }
    }

    /// The called address: host and port of the first `upstream` field, without scheme and path.
    fn upstream(&self) -> Option<String> {
        let start = find(self.tail, b", upstream: \"")? + 13;
        let value = &self.tail[start..];
        let value = match find(&value[..value.len().min(16)], b"://") {
            Some(at) if value[..at].iter().all(u8::is_ascii_alphanumeric) => &value[at + 3..],
            _ => value,
        };
        // A socket's path holds slashes; NGINX writes `unix:/path:/uri`.
        let end = if value.starts_with(b"unix:") {
            find(value, b":/").and_then(|_| memchr::memchr(b':', &value[5..]).map(|at| at + 5))
        } else {
            memchr::memchr2(b'/', b'"', value)
        };
        let end = end.or_else(|| memchr::memchr(b'"', value))?;
        (end > 0).then(|| lossy(&value[..end]))
    }

    /// A client may have forged fields: a name occurs twice, a field of NGINX's own follows the request, the client or
    /// server holds what neither can, or the request is not closed before the next field.
    fn tainted(&self) -> bool {
        let odd = |value: &[u8]| memchr::memchr(b'"', value).is_some() || find(value, b", client: ").is_some();
        if self.client.is_some_and(odd) || self.server.is_some_and(odd) {
            return true;
        }
        if find(self.tail, b", client: ").is_some() || find(self.tail, b", server: ").is_some() {
            return true;
        }
        let names: [&[u8]; 5] = [b"request", b"subrequest", b"upstream", b"host", b"referrer"];
        let mut seen = [false; 5];
        let twice = memchr::memchr_iter(b':', self.tail).any(|colon| {
            let (before, after) = (&self.tail[..colon], &self.tail[colon + 1..]);
            if !(after.starts_with(b"\"") || after.starts_with(b" \"")) {
                return false;
            }
            let name = names.iter().position(|name| {
                before.strip_suffix(*name).is_some_and(|rest| matches!(rest.last(), Some(b' ' | b',')))
            });
            name.is_some_and(|name| std::mem::replace(&mut seen[name], true))
        });
        let unclosed = self.has_request()
            && find(self.tail, b", upstream: \"").is_some_and(|at| {
                // A request line ends with its version; HTTP/0.9 has none and cannot reach an upstream over TLS.
                let request = &self.tail[..at];
                !(request.ends_with(b"\"") && request.len() > 10 && request[..request.len() - 4].ends_with(b" HTTP/"))
            });
        twice || unclosed
    }

    /// The last field is whole: it ends with a quote or is no quoted one.
    fn closed(&self) -> bool {
        self.tail.ends_with(b"\"") || (self.stream_counters() && !self.tail.is_empty())
    }
}

/// The address of `client:`; mail adds ` using starttls`.
fn address(value: &[u8]) -> &[u8] {
    &value[..memchr::memchr(b' ', value).unwrap_or(value.len())]
}

#[cfg(test)]
mod tests;
