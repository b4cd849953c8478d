//! What senders may reach: CloudEvents at `/` and `/events`, lines at `/logs/{format}`.
//!
//! A 2xx means: on disk at a fixed index. 503 means: come again. Tekton gives an event up at once on 400, 401, 403,
//! 405 and 500, turns a 301 into a GET without a body and takes its answer for success, and repeats a 413 eleven
//! times; so whatever Tekton may send is taken and kept, understood or not, and the only other answers are 401, 403,
//! 405, 413 and 431 for what is no delivery.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_ENCODING, request::Parts};
use ingest::{
    Context, Draft,
    lines::{Format, Start},
};
use ledger::{Lane, Receipt};
use model::{
    Fact, SourceId, Text, Time,
    identity::{DEFAULT_CLUSTER, Declared, SourceKind, Submitter},
    own::Opaque,
};

use crate::{
    body::{self, Inflated, NotTaken},
    budget::{Budget, Held},
    config,
    desk::{Arrival, Desk, NotKept},
    door::{Door, Refused},
    lines,
    problem::Problem,
    serve::listener::Peer,
};

/// Shared by all requests.
pub struct Intake {
    desk: Arc<Desk>,
    door: Door,
    budget: Budget,
    config: config::Intake,
    /// Requests seen; names the post in logs.
    seen: AtomicU64,
}

impl Intake {
    /// Reads the secrets of the door.
    pub fn new(config: config::Intake, desk: Arc<Desk>) -> anyhow::Result<Self> {
        let door = Door::open(&config)?;
        Ok(Self { desk, door, budget: Budget::new(config.memory_bytes), config, seen: AtomicU64::new(0) })
    }

    /// The routes. One handler: the path grammar is small, and a delivery on a path that nobody thought of must not
    /// be lost to a 404.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().fallback(handle).with_state(self)
    }
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
struct Route<'a> {
    /// `/t/{token}`.
    token: Option<&'a str>,
    /// `/c/{cluster}`.
    cluster: &'a str,
    to: To<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum To<'a> {
    /// `/` or `/events`.
    Events,
    /// `/logs/{format}`.
    Lines(&'a str),
    /// Anything else.
    Elsewhere,
}

/// Reads `[/t/{token}][/c/{cluster}](/ | /events | /logs/{format})`.
fn route(path: &str) -> Route<'_> {
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    let mut take = |prefix: &str| {
        let tail = rest.strip_prefix(prefix)?;
        let (value, tail) = tail.split_once('/').unwrap_or((tail, ""));
        (!value.is_empty()).then(|| {
            rest = tail;
            value
        })
    };
    let token = take("t/");
    let cluster = take("c/").filter(|c| is_name(c)).unwrap_or(DEFAULT_CLUSTER);
    let to = match rest {
        "" | "events" | "events/" => To::Events,
        _ => match rest.strip_prefix("logs/") {
            Some(format) => To::Lines(format.trim_end_matches('/')),
            None => To::Elsewhere,
        },
    };
    Route { token, cluster, to }
}

/// A name that may stand in a leaf as given: 1 to 128 printable characters without spaces and quotes.
fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'))
}

async fn handle(State(intake): State<Arc<Intake>>, Extension(peer): Extension<Peer>, request: Request) -> Response {
    intake.seen.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    match intake.take(&parts, body, peer).await {
        Ok(receipt) => accepted(&receipt),
        Err(problem) => problem.into_response(),
    }
}

/// 202 without a body (a Knative broker takes any other body for a CloudEvent) and with the entries.
fn accepted(receipt: &Receipt) -> Response {
    let mut response = StatusCode::ACCEPTED.into_response();
    let entries = if receipt.first == receipt.last {
        receipt.first.to_string()
    } else {
        format!("{}-{}", receipt.first, receipt.last)
    };
    if let Ok(value) = HeaderValue::from_str(&entries) {
        response.headers_mut().insert("counterfoil-entry", value);
    }
    response
}

