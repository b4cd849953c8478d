//! Secrets are cut out of raw input before anything of it is kept.
//!
//! One pass finds candidates; for each, the rule decides where the secret begins and ends. A span
//! becomes `[redacted:<rule>:<16 hex digits>]`, the digits being the start of HMAC-SHA-256(key, span): equal secrets
//! can be told to be equal, and nothing else. Every other byte stays as received, and JSON stays valid JSON, because
//! a span never leaves the string value that it is in.
//!
//! Parse what comes out of here, not what went in: then no fact can hold what its payload does not.

mod anchors;
mod escaped;
mod names;
mod quote;
mod spans;

use std::{borrow::Cow, ops::Range};

use anchors::{Anchor, Anchors};
use hmac::Hmac;
use model::entry::Redacted;
use sha2::Sha256;

use crate::persons;
use names::Name;
use spans::Finder;

/// A secret found in some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
    /// The rule that found it, as written in the replacement and in [`Redacted`].
    pub rule: &'static str,
}

/// Anchor, rule, finder: the anchor is what the automaton looks for (in any case), the finder knows what follows.
const RULES: &[(&str, &str, Finder)] = &[
    // Names of headers, keys, parameters and options whose value is the secret.
    ("authorization", "authorization", Finder::Named(Name::Plain)),
    ("auth", "authorization", Finder::Named(Name::Short)),
    ("cookie", "cookie", Finder::Named(Name::Plain)),
    ("x-hub-signature", "signature", Finder::Named(Name::Plain)),
    ("x-hub-signature-256", "signature", Finder::Named(Name::Plain)),
    ("password", "password", Finder::Named(Name::Password)),
    ("passwd", "password", Finder::Named(Name::Password)),
    ("passphrase", "password", Finder::Named(Name::Password)),
    ("pass", "password", Finder::Named(Name::ShortPassword)),
    ("pwd", "password", Finder::Named(Name::ShortPassword)),
    ("credential", "credential", Finder::Named(Name::Plain)),
    ("secret", "secret", Finder::Named(Name::Secret)),
    ("token", "token", Finder::Named(Name::Plain)),
    ("apikey", "api_key", Finder::Named(Name::Plain)),
    ("api_key", "api_key", Finder::Named(Name::Plain)),
    ("api-key", "api_key", Finder::Named(Name::Plain)),
    ("access_key", "access_key", Finder::Named(Name::Plain)),
    ("accesskey", "access_key", Finder::Named(Name::Plain)),
    ("private_key", "private_key", Finder::Named(Name::Plain)),
    ("privatekey", "private_key", Finder::Named(Name::Plain)),
    ("?sig=", "query", Finder::Query),
    ("&sig=", "query", Finder::Query),
    // `&` as Go's JSON and HTML write it.
    ("u0026sig=", "query", Finder::Query),
    (";sig=", "query", Finder::Query),
    ("?code=", "query", Finder::Query),
    ("&code=", "query", Finder::Query),
    ("u0026code=", "query", Finder::Query),
    (";code=", "query", Finder::Query),
    ("x-amz-signature=", "query", Finder::Query),
    ("x-goog-signature=", "query", Finder::Query),
    // The first digit of an escaped letter.
    ("%4", "escaped_name", Finder::PercentName),
    ("%5", "escaped_name", Finder::PercentName),
    ("%6", "escaped_name", Finder::PercentName),
    ("%7", "escaped_name", Finder::PercentName),
    ("\\u004", "escaped_name", Finder::JsonName),
    ("\\u005", "escaped_name", Finder::JsonName),
    ("\\u006", "escaped_name", Finder::JsonName),
    ("\\u007", "escaped_name", Finder::JsonName),
    // Secrets with a form of their own.
    ("://", "url", Finder::Userinfo),
    ("bearer ", "authorization", Finder::Bearer),
    ("bearer%20", "authorization", Finder::Bearer),
    ("basic ", "authorization", Finder::Basic),
    ("basic%20", "authorization", Finder::Basic),
    (" -u ", "password", Finder::UserOption),
    (" --user ", "password", Finder::UserOption),
    ("\"-u\",", "password", Finder::UserOption),
    ("\"--user\",", "password", Finder::UserOption),
    ("eyj", "jwt", Finder::Jwt),
    ("-----begin ", "private_key", Finder::Pem),
    ("akia", "aws", Finder::Shape { prefix: "AKIA", least: 16 }),
    ("asia", "aws", Finder::Shape { prefix: "ASIA", least: 16 }),
    ("ghp_", "github", Finder::Shape { prefix: "ghp_", least: 30 }),
    ("gho_", "github", Finder::Shape { prefix: "gho_", least: 30 }),
    ("ghu_", "github", Finder::Shape { prefix: "ghu_", least: 30 }),
    ("ghs_", "github", Finder::Shape { prefix: "ghs_", least: 30 }),
    ("ghr_", "github", Finder::Shape { prefix: "ghr_", least: 30 }),
    ("github_pat_", "github", Finder::Shape { prefix: "github_pat_", least: 22 }),
    ("glpat-", "gitlab", Finder::Shape { prefix: "glpat-", least: 16 }),
    ("xoxb-", "slack", Finder::Shape { prefix: "xoxb-", least: 10 }),
    ("xoxp-", "slack", Finder::Shape { prefix: "xoxp-", least: 10 }),
    ("xoxa-", "slack", Finder::Shape { prefix: "xoxa-", least: 10 }),
    ("xoxr-", "slack", Finder::Shape { prefix: "xoxr-", least: 10 }),
    ("xoxs-", "slack", Finder::Shape { prefix: "xoxs-", least: 10 }),
    ("sk_live_", "stripe", Finder::Shape { prefix: "sk_live_", least: 16 }),
    ("rk_live_", "stripe", Finder::Shape { prefix: "rk_live_", least: 16 }),
    ("npm_", "npm", Finder::Shape { prefix: "npm_", least: 36 }),
    ("hvs.", "vault", Finder::Shape { prefix: "hvs.", least: 20 }),
];

