//! From a stretch of lines to the drafts of one append.
//!
//! [`take`] redacts first and parses what is left, so that a secret reaches neither payload nor leaf; places are those
//! of the bytes as received. Every line is accounted for: understood, passed or opaque, and the account is the first
//! draft ([`Import`]). A stretch is parsed by itself, whatever came before: intake keeps no memory.

mod detect;
mod frame;
mod offsets;
mod seen;

use std::{borrow::Cow, collections::HashMap};

use foldhash::fast::RandomState;
pub use frame::{Framed, Stream};
use model::{
    Fact, Text, Time,
    entry::{Place, Redacted},
    fact::{Import, Opaque},
    handshake::{Failure, Handshake, Side},
    identity::SourceKind,
};
use offsets::Offsets;
pub use seen::Seen;

use crate::{
    Context, Draft, Outcome, PersonSeen, cloudevents, k8s_audit, k8s_objects,
    nginx_access::{self, AccessFormat, Fold},
    nginx_error::{self, Torn},
    redact::{self, Redactor},
    spiffe_helper, spire,
};

/// Parser and version of the account, as they stand in a body.
pub const PARSER: &str = "lines/1";

/// Longest line of a text log; a longer one is kept in the payload and is opaque.
pub const MAX_TEXT_LINE: usize = 64 * 1024;
/// Longest line that is a JSON document (audit events, recorded deliveries).
pub const MAX_DOCUMENT_LINE: usize = 4 * 1024 * 1024;
/// Opaque lines that become a fact; further ones are only counted.
pub const MAX_OPAQUE_FACTS: u64 = 10;
/// Bytes of an opaque line that stand in its fact.
const OPAQUE_HEAD: usize = 256;
/// Handshakes alike (failure, both ends, codes) that are kept one by one per minute; further ones are counted in one row.
pub const MAX_HANDSHAKES_A_MINUTE: u64 = 1000;

/// How the lines of a source are to be read.
#[derive(Clone, Debug)]
pub enum Format {
    /// `error_log` of NGINX.
    NginxError,
    /// `access_log` of NGINX.
    NginxAccess(AccessFormat),
    /// SPIRE server or agent.
    Spire,
    /// spiffe-helper.
    SpiffeHelper,
    /// `kubectl get … -o json`: a document, or one per line.
    K8sObjects,
    /// Kubernetes audit log, an event per line.
    K8sAudit,
    /// Recorded deliveries of CloudEvents, one per line.
    CloudEvents,
}

impl Format {
    /// The kind of sources with this format.
    pub const fn kind(&self) -> SourceKind {
        match self {
            Self::NginxError => SourceKind::NginxError,
            Self::NginxAccess(_) => SourceKind::NginxAccess,
            Self::Spire => SourceKind::Spire,
            Self::SpiffeHelper => SourceKind::SpiffeHelper,
            Self::K8sObjects => SourceKind::K8sObjects,
            Self::K8sAudit => SourceKind::K8sAudit,
            Self::CloudEvents => SourceKind::CloudEvents,
        }
    }

    /// The format of these lines, the beginning of a file; `None` when no format recognises most of them.
    pub fn detect(sample: &[u8]) -> Option<Self> {
        detect::format(sample)
    }

    /// The parser that stands in the facts.
    const fn parser(&self) -> &'static str {
        match self {
            Self::NginxError => nginx_error::PARSER,
            Self::NginxAccess(_) => nginx_access::PARSER,
            Self::Spire => spire::PARSER,
            Self::SpiffeHelper => spiffe_helper::PARSER,
            Self::K8sObjects => k8s_objects::PARSER,
            Self::K8sAudit => k8s_audit::PARSER,
            Self::CloudEvents => cloudevents::PARSER,
        }
    }

    const fn max_line(&self) -> usize {
        match self {
            Self::NginxError | Self::NginxAccess(_) | Self::Spire | Self::SpiffeHelper => MAX_TEXT_LINE,
            Self::K8sObjects => usize::MAX,
            Self::K8sAudit | Self::CloudEvents => MAX_DOCUMENT_LINE,
        }
    }
}

/// Where a stretch of lines begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a file.
    File {
        /// Hash over the file's first bytes: the same while it grows and is renamed.
        fingerprint: String,
        /// Offset of the first byte.
        offset: u64,
    },
    /// In a posted body.
    Post {
        /// Digest of the whole body.
        digest: String,
        /// Number of the first line, from 1.
        line: u64,
    },
}

