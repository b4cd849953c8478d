//! Whom the command line asks: a server, or a data folder when there is none.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use model::Time;
use serde::de::DeserializeOwned;

use crate::{
    answer::{self, DoctorAnswer, SearchAnswer, ShowAnswer, View, WhyAnswer},
    cli,
    derive::Derived,
    log::Log,
    metrics::Metrics,
    people::People,
    problem::Problem,
    serve::Serving,
};

/// A place that answers.
pub enum Asked {
    /// A server's api listener.
    Server(String),
    /// A data folder, followed to its end by ourselves.
    Folder(View),
}

/// Largest answer that is read.
const MAX_ANSWER: u64 = 256 << 20;

impl Asked {
    /// Opens what the options say. A folder that is being served is asked through its server, which has the index.
    pub fn open(ask: &cli::Ask) -> Result<Self> {
        let Some(data) = &ask.data else {
            let scheme = if ask.server.contains("://") { "" } else { "http://" };
            return Ok(Self::Server(format!("{scheme}{}", ask.server)));
        };
        if let Some(serving) = Serving::read(data) {
            let server = Self::Server(format!("http://{}", serving.api));
            if server.text("/livez").is_ok() {
                return Ok(server);
            }
        }
        let log = Log::folder(data).with_context(|| format!("read {}", data.display()))?;
        Ok(Self::Folder(follow(data, log)?))
    }

    /// `search`.
    pub fn search(&self, ask: &answer::search::Ask) -> Result<SearchAnswer> {
        match self {
            Self::Folder(view) => Ok(answer::search::answer(view, ask)?),
            Self::Server(_) => {
                let (from, to) = (ask.from.map(|t| t.to_string()), ask.to.map(|t| t.to_string()));
                let mut query = vec![("q", ask.query.clone()), ("limit", ask.limit.to_string())];
                query.extend(from.map(|t| ("from", t)));
                query.extend(to.map(|t| ("to", t)));
                query.extend(ask.after.clone().map(|a| ("after", a)));
                self.get("/api/v1/search", &query)
            }
        }
    }

    /// `why`.
    pub fn why(&self, what: &str, at: Option<Time>) -> Result<WhyAnswer> {
        match self {
            Self::Folder(view) => Ok(answer::why::answer(view, what, at)?),
            Self::Server(_) => {
                let mut query = vec![("what", what.to_owned())];
                query.extend(at.map(|t| ("at", t.to_string())));
                self.get("/api/v1/why", &query)
            }
        }
    }

    /// `show`.
    pub fn show(&self, what: &str) -> Result<ShowAnswer> {
        match self {
            Self::Folder(view) => Ok(answer::show::answer(view, what)?),
            Self::Server(_) => self.get("/api/v1/show", &[("what", what.to_owned())]),
        }
    }

    /// `doctor`.
    pub fn doctor(&self) -> Result<DoctorAnswer> {
        match self {
            Self::Folder(view) => Ok(answer::doctor::answer(view)?),
            Self::Server(_) => self.get("/api/v1/doctor", &[]),
        }
    }

    /// The proof of one entry.
    pub fn proof(&self, index: u64) -> Result<String> {
        match self {
            Self::Folder(view) => Ok(view.log.proof(index)?),
            Self::Server(_) => self.text(&format!("/api/v1/entries/{index}/proof")),
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let text = self.fetch(path, query)?;
        serde_json::from_str(&text).with_context(|| format!("the answer to {path} is not what was expected"))
    }

    fn text(&self, path: &str) -> Result<String> {
        self.fetch(path, &[])
    }

    fn fetch(&self, path: &str, query: &[(&str, String)]) -> Result<String> {
        let Self::Server(server) = self else { bail!("a folder has no address") };
        let mut request = ureq::get(format!("{}{path}", server.trim_end_matches('/')))
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(std::time::Duration::from_mins(1)))
            .build();
        for (key, value) in query {
            request = request.query(*key, value);
        }
        let mut response = request.call().map_err(|error| {
            anyhow!("ask {server}: {error}\nhint: start `counterfoil serve`, name another --server, or read a folder with --data DIR")
        })?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().context("read the answer")?;
        if status.is_success() {
            return Ok(text);
        }
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(problem.into()),
            Err(_) => bail!("{server} answered {status}"),
        }
    }
}

/// Follows a folder to its end and gives a view on it.
pub fn follow(data: &std::path::Path, log: Log) -> Result<View> {
    let mut derived = Derived::open(data, &log, 32 << 20, Arc::new(Metrics::default()))?;
    while derived.step(&log)? > 0 {}
    derived.commit()?;
    derived.snapshot()?;
    let people = Arc::new(People::open(data)?);
    let ledger = data.join("ledger");
    Ok(View { log, ledger, index: derived.index(), progress: derived.progress(), people, outside: None })
}
