//! `handshake.failed`: episodes become records.

use std::collections::BTreeSet;

use model::{
    Grade, SourceId, Time,
    edges::Direction,
    handshake::{Failure, Side},
    identity::SourceKind,
    record::{
        Cause, CauseFinding, Detail, Endpoint, Evidence, HandshakeDetail, Link, LinkKind, Missing, RecordKind, Role,
    },
};

use crate::{
    Config,
    book::Draft,
    causes,
    episode::{Episode, FailureKey, Failures, What, plural},
    finding::{Case, Finding},
    links,
    runs::Runs,
    store::Store,
    topology::{Upstream, host, same_unit, service},
};

/// What the fold holds, as the evaluation reads it.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) store: &'a Store,
    pub(crate) failures: &'a Failures,
    pub(crate) runs: &'a Runs,
    pub(crate) config: &'a Config,
    /// Ledger milliseconds now.
    pub(crate) tick: u64,
}

/// An episode's record, or the record that tells the same failures already.
pub(crate) enum Told {
    /// It has its own record.
    Own(Box<Draft>),
    /// Another says it better: its id.
    By(String, Box<Draft>),
}

impl World<'_> {
    /// Both ends of an episode.
    pub(crate) fn ends(&self, episode: &Episode) -> (Endpoint, Endpoint) {
        let key = &episode.key;
        let at = episode.first;
        let mut own = self.store.endpoint_of(&key.source, at);
        // The server name of the very calls says more than the source's name.
        let served = episode.servers.iter().find_map(|server| service(server));
        let upstream = self.store.upstream(episode);
        let called = key.side == Side::Server || upstream == Some(Upstream::OwnApplication);
        if let Some((name, namespace)) = served.filter(|_| called && own.by == "source name" && !own.name.contains('/'))
        {
            own.name = format!("{namespace}/{name}");
            own.by = "server name".into();
        }
        if let Some(socket) = episode.socket().filter(|_| key.side == Side::Server) {
            own.address = own.address.or_else(|| Some(host(socket).to_owned()));
        }
        let peer = if key.peer.is_empty() {
            Endpoint { name: "?".into(), by: "not in the line".into(), ..Endpoint::default() }
        } else {
            let mut peer = self.store.endpoint_at(&key.peer, at);
            let unnamed = key.side == Side::Client && peer.by == "address";
            if let Some(name) = unnamed.then(|| self.retried(episode)).flatten() {
                // The access line of a retried request names the upstream group; its last address is another one.
                peer = Endpoint { name, grade: Grade::Inferred, by: "upstream that was tried again".into(), ..peer };
            }
            peer
        };
        match key.side {
            Side::Server => (peer, own),
            Side::Client if upstream == Some(Upstream::OwnApplication) => {
                // The edge is the one that the request came in by; the application has no end of its own.
                let mut callers = episode.clients.iter();
                let from = match (callers.next(), callers.next()) {
                    (Some(only), None) => self.store.endpoint_at(only, at),
                    _ => Endpoint { name: "?".into(), by: "several callers".into(), ..Endpoint::default() },
                };
                (from, Endpoint { address: own.address.or_else(|| Some(host(&key.peer).to_owned())), ..own })
            }
            Side::Client => (own, peer),
        }
    }

    /// The name of the only upstream group that requests of this source were retried in during the episode.
    fn retried(&self, episode: &Episode) -> Option<String> {
        let mut names = BTreeSet::new();
        for log in self.store.siblings(&episode.key.source, SourceKind::NginxAccess) {
            for (peer, calls) in self.store.calls_of(&log, Direction::Out) {
                if calls.retried.is_some_and(|(first, last)| episode.overlaps(first, last, 5)) {
                    names.insert(self.store.endpoint_at(peer, episode.first).name);
                }
            }
        }
        names.pop_first().filter(|_| names.is_empty())
    }

    /// What is to be said of an episode.
    pub(crate) fn tell(&self, episode: &Episode) -> Told {
        let (from, to) = self.ends(episode);
        let by = self.explained(episode).or_else(|| self.told_by(episode, &from, &to));
        let case = Case { store: self.store, config: self.config, episode, from: &from, to: &to };
        let finding = causes::judge(&case);
        let draft = Box::new(self.draft(episode, &from, &to, finding));
        match by {
            Some(id) => Told::By(id, draft),
            None => Told::Own(draft),
        }
    }

    /// Error lines of the same NGINX account for these answers: the id of their record.
    pub(crate) fn explained(&self, episode: &Episode) -> Option<String> {
        let What::Answer(status, _) = episode.key.what else { return None };
        let side = match (episode.key.side, status) {
            (Side::Server, 400 | 421 | 495..=497) => Side::Server,
            (Side::Server, 500) if episode.key.stream => Side::Server,
            (_, 502 | 504) => Side::Client,
            _ => return None,
        };
        let log = SourceId { kind: SourceKind::NginxError, ..episode.key.source.clone() };
        let same = side == episode.key.side;
        let mut explaining = self.lines(&log, side, Some(episode.key.peer.as_str()).filter(|_| same), episode);
        explaining.find(|other| same || other.clients.contains(&episode.key.peer)).map(|other| other.id)
    }

    /// Episodes of error lines of a log that overlap in time.
    fn lines(
        &self,
        log: &SourceId,
        side: Side,
        peer: Option<&str>,
        episode: &Episode,
    ) -> impl Iterator<Item = Episode> {
        let keys = self.failures.of(log, side, peer);
        let keys = keys.filter(|key| matches!(key.what, What::Line(_)) && **key != episode.key);
        let span = (episode.first, episode.last);
        keys.flat_map(move |key| self.failures.overlapping(key, span, 2, self.config))
    }

    /// The record of the other end that says more about the same failures.
    fn told_by(&self, episode: &Episode, from: &Endpoint, to: &Endpoint) -> Option<String> {
        let key = &episode.key;
        let (low, high) = What::LINES;
        let of = |side, low, high| self.failures.failing(side, low, high);
        let refused = |key: &&FailureKey| matches!(key.what, What::Line(failure) if refuses(failure));
        let keys: Vec<&FailureKey> = match (key.what, key.side) {
            (What::Answer(status, _), Side::Client) => {
                let lines = of(Side::Server, low, high).filter(|_| status == 400).filter(refused);
                let answers =
                    of(Side::Server, What::Answer(status, false), What::Answer(status.saturating_add(1), false));
                lines.chain(answers).chain(of(Side::Client, low, high).filter(|_| status >= 500)).collect()
            }
            (What::Answer(499, _), Side::Server) => {
                let timed_out = What::Line(Failure::UpstreamTimedOut);
                of(Side::Client, low, high).filter(|key| key.what == timed_out).collect()
            }
            (What::Line(Failure::ClosedBeforeRequest), Side::Server) => of(Side::Client, low, high).collect(),
            _ => return None,
        };
        let keys = keys.into_iter().filter(|other| !same_unit(&other.source, &key.source));
        let span = (episode.first, episode.last);
        let mut best: Option<(Time, String)> = None;
        for other in keys.flat_map(|key| self.failures.overlapping(key, span, 3, self.config)) {
            // One that its own NGINX's lines explain has no record to point to.
            if self.explained(&other).is_some() {
                continue;
            }
            let (other_from, other_to) = self.ends(&other);
            let socket = episode.socket().zip(other.socket()).map(|(a, b)| a == b);
            let own_application = self.store.upstream(&other) == Some(Upstream::OwnApplication);
            let same = same_end(&other_from, from)
                && socket.filter(|_| !own_application).unwrap_or_else(|| same_end(&other_to, to));
            if same && best.as_ref().is_none_or(|(first, id)| (other.first, &other.id) < (*first, id)) {
                best = Some((other.first, other.id));
            }
        }
        best.map(|(_, id)| id)
    }

    fn draft(&self, episode: &Episode, from: &Endpoint, to: &Endpoint, mut finding: Finding) -> Draft {
        let key = &episode.key;
        let mut evidence: Vec<Evidence> = Vec::new();
        for (n, (at, sample)) in episode.samples.iter().enumerate() {
            if n < 3 || n + 2 > episode.samples.len() {
                let (entry, says) = (sample.entry, sample.says.clone());
                evidence.push(Evidence { entry, at: *at, role: Role::Supports, says, times: None });
            }
        }
        if let Some(first) = evidence.first_mut() {
            first.times = (episode.count > 1).then_some(episode.count);
        }
        evidence.append(&mut finding.evidence);
        finding.asked.insert(key.source.clone());
        if finding.cause.word == Cause::ApplicationError && key.side == Side::Server {
            evidence.extend(self.behind_it(episode));
        }
        let mut links: Vec<Link> = Vec::new();
        if let Some(known) = &finding.identity {
            links.push(Link {
                what: LinkKind::Identity,
                target: Some(known.spiffe_id.clone()),
                uid: None,
                grade: known.grade,
                via: known.by.into(),
                entries: known.entries.clone(),
                candidates: None,
                missing: Vec::new(),
            });
        }
        let whose = concerned(finding.cause.word, key.side);
        let end = if whose == Side::Client { from } else { to };
        links.extend(links::behind(self.store, self.runs, &key.source.cluster, end, episode.first));
        let span = (episode.first, episode.last);
        links.extend(links::fixed_by(
            self.store,
            self.runs,
            &key.source.cluster,
            [from, to],
            finding.agent.as_ref(),
            span,
        ));
        if !self.hidden_edges(episode).is_empty() {
            let what = format!("calls behind {}: none were made while this failed", to.name);
            finding
                .missing
                .push(Missing { what, source: "nothing: a failure of one edge hides those behind it".into() });
        }
        let settled = self.settled(episode, &finding.asked);
        let summary = summary(episode, from, to, &finding.cause);
        let detail = HandshakeDetail {
            source: key.source.clone(),
            side: key.side.as_str().into(),
            layer: layer(key.what, finding.cause.word).into(),
            failure: key.what.word(),
            verify_code: if key.what == What::Line(Failure::VerifyFailed) { key.code } else { None },
            alert: key.alert,
            stream: key.stream,
            from: from.clone(),
            to: to.clone(),
            peer: key.peer.clone(),
            tainted: episode.tainted,
        };
        Draft {
            id: episode.id.clone(),
            kind: RecordKind::HandshakeFailed,
            from: episode.first,
            to: episode.last,
            count: episode.count,
            summary,
            detail: Detail::Handshake(Box::new(detail)),
            cause: Some(finding.cause),
            links,
            evidence,
            missing: finding.missing,
            settled,
        }
    }

    /// Calls of the same workload that failed meanwhile: an application answers errors when what it calls fails.
    fn behind_it(&self, episode: &Episode) -> Vec<Evidence> {
        let log = SourceId { kind: SourceKind::NginxError, ..episode.key.source.clone() };
        let failing = self.lines(&log, Side::Client, None, episode);
        let failing = failing.filter(|other| self.store.upstream(other) == Some(Upstream::Peer));
        let line = |other: Episode| {
            let (at, sample) = other.samples.into_iter().next()?;
            let says = format!("its own calls to {} fail meanwhile, see {}", other.key.peer, other.id);
            Some(Evidence { entry: sample.entry, at, role: Role::Context, says, times: None })
        };
        failing.filter_map(line).take(3).collect()
    }

    /// Edges that the called side had before the episode and did not use during it.
    fn hidden_edges(&self, episode: &Episode) -> BTreeSet<String> {
        let mut hidden = BTreeSet::new();
        if episode.key.side != Side::Server || episode.last - episode.first < 10 * model::time::SECOND {
            return hidden;
        }
        for log in self.store.siblings(&episode.key.source, SourceKind::NginxAccess) {
            for (peer, calls) in self.store.calls_of(&log, Direction::Out) {
                let quiet = calls.first < episode.first && calls.last < episode.first.plus_seconds(2);
                if quiet && calls.last >= episode.first.plus_seconds(-60) {
                    hidden.insert(peer.to_owned());
                }
            }
        }
        hidden
    }

    /// `None` while a source that could change the record has not passed its window.
    fn settled(&self, episode: &Episode, asked: &BTreeSet<SourceId>) -> Option<Vec<String>> {
        let end = episode.last.plus_seconds(self.config.gap_seconds);
        let behind: Vec<String> = asked
            .iter()
            .filter(|source| {
                self.store.sources.get(*source).and_then(|known| known.complete_to).is_none_or(|mark| mark < end)
            })
            .map(ToString::to_string)
            .collect();
        if behind.is_empty() {
            return Some(Vec::new());
        }
        let waited = self.tick.saturating_sub(self.failures.touched(&episode.key)) >= self.config.settle_ms;
        waited.then_some(behind)
    }
}