impl Start {
    /// Where the lines behind these begin.
    #[must_use]
    pub fn after(&self, bytes: &[u8]) -> Self {
        match self {
            Self::File { fingerprint, offset } => {
                Self::File { fingerprint: fingerprint.clone(), offset: offset + bytes.len() as u64 }
            }
            Self::Post { digest, line } => {
                Self::Post { digest: digest.clone(), line: line + memchr::memchr_iter(b'\n', bytes).count() as u64 }
            }
        }
    }

    /// The place of a line: `offset` bytes and `line` lines behind the start.
    const fn number(&self, offset: usize, line: u64) -> u64 {
        match self {
            Self::File { offset: start, .. } => *start + offset as u64,
            Self::Post { line: start, .. } => *start + line,
        }
    }

    fn place(&self, number: u64) -> Place {
        match self {
            Self::File { fingerprint, .. } => Place::File { file: fingerprint.clone(), offset: number },
            Self::Post { digest, .. } => Place::Post { post: digest.clone(), line: number },
        }
    }
}

/// What a stretch of lines became.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The account ([`Import`]), then the facts in the order of their lines.
    pub drafts: Vec<Draft>,
    /// Persons met on the way.
    pub persons: Vec<PersonSeen>,
    /// The lines as they are to be kept.
    pub payload: Cow<'a, [u8]>,
    /// What was redacted.
    pub redacted: Vec<Redacted>,
    /// Bytes of the input that are accounted for: all of them.
    pub consumed: usize,
    /// Oldest time in the lines.
    pub oldest: Option<Time>,
    /// Newest time in the lines.
    pub newest: Option<Time>,
}

impl Taken<'_> {
    /// The same, borrowed from nothing.
    pub fn into_owned(self) -> Taken<'static> {
        Taken { payload: Cow::Owned(self.payload.into_owned()), ..self }
    }
}

/// Reads whole lines; a last one without a line feed counts as whole. `complete_to` is the submitter's word that
/// nothing of the source before that moment is missing.
///
/// The caller cuts: everything of one call is one append, so a call should get a few MiB at most, and of
/// [`Format::K8sObjects`] whole documents.
pub fn take<'a>(
    format: &Format,
    context: &Context<'_>,
    redactor: &Redactor,
    bytes: &'a [u8],
    start: &Start,
    complete_to: Option<Time>,
) -> Taken<'a> {
    let mut spans = match format {
        Format::K8sObjects => redactor.spans(bytes), // a document may go over many lines
        _ => redactor.spans_of_lines(bytes),
    };
    if let Format::NginxAccess(format) = format {
        spans.extend(format.secrets(bytes));
        spans = redact::in_order(spans);
    }
    let (payload, redacted) = match format {
        // Their bodies are encoded, so the general rules do not see into them.
        Format::CloudEvents => cloudevents::redact_recorded(bytes, redactor),
        _ => redactor.replace(bytes, &spans),
    };
    let mut reader = Reader::new(format, context, start, complete_to);
    reader.read(&payload, Offsets::new(bytes, spans));
    let (drafts, persons, seen) = reader.finish();
    Taken { drafts, persons, payload, redacted, consumed: bytes.len(), oldest: seen.oldest, newest: seen.newest }
}

/// The state of one stretch.
struct Reader<'a> {
    format: &'a Format,
    context: &'a Context<'a>,
    start: &'a Start,
    account: Import,
    seen: Seen,
    drafts: Vec<Draft>,
    persons: Vec<PersonSeen>,
    /// Access lines only.
    fold: Option<Fold>,
    /// The parts so far of lines that a container runtime split, by stream.
    parts: [Option<Part>; 2],
    repeats: Repeats,
    /// Error lines only, by stream. Lives as long as the append: a broken entry that reaches into the next one is not
    /// seen there.
    torn: [Torn; 2],
}

/// The beginning of a split line.
struct Part {
    text: Vec<u8>,
    at: Option<model::When>,
    number: u64,
}

/// How many handshakes were alike, and the draft that counts those above the limit.
type Repeats = HashMap<Alike, (u64, usize), RandomState>;

