//! Bytes at rest: payload blocks in percent of what was received, leaf, tile and index bytes an entry, by the size of the
//! events.
//!
//! `cargo run -p counterfoil --example at_rest [-- EVENTS]`. The events are the recordings of real Tekton controllers in
//! `tests/fixtures`, each recording again and again as other runs: every uid, commit, digest and name is another one, and every
//! time a later one. They go the way of intake: redaction, parser, desk, ledger.
//!
//! No recorded event has 14 KB: those are the recorded TaskRun events with further steps, each a recorded one, in its spec, in
//! the copy of it in its status, and in what the status says of steps.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use counterfoil::{
    derive::Derived,
    desk::{Arrival, Desk, Reached},
    keys::Keys,
    log::Log,
    metrics::Metrics,
    people::People,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use ingest::Context;
use ledger::{Lane, Ledger, Limits};
use serde_json::Value;

use model::{
    SourceId, Time,
    identity::{Declared, SourceKind, Submitter},
};

/// Sizes of events, from and below, as they are named in the table.
const SIZES: [(&str, usize, usize); 3] =
    [("about 2.7 KB", 2_000, 3_400), ("about 4 KB", 3_400, 5_000), ("all, as recorded", 0, usize::MAX)];

/// Events are grown to at least so many bytes.
const LARGE: usize = 13_500;

/// One recorded delivery.
struct Delivery {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn main() -> Result<()> {
    let wanted: usize = std::env::args().nth(1).map_or(Ok(4000), |text| text.parse())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tekton");
    let mut recordings = Vec::new();
    for version in ["1.9", "1.15"] {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(root.join(version))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.sort();
        for path in paths.iter().filter(|path| path.to_string_lossy().ends_with(".jsonl.gz")) {
            recordings.push(read(path)?);
        }
    }
    println!("{wanted} events of each size; received: bodies without headers; blocks: everything below payload/");
    println!(
        "{:<18} {:>9} {:>12} {:>12} {:>11} {:>7} {:>9} {:>13} {:>8}",
        "events",
        "different",
        "bytes/event",
        "blocks/event",
        "% received",
        "leaf B",
        "tiles B",
        "leaf+tiles B",
        "index B"
    );
    for (name, from, below) in SIZES {
        measure(name, &recordings, wanted, |len| (from..below).contains(&len))?;
    }
    measure("about 14 KB, grown", &grown(&recordings)?, wanted, |_| true)
}

/// Where a TaskRun event has the steps of its spec.
const SPECS: [&str; 2] = ["/taskRun/spec/taskSpec/steps", "/taskRun/status/taskSpec/steps"];
/// Where it says what became of them.
const STATES: &str = "/taskRun/status/steps";

/// The recorded TaskRun events with steps of other recorded ones.
fn grown(recordings: &[Vec<Delivery>]) -> Result<Vec<Vec<Delivery>>> {
    let (mut specs, mut states): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for delivery in recordings.iter().flatten() {
        let Ok(event) = serde_json::from_slice::<Value>(&delivery.body) else { continue };
        for (pointer, pool) in [(SPECS[1], &mut specs), (STATES, &mut states)] {
            let steps = event.pointer(pointer).and_then(Value::as_array);
            // Scripts of 24 KB are in the recordings too: such a step would be the whole event.
            let small = steps.into_iter().flatten().filter(|step| step.to_string().len() < 2_000).cloned();
            pool.extend(small);
        }
    }
    specs.sort_by_key(Value::to_string);
    specs.dedup();
    states.sort_by_key(Value::to_string);
    states.dedup();
    let mut grown = Vec::new();
    for (run, recording) in recordings.iter().enumerate() {
        let mut events = Vec::new();
        for delivery in recording.iter().filter(|delivery| delivery.body.len() < LARGE) {
            let Ok(mut event) = serde_json::from_slice::<Value>(&delivery.body) else { continue };
            if event.pointer(STATES).is_none() || event.pointer(SPECS[0]).is_none() {
                continue;
            }
            let mut n = run * 7;
            while serde_json::to_vec(&event)?.len() < LARGE {
                n += 1;
                for (pointer, pool) in [(SPECS[0], &specs), (SPECS[1], &specs), (STATES, &states)] {
                    if let Some(steps) = event.pointer_mut(pointer).and_then(Value::as_array_mut) {
                        steps.push(pool[n % pool.len()].clone());
                    }
                }
            }
            events.push(Delivery { headers: delivery.headers.clone(), body: serde_json::to_vec(&event)? });
        }
        if !events.is_empty() {
            grown.push(events);
        }
    }
    Ok(grown)
}

fn read(path: &Path) -> Result<Vec<Delivery>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path)?).read_to_string(&mut text)?;
    let mut deliveries = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let Some(body) = row["body_b64"].as_str() else { continue };
        let headers: Vec<(String, String)> = serde_json::from_value(row["headers"].clone()).unwrap_or_default();
        deliveries.push(Delivery { headers, body: STANDARD.decode(body)? });
    }
    Ok(deliveries)
}

