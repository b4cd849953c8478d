//! Configuration: one TOML file, typed, every field documented.
//!
//! Four layers, later ones win: defaults, the file, the environment (`COUNTERFOIL_` and the dotted name in capitals
//! with `_`, as `COUNTERFOIL_INTAKE_LISTEN`), the command line. The layers are merged as TOML tables before they are
//! read as [`Config`], so that `counterfoil config check` can say for each value where it came from. This is the only
//! module that reads the environment.

pub mod keep;
pub mod publish;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use model::identity::SourceKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use keep::{Retention, SelfCheck};
use publish::{Publish, Timestamp, Witness};

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the ledger and of everything derived from it.
    pub data: PathBuf,
    /// Path of `head`, the small trusted file with the latest checkpoint. Default: `head` in the data folder; put it
    /// on another disk to make a rollback of the data folder visible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<PathBuf>,
    /// Name of a new ledger, the origin line of its checkpoints. Default: 128 random bits. Never reuse one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Sizes of the ledger's files.
    pub ledger: Ledger,
    /// The listener that senders reach.
    pub intake: Intake,
    /// The listener that people reach.
    pub api: Api,
    /// Folding and indexing.
    pub derive: Derive,
    /// How long the raw input behind entries is kept; entries stay for ever.
    pub retention: Retention,
    /// Reading old entries and payloads again, to see damage before somebody needs them.
    pub selfcheck: SelfCheck,
    /// Witnesses of the ledger.
    pub witness: Witness,
    /// Places that keep checkpoints.
    pub publish: Publish,
    /// Time stamps over checkpoints.
    pub timestamp: Timestamp,
    /// Logs and traces about Counterfoil itself.
    pub telemetry: Telemetry,
    /// Files to follow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Source>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./data".into(),
            head: None,
            origin: None,
            ledger: Ledger::default(),
            intake: Intake::default(),
            api: Api::default(),
            derive: Derive::default(),
            retention: Retention::default(),
            selfcheck: SelfCheck::default(),
            witness: Witness::default(),
            publish: Publish::default(),
            timestamp: Timestamp::default(),
            telemetry: Telemetry::default(),
            source: Vec::new(),
        }
    }
}

/// Sizes of the ledger's files on disk. Two journal segments and the reserve are always there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// Bytes of a journal segment; at least 16 MiB, since one append may fill half of it.
    pub segment_bytes: u64,
    /// Bytes kept back for the last entries when the disk is full.
    pub reserve_bytes: u64,
    /// Below this share of free space, in percent, sources that can wait are paused.
    pub pause_below_percent: u64,
    /// Below so many free bytes every sender gets 503.
    pub stop_below_bytes: u64,
    /// After so many bytes of leaves the tree's files are synced, and after so many bytes of journal payloads are stored and
    /// old segments go.
    pub sync_bytes: u64,
    /// So often the tree's files are synced when there are fewer bytes, in milliseconds.
    pub sync_every_ms: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        let limits = ledger::Limits::default();
        Self {
            segment_bytes: limits.segment_bytes,
            reserve_bytes: limits.reserve_bytes,
            pause_below_percent: limits.pause_below_percent,
            stop_below_bytes: limits.stop_below_bytes,
            sync_bytes: limits.sync_bytes,
            sync_every_ms: limits.sync_every_ms,
        }
    }
}

/// What senders may reach, and how much they may send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Intake {
    /// Address and port.
    pub listen: SocketAddr,
    /// Largest CloudEvents body in bytes; larger ones are answered 413.
    pub max_event_bytes: usize,
    /// Largest posted body of lines in bytes, after inflating.
    pub max_lines_bytes: usize,
    /// Bytes of all bodies that may be in memory at once, a quarter of it for events; beyond it senders get 503.
    pub memory_bytes: usize,
    /// Connections at once; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Seconds in which a request's headers must arrive, and in which its body must make progress.
    pub read_timeout_seconds: u64,
    /// Path tokens: `/t/TOKEN/…`. With any token or Basic user configured, a sender must present one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token: Vec<PathToken>,
    /// HTTP Basic users.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub basic: Vec<BasicUser>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8087).into(),
            max_event_bytes: 4 << 20,
            max_lines_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            max_connections: 4096,
            read_timeout_seconds: 20,
            token: Vec::new(),
            basic: Vec::new(),
        }
    }
}

/// A token in the path. The value stands in a file, never in the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathToken {
    /// Name recorded as the submitter.
    pub name: String,
    /// File that holds the token (surrounding white space is ignored).
    pub file: PathBuf,
}

