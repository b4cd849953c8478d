//! Failures, folded into episodes: one kind of failure on one edge seen by one source, without a longer pause.
//!
//! Failures are counted per minute under a key that says only what the lines say. Episodes are computed from the
//! minutes, so the order of arrival cannot matter: a minute that arrives late lengthens an episode or joins two, and
//! the ids that no longer begin an episode are withdrawn.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use model::{
    Entry, SourceId, Time,
    edges::{Direction, EdgeRow},
    handshake::{Failure, Handshake, Layer, Side},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config,
    limits::{add, crowd_out},
    pairs,
    store::{Key, Store, hash},
    topology::is_socket,
};

/// What failed: from an error line, or from the answers of access lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum What {
    /// An error line.
    Line(Failure),
    /// Requests answered with a status; the second is true when an upstream gave that answer.
    Answer(u16, bool),
    /// Requests that succeeded with a certificate past its end.
    AfterExpiry,
}

impl What {
    /// The least, for ranges.
    const LEAST: Self = Self::Line(Failure::VerifyFailed);
    /// Every error line: from the first up to, and without, the second.
    pub(crate) const LINES: (Self, Self) = (Self::LEAST, Self::Answer(0, false));

    /// The word of the record.
    pub(crate) fn word(self) -> String {
        match self {
            Self::Line(failure) => failure.as_str().into(),
            Self::Answer(status, _) => format!("status_{status}"),
            Self::AfterExpiry => "success_after_expiry".into(),
        }
    }
}

/// One kind of failure on one edge, as one source sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct FailureKey {
    pub(crate) source: SourceId,
    pub(crate) side: Side,
    /// Server side: the client's address. Client side: address and port of the upstream. Empty when not written.
    pub(crate) peer: String,
    pub(crate) what: What,
    /// Verify code, or alert, or OpenSSL reason.
    pub(crate) code: Option<u16>,
    pub(crate) alert: Option<u8>,
    pub(crate) stream: bool,
}

/// One line or row shown as evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) entry: u64,
    pub(crate) says: String,
}

/// The failures of one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Minute {
    pub(crate) count: u64,
    pub(crate) first: Time,
    pub(crate) last: Time,
    /// The first two and the last, by time and place.
    #[serde(with = "pairs")]
    pub(crate) samples: BTreeMap<Key, Sample>,
    /// Server names or listening sockets as written, at most four.
    pub(crate) servers: BTreeSet<String>,
    /// Requesting addresses on the client side, at most four.
    pub(crate) clients: BTreeSet<String>,
    /// What NGINX was doing, at most four.
    pub(crate) doing: BTreeSet<String>,
    pub(crate) tainted: bool,
    /// A record was written of an episode that began in this minute.
    pub(crate) told: bool,
}

/// Failures by key and minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failures {
    #[serde(with = "pairs")]
    pub(crate) keys: BTreeMap<FailureKey, Minutes>,
    /// The same keys by side and what failed.
    #[serde(with = "pairs")]
    by_what: BTreeMap<(Side, What), BTreeSet<FailureKey>>,
    /// How many keys and minutes were dropped before their time.
    pub(crate) evicted: u64,
}

/// Where an episode begins and ends: its first minute, its first and last moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Time,
    pub(crate) first: Time,
    pub(crate) last: Time,
}

/// Minutes of one key, and the ledger milliseconds of its last failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Minutes(#[serde(with = "pairs")] pub(crate) BTreeMap<Time, Minute>, u64);

/// One episode, put together from its minutes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Episode {
    pub(crate) key: FailureKey,
    pub(crate) id: String,
    pub(crate) first: Time,
    pub(crate) last: Time,
    pub(crate) count: u64,
    pub(crate) samples: Vec<(Time, Sample)>,
    pub(crate) servers: BTreeSet<String>,
    pub(crate) clients: BTreeSet<String>,
    pub(crate) doing: BTreeSet<String>,
    pub(crate) tainted: bool,
}

/// Where a failure was counted.
pub(crate) struct Counted {
    pub(crate) key: FailureKey,
    pub(crate) minute: Time,
    /// It is the first of its minute, and the minute before does not reach up to it: an episode begins here.
    pub(crate) begins: bool,
}

/// What one fact adds to a minute.
struct Seen<'a> {
    at: (Time, Time),
    count: u64,
    says: String,
    server: Option<&'a str>,
    client: Option<&'a str>,
    doing: Option<&'a str>,
    tainted: bool,
}

