//! Files into the ledger, merged by time: `import`, `explain` and the demo's rehearsal.
//!
//! Every file is cut into short stretches; the stretch with the oldest time goes first. A file keeps its own order,
//! so what is merged is the files, not the lines of one file.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, stdin},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ingest::lines::{Format, Start};
use ledger::{AppendError, Busy, Lane, Ledger, Receipt};
use model::{
    Fact, SourceId, Time,
    identity::{Declared, Submitter},
    own::Import,
};

use crate::{
    config::Config,
    desk::{Arrival, Desk, NotKept, Reached},
    intake::now,
    keys::Keys,
    lines::{self, Source},
    own,
    people::People,
    serve::{self, Serving},
};

/// Stretch length: short enough that sources interleave by seconds.
const STRETCH: usize = 32 << 10;

/// Largest file that is taken, after inflating.
const MAX_FILE: u64 = 4 << 30;

/// One file of one source.
#[derive(Debug)]
pub struct Feed {
    /// The source.
    pub id: SourceId,
    /// What is declared.
    pub declared: Declared,
    /// Its zone.
    pub zone: chrono_tz::Tz,
    /// Its format.
    pub format: Format,
    /// NGINX's `log_format` string behind the format, when one was given.
    pub log_format: Option<String>,
    /// The bytes, inflated.
    pub bytes: Vec<u8>,
}

impl Feed {
    fn source(&self) -> Source<'_> {
        Source { id: &self.id, declared: &self.declared, zone: self.zone, format: &self.format }
    }
}

/// What was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Bytes read.
    pub bytes: u64,
    /// Lines seen.
    pub lines: u64,
    /// Lines that were not understood.
    pub opaque: u64,
    /// Entries written.
    pub entries: u64,
    /// First and last entry.
    pub range: Option<(u64, u64)>,
}

/// Reads a file; `.gz` is unpacked, `-` is standard input.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let from: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        if path.extension().is_some_and(|e| e == "gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        }
    };
    from.take(MAX_FILE).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 >= MAX_FILE {
        bail!("{} has more than {MAX_FILE} bytes; split it", path.display());
    }
    Ok(bytes)
}

/// One file on its way.
struct Open<'a> {
    feed: &'a Feed,
    pieces: std::vec::IntoIter<lines::Piece<'a>>,
    next: Option<Next<'a>>,
}

struct Next<'a> {
    piece: lines::Piece<'a>,
    taken: ingest::lines::Taken<'a>,
}

impl<'a> Open<'a> {
    fn new(feed: &'a Feed) -> Self {
        let file = lines::fingerprint(&feed.bytes).unwrap_or_else(|| lines::digest(&feed.bytes));
        let start = Start::File { fingerprint: file, offset: 0 };
        let pieces = match feed.format {
            // A document over many lines stays whole.
            Format::K8sObjects => lines::pieces(&feed.format, &feed.bytes, start),
            _ => lines::cut(&feed.bytes, start, STRETCH),
        };
        Self { feed, pieces: pieces.into_iter(), next: None }
    }

    fn advance(&mut self, desk: &Desk, at: Time) {
        self.next = self.pieces.next().map(|piece| {
            let taken = lines::take(desk, &self.feed.source(), &piece, None, at);
            Next { piece, taken }
        });
    }
}

