//! From a stretch of lines to an append: shared by posts, followed files, `import` and `explain`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use ingest::{
    Context, k8s_objects,
    lines::{Format, Start, Taken},
    nginx_access::AccessFormat,
};
use model::{
    SourceId, Time,
    identity::{Declared, SourceKind, Submitter},
};
use sha2::{Digest as _, Sha256};

use crate::{
    derive::hex,
    desk::{Arrival, Desk, Reached},
};

/// Longest stretch of lines in one append.
pub const PIECE: usize = 4 << 20;

/// Where lines come from, as far as parsing needs it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name.
    pub id: &'a SourceId,
    /// What is declared.
    pub declared: &'a Declared,
    /// Its zone.
    pub zone: chrono_tz::Tz,
    /// Its format.
    pub format: &'a Format,
}

/// A stretch of whole lines.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The lines.
    pub bytes: &'a [u8],
    /// What stands around them when they are items of a list that is too long for one append.
    pub envelope: Option<Arc<k8s_objects::Envelope>>,
    /// Where they begin.
    pub start: Start,
    /// Nothing follows.
    pub last: bool,
}

/// The parser of a format. `log_format` is NGINX's string, for access logs that are neither combined nor JSON.
pub fn format(kind: SourceKind, log_format: Option<&str>) -> Result<Format> {
    Ok(match kind {
        SourceKind::NginxError => Format::NginxError,
        SourceKind::NginxAccess => Format::NginxAccess(match log_format {
            None => AccessFormat::default(),
            Some(text) => AccessFormat::compile(text).context("log_format")?,
        }),
        SourceKind::Spire => Format::Spire,
        SourceKind::SpiffeHelper => Format::SpiffeHelper,
        SourceKind::K8sObjects => Format::K8sObjects,
        SourceKind::K8sAudit => Format::K8sAudit,
        SourceKind::CloudEvents => Format::CloudEvents,
        SourceKind::Counterfoil | SourceKind::Unknown => anyhow::bail!("{} is no format of lines", kind.as_str()),
    })
}

/// The digest that names a posted body in places.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..16])
}

/// Fingerprint of a file: a hash over its first line, at most its first KiB, so that it is the same while the file
/// grows and after it was renamed. `None` until the first line is whole.
pub fn fingerprint(head: &[u8]) -> Option<String> {
    let head = &head[..head.len().min(1024)];
    match memchr::memchr(b'\n', head) {
        Some(end) => Some(hex(&Sha256::digest(&head[..end])[..16])),
        None if head.len() == 1024 => Some(hex(&Sha256::digest(head)[..16])),
        None => None,
    }
}

/// Cuts a body into the stretches that become appends, of about [`PIECE`]: lines at their ends, object lists between
/// their items.
pub fn pieces<'a>(format: &Format, bytes: &'a [u8], start: Start) -> Vec<Piece<'a>> {
    if !matches!(format, Format::K8sObjects) {
        return cut(bytes, start, PIECE);
    }
    let (mut start, mut at) = (start, 0);
    let mut pieces = Vec::new();
    for stretch in k8s_objects::stretches(bytes, PIECE) {
        start = start.after(&bytes[at..stretch.at]);
        at = stretch.at;
        pieces.push(Piece { bytes: stretch.bytes, envelope: stretch.envelope, start: start.clone(), last: false });
    }
    if let Some(piece) = pieces.last_mut() {
        piece.last = true;
    }
    pieces
}

/// Cuts at line ends into stretches of at most so many bytes (a longer line is a stretch of its own). Gives at least
/// one, so that an empty body is kept as an empty append.
pub fn cut(bytes: &[u8], start: Start, most: usize) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut start) = (bytes, start);
    loop {
        let end = if rest.len() <= most {
            rest.len()
        } else {
            match memchr::memrchr(b'\n', &rest[..most]) {
                Some(end) => end + 1,
                None => memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1),
            }
        };
        let (bytes, tail) = rest.split_at(end);
        let after = start.after(bytes);
        pieces.push(Piece { bytes, envelope: None, start, last: tail.is_empty() });
        if tail.is_empty() {
            return pieces;
        }
        (rest, start) = (tail, after);
    }
}

/// Both halves of a stretch that is too large for one append, parted at a line end; `None` for a single line or
/// items of a list.
pub fn halve<'a>(piece: &Piece<'a>) -> Option<[Piece<'a>; 2]> {
    if piece.envelope.is_some() {
        return None;
    }
    let middle = piece.bytes.len() / 2;
    let end = memchr::memchr(b'\n', &piece.bytes[middle..])
        .map(|at| middle + at + 1)
        .filter(|end| *end < piece.bytes.len())
        .or_else(|| memchr::memrchr(b'\n', &piece.bytes[..middle]).map(|at| at + 1))?;
    let (first, second) = piece.bytes.split_at(end);
    let after = piece.start.after(first);
    Some([
        Piece { bytes: first, envelope: None, start: piece.start.clone(), last: false },
        Piece { bytes: second, envelope: None, start: after, last: piece.last },
    ])
}

/// Parses a stretch.
pub fn take<'a>(
    desk: &Desk,
    source: &Source<'_>,
    piece: &Piece<'a>,
    complete_to: Option<Time>,
    observed_at: Time,
) -> Taken<'a> {
    let context = Context {
        source: source.id,
        declared: source.declared,
        zone: source.zone,
        observed_at,
        persons: &desk.persons,
    };
    let Source { format, .. } = source;
    match &piece.envelope {
        None => ingest::lines::take(format, &context, &desk.redactor, piece.bytes, &piece.start, complete_to),
        Some(envelope) => {
            let list = envelope.around(piece.bytes);
            ingest::lines::take(format, &context, &desk.redactor, &list, &piece.start, complete_to).into_owned()
        }
    }
}

/// What a parsed stretch becomes at the desk.
pub fn finish(
    desk: &Desk,
    source: &Source<'_>,
    taken: Taken<'_>,
    complete_to: Option<Time>,
    observed_at: Time,
    submitter: Submitter,
) -> Arrival {
    desk.note_people(taken.persons);
    Arrival {
        source: source.id.clone(),
        declared: source.declared.clone(),
        observed_at,
        submitter,
        payload: Some((taken.payload.into_owned(), "lines")),
        redacted: taken.redacted,
        drafts: taken.drafts,
        position: None,
        reached: Reached { newest: taken.newest, complete_to },
    }
}

/// [`take`] and [`finish`].
pub fn arrival(
    desk: &Desk,
    source: &Source<'_>,
    piece: &Piece<'_>,
    complete_to: Option<Time>,
    observed_at: Time,
    submitter: Submitter,
) -> Arrival {
    let taken = take(desk, source, piece, complete_to, observed_at);
    finish(desk, source, taken, complete_to, observed_at, submitter)
}