/// Finds and replaces secrets, with the installation's key of redaction.
pub struct Redactor {
    anchors: Anchors,
    keyed: Hmac<Sha256>,
}

impl Redactor {
    /// With a key of 32 random bytes that only serves to compare secrets.
    pub fn new(key: &[u8; 32]) -> Self {
        let anchors = Anchors::new(&RULES.iter().map(|(anchor, ..)| *anchor).collect::<Vec<_>>());
        Self { anchors, keyed: persons::keyed(key) }
    }

    /// Every secret in the bytes, in order and without overlap.
    pub fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        self.spans_within(bytes, |_, _| 0..bytes.len())
    }

    /// Every secret in lines of which each stands for itself. Whatever quote a line leaves open (it may have been cut off, or a
    /// client may have written it), the lines beside it are evidence and stay. Only a PEM block goes over several lines.
    pub fn spans_of_lines(&self, bytes: &[u8]) -> Vec<Span> {
        self.spans_within(bytes, |anchor, finder| {
            if matches!(finder, Finder::Pem) {
                return 0..bytes.len();
            }
            let begin = memchr::memrchr(b'\n', &bytes[..anchor.start]).map_or(0, |n| n + 1);
            begin..memchr::memchr(b'\n', &bytes[anchor.end..]).map_or(bytes.len(), |n| anchor.end + n)
        })
    }

    /// `within` says where a secret can be that belongs to an anchor.
    fn spans_within(&self, bytes: &[u8], within: impl Fn(&Anchor, Finder) -> Range<usize>) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut covered = 0;
        let mut budget = 4 * bytes.len();
        self.anchors.each(bytes, |anchor| {
            // Neither inside a secret nor in a mark of one.
            if anchor.start < covered || bytes[..anchor.start].ends_with(b"[redacted:") {
                return;
            }
            let (_, rule, finder) = RULES[anchor.rule];
            let within = within(&anchor, finder);
            let (bytes, begin) = (&bytes[within.clone()], within.start);
            finder.find(bytes, anchor.start - begin, anchor.end - begin, &mut budget, &mut |start, end| {
                if end > start && !bytes[start..].starts_with(b"[redacted:") {
                    spans.push(Span { start: begin + start, end: begin + end, rule });
                    covered = covered.max(begin + end);
                }
            });
        });
        in_order(spans)
    }

    /// The bytes without secrets, and how often each rule struck, sorted by rule. Borrowed when nothing was found.
    pub fn redact<'a>(&self, bytes: &'a [u8]) -> (Cow<'a, [u8]>, Vec<Redacted>) {
        self.replace(bytes, &self.spans(bytes))
    }

    /// [`Redactor::redact`] of these spans, which are in order.
    pub(crate) fn replace<'a>(&self, bytes: &'a [u8], spans: &[Span]) -> (Cow<'a, [u8]>, Vec<Redacted>) {
        if spans.is_empty() {
            return (Cow::Borrowed(bytes), Vec::new());
        }
        let mut out = Vec::with_capacity(bytes.len() + spans.len() * 40);
        let mut counts: Vec<Redacted> = Vec::new();
        let mut copied = 0;
        for span in spans {
            out.extend_from_slice(&bytes[copied..span.start]);
            let mut mark = format!("[redacted:{}:", span.rule);
            persons::push_mac(&mut mark, &self.keyed, &bytes[span.start..span.end], 8);
            mark.push(']');
            out.extend_from_slice(mark.as_bytes());
            copied = span.end;
            match counts.iter_mut().find(|count| count.rule == span.rule) {
                Some(count) => count.n += 1,
                None => counts.push(Redacted { rule: span.rule.to_owned(), n: 1 }),
            }
        }
        out.extend_from_slice(&bytes[copied..]);
        counts.sort_unstable_by(|a, b| a.rule.cmp(&b.rule));
        (Cow::Owned(out), counts)
    }
}

/// A value may stand before what says that it is one: brings the spans in order, and joins those that overlap.
pub(crate) fn in_order(mut spans: Vec<Span>) -> Vec<Span> {
    if !spans.is_sorted_by(|a, b| a.end <= b.start) {
        spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
        spans.dedup_by(|next, last| {
            let overlap = next.start < last.end;
            if overlap {
                last.end = last.end.max(next.end);
            }
            overlap
        });
    }
    spans
}

/// A name (of a key, a parameter, a variable) whose value is a secret, by its end.
pub(crate) fn is_secret_name(name: &[u8]) -> bool {
    RULES.iter().any(|(anchor, _, finder)| {
        let end = name.len().checked_sub(anchor.len()).map(|at| &name[at..]);
        matches!(finder, Finder::Named(_)) && end.is_some_and(|end| end.eq_ignore_ascii_case(anchor.as_bytes()))
    })
}

/// Reports the strings under the JSON key whose closing quote stands at `at`.
pub(crate) fn member(bytes: &[u8], at: usize, found: &mut dyn FnMut(usize, usize)) {
    names::member(bytes, at, found);
}

#[cfg(test)]
mod tests;
