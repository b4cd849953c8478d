//! The three forms in which programs that log with logrus write a line: text, text for a terminal, JSON.

use std::{borrow::Cow, fmt};

use model::{Grade, Time, When};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{Context, lines::Framed};

/// Most fields kept of one line; SPIRE writes about 25 at most.
const MAX_FIELDS: usize = 64;

/// One line: time, level, message and fields.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Record<'a> {
    /// RFC 3339; absent on a terminal.
    pub(crate) time: Option<Time>,
    /// logrus' word: `info`, `warning`, …
    pub(crate) level: Cow<'a, str>,
    /// The message.
    pub(crate) msg: Cow<'a, str>,
    fields: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Record<'a> {
    /// Reads a line in any of the three forms; `None` when it is none of them.
    pub(crate) fn read(line: &'a [u8]) -> Option<Self> {
        match line.first()? {
            b'{' => Self::json(line),
            b't' | b'l' => Self::text(std::str::from_utf8(line).ok()?),
            _ => Self::terminal(std::str::from_utf8(line).ok()?),
        }
    }

    /// A field that is there and not empty.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref()).filter(|v| !v.is_empty())
    }

    /// The best time of the line: its own, else the frame's, else the time of receipt, graded inferred.
    pub(crate) fn occurred(&self, line: &Framed<'_>, context: &Context<'_>) -> When {
        match (self.time, line.at) {
            // Whole seconds may be a moment of any fraction: the helper's format has none.
            (Some(at), _) if at.0 % model::time::SECOND == 0 => When::second(at),
            (Some(at), _) => When::exact(at),
            (None, Some(at)) => at,
            (None, None) => When { at: context.observed_at, within_ms: 0, zone: Grade::Inferred },
        }
    }

    fn json(line: &'a [u8]) -> Option<Self> {
        let Flat(fields) = serde_json::from_slice(line).ok()?;
        let mut record = Self { fields, ..Self::default() };
        record.msg = record.take("msg")?;
        record.level = record.take("level")?;
        record.time = record.take("time").and_then(|time| Time::parse(&time));
        Some(record)
    }

    /// `time="…" level=info msg="…" key=value key="quoted \"value\"" empty=`.
    fn text(line: &'a str) -> Option<Self> {
        let mut record = Self { fields: pairs(line)?, ..Self::default() };
        record.msg = record.take("msg")?;
        record.level = record.take("level")?;
        record.time = record.take("time").and_then(|time| Time::parse(&time));
        Some(record)
    }

    /// `INFO[0000] message padded with spaces   key=value`, with or without colours. The number is seconds since the
    /// start of the program, unless it writes full times.
    fn terminal(line: &'a str) -> Option<Self> {
        if line.contains('\u{1b}') {
            return terminal(&without_colours(line)).map(Record::into_owned);
        }
        terminal(line)
    }

    fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.fields.iter().position(|(key, _)| key == name)?;
        Some(self.fields.swap_remove(at).1)
    }

    fn into_owned(self) -> Record<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned::<'static, str>(text.into_owned());
        Record {
            time: self.time,
            level: owned(self.level),
            msg: owned(self.msg),
            fields: self.fields.into_iter().map(|(key, value)| (owned(key), owned(value))).collect(),
        }
    }
}

/// A terminal line without colours.
fn terminal(line: &str) -> Option<Record<'_>> {
    let (level, rest) = line.split_once('[')?;
    let level = match level {
        "TRAC" => "trace",
        "DEBU" => "debug",
        "INFO" => "info",
        "WARN" => "warning",
        "ERRO" => "error",
        "FATA" => "fatal",
        "PANI" => "panic",
        _ => return None,
    };
    let (stamp, rest) = rest.split_once(']')?;
    let rest = rest.strip_prefix(' ')?;
    // The message ends where the fields begin; they are the longest tail that reads as pairs.
    let start = rest
        .match_indices(' ')
        .map(|(at, _)| at + 1)
        .find(|at| rest[*at..].starts_with(|c: char| c.is_ascii_alphabetic()) && pairs(&rest[*at..]).is_some());
    let (msg, fields) = match start {
        Some(at) => (&rest[..at], pairs(&rest[at..])?),
        None => (rest, Vec::new()),
    };
    Some(Record { time: Time::parse(stamp), level: level.into(), msg: msg.trim_end().into(), fields })
}

