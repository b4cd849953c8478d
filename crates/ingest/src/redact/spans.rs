//! Where a secret begins and ends, given the anchor that announced it.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::{
    escaped,
    names::{self, Name},
};

/// What follows an anchor.
#[derive(Clone, Copy)]
pub(super) enum Finder {
    /// The end of a name; its value comes after `:` or `=`, quoted or not.
    Named(Name),
    /// An escaped letter of a name in a query, which no honest sender escapes.
    PercentName,
    /// An escaped letter of a JSON name, likewise.
    JsonName,
    /// A query parameter; the value follows at once.
    Query,
    /// `://`; the part of the address before `@` holds a password.
    Userinfo,
    /// The scheme word of a header's value; the token follows.
    Bearer,
    /// The scheme word of a header's value; user and password in base64 follow.
    Basic,
    /// An option of a command; `user:password` follows.
    UserOption,
    /// The beginning of a JSON Web Token.
    Jwt,
    /// The beginning of a PEM block, which matters when it is a private key.
    Pem,
    /// A token that begins with `prefix` (in this case) and goes on with at least `least` letters, digits, `_`, `-`.
    Shape { prefix: &'static str, least: usize },
}

/// Told start and end of a secret.
pub(super) type Found<'f> = &'f mut dyn FnMut(usize, usize);

impl Finder {
    /// Reports the secrets that belong to the anchor at `start..end`. `budget`: bytes that searches across objects may
    /// still look at, so that a sender cannot make them look at everything again and again.
    pub(super) fn find(self, bytes: &[u8], start: usize, end: usize, budget: &mut usize, found: Found<'_>) {
        match self {
            Self::Named(name) => names::find(name, bytes, start, end, budget, found),
            Self::PercentName => escaped::percent(bytes, start, found),
            Self::JsonName => escaped::json(bytes, start, found),
            Self::Query => found(end, unquoted_end(bytes, end)),
            Self::Userinfo => userinfo(bytes, start, end, found),
            Self::Bearer => {
                let stop = run(bytes, end, is_token68);
                if stop - end >= 16 {
                    found(end, stop);
                }
            }
            Self::Basic => basic(bytes, end, found),
            Self::UserOption => user_option(bytes, end, found),
            Self::Jwt => jwt(bytes, start, found),
            Self::Pem => pem(bytes, start, end, found),
            Self::Shape { prefix, least } => {
                let stop = run(bytes, end, is_word);
                if bytes[start..].starts_with(prefix.as_bytes()) && begins_word(bytes, start) && stop - end >= least {
                    found(start, stop);
                }
            }
        }
    }
}

/// The end of the run of bytes that `accept`s, from `at`.
pub(super) fn run(bytes: &[u8], at: usize, accept: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| !accept(*b)).map_or(bytes.len(), |n| at + n)
}

pub(super) fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// No word goes on at `start`. The last letter of an escape (`\n`, `\x22`, `\u000a`, `%2F`) is none of the word behind it.
pub(super) fn begins_word(bytes: &[u8], start: usize) -> bool {
    let before = &bytes[start.saturating_sub(6)..start];
    let escape = |mark: &[u8], digits: usize| {
        let (head, tail) = before.split_at(before.len().saturating_sub(digits));
        tail.len() == digits && head.ends_with(mark) && tail.iter().all(u8::is_ascii_hexdigit)
    };
    before.last().is_none_or(|b| !is_word(*b))
        || (before.last().is_some_and(u8::is_ascii_lowercase) && before[..before.len() - 1].ends_with(b"\\"))
        || escape(b"%", 2)
        || escape(b"\\x", 2)
        || escape(b"\\u", 4)
}

/// `token68` of RFC 9110 11.2.
fn is_token68(b: u8) -> bool {
    is_word(b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'=')
}

pub(super) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// End of a value that stands without quotes in an address, a command or a log line.
pub(super) fn unquoted_end(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, |b| {
        !is_space(b) && !matches!(b, b'&' | b'"' | b'\'' | b'\\' | b';' | b',' | b')' | b'}' | b'<' | b'>' | b'#')
    })
}

