//! `log_format` strings, compiled to readers of the lines that they write.

use memchr::memmem;

use super::{
    fields::{Values, Var},
    json::{self, Layout},
};
use crate::{
    find,
    redact::{self, Span},
};

/// The rule of values that a declared format says are secrets.
const RULE: &str = "variable";

/// How the lines of one access log are to be read.
#[derive(Clone, Debug)]
pub struct AccessFormat {
    /// Tried in this order on lines that are not JSON: the declared format, then the built-in ones.
    text: Vec<Template>,
    keys: Layout,
    /// Keys of JSON lines, with their quotes, whose value is a secret.
    secret_keys: Vec<Box<[u8]>>,
}

/// What is wrong with a `log_format` string; offsets are in bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing but white space.
    #[error("the log_format is empty")]
    Empty,
    /// No variable of it is one that we read.
    #[error(
        "the log_format has no variable that says who called, what was answered or which upstream was called (such as $remote_addr, $status, $upstream_addr)"
    )]
    NothingToRead,
    /// `$` without a name.
    #[error("at byte {at}: `$` must be followed by a variable's name")]
    NoName {
        /// Where.
        at: usize,
    },
    /// `${name` without a brace.
    #[error("at byte {at}: `${{` is not closed")]
    OpenBrace {
        /// Where.
        at: usize,
    },
    /// Nobody can tell where the first value ends.
    #[error("at byte {at}: nothing stands between ${first} and ${second}, so nobody can tell where the first one ends")]
    NothingBetween {
        /// Where the second begins.
        at: usize,
        /// First variable.
        first: String,
        /// Second variable.
        second: String,
    },
    /// In a whole directive: a quote without its partner.
    #[error("at byte {at}: the quote is not closed")]
    OpenQuote {
        /// Where it opens.
        at: usize,
    },
}

impl Default for AccessFormat {
    fn default() -> Self {
        Self::auto()
    }
}

impl AccessFormat {
    /// Names of the built-in formats, for [`AccessFormat::named`].
    pub const NAMES: [&'static str; 6] = ["auto", "combined", "counterfoil", "nic-main", "ngf", "stream-main"];

    /// Finds out line by line: JSON by its keys, text as `combined` or as the form that NGINX's manual shows for
    /// `stream`, each with or without more fields behind. The two cannot be taken for one another.
    pub fn auto() -> Self {
        Self {
            text: vec![Template::open(COMBINED), Template::open(STREAM_PROXY), Template::open(STREAM)],
            keys: Layout::default(),
            secret_keys: Vec::new(),
        }
    }

    /// A built-in format: `combined` (NGINX's own), `counterfoil` (ours, JSON), `nic-main` (NGINX Ingress Controller's
    /// default: combined and one field more), `ngf` (NGINX Gateway Fabric's: combined, or JSON with NGINX's names as
    /// keys), `stream-main` (the manual's example for `stream`), and `auto`. All of them are what
    /// [`AccessFormat::auto`] finds out by itself; the names exist so that a configuration can say what is meant.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.contains(&name).then(Self::auto)
    }

    /// Compiles a `log_format`: the string alone, the string after `escape=…`, or the whole directive as it stands in
    /// the configuration. Strings that make JSON are read by key, so their lines survive a change of order; all others
    /// are read by the text between the variables.
    pub fn compile(text: &str) -> Result<Self, FormatError> {
        let format = directive(text)?;
        let pieces = pieces(&format)?;
        let reads = |var: &Option<Var>| {
            matches!(var, Some(Var::RemoteAddr | Var::Status | Var::UpstreamAddr | Var::UpstreamName))
        };
        if format.trim_start().starts_with('{') {
            let mut keys = Layout::default();
            let mut useful = false;
            let mut secret_keys = Vec::new();
            for pair in pieces.windows(2) {
                if let [Piece::Literal(literal), Piece::Var(name)] = pair
                    && let Some(key) = key_before(literal)
                {
                    if is_secret(name) {
                        secret_keys.push(format!("\"{key}\"").into_bytes().into());
                    }
                    let var = Var::of_variable(name.as_bytes()).or_else(|| Var::of_key(key.as_bytes()));
                    useful |= reads(&var);
                    keys.declare(key.as_bytes(), var);
                }
            }
            return if useful {
                Ok(Self { keys, secret_keys, ..Self::auto() })
            } else {
                Err(FormatError::NothingToRead)
            };
        }
        let template = Template::new(&pieces, false)?;
        if !template.fields.iter().any(|field| reads(&field.var)) {
            return Err(FormatError::NothingToRead);
        }
        let mut format = Self::auto();
        format.text.insert(0, template);
        Ok(format)
    }

