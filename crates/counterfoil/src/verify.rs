//! `counterfoil verify`: the ledger's own report, printed for people or machines.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use ledger::{Outcome, VerifyOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::render::{BAD, GOOD, UNSURE, paint};

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// `verified`, `refuted` or `could_not_check`.
    pub outcome: String,
    /// The folder that was read.
    pub folder: PathBuf,
    /// Origin of the checkpoint, when one could be read.
    pub origin: Option<String>,
    /// Entries in the checkpoint.
    pub size: Option<u64>,
    /// What the policy's witnesses vouch for; absent without a policy, or when its quorum is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<Witnessed>,
    /// Entries that the checkpoint proves.
    pub verified: u64,
    /// Payloads that fit their commitment.
    pub payloads: u64,
    /// Payloads that are gone as an entry under the checkpoint says: how many, by that entry.
    pub pruned: BTreeMap<u64, u64>,
    /// Payloads that are gone and that no such entry speaks about: damage.
    pub missing: u64,
    /// Entries that no checkpoint covers yet.
    pub unsealed: u64,
    /// Entries that are not as they were signed.
    pub damaged: u64,
    /// The first damaged entry, where it can be named.
    pub first_damaged: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// The whole report as text.
    pub report: String,
}

/// The newest checkpoint that has the policy's quorum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Witnessed {
    /// Entries in it; later ones are not witnessed.
    pub size: u64,
    /// Who has cosigned it.
    pub by: Vec<Cosigner>,
}

/// One cosignature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cosigner {
    /// The witness's name in the policy.
    pub witness: String,
    /// When it had seen no larger tree, in Unix seconds.
    pub time: u64,
}

impl Verified {
    /// What the ledger says about this folder.
    pub fn new(folder: PathBuf, report: &ledger::Report) -> Self {
        let outcome = match report.outcome() {
            Outcome::Verified => "verified",
            Outcome::Refuted => "refuted",
            Outcome::CouldNotCheck => "could_not_check",
        };
        Self {
            outcome: outcome.into(),
            origin: report.checkpoint.as_ref().map(|c| c.origin.clone()),
            size: report.checkpoint.as_ref().map(|c| c.size),
            witnessed: report.witnessed.as_ref().map(|of| Witnessed {
                size: of.size,
                by: of.by.iter().map(|(witness, time)| Cosigner { witness: witness.clone(), time: *time }).collect(),
            }),
            verified: report.verified,
            payloads: report.payloads,
            pruned: report.pruned.clone(),
            missing: report.missing,
            unsealed: report.unsealed,
            damaged: report.damaged,
            first_damaged: report.first_damaged(),
            bytes: report.bytes,
            report: report.to_string(),
            folder,
        }
    }

    /// 0 verified, 1 refuted, 2 could not check.
    pub fn exit_code(&self) -> ExitCode {
        match self.outcome.as_str() {
            "verified" => ExitCode::SUCCESS,
            "refuted" => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

/// Verifies a data folder, a ledger folder, or a folder of any C2SP tlog-tiles log. A data folder that can
/// sign has a `head` in it, if none is named.
pub fn check(
    given: &Path,
    head: Option<&Path>,
    checkpoint: Option<&Path>,
    vkey: Option<&str>,
    policy: Option<&Path>,
) -> Result<Verified> {
    let below = given.join("ledger");
    let folder = if below.exists() { below } else { given.to_owned() };
    let head = head.map(Path::to_owned);
    if !folder.exists() {
        bail!("{} does not exist; name the folder with --data DIR", folder.display());
    }
    let kept = checkpoint
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("read checkpoint {}", path.display())))
        .transpose()?;
    let kept_size = kept.as_deref().map(|note| foreign(note, &folder)).transpose()?;
    let vkeys = vkey.map(key).transpose()?.into_iter().collect();
    let policy = policy.map(crate::publish::read_policy).transpose()?;
    let report = ledger::verify(given, &VerifyOptions { vkeys, kept, policy, head, ..VerifyOptions::default() });
    let mut verified = Verified::new(folder, &report);
    if let Some(size) = kept_size.filter(|_| report.outcome() == Outcome::Verified) {
        let contained = format!("kept        the checkpoint of size {size} is contained\npayloads");
        verified.report = verified.report.replacen("payloads", &contained, 1);
    }
    Ok(verified)
}

/// Size in a kept checkpoint; an error, not a refutation, when it is none or one of another log.
fn foreign(note: &str, folder: &Path) -> Result<u64> {
    let mut lines = note.lines();
    let (origin, size) = (lines.next().unwrap_or_default(), lines.next().and_then(|size| size.parse().ok()));
    let Some(size) = size.filter(|_| !origin.is_empty()) else {
        bail!("the kept file is no checkpoint: its lines are origin, size, root, an empty one, signatures");
    };
    let ours = std::fs::read_to_string(folder.join("checkpoint")).unwrap_or_default();
    let ours = ours.lines().next().unwrap_or_default();
    // After a rollback that was accepted, kept checkpoints of the old origin are still this log's.
    let keys = std::fs::read_to_string(folder.join("keys").join("vkeys")).unwrap_or_default();
    if origin != ours && !keys.contains(origin) {
        bail!("the kept checkpoint is of the log {origin}, this one is {ours}");
    }
    Ok(size)
}

/// A key as given: the text itself, or a file that holds it.
fn key(given: &str) -> Result<String> {
    let path = Path::new(given);
    if path.is_file() {
        let text = std::fs::read_to_string(path).with_context(|| format!("read key {given}"))?;
        return Ok(text.trim().to_owned());
    }
    Ok(given.to_owned())
}

/// For people: the verdict last, where the eye is.
pub fn text(report: &Verified) -> String {
    let verdict = match report.outcome.as_str() {
        "verified" => paint(GOOD, "VERIFIED"),
        "refuted" => match report.first_damaged {
            Some(entry) => paint(BAD, format!("REFUTED: entry #{entry}")),
            None => paint(BAD, "REFUTED"),
        },
        _ => paint(UNSURE, "COULD NOT CHECK"),
    };
    // The ledger's report ends with its own verdict line; ours is the same with colour and entry.
    let lines: Vec<&str> = report.report.trim_end().lines().collect();
    let body = lines.split_last().map_or(&[][..], |(_, body)| body);
    format!("{}\n{verdict}", body.join("\n"))
}
