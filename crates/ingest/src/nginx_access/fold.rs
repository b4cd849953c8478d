//! Lines to rows.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use model::{
    Time,
    edges::{Answer, Direction, EdgeRow, Edges, TlsSeen},
    identity::Serial,
};

use super::{
    certificate,
    fields::{Values, Var, unescape},
    format::AccessFormat,
    time,
};
use crate::{
    Context, Outcome,
    lines::{Framed, Seen},
};

/// Longest text of a row's field. SPIFFE IDs may be longer: they come whole or not at all.
const LONGEST_TEXT: usize = 256;
/// Most different answers of one row; further ones count under status 0 without an upstream status.
const MAX_ANSWERS: usize = 32;
/// Largest `Edges` fact in bytes; more rows become more facts.
const MAX_FACT_BYTES: usize = 12 * 1024;

/// Counts the access lines of one append into rows.
#[derive(Debug)]
pub struct Fold {
    format: AccessFormat,
    rows: Vec<Counted>,
    /// Row of a key, the bytes of [`Fold::key`].
    index: HashMap<Box<[u8]>, usize, RandomState>,
    /// The key of the line at hand, and the row of the line before: neighbours mostly share it.
    key: Vec<u8>,
    last: Option<usize>,
    /// Certificates seen, by the TLS part of the key.
    certificates: HashMap<Box<[u8]>, certificate::Seen, RandomState>,
    /// The last text of a time and what it means: lines of one second repeat it.
    last_time: (Vec<u8>, Option<Time>),
}

#[derive(Debug)]
struct Counted {
    key: Box<[u8]>,
    /// Where the TLS part of the key begins.
    tls_key: usize,
    /// Number of the first line that it counts.
    first_line: u64,
    row: EdgeRow,
}

impl Fold {
    /// Begins an append.
    pub fn new(format: AccessFormat) -> Self {
        Self {
            format,
            rows: Vec::new(),
            index: HashMap::default(),
            key: Vec::with_capacity(512),
            last: None,
            certificates: HashMap::default(),
            last_time: (Vec::new(), None),
        }
    }

    /// Counts one line; `number` is its place in the append.
    ///
    /// A line is understood when it says who called, what was answered or which upstream was called. Without a time of
    /// its own (some formats have none) it counts at its frame's time or the time of receipt.
    pub fn line(&mut self, number: u64, line: &Framed<'_>, context: &Context<'_>, seen: &mut Seen) -> Outcome {
        let mut values = Values::new();
        if let Err(detail) = self.format.read(line.text, &mut values) {
            return Outcome::Opaque("not_a_line_of_this_format", detail.into());
        }
        if ![Var::RemoteAddr, Var::Status, Var::UpstreamAddr].into_iter().any(|var| values.some(var).is_some()) {
            return Outcome::Opaque("not_a_line_of_this_format", "no caller, answer or upstream in it".into());
        }
        let Ok(at) = self.time(&values) else {
            return Outcome::Opaque("unreadable_time", "the time has none of NGINX's forms".into());
        };
        let at = at.or(line.at.map(|when| when.at)).unwrap_or(context.observed_at);
        seen.time(at);
        Self::upstream_by_name(&mut values);

        let stream = matches!(values.get(Var::Protocol), Some(b"TCP" | b"UDP"));
        let direction = direction(&values);
        let peer = match direction {
            Direction::In => values.get(Var::RemoteAddr).unwrap_or_default(),
            Direction::Out => last_of(values.get(Var::UpstreamAddr).unwrap_or_default()),
        };
        let tls_key = self.write_key(at.minute(), direction, stream, peer, &values);
        self.certificate(tls_key, &values);
        let row = match self.last {
            Some(last) if *self.rows[last].key == *self.key => last,
            _ => match self.index.get(self.key.as_slice()) {
                Some(row) => *row,
                None => self.new_row(number, at, direction, stream, peer, tls_key, &values),
            },
        };
        self.last = Some(row);
        self.rows[row].count(at, &values);
        Outcome::Understood
    }