    /// Reads one line into the values; the error says why it cannot be.
    pub(super) fn read<'a>(&mut self, line: &'a [u8], values: &mut Values<'a>) -> Result<(), &'static str> {
        if line.first() == Some(&b'{') {
            return json::read(line, &mut self.keys, values);
        }
        if self.read_text(line, values) {
            return Ok(());
        }
        Err("neither JSON, nor of the declared log_format, nor combined")
    }

    /// The values in these lines that the declared format says are secrets (`$http_authorization`, `$cookie_session`),
    /// in order. The general rules know them only by what stands around them.
    pub(crate) fn secrets(&self, lines: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        let text = self.text.first().filter(|template| template.fields.iter().any(|field| field.secret));
        if text.is_none() && self.secret_keys.is_empty() {
            return spans;
        }
        let mut begin = 0;
        for line in lines.split(|b| *b == b'\n') {
            let framed = crate::lines::Framed::read(line).text;
            let at = begin + line.len() - framed.len();
            begin += line.len() + 1;
            let framed = framed.strip_suffix(b"\r").unwrap_or(framed);
            let mut push = |start: usize, end: usize| {
                if end > start && &framed[start..end] != b"-" {
                    spans.push(Span { start: at + start, end: at + end, rule: RULE });
                }
            };
            if framed.starts_with(b"{") {
                for key in &self.secret_keys {
                    memmem::find_iter(framed, key).for_each(|n| redact::member(framed, n + key.len() - 1, &mut push));
                }
            } else if let Some(template) = text {
                template.each(framed, |field, start, end| {
                    if field.secret {
                        push(start, end);
                    }
                });
            }
        }
        spans
    }

    /// Reads a line that is not JSON; false when no format fits, and then no value is set.
    pub(super) fn read_text<'a>(&self, line: &'a [u8], values: &mut Values<'a>) -> bool {
        for template in &self.text {
            if template.read(line, values) {
                return true;
            }
            *values = Values::new();
        }
        false
    }
}

const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

const STREAM_PROXY: &str =
    r#"$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time "$upstream_addr""#;

const STREAM: &str = "$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time";

/// The string of a directive: `log_format name [escape=…] 'a' 'b';`, or `escape=… string`, or the string itself.
fn directive(text: &str) -> Result<String, FormatError> {
    let trimmed = text.trim();
    let Some(rest) = trimmed.strip_prefix("log_format").filter(|rest| rest.starts_with(char::is_whitespace)) else {
        let mut rest = trimmed;
        if let Some(after) = rest.strip_prefix("escape=") {
            rest = after.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
        }
        if rest.is_empty() {
            return Err(FormatError::Empty);
        }
        return Ok(rest.to_owned());
    };
    let mut format = String::new();
    let offset = text.len() - text.trim_start().len() + "log_format".len();
    let mut chars = rest.char_indices().peekable();
    let mut words = 0;
    while let Some((at, c)) = chars.next() {
        match c {
            ';' => break,
            c if c.is_whitespace() => {}
            quote @ ('\'' | '"') => loop {
                let (_, c) = chars.next().ok_or(FormatError::OpenQuote { at: offset + at })?;
                match c {
                    c if c == quote => break,
                    '\\' => match chars.next().map(|(_, c)| c) {
                        Some('t') => format.push('\t'),
                        Some('r') => format.push('\r'),
                        Some('n') => format.push('\n'),
                        Some(c @ ('"' | '\'' | '\\')) => format.push(c),
                        Some(c) => format.extend(['\\', c]),
                        None => return Err(FormatError::OpenQuote { at: offset + at }),
                    },
                    c => format.push(c),
                }
            },
            c => {
                let mut word = String::from(c);
                while let Some((_, c)) = chars.next_if(|(_, c)| !c.is_whitespace() && *c != ';') {
                    word.push(c);
                }
                words += 1;
                // The first word is the format's name; a format without spaces may come unquoted.
                if words > 1 && !word.starts_with("escape=") {
                    format.push_str(&word);
                }
            }
        }
    }
    if format.trim().is_empty() { Err(FormatError::Empty) } else { Ok(format) }
}