impl Intake {
    async fn take(&self, parts: &Parts, body: Body, peer: Peer) -> Result<Receipt, Problem> {
        let path = parts.uri.path();
        let route = route(path);
        if parts.method != Method::POST {
            return Err(self.not_a_post(parts));
        }
        let submitter = self.door.admit(route.token, &parts.headers, peer.0.ip()).map_err(|refused| {
            self.desk.metrics.refuse(match refused {
                Refused::Credentials => "credentials",
                Refused::Token => "token",
            });
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Not let in")
                .hint("present the configured path token (/t/TOKEN/…) or HTTP Basic user")
        })?;
        if self.desk.ledger().is_none() {
            self.desk.metrics.refuse("starting");
            return Err(Problem::busy("the ledger is not open yet"));
        }
        match route.to {
            To::Lines(format) => self.lines(parts, body, format, route.cluster, submitter).await,
            To::Events => self.events(parts, body, route.cluster, submitter).await,
            // A sink address with a path of its own is still a sink: losing its events would be worse.
            To::Elsewhere if is_event(&parts.headers) => self.events(parts, body, route.cluster, submitter).await,
            To::Elsewhere => {
                self.desk.metrics.refuse("path");
                Err(Problem::new(StatusCode::FORBIDDEN, "no-such-intake", "Nothing is taken in here")
                    .detail(format!("POST {path}"))
                    .hint("CloudEvents go to / or /events, lines to /logs/{format}?source=NAME"))
            }
        }
    }

    fn not_a_post(&self, parts: &Parts) -> Problem {
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not-a-post", "Only POST is taken in");
        if parts.headers.contains_key("ce-id") || parts.headers.contains_key("ce-type") {
            self.desk.metrics.refuse("redirected_delivery");
            tracing::warn!(
                method = %parts.method,
                path = parts.uri.path(),
                "a delivery arrived without its body: something before us answered it with a redirect (301, 302 or \
                 303); point the sink at the final address"
            );
            return problem
                .detail("a CloudEvent's headers came without its body")
                .hint("something on the way redirected the POST; point Tekton's sink at the final address");
        }
        self.desk.metrics.refuse("method");
        problem.detail(format!("{} {}", parts.method, parts.uri.path()))
    }

