//! What leaves this machine: checkpoints, to witnesses, targets and a time-stamping authority.

use std::path::PathBuf;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Witnesses, which cosign checkpoints (C2SP tlog-witness).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Witness {
    /// Policy file (C2SP tlog-policy): which witnesses there are, where they are asked, and how many are enough.
    /// Absent: nobody is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PathBuf>,
    /// Seconds between two checkpoints that a witness is shown, at least.
    pub every_seconds: u64,
    /// Seconds without the quorum after which the ledger is said to be unwitnessed, which becomes an entry; at least twice
    /// `every_seconds`.
    pub alert_after_seconds: u64,
}

impl Default for Witness {
    fn default() -> Self {
        Self { policy: None, every_seconds: 5, alert_after_seconds: 60 }
    }
}

/// Places that keep checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Publish {
    /// Seconds between two checkpoints that a place is handed, at least; it is the newest one then. A place that is three
    /// times as late is said to be behind, which becomes an entry.
    pub every_seconds: u64,
    /// Folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub folder: Vec<FolderTarget>,
    /// HTTP servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpTarget>,
    /// S3 object stores, best with Object Lock.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub s3: Vec<S3Target>,
}

impl Default for Publish {
    fn default() -> Self {
        Self { every_seconds: 60, folder: Vec::new(), http: Vec::new(), s3: Vec::new() }
    }
}

/// A folder, such as a mounted share that this machine cannot delete from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderTarget {
    /// Name in messages.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
}

/// How a checkpoint is handed to an HTTP server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `PUT URL/NAME`, with `If-None-Match: *`.
    #[default]
    Put,
    /// `POST URL`.
    Post,
}

/// An HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    /// Name in messages.
    pub name: String,
    /// Its address, `http://` or `https://`.
    pub url: String,
    /// `PUT` (to the address and the checkpoint's name) or `POST` (to the address).
    #[serde(default)]
    pub method: Method,
    /// File with a bearer token (surrounding white space is ignored).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// What keeps an object from being deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lock {
    /// Each object is put under COMPLIANCE retention: nobody can delete it before its time.
    #[default]
    Compliance,
    /// Each object is put under GOVERNANCE retention: somebody with a special permission can.
    Governance,
    /// The bucket's default retention is relied on.
    Bucket,
    /// Nothing does.
    None,
}

/// An S3 object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Target {
    /// Name in messages.
    pub name: String,
    /// Its address, such as `https://s3.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region.
    #[serde(default = "region")]
    pub region: String,
    /// Put before the objects' names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// File with the access key's id (surrounding white space is ignored).
    pub access_key_file: PathBuf,
    /// File with the secret access key (surrounding white space is ignored).
    pub secret_key_file: PathBuf,
    /// The bucket is part of the host name, not of the path.
    #[serde(default)]
    pub virtual_host: bool,
    /// `compliance`, `governance` (retention of each object), `bucket` (the bucket's default retention), or `none`. The first
    /// three are checked on each object after it was put.
    #[serde(default)]
    pub lock: Lock,
    /// Days of retention of each object.
    #[serde(default = "days")]
    pub retain_days: u32,
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn days() -> u32 {
    400 // a year, and the audit after it
}

/// Time stamps over checkpoints (RFC 3161).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timestamp {
    /// Address of the time-stamping authority. Absent: no stamps are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Seconds between two stamps. One more is asked for at an orderly end.
    pub every_seconds: u64,
}

impl Default for Timestamp {
    fn default() -> Self {
        Self { url: None, every_seconds: 3600 }
    }
}

/// What types cannot say.
pub(super) fn check(witness: &Witness, publish: &Publish, timestamp: &Timestamp) -> Result<()> {
    for (setting, value) in [
        ("witness.every_seconds", witness.every_seconds),
        ("publish.every_seconds", publish.every_seconds),
        ("timestamp.every_seconds", timestamp.every_seconds),
    ] {
        if value == 0 {
            bail!("{setting} = 0; at least 1 is needed");
        }
    }
    // A witness is shown the next checkpoint after its period: only what is later than that is late.
    if witness.alert_after_seconds < 2 * witness.every_seconds {
        bail!(
            "witness.alert_after_seconds = {}; at least twice witness.every_seconds = {} is needed",
            witness.alert_after_seconds,
            witness.every_seconds
        );
    }
    let urls = publish.http.iter().map(|of| &of.url).chain(publish.s3.iter().map(|of| &of.endpoint));
    for url in urls.chain(&timestamp.url) {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("{url:?} is no address to publish to; write http://… or https://…");
        }
    }
    let mut names: Vec<&str> = Vec::new();
    names.extend(publish.folder.iter().map(|of| of.name.as_str()));
    names.extend(publish.http.iter().map(|of| of.name.as_str()));
    names.extend(publish.s3.iter().map(|of| of.name.as_str()));
    names.sort_unstable();
    if let Some([name, _]) = names.array_windows().find(|[one, other]| one == other) {
        bail!("two places to publish to are called {name:?}; names are unique");
    }
    if let Some(target) = publish.s3.iter().find(|target| target.retain_days == 0) {
        bail!("publish.s3 {:?}: retain_days = 0; at least 1 is needed", target.name);
    }
    Ok(())
}
