//! Followed files: through rename, truncation and restart, with the position inside the append.
//!
//! A file is known by its fingerprint (a hash over its first line), not by its name. When another file stands at the
//! path, the old one is read on for a while: NGINX writes into a renamed file until it is told to reopen. Position and
//! lines stand or fall together, so a restart neither loses nor doubles a line; a line that is read twice all the same
//! (somebody restored a copy) has the same place and is recognised by the fold.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ingest::{
    Draft,
    lines::{Format, Start},
};
use ledger::{AppendError, Lane, Position};
use model::{
    Fact, SourceId, Time,
    identity::{DEFAULT_CLUSTER, Declared, Submitter},
    own::Gap,
};
use serde::{Deserialize, Serialize};

use crate::{
    config,
    desk::{Arrival, Desk, NotKept, Reached},
    intake::now,
    lines,
};

/// Time between two looks at a file: with [`lines::PIECE`] the bound of what one append holds.
pub const PERIOD: Duration = Duration::from_millis(500);

/// How long a renamed file is read on after its last growth.
const LINGER: Duration = Duration::from_secs(30);

/// Most appends of one source in one look.
const APPENDS: usize = 4;

/// Least bytes read at once.
const SMALLEST: usize = 64 << 10;

/// Renamed files read on at once per source; the oldest is let go first.
const MAX_RENAMED: usize = 8;

/// Where one file of a source has been read to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    file: String,
    offset: u64,
}

/// One followed source.
#[derive(Debug)]
pub struct Follower {
    id: SourceId,
    declared: Declared,
    zone: chrono_tz::Tz,
    format: Format,
    path: PathBuf,
    /// Oldest first; the last one stands at the path.
    open: Vec<Open>,
    /// Files of the saved position that have not been found yet.
    saved: Vec<Mark>,
    /// The path could not be opened; told once.
    absent: bool,
    /// Most bytes read at once: less than [`lines::PIECE`] after an append was too large.
    piece: usize,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    mark: Mark,
    grew: Instant,
    /// Bytes not read at the last look.
    left: u64,
    /// All of them are the beginning of a line.
    tail: bool,
}

/// The key of a source's position in the ledger.
fn key(id: &SourceId) -> String {
    format!("{}/{}/{}", id.cluster, id.kind, id.name)
}

