//! S3 object stores. Each object is put under retention (Object Lock), so that for its time nobody can delete it, and asked
//! for that retention afterwards: a bucket without Object Lock, or a store that ignores it, is trouble and not success.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{Method, Request};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions};
use sha2::{Digest as _, Sha256};

use super::{
    Latest, Trouble,
    http::{Answer, Http},
    target::{is_same, secret},
};
use crate::config::publish::{Lock, S3Target};

/// How long a signed request is good for.
const SIGNED_FOR: Duration = Duration::from_mins(5);

/// A bucket to put checkpoints into.
pub struct S3 {
    of: S3Target,
    bucket: Bucket,
    credentials: Credentials,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("of", &self.of).finish_non_exhaustive()
    }
}

impl S3 {
    /// From its settings; reads the keys' files.
    pub fn new(of: &S3Target) -> Result<Self> {
        let style = if of.virtual_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let endpoint = of.endpoint.parse().with_context(|| format!("endpoint {:?}", of.endpoint))?;
        let bucket = Bucket::new(endpoint, style, of.bucket.clone(), of.region.clone())
            .with_context(|| format!("bucket {:?}", of.bucket))?;
        let credentials = Credentials::new(secret(&of.access_key_file)?, secret(&of.secret_key_file)?);
        Ok(Self { of: of.clone(), bucket, credentials })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.of.name
    }

    /// Puts a checkpoint, unless it is there already, and checks that it is locked.
    ///
    /// # Errors
    /// A [`Trouble`]; `not_locked` when the object is there and could be deleted.
    pub fn hand(&self, http: &Http, latest: &Latest, now: DateTime<Utc>, patience: Duration) -> Result<(), Trouble> {
        let object = format!("{}{}", self.of.prefix, latest.key());
        let put = self.put(&object, latest.note.as_bytes(), now)?;
        let answer = http.send(put, patience)?;
        if answer.status == 412 {
            let get = actions::GetObject::new(&self.bucket, Some(&self.credentials), &object);
            let there = ask(http, Method::GET, &get, patience)?;
            if !there.is_success() {
                return Err(there.refused());
            }
            is_same(&latest.note, &there.body)?;
        } else if !answer.is_success() {
            return Err(answer.refused());
        }
        if self.of.lock == Lock::None {
            return Ok(());
        }
        let head = actions::HeadObject::new(&self.bucket, Some(&self.credentials), &object);
        let answer = ask(http, Method::HEAD, &head, patience)?;
        if answer.is_success() { locked(self.of.lock, &answer, now) } else { Err(answer.refused()) }
    }

    /// The signed request. Everything that matters is among the signed headers.
    fn put(&self, object: &str, body: &[u8], now: DateTime<Utc>) -> Result<Request<Vec<u8>>, Trouble> {
        let mode = match self.of.lock {
            Lock::Compliance => Some("COMPLIANCE"),
            Lock::Governance => Some("GOVERNANCE"),
            Lock::Bucket | Lock::None => None,
        };
        let mut headers = vec![
            ("content-type", "text/plain; charset=utf-8".to_owned()),
            ("if-none-match", "*".to_owned()),
            // Asked for by stores that lock.
            ("x-amz-checksum-sha256", BASE64_STANDARD.encode(Sha256::digest(body))),
        ];
        if let Some(mode) = mode {
            let until = now + TimeDelta::days(self.of.retain_days.into());
            headers.push(("x-amz-object-lock-mode", mode.to_owned()));
            headers.push(("x-amz-object-lock-retain-until-date", until.to_rfc3339_opts(SecondsFormat::Secs, true)));
        }
        let mut put = actions::PutObject::new(&self.bucket, Some(&self.credentials), object);
        for (name, value) in &headers {
            put.headers_mut().insert(*name, value.clone());
        }
        let mut request = Request::put(put.sign(SIGNED_FOR).as_str());
        for (name, value) in &headers {
            request = request.header(*name, value);
        }
        request.body(body.to_vec()).map_err(|error| Trouble::new("bad_address", error.to_string()))
    }
}

