//! From a stretch of lines to an append: shared by posts, followed files, `import` and `explain`.

use anyhow::{Context as _, Result};
use ingest::{
    Context,
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

/// Longest object list: `kubectl get -o json` writes one document over many lines, which must stay whole. Bounded by
/// what the ledger takes in one append.
const DOCUMENT: usize = 24 << 20;

/// Cuts a body into the stretches that become appends: lines at [`PIECE`], object lists whole up to a larger size.
pub fn pieces<'a>(format: &Format, bytes: &'a [u8], start: Start) -> Vec<Piece<'a>> {
    cut(bytes, start, if matches!(format, Format::K8sObjects) { DOCUMENT } else { PIECE })
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
        pieces.push(Piece { bytes, start, last: tail.is_empty() });
        if tail.is_empty() {
            return pieces;
        }
        (rest, start) = (tail, after);
    }
}

/// Both halves of a stretch that is too large for one append, parted at a line end; `None` for a single line.
pub fn halve<'a>(piece: &Piece<'a>) -> Option<[Piece<'a>; 2]> {
    let middle = piece.bytes.len() / 2;
    let end = memchr::memchr(b'\n', &piece.bytes[middle..])
        .map(|at| middle + at + 1)
        .filter(|end| *end < piece.bytes.len())
        .or_else(|| memchr::memrchr(b'\n', &piece.bytes[..middle]).map(|at| at + 1))?;
    let (first, second) = piece.bytes.split_at(end);
    let after = piece.start.after(first);
    Some([
        Piece { bytes: first, start: piece.start.clone(), last: false },
        Piece { bytes: second, start: after, last: piece.last },
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
    ingest::lines::take(source.format, &context, &desk.redactor, piece.bytes, &piece.start, complete_to)
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
