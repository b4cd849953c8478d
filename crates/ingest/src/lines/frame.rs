//! What stands around a line: the frames of container runtimes, `kubectl logs --timestamps` and syslog receivers.

use model::{Time, When};

/// One line without its frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Framed<'a> {
    /// The line as its writer wrote it.
    pub text: &'a [u8],
    /// The frame's own time: a second clock, with zone and usually nanoseconds.
    pub at: Option<When>,
    /// The stream of a container that it was written to.
    pub stream: Option<Stream>,
    /// A container runtime split the line and this is not its last part (CRI tag `P`).
    pub partial: bool,
    /// How many bytes longer (negative: shorter) the text was before redaction.
    pub redacted: isize,
}

/// Where a container wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl<'a> Framed<'a> {
    /// A line without a frame.
    pub const fn bare(text: &'a [u8]) -> Self {
        Self { text, at: None, stream: None, partial: false, redacted: 0 }
    }

    /// Takes the frame off, if there is one:
    /// - CRI (Kubernetes container log format): `<RFC3339Nano> stdout|stderr P|F <text>`;
    /// - `kubectl logs --timestamps`: `<RFC3339Nano> <text>`. Only with a fraction of a second, because a
    ///   `log_format` may begin with `$time_iso8601`, which has none and belongs to the line;
    /// - RFC 3164 as NGINX sends it: `<PRI>Nov 23 06:38:54 [host ]tag: <text>`. Its time has neither year nor zone and
    ///   is no better than the line's own, so it is not read.
    pub fn read(line: &'a [u8]) -> Self {
        match line.first() {
            Some(b'<') => Self::bare(after_syslog(line).unwrap_or(line)),
            Some(b) if b.is_ascii_digit() => Self::timed(line).unwrap_or(Self::bare(line)),
            _ => Self::bare(line),
        }
    }

    fn timed(line: &'a [u8]) -> Option<Self> {
        if line.get(4) != Some(&b'-') || !matches!(line.get(10), Some(b'T')) {
            return None;
        }
        let end = memchr::memchr(b' ', &line[..line.len().min(40)])?;
        let stamp = std::str::from_utf8(&line[..end]).ok()?;
        let rest = &line[end + 1..];
        for (word, stream) in [(b"stdout ", Stream::Out), (b"stderr ", Stream::Err)] {
            if let Some(rest) = rest.strip_prefix(word) {
                let at = Time::parse(stamp).map(When::exact)?;
                // The tag field may carry more tags, separated by colons; the first says whole or partial.
                let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
                let partial = rest[..end].first() == Some(&b'P');
                let text = rest.get(end + 1..).unwrap_or_default();
                return Some(Self { at: Some(at), stream: Some(stream), partial, ..Self::bare(text) });
            }
        }
        if !stamp.contains('.') {
            return None;
        }
        Some(Self { at: Some(When::exact(Time::parse(stamp)?)), ..Self::bare(rest) })
    }
}

/// Behind `<PRI>`, the date (15 bytes), an optional host and the tag.
fn after_syslog(line: &[u8]) -> Option<&[u8]> {
    let pri = memchr::memchr(b'>', &line[..line.len().min(5)])?;
    if pri < 2 || !line[1..pri].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let rest = line.get(pri + 1..)?;
    // `Nov 23 06:38:54 `: the day may be padded with a space.
    if rest.len() < 16 || rest[3] != b' ' || rest[6] != b' ' || rest[9] != b':' || rest[15] != b' ' {
        return None;
    }
    let rest = &rest[16..];
    let colon = memchr::memmem::find(&rest[..rest.len().min(300)], b": ")?;
    Some(&rest[colon + 2..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_off_and_other_lines_stay() {
        let exact = |text| Time::parse(text).map(When::exact);
        for (line, text, time, partial) in [
            (
                "2026-11-23T06:38:54.880123456Z stdout F {\"a\":1}",
                "{\"a\":1}",
                exact("2026-11-23T06:38:54.880123456Z"),
                false,
            ),
            ("2026-11-23T08:38:54.88+02:00 stderr P abc", "abc", exact("2026-11-23T06:38:54.880Z"), true),
            ("2026-11-23T08:38:54.88+02:00 stderr F:x abc", "abc", exact("2026-11-23T06:38:54.880Z"), false),
            ("2026-11-23T06:38:54.880123456Z stdout F", "", exact("2026-11-23T06:38:54.880123456Z"), false),
            ("2026-11-23T06:38:54.880123456Z hello", "hello", exact("2026-11-23T06:38:54.880123456Z"), false),
            ("2026-11-23T06:38:54+00:00 10.0.0.1 200", "2026-11-23T06:38:54+00:00 10.0.0.1 200", None, false),
            ("<190>Nov  3 06:38:53 vm nginx_mesh: 2026/11/23 x", "2026/11/23 x", None, false),
            ("<190>Nov 23 06:38:53 nginx_mesh: y", "y", None, false),
            ("<xml>", "<xml>", None, false),
            ("<1>", "<1>", None, false),
            ("2026", "2026", None, false),
            ("", "", None, false),
        ] {
            let framed = Framed::read(line.as_bytes());
            assert_eq!((framed.text, framed.at, framed.partial), (text.as_bytes(), time, partial), "{line}");
        }
    }
}
