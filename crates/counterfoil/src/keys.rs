//! The installation's key: 32 random bytes, made once with the ledger, from which the keys of redaction and of person
//! references are derived. It is not the signing key, which is the ledger's.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

/// Derived keys.
pub struct Keys {
    /// Key of `[redacted:rule:hmac]`.
    pub redaction: [u8; 32],
    /// Key of person references.
    pub persons: [u8; 32],
}

/// Its file in the data folder.
pub const FILE: &str = "installation.key";

impl Keys {
    /// Reads the key of a data folder.
    pub fn open(data: &Path) -> Result<Self> {
        if !data.join("ledger").join("format").exists() {
            bail!("there is no ledger in {0}: create one with `counterfoil init --data {0}`", data.display());
        }
        let path = data.join(FILE);
        let bytes = fs::read(&path).with_context(|| {
            format!(
                "read {} (without it persons and redactions of old entries cannot be matched with new ones; restore \
                 it from a backup)",
                path.display()
            )
        })?;
        match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(root) => Ok(Self::derive(&root)),
            Err(_) => bail!("{} has {} bytes instead of 32", path.display(), bytes.len()),
        }
    }

    /// Makes the key of a new data folder; an existing one stays.
    pub fn create(data: &Path) -> Result<()> {
        let path = data.join(FILE);
        if path.exists() {
            return Ok(());
        }
        let mut root = [0u8; 32];
        getrandom::fill(&mut root).context("draw a random key")?;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        file.write_all(&root).with_context(|| format!("write {}", path.display()))
    }

    /// Keys that nobody will need again.
    pub fn throw_away() -> Result<Self> {
        let mut root = [0u8; 32];
        getrandom::fill(&mut root).context("draw a random key")?;
        Ok(Self::derive(&root))
    }

    fn derive(root: &[u8; 32]) -> Self {
        let key = |purpose: &str| Sha256::new().chain_update(root).chain_update(purpose).finalize().into();
        Self { redaction: key("counterfoil redaction 1"), persons: key("counterfoil persons 1") }
    }
}