    async fn read(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<body::Taken, Problem> {
        let stall = Duration::from_secs(self.config.read_timeout_seconds);
        let taken = body::read(headers, body, limit, &self.budget, stall).await;
        taken.map_err(|why| self.not_taken(why, limit))
    }

    fn not_taken(&self, why: NotTaken, limit: usize) -> Problem {
        match why {
            NotTaken::TooLarge => {
                self.desk.metrics.refuse("too_large");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large")
                    .detail(format!("at most {limit} bytes are taken"))
                    .hint("raise intake.max_event_bytes or intake.max_lines_bytes, or send less at once")
            }
            NotTaken::Busy => {
                self.desk.metrics.refuse("memory");
                self.desk.metrics.limit("intake_memory");
                Problem::busy("the memory for bodies is used up")
            }
            NotTaken::Broken => {
                self.desk.metrics.refuse("broken_body");
                Problem::busy("the body ended early or stalled")
            }
        }
    }

    async fn events(&self, parts: &Parts, body: Body, cluster: &str, submitter: Submitter) -> Result<Receipt, Problem> {
        let taken = self.read(&parts.headers, body, self.config.max_event_bytes).await?;
        let begun = Instant::now();
        let raw = ingest::cloudevents::payload(&parts.headers, &taken.bytes);
        let (kept, redacted) = self.desk.redactor.redact(&raw);
        let source = SourceId {
            cluster: cluster.to_owned(),
            kind: SourceKind::CloudEvents,
            name: source_name(parts).unwrap_or_else(|| event_source(&parts.headers).to_owned()),
            instance: String::new(),
        };
        let declared = Declared::default();
        let observed_at = now();
        let context = Context {
            source: &source,
            declared: &declared,
            zone: chrono_tz::UTC,
            observed_at,
            persons: &self.desk.persons,
        };
        let (mut drafts, mut persons) = (Vec::new(), Vec::new());
        match &kept {
            // What was redacted must not reach a leaf either, so the fact is read from what is kept.
            Cow::Owned(kept) => match ingest::cloudevents::read_payload(kept) {
                Some((headers, body)) => ingest::cloudevents::read(&headers, body, &context, &mut drafts, &mut persons),
                None => drafts.push(unreadable(kept)),
            },
            Cow::Borrowed(_) => {
                ingest::cloudevents::read(&parts.headers, &taken.bytes, &context, &mut drafts, &mut persons);
            }
        }
        self.desk.note_people(persons);
        self.count_opaque(&source, &drafts);
        let payload = match kept {
            Cow::Borrowed(_) => raw,
            Cow::Owned(kept) => kept,
        };
        self.desk.watermarks.update(&source, |mark| mark.newest = mark.newest.max(Some(observed_at)));
        let arrival = Arrival {
            source,
            declared,
            observed_at,
            submitter,
            payload: Some((payload, "events")),
            redacted,
            drafts,
            position: None,
        };
        self.keep(Lane::Push, arrival, taken.held, begun).await
    }

    async fn lines(
        &self,
        parts: &Parts,
        body: Body,
        format: &str,
        cluster: &str,
        submitter: Submitter,
    ) -> Result<Receipt, Problem> {
        let (post, format) = self.post(parts, format, cluster)?;
        let mut taken = self.read(&parts.headers, body, self.config.max_lines_bytes).await?;
        let begun = Instant::now();
        let gzip = parts.headers.get(CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let bytes = if gzip {
            match body::inflate(&taken.bytes, self.config.max_lines_bytes, &mut taken.held)
                .map_err(|why| self.not_taken(why, self.config.max_lines_bytes))?
            {
                Inflated::Whole(bytes) => Bytes::from(bytes),
                Inflated::Damaged(error) => return self.damaged(post, submitter, taken, error, begun).await,
            }
        } else {
            taken.bytes
        };
        let start = Start::Post { digest: lines::digest(&bytes), line: 1 };
        let mut whole: Option<Receipt> = None;
        // Each piece is one append; a repeat after a failure in the middle has the same keys and is recognised.
        for piece in lines::pieces(&format, &bytes, start) {
            let source = lines::Source { id: &post.source, declared: &post.declared, zone: post.zone, format: &format };
            let last = piece.last;
            let complete_to = post.complete_to.filter(|_| last);
            let arrival = lines::arrival(&self.desk, &source, &piece, complete_to, now(), submitter.clone());
            self.count_opaque(&post.source, &arrival.drafts);
            let held = self.budget.take(0).ok_or_else(|| self.not_taken(NotTaken::Busy, 0))?;
            let receipt = self.keep(Lane::Pull, arrival, held, begun).await?;
            whole = Some(match whole {
                None => receipt,
                Some(before) => Receipt { first: before.first, ..receipt },
            });
        }
        drop(taken.held);
        whole.ok_or_else(|| Problem::busy("nothing was written")) // `pieces` gives at least one
    }

    /// A body that says gzip and is not: kept as received.
    async fn damaged(
        &self,
        post: Post,
        submitter: Submitter,
        taken: body::Taken,
        error: String,
        begun: Instant,
    ) -> Result<Receipt, Problem> {
        let opaque = Opaque {
            reason: "bad_gzip".into(),
            detail: error,
            event_type: None,
            head: Text::new(&taken.bytes[..taken.bytes.len().min(32)]),
        };
        let arrival = Arrival {
            source: post.source,
            declared: post.declared,
            observed_at: now(),
            submitter,
            payload: Some((taken.bytes.to_vec(), "lines")),
            redacted: Vec::new(),
            drafts: vec![Draft { place: None, parser: "lines/1", fact: Fact::Opaque(opaque), cut: Vec::new() }],
            position: None,
        };
        self.count_opaque(&arrival.source, &arrival.drafts);
        self.keep(Lane::Pull, arrival, taken.held, begun).await
    }

    fn post(&self, parts: &Parts, format: &str, cluster: &str) -> Result<(Post, Format), Problem> {
        let bad = |detail: String, hint: &str| {
            self.desk.metrics.refuse("parameter");
            Problem::new(StatusCode::FORBIDDEN, "bad-parameter", "The address is wrong").detail(detail).hint(hint)
        };
        let query = Query::of(parts);
        let kind = SourceKind::from_format(format).ok_or_else(|| {
            let known: Vec<_> = SourceKind::LINES.iter().map(|k| k.as_str()).collect();
            bad(format!("no format is called {format:?}"), &format!("formats: {}", known.join(", ")))
        })?;
        let zone = config::zone_of(query.get("zone")).map_err(|e| bad(e.to_string(), "?zone=Europe/Berlin"))?;
        let complete_to = query.get("complete_to").map(str::parse::<Time>).transpose();
        let complete_to = complete_to.map_err(|e| bad(e, "?complete_to=2026-11-23T15:20:59Z"))?;
        let format = lines::format(kind, query.get("log_format")).map_err(|e| {
            bad(format!("{e:#}"), "?log_format= takes the string of NGINX's log_format, percent-encoded")
        })?;
        let name = query.get("source").map_or_else(|| Ok("unnamed"), |n| if is_name(n) { Ok(n) } else { Err(n) });
        let name = name.map_err(|n| bad(format!("source={n:?}"), "a name has 1 to 128 printable characters"))?;
        let source = SourceId {
            cluster: cluster.to_owned(),
            kind,
            name: name.to_owned(),
            instance: query.get("instance").unwrap_or_default().to_owned(),
        };
        let text = |key: &str| query.get(key).map(ToOwned::to_owned);
        let declared = Declared {
            namespace: text("namespace"),
            workload: text("workload"),
            node: text("node"),
            zone: text("zone"),
        };
        Ok((Post { source, declared, zone, complete_to }, format))
    }

    fn count_opaque(&self, source: &SourceId, drafts: &[Draft]) {
        let opaque = drafts.iter().filter(|d| matches!(d.fact, Fact::Opaque(_))).count() as u64;
        if opaque > 0 {
            let label = crate::metrics::Format { format: source.kind.as_str() };
            self.desk.metrics.opaque.get_or_create(&label).inc_by(opaque);
        }
    }

    /// Waits for the disk. The budget is held until then: the bytes are in memory as long.
    async fn keep(&self, lane: Lane, arrival: Arrival, held: Held, begun: Instant) -> Result<Receipt, Problem> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.desk.submit(lane, arrival, move |result| {
            drop(held);
            let _ = sender.send(result); // a sender that hung up does not hear it; the entry stands
        });
        let result = receiver.await.unwrap_or_else(|_| Err(NotKept::Own("the ledger dropped an append".into())));
        self.desk.metrics.ack_seconds.observe(begun.elapsed().as_secs_f64());
        result.map_err(|why| {
            self.desk.metrics.refuse(match &why {
                NotKept::Starting => "starting",
                NotKept::Ledger(ledger::AppendError::Busy(_)) => "ledger_busy",
                NotKept::Ledger(_) | NotKept::Own(_) => "ledger_failed",
            });
            Problem::busy(why.to_string())
        })
    }
}

/// A post of lines, as its address describes it.
struct Post {
    source: SourceId,
    declared: Declared,
    zone: chrono_tz::Tz,
    complete_to: Option<Time>,
}

/// Decoded query parameters.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let query: Result<axum::extract::Query<Vec<(String, String)>>, _> =
            axum::extract::Query::try_from_uri(&parts.uri);
        Self(query.map(|q| q.0).unwrap_or_default())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
    }
}