#[derive(Debug, PartialEq)]
enum Piece {
    Literal(String),
    Var(String),
}

/// Splits at `$name` and `${name}` (`ngx_http_log_compile_format`).
fn pieces(format: &str) -> Result<Vec<Piece>, FormatError> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while !rest.is_empty() {
        let Some(dollar) = rest.find('$') else {
            pieces.push(Piece::Literal(rest.to_owned()));
            break;
        };
        if dollar > 0 {
            pieces.push(Piece::Literal(rest[..dollar].to_owned()));
        }
        let at = format.len() - rest.len() + dollar;
        let after = &rest[dollar + 1..];
        let (name, next) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}').ok_or(FormatError::OpenBrace { at })?
        } else {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        };
        if name.is_empty() {
            return Err(FormatError::NoName { at });
        }
        if let Some(Piece::Var(first)) = pieces.last() {
            return Err(FormatError::NothingBetween { at, first: first.clone(), second: name.to_owned() });
        }
        pieces.push(Piece::Var(name.to_owned()));
        rest = next;
    }
    Ok(pieces)
}

/// The key in `…,"key":"` or `…,"key":`.
fn key_before(literal: &str) -> Option<&str> {
    let before = literal.trim_end().trim_end_matches('"').trim_end().strip_suffix(':')?.trim_end().strip_suffix('"')?;
    Some(&before[before.rfind('"')? + 1..])
}

/// A format whose lines are read by the text between the variables.
#[derive(Clone, Debug)]
pub(super) struct Template {
    lead: Box<[u8]>,
    fields: Vec<Field>,
    /// More may follow the last field.
    open: bool,
}

#[derive(Clone, Debug)]
struct Field {
    var: Option<Var>,
    secret: bool,
    /// What stands behind it; empty for the last field of a format that ends with a variable.
    until: Until,
}

/// A text between two variables, prepared to be searched for.
#[derive(Clone, Debug)]
struct Until {
    text: Box<[u8]>,
    /// The first eight bytes, and a mask for those that there are.
    head: u64,
    mask: u64,
}

impl Until {
    fn new(text: &[u8]) -> Self {
        let (mut head, mut mask) = ([0; 8], [0; 8]);
        for (n, byte) in text.iter().take(8).enumerate() {
            (head[n], mask[n]) = (*byte, 0xFF);
        }
        Self { text: text.into(), head: u64::from_le_bytes(head), mask: u64::from_le_bytes(mask) }
    }

    /// It stands at the start of these bytes. Mostly it is short, and then this is one comparison.
    #[inline]
    fn begins(&self, bytes: &[u8]) -> bool {
        match bytes.first_chunk() {
            _ if self.text.len() == 1 => bytes.first() == self.text.first(),
            Some(chunk) if self.text.len() <= 8 => u64::from_le_bytes(*chunk) & self.mask == self.head,
            _ => bytes.starts_with(&self.text),
        }
    }