/// `key=value` pairs separated by single spaces; `None` when the text is anything else. Values are quoted like Go
/// strings when they need it.
fn pairs(mut text: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let mut pairs = Vec::new();
    loop {
        let equals = text.find('=')?;
        let (key, rest) = (&text[..equals], &text[equals + 1..]);
        if key.is_empty() || key.contains([' ', '"']) || pairs.len() == MAX_FIELDS {
            return None;
        }
        let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            (Cow::Borrowed(&rest[..end]), &rest[end..])
        };
        pairs.push((Cow::Borrowed(key), value));
        match rest.strip_prefix(' ').map(str::trim_start) {
            Some("") => return Some(pairs),
            Some(rest) => text = rest,
            None if rest.trim_end().is_empty() => return Some(pairs),
            None => return None,
        }
    }
}

/// The value up to the closing quote, and what follows it. Go's escapes (`%q`).
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let bytes = text.as_bytes();
    let first = memchr::memchr2(b'"', b'\\', bytes)?;
    if bytes[first] == b'"' {
        return Some((Cow::Borrowed(&text[..first]), &text[first + 1..]));
    }
    let mut value = text[..first].to_owned();
    let mut chars = text[first..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Cow::Owned(value), &text[first + at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                kind @ ('x' | 'u' | 'U') => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let c = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                    value.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                }
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

/// Without `ESC [ … m`.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    plain.push_str(&rest.replace('\u{1b}', ""));
    plain
}

/// The members of a JSON object; strings unquoted, anything else as its JSON text.
struct Flat<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Flat<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Flat<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Flat<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, raw)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    let raw = raw.get();
                    let value = if raw.starts_with('"') {
                        serde_json::from_str::<Key<'de>>(raw).map_or(Cow::Borrowed(raw), |key| key.0)
                    } else {
                        Cow::Borrowed(raw)
                    };
                    if fields.len() < MAX_FIELDS {
                        fields.push((key.0, value));
                    }
                }
                Ok(Flat(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_say_the_same() {
        let text = r#"time="2026-11-23T15:02:29.552085328Z" level=error msg="Failed to fetch" error="desc = \"dial\"" empty= a=b"#;
        let json = r#"{"a":"b","empty":"","error":"desc = \"dial\"","level":"error","msg":"Failed to fetch","time":"2026-11-23T15:02:29.552085328Z"}"#;
        let tty = "\u{1b}[31mERRO\u{1b}[0m[2026-11-23T15:02:29.552085328Z] Failed to fetch                \u{1b}[31ma\u{1b}[0m=b empty= error=\"desc = \\\"dial\\\"\"";
        for line in [text, json, tty] {
            let record = Record::read(line.as_bytes()).unwrap();
            assert_eq!((&*record.level, &*record.msg), ("error", "Failed to fetch"), "{line}");
            assert_eq!(record.time, Time::parse("2026-11-23T15:02:29.552085328Z"));
            assert_eq!(record.field("error"), Some("desc = \"dial\""));
            assert_eq!(record.field("a"), Some("b"));
            assert_eq!(record.field("empty"), None);
        }
    }

    #[test]
    fn a_terminal_line_has_no_date_and_may_have_no_fields() {
        let record =
            Record::read(b"WARN[0000] Private key recovered, but SVID is expired    subsystem_name=attestor").unwrap();
        assert_eq!(&*record.msg, "Private key recovered, but SVID is expired");
        assert_eq!(record.field("subsystem_name"), Some("attestor"));
        assert_eq!(record.time, None);
        assert_eq!(&*Record::read(b"INFO[0012] a=b is no field list").unwrap().msg, "a=b is no field list");
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "",
            "{",
            "{}",
            "[]",
            "time=",
            "panic: oops",
            "level=info",
            "INFO[00",
            "NOTE[0000] x",
            "\u{1b}",
            "{\"msg\":1",
        ] {
            assert_eq!(Record::read(line.as_bytes()), None, "{line}");
        }
    }
}