/// One sentence: who called whom, why it failed, or what the line says when why is not known.
fn summary(episode: &Episode, from: &Endpoint, to: &Endpoint, cause: &CauseFinding) -> String {
    let key = &episode.key;
    let verb = if key.what == What::AfterExpiry { "goes on after the certificate's end" } else { "fails" };
    let said = episode.samples.first().map(|(_, sample)| sample.says.split(" while ").next().unwrap_or_default());
    let why = match said {
        Some(said) if cause.word == Cause::Undetermined => format!("{said}; why is {}", cause.word),
        _ => format!("{} ({})", cause.word, cause.standing.as_str()),
    };
    let calls = plural(episode.count, if key.stream { "connection" } else { "call" });
    let seconds = (episode.last - episode.first) / model::time::SECOND;
    format!("{} -> {} {verb}: {why}, {calls} in {seconds} s", from.name, to.name)
}

/// A word for how far the calls came.
fn layer(what: What, cause: Cause) -> &'static str {
    match (what, cause) {
        (_, Cause::WrongIdentity) => "policy",
        (_, Cause::UpstreamDown) => "connection",
        (_, Cause::ApplicationDown | Cause::ApplicationError | Cause::ApplicationTimeout | Cause::ClientGaveUp)
        | (What::Answer(..) | What::Line(Failure::UpstreamTimedOut | Failure::UpstreamClosed), _) => "application",
        (What::Line(Failure::ConnectFailed), _) => "connection",
        _ => "tls",
    }
}