    /// The rows as facts, each with the number of the first line that it counts.
    pub fn finish(self) -> Vec<(u64, Edges)> {
        let mut sorted: BTreeMap<SortKey, (u64, EdgeRow)> = BTreeMap::new();
        for Counted { key, tls_key, first_line, mut row } in self.rows {
            if let (Some(tls), Some(known)) = (&mut row.tls, self.certificates.get(&key[tls_key..])) {
                tls.spiffe_id = tls.spiffe_id.take().or_else(|| known.spiffe_id.clone());
                tls.serial = tls.serial.take().or_else(|| known.serial.clone());
            }
            // Rows that differ only in how their values were escaped, or that a certificate made equal, are one.
            match sorted.entry(SortKey::of(&row)) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert((first_line, row));
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    let (first, known) = entry.get_mut();
                    *first = (*first).min(first_line);
                    merge(known, row);
                }
            }
        }
        let mut facts: Vec<(u64, Edges)> = Vec::new();
        let mut bytes = usize::MAX;
        for (first_line, mut row) in sorted.into_values() {
            row.answers.sort();
            let len = serde_json::to_vec(&row).map_or(MAX_FACT_BYTES, |json| json.len() + 1);
            match facts.last_mut() {
                Some((first, edges)) if bytes + len <= MAX_FACT_BYTES => {
                    *first = (*first).min(first_line);
                    edges.rows.push(row);
                    bytes += len;
                }
                _ => {
                    facts.push((first_line, Edges { rows: vec![row] }));
                    bytes = len;
                }
            }
        }
        facts
    }

    /// The end of the request; `Ok(None)` when the line carries no time, `Err` when it carries one that is none.
    fn time(&mut self, values: &Values<'_>) -> Result<Option<Time>, ()> {
        if let Some(at) = values.some(Var::Msec).and_then(time::msec) {
            return Ok(Some(at));
        }
        let Some(text) = values.some(Var::Time) else {
            return if values.some(Var::Msec).is_some() { Err(()) } else { Ok(None) };
        };
        if self.last_time.0 != text {
            self.last_time = (text.to_vec(), time::any(text));
        }
        self.last_time.1.map(Some).ok_or(())
    }

    /// A key `upstream` holds an address in some formats and the service's name in others.
    fn upstream_by_name(values: &mut Values<'_>) {
        let address =
            |name: &[u8]| name.first().is_some_and(|b| b.is_ascii_digit() || *b == b'[') && name.contains(&b':');
        if values.get(Var::UpstreamAddr).is_none() && values.some(Var::UpstreamName).is_some_and(address) {
            let value = values.take(Var::UpstreamName).unwrap_or_default();
            values.set(Var::UpstreamAddr, value);
        }
    }

    /// Writes what tells one row from another; returns where the TLS part begins.
    fn write_key(
        &mut self,
        minute: Time,
        direction: Direction,
        stream: bool,
        peer: &[u8],
        values: &Values<'_>,
    ) -> usize {
        self.key.clear();
        self.key.extend_from_slice(&minute.0.to_le_bytes());
        self.key.extend_from_slice(&[u8::from(direction == Direction::Out), u8::from(stream)]);
        put(&mut self.key, peer);
        put_those(&mut self.key, values, NAMES);
        let tls = self.key.len();
        // Without a serial only the certificate itself tells callers apart.
        let certificate = values.some(Var::SslClientSerial).is_none();
        put_those(&mut self.key, values, if certificate { CALLER } else { &CALLER[..CALLER.len() - 1] });
        tls
    }

    /// Reads a certificate once per serial. It speaks for other lines only when all their TLS values are equal, the
    /// result of the verification among them: a certificate that was not verified may bear anybody's serial.
    fn certificate(&mut self, tls_key: usize, values: &Values<'_>) {
        let Some(escaped) = values.some(Var::SslClientCertificate) else { return };
        let key = &self.key[tls_key..];
        if !self.certificates.contains_key(key)
            && let Some(read) = certificate::read(escaped)
        {
            self.certificates.insert(key.into(), read);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "called once; the parts of a row's key")]
    fn new_row(
        &mut self,
        first_line: u64,
        at: Time,
        direction: Direction,
        stream: bool,
        peer: &[u8],
        tls_key: usize,
        values: &Values<'_>,
    ) -> usize {
        let text = |var| values.get(var).map(|raw| unescape(raw, LONGEST_TEXT));
        let name = |var| values.some(var).map(|raw| unescape(raw, LONGEST_TEXT));
        let tls = values.has_tls().then(|| TlsSeen {
            protocol: text(Var::SslProtocol),
            verify: text(Var::SslClientVerify),
            serial: name(Var::SslClientSerial).and_then(|serial| Serial::from_hex(&serial)),
            spiffe_id: values.some(Var::SpiffeId).map(|raw| unescape(raw, 2048)).filter(|id| id.starts_with("spiffe:")),
            subject: text(Var::SslClientSubject),
            issuer: text(Var::SslClientIssuer),
            not_before: values.some(Var::SslClientNotBefore).and_then(time::certificate),
            not_after: values.some(Var::SslClientNotAfter).and_then(time::certificate),
        });
        let row = EdgeRow {
            minute: at.minute(),
            direction,
            peer: unescape(peer, LONGEST_TEXT),
            server_name: name(Var::ServerName),
            upstream_name: name(Var::UpstreamName),
            pod: name(Var::Hostname),
            stream,
            tls,
            requests: 0,
            answers: Vec::new(),
            resumed: 0,
            kept_alive: 0,
            after_expiry: 0,
            empty: 0,
            first: at,
            last: at,
        };
        let key: Box<[u8]> = self.key.as_slice().into();
        self.index.insert(key.clone(), self.rows.len());
        self.rows.push(Counted { key, tls_key, first_line, row });
        self.rows.len() - 1
    }
}

