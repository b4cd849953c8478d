//! Places that keep checkpoints, one object each, never overwritten.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use chrono::DateTime;
use http::Request;
use ledger::Disk;

use super::{Latest, Trouble, http::Http, outside::Kind, s3::S3, timestamp::Timestamps};
use crate::{
    config::publish::{HttpTarget, Method, Publish},
    intake::now,
};

/// A place.
#[derive(Debug)]
pub enum Target {
    /// A folder.
    Folder(String, PathBuf),
    /// An HTTP server.
    Http(HttpTarget, Option<String>),
    /// An S3 object store.
    S3(Box<S3>),
    /// A time-stamping authority, whose answers are kept here.
    Timestamp(Timestamps),
}

impl Target {
    /// Every place that keeps checkpoints as configured, secrets read.
    pub fn all(config: &Publish) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for of in &config.folder {
            all.push(Self::Folder(of.name.clone(), of.path.clone()));
        }
        for of in &config.http {
            let token = of.token_file.as_deref().map(secret).transpose();
            all.push(Self::Http(of.clone(), token.with_context(|| format!("publish.http {:?}", of.name))?));
        }
        for of in &config.s3 {
            all.push(Self::S3(Box::new(S3::new(of).with_context(|| format!("publish.s3 {:?}", of.name))?)));
        }
        Ok(all)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Folder(..) => Kind::Folder,
            Self::Http(..) => Kind::Http,
            Self::S3(..) => Kind::S3,
            Self::Timestamp(..) => Kind::Timestamp,
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        match self {
            Self::Folder(name, _) => name,
            Self::Http(of, _) => &of.name,
            Self::S3(of) => of.name(),
            Self::Timestamp(_) => "authority",
        }
    }

    /// Hands it a checkpoint. What is there already under this checkpoint's name must be this checkpoint; it is left alone.
    pub fn hand(&self, http: &Http, latest: &Latest, patience: Duration) -> Result<(), Trouble> {
        match self {
            Self::Folder(_, path) => into_folder(path, latest),
            Self::Http(of, token) => to_server(http, of, token.as_deref(), latest, patience),
            Self::S3(of) => of.hand(http, latest, DateTime::from_timestamp_nanos(now().0), patience),
            Self::Timestamp(of) => of.hand(http, latest, patience),
        }
    }
}

/// The content of a file of secrets, without white space around it.
pub(super) fn secret(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Whether two notes are of the same checkpoint, whoever has signed them.
pub(super) fn is_same(note: &str, there: &[u8]) -> Result<(), Trouble> {
    let text = |note: &str| note.split_once("\n\n").map(|(text, _)| text.to_owned());
    match std::str::from_utf8(there).ok().and_then(text) {
        Some(there) if Some(&there) == text(note).as_ref() => Ok(()),
        _ => Err(Trouble::new("exists", "something else is there under this checkpoint's name")),
    }
}

fn into_folder(folder: &Path, latest: &Latest) -> Result<(), Trouble> {
    let disk = |error: String| Trouble::new("disk", error);
    // A share that is not mounted must not be mistaken for an empty one.
    if !folder.is_dir() {
        return Err(disk(format!("{} is not a folder", folder.display())));
    }
    let path = folder.join(latest.key());
    match std::fs::read(&path) {
        Ok(there) => is_same(&latest.note, &there),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Disk::Real.write_durably(&path, latest.note.as_bytes()).map_err(|error| disk(error.to_string()))
        }
        Err(error) => Err(disk(format!("{}: {error}", path.display()))),
    }
}

fn to_server(
    http: &Http,
    of: &HttpTarget,
    token: Option<&str>,
    latest: &Latest,
    patience: Duration,
) -> Result<(), Trouble> {
    let address = match of.method {
        Method::Put => format!("{}/{}", of.url.trim_end_matches('/'), latest.key()),
        Method::Post => of.url.clone(),
    };
    let request = |method: http::Method, body: Vec<u8>| {
        let mut request = Request::builder().method(method).uri(&address);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if of.method == Method::Put && !body.is_empty() {
            request = request.header("If-None-Match", "*");
        }
        let request = request.header("Content-Type", "text/plain; charset=utf-8").body(body);
        request.map_err(|error| Trouble::new("bad_address", error.to_string()))
    };
    let method = if of.method == Method::Put { http::Method::PUT } else { http::Method::POST };
    let answer = http.send(request(method, latest.note.as_bytes().to_vec())?, patience)?;
    match answer.status {
        _ if answer.is_success() => Ok(()),
        // Something is there already: perhaps this checkpoint, put by an earlier life.
        409 | 412 if of.method == Method::Put => {
            let there = http.send(request(http::Method::GET, Vec::new())?, patience)?;
            if there.is_success() { is_same(&latest.note, &there.body) } else { Err(answer.refused()) }
        }
        _ => Err(answer.refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(root: &str, signature: &str) -> Latest {
        Latest { note: format!("a/log\n5\n{root}\n\n{signature}\n").into(), size: 5 }
    }

    #[test]
    fn what_is_in_a_folder_already_is_left_alone_and_must_be_the_same_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let (first, cosigned, other) = (note("AAAA", "one"), note("AAAA", "one\ntwo"), note("BBBB", "one"));
        assert_eq!(into_folder(folder.path(), &first), Ok(()));
        assert_eq!(into_folder(folder.path(), &cosigned), Ok(()));
        assert_eq!(into_folder(folder.path(), &other).unwrap_err().reason, "exists");
        let path = folder.path().join("a_log/checkpoint-00000000000000000005");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), &*first.note);
        std::fs::write(&path, "something").unwrap();
        assert_eq!(into_folder(folder.path(), &first).unwrap_err().reason, "exists");
        assert_eq!(into_folder(&folder.path().join("not mounted"), &first).unwrap_err().reason, "disk");
    }
}
