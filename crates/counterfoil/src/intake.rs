//! What senders may reach: CloudEvents at `/` and `/events`, lines at `/logs/{format}`.
//!
//! A 2xx means: on disk at a fixed index. 503 means: come again. Tekton gives an event up at once on 400, 401, 403,
//! 405 and 500, turns a 301 into a GET without a body and takes its answer for success, and repeats a 413 eleven
//! times; so whatever Tekton may send is taken and kept, understood or not, and the only other answers are 401, 403,
//! 405, 413 for what is no delivery, and the HTTP library's 400 and 431 for what is no HTTP request.

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::CONTENT_ENCODING, request::Parts};
use hyper::service::{Service, service_fn};
use ingest::{
    Context, Draft,
    lines::{Format, Start},
};
use ledger::{AppendError, Lane, Receipt};
use model::{
    Fact, SourceId, Text, Time,
    identity::{Declared, SourceKind, Submitter},
    own::Opaque,
};

use crate::{
    body::{self, Inflated, NotTaken},
    budget::{Budget, Held},
    config,
    desk::{Arrival, Desk, NotKept, Reached},
    door::{Door, Refused},
    lines,
    problem::Problem,
    route::{To, is_name, route, shown},
    serve::listener::Peer,
};

/// Bytes that one stretch of lines needs while it is parsed and queued, beside the body.
const WORKING_SET: usize = 3 * lines::PIECE;

/// Shared by all requests.
pub struct Intake {
    desk: Arc<Desk>,
    door: Door,
    /// Bodies of events, and bodies of lines: lines can wait, so they never take what events need.
    events: Budget,
    lines: Budget,
    config: config::Intake,
}

impl Intake {
    /// Reads the secrets of the door.
    pub fn new(config: config::Intake, desk: Arc<Desk>) -> anyhow::Result<Self> {
        let door = Door::open(&config)?;
        let events = config.memory_bytes / 4;
        let lines = config.memory_bytes - events;
        Ok(Self { desk, door, events: Budget::new(events), lines: Budget::new(lines), config })
    }

    /// The service of one connection. One handler: the path grammar is small, and a delivery on a path that nobody
    /// thought of must not be lost to a 404.
    pub fn service(
        self: &Arc<Self>,
        peer: Peer,
    ) -> impl Service<Request<Body>, Response = Response, Error = Infallible, Future: Send> + use<> {
        let intake = Arc::clone(self);
        service_fn(move |request: Request<Body>| {
            let intake = Arc::clone(&intake);
            async move { Ok(intake.handle(request, peer).await) }
        })
    }