fn measure(name: &str, recordings: &[Vec<Delivery>], wanted: usize, of_size: impl Fn(usize) -> bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut config = ledger::Config::new(folder.path());
    // Sealed and stored at the end or when a block's worth is there: partial tiles on the way would count as much as the
    // machine was slow.
    config.limits = Limits { seal_every_ms: 3_600_000, sync_every_ms: 3_600_000, ..Limits::small() };
    config.limits.segment_bytes = 64 << 20;
    ledger::init(&config, None)?;
    let ledger = Arc::new(Ledger::open(&config)?.ledger);
    let desk = Desk::new(&Keys::throw_away()?, People::open(folder.path())?, Arc::new(Metrics::default()));
    desk.open(Arc::clone(&ledger));
    let (mut events, mut received, mut copy) = (0usize, 0usize, 0u64);
    let different = recordings.iter().flatten().filter(|delivery| of_size(delivery.body.len())).count();
    anyhow::ensure!(different > 0, "no recorded event is {name}");
    while events < wanted {
        for recording in recordings {
            copy += 1;
            let other = Renamer::new(copy, recording);
            for delivery in recording.iter().filter(|delivery| of_size(delivery.body.len())) {
                let body = other.rename(&delivery.body);
                received += body.len();
                keep(&desk, &delivery.headers, &body, &other)?;
                events += 1;
            }
        }
    }
    let entries = usize::try_from(ledger.size())?;
    let parts = parts(&ledger)?;
    let index = index(folder.path(), &ledger)?;
    ledger.close()?;
    let below = folder.path().join("ledger");
    let (blocks, leaves) = (bytes(&below.join("payload"))?, bytes(&below.join("tile/entries"))?);
    let all = bytes(&below.join("tile"))?;
    println!(
        "{name:<18} {different:>9} {:>12} {:>12} {:>9}.{}% {:>7} {:>9} {:>13} {:>8}",
        received / events,
        blocks / events,
        blocks * 100 / received,
        blocks * 1000 / received % 10,
        leaves / entries,
        (all - leaves) / entries,
        all / entries,
        index.values().sum::<usize>() / entries
    );
    println!("{:>18} {parts}", "leaf:");
    println!("{:>18} {}", "index:", largest(index, entries));
    Ok(())
}

