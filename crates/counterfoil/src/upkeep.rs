//! `counterfoil ledger …`: what is done to a ledger while no server has it open, each as an entry.

use anyhow::{Context as _, Result, anyhow};
use ledger::{Error, KeyChange};

use crate::{
    config::Config,
    own,
    serve::{self, Serving},
};

/// Goes on under a new origin with what is there.
pub fn accept_rollback(config: &Config) -> Result<()> {
    let kept = alone(
        config,
        "restore service of the ledger",
        ledger::accept_rollback(&serve::ledger_config(config), config.origin.as_deref(), own::notice_body),
    )?;
    println!("the ledger goes on under a new origin with {kept} entries; its next entry names the old checkpoint");
    Ok(())
}

/// Begins a new signing key.
pub fn rotate_key(config: &Config, retire_old: bool) -> Result<()> {
    let change = ledger::rotate_key(&serve::ledger_config(config), retire_old, own::notice_body);
    let change = alone(config, "begin a new signing key", change)?;
    tell(&change);
    if change.signing.len() > 1 {
        println!(
            "give the last one to everybody who verifies, then end the others: counterfoil ledger retire-key --data {}",
            config.data.display()
        );
    }
    Ok(())
}

/// Ends all signing keys but the newest.
pub fn retire_key(config: &Config) -> Result<()> {
    let change = ledger::retire_key(&serve::ledger_config(config), own::notice_body);
    tell(&alone(config, "end the old signing key", change)?);
    Ok(())
}

fn tell(change: &KeyChange) {
    println!("{}: from size {} on checkpoints are signed by", change.origin, change.size);
    for vkey in &change.signing {
        println!("  {vkey}");
    }
    for vkey in &change.retired {
        println!(
            "and not any more by\n  {vkey}\nwhose secret has been removed from this folder; remove your copies of it"
        );
    }
}

/// Brings the folder to the present format; without `apply` only says so.
pub fn upgrade(config: &Config, apply: bool) -> Result<()> {
    let (data, to) = (config.data.display(), ledger::VERSION);
    let at = serve::ledger_config(config);
    let from = ledger::version(&at).with_context(|| format!("read the ledger in {data}"))?;
    if from == to {
        println!("{data} is version {to} of the format already; nothing to do");
    } else if apply {
        alone(config, "upgrade the ledger", ledger::upgrade(&at, own::notice_body))?;
        println!("{data} is now version {to} of the format, and an entry says so");
    } else {
        println!(
            "{data} is version {from} of the format, this program writes version {to}.\nWith --apply: an entry that \
             names both versions, its checkpoint, then the new version in ledger/format. Entries, payloads and keys \
             stay as they are.\nPrograms that know version {from} only refuse the folder from then on; there is no \
             way back. This one serves version {from} too, but key changes and pruning need version 2.\n\
             Nothing was done."
        );
    }
    Ok(())
}

/// Adds what was tried, and names the server that has the ledger open.
fn alone<T>(config: &Config, what: &str, result: Result<T, Error>) -> Result<T> {
    let data = config.data.display();
    match (result, Serving::read(&config.data)) {
        (Err(Error::Locked { .. }), Some(Serving { pid, .. })) => Err(anyhow!(
            "cannot {what} in {data} while process {pid} serves it: stop it, run this, start it again (senders try \
             again for 20 s)"
        )),
        (result, _) => result.with_context(|| format!("{what} in {data}")),
    }
}