    /// Where it stands first, as far as `fits` accepts what follows.
    #[inline]
    fn find(&self, bytes: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<usize> {
        // The first byte of what stands between two variables is rare in their values.
        let first = *self.text.first()?;
        let mut from = 0;
        loop {
            let at = from + find::byte(first, &bytes[from..])?;
            if self.begins(&bytes[at..]) && fits(&bytes[at + self.text.len()..]) {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

impl Template {
    /// A built-in format, behind which more may follow.
    fn open(format: &str) -> Self {
        let template = pieces(format).and_then(|pieces| Self::new(&pieces, true));
        template.expect("the built-in formats compile: a test reads a line of each")
    }

    fn new(pieces: &[Piece], open: bool) -> Result<Self, FormatError> {
        let mut template = Self { lead: Box::default(), fields: Vec::new(), open };
        let mut pieces = pieces.iter().peekable();
        if let Some(Piece::Literal(lead)) = pieces.next_if(|piece| matches!(piece, Piece::Literal(_))) {
            template.lead = lead.as_bytes().into();
        }
        while let Some(piece) = pieces.next() {
            let Piece::Var(name) = piece else { continue };
            let until = match pieces.next() {
                Some(Piece::Literal(text)) => text.as_bytes(),
                _ => b"",
            };
            let var = Var::of_variable(name.as_bytes());
            template.fields.push(Field { var, secret: is_secret(name), until: Until::new(until) });
        }
        if template.fields.is_empty() { Err(FormatError::NothingToRead) } else { Ok(template) }
    }

    /// Reads a line into the values; false when it does not have this form.
    fn read<'a>(&self, line: &'a [u8], values: &mut Values<'a>) -> bool {
        self.each(line, |field, start, end| {
            if let Some(var) = field.var {
                values.set(var, &line[start..end]);
            }
        })
    }

    /// Calls `f` with start and end of each field; false when the line does not have this form.
    #[inline]
    fn each(&self, line: &[u8], mut f: impl FnMut(&Field, usize, usize)) -> bool {
        // An empty box points nowhere, and where `memcmp` reads with masked loads, even no bytes from there cost a fault.
        if !self.lead.is_empty() && !line.starts_with(&self.lead) {
            return false;
        }
        let mut start = self.lead.len();
        for (i, field) in self.fields.iter().enumerate() {
            let rest = &line[start..];
            let end = if field.until.text.is_empty() {
                // The last field of an open format ends at a space, where the more begins.
                let end = if self.open { memchr::memchr(b' ', rest) } else { None };
                end.unwrap_or(rest.len())
            } else {
                // A caller chooses some values (a user name with ` [` in it); a time or status behind must look like
                // one, otherwise the search goes on.
                let next = self.fields.get(i + 1).and_then(|next| next.var);
                let Some(end) = field.until.find(rest, |behind| fits(next, behind)) else { return false };
                end
            };
            f(field, start, start + end);
            start += end + field.until.text.len();
        }
        start == line.len() || self.open
    }
}

/// A variable that holds credentials of a caller.
fn is_secret(variable: &str) -> bool {
    variable.starts_with("cookie_") || redact::is_secret_name(variable.as_bytes())
}

/// A value of this meaning can begin like this.
fn fits(var: Option<Var>, text: &[u8]) -> bool {
    match var {
        Some(Var::Time) => {
            (text.get(2) == Some(&b'/') && text.get(11) == Some(&b':'))
                || (text.get(4) == Some(&b'-') && text.get(10) == Some(&b'T'))
        }
        Some(Var::Status) => text.len() >= 3 && text[..3].iter().all(u8::is_ascii_digit),
        Some(Var::Msec) => text.first().is_some_and(u8::is_ascii_digit),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, error) in [
            ("  ", FormatError::Empty),
            ("log_format x '';", FormatError::Empty),
            ("plain", FormatError::NothingToRead),
            ("$http_cookie $request", FormatError::NothingToRead),
            (r#"{"t":"$time_local"}"#, FormatError::NothingToRead),
            ("$status $ x", FormatError::NoName { at: 8 }),
            ("$status ${x", FormatError::OpenBrace { at: 8 }),
            ("log_format x '$status", FormatError::OpenQuote { at: 13 }),
            (
                "$status$request",
                FormatError::NothingBetween { at: 7, first: "status".into(), second: "request".into() },
            ),
        ] {
            assert_eq!(AccessFormat::compile(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_directive_and_its_string_compile_to_the_same() {
        let line = b"10.0.0.9|502|10.0.0.1:80, 10.0.0.2:80|x";
        for text in [
            "$remote_addr|$status|$upstream_addr|x",
            "escape=json $remote_addr|${status}|$upstream_addr|x",
            "log_format up escape=none '$remote_addr|$status|'\n  \"$upstream_addr|\" 'x';",
        ] {
            let mut values = Values::new();
            AccessFormat::compile(text).unwrap().read(line, &mut values).unwrap();
            assert_eq!(values.get(Var::UpstreamAddr), Some(b"10.0.0.1:80, 10.0.0.2:80".as_slice()), "{text}");
            assert_eq!(values.get(Var::RemoteAddr), Some(b"10.0.0.9".as_slice()));
        }
    }

    #[test]
    fn a_user_name_cannot_shift_the_fields() {
        let line = br#"10.0.0.9 - a [x] \x22GET [23/Nov/2026:06:38:53 +0000] "GET / HTTP/1.1" 200 3 "-" "-""#;
        let mut values = Values::new();
        AccessFormat::auto().read(line, &mut values).unwrap();
        assert_eq!(values.get(Var::Time), Some(b"23/Nov/2026:06:38:53 +0000".as_slice()));
        assert_eq!(values.get(Var::Status), Some(b"200".as_slice()));
    }
}
