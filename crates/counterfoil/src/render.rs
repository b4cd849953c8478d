//! Answers as text: dense, in the asker's words, every statement with its entry and its grade, every answer closed by
//! the same footer. Bytes from outside are escaped, so that a log line cannot write to a terminal.

pub mod doctor;
pub mod search;
pub mod show;
pub mod why;

use anstyle::{AnsiColor, Style};
use model::{Time, record::Standing, time::SECOND};

use crate::answer::Through;

/// Bold, for what answers the question.
pub const STRONG: Style = Style::new().bold();
/// Dim, for footers and grades.
pub const FAINT: Style = Style::new().dimmed();
/// For what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// For what is missing or not sure.
pub const UNSURE: Style = AnsiColor::Yellow.on_default();
/// For what holds.
pub const GOOD: Style = AnsiColor::Green.on_default();

/// Text in a style; colours are stripped by the printer where there is no terminal.
pub fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a standing.
pub const fn standing(standing: Standing) -> Style {
    match standing {
        Standing::Established => GOOD,
        Standing::Consistent => STRONG,
        Standing::Undetermined => UNSURE,
    }
}

/// `15:20:59`: the time of day of an event whose date stands elsewhere.
pub fn clock(time: Time) -> String {
    let text = time.to_string();
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// `2026-11-23 15:20:59Z`.
pub fn moment(time: Time) -> String {
    let text = time.to_string();
    format!("{} {}Z", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

/// `31 s`, `4 min`, `3.2 h`, `5 d`: short, never negative.
#[expect(clippy::cast_precision_loss, reason = "one decimal is printed")]
pub fn span(nanos: i64) -> String {
    let seconds = nanos.max(0) / SECOND;
    match seconds {
        0 => "< 1 s".into(),
        1..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{:.1} h", seconds as f64 / 3600.0),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text from outside with control characters escaped and its length bounded.
pub fn safe(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.push('…');
            break;
        }
        // Bidirectional controls, invisible and line-breaking characters can make a line read as another one.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// An id as it is shown: its beginning, which is enough to ask for it.
pub fn short(id: &model::record::RecordId) -> &str {
    id.0.get(..8).unwrap_or(&id.0)
}

/// The footer of every answer.
pub fn footer(through: &Through, more: &str) -> String {
    let mut text = match through.time {
        None => "the ledger is empty".to_owned(),
        Some(time) => format!("as of #{}, {} ago", through.entries.saturating_sub(1), span(through.asked_at - time)),
    };
    if through.ledger > through.entries {
        text = format!("{text} · {} entries not followed yet", through.ledger - through.entries);
    }
    if !more.is_empty() {
        text = format!("{text} · {more}");
    }
    paint(FAINT, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_cannot_steer_a_terminal() {
        assert_eq!(safe("a\u{1b}[2Jb\u{202e}c", 100), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(safe("abcdef", 3), "abc…");
    }

    #[test]
    fn spans() {
        assert_eq!(span(31 * SECOND), "31 s");
        assert_eq!(span(-5), "< 1 s");
        assert_eq!(span(600 * SECOND), "10 min");
    }
}
