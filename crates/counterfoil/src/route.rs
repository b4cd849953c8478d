//! The grammar of intake's paths: `[/t/{token}][/c/{cluster}](/ | /events | /logs/{format})`.

use std::borrow::Cow;

use model::identity::DEFAULT_CLUSTER;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// `/t/{token}`.
    pub token: Option<&'a str>,
    /// `/c/{cluster}`; `None` for one that is no name.
    pub cluster: Option<&'a str>,
    /// What for.
    pub to: To<'a>,
}

/// What a path is for.
#[derive(Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// `/` or `/events`.
    Events,
    /// `/logs/{format}`.
    Lines(&'a str),
    /// Anything else.
    Elsewhere,
}

/// Reads `[/t/{token}][/c/{cluster}](/ | /events | /logs/{format})`.
pub fn route(path: &str) -> Route<'_> {
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    let mut take = |prefix: &str| {
        let tail = rest.strip_prefix(prefix)?;
        let (value, tail) = tail.split_once('/').unwrap_or((tail, ""));
        (!value.is_empty()).then(|| {
            rest = tail;
            value
        })
    };
    let token = take("t/");
    let cluster = match take("c/") {
        None => Some(DEFAULT_CLUSTER),
        named => named.filter(|cluster| is_name(cluster)),
    };
    let to = match rest.trim_matches('/') {
        "" | "events" => To::Events,
        path => match path.strip_prefix("logs/") {
            Some(format) => To::Lines(format),
            None => To::Elsewhere,
        },
    };
    Route { token, cluster, to }
}

/// A path as it may stand in a log: without the token.
pub fn shown(path: &str) -> Cow<'_, str> {
    match path.strip_prefix("/t/") {
        None => Cow::Borrowed(path),
        Some(rest) => Cow::Owned(format!("/t/[token]{}", rest.find('/').map_or("", |at| &rest[at..]))),
    }
}

/// A name that may stand in a leaf as given: 1 to 128 printable characters without spaces and quotes.
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'<' | b'>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, token, cluster, to) in [
            ("/", None, "default", To::Events),
            ("/events", None, "default", To::Events),
            ("/c/prod-eu", None, "prod-eu", To::Events),
            ("/c/prod-eu/", None, "prod-eu", To::Events),
            ("/c/prod-eu/events", None, "prod-eu", To::Events),
            ("/t/s3cret/c/prod/logs/spire", Some("s3cret"), "prod", To::Lines("spire")),
            ("/logs/nginx-error", None, "default", To::Lines("nginx-error")),
            ("/tekton/sink", None, "default", To::Elsewhere),
        ] {
            assert_eq!(route(path), Route { token, cluster: Some(cluster), to }, "{path}");
        }
        assert_eq!(route("/c/a\"b/events").cluster, None);
        assert_eq!(shown("/t/s3cret/c/prod/events"), "/t/[token]/c/prod/events");
    }
}