fn source_name(parts: &Parts) -> Option<String> {
    Query::of(parts).get("source").filter(|n| is_name(n)).map(ToOwned::to_owned)
}

fn is_event(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-type")
        || headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().to_ascii_lowercase().starts_with(b"application/cloudevents"))
}

/// The source of deliveries that name none: one for Tekton, one for all others.
fn event_source(headers: &HeaderMap) -> &'static str {
    match headers.get("ce-type") {
        Some(kind) if !kind.as_bytes().starts_with(b"dev.tekton.") => "cloudevents",
        _ => "tekton",
    }
}

/// A delivery whose headers cannot be read back after redaction: kept, not understood.
fn unreadable(kept: &[u8]) -> Draft {
    let opaque = Opaque {
        reason: "unreadable_after_redaction".into(),
        detail: String::new(),
        event_type: None,
        head: Text::new(&kept[..kept.len().min(256)]),
    };
    Draft { place: None, parser: "cloudevents/1", fact: Fact::Opaque(opaque), cut: Vec::new() }
}

/// The wall clock.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Microseconds are enough for us and shorter to read.
    Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 1000) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, token, cluster, to) in [
            ("/", None, "default", To::Events),
            ("/events", None, "default", To::Events),
            ("/c/prod-eu", None, "prod-eu", To::Events),
            ("/c/prod-eu/", None, "prod-eu", To::Events),
            ("/c/prod-eu/events", None, "prod-eu", To::Events),
            ("/t/s3cret/c/prod/logs/spire", Some("s3cret"), "prod", To::Lines("spire")),
            ("/logs/nginx-error", None, "default", To::Lines("nginx-error")),
            ("/tekton/sink", None, "default", To::Elsewhere),
        ] {
            assert_eq!(route(path), Route { token, cluster, to }, "{path}");
        }
    }
}