/// Bytes of the index by the kind of file, as a server leaves it: committed every few thousand entries, and merged.
fn index(data: &Path, ledger: &Arc<Ledger>) -> Result<BTreeMap<String, usize>> {
    let log = Log::Open(Arc::clone(ledger));
    let mut derived = Derived::open(data, &log, 64 << 20, Arc::new(Metrics::default()))?;
    while derived.step(&log)? > 0 {
        derived.commit()?;
    }
    let kinds = || -> Result<BTreeMap<String, usize>> {
        let mut kinds = BTreeMap::new();
        for entry in fs::read_dir(data.join("derived/index"))? {
            let path = entry?.path();
            // One that a merge has removed meanwhile counts no more.
            let Ok(metadata) = path.metadata() else { continue };
            let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            *kinds.entry(kind).or_default() += usize::try_from(metadata.len())?;
        }
        Ok(kinds)
    };
    // Merges go on behind the last commit.
    let (mut now, mut same) = (kinds()?, 0);
    while same < 20 {
        std::thread::sleep(Duration::from_millis(100));
        let then = std::mem::replace(&mut now, kinds()?);
        same = if then == now { same + 1 } else { 0 };
    }
    Ok(now)
}

/// The largest members of the leaves, in bytes an entry.
fn parts(ledger: &Ledger) -> Result<String> {
    let mut sums: BTreeMap<String, usize> = BTreeMap::new();
    let mut next = 0;
    loop {
        let leaves = ledger.entries(next, 512)?;
        if leaves.is_empty() {
            break;
        }
        for leaf in &leaves {
            let (_, body) = ledger::split_leaf(leaf).context("a leaf is a stamp and a body")?;
            *sums.entry("stamp".into()).or_default() += leaf.len() - body.len();
            let body: BTreeMap<String, Value> = serde_json::from_slice(body)?;
            for (name, value) in body {
                let run = value.get("run").and_then(Value::as_object).filter(|_| name == "fact");
                for (name, value) in run.into_iter().flatten() {
                    *sums.entry(format!("run.{name}")).or_default() += name.len() + 4 + value.to_string().len();
                }
                if run.is_none() {
                    *sums.entry(name.clone()).or_default() += name.len() + 4 + value.to_string().len();
                }
            }
        }
        next += leaves.len() as u64;
    }
    Ok(largest(sums, usize::try_from(next.max(1))?))
}

/// The largest of these sums, in bytes an entry.
fn largest(sums: BTreeMap<String, usize>, entries: usize) -> String {
    let mut largest: Vec<(usize, String)> = sums.into_iter().map(|(name, sum)| (sum / entries, name)).collect();
    largest.sort_unstable_by(|a, b| b.cmp(a));
    largest.iter().take(9).map(|(bytes, name)| format!("{name} {bytes}")).collect::<Vec<_>>().join(", ")
}

/// What intake does with a delivery.
fn keep(desk: &Desk, recorded: &[(String, String)], body: &[u8], other: &Renamer) -> Result<()> {
    let mut headers = HeaderMap::new();
    for (name, value) in recorded {
        let value = other.rename(value.as_bytes());
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(&value)?);
    }
    let raw = ingest::cloudevents::payload(&headers, body);
    let (kept, redacted) = ingest::cloudevents::redact_payload(&raw, &desk.redactor);
    let source = SourceId {
        cluster: "default".into(),
        kind: SourceKind::CloudEvents,
        name: "tekton".into(),
        instance: String::new(),
    };
    let declared = Declared::default();
    let observed_at = Time::parse("2026-11-24T00:00:00.123456789Z").unwrap_or_default();
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &desk.persons };
    let (mut drafts, mut persons) = (Vec::new(), Vec::new());
    let (headers, body) = ingest::cloudevents::read_payload(&kept).context("a kept delivery can be read")?;
    ingest::cloudevents::read(&headers, body, &context, &mut drafts, &mut persons);
    let arrival = Arrival {
        source: source.clone(),
        declared: declared.clone(),
        observed_at,
        submitter: Submitter::Anonymous { peer: "127.0.0.1".into() },
        payload: Some((kept.to_vec(), "events")),
        redacted,
        drafts,
        position: None,
        reached: Reached::default(),
    };
    desk.submit_wait(Lane::Push, arrival)?;
    Ok(())
}

fn bytes(folder: &Path) -> Result<usize> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let inside = entry.file_type()?.is_dir();
        sum += if inside { bytes(&entry.path())? } else { usize::try_from(entry.metadata()?.len())? };
    }
    Ok(sum)
}

