//! Recorded folders under `tests/fixtures`, read as `import` reads files: by format, merged by time.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use ingest::{
    Context,
    lines::{Format, Start, take},
    persons::Persons,
    redact::Redactor,
};
use model::{
    Body, Entry, Fact, SourceId, Time,
    entry::Stamp,
    identity::{DEFAULT_CLUSTER, Declared, Submitter},
    own::{Heartbeat, Watermark},
};

/// Lines per append: small, so that sources interleave as they do live.
const LINES: usize = 50;

/// The folder of fixtures.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A packed file as bytes.
pub fn unpack(path: &Path) -> Vec<u8> {
    let file = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(file.as_slice()).read_to_end(&mut bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes
}

/// The truth beside a recording.
pub fn truth(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&unpack(&folder.join("truth.json.gz")))
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// Subfolders in order.
pub fn folders(parent: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = list(&fixtures().join(parent)).into_iter().filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    paths
}

/// Every log of a recording with the name that a user would give its source: the folder of a sidecar, otherwise the
/// file's name. Nothing else is declared.
pub fn logs(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for path in list(folder) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            found.extend(list(&path).into_iter().map(|file| (name.clone(), file)));
        } else if !name.starts_with("truth") && !name.contains("exchanges") {
            let stem = name.trim_end_matches(".gz").trim_end_matches(".log").trim_end_matches(".jsonl");
            found.push((stem.to_owned(), path.clone()));
        }
    }
    found
}

/// One append before it has its place in the ledger.
struct Append {
    at: Time,
    source: SourceId,
    drafts: Vec<ingest::Draft>,
}

/// The recording as entries, its appends in order of time, and a last heartbeat that closes every source. Logs that
/// `keep` refuses are left out, as if they had never been a source.
pub fn entries(folder: &Path, keep: impl Fn(&str, &Path) -> bool) -> Vec<Entry> {
    read(folder, keep, str::to_owned, |_| true)
}

/// The same with other names for the sources.
pub fn renamed(folder: &Path, rename: impl Fn(&str) -> String) -> Vec<Entry> {
    read(folder, |_, _| true, rename, |_| true)
}

/// Recorded deliveries of one file that its sink took: one that it refused was never acknowledged, so it may be lost.
pub fn accepted(folder: &Path, file: &str) -> Vec<Entry> {
    let only =
        |_: &str, path: &Path| path.parent() == Some(folder) && path.file_name().is_some_and(|name| *name == *file);
    read(folder, only, str::to_owned, |line| {
        let row: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        row["answered"].as_u64().is_none_or(|status| (200..300).contains(&status))
    })
}

fn read(
    folder: &Path,
    keep: impl Fn(&str, &Path) -> bool,
    rename: impl Fn(&str) -> String,
    line: impl Fn(&[u8]) -> bool,
) -> Vec<Entry> {
    let persons = Persons::new([7; 32]);
    let redactor = Redactor::new(&[7; 32]);
    let mut appends = Vec::new();
    let mut end = Time(i64::MIN);
    let mut sources = Vec::new();
    for (name, path) in logs(folder).into_iter().filter(|(name, path)| keep(name, path)) {
        let bytes: Vec<u8> =
            unpack(&path).split_inclusive(|byte| *byte == b'\n').filter(|l| line(l)).flatten().copied().collect();
        let Some(format) = Format::detect(&bytes[..bytes.len().min(64 * 1024)]) else { continue };
        let source = SourceId {
            cluster: DEFAULT_CLUSTER.into(),
            kind: format.kind(),
            name: rename(&name),
            instance: String::new(),
        };
        sources.push(source.clone());
        let mut start = Start::File { fingerprint: path.display().to_string(), offset: 0 };
        let observed_at = Time::parse("2026-11-24T00:00:00Z").unwrap_or_default();
        for chunk in chunks(&bytes, LINES) {
            let declared = Declared::default();
            let context =
                Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
            let taken = take(&format, &context, &redactor, chunk, &start, None);
            start = start.after(chunk);
            end = end.max(taken.newest.unwrap_or(end));
            appends.push(Append { at: taken.oldest.unwrap_or(end), source: source.clone(), drafts: taken.drafts });
        }
    }
    appends.sort_by_key(|append| append.at);
    sources.sort();
    sources.dedup();
    let heartbeat = Heartbeat {
        life: "test".into(),
        phase: "last".into(),
        sources: sources
            .into_iter()
            .map(|source| Watermark { source, position: None, behind: None, newest: Some(end), complete_to: Some(end) })
            .collect(),
    };
    let ours = SourceId {
        cluster: DEFAULT_CLUSTER.into(),
        kind: model::identity::SourceKind::Counterfoil,
        name: "counterfoil".into(),
        instance: String::new(),
    };
    let draft =
        ingest::Draft { place: None, parser: "counterfoil/1", fact: Fact::Heartbeat(heartbeat), cut: Vec::new() };
    appends.push(Append { at: end, source: ours, drafts: vec![draft] });
    number(appends)
}

fn number(appends: Vec<Append>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (append, taken) in (1u64..).zip(appends) {
        let n = u32::try_from(taken.drafts.len()).unwrap_or(u32::MAX);
        for (part, draft) in (1u32..).zip(taken.drafts) {
            let index = entries.len() as u64;
            let stamp = Stamp { recorded_at: Time::from_millis(0), tick: append * 10, append, part: [part, n] };
            let body = Body {
                v: Body::VERSION,
                source: taken.source.clone(),
                declared: Declared::default(),
                parser: draft.parser.into(),
                observed_at: Time::parse("2026-11-24T00:00:00Z").unwrap_or_default(),
                submitter: Submitter::Local,
                place: draft.place,
                payload: None,
                pruned: None,
                redacted: Vec::new(),
                cut: draft.cut,
                fact: draft.fact,
            };
            entries.push(Entry { index, stamp, body });
        }
    }
    entries
}

/// The same entries as another cluster would send them.
pub fn of_cluster(entries: &[Entry], cluster: &str) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        entry.body.source.cluster = cluster.into();
        if let Fact::Heartbeat(heartbeat) = &mut entry.body.fact {
            heartbeat.sources.iter_mut().for_each(|mark| mark.source.cluster = cluster.into());
        }
    }
    entries
}

/// Two ledgers as one: entries by turns, each list in its order.
pub fn interleaved(a: &[Entry], b: &[Entry]) -> Vec<Entry> {
    let (mut a, mut b) = (a.iter(), b.iter());
    let mut mixed: Vec<Entry> = Vec::new();
    loop {
        let before = mixed.len();
        mixed.extend(a.next().cloned());
        mixed.extend(b.next().cloned());
        if mixed.len() == before {
            break;
        }
    }
    for (n, entry) in (0..).zip(&mut mixed) {
        (entry.index, entry.stamp.append, entry.stamp.tick, entry.stamp.part) = (n, n, n * 10, [1, 1]);
    }
    mixed
}

/// Stretches of whole lines.
fn chunks(bytes: &[u8], lines: usize) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let (mut begin, mut seen) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            seen += 1;
            if seen == lines {
                chunks.push(&bytes[begin..=at]);
                (begin, seen) = (at + 1, 0);
            }
        }
    }
    if begin < bytes.len() {
        chunks.push(&bytes[begin..]);
    }
    chunks
}
