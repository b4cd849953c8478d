//! Random mutations of a stopped, sealed folder: whatever is changed in what a checkpoint proves is found by `verify`, given that
//! one checkpoint was kept outside. The full run is
//! `LEDGER_MUTATIONS=10000 cargo test -p ledger --test mutations -- --nocapture`.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod world;

use ledger::{
    Append, Config, Disk, Lane, Ledger, Outcome, Payload, Position, Report, SimDisk, VerifyOptions, init, verify,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use world::{PATIENCE, dice, kind};

type Files = BTreeMap<PathBuf, Vec<u8>>;

const PAGE: usize = 4096;
const HOUR: u64 = 3_600_000;
const ORIGIN: &str = "log.example/mutations";

/// A folder that is attacked, and what an attacker may have besides.
struct Victim {
    files: Files,
    /// Earlier states of it.
    older: Vec<Files>,
    /// The same length, but the newest entries are others, and all hashes, CRCs and blocks fit them. Its notes are signed by the
    /// same key, which an attacker does not have: they are not used.
    fork: Files,
    /// A ledger of the same name and length under another key.
    thief: Files,
    /// The checkpoint that was kept outside: the last one.
    kept: String,
}

/// Appends entries `from..to` (there are more entries than appends) and stops, in an orderly way or not.
fn live(disk: &Arc<SimDisk>, appends: std::ops::Range<u64>, word: &str, orderly: bool) {
    let mut config = Config::new("/data");
    config.disk = Disk::Simulated(Arc::clone(disk));
    config.limits.segment_bytes = 64 << 10;
    config.limits.reserve_bytes = 4096;
    config.limits.seal_every_ms = 1;
    config.limits.sync_every_ms = HOUR;
    config.limits.store_every_ms = HOUR;
    if appends.start == 0 {
        init(&config, Some(ORIGIN)).unwrap();
    }
    let log = Ledger::open(&config).unwrap().ledger;
    let mut last = 0;
    for n in appends {
        let class = if n % 2 == 0 { "raw-a" } else { "raw-b" };
        let payload = n
            .is_multiple_of(5)
            .then(|| Payload::new(format!("{word}{n:06}").repeat(20).into_bytes(), class, "identity").unwrap());
        let parts = if n.is_multiple_of(6) { 9 } else { 1 };
        let bodies = (0..parts)
            .map(|part| {
                let reference = payload.as_ref().map(Payload::reference);
                serde_json::json!({"n": format!("{n:06}"), "part": part, "word": word, "payload": reference})
                    .to_string()
                    .into_bytes()
            })
            .collect();
        let position = (n % 7 == 0).then(|| Position { source: format!("s{}", n % 3), position: format!("{word}{n}") });
        last = log.append_wait(Append { lane: Lane::Push, bodies, payload, position }).unwrap().last;
        if n % 40 == 0 {
            log.wait_sealed(last, PATIENCE);
        }
    }
    log.wait_sealed(last, PATIENCE);
    if !orderly {
        disk.cut_power();
    }
    assert_eq!(log.close().is_ok(), orderly);
}

impl Victim {
    /// Three lives, the last of which ends in an orderly way (everything is stored) or not (the journal holds much).
    fn new(orderly: bool) -> Self {
        let lives = [0..60, 60..140, 140..220];
        let disk = Arc::new(SimDisk::default());
        let mut states = Vec::new();
        for (life, appends) in lives.iter().enumerate() {
            live(&disk, appends.clone(), "honest", orderly || life < 2);
            states.push(disk.contents());
        }
        let files = states.pop().unwrap();
        let forked = Arc::new(SimDisk::of(states[1].clone()));
        live(&forked, lives[2].clone(), "forged", orderly);
        let thief = Arc::new(SimDisk::default());
        live(&thief, 0..220, "honest", orderly);
        let text = |path: &str| String::from_utf8(files[Path::new(path)].clone()).unwrap();
        let kept = text("/data/ledger/checkpoint");
        Self { files, older: states, fork: forked.contents(), thief: thief.contents(), kept }
    }

    fn verify(&self, files: Files) -> Report {
        let disk = Disk::Simulated(Arc::new(SimDisk::of(files)));
        let kept = Some(self.kept.clone());
        verify(Path::new("/data"), &VerifyOptions { disk, kept, ..VerifyOptions::default() })
    }

    /// Entries in the kept checkpoint.
    fn size(&self) -> u64 {
        self.kept.lines().nth(1).unwrap().parse().unwrap()
    }

    /// Why this change leaves everything as it is that a checkpoint proves; none if it does not.
    fn harmless(&self, path: &Path, after: Option<&Vec<u8>>) -> Option<&'static str> {
        let Some(before) = self.files.get(path) else { return Some("a new file, named as not checked") };
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        match (kind(path), after) {
            ("segment", Some(after)) => {
                // Behind the last group anything looks like a write that did not complete.
                let used = (before.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(PAGE);
                (after.get(..used) == Some(&before[..used])).then_some("behind the last group of a segment")
            }
            ("segment", None) if self.is_stored(path) => Some("a segment that is stored elsewhere and may be removed"),
            ("checkpoint", Some(after))
                if after.strip_prefix(&before[..]).is_some_and(|more| before.ends_with(more)) =>
            {
                Some("a signature of the checkpoint, repeated")
            }
            ("reserve", after) if after.is_none_or(|after| zero(after)) => Some("the reserve, which is empty"),
            ("spare", None) => Some("the next segment, which is empty"),
            ("spare", Some(after)) if after.starts_with(b"CFLSEG01") && after.len() >= PAGE && zero(&after[PAGE..]) => {
                Some("the next segment, which is empty")
            }
            ("secret key", None) => Some("the secret key, which proves nothing"),
            ("positions", Some(after)) if Some(after) == self.fork.get(path) => Some("positions, which are not signed"),
            ("partial tile" | "partial bundle", None) if !self.is_current(path) => {
                Some("a partial tile of an earlier checkpoint")
            }
            _ => None,
        }
    }

    /// Whether all entries of a segment are below `stored` of `head`.
    fn is_stored(&self, path: &Path) -> bool {
        let head = String::from_utf8_lossy(&self.files[Path::new("/data/head")]).into_owned();
        let stored: u64 = head.lines().nth(3).and_then(|line| line.strip_prefix("stored ")).unwrap().parse().unwrap();
        let next = self.files.keys().find(|other| *other > path && kind(other) == "segment");
        let first = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[..20].parse::<u64>().unwrap();
        next.is_some_and(|next| first(next) <= stored)
    }

    /// Whether a partial file is one of the last checkpoint's tree.
    fn is_current(&self, path: &Path) -> bool {
        let size = self.size();
        (0..3u32).any(|level| {
            let (n, width) = ((size >> (8 * level)) / 256, (size >> (8 * level)) % 256);
            let names = [level.to_string(), "entries".to_owned()];
            let names = if level == 0 { &names[..] } else { &names[..1] };
            names.iter().any(|name| path == Path::new(&format!("/data/ledger/tile/{name}/{n:03}.p/{width}")))
        })
    }
}

/// Draws numbers and parts of a folder.
struct Draw<'a> {
    victim: &'a Victim,
    dice: Box<dyn FnMut(u64) -> u64>,
}