/// Makes other runs of the recorded ones: the same thing has the same new name in every event of a copy.
struct Renamer {
    copy: u64,
    /// Names of runs that do not begin with another run's name, and their new ones.
    names: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Renamer {
    fn new(copy: u64, recording: &[Delivery]) -> Self {
        let subject = |delivery: &Delivery| {
            let header = delivery.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("ce-subject"));
            header.map(|(_, value)| value.clone().into_bytes())
        };
        let mut all: Vec<Vec<u8>> = recording.iter().filter_map(subject).filter(|name| name.len() > 2).collect();
        // Sorted, a name comes before those that begin with it.
        all.sort();
        let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for name in all {
            if !names.keys().any(|known| name.starts_with(known)) {
                let suffix = digits(copy, &name, b"bcdfghjklmnpqrstvwxz2456789", 5);
                let renamed = [name.as_slice(), b"-", &suffix].concat();
                names.insert(name, renamed);
            }
        }
        Self { copy, names }
    }

    fn rename(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let mut at = 0;
        while at < bytes.len() {
            let boundary = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
            let found = if boundary { self.token(&bytes[at..]) } else { None };
            if let Some((len, new)) = found {
                out.extend_from_slice(&new);
                at += len;
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        out
    }

    /// What stands at the beginning of these bytes and has another value in every run: its length, and the new value.
    fn token(&self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let known = |(old, new): (&Vec<u8>, &Vec<u8>)| bytes.starts_with(old).then(|| (old.len(), new.clone()));
        if let Some(found) = self.names.iter().find_map(known) {
            return Some(found);
        }
        if bytes.get(..20).is_some_and(is_time) {
            return Some(self.later(bytes));
        }
        let len = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit() || **byte == b'-').count();
        let token = &bytes[..len];
        let uuid = len == 36 && [8, 13, 18, 23].iter().all(|&dash| token[dash] == b'-');
        let digest = matches!(len, 16 | 32 | 40 | 64) && !token.contains(&b'-');
        (uuid || digest).then(|| {
            let fresh = digits(self.copy, token, b"0123456789abcdef", len);
            let new = token.iter().zip(fresh).map(|(old, new)| if *old == b'-' { b'-' } else { new }).collect();
            (len, new)
        })
    }

    /// A copy is about a minute after the one before; the recorded seconds stay apart, their fractions become others.
    fn later(&self, bytes: &[u8]) -> (usize, Vec<u8>) {
        let text = format!("{}Z", String::from_utf8_lossy(&bytes[..19]));
        let by = i64::try_from(self.copy * 60 + self.copy % 53).unwrap_or(0);
        let time = Time::parse(&text).unwrap_or_default().plus_seconds(by);
        let mut new = time.to_string().trim_end_matches('Z').as_bytes().to_vec();
        let mut len = 19;
        if bytes[19] == b'.' {
            let count = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            new.push(b'.');
            new.extend(digits(self.copy, &bytes[..20 + count], b"0123456789", count));
            len = 20 + count;
        }
        (len, new)
    }
}

/// Whether these 20 bytes are `2026-11-23T15:19:42` and what ends it.
fn is_time(bytes: &[u8]) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd";
    form.iter().zip(bytes).all(|(form, byte)| if *form == b'd' { byte.is_ascii_digit() } else { form == byte })
        && matches!(bytes[19], b'Z' | b'.')
}

/// So many characters of the alphabet that look random and depend on the copy and the text only.
fn digits(copy: u64, text: &[u8], alphabet: &[u8], count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(count);
    for n in 0..count {
        let mut hasher = DefaultHasher::new();
        (copy, text, n).hash(&mut hasher);
        let at = hasher.finish() % alphabet.len() as u64;
        out.push(alphabet[usize::try_from(at).unwrap_or(0)]);
    }
    out
}
