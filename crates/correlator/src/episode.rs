//! Failures, folded into episodes: one kind of failure on one edge seen by one source, without a longer pause.
//!
//! Failures are counted per minute under a key that says only what the lines say. Episodes are computed from the
//! minutes, so the order of arrival cannot matter: a minute that arrives late lengthens an episode or joins two, and
//! the ids that no longer begin an episode are withdrawn.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Entry, SourceId, Time,
    edges::{Direction, EdgeRow},
    handshake::{Failure, Handshake, Layer, Side},
};
use serde::{Deserialize, Serialize};

use crate::{
    Config, pairs,
    store::{Key, Store, digest},
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
}

/// Failures by key and minute, and how many keys were dropped before their time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failures(#[serde(with = "pairs")] pub(crate) BTreeMap<FailureKey, Minutes>, pub(crate) u64);

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
    /// Counts an error line. The key it went under.
    pub(crate) fn line(&mut self, entry: &Entry, line: &Handshake, config: &Config) -> FailureKey {
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

    /// Counts what is a failure in a row of access lines. The keys they went under.
    pub(crate) fn row(&mut self, entry: &Entry, row: &EdgeRow, config: &Config) -> Vec<FailureKey> {
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

    fn add(&mut self, entry: &Entry, key: FailureKey, seen: Seen<'_>, config: &Config) -> FailureKey {
        let minutes = self.0.entry(key.clone()).or_default();
        minutes.1 = minutes.1.max(entry.stamp.tick);
        let minute = minutes.0.entry(seen.at.0.minute()).or_insert_with(|| Minute {
            count: 0,
            first: seen.at.0,
            last: seen.at.1,
            samples: BTreeMap::new(),
            servers: BTreeSet::new(),
            clients: BTreeSet::new(),
            doing: BTreeSet::new(),
            tainted: false,
        });
        minute.count += seen.count;
        minute.first = minute.first.min(seen.at.0);
        minute.last = minute.last.max(seen.at.1);
        minute.samples.insert(Store::key(entry, seen.at.0), Sample { entry: entry.index, says: seen.says });
        if minute.samples.len() > 3 {
            let middle = minute.samples.keys().nth(2).cloned();
            middle.map(|key| minute.samples.remove(&key));
        }
        for (set, value) in
            [(&mut minute.servers, seen.server), (&mut minute.clients, seen.client), (&mut minute.doing, seen.doing)]
        {
            if let Some(value) = value {
                set.insert(value.into());
                if set.len() > 4 {
                    set.pop_last();
                }
            }
        }
        minute.tainted |= seen.tainted;
        if self.0.len() > config.max_failures {
            let newest = |minutes: &Minutes| minutes.0.values().map(|minute| minute.last).max();
            let oldest = self.0.iter().min_by_key(|(key, minutes)| (newest(minutes), *key)).map(|(key, _)| key.clone());
            self.1 += u64::from(oldest.and_then(|key| self.0.remove(&key)).is_some());
        }
        key
    }

    /// Episodes of a key, in order.
    pub(crate) fn episodes(&self, key: &FailureKey, config: &Config) -> Vec<Episode> {
        let mut episodes: Vec<Episode> = Vec::new();
        for (start, minute) in self.0.get(key).into_iter().flat_map(|minutes| &minutes.0) {
            let joined = episodes.last_mut().filter(|open| minute.first <= open.last.plus_seconds(config.gap_seconds));
            let samples = minute.samples.iter().map(|((at, ..), sample)| (*at, sample.clone()));
            if let Some(open) = joined {
                open.last = open.last.max(minute.last);
                open.count += minute.count;
                open.samples.extend(samples);
                open.servers.extend(minute.servers.iter().cloned());
                open.clients.extend(minute.clients.iter().cloned());
                open.doing.extend(minute.doing.iter().cloned());
                open.tainted |= minute.tainted;
            } else {
                episodes.push(Episode {
                    key: key.clone(),
                    id: key.id(*start),
                    first: minute.first,
                    last: minute.last,
                    count: minute.count,
                    samples: samples.collect(),
                    servers: minute.servers.clone(),
                    clients: minute.clients.clone(),
                    doing: minute.doing.clone(),
                    tainted: minute.tainted,
                });
            }
        }
        episodes
    }

    /// Ledger milliseconds of the key's last failure.
    pub(crate) fn touched(&self, key: &FailureKey) -> u64 {
        self.0.get(key).map_or(0, |minutes| minutes.1)
    }

    /// Every id that a minute of this key would have if it began an episode, with its minute.
    pub(crate) fn ids(&self, key: &FailureKey) -> Vec<(Time, String)> {
        let minutes = self.0.get(key).into_iter().flat_map(|minutes| minutes.0.keys());
        minutes.map(|minute| (*minute, key.id(*minute))).collect()
    }

    /// Forgets episodes that ended before `end`. An episode that goes on keeps its first minute, and so its id.
    pub(crate) fn age(&mut self, end: Time, config: &Config) {
        let keys: Vec<FailureKey> = self.0.keys().cloned().collect();
        for key in keys {
            for episode in self.episodes(&key, config).iter().filter(|episode| episode.last < end) {
                let minutes = self.0.get_mut(&key);
                if let Some(minutes) = minutes {
                    minutes.0.retain(|at, _| *at < episode.first.minute() || *at > episode.last);
                }
            }
        }
        self.0.retain(|_, minutes| !minutes.0.is_empty());
    }
}

impl FailureKey {
    /// The record id of an episode that begins in that minute.
    fn id(&self, minute: Time) -> String {
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

/// Eight characters of Crockford's base 32 out of a hash.
pub(crate) fn record_id(parts: &[&[u8]]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let hash = digest(parts);
    (0..8).map(|i| char::from(DIGITS[usize::try_from(hash >> (59 - 5 * i) & 31).unwrap_or(0)])).collect()
}