impl Failures {
    /// Counts an error line.
    pub(crate) fn line(&mut self, entry: &Entry, line: &Handshake, config: &Config) -> Counted {
        let peer = match line.side {
            Side::Server => line.client.clone(),
            Side::Client => line.upstream.clone(),
        };
        let key = FailureKey {
            source: entry.body.source.clone(),
            side: line.side,
            peer: peer.unwrap_or_default(),
            what: What::Line(line.failure),
            code: line.verify_code.or(if line.alert.is_some() { None } else { line.reason }),
            alert: line.alert,
            stream: line.layer == Layer::Stream,
        };
        let message = line.message.lossy();
        let doing = message.rsplit_once(" while ").map(|(_, doing)| doing.split(',').next().unwrap_or(doing));
        let seen = Seen {
            at: (line.occurred.at, line.occurred.at),
            count: line.count,
            says: message.chars().take(160).collect(),
            server: line.server.as_deref(),
            client: line.client.as_deref(),
            doing,
            tainted: line.tainted,
        };
        self.add(entry, key, seen, config)
    }

    /// Counts what is a failure in a row of access lines.
    pub(crate) fn row(&mut self, entry: &Entry, row: &EdgeRow, config: &Config) -> Vec<Counted> {
        let mut keys = Vec::new();
        let side = if row.direction == Direction::In { Side::Server } else { Side::Client };
        let key = |what| FailureKey {
            source: entry.body.source.clone(),
            side,
            peer: row.peer.clone(),
            what,
            code: None,
            alert: None,
            stream: row.stream,
        };
        let verify = row.tls.as_ref().and_then(|tls| tls.verify.clone()).unwrap_or_default();
        for answer in &row.answers {
            let upstream = answer.upstream.as_deref().unwrap_or_default();
            let last = upstream.rsplit([',', ':']).next().unwrap_or_default().trim();
            let answered = last == answer.status.to_string();
            if !matters(answer.status) {
                continue;
            }
            let says = format!(
                "{} answered {}{}{}",
                plural(answer.n, "request"),
                answer.status,
                if upstream.is_empty() { String::new() } else { format!(", upstream said {upstream}") },
                if verify.is_empty() { String::new() } else { format!(", client verify {verify}") },
            );
            let seen = Seen {
                at: (answer.first, answer.last),
                count: answer.n,
                says,
                server: row.server_name.as_deref(),
                client: None,
                doing: Some(if verify.is_empty() { "answer" } else { &verify }),
                tainted: false,
            };
            keys.push(self.add(entry, key(What::Answer(answer.status, answered)), seen, config));
        }
        if row.after_expiry > 0 {
            let end = row.tls.as_ref().and_then(|tls| tls.not_after);
            let first = end.map_or(row.first, |end| row.first.max(end)).min(row.last);
            let seen = Seen {
                at: (first, row.last),
                count: row.after_expiry,
                says: format!("{} succeeded after the certificate's end", plural(row.after_expiry, "request")),
                server: row.server_name.as_deref(),
                client: None,
                doing: None,
                tainted: false,
            };
            keys.push(self.add(entry, key(What::AfterExpiry), seen, config));
        }
        keys
    }

    fn add(&mut self, entry: &Entry, key: FailureKey, seen: Seen<'_>, config: &Config) -> Counted {
        let start = seen.at.0.minute();
        if !self.keys.contains_key(&key) {
            self.by_what.entry((key.side, key.what)).or_default().insert(key.clone());
        }
        let minutes = self.keys.entry(key.clone()).or_default();
        minutes.1 = minutes.1.max(entry.stamp.tick);
        let before = minutes.0.range(..start).next_back().map(|(_, minute)| minute.last);
        let reached = before.is_some_and(|last| seen.at.0 <= last.plus_seconds(config.gap_seconds));
        let begins = !reached && !minutes.0.contains_key(&start);
        minutes.0.entry(start).or_insert_with(|| Minute::new(seen.at)).add(entry, seen);
        while minutes.0.len() > config.max_minutes {
            self.evicted += 1;
            minutes.shorten(config);
        }
        let newest = |minutes: &Minutes| minutes.0.values().next_back().map(|minute| minute.last);
        for (old, _) in crowd_out(&mut self.keys, config.max_failures, newest) {
            self.evicted += 1;
            self.forget(&old);
        }
        Counted { key, minute: start, begins }
    }

