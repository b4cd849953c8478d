//! What people may reach: the read API, the log's tiles, health and metrics.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::Error;
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    answer::{self, View},
    config,
    derive::Derived,
    desk::Desk,
    intake::now,
    log::Log,
    problem::Problem,
    publish::outside::Outside,
};

/// How long a request for a proof waits for the seal that covers its entry.
const SEAL_WAIT: Duration = Duration::from_secs(5);

/// An append that has waited so long makes the process unready.
const STUCK: Duration = Duration::from_secs(5);

/// Shared by all requests.
pub struct Api {
    desk: Arc<Desk>,
    view: RwLock<Result<View, String>>,
    slots: Arc<Semaphore>,
    /// The ledger's folder: tiles are served from its files.
    ledger: PathBuf,
    outside: Arc<Outside>,
}

/// Parameters of a search.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchQuery {
    #[serde(default)]
    q: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

/// Parameters of `why` and `show`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhatQuery {
    what: String,
    at: Option<String>,
}

impl Api {
    /// An api whose ledger is not open yet.
    pub fn new(config: &config::Config, desk: Arc<Desk>, outside: Arc<Outside>) -> Self {
        let view = RwLock::new(Err("the ledger is not open yet".to_owned()));
        let slots = Arc::new(Semaphore::new(config.api.max_queries));
        Self { desk, view, slots, ledger: config.data.join("ledger"), outside }
    }

    /// Gives it something to answer from.
    pub fn open(&self, log: Log, derived: &Derived) {
        let people = Arc::clone(&self.desk.people);
        let ledger = self.ledger.clone();
        let outside = Some(Arc::clone(&self.outside));
        self.set(Ok(View { log, ledger, index: derived.index(), progress: derived.progress(), people, outside }));
    }

    /// Takes it away again: until it comes back, questions are answered 503 with this reason.
    pub fn shut(&self, why: &Error) {
        self.set(Err(format!("{why:#}")));
    }

    fn set(&self, view: Result<View, String>) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn view(&self) -> Result<View, Problem> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone().map_err(Problem::busy)
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/api/v1/search", get(search))
            .route("/api/v1/why", get(why))
            .route("/api/v1/show", get(show))
            .route("/api/v1/doctor", get(doctor))
            .route("/api/v1/records/{id}", get(record))
            .route("/api/v1/entries/{index}", get(entry))
            .route("/api/v1/entries/{index}/proof", get(proof))
            .route("/api/v1/checkpoint", get(newest))
            .route("/checkpoint", get(checkpoint))
            .route("/tile/{*path}", get(tile))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .fallback(nothing_here)
            .with_state(self)
    }

    /// The ledger itself: readable as soon as it is open, whatever the index does.
    fn log(&self) -> Result<Log, Problem> {
        let ledger = self.desk.ledger().ok_or_else(|| Problem::busy("the ledger is not open yet"))?;
        Ok(Log::Open(Arc::clone(ledger)))
    }

    /// Asks the derived world.
    async fn ask<T: Serialize + Send + 'static>(
        &self,
        question: impl FnOnce(&View) -> Result<T, Problem> + Send + 'static,
    ) -> Result<Response, Problem> {
        let view = self.view()?;
        self.work(move || question(&view)).await.map(|answer| Json(answer).into_response())
    }

    /// Runs a question off the runtime's workers, at most so many at once.
    #[tracing::instrument(name = "question", skip_all)]
    async fn work<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.desk.metrics.limit("api_queries");
            return Err(Problem::busy("too many queries at once"));
        };
        let begun = Instant::now();
        // The slot goes with the work: an asker who hangs up does not end it.
        let work = move || {
            let answer = question();
            drop(slot);
            answer
        };
        let answer = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Problem::busy("the answer could not be made; the log has the reason"))??;
        self.desk.metrics.queries.inc();
        self.desk.metrics.query_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(answer)
    }
}

type Shared = State<Arc<Api>>;

/// Query parameters, with a problem that names what is wrong.
fn parameters<T: for<'de> Deserialize<'de>>(uri: &http::Uri, known: &str) -> Result<T, Problem> {
    Query::try_from_uri(uri)
        .map(|Query(parameters)| parameters)
        .map_err(|error| bad_request("bad-parameter", error.body_text()).hint(format!("parameters: {known}")))
}

fn bad_request(word: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, word, "The question is wrong").detail(detail)
}

async fn search(State(api): Shared, uri: http::Uri) -> Result<Response, Problem> {
    let query: SearchQuery = parameters(&uri, "q, from, to, limit, after")?;
    let ask = answer::search::Ask {
        query: query.q,
        from: answer::time("from", query.from.as_deref())?,
        to: answer::time("to", query.to.as_deref())?,
        limit: query.limit.unwrap_or(20),
        after: query.after,
    };
    api.ask(move |view| answer::search::answer(view, &ask)).await
}

