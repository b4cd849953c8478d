//! Access logs of NGINX, `http` and `stream`: any `log_format`, and JSON under any keys.
//!
//! Lines are not kept one by one. [`Fold`] counts the lines of one append into rows per minute and edge
//! ([`model::edges`]); the lines themselves are the append's payload. It is the hot path of the whole intake, so a
//! line is looked at once, its values stay slices of the input, and nothing is allocated for a line whose row exists.
//!
//! All times of an access line are the *end* of the request: NGINX writes the line when it is done with it.

mod certificate;
mod fields;
mod fold;
mod format;
mod json;
mod time;

use std::sync::LazyLock;

pub use fold::Fold;
pub use format::{AccessFormat, FormatError};

/// Parser and version as they stand in a body.
pub const PARSER: &str = "nginx-access/1";

/// True when a line can be an access line of a built-in format. Asked about every line that another parser does not
/// know, so the formats are compiled once.
pub fn recognises(line: &[u8]) -> bool {
    static AUTO: LazyLock<AccessFormat> = LazyLock::new(AccessFormat::auto);
    let text = crate::lines::Framed::read(line).text;
    let mut values = fields::Values::new();
    let read = match text.first() {
        Some(b'{') => json::read(text, &mut json::Layout::default(), &mut values).is_ok(),
        _ => AUTO.read_text(text, &mut values),
    };
    read && (values.some(fields::Var::Status).is_some() || values.has_tls())
        && (values.some(fields::Var::Time).is_some() || values.some(fields::Var::Msec).is_some())
}
