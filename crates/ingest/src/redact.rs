//! Secrets are cut out of raw input before anything of it is kept.
//!
//! One pass of one automaton finds candidates; for each, the rule decides where the secret begins and ends. A span
//! becomes `[redacted:<rule>:<16 hex digits>]`, the digits being the start of HMAC-SHA-256(key, span): equal secrets
//! can be told to be equal, and nothing else. Every other byte stays as received, and JSON stays valid JSON, because
//! a span never leaves the string value that it is in.
//!
//! Parse what comes out of here, not what went in: then no fact can hold what its payload does not.

mod spans;

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use hmac::Hmac;
use model::entry::Redacted;
use sha2::Sha256;

use crate::persons;
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
    ("authorization", "authorization", Finder::Named),
    ("cookie", "cookie", Finder::Named),
    ("x-hub-signature", "signature", Finder::Named),
    ("x-hub-signature-256", "signature", Finder::Named),
    ("password", "password", Finder::Named),
    ("passwd", "password", Finder::Named),
    ("passphrase", "password", Finder::Named),
    ("secret", "secret", Finder::Named),
    ("token", "token", Finder::Named),
    ("apikey", "api_key", Finder::Named),
    ("api_key", "api_key", Finder::Named),
    ("api-key", "api_key", Finder::Named),
    ("access_key", "access_key", Finder::Named),
    ("accesskey", "access_key", Finder::Named),
    ("private_key", "private_key", Finder::Named),
    ("privatekey", "private_key", Finder::Named),
    ("?sig=", "query", Finder::Query),
    ("&sig=", "query", Finder::Query),
    ("x-amz-signature=", "query", Finder::Query),
    ("x-goog-signature=", "query", Finder::Query),
    // Secrets with a form of their own.
    ("://", "url", Finder::Userinfo),
    ("bearer ", "authorization", Finder::Bearer),
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
    ("npm_", "npm", Finder::Shape { prefix: "npm_", least: 36 }),
    ("hvs.", "vault", Finder::Shape { prefix: "hvs.", least: 20 }),
];

/// Finds and replaces secrets, with the installation's key of redaction.
pub struct Redactor {
    anchors: AhoCorasick,
    keyed: Hmac<Sha256>,
}

impl Redactor {
    /// With a key of 32 random bytes that only serves to compare secrets.
    pub fn new(key: &[u8; 32]) -> Self {
        let anchors = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(RULES.iter().map(|(anchor, ..)| anchor))
            .expect("a few dozen short anchors make an automaton");
        Self { anchors, keyed: persons::keyed(key) }
    }

    /// Every secret in the bytes, in order and without overlap.
    pub fn spans(&self, bytes: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut covered = 0;
        for found in self.anchors.find_iter(bytes) {
            if found.start() < covered {
                continue;
            }
            let (_, rule, finder) = RULES[found.pattern().as_usize()];
            finder.find(bytes, found.start(), found.end(), &mut |start, end| {
                if start >= covered && end > start && !bytes[start..].starts_with(b"[redacted:") {
                    spans.push(Span { start, end, rule });
                    covered = end;
                }
            });
        }
        spans
    }

    /// The bytes without secrets, and how often each rule struck, sorted by rule. Borrowed when nothing was found.
    pub fn redact<'a>(&self, bytes: &'a [u8]) -> (Cow<'a, [u8]>, Vec<Redacted>) {
        let spans = self.spans(bytes);
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

#[cfg(test)]
mod tests;