fn ask<'a>(http: &Http, method: Method, action: &impl S3Action<'a>, patience: Duration) -> Result<Answer, Trouble> {
    let request = Request::builder().method(method).uri(action.sign(SIGNED_FOR).as_str()).body(Vec::new());
    http.send(request.map_err(|error| Trouble::new("bad_address", error.to_string()))?, patience)
}

/// Whether the headers of an object say that it is locked as it should be.
fn locked(wanted: Lock, head: &Answer, now: DateTime<Utc>) -> Result<(), Trouble> {
    let mode = head.header("x-amz-object-lock-mode");
    let until = head.header("x-amz-object-lock-retain-until-date");
    let until = until.and_then(|until| DateTime::parse_from_rfc3339(until).ok());
    let fits = match wanted {
        Lock::Compliance => mode == Some("COMPLIANCE"),
        // The bucket's own default may be stronger.
        Lock::Governance | Lock::Bucket => matches!(mode, Some("COMPLIANCE" | "GOVERNANCE")),
        Lock::None => true,
    };
    if fits && (wanted == Lock::None || until.is_some_and(|until| until > now)) {
        return Ok(());
    }
    let detail = format!(
        "the object is there, and its retention is {} until {}: is Object Lock on, and may these keys read the retention?",
        mode.unwrap_or("none"),
        until.map_or_else(|| "never".to_owned(), |until| until.to_rfc3339())
    );
    Err(Trouble::new("not_locked", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_signed_with_the_request_and_asked_for_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "not a secret\n").unwrap();
        let of = S3Target {
            name: "vault".into(),
            endpoint: "https://s3.example".into(),
            bucket: "audit".into(),
            region: "eu-central-1".into(),
            prefix: "a b/".into(),
            access_key_file: key.clone(),
            secret_key_file: key,
            virtual_host: false,
            lock: Lock::Compliance,
            retain_days: 400,
        };
        let now = DateTime::from_timestamp(1_790_000_000, 0).unwrap();
        let put = S3::new(&of).unwrap().put("a b/x", b"note", now).unwrap();
        let url = put.uri().to_string();
        assert!(url.starts_with("https://s3.example/audit/a%20b/x?"), "{url}");
        let signed = "content-type%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256%3Bx-amz-object-lock-mode%3Bx-amz-object-lock-retain-until-date";
        assert!(url.contains(&format!("X-Amz-SignedHeaders={signed}&")), "{url}");
        assert_eq!(put.headers()["x-amz-object-lock-retain-until-date"], "2027-10-26T14:13:20Z");
        let none = S3::new(&S3Target { lock: Lock::None, ..of }).unwrap().put("x", b"note", now).unwrap();
        assert!(!none.headers().contains_key("x-amz-object-lock-mode"));

        let head = |mode: &str, until: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert("x-amz-object-lock-mode", mode.parse().unwrap());
            headers.insert("x-amz-object-lock-retain-until-date", until.parse().unwrap());
            Answer { status: 200, headers, body: Vec::new() }
        };
        assert_eq!(locked(Lock::Compliance, &head("COMPLIANCE", "2027-10-26T14:13:20.000Z"), now), Ok(()));
        assert_eq!(locked(Lock::Bucket, &head("GOVERNANCE", "2027-10-26T14:13:20Z"), now), Ok(()));
        let bare = Answer { status: 200, headers: http::HeaderMap::new(), body: Vec::new() };
        for (wanted, head) in [
            (Lock::Compliance, head("GOVERNANCE", "2027-10-26T14:13:20Z")),
            (Lock::Compliance, head("COMPLIANCE", "2020-10-26T14:13:20Z")),
            (Lock::Compliance, head("COMPLIANCE", "soon")),
            (Lock::Bucket, bare),
        ] {
            assert_eq!(locked(wanted, &head, now).unwrap_err().reason, "not_locked");
        }
    }
}