impl Follower {
    /// Prepares a source; `positions` are the ledger's.
    pub fn new(source: &config::Source, positions: &BTreeMap<String, String>) -> Result<Self> {
        let id = SourceId {
            cluster: source.cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()),
            kind: source.kind()?,
            name: source.name.clone(),
            instance: String::new(),
        };
        let saved = match positions.get(&key(&id)) {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).with_context(|| format!("saved position of {id}: {text}"))?,
        };
        Ok(Self {
            declared: Declared {
                namespace: source.namespace.clone(),
                workload: source.workload.clone(),
                node: source.node.clone(),
                zone: source.zone.clone(),
            },
            zone: config::zone_of(source.zone.as_deref())?,
            format: lines::format(source.kind()?, source.log_format.as_deref())
                .with_context(|| format!("source {:?}", source.name))?,
            path: source.path.clone(),
            open: Vec::new(),
            saved,
            absent: false,
            piece: lines::PIECE,
            id,
        })
    }

    /// One look: takes in what is new, at most [`APPENDS`] appends, so that no source keeps the others waiting. Errors are
    /// told and tried again at the next look.
    pub fn look(&mut self, desk: &Arc<Desk>) {
        if let Err(error) = self.find(desk) {
            if !self.absent {
                tracing::warn!(source = %self.id, error = format!("{error:#}"), "cannot read; trying again");
                self.absent = true;
                // On the record, and so in `doctor`: a source that was never read looks like a quiet one.
                if let Err(error) = self.gap(desk, "file_unreadable", format!("{error:#}")) {
                    tracing::error!(source = %self.id, error = format!("{error:#}"), "a gap could not be kept");
                }
            }
            // What is open already is read on: a renamed file may have no successor yet.
            if self.open.is_empty() {
                return;
            }
        } else {
            self.absent = false;
        }
        let began = now();
        let (mut behind, mut appends) = (0, APPENDS);
        for at in 0..self.open.len() {
            match self.read_on(at, &mut appends, desk) {
                Ok(left) => {
                    self.open[at].left = left;
                    behind += left;
                }
                Err(error) => {
                    tracing::warn!(source = %self.id, error = format!("{error:#}"), "reading stopped; trying again");
                    return;
                }
            }
        }
        self.let_go(desk);
        let position = self.position();
        let absent = self.absent;
        desk.watermarks.update(&self.id, |mark| {
            mark.position = Some(position);
            mark.behind = Some(behind);
            if behind == 0 && !absent {
                // What the source wrote in this very second may still be on its way to the file.
                mark.complete_to = mark.complete_to.max(Some(Time(began.0 - model::time::SECOND)));
            }
        });
    }

    /// Closes renamed files that were read to their end and have not grown for a while; one with lines left is kept,
    /// however long the ledger is busy. A tail without a line end is no line, and nobody writes to a renamed file for so
    /// long: it is a gap.
    fn let_go(&mut self, desk: &Arc<Desk>) {
        let (mut at, last, mut lost) = (0, self.open.len().saturating_sub(1), 0);
        self.open.retain(|open| {
            let kept = at >= last || (open.left > 0 && !open.tail) || open.grew.elapsed() < LINGER;
            at += 1;
            lost += if kept { 0 } else { open.left };
            kept
        });
        if lost > 0 {
            let detail = format!("{lost} bytes at the end of a renamed file are no whole line");
            if let Err(error) = self.gap(desk, "file_lost", detail) {
                tracing::error!(source = %self.id, error = format!("{error:#}"), "a gap could not be kept");
            }
        }
    }

    /// Opens what stands at the path, if it is another file than before, and what the saved position still names.
    fn find(&mut self, desk: &Arc<Desk>) -> Result<()> {
        let file = File::open(&self.path).with_context(|| format!("open {}", self.path.display()))?;
        let meta = file.metadata().with_context(|| format!("look at {}", self.path.display()))?;
        if let Some(open) = self.open.last()
            && open.inode == meta.ino()
        {
            // A file that was truncated and has grown again since begins with another line.
            let same = open.mark.offset == 0 || fingerprint(&file)?.as_deref() == Some(&open.mark.file);
            if meta.len() >= open.mark.offset && same {
                return Ok(());
            }
            let lost = format!("{} was truncated from at least {} bytes", self.path.display(), open.mark.offset);
            self.open.pop();
            self.gap(desk, "file_truncated", lost)?;
            return self.find(desk);
        }
        let Some(print) = fingerprint(&file)? else { return Ok(()) }; // wait for a whole first line
        let mut offset = 0;
        // Taken away only when all of them have been dealt with: an error in the middle is tried again from the start.
        let (saved, opened) = (self.saved.clone(), self.open.len());
        if let Err(error) = self.go_on(&saved, &print, meta.len(), &mut offset, desk) {
            self.open.truncate(opened);
            return Err(error);
        }
        self.saved.clear();
        let open = Open {
            file,
            inode: meta.ino(),
            mark: Mark { file: print, offset },
            grew: Instant::now(),
            left: 0,
            tail: false,
        };
        self.open.push(open);
        if self.open.len() > MAX_RENAMED {
            let dropped = self.open.remove(0);
            if dropped.left > 0 {
                let lost = format!("{} bytes of a renamed file: more than {MAX_RENAMED} were waiting", dropped.left);
                self.gap(desk, "file_lost", lost)?;
            }
        }
        Ok(())
    }

    /// Finds the files of the saved position: the one at the path goes on at its offset, renamed ones are opened.
    fn go_on(&mut self, saved: &[Mark], print: &str, length: u64, offset: &mut u64, desk: &Arc<Desk>) -> Result<()> {
        for mark in saved {
            if mark.file == print {
                if length < mark.offset {
                    let lost = format!("{} is shorter than it was ({} bytes)", self.path.display(), mark.offset);
                    self.gap(desk, "file_truncated", lost)?;
                } else {
                    *offset = mark.offset;
                }
            } else if let Some(open) = self.renamed(mark)? {
                self.open.push(open);
            } else {
                let lost = format!(
                    "the file that was read to byte {} is no longer beside {}",
                    mark.offset,
                    self.path.display()
                );
                self.gap(desk, "file_lost", lost)?;
            }
        }
        Ok(())
    }

    /// Looks for a renamed file among the neighbours whose names begin like the path's.
    fn renamed(&self, mark: &Mark) -> Result<Option<Open>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(None) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        for entry in fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))? {
            let path = entry.with_context(|| format!("read folder {}", folder.display()))?.path();
            let alike = path
                .file_name()
                .is_some_and(|other| other != name && other.as_encoded_bytes().starts_with(name.as_encoded_bytes()));
            if !alike {
                continue;
            }
            let Ok(file) = File::open(&path) else { continue };
            if fingerprint(&file)?.as_deref() == Some(&mark.file) {
                let inode = file.metadata().with_context(|| format!("look at {}", path.display()))?.ino();
                return Ok(Some(Open { file, inode, mark: mark.clone(), grew: Instant::now(), left: 0, tail: false }));
            }
        }
        Ok(None)
    }

    /// Reads one file to its end, until the ledger is busy, or until the appends of this look are used up. Gives the
    /// bytes left.
    fn read_on(&mut self, at: usize, appends: &mut usize, desk: &Arc<Desk>) -> Result<u64> {
        loop {
            let (bytes, left) = self.open[at].next(self.piece)?;
            self.open[at].tail = bytes.is_empty() && left > 0;
            if bytes.is_empty() || *appends == 0 {
                return Ok(left + bytes.len() as u64);
            }
            *appends -= 1;
            let mark = self.open[at].mark.clone();
            let piece = lines::Piece {
                bytes: &bytes,
                envelope: None,
                start: Start::File { fingerprint: mark.file.clone(), offset: mark.offset },
                last: false,
            };
            let source =
                lines::Source { id: &self.id, declared: &self.declared, zone: self.zone, format: &self.format };
            let mut arrival = lines::arrival(desk, &source, &piece, None, now(), Submitter::Local);
            self.open[at].mark.offset += bytes.len() as u64;
            arrival.position = Some(Position { source: key(&self.id), position: self.position() });
            match desk.submit_wait(Lane::Pull, arrival) {
                Ok(_) => {
                    self.open[at].grew = Instant::now();
                    self.piece = lines::PIECE;
                    continue;
                }
                Err(NotKept::Ledger(AppendError::Busy(_)) | NotKept::Starting) => {
                    self.open[at].mark = mark;
                    return Ok(left + bytes.len() as u64);
                }
                // Short lines can make leaves that are longer than they are: less at once.
                Err(NotKept::Ledger(AppendError::TooLarge { .. })) if self.piece > SMALLEST => self.piece /= 2,
                Err(error) => {
                    self.open[at].mark = mark;
                    return Err(error).context("keep lines");
                }
            }
            self.open[at].mark = mark;
        }
    }

    fn position(&self) -> String {
        let marks: Vec<&Mark> = self.open.iter().map(|open| &open.mark).collect();
        serde_json::to_string(&marks).unwrap_or_default() // two plain fields: cannot fail
    }

    fn gap(&self, desk: &Arc<Desk>, what: &str, detail: String) -> Result<()> {
        tracing::warn!(source = %self.id, what, detail);
        let gap =
            Gap { what: what.into(), source: Some(self.id.clone()), count: None, from: None, to: Some(now()), detail };
        let arrival = Arrival {
            source: self.id.clone(),
            declared: self.declared.clone(),
            observed_at: now(),
            submitter: Submitter::Local,
            payload: None,
            redacted: Vec::new(),
            drafts: vec![Draft { place: None, parser: "follow/1", fact: Fact::Gap(gap), cut: Vec::new() }],
            position: None,
            reached: Reached::default(),
        };
        desk.submit_wait(Lane::Push, arrival).context("keep a gap")?;
        Ok(())
    }
}

impl Open {
    /// The next whole lines, and the bytes that stay behind them.
    fn next(&mut self, most: usize) -> Result<(Vec<u8>, u64)> {
        let length = self.file.metadata().context("look at a followed file")?.len();
        let left = length.saturating_sub(self.mark.offset);
        if left == 0 {
            return Ok((Vec::new(), 0));
        }
        self.file.seek(SeekFrom::Start(self.mark.offset)).context("seek in a followed file")?;
        let mut bytes = Vec::new();
        (&self.file).take(most as u64).read_to_end(&mut bytes).context("read a followed file")?;
        let end = match memchr::memrchr(b'\n', &bytes) {
            Some(end) => end + 1,
            // A line longer than a piece goes in pieces, each of them opaque, so that the file does not stand still.
            None if bytes.len() == most => bytes.len(),
            None => return Ok((Vec::new(), left)),
        };
        bytes.truncate(end);
        Ok((bytes, left.saturating_sub(end as u64)))
    }
}

fn fingerprint(file: &File) -> Result<Option<String>> {
    let mut head = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0)).context("seek in a followed file")?;
    file.take(1024).read_to_end(&mut head).context("read a followed file")?;
    Ok(lines::fingerprint(&head))
}