    /// Takes a key that is gone out of the index.
    fn forget(&mut self, key: &FailureKey) {
        if let Some(keys) = self.by_what.get_mut(&(key.side, key.what)) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_what.remove(&(key.side, key.what));
            }
        }
    }

    /// Keys of one side whose failure lies from `low` up to, and without, `high`.
    pub(crate) fn failing(&self, side: Side, low: What, high: What) -> impl Iterator<Item = &FailureKey> {
        self.by_what.range((side, low)..(side, high)).flat_map(|(_, keys)| keys)
    }

    /// Keys of one side of a source, of one peer or of all.
    pub(crate) fn of(&self, source: &SourceId, side: Side, peer: Option<&str>) -> impl Iterator<Item = &FailureKey> {
        let least = FailureKey {
            source: source.clone(),
            side,
            peer: peer.unwrap_or_default().into(),
            what: What::LEAST,
            code: None,
            alert: None,
            stream: false,
        };
        let exact = peer.is_some();
        let range = (Bound::Included(least.clone()), Bound::Unbounded);
        self.keys
            .range(range)
            .map(|(key, _)| key)
            .take_while(move |key| key.source == least.source && key.side == side && (!exact || key.peer == least.peer))
    }

    /// Stretches of a key's minutes without a longer pause, in order.
    pub(crate) fn spans(&self, key: &FailureKey, config: &Config) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (start, minute) in self.keys.get(key).into_iter().flat_map(|minutes| &minutes.0) {
            match spans.last_mut() {
                Some(open) if minute.first <= open.last.plus_seconds(config.gap_seconds) => {
                    open.last = open.last.max(minute.last);
                }
                _ => spans.push(Span { start: *start, first: minute.first, last: minute.last }),
            }
        }
        spans
    }

    /// The episode of a span.
    pub(crate) fn episode(&self, key: &FailureKey, span: Span) -> Episode {
        let mut episode = Episode {
            key: key.clone(),
            id: key.id(span.start),
            first: span.first,
            last: span.last,
            count: 0,
            samples: Vec::new(),
            servers: BTreeSet::new(),
            clients: BTreeSet::new(),
            doing: BTreeSet::new(),
            tainted: false,
        };
        for minute in self.minutes(key, span).map(|(_, minute)| minute) {
            episode.count += minute.count;
            episode.samples.extend(minute.samples.iter().map(|((at, ..), sample)| (*at, sample.clone())));
            episode.servers.extend(minute.servers.iter().cloned());
            episode.clients.extend(minute.clients.iter().cloned());
            episode.doing.extend(minute.doing.iter().cloned());
            episode.tainted |= minute.tainted;
        }
        episode
    }

    fn minutes(&self, key: &FailureKey, span: Span) -> impl Iterator<Item = (Time, &Minute)> {
        let minutes = self.keys.get(key).into_iter();
        minutes.flat_map(move |minutes| minutes.0.range(span.start..=span.last)).map(|(at, minute)| (*at, minute))
    }

    /// Episodes of a key that touch a stretch of time, give or take some seconds.
    pub(crate) fn overlapping(
        &self,
        key: &FailureKey,
        (first, last): (Time, Time),
        slack: i64,
        config: &Config,
    ) -> impl Iterator<Item = Episode> {
        let touches =
            move |span: &Span| span.first <= last.plus_seconds(slack) && first <= span.last.plus_seconds(slack);
        self.spans(key, config).into_iter().filter(touches).map(|span| self.episode(key, span))
    }

    /// Remembers that a record of an episode that begins in that minute was written.
    pub(crate) fn told(&mut self, key: &FailureKey, start: Time) {
        if let Some(minute) = self.keys.get_mut(key).and_then(|minutes| minutes.0.get_mut(&start)) {
            minute.told = true;
        }
    }

    /// Ids of records that were written of episodes that began inside of this one: they are one now.
    pub(crate) fn joined(&self, key: &FailureKey, span: Span) -> Vec<String> {
        let inside = self.minutes(key, span).filter(|(at, minute)| *at > span.start && minute.told);
        inside.map(|(at, _)| key.id(at)).collect()
    }

    /// Ledger milliseconds of the key's last failure.
    pub(crate) fn touched(&self, key: &FailureKey) -> u64 {
        self.keys.get(key).map_or(0, |minutes| minutes.1)
    }

    /// Forgets episodes that ended before `end`. An episode that goes on keeps its first minute, and so its id.
    pub(crate) fn age(&mut self, end: Time, config: &Config) {
        let keys: Vec<FailureKey> = self.keys.keys().cloned().collect();
        for key in keys {
            let spans = self.spans(&key, config);
            let Some(minutes) = self.keys.get_mut(&key) else { continue };
            for span in spans.into_iter().filter(|span| span.last < end) {
                minutes.0.retain(|at, _| *at < span.start || *at > span.last);
            }
            if minutes.0.is_empty() {
                self.keys.remove(&key);
                self.forget(&key);
            }
        }
    }
}

