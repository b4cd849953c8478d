//! Mutations of `derived/`: what is changed is built again or refused, and no answer is ever another one. More of them with
//! `DERIVED_MUTATIONS=2000 cargo test -p counterfoil --test it derived -- --nocapture`.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use counterfoil::{derive::Derived, log::Log, metrics::Metrics};
use indexer::{Hit, Search};

use crate::common::{Server, fixture};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Questions whose answers must stay the same.
const QUESTIONS: [&str; 6] =
    ["", "type:handshake.failed", "type:entry.handshake", "gateway", "svid OR expired", "ns:shop"];

/// A stopped server's folder with two states of `derived/`, the second one later.
fn folder() -> (tempfile::TempDir, PathBuf, [Files; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let states = [
        ("spire", "spire-agent-node-1", "spire-agent-node-1.log.gz"),
        ("nginx-error", "ledger", "ledger/error.log.gz"),
    ]
    .map(|(format, source, file)| {
        let server = Server::start(&data);
        let log = fixture(&format!("mesh/b-svid-expired-token-not-rotated/{file}"));
        // Several commits make several segments.
        for piece in log.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>().chunks(60).take(4) {
            let (status, head) = server.post(&format!("/logs/{format}?source={source}"), &piece.concat());
            assert_eq!(status, 202, "{head}");
            server.settled();
        }
        server.stop();
        read(&data.join("derived"))
    });
    (folder, data, states)
}

fn read(dir: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(path).unwrap());
            }
        }
    }
    files.retain(|path, _| path.extension().is_none_or(|extension| extension != "lock"));
    files
}

fn write(dir: &Path, files: &Files) {
    let _ = fs::remove_dir_all(dir);
    for (path, bytes) in files {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), bytes).unwrap();
    }
}

/// What is answered, and whether the index was the one that lay there. The error is a refusal.
fn answers(data: &Path, log: &Log) -> Result<(Vec<String>, bool), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let work = || -> Result<(Vec<String>, bool), String> {
        let mut derived = Derived::open(data, log, 15_000_000, Arc::new(Metrics::default())).map_err(|e| text(&e))?;
        let kept = derived.index().cursor().is_some();
        while derived.step(log).map_err(|e| text(&e))? > 0 {}
        derived.commit().map_err(|e| text(&e))?;
        let mut answers = vec![format!("{:?}", derived.progress().known().sources)];
        for question in QUESTIONS {
            let search = Search { query: question.into(), limit: 2000, ..Search::default() };
            let page = derived.index().search(&search).map_err(|e| text(&e))?;
            answers.push(format!("{question}: {}", page.total));
            answers.extend(page.hits.iter().map(|hit| match hit {
                Hit::Record(record) => serde_json::to_string(record).unwrap(),
                entry @ Hit::Entry { .. } => format!("{entry:?}"),
            }));
        }
        Ok((answers, kept))
    };
    // The server takes a panic of this thread for trouble too, and opens again.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panicked".into()))
}

fn dice(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        // SplitMix64
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n.max(1) as u64).unwrap()
    }
}

/// Changes a file or two, in one of many ways; says which.
fn mutate(files: &mut Files, older: &Files, dice: &mut impl FnMut(usize) -> usize) -> &'static str {
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    let path = paths[dice(paths.len())].clone();
    let other = paths[dice(paths.len())].clone();
    let same: Vec<&PathBuf> = paths.iter().filter(|other| other.extension() == path.extension()).collect();
    let same = same[dice(same.len())].clone();
    let len = files[&path].len();
    let bytes = files.get_mut(&path).unwrap();
    match dice(9) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(dice(len)) {
                *byte ^= 1 << dice(8);
            }
            "a bit flipped"
        }
        2 => {
            bytes.truncate(dice(len));
            "end cut off"
        }
        3 => {
            let (from, to) = (dice(len), dice(len));
            let count = dice(200).min(len - from.max(to));
            bytes.copy_within(from..from + count, to);
            "range copied within"
        }
        4 => {
            let from = dice(len);
            bytes.drain(from..(from + 1 + dice(100)).min(len));
            "bytes cut out"
        }
        5 => {
            files.remove(&path);
            "deleted"
        }
        6 | 7 => {
            let other = if dice(2) == 0 { other } else { same };
            let (a, b) = (files[&path].clone(), files[&other].clone());
            files.insert(path, b);
            files.insert(other, a);
            "two files swapped"
        }
        _ if dice(4) == 0 => {
            older.clone_into(files);
            "all rolled back"
        }
        _ => {
            match older.get(&path) {
                Some(bytes) => drop(files.insert(path, bytes.clone())),
                None => drop(files.remove(&path)),
            }
            "rolled back"
        }
    }
}

#[test]
fn mutations_of_the_derived_world_never_change_an_answer() {
    let wanted: u64 = std::env::var("DERIVED_MUTATIONS").map_or(60, |text| text.parse().unwrap());
    let (_folder, data, [older, files]) = folder();
    let log = Log::folder(&data).unwrap();
    let derived = data.join("derived");
    let (right, kept) = answers(&data, &log).unwrap();
    assert!(kept && right.len() > 100, "{} answers", right.len());
    let mut counts: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for seed in 0..wanted {
        let mut dice = dice(seed);
        let mut mutated = files.clone();
        let mut how = "";
        while mutated == files {
            how = mutate(&mut mutated, &older, &mut dice);
        }
        write(&derived, &mutated);
        let count = counts.entry(how).or_default();
        match answers(&data, &log) {
            Err(_) => count[0] += 1,
            Ok((answers, kept)) => {
                count[if kept { 1 } else { 2 }] += 1;
                if answers != right {
                    let changed: Vec<_> = files.keys().filter(|path| files.get(*path) != mutated.get(*path)).collect();
                    let first = answers.iter().zip(&right).find(|(a, b)| a != b);
                    wrong.push(format!("{seed}: {how}: {changed:?}: {first:?}"));
                }
            }
        }
    }
    for (how, [refused, kept, anew]) in &counts {
        println!("{how:<20} {refused:>5} refused {anew:>5} made anew {kept:>5} right as it was");
    }
    println!("{wanted} mutations of derived/, {} wrong answers", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