/// What of a line besides the peer tells one row from another, and what of it makes the TLS part of the key.
const NAMES: &[Var] = &[Var::ServerName, Var::UpstreamName, Var::Hostname, Var::SslProtocol, Var::SpiffeId];
const CALLER: &[Var] = &[
    Var::SslClientVerify,
    Var::SslClientSerial,
    Var::SslClientSubject,
    Var::SslClientIssuer,
    Var::SslClientNotBefore,
    Var::SslClientNotAfter,
    Var::SslClientCertificate,
];

/// Appends a value to a key; the length keeps neighbours apart.
fn put(key: &mut Vec<u8>, value: &[u8]) {
    key.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    key.extend_from_slice(value);
}

/// Appends those values that the format has, behind a word that says which: absent and empty differ.
fn put_those(key: &mut Vec<u8>, values: &Values<'_>, vars: &[Var]) {
    let word = key.len();
    key.extend_from_slice(&[0; 4]);
    let bits = values.present(vars, |value| put(key, value));
    key[word..word + 4].copy_from_slice(&bits.to_le_bytes());
}

/// A status as `u16::from_str` reads it; three digits nearly always.
fn status(text: &[u8]) -> Option<u16> {
    match text {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some([a, b, c].into_iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0')))
        }
        _ => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

impl Counted {
    fn count(&mut self, at: Time, values: &Values<'_>) {
        let row = &mut self.row;
        row.requests += 1;
        row.first = row.first.min(at);
        row.last = row.last.max(at);
        row.resumed += u64::from(values.get(Var::SslSessionReused) == Some(b"r"));
        let on_connection = values.get(Var::ConnectionRequests);
        row.kept_alive += u64::from(on_connection.is_some_and(|n| !matches!(n, b"" | b"0" | b"1")));
        if let Some(TlsSeen { not_after: Some(end), .. }) = row.tls {
            row.after_expiry += u64::from(at > end && values.get(Var::SslClientVerify) == Some(b"SUCCESS"));
        }
        let none = |var| values.get(var) == Some(b"0");
        row.empty += u64::from(row.stream && none(Var::BytesSent) && none(Var::BytesReceived));

        let Some(status) = values.some(Var::Status).and_then(status) else { return };
        let upstream = values.get(Var::UpstreamStatus);
        let is = |answer: &Answer, status: u16, upstream: Option<&[u8]>| {
            answer.status == status && answer.upstream.as_deref().map(str::as_bytes) == upstream
        };
        let known = row.answers.iter().position(|answer| is(answer, status, upstream)).unwrap_or_else(|| {
            let full = row.answers.len() >= MAX_ANSWERS;
            let upstream = upstream.filter(|_| !full).map(|raw| unescape(raw, 64));
            let status = if full { 0 } else { status };
            let as_written = |answer: &Answer| is(answer, status, upstream.as_deref().map(str::as_bytes));
            row.answers.iter().position(as_written).unwrap_or_else(|| {
                row.answers.push(Answer { status, upstream, n: 0, first: at, last: at });
                row.answers.len() - 1
            })
        });
        let answer = &mut row.answers[known];
        answer.n += 1;
        answer.first = answer.first.min(at);
        answer.last = answer.last.max(at);
    }
}

/// Who called whom, by the `dir` field of the line. Without one it is an outbound line when it names the upstream that
/// the configuration calls, or when the caller is on the same host, an upstream was called, and no variable of client
/// TLS is in the format: that is a sidecar's egress. Everything else is inbound.
fn direction(values: &Values<'_>) -> Direction {
    match values.get(Var::Direction) {
        Some(b"in" | b"inbound" | b"ingress") => return Direction::In,
        Some(b"out" | b"outbound" | b"egress") => return Direction::Out,
        _ => {}
    }
    let loopback = |address: &[u8]| address.starts_with(b"127.") || matches!(address, b"::1" | b"unix:");
    let from_here = values.some(Var::RemoteAddr).is_some_and(loopback);
    let called = values.some(Var::UpstreamAddr).is_some();
    if values.some(Var::UpstreamName).is_some() || (from_here && called && !values.has_tls()) {
        Direction::Out
    } else {
        Direction::In
    }
}

/// The last address of `a, b : c`: the one that answered. Commas part retries, ` : ` parts internal redirects.
fn last_of(list: &[u8]) -> &[u8] {
    let comma = memchr::memmem::rfind(list, b", ").map_or(0, |at| at + 2);
    let colon = memchr::memmem::rfind(list, b" : ").map_or(0, |at| at + 3);
    &list[comma.max(colon)..]
}

fn merge(into: &mut EdgeRow, row: EdgeRow) {
    into.requests += row.requests;
    into.resumed += row.resumed;
    into.kept_alive += row.kept_alive;
    into.after_expiry += row.after_expiry;
    into.empty += row.empty;
    into.first = into.first.min(row.first);
    into.last = into.last.max(row.last);
    for answer in row.answers {
        match into.answers.iter_mut().find(|a| a.status == answer.status && a.upstream == answer.upstream) {
            Some(known) => {
                known.n += answer.n;
                known.first = known.first.min(answer.first);
                known.last = known.last.max(answer.last);
            }
            None => into.answers.push(answer),
        }
    }
}

/// The order of rows, and what makes two of them one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    minute: Time,
    direction: Direction,
    peer: String,
    names: [Option<String>; 3],
    stream: bool,
    tls: Option<TlsSeen>,
}

impl SortKey {
    fn of(row: &EdgeRow) -> Self {
        Self {
            minute: row.minute,
            direction: row.direction,
            peer: row.peer.clone(),
            names: [row.server_name.clone(), row.upstream_name.clone(), row.pod.clone()],
            stream: row.stream,
            tls: row.tls.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