    /// Answers one request.
    #[tracing::instrument(name = "intake", level = "debug", skip_all)]
    pub async fn handle(&self, request: Request<Body>, peer: Peer) -> Response {
        let (parts, body) = request.into_parts();
        let mut body = Some(body);
        let result = self.take(&parts, &mut body, peer).await;
        if let Some(unread) = body {
            body::drain(unread).await;
        }
        match result {
            Ok(receipt) => accepted(&receipt),
            Err(problem) => problem.into_response(),
        }
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
    /// Takes the body only when it reads it; what is refused before is drained by the caller.
    async fn take(&self, parts: &Parts, body: &mut Option<Body>, peer: Peer) -> Result<Receipt, Problem> {
        let path = shown(parts.uri.path());
        let route = route(parts.uri.path());
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
        // Events of a cluster whose name cannot stand in a leaf are kept, apart from all that have one.
        let cluster = route.cluster.filter(|name| !self.is_secret("cluster", name)).unwrap_or("unnamed");
        match route.to {
            To::Lines(format) => self.lines(parts, body, format, cluster, submitter).await,
            To::Events => self.events(parts, body, cluster, submitter).await,
            // A sink address with a path of its own is still a sink: losing its events would be worse.
            To::Elsewhere if is_event(&parts.headers) => self.events(parts, body, cluster, submitter).await,
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
        let event = parts.headers.contains_key("ce-id") || parts.headers.contains_key("ce-type");
        if event && parts.method == Method::GET {
            self.desk.metrics.refuse("redirected_delivery");
            tracing::warn!(
                method = %parts.method,
                path = %shown(parts.uri.path()),
                "a delivery arrived without its body: something before us answered it with a redirect (301, 302 or \
                 303); point the sink at the final address"
            );
            return problem
                .detail("a CloudEvent's headers came without its body")
                .hint("something on the way redirected the POST; point Tekton's sink at the final address");
        }
        self.desk.metrics.refuse("method");
        problem.detail(format!("{} {}", parts.method, shown(parts.uri.path())))
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
        budget: &Budget,
    ) -> Result<body::Taken, Problem> {
        let stall = Duration::from_secs(self.config.read_timeout_seconds);
        let taken = body::read(headers, body, limit, budget, stall).await;
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

    async fn events(
        &self,
        parts: &Parts,
        body: &mut Option<Body>,
        cluster: &str,
        submitter: Submitter,
    ) -> Result<Receipt, Problem> {
        let body::Taken { bytes, held } = self
            .read(&parts.headers, body.take().unwrap_or_default(), self.config.max_event_bytes, &self.events)
            .await?;
        let begun = Instant::now();
        let raw = ingest::cloudevents::payload(&parts.headers, &bytes);
        let (kept, redacted) = ingest::cloudevents::redact_payload(&raw, &self.desk.redactor);
        let source = SourceId {
            cluster: cluster.to_owned(),
            kind: SourceKind::CloudEvents,
            name: source_name(parts)
                .filter(|name| !self.is_secret("source", name))
                .unwrap_or_else(|| event_source(&parts.headers).to_owned()),
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
                ingest::cloudevents::read(&parts.headers, &bytes, &context, &mut drafts, &mut persons);
            }
        }
        if !persons.is_empty() {
            tokio::task::block_in_place(|| self.desk.note_people(persons)); // it may append to a file
        }
        self.count_opaque(&source, &drafts);
        // While the disk is waited for, one copy is in memory: the one that is counted.
        drop(bytes);
        let payload = match kept {
            Cow::Borrowed(_) => raw,
            Cow::Owned(kept) => {
                drop(raw);
                kept
            }
        };
        let arrival = Arrival {
            source,
            declared,
            observed_at,
            submitter,
            payload: Some((payload, "events")),
            redacted,
            drafts,
            position: None,
            reached: Reached::default(),
        };
        self.keep(Lane::Push, arrival, held, begun).await
    }

    async fn lines(
        &self,
        parts: &Parts,
        body: &mut Option<Body>,
        format: &str,
        cluster: &str,
        submitter: Submitter,
    ) -> Result<Receipt, Problem> {
        let (post, format) = self.post(parts, format, cluster)?;
        let mut taken = self
            .read(&parts.headers, body.take().unwrap_or_default(), self.config.max_lines_bytes, &self.lines)
            .await?;
        let begun = Instant::now();
        // Beside the body itself, one stretch is in memory as lines, as leaves and as payload.
        if !taken.held.grow(WORKING_SET) {
            return Err(self.not_taken(NotTaken::Busy, 0));
        }
        let gzip = parts.headers.get(CONTENT_ENCODING).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let bytes = if gzip {
            // Much work per byte: the other tasks of this worker go on elsewhere.
            let inflated = tokio::task::block_in_place(|| {
                body::inflate(&taken.bytes, self.config.max_lines_bytes, &mut taken.held)
            });
            match inflated.map_err(|why| self.not_taken(why, self.config.max_lines_bytes))? {
                Inflated::Whole(bytes) => Bytes::from(bytes),
                Inflated::Damaged(error) => return self.damaged(post, submitter, taken, error, begun).await,
            }
        } else {
            taken.bytes
        };
        let start = Start::Post { digest: lines::digest(&bytes), line: 1 };
        let source = lines::Source { id: &post.source, declared: &post.declared, zone: post.zone, format: &format };
        let mut whole: Option<Receipt> = None;
        // Each stretch is one append; a repeat after a failure in the middle has the same keys and is recognised.
        let mut left = lines::pieces(&format, &bytes, start);
        left.reverse();
        while let Some(piece) = left.pop() {
            let complete_to = post.complete_to.filter(|_| piece.last);
            let arrival = tokio::task::block_in_place(|| {
                lines::arrival(&self.desk, &source, &piece, complete_to, now(), submitter.clone())
            });
            self.count_opaque(&post.source, &arrival.drafts);
            let receipt = match self.submit(Lane::Pull, arrival, begun).await {
                // Short lines can make leaves that are longer than they are.
                Err(NotKept::Ledger(AppendError::TooLarge { .. })) => {
                    let [first, second] = lines::halve(&piece).ok_or_else(|| self.not_taken(NotTaken::TooLarge, 0))?;
                    left.extend([second, first]);
                    continue;
                }
                other => other.map_err(|why| self.not_kept(&why))?,
            };
            whole = Some(match whole {
                None => receipt,
                Some(before) => Receipt { first: before.first, ..receipt },
            });
        }
        drop(taken.held);
        whole.ok_or_else(|| Problem::busy("nothing was written")) // `pieces` gives at least one
    }

    /// A body that says gzip and is not. Its bytes are not kept: what cannot be read cannot be redacted either. Its digest
    /// and length are.
    async fn damaged(
        &self,
        post: Post,
        submitter: Submitter,
        taken: body::Taken,
        error: String,
        begun: Instant,
    ) -> Result<Receipt, Problem> {
        let detail = format!(
            "{error}; {} bytes, the first half of their SHA-256 is {}",
            taken.bytes.len(),
            lines::digest(&taken.bytes)
        );
        let opaque = Opaque { reason: "bad_gzip".into(), detail, event_type: None, head: Text::new(b"".as_slice()) };
        let arrival = Arrival {
            source: post.source,
            declared: post.declared,
            observed_at: now(),
            submitter,
            payload: None,
            redacted: Vec::new(),
            drafts: vec![Draft { place: None, parser: "lines/1", fact: Fact::Opaque(opaque), cut: Vec::new() }],
            position: None,
            reached: Reached::default(),
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
        // Nobody can vouch for what has not happened yet.
        let complete_to = complete_to.map_err(|e| bad(e, "?complete_to=2026-11-23T15:20:59Z"))?.map(|at| at.min(now()));
        let format = lines::format(kind, query.get("log_format")).map_err(|e| {
            bad(format!("{e:#}"), "?log_format= takes the string of NGINX's log_format, percent-encoded")
        })?;
        let named = |key: &str| match query.get(key) {
            Some(value) if !is_name(value) => {
                Err(bad(format!("{key} is no name"), "a name has 1 to 128 printable characters without spaces"))
            }
            // A name stands in every leaf of its source.
            Some(value) if self.is_secret(key, value) => {
                Err(bad(format!("{key} looks like a secret"), "give the source a name that may be read"))
            }
            other => Ok(other.map(ToOwned::to_owned)),
        };
        let source = SourceId {
            cluster: cluster.to_owned(),
            kind,
            name: named("source")?.unwrap_or_else(|| "unnamed".to_owned()),
            instance: named("instance")?.unwrap_or_default(),
        };
        let declared = Declared {
            namespace: named("namespace")?,
            workload: named("workload")?,
            node: named("node")?,
            zone: named("zone")?,
        };
        Ok((Post { source, declared, zone, complete_to }, format))
    }

    fn is_secret(&self, key: &str, value: &str) -> bool {
        !self.desk.redactor.spans(value.as_bytes()).is_empty()
            || !self.desk.redactor.spans(format!("{key}?{value}").as_bytes()).is_empty()
    }

    fn count_opaque(&self, source: &SourceId, drafts: &[Draft]) {
        let opaque = drafts.iter().filter(|d| matches!(d.fact, Fact::Opaque(_))).count() as u64;
        if opaque > 0 {
            let label = crate::metrics::Format { format: source.kind.as_str() };
            self.desk.metrics.opaque.get_or_create(&label).inc_by(opaque);
        }
    }

    /// Waits for the disk and turns what went wrong into an answer. The budget is held until then.
    async fn keep(&self, lane: Lane, arrival: Arrival, held: Held, begun: Instant) -> Result<Receipt, Problem> {
        let result = self.submit(lane, arrival, begun).await;
        drop(held);
        result.map_err(|why| self.not_kept(&why))
    }

    /// Waits for the disk.
    async fn submit(&self, lane: Lane, arrival: Arrival, begun: Instant) -> Result<Receipt, NotKept> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.desk.submit(lane, arrival, move |result| {
            let _ = sender.send(result); // a sender that hung up does not hear it; the entry stands
        });
        let result = receiver.await.unwrap_or_else(|_| Err(NotKept::Own("the ledger dropped an append".into())));
        self.desk.metrics.ack_seconds.observe(begun.elapsed().as_secs_f64());
        result
    }

    fn not_kept(&self, why: &NotKept) -> Problem {
        self.desk.metrics.refuse(match why {
            NotKept::Starting => "starting",
            NotKept::Ledger(AppendError::Busy(_)) => "ledger_busy",
            NotKept::Ledger(_) | NotKept::Own(_) => "ledger_failed",
        });
        Problem::busy(why.to_string())
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
