//! Who may hand something in: path tokens and HTTP Basic, or everybody when neither is configured.
//!
//! Tekton cannot sign its deliveries; a token in the path or `user:password@` in the sink's address is all that it can
//! be given. Whoever is let in is recorded as the submitter of the entry.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use model::identity::Submitter;
use sha2::{Digest as _, Sha256};

use crate::config::Intake;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing presented, or not what is configured.
    Credentials,
    /// A token in the path that is not configured.
    Token,
}

/// Configured credentials, as digests: comparing digests takes the same time wherever the inputs differ.
#[derive(Debug, Default)]
pub struct Door {
    tokens: Vec<(String, [u8; 32])>,
    users: Vec<(String, [u8; 32])>,
}

impl Door {
    /// Reads the secret files of the configuration.
    pub fn open(config: &Intake) -> Result<Self> {
        let mut door = Self::default();
        for token in &config.token {
            door.tokens.push((token.name.clone(), digest(read_secret(&token.file)?.as_bytes())));
        }
        for user in &config.basic {
            let password = read_secret(&user.password_file)?;
            door.users.push((user.user.clone(), digest(format!("{}:{password}", user.user).as_bytes())));
        }
        Ok(door)
    }

    /// Decides for one request: the token out of its path, its headers, its peer.
    pub fn admit(&self, token: Option<&str>, headers: &HeaderMap, peer: IpAddr) -> Result<Submitter, Refused> {
        if let Some(token) = token {
            let shown = digest(token.as_bytes());
            return match self.tokens.iter().find(|(_, known)| *known == shown) {
                Some((name, _)) => Ok(Submitter::PathToken { name: name.clone() }),
                None => Err(Refused::Token),
            };
        }
        if let Some(shown) = basic(headers).map(|pair| digest(&pair))
            && let Some((user, _)) = self.users.iter().find(|(_, known)| *known == shown)
        {
            return Ok(Submitter::Basic { user: user.clone() });
        }
        if self.tokens.is_empty() && self.users.is_empty() {
            return Ok(Submitter::Anonymous { peer: peer.to_canonical().to_string() });
        }
        Err(Refused::Credentials)
    }
}

/// `user:password` of a Basic header (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())?
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn read_secret(path: &std::path::Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read secret {}", path.display()))?;
    let text = text.trim();
    if text.len() < 8 {
        bail!("secret {} has {} characters; at least 8 are needed", path.display(), text.len());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BasicUser, PathToken};

    fn with(secrets: &tempfile::TempDir) -> Door {
        let file = secrets.path().join("s");
        std::fs::write(&file, "open-sesame\n").unwrap();
        let config = Intake {
            token: vec![PathToken { name: "prod".into(), file: file.clone() }],
            basic: vec![BasicUser { user: "tekton".into(), password_file: file }],
            ..Intake::default()
        };
        Door::open(&config).unwrap()
    }

    #[test]
    fn only_the_configured_get_in() {
        let dir = tempfile::tempdir().unwrap();
        let (door, peer) = (with(&dir), IpAddr::from([127, 0, 0, 1]));
        let none = HeaderMap::new();
        assert_eq!(door.admit(None, &none, peer), Err(Refused::Credentials));
        assert_eq!(door.admit(Some("wrong-token"), &none, peer), Err(Refused::Token));
        assert_eq!(door.admit(Some("open-sesame"), &none, peer), Ok(Submitter::PathToken { name: "prod".into() }));
        let mut headers = HeaderMap::new();
        let value = format!("basic {}", STANDARD.encode("tekton:open-sesame"));
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        assert_eq!(door.admit(None, &headers, peer), Ok(Submitter::Basic { user: "tekton".into() }));
        headers.insert(AUTHORIZATION, "Basic ???".parse().unwrap());
        assert_eq!(door.admit(None, &headers, peer), Err(Refused::Credentials));
    }

    #[test]
    fn nothing_configured_lets_everybody_in_and_says_so() {
        let door = Door::default();
        let peer: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(door.admit(None, &HeaderMap::new(), peer), Ok(Submitter::Anonymous { peer: "127.0.0.1".into() }));
        assert_eq!(door.admit(Some("guess"), &HeaderMap::new(), peer), Err(Refused::Token));
    }
}