/// Goes through all files in the order of time and hands out stretch after stretch, parsed.
pub fn merge<E>(
    desk: &Desk,
    feeds: &[Feed],
    observed_at: Time,
    mut each: impl FnMut(&Feed, lines::Piece<'_>, ingest::lines::Taken<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: Vec<Open<'_>> = feeds.iter().map(Open::new).collect();
    for file in &mut open {
        file.advance(desk, observed_at);
    }
    let oldest = |file: &Open<'_>| file.next.as_ref().and_then(|next| next.taken.oldest);
    // The oldest stretch first; one without any time goes at once, right behind its predecessor (None sorts first).
    while let Some(file) = open.iter_mut().filter(|file| file.next.is_some()).min_by_key(|file| oldest(file)) {
        let Some(Next { piece, taken }) = file.next.take() else { break };
        each(file.feed, piece, taken)?;
        file.advance(desk, observed_at);
    }
    Ok(())
}

/// Feeds all files. `complete_to` ends it: for each source, nothing before that time is missing; `None` means the
/// newest time in its own files, since silence after that may be the file's end. `progress` is called with the bytes of
/// each stretch.
pub fn run(
    desk: &Desk,
    feeds: &[Feed],
    complete_to: Option<Time>,
    mut progress: impl FnMut(u64),
) -> Result<Sum, NotKept> {
    let observed_at = now();
    let (mut sum, mut newest) = (Sum::default(), BTreeMap::<&SourceId, Option<Time>>::new());
    for feed in feeds {
        newest.insert(&feed.id, None);
    }
    merge(desk, feeds, observed_at, |feed, piece, taken| {
        if let Some(newest) = newest.get_mut(&feed.id) {
            *newest = (*newest).max(taken.newest);
        }
        for draft in &taken.drafts {
            if let Fact::Import(import) = &draft.fact {
                sum.lines += import.lines;
                sum.opaque += import.opaque;
            }
        }
        let arrival = lines::finish(desk, &feed.source(), taken, None, observed_at, Submitter::Local);
        sum.entries += arrival.drafts.len() as u64;
        sum.add(&keep(desk, &arrival)?);
        progress(piece.bytes.len() as u64);
        Ok::<_, NotKept>(())
    })?;
    // The final watermark: what each source says of itself, and a heartbeat over all of them.
    let by_id: BTreeMap<&SourceId, &Feed> = feeds.iter().map(|feed| (&feed.id, feed)).collect();
    for (id, feed) in by_id {
        if let Some(complete_to) = complete_to.or(newest.get(id).copied().flatten()) {
            sum.entries += 1;
            sum.add(&keep(desk, &last(feed, complete_to, observed_at))?);
        }
    }
    own::heartbeat(desk, &own::Life::of_import(), own::Phase::Last);
    Ok(sum)
}

/// Writes one arrival; a full queue is waited out, since a file can wait.
fn keep(desk: &Desk, arrival: &Arrival) -> Result<Receipt, NotKept> {
    loop {
        match desk.submit_wait(Lane::Pull, arrival.clone()) {
            Err(NotKept::Ledger(AppendError::Busy(Busy::Queue))) => thread::sleep(Duration::from_millis(20)),
            other => return other,
        }
    }
}

/// `import`: opens the ledger of a configuration; a ledger that is being served takes posts instead.
pub fn import(config: &Config, feeds: &[Feed], complete_to: Option<Time>) -> Result<Sum> {
    let bar = bar(feeds.iter().map(|feed| feed.bytes.len() as u64).sum());
    let sum = with_desk(config, |desk| Ok(run(desk, feeds, complete_to, |bytes| bar.inc(bytes))?));
    bar.finish_and_clear();
    sum.map_err(|error| match (error.downcast_ref::<ledger::Error>(), Serving::read(&config.data)) {
        (Some(ledger::Error::Locked { .. }), Some(serving)) => anyhow!(
            "process {} serves {}; post the lines to it instead:\n  curl --data-binary @FILE \
             'http://{}/logs/FORMAT?source=NAME&complete_to=TIME'",
            serving.pid,
            config.data.display(),
            serving.intake
        ),
        _ => error,
    })
}

/// Opens a ledger for a while, without listeners.
pub fn with_desk<T>(config: &Config, work: impl FnOnce(&Arc<Desk>) -> Result<T>) -> Result<T> {
    let keys = Keys::open(&config.data)?;
    let desk = Arc::new(Desk::new(&keys, People::open(&config.data)?, Arc::default()));
    let opened = Ledger::open(&serve::ledger_config(config))
        .with_context(|| format!("open the ledger in {}", config.data.display()))?;
    let ledger = Arc::new(opened.ledger);
    desk.open(Arc::clone(&ledger));
    while let Ok(notice) = opened.notices.try_recv() {
        own::notice(&desk, &notice, &AtomicBool::new(true));
    }
    let result = work(&desk);
    ledger.close().context("close the ledger")?;
    result
}

/// A progress bar over bytes; it draws on a terminal only.
pub fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Sum {
    fn add(&mut self, receipt: &Receipt) {
        let first = self.range.map_or(receipt.first, |(first, _)| first);
        self.range = Some((first, receipt.last));
    }
}

/// The final watermark of one source.
fn last(feed: &Feed, complete_to: Time, observed_at: Time) -> Arrival {
    let import = Import { complete_to: Some(complete_to), ..Import::default() };
    Arrival {
        source: feed.id.clone(),
        declared: feed.declared.clone(),
        observed_at,
        submitter: Submitter::Local,
        payload: None,
        redacted: Vec::new(),
        drafts: vec![ingest::Draft { place: None, parser: "import/1", fact: Fact::Import(import), cut: Vec::new() }],
        position: None,
        reached: Reached { newest: None, complete_to: Some(complete_to) },
    }
}

/// Where `explain` found a file: what it is called and what it seems to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Name for the source.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Resolves `explain`'s arguments: `NAME=FILE`, files, and folders (their files, one level of sub-folders deep, in
/// order of name). The files of a sub-folder (`gateway/error.log`) are called like it.
pub fn find(arguments: &[String]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for argument in arguments {
        if let Some((name, path)) = argument.split_once('=').filter(|(_, path)| Path::new(path).exists()) {
            found.push(Found { name: name.into(), path: path.into() });
            continue;
        }
        let path = Path::new(argument);
        if path.is_dir() {
            walk(path, 2, &mut found)?;
        } else {
            found.push(Found { name: name_of(path), path: path.into() });
        }
    }
    Ok(found)
}

fn walk(folder: &Path, depth: u32, found: &mut Vec<Found>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("read folder {}", folder.display()))?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth > 1 {
                walk(&path, depth - 1, found)?;
            }
        } else if depth == 1 {
            // A folder of its own inside the given one: one workload's files.
            found.push(Found { name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(), path });
        } else {
            found.push(Found { name: name_of(&path), path });
        }
    }
    Ok(())
}

/// `gateway/error.log` → `gateway`; `spire-agent-node-1.log.gz` → `spire-agent-node-1`; `-` → `stdin`.
fn name_of(path: &Path) -> String {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if file == "-" {
        return "stdin".into();
    }
    let stem = file.split('.').next().unwrap_or_default();
    let generic = matches!(stem, "error" | "access" | "stream" | "nginx");
    match path.parent().and_then(Path::file_name) {
        Some(folder) if generic => folder.to_string_lossy().into_owned(),
        _ => {
            let name = file.trim_end_matches(".gz");
            let name = name.strip_suffix(".log").or_else(|| name.strip_suffix(".jsonl")).unwrap_or(name);
            name.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (path, name) in [
            ("/x/gateway/error.log", "gateway"),
            ("/x/gateway/access.json.log.gz", "gateway"),
            ("spire-agent-node-1.log", "spire-agent-node-1"),
            ("spiffe-helper.gateway.log", "spiffe-helper.gateway"),
            ("pods.jsonl.gz", "pods"),
            ("error.log", "error"),
            ("-", "stdin"),
        ] {
            assert_eq!(name_of(Path::new(path)), name, "{path}");
        }
    }
}
