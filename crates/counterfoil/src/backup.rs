//! `counterfoil backup` and `counterfoil restore`. What is copied and in which order is the ledger's (`ledger::backup`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::{Outcome, Report, SameLog, VerifyOptions};

use crate::{command::say, config::Config, keys, people, serve, verify};

/// Files of the data folder that belong to the ledger; everything else can be derived again.
const BESIDE: [&str; 2] = [keys::FILE, people::FILE];

/// Copies, verifies the copy, and says what was done.
pub fn backup(config: &Config, to: &Path) -> Result<verify::Verified> {
    let bar = bar("copied");
    let done = ledger::backup(&serve::ledger_config(config), to, &BESIDE, |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let (data, folder) = (config.data.display(), to.display());
    let done = done.with_context(|| format!("copy the ledger in {data} to {folder}"))?;
    say(&format!(
        "{folder} holds the first {} entries, without a signing key: {} files ({} bytes) copied, {} were there",
        done.checkpoint.size, done.copied, done.bytes, done.there
    ))?;
    for path in &done.damaged {
        say(&format!("left out    {}: it is damaged", path.display()))?;
    }
    let report = ledger::verify(&to.join("ledger"), &VerifyOptions::default());
    if report.outcome() == Outcome::Refuted {
        say(&format!(
            "The copy does not hold. Is {data} itself sound (`counterfoil verify --data {data}`)? Then remove from \
             {folder} what is named below, and run this again."
        ))?;
    }
    Ok(verify::Verified::new(to.to_owned(), &report))
}

/// Copies back, verifies, and says what it means.
pub fn restore(config: &Config, from: &Path, same: Option<&SameLog>) -> Result<verify::Verified> {
    let bar = bar("restored");
    let report = ledger::restore(from, &serve::ledger_config(config), same, &BESIDE, |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let (data, folder) = (config.data.display(), from.display());
    let report = report.with_context(|| format!("restore {folder} to {data}"))?;
    let verified = verify::Verified::new(config.data.clone(), &report);
    say(&verify::text(&verified))?;
    say(&meaning(config, &report, same.is_some()))?;
    Ok(verified)
}

fn meaning(config: &Config, report: &Report, same: bool) -> String {
    let data = config.data.display();
    match (report.outcome(), &report.checkpoint) {
        (Outcome::Verified, Some(checkpoint)) if same => format!(
            "restored {} entries; {data} goes on as {}. Start it nowhere else: two that sign under one name are a fork",
            checkpoint.size, checkpoint.origin
        ),
        (Outcome::Verified, Some(checkpoint)) => format!(
            "restored {} entries of {}. It can be read and verified; nothing can be added, since a backup has no signing \
             key: what was signed after it would be contradicted.\n\
             To go on from here under a new origin, with these entries and a first one that names this checkpoint:\n  \
             counterfoil ledger accept-rollback --data {data}",
            checkpoint.size, checkpoint.origin
        ),
        _ => format!("nothing was restored to {data}: the backup does not hold"),
    }
}

/// Reads what is handed in to go on under the same name.
pub fn same_log(checkpoint: &Path, keys: &[PathBuf]) -> Result<SameLog> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let keys = keys.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    if keys.is_empty() {
        bail!("--same-log needs the signing key: --key FILE");
    }
    Ok(SameLog { checkpoint: read(checkpoint)?, keys })
}

/// Shown on a terminal only.
fn bar(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bytes} {msg}  {bytes_per_sec}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style).with_message(what)
}