async fn why(State(api): Shared, uri: http::Uri) -> Result<Response, Problem> {
    let query: WhatQuery = parameters(&uri, "what, at")?;
    let at = answer::time("at", query.at.as_deref())?;
    api.ask(move |view| answer::why::answer(view, &query.what, at)).await
}

async fn show(State(api): Shared, uri: http::Uri) -> Result<Response, Problem> {
    let query: WhatQuery = parameters(&uri, "what")?;
    api.ask(move |view| answer::show::answer(view, &query.what)).await
}

async fn doctor(State(api): Shared) -> Result<Response, Problem> {
    api.ask(answer::doctor::answer).await
}

async fn record(State(api): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    api.ask(move |view| answer::show::record(view, &id)).await
}

/// An index in a path.
fn index_of(text: &str) -> Result<u64, Problem> {
    text.trim_start_matches('#')
        .parse()
        .map_err(|_| bad_request("bad-parameter", format!("{text:?} is no entry index")))
}

async fn entry(State(api): Shared, Path(index): Path<String>) -> Result<Response, Problem> {
    let (log, index) = (api.log()?, index_of(&index)?);
    // Readable before the index is: then nothing has been followed yet.
    let through = match api.view() {
        Ok(view) => view.through(),
        Err(_) => answer::Through { ledger: log.size(), asked_at: now(), ..answer::Through::default() },
    };
    let shown = api.work(move || answer::show::entry(&log, index)).await?;
    Ok(Json(answer::EntryAnswer { entry: shown, through }).into_response())
}

/// The proof of an acknowledged entry: in the cosigned checkpoint where that covers it, otherwise in the log's own newest one.
/// It waits for the seal that covers it; it is never "not found".
async fn proof(State(api): Shared, Path(index): Path<String>) -> Result<Response, Problem> {
    let (log, index) = (api.log()?, index_of(&index)?);
    let cosigned = api.outside.cosigned().filter(|of| of.size > index);
    let proof = move || {
        if let Log::Open(ledger) = &log {
            if index >= ledger.size() {
                return Err(answer::no_entry(index, ledger.size()));
            }
            if let Some(cosigned) = cosigned {
                return ledger.tlog_proof_in(index, &cosigned.note).map_err(|error| answer::ledger_problem(&error));
            }
            ledger.wait_sealed(index, SEAL_WAIT);
        }
        log.proof(index).map_err(|error| answer::ledger_problem(&error))
    };
    api.work(proof).await.map(plain)
}

/// The published checkpoint: the newest one that has the policy's quorum, so that it never goes back and never comes without
/// cosignatures once it had them. Without a policy, and before the first quorum, the log's own newest.
async fn checkpoint(State(api): Shared) -> Result<Response, Problem> {
    let own = api.log()?.note();
    Ok(plain(api.outside.cosigned().map_or(own, |cosigned| cosigned.note.to_string())))
}

/// The log's own newest checkpoint, cosigned or not.
async fn newest(State(api): Shared) -> Result<Response, Problem> {
    Ok(plain(api.log()?.note()))
}

fn plain(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// The log's tiles and entry bundles (C2SP tlog-tiles), for anybody's verifier. Only paths of that layout are served.
async fn tile(State(api): Shared, Path(path): Path<String>) -> Result<Response, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "no-such-tile", "No such tile").detail(format!("tile/{path}"));
    let proper = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.')
            && part != "."
            && part != ".."
    };
    if !path.split('/').all(proper) {
        return Err(missing());
    }
    let file = api.ledger.join("tile").join(&path);
    match tokio::fs::read(&file).await {
        Ok(bytes) => Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from(bytes)).into_response()),
        Err(_) => Err(missing()),
    }
}

/// Ready: no append has waited over 5 s. Idle is ready; index trouble is not a reason, since an unready pod loses
/// events.
async fn ready(State(api): Shared) -> Result<&'static str, Problem> {
    let Some(ledger) = api.desk.ledger() else { return Err(Problem::busy("the ledger is not open yet")) };
    if let Some(why) = ledger.failure() {
        return Err(Problem::busy(why.to_string()));
    }
    match ledger.oldest_wait() {
        Some(wait) if wait > STUCK => Err(Problem::busy(format!("an append has waited {} s", wait.as_secs()))),
        _ => Ok("ready\n"),
    }
}

async fn metrics(State(api): Shared) -> Response {
    if let Some(ledger) = api.desk.ledger() {
        api.desk.metrics.ledger_entries.set(ledger.size());
        api.outside.newest(Log::Open(Arc::clone(ledger)).sealed(), now());
        api.outside.measure(&api.desk.metrics, now());
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.desk.metrics.text()).into_response()
}

async fn nothing_here(uri: http::Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-such-page", "Nothing is here").detail(uri.path().to_owned()).hint(
        "GET /api/v1/search, /api/v1/why, /api/v1/show, /api/v1/doctor, /checkpoint; events go to the intake listener",
    )
}