impl Draw<'_> {
    fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.dice)(n.max(1) as u64)).unwrap()
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A file; each kind as often as the others.
    fn file(&mut self) -> PathBuf {
        let kinds: BTreeSet<&str> = self.victim.files.keys().map(|path| kind(path)).collect();
        let chosen = self.one(&kinds.into_iter().collect::<Vec<_>>());
        let paths: Vec<PathBuf> = self.victim.files.keys().filter(|path| kind(path) == chosen).cloned().collect();
        self.one(&paths)
    }

    /// A place in a file, mostly where something is.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        if self.below(10) == 0 { self.below(bytes.len()) } else { self.below(used) }
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let from = self.place(bytes);
        let longest = (bytes.len() - from).min(600);
        from..from + 1 + self.below(longest.saturating_sub(1))
    }
}

type Mutate = fn(&mut Draw<'_>, &mut Files);

/// Ways to change a folder.
const KINDS: [(&str, Mutate); 16] = [
    ("bits flipped", |draw, files| {
        let path = draw.file();
        for _ in 0..=draw.below(8) {
            let bytes = files.get_mut(&path).unwrap();
            let (at, bit) = (draw.place(bytes), draw.below(8));
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << bit);
        }
    }),
    ("bytes overwritten", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        for at in draw.range(bytes) {
            bytes[at] = u8::try_from(draw.below(256)).unwrap();
        }
    }),
    ("end cut off", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        let len = draw.place(bytes);
        bytes.truncate(len);
    }),
    ("bytes cut out", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        let range = draw.range(bytes);
        bytes.drain(range);
    }),
    ("zeros appended", |draw, files| {
        let count = 1 + draw.below(9000);
        let bytes = files.get_mut(&draw.file()).unwrap();
        bytes.resize(bytes.len() + count, 0);
    }),
    ("end repeated", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        bytes.extend_from_within(bytes.len() - 1 - draw.below(bytes.len().min(600) - 1)..);
    }),
    ("ranges swapped", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        let (one, other) = (draw.range(bytes), draw.range(bytes));
        for (a, b) in one.zip(other) {
            bytes.swap(a, b);
        }
    }),
    ("range copied within", |draw, files| {
        let bytes = files.get_mut(&draw.file()).unwrap();
        let (from, to) = (draw.range(bytes), draw.place(bytes));
        let len = from.len().min(bytes.len() - to);
        bytes.copy_within(from.start..from.start + len, to);
    }),
    ("deleted", |draw, files| {
        for _ in 0..=draw.below(3) {
            files.remove(&draw.file());
        }
    }),
    ("two files swapped", |draw, files| {
        let (one, other) = (draw.file(), draw.file());
        swap(files, &one, &other);
    }),
    ("two files of a kind swapped", |draw, files| {
        let one = draw.file();
        let same: Vec<PathBuf> = files.keys().filter(|path| kind(path) == kind(&one)).cloned().collect();
        let other = draw.one(&same);
        swap(files, &one, &other);
    }),
    ("copied over another", |draw, files| {
        let bytes = files[&draw.file()].clone();
        files.insert(draw.file(), bytes);
    }),
    ("copied to a new name", |draw, files| {
        let path = draw.file();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (digits, rest) = name.split_at(name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len()));
        let other = match digits.parse::<u64>() {
            Ok(number) => {
                let width = if digits.starts_with('0') || digits.len() > 3 { digits.len() } else { 0 };
                format!("{:0width$}{rest}", number + 1 + draw.below(700) as u64)
            }
            Err(_) => format!("{name}.copy"),
        };
        let bytes = files[&path].clone();
        files.insert(path.with_file_name(other), bytes);
    }),
    ("some files rolled back", |draw, files| {
        let older = draw.one(&draw.victim.older);
        for _ in 0..=draw.below(4) {
            let path = draw.file();
            put(files, &path, older.get(&path));
        }
    }),
    ("folder rolled back", |draw, files| {
        let older = draw.one(&draw.victim.older);
        // All of it, or all but a part that the attacker forgot.
        let left = (draw.below(2) == 0).then(|| kind(&draw.file()));
        let paths: BTreeSet<PathBuf> = files.keys().chain(older.keys()).cloned().collect();
        for path in paths.iter().filter(|path| Some(kind(path)) != left) {
            put(files, path, older.get(path));
        }
    }),
    ("newest entries replaced", |draw, files| {
        let (fork, thief) = (&draw.victim.fork, &draw.victim.thief);
        let notes = ["head", "checkpoint"];
        let parts: [&[&str]; 6] = [
            &["bundle", "partial bundle"],
            &["tile", "partial tile"],
            &["bundle", "partial bundle", "tile", "partial tile"],
            &["bundle", "partial bundle", "tile", "partial tile", "block"],
            &["bundle", "partial bundle", "tile", "partial tile", "block", "segment", "positions", "spare"],
            &["block"],
        ];
        let paths: BTreeSet<PathBuf> = files.keys().chain(fork.keys()).chain(thief.keys()).cloned().collect();
        let with_keys = |path: &Path| !notes.contains(&kind(path));
        match draw.below(8) {
            // Under a key of the attacker's own, which replaces the real one or stands beside it.
            own @ (6 | 7) => {
                let vkeys = Path::new("/data/ledger/keys/vkeys");
                let both = [files[vkeys].as_slice(), &thief[vkeys]].concat();
                for path in &paths {
                    put(files, path, thief.get(path));
                }
                if own == 7 {
                    files.insert(vkeys.to_owned(), both);
                }
            }
            part => {
                for path in paths.iter().filter(|path| parts[part].contains(&kind(path)) && with_keys(path)) {
                    put(files, path, fork.get(path));
                }
            }
        }
    }),
];