impl Minutes {
    /// One minute less. The first takes in the second, so that an episode that goes on keeps its id and its count; one
    /// that the second does not go on with is dropped.
    fn shorten(&mut self, config: &Config) {
        let Some((start, mut first)) = self.0.pop_first() else { return };
        let end = first.last.plus_seconds(config.gap_seconds);
        if let Some(second) = self.0.first_entry().filter(|second| second.get().first <= end) {
            first.join(second.remove());
            self.0.insert(start, first);
        }
    }
}

impl Minute {
    fn new((first, last): (Time, Time)) -> Self {
        Self {
            count: 0,
            first,
            last,
            samples: BTreeMap::new(),
            servers: BTreeSet::new(),
            clients: BTreeSet::new(),
            doing: BTreeSet::new(),
            tainted: false,
            told: false,
        }
    }

    fn add(&mut self, entry: &Entry, seen: Seen<'_>) {
        self.count += seen.count;
        self.first = self.first.min(seen.at.0);
        self.last = self.last.max(seen.at.1);
        self.samples.insert(Store::key(entry, seen.at.0), Sample { entry: entry.index, says: seen.says });
        self.drop_samples();
        for (set, value) in
            [(&mut self.servers, seen.server), (&mut self.clients, seen.client), (&mut self.doing, seen.doing)]
        {
            // Names for people and joins: that further ones are left out is no loss of a fact.
            add(set, value.map(Into::into), 4);
        }
        self.tainted |= seen.tainted;
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.samples.extend(other.samples);
        self.drop_samples();
        add(&mut self.servers, other.servers, 4);
        add(&mut self.clients, other.clients, 4);
        add(&mut self.doing, other.doing, 4);
        self.tainted |= other.tainted;
    }

    /// The first two and the last stay.
    fn drop_samples(&mut self) {
        while self.samples.len() > 3 {
            let middle = self.samples.keys().nth(2).cloned();
            middle.map(|key| self.samples.remove(&key));
        }
    }
}

impl FailureKey {
    /// The record id of an episode that begins in that minute.
    pub(crate) fn id(&self, minute: Time) -> String {
        let key = serde_json::to_vec(self).unwrap_or_default();
        record_id(&[b"handshake.failed", &key, minute.to_string().as_bytes()])
    }
}

impl Episode {
    /// The socket that the failing calls reached, when a line says so.
    pub(crate) fn socket(&self) -> Option<&str> {
        match self.key.side {
            Side::Client => Some(self.key.peer.as_str()).filter(|peer| !peer.is_empty()),
            Side::Server => self.servers.iter().map(String::as_str).find(|server| is_socket(server)),
        }
    }

    /// Both touch the same stretch of time, give or take some seconds.
    pub(crate) fn overlaps(&self, first: Time, last: Time, slack: i64) -> bool {
        self.first <= last.plus_seconds(slack) && first <= self.last.plus_seconds(slack)
    }
}

/// Statuses that say that a call failed, other than by the caller's own mistake.
fn matters(status: u16) -> bool {
    status >= 500 || matches!(status, 400 | 403 | 421 | 444 | 495 | 496 | 497 | 499)
}

/// `1 request`, `2 requests`.
pub(crate) fn plural(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Sixteen characters of Crockford's base 32: the first 80 bits of a hash, since an id that exists cannot be changed
/// any more, and two records of one id would hide each other.
pub(crate) fn record_id(parts: &[&[u8]]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = hash(parts).iter().take(10).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    (0..16).map(|i| char::from(DIGITS[usize::try_from(bits >> (75 - 5 * i) & 31).unwrap_or(0)])).collect()
}

/// A source as part of an id: its JSON, which keeps cluster, name and instance apart.
pub(crate) fn source_key(source: &SourceId) -> Vec<u8> {
    serde_json::to_vec(source).unwrap_or_default()
}