/// What stands behind the user, password and host of an address.
pub(super) const fn ends_authority(b: u8) -> bool {
    !b.is_ascii_graphic() || matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\' | b'<' | b'>')
}

/// `user:password@` after `scheme://`, of which the password goes; a long user name alone is a token.
fn userinfo(bytes: &[u8], start: usize, end: usize, found: Found<'_>) {
    let stop = run(bytes, end, |b| !ends_authority(b));
    let Some(at) = bytes[end..stop].iter().rposition(|b| *b == b'@').map(|n| end + n) else { return };
    let web = bytes[..start].ends_with(b"http") || bytes[..start].ends_with(b"https");
    match bytes[end..at].iter().position(|b| *b == b':').map(|n| end + n) {
        Some(colon) => found(colon + 1, at),
        None if at - end >= 20 && web => found(end, at),
        None => {}
    }
}

/// Base64 of `user:password` (RFC 7617); a word that only looks like base64 has no colon in it.
fn basic(bytes: &[u8], at: usize, found: Found<'_>) {
    let stop = run(bytes, at, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    let text = bytes[at..stop.min(at + 1024)].trim_ascii_end();
    let text = &text[..run(text, 0, |b| b != b'=')];
    if STANDARD_NO_PAD.decode(text).is_ok_and(|user| user.contains(&b':') && user.is_ascii()) {
        found(at, stop);
    }
}

/// The first colon, from `at`, that is none of a mark (`[redacted:…:…]`).
fn colon(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let colon = at + memchr::memchr(b':', &bytes[at..])?;
        if !bytes[..=colon].ends_with(b"[redacted:") {
            return Some(colon);
        }
        at = run(bytes, colon, |b| b != b']');
    }
}

/// `user:password` behind `-u`: the password. Two numbers are a user and a group.
fn user_option(bytes: &[u8], at: usize, found: Found<'_>) {
    let at = at + usize::from(matches!(bytes.get(at), Some(b'\'' | b'"')));
    let stop = unquoted_end(bytes, at);
    if let Some(colon) = colon(&bytes[..stop], at)
        && !bytes[colon + 1..stop].starts_with(b"//")
        && !bytes[colon + 1..stop].iter().all(u8::is_ascii_digit)
    {
        found(colon + 1, stop);
    }
}

/// Three or five parts of base64url with dots between (RFC 7519, RFC 7516).
fn jwt(bytes: &[u8], start: usize, found: Found<'_>) {
    if !bytes[start..].starts_with(b"eyJ") || !begins_word(bytes, start) || bytes[..start].ends_with(b".") {
        return;
    }
    let header = run(bytes, start, is_word);
    if bytes.get(header) != Some(&b'.') {
        return;
    }
    let payload = run(bytes, header + 1, is_word);
    if bytes.get(payload) == Some(&b'.') && header - start >= 10 && payload - header >= 10 {
        found(start, run(bytes, payload, |b| is_word(b) || b == b'.'));
    }
}

/// `-----BEGIN … PRIVATE KEY-----` up to its end, also with the line ends escaped.
fn pem(bytes: &[u8], start: usize, end: usize, found: Found<'_>) {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    let label = run(bytes, end, |b| b.is_ascii_uppercase() || b == b' ');
    let closed = bytes[label..].starts_with(b"-----") && bytes[end..label].ends_with(&MARK[..11]);
    if !closed {
        return;
    }
    let stop = run(bytes, label, |b| {
        b.is_ascii_alphanumeric() || is_space(b) || matches!(b, b'+' | b'/' | b'=' | b'\\' | b'-' | b':' | b',')
    });
    // Another block may follow in the same text: stop at this one's end.
    let stop = memchr::memmem::find(&bytes[label..stop], MARK).map_or(stop, |n| label + n + MARK.len());
    // Neither an escape nor the space around belongs to the key.
    let stop = bytes[start..stop].iter().rposition(|b| *b != b'\\' && !is_space(*b)).map_or(stop, |n| start + n + 1);
    found(start, stop);
}