fn put(files: &mut Files, path: &Path, bytes: Option<&Vec<u8>>) {
    match bytes {
        Some(bytes) => drop(files.insert(path.to_owned(), bytes.clone())),
        None => drop(files.remove(path)),
    }
}

fn swap(files: &mut Files, one: &Path, other: &Path) {
    let (a, b) = (files[one].clone(), files[other].clone());
    files.insert(one.to_owned(), b);
    files.insert(other.to_owned(), a);
}

#[derive(Default)]
struct Count {
    refuted: u64,
    could_not_check: u64,
    harmless: BTreeMap<&'static str, u64>,
}

#[test]
fn every_mutation_of_what_is_proved_is_found() {
    #[expect(clippy::disallowed_methods, reason = "a test that can be asked for more")]
    let wanted: usize = std::env::var("LEDGER_MUTATIONS").map_or(640, |text| text.parse().unwrap());
    let victims = [Victim::new(true), Victim::new(false)];
    for victim in &victims {
        let report = victim.verify(victim.files.clone());
        assert_eq!((report.outcome(), report.verified), (Outcome::Verified, victim.size()), "{report}");
        let report = victim.verify(victim.fork.clone());
        assert_eq!(report.outcome(), Outcome::Refuted, "the fork is as long and another: {report}");
    }
    let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
    let mut unseen = Vec::new();
    for seed in 0..wanted {
        let victim = &victims[seed % victims.len()];
        let (name, mutate) = KINDS[seed / victims.len() % KINDS.len()];
        let mut draw = Draw { victim, dice: Box::new(dice(seed as u64)) };
        let mut files = victim.files.clone();
        while files == victim.files {
            mutate(&mut draw, &mut files);
        }
        let paths: BTreeSet<&PathBuf> = victim.files.keys().chain(files.keys()).collect();
        let changed: Vec<&PathBuf> =
            paths.into_iter().filter(|path| victim.files.get(*path) != files.get(*path)).collect();
        let report = victim.verify(files.clone());
        let count = counts.entry(name).or_default();
        match report.outcome() {
            Outcome::Refuted => count.refuted += 1,
            Outcome::CouldNotCheck => count.could_not_check += 1,
            Outcome::Verified => {
                let reasons: Option<BTreeSet<&str>> =
                    changed.iter().map(|path| victim.harmless(path, files.get(*path))).collect();
                let Some(reasons) = reasons else {
                    let more = changed.len().saturating_sub(5);
                    unseen.push(format!("{seed}: {name}: {:?} and {more} more", &changed[..changed.len() - more]));
                    continue;
                };
                let new = |path: &&&PathBuf| !victim.files.contains_key(**path) && path.starts_with("/data/ledger");
                for path in changed.iter().filter(new) {
                    assert!(
                        report.strangers.contains(path),
                        "{seed}: {name}: {} is not named\n{report}",
                        path.display()
                    );
                }
                *count.harmless.entry(reasons.first().unwrap()).or_default() += 1;
            }
        }
    }
    let mut sum = (0, 0, 0);
    for (name, Count { refuted, could_not_check, harmless }) in &counts {
        println!("{name:<28} {refuted:>5} refuted {could_not_check:>5} could not check  harmless: {harmless:?}");
        sum = (sum.0 + refuted, sum.1 + could_not_check, sum.2 + harmless.values().sum::<u64>());
    }
    println!(
        "{wanted} mutations: {} refuted, {} could not check, {} harmless, {} not found",
        sum.0,
        sum.1,
        sum.2,
        unseen.len()
    );
    assert!(unseen.is_empty(), "not found:\n{}", unseen.join("\n"));
}