/// A user of HTTP Basic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicUser {
    /// User name, recorded as the submitter.
    pub user: String,
    /// File that holds the password (surrounding white space is ignored).
    pub password_file: PathBuf,
}

/// What people may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Address and port.
    pub listen: SocketAddr,
    /// Queries worked on at once; further ones are answered 503.
    pub max_queries: usize,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8088).into(), max_queries: 16 }
    }
}

/// How the ledger is followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Derive {
    /// Follow the ledger at all. Without, this process only takes in and keeps: searches answer 503, and a later start
    /// with it follows what was kept meanwhile.
    pub enabled: bool,
    /// Milliseconds between commits of the index while there is something new.
    pub commit_ms: u64,
    /// Entries between snapshots of the correlator's state, at most; about a second of work is the usual distance.
    pub snapshot_entries: u64,
    /// Memory of the index writer in bytes.
    pub index_memory_bytes: usize,
}

impl Default for Derive {
    fn default() -> Self {
        Self { enabled: true, commit_ms: 500, snapshot_entries: 100_000, index_memory_bytes: 64 << 20 }
    }
}

/// Telemetry about the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// OTLP/HTTP endpoint for traces, such as `http://127.0.0.1:4318`. Absent: none are exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Log lines as JSON instead of text.
    pub json_logs: bool,
    /// Filter in the syntax of `tracing` (`info`, `counterfoil=debug`). Default: `info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// A file that is followed through rename, truncation and restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The source's name, unique per cluster and format.
    pub name: String,
    /// Format of its lines: `nginx-error`, `nginx-access`, `spire`, `spiffe-helper`, `k8s-objects`, `k8s-audit`,
    /// `cloudevents`.
    pub format: String,
    /// The file.
    pub path: PathBuf,
    /// Cluster; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Namespace of the workload that writes the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// IANA time zone of its local times, such as `Europe/Berlin`. Absent: UTC, graded *inferred*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The `log_format` string of an access log that is neither combined nor JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
}

impl Source {
    /// The kind behind its format.
    pub fn kind(&self) -> Result<SourceKind> {
        SourceKind::from_format(&self.format).with_context(|| {
            let known: Vec<_> = SourceKind::LINES.iter().map(|kind| kind.as_str()).collect();
            format!("source {:?}: format = {:?} is not known; formats: {}", self.name, self.format, known.join(", "))
        })
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The file of that path.
    File(PathBuf),
    /// The environment variable of that name.
    Environment(String),
    /// The command line option of that name.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "option {name}"),
        }
    }
}

/// The effective configuration and the origin of each value, by dotted name.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Dotted name to value as TOML and origin, sorted.
    pub origins: BTreeMap<String, (Value, Origin)>,
    /// A file was given: then `serve` does not create a ledger, so that a lost mount is not taken for a fresh start.
    pub from_file: bool,
}

/// Values given on the command line, by dotted name.
pub type Flags = Vec<(&'static str, &'static str, Value)>;

/// The server that the command line asks: no setting.
const ASKED: &str = "COUNTERFOIL_SERVER";

/// Prefix of every environment variable that we read.
const PREFIX: &str = "COUNTERFOIL_";

/// Merges the four layers. Errors name the file, the field and the value.
#[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
pub fn load(file: Option<&Path>, flags: Flags) -> Result<Loaded> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(PREFIX) && name != ASKED)
        .collect();
    load_with(file, environment, flags)
}

fn load_with(file: Option<&Path>, environment: BTreeMap<String, String>, flags: Flags) -> Result<Loaded> {
    let mut origins = BTreeMap::new();
    let defaults = Table::try_from(Config::default()).context("write the default configuration as TOML")?;
    leaves("", &defaults, &mut |name, value| {
        origins.insert(name, (value.clone(), Origin::Default));
    });
    let mut merged = defaults;
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).with_context(|| format!("read configuration {}", path.display()))?;
        // Reading it alone first gives errors with line and column of the file.
        toml::from_str::<Config>(&text).with_context(|| format!("configuration {}", path.display()))?;
        let table: Table = toml::from_str(&text).with_context(|| format!("configuration {}", path.display()))?;
        leaves("", &table, &mut |name, value| {
            origins.insert(name, (value.clone(), Origin::File(path.to_owned())));
        });
        overlay(&mut merged, table);
    }
    for (name, value) in environment {
        let Some(dotted) = setting(&name) else {
            bail!("environment variable {name} names no setting; `counterfoil config check` lists them");
        };
        let value = scalar(&value);
        set(&mut merged, &dotted, value.clone());
        origins.insert(dotted, (value, Origin::Environment(name)));
    }
    for (flag, dotted, value) in flags {
        set(&mut merged, dotted, value.clone());
        origins.insert(dotted.into(), (value, Origin::Flag(flag)));
    }
    let config: Config = merged.try_into().context("configuration after environment and options")?;
    config.check()?;
    Ok(Loaded { config, origins, from_file: file.is_some() })
}