/// Lines by which a called NGINX refuses with status 400.
const fn refuses(failure: Failure) -> bool {
    matches!(failure, Failure::VerifyFailed | Failure::NoCertificate | Failure::PlainHttp | Failure::NotHttp)
}

/// Whose workload a cause is about.
const fn concerned(cause: Cause, side: Side) -> Side {
    match cause {
        Cause::ApplicationDown
        | Cause::ApplicationError
        | Cause::ApplicationTimeout
        | Cause::UpstreamDown
        | Cause::UpstreamSilent
        | Cause::UpstreamPlaintext
        | Cause::NameMismatch
        | Cause::BundleServerSide => Side::Server,
        Cause::WrongIdentity | Cause::NoCertificateConfiguration | Cause::BundleClientSide => Side::Client,
        // A certificate refused by the server is the client's, and the other way round.
        _ => match side {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        },
    }
}

/// Both name the same end, as far as both are known.
fn same_end(a: &Endpoint, b: &Endpoint) -> bool {
    match (&a.address, &b.address) {
        (Some(a), Some(b)) if !crate::topology::is_local(a) && !crate::topology::is_local(b) => a == b,
        _ if a.spiffe_id.is_some() && a.spiffe_id == b.spiffe_id => true,
        _ => {
            let tail = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
            let both = a.name.contains('/') && b.name.contains('/');
            if both { a.name == b.name } else { tail(&a.name) == tail(&b.name) }
        }
    }
}
