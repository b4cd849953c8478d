//! Where a secret begins and ends, given the anchor that announced it.

/// What follows an anchor.
#[derive(Clone, Copy)]
pub(super) enum Finder {
    /// The end of a name; its value comes after `:` or `=`, quoted or not.
    Named,
    /// A query parameter; the value follows at once.
    Query,
    /// `://`; the part of the address before `@` holds a password.
    Userinfo,
    /// The scheme word of a header's value; the token follows.
    Bearer,
    /// The beginning of a JSON Web Token.
    Jwt,
    /// The beginning of a PEM block, which matters when it is a private key.
    Pem,
    /// A token that begins with `prefix` (in this case) and goes on with at least `least` letters, digits, `_`, `-`.
    Shape { prefix: &'static str, least: usize },
}

/// Told start and end of a secret.
type Found<'f> = &'f mut dyn FnMut(usize, usize);

impl Finder {
    /// Reports the secrets that belong to the anchor at `start..end`.
    pub(super) fn find(self, bytes: &[u8], start: usize, end: usize, found: Found<'_>) {
        match self {
            Self::Named => named(bytes, end, found),
            Self::Query => found(end, unquoted_end(bytes, end)),
            Self::Userinfo => userinfo(bytes, start, end, found),
            Self::Bearer => {
                let stop = run(bytes, end, is_token68);
                if stop - end >= 16 {
                    found(end, stop);
                }
            }
            Self::Jwt => jwt(bytes, start, found),
            Self::Pem => pem(bytes, start, end, found),
            Self::Shape { prefix, least } => {
                let stop = run(bytes, end, is_word);
                let word_before = start > 0 && is_word(bytes[start - 1]);
                if bytes[start..].starts_with(prefix.as_bytes()) && !word_before && stop - end >= least {
                    found(start, stop);
                }
            }
        }
    }
}

/// The end of the run of bytes that `accept`s, from `at`.
fn run(bytes: &[u8], at: usize, accept: impl Fn(u8) -> bool) -> usize {
    bytes[at..].iter().position(|b| !accept(*b)).map_or(bytes.len(), |n| at + n)
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// `token68` of RFC 9110 11.2.
fn is_token68(b: u8) -> bool {
    is_word(b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'=')
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// End of a value that stands without quotes in an address, a command or a log line.
fn unquoted_end(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, |b| {
        !is_space(b) && !matches!(b, b'&' | b'"' | b'\'' | b'\\' | b';' | b',' | b')' | b'}' | b'<' | b'>' | b'#')
    })
}

/// A JSON quote at some depth of JSON inside JSON: `"`, `\"`, `\\\"`, …
#[derive(Clone, Copy)]
struct Quote {
    /// Backslashes before the `"`: 0, 1, 3, 7, …
    backslashes: usize,
}

impl Quote {
    /// The quote at `at` and the offset after it.
    fn at(bytes: &[u8], at: usize) -> Option<(Self, usize)> {
        let end = run(bytes, at, |b| b == b'\\');
        let backslashes = end - at;
        let known = (backslashes + 1).is_power_of_two() && backslashes < 16;
        (known && bytes.get(end) == Some(&b'"')).then_some((Self { backslashes }, end + 1))
    }

    /// The same quote at `at`, and the offset after it.
    fn again(self, bytes: &[u8], at: usize) -> Option<usize> {
        Self::at(bytes, at).filter(|(quote, _)| quote.backslashes == self.backslashes).map(|(_, end)| end)
    }

    /// Offsets of the end of the string that began before `at`, and after its closing quote. A quote inside the
    /// string is escaped once more, and one that is escaped less closes a string around it: then, and at the end of
    /// the bytes, the string was cut off and ends there.
    fn close(self, bytes: &[u8], at: usize) -> (usize, usize) {
        let mut from = at;
        while let Some(quote) = memchr::memchr(b'"', &bytes[from..]).map(|n| from + n) {
            let escapes = bytes[at..quote].iter().rev().take_while(|b| **b == b'\\').count();
            let inside = 2 * self.backslashes + 1;
            match escapes % (inside + 1) {
                level if level == inside => from = quote + 1,
                level if level == self.backslashes => return (quote - self.backslashes, quote + 1),
                _ => return (quote - escapes, quote - escapes),
            }
        }
        (bytes.len(), bytes.len())
    }
}

/// `"name": "value"`, `"name": ["value", …]`, `"name":"…","value":"…"` of a name that ends at `end`; `name=value`;
/// `Name: value` for names of headers.
fn named(bytes: &[u8], end: usize, found: Found<'_>) {
    if let Some((quote, after)) = Quote::at(bytes, end) {
        let colon = run(bytes, after, is_space);
        match bytes.get(colon) {
            Some(b':') => json_values(bytes, quote, colon + 1, found),
            // The name is itself a value: `{"name":"password","type":"string","value":"…"}` of Tekton, Kubernetes.
            Some(b',') => pair_value(bytes, quote, colon + 1, is_header(bytes, end), found),
            _ => {}
        }
        return;
    }
    match bytes.get(end) {
        Some(b'=') => match Quote::at(bytes, end + 1) {
            // The quote may also end the string that this stands in; then none of a value follows.
            Some((quote, value)) if bytes.get(value).is_some_and(|b| !is_space(*b) && !b",]}:".contains(b)) => {
                found(value, quote.close(bytes, value).0);
            }
            _ => found(end + 1, unquoted_end(bytes, end + 1)),
        },
        // Only with a scheme or in a header: «invalid token: expired» is a message, not a secret.
        Some(b':') if is_header(bytes, end) => {
            let value = run(bytes, end + 1, |b| b == b' ');
            found(value, run(bytes, value, |b| !matches!(b, b'\r' | b'\n' | b'"' | b'\'' | b'\\')));
        }
        _ => {}
    }
}

/// The name that ends at `end` is one of a header that carries credentials.
fn is_header(bytes: &[u8], end: usize) -> bool {
    const HEADERS: [&str; 11] = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-hub-signature",
        "x-hub-signature-256",
        "x-secret-token",
        "x-gitlab-token",
        "private-token",
        "x-api-key",
        "x-vault-token",
    ];
    let begin = bytes[..end].iter().rposition(|b| !is_word(*b)).map_or(0, |n| n + 1);
    HEADERS.iter().any(|name| bytes[begin..end].eq_ignore_ascii_case(name.as_bytes()))
}

/// One string, or every string of a flat list, from `at`.
fn json_values(bytes: &[u8], quote: Quote, at: usize, found: Found<'_>) {
    let mut at = run(bytes, at, is_space);
    let list = bytes.get(at) == Some(&b'[');
    if list {
        at += 1;
    }
    loop {
        at = run(bytes, at, |b| is_space(b) || (list && b == b','));
        let Some(value) = quote.again(bytes, at) else { return };
        let (stop, after) = quote.close(bytes, value);
        found(value, stop);
        if !list {
            return;
        }
        at = after;
    }
}

/// The string under `value`, which follows `name` (Tekton writes `type` between them); of a header also the second
/// of a pair (`["Cookie","a=b"]`).
fn pair_value(bytes: &[u8], quote: Quote, at: usize, header: bool, found: Found<'_>) {
    let mut at = at;
    for _ in 0..2 {
        let Some(key) = quote.again(bytes, run(bytes, at, is_space)) else { return };
        let (key_end, after) = quote.close(bytes, key);
        let colon = run(bytes, after, is_space);
        match bytes.get(colon) {
            Some(b':') => {}
            Some(b']') if header => return found(key, key_end),
            _ => return,
        }
        match &bytes[key..key_end] {
            b"value" => return json_values(bytes, quote, colon + 1, found),
            b"type" => {
                let Some(text) = quote.again(bytes, run(bytes, colon + 1, is_space)) else { return };
                let (_, after) = quote.close(bytes, text);
                let comma = run(bytes, after, is_space);
                if bytes.get(comma) != Some(&b',') {
                    return;
                }
                at = comma + 1;
            }
            _ => return,
        }
    }
}

/// `user:password@` after `scheme://`, of which the password goes; a long user name alone is a token.
fn userinfo(bytes: &[u8], start: usize, end: usize, found: Found<'_>) {
    let stop = run(bytes, end, |b| {
        b.is_ascii_graphic() && !matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\' | b'<' | b'>')
    });
    let Some(at) = bytes[end..stop].iter().rposition(|b| *b == b'@').map(|n| end + n) else { return };
    let web = bytes[..start].ends_with(b"http") || bytes[..start].ends_with(b"https");
    match bytes[end..at].iter().position(|b| *b == b':').map(|n| end + n) {
        Some(colon) => found(colon + 1, at),
        None if at - end >= 20 && web => found(end, at),
        None => {}
    }
}

/// Three or five parts of base64url with dots between (RFC 7519, RFC 7516).
fn jwt(bytes: &[u8], start: usize, found: Found<'_>) {
    if !bytes[start..].starts_with(b"eyJ") || (start > 0 && (is_word(bytes[start - 1]) || bytes[start - 1] == b'.')) {
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