/// What a counted row says of all handshakes that it stands for.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    minute: Time,
    failure: Failure,
    side: Side,
    codes: (Option<u16>, Option<u16>),
    client: Option<String>,
    server: Option<String>,
    /// Not of tainted lines: whoever forges it could make every line differ.
    upstream: Option<String>,
}

impl Alike {
    fn of(handshake: &Handshake) -> Self {
        Self {
            minute: handshake.occurred.at.minute(),
            failure: handshake.failure,
            side: handshake.side,
            codes: (handshake.verify_code, handshake.reason),
            client: handshake.client.clone(),
            server: handshake.server.clone(),
            upstream: handshake.upstream.clone().filter(|_| !handshake.tainted),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(format: &'a Format, context: &'a Context<'a>, start: &'a Start, complete_to: Option<Time>) -> Self {
        let fold = match format {
            Format::NginxAccess(format) => Some(Fold::new(format.clone())),
            _ => None,
        };
        Self {
            format,
            context,
            start,
            account: Import { complete_to, ..Import::default() },
            seen: Seen::default(),
            drafts: Vec::new(),
            persons: Vec::new(),
            fold,
            parts: [None, None],
            repeats: Repeats::default(),
            torn: Default::default(),
        }
    }

    fn read(&mut self, text: &[u8], mut offsets: Offsets<'_>) {
        if matches!(self.format, Format::K8sObjects) && !detect::document_per_line(text) {
            if !text.trim_ascii().is_empty() {
                self.line(text, self.start.number(0, 0), 0);
            }
            return;
        }
        let mut begin = 0;
        while begin < text.len() {
            let end = memchr::memchr(b'\n', &text[begin..]).map_or(text.len(), |at| begin + at);
            let line = &text[begin..end];
            let original = offsets.next(line.len());
            let redacted = original.len.cast_signed() - line.len().cast_signed();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                self.torn[0].empty();
            } else {
                self.line(line, self.start.number(original.offset, original.line), redacted);
            }
            begin = end + 1;
        }
        for part in std::mem::take(&mut self.parts).into_iter().flatten() {
            // The rest is in the next stretch or lost; its first part was counted as passed.
            let framed = Framed { at: part.at, partial: true, ..Framed::bare(&part.text) };
            self.parse(&framed, part.number);
        }
    }

    /// Counts one line and keeps what it says.
    fn line(&mut self, line: &[u8], number: u64, redacted: isize) {
        self.account.lines += 1;
        let outcome = if line.len() > self.format.max_line() {
            Outcome::Opaque("too_long", format!("{} bytes; the limit is {}", line.len(), self.format.max_line()))
        } else {
            let framed = match self.format {
                Format::K8sObjects | Format::K8sAudit | Format::CloudEvents => Framed::bare(line),
                _ => Framed { redacted, ..Framed::read(line) },
            };
            self.framed(&framed, number)
        };
        match outcome {
            Outcome::Understood => self.account.understood += 1,
            Outcome::Passed => self.account.passed += 1,
            Outcome::Opaque(reason, detail) => {
                self.account.opaque += 1;
                if self.account.opaque <= MAX_OPAQUE_FACTS {
                    let head = Text::new(&line[..line.len().min(OPAQUE_HEAD)]);
                    let fact = Fact::Opaque(Opaque { reason: reason.into(), detail, event_type: None, head });
                    let place = Some(self.start.place(number));
                    self.drafts.push(Draft { place, parser: self.format.parser(), fact, cut: Vec::new() });
                }
            }
        }
    }

    /// Joins the parts of a split line; all but its last count as passed.
    fn framed(&mut self, framed: &Framed<'_>, number: u64) -> Outcome {
        let Some(stream) = framed.stream else { return self.parse(framed, number) };
        let slot = &mut self.parts[stream as usize];
        if framed.partial {
            let part = slot.get_or_insert_with(|| Part { text: Vec::new(), at: framed.at, number });
            if part.text.len() + framed.text.len() <= MAX_TEXT_LINE {
                part.text.extend_from_slice(framed.text);
                return Outcome::Passed;
            }
            *slot = None;
            return Outcome::Opaque("too_long", format!("a split line has more than {MAX_TEXT_LINE} bytes"));
        }
        let Some(mut part) = slot.take() else { return self.parse(framed, number) };
        part.text.extend_from_slice(framed.text);
        self.parse(&Framed { at: part.at, ..Framed::bare(&part.text) }, part.number)
    }

    fn parse(&mut self, line: &Framed<'_>, number: u64) -> Outcome {
        let before = self.drafts.len();
        let Self { context, seen, drafts, persons, .. } = self;
        let outcome = match self.format {
            // A container writes both of NGINX's logs into one stream of lines: the other one is passed.
            Format::NginxError => match nginx_error::parse(line, context, seen, drafts) {
                Outcome::Opaque(..) if nginx_access::recognises(line.text) => Outcome::Passed,
                outcome => outcome,
            },
            Format::NginxAccess(_) => {
                let Some(fold) = &mut self.fold else { return Outcome::Passed };
                return match fold.line(number, line, context, seen) {
                    Outcome::Opaque(..) if nginx_error::recognises(line.text) => Outcome::Passed,
                    outcome => outcome,
                };
            }
            Format::Spire => spire::parse(line, context, seen, drafts),
            Format::SpiffeHelper => spiffe_helper::parse(line, context, seen, drafts),
            Format::K8sObjects => k8s_objects::parse(line.text, context, drafts),
            Format::K8sAudit => k8s_audit::parse(line.text, context, drafts, persons),
            Format::CloudEvents => cloudevents::parse(line.text, context, drafts, persons),
        };
        for draft in &mut drafts[before..] {
            draft.place = Some(self.start.place(number));
            match &draft.fact {
                Fact::Run(run) => run.event.time.or(run.transition).into_iter().for_each(|at| seen.time(at)),
                Fact::Trigger(trigger) => trigger.event.time.into_iter().for_each(|at| seen.time(at)),
                Fact::Change(change) => change.occurred.iter().for_each(|when| seen.when(when)),
                Fact::Action(action) => seen.when(&action.occurred),
                Fact::Workload(workload) => {
                    seen.when(&workload.occurred);
                    self.account.taken = Some(workload.occurred);
                }
                _ => {}
            }
        }
        if matches!(self.format, Format::NginxError) {
            let torn = &mut self.torn[line.stream.map_or(0, |stream| stream as usize)];
            if let Some(doubtful) = torn.line(line, before) {
                self.taint(doubtful);
            }
            self.count_repeats(before);
        }
        outcome
    }

    /// Marks the facts from this draft on: a client may have written their lines.
    fn taint(&mut self, from: usize) {
        for draft in self.drafts.iter_mut().skip(from) {
            match &mut draft.fact {
                Fact::Handshake(handshake) => handshake.tainted = true,
                Fact::Credential(credential) => credential.tainted = true,
                _ => {}
            }
        }
    }

    /// Above [`MAX_HANDSHAKES_A_MINUTE`] the newest handshake is added to the row that counts the rest of its minute.
    fn count_repeats(&mut self, before: usize) {
        let Some(Draft { fact: Fact::Handshake(handshake), .. }) = self.drafts.get(before) else { return };
        let (n, row) = self.repeats.entry(Alike::of(handshake)).or_insert((0, 0));
        *n += 1;
        if *n == MAX_HANDSHAKES_A_MINUTE + 1 {
            *row = before;
        } else if *n > MAX_HANDSHAKES_A_MINUTE {
            let row = *row;
            self.drafts.truncate(before);
            if let Some(Draft { fact: Fact::Handshake(row), .. }) = self.drafts.get_mut(row) {
                row.count += 1;
            }
        }
    }

    fn finish(mut self) -> (Vec<Draft>, Vec<PersonSeen>, Seen) {
        if let Some(fold) = self.fold.take() {
            for (number, edges) in fold.finish() {
                let place = Some(self.start.place(number));
                let parser = self.format.parser();
                self.drafts.push(Draft { place, parser, fact: Fact::Edges(edges), cut: Vec::new() });
            }
        }
        self.account.levels.clone_from(&self.seen.levels);
        self.account.oldest = self.seen.oldest;
        self.account.newest = self.seen.newest;
        let place = Some(self.start.place(self.start.number(0, 0)));
        let import = Draft { place, parser: PARSER, fact: Fact::Import(self.account), cut: Vec::new() };
        self.drafts.insert(0, import);
        (self.drafts, self.persons, self.seen)
    }
}

#[cfg(test)]
mod tests;