/// The JSON Schema of the configuration file.
pub fn schema() -> Result<String> {
    Ok(serde_json::to_string_pretty(&schemars::schema_for!(Config))?)
}

/// Scalar settings that the environment may name, as dotted names.
const SETTINGS: &[&str] = &[
    "data",
    "head",
    "origin",
    "ledger.segment_bytes",
    "ledger.reserve_bytes",
    "ledger.pause_below_percent",
    "ledger.stop_below_bytes",
    "ledger.sync_bytes",
    "ledger.sync_every_ms",
    "intake.listen",
    "intake.max_event_bytes",
    "intake.max_lines_bytes",
    "intake.memory_bytes",
    "intake.max_connections",
    "intake.read_timeout_seconds",
    "api.listen",
    "api.max_queries",
    "derive.enabled",
    "derive.commit_ms",
    "derive.snapshot_entries",
    "derive.index_memory_bytes",
    "retention.events.keep_days",
    "retention.events.hold",
    "retention.lines.keep_days",
    "retention.lines.hold",
    "selfcheck.bytes_per_second",
    "selfcheck.round_seconds",
    "witness.policy",
    "witness.every_seconds",
    "witness.alert_after_seconds",
    "publish.every_seconds",
    "timestamp.url",
    "timestamp.every_seconds",
    "telemetry.otlp_endpoint",
    "telemetry.json_logs",
    "telemetry.filter",
];

fn setting(variable: &str) -> Option<String> {
    let wanted = variable.strip_prefix(PREFIX)?;
    SETTINGS.iter().find(|s| s.replace('.', "_").eq_ignore_ascii_case(wanted)).map(|s| (*s).to_owned())
}

/// `5`, `true` and text, each as its TOML type.
fn scalar(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ => Value::String(text.to_owned()),
    }
}

fn leaves(prefix: &str, table: &Table, found: &mut dyn FnMut(String, &Value)) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => leaves(&name, inner, found),
            other => found(name, other),
        }
    }
}

fn overlay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(table)) => overlay(inner, table),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn set(table: &mut Table, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.to_owned(), value);
        }
        Some((section, rest)) => {
            if let Value::Table(inner) = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new())) {
                set(inner, rest, value);
            }
        }
    }
}

impl Config {
    /// What types cannot say.
    fn check(&self) -> Result<()> {
        self.retention.check()?;
        publish::check(&self.witness, &self.publish, &self.timestamp)?;
        let mut seen = BTreeMap::new();
        for source in &self.source {
            source.kind()?;
            if let Some(zone) = &source.zone {
                zone_of(Some(zone)).with_context(|| format!("source {:?}", source.name))?;
            }
            let key = (source.cluster.clone(), source.format.clone(), source.name.clone());
            if let Some(other) = seen.insert(key, &source.path) {
                bail!(
                    "two sources are called {:?} ({} and {}); names are unique per cluster and format",
                    source.name,
                    other.display(),
                    source.path.display()
                );
            }
        }
        if self.ledger.segment_bytes < 16 << 20 {
            bail!("ledger.segment_bytes = {}; at least {} are needed", self.ledger.segment_bytes, 16 << 20);
        }
        // A quarter is for events, the rest for lines.
        let least = (self.intake.max_event_bytes * 4).max((self.intake.max_lines_bytes + (16 << 20)) / 3 * 4);
        if self.intake.memory_bytes < least {
            bail!(
                "intake.memory_bytes = {} is too little for one largest body; at least {least} are needed",
                self.intake.memory_bytes
            );
        }
        Ok(())
    }

    /// Path of `head`.
    pub fn head_path(&self) -> PathBuf {
        self.head.clone().unwrap_or_else(|| self.data.join("head"))
    }
}

/// The zone of that IANA name; UTC for none.
pub fn zone_of(name: Option<&str>) -> Result<chrono_tz::Tz> {
    name.map_or(Ok(chrono_tz::UTC), |name| {
        name.parse().map_err(|_| anyhow::anyhow!("{name:?} is no IANA time zone, such as Europe/Berlin"))
    })
}

#[cfg(test)]
mod tests;
