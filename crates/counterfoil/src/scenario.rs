//! Writing a scenario file: a bug report without secrets.

use anyhow::Result;

use crate::log::Log;

/// Writes the entries of a ledger as a scenario.
pub fn write(_log: &Log) -> Result<String> {
    Ok(String::new())
}
