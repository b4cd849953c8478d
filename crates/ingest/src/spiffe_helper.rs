//! Logs of spiffe-helper (0.8 to 0.11): the program that writes an SVID to disk and signals its server.
//!
//! `X.509 certificates updated` proves that files were written and a signal was sent, not that the server took them:
//! it reads the same when NGINX refuses the reload.

use model::{
    Fact, Text,
    credential::{Credential, CredentialEvent as Event, Trouble},
};

use crate::{
    Context, Draft, Outcome,
    lines::{Framed, Seen},
    spire::{self, logrus::Record},
};

/// Parser and version as they stand in a body.
pub const PARSER: &str = "spiffe-helper/1";

/// Reads one line. A delivery becomes [`Event::Received`] or [`Event::Delivered`], a failure [`Event::DeliveryFailed`]
/// with its trouble; the lines of start and configuration are passed.
pub fn parse(line: &Framed<'_>, context: &Context<'_>, seen: &mut Seen, out: &mut Vec<Draft>) -> Outcome {
    let Some(record) = Record::read(line.text) else {
        return Outcome::Opaque(
            "not_a_line_of_this_format",
            "neither logrus text nor JSON with `level` and `msg`".into(),
        );
    };
    let occurred = record.occurred(line, context);
    seen.level(&record.level);
    seen.when(&occurred);
    let Some((event, trouble)) = event(&record) else {
        return Outcome::Passed;
    };
    let mut message = record.msg.as_ref().to_owned();
    if let Some(error) = record.field("error") {
        message = format!("{message}: {error}");
    }
    let end = message.floor_char_boundary(spire::LONGEST_MESSAGE);
    let fact = Credential {
        spiffe_id: record.field("spiffe_id").map(|id| id.chars().take(512).collect()),
        trouble,
        pid: None,
        tainted: false,
        message: Text::from(&message[..end]),
        ..spire::blank(occurred, event)
    };
    out.push(Draft { place: None, parser: PARSER, fact: Fact::Credential(fact), cut: Vec::new() });
    Outcome::Understood
}

/// True when a line can be one of this format.
pub fn recognises(line: &[u8]) -> bool {
    Record::read(Framed::read(line).text).is_some_and(|record| {
        record.field("system") == Some("spiffe-helper") || matches!(record.msg.as_ref(), UPDATED | UPDATED_BEFORE_0_9)
    })
}

const UPDATED: &str = "X.509 certificates updated";
const UPDATED_BEFORE_0_9: &str = "X509 SVID updated";

fn event(record: &Record<'_>) -> Option<(Event, Option<Trouble>)> {
    let msg = record.msg.as_ref();
    match msg {
        "Received update" => return Some((Event::Received, None)),
        UPDATED | UPDATED_BEFORE_0_9 => return Some((Event::Delivered, None)),
        _ => {}
    }
    // Everything that it calls an error kept a certificate from its server: it could not watch (the error stands in
    // the message), not write a file, or not signal.
    if !matches!(&*record.level, "error" | "fatal") {
        return None;
    }
    let error = record.field("error").unwrap_or(msg);
    if error.contains("no identity issued") {
        return Some((Event::NoIdentity, None));
    }
    Some((Event::DeliveryFailed, Some(spire::trouble_of(error))))
}
