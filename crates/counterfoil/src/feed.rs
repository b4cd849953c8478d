//! Files into the ledger, merged by time: `import`, `explain` and the demo's rehearsal.
//!
//! Every file is cut into short stretches; the stretch with the oldest time goes first. A file keeps its own order,
//! so what is merged is the files, not the lines of one file.

use std::{
    fs::File,
    io::{Read as _, stdin},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use ingest::lines::{Format, Start};
use ledger::{Lane, Receipt};
use model::{
    Fact, SourceId, Time,
    identity::{Declared, Submitter},
    own::Import,
};

use crate::{
    desk::{Arrival, Desk, NotKept},
    intake::now,
    lines::{self, Source},
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
    /// The bytes, inflated.
    pub bytes: Vec<u8>,
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
    taken: ingest::lines::Taken<'a>,
    oldest: Option<Time>,
    bytes: u64,
}

impl<'a> Open<'a> {
    fn new(feed: &'a Feed) -> Self {
        let file = lines::fingerprint(&feed.bytes).unwrap_or_else(|| lines::digest(&feed.bytes));
        let start = Start::File { fingerprint: file, offset: 0 };
        Self { feed, pieces: lines::cut(&feed.bytes, start, STRETCH).into_iter(), next: None }
    }

    fn source(&self) -> Source<'a> {
        Source { id: &self.feed.id, declared: &self.feed.declared, zone: self.feed.zone, format: &self.feed.format }
    }

    fn advance(&mut self, desk: &Desk, at: Time) {
        self.next = self.pieces.next().map(|piece| {
            let taken = lines::take(desk, &self.source(), &piece, None, at);
            Next { oldest: taken.oldest, bytes: piece.bytes.len() as u64, taken }
        });
    }
}

/// Feeds all files. `complete_to` ends it: for each source, nothing before that time is missing; `None` means the
/// newest time in any of the files. `progress` is called with the bytes of each stretch.
pub fn run(
    desk: &Desk,
    feeds: &[Feed],
    complete_to: Option<Time>,
    mut progress: impl FnMut(u64),
) -> Result<Sum, NotKept> {
    let observed_at = now();
    let mut open: Vec<Open<'_>> = feeds.iter().map(Open::new).collect();
    open.iter_mut().for_each(|file| file.advance(desk, observed_at));
    let (mut sum, mut newest) = (Sum::default(), None);
    // The oldest stretch first; stretches without any time stay right behind their predecessors (None sorts first).
    while let Some(file) = open.iter_mut().filter(|f| f.next.is_some()).min_by_key(|f| f.next.as_ref().and_then(|n| n.oldest)) {
        let Some(Next { taken, bytes, .. }) = file.next.take() else { break };
        newest = newest.max(taken.newest);
        for draft in &taken.drafts {
            if let Fact::Import(import) = &draft.fact {
                sum.lines += import.lines;
                sum.opaque += import.opaque;
            }
        }
        let arrival = lines::finish(desk, &file.source(), taken, observed_at, Submitter::Local);
        sum.entries += arrival.drafts.len() as u64;
        sum.add(desk.submit_wait(Lane::Pull, arrival)?);
        sum.bytes += bytes;
        progress(bytes);
        file.advance(desk, observed_at);
    }
    if let Some(complete_to) = complete_to.or(newest) {
        for feed in feeds {
            sum.entries += 1;
            sum.add(desk.submit_wait(Lane::Pull, last(feed, complete_to, observed_at))?);
        }
    }
    Ok(sum)
}

impl Sum {
    fn add(&mut self, receipt: Receipt) {
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
/// order of name). A file in a folder of a workload (`gateway/error.log`) is called like the folder.
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
