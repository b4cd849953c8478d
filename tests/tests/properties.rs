//! The promises of the fold, tried on every scenario file and on a recording: same entries, same bytes; a restored
//! snapshot goes on as if there had been no stop; arrival order and duplicates do not matter; taking a fact away never
//! turns one definite cause into another.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{collections::BTreeMap, fs, path::Path};

use correlator::{Config, Correlator};
use model::{
    Entry, Fact, Record,
    record::{Cause, Standing, State},
};
use proptest::prelude::*;
use scenarios::{fold, last, recording, scenario::Scenario};

fn scenarios() -> Vec<(String, Vec<Entry>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| Scenario::read(&fs::read_to_string(path).unwrap()).unwrap().entries;
    paths.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(path))).collect()
}

fn records(entries: &[Entry]) -> (Vec<Record>, Vec<u8>) {
    let (mut correlator, mut out) = (Correlator::new(Config::default()), Vec::new());
    for entry in entries {
        correlator.apply(entry, &mut out);
    }
    (out, correlator.snapshot())
}

fn bytes(records: &[Record]) -> Vec<u8> {
    serde_json::to_vec(records).unwrap()
}

/// What settled records say, without how often they were written.
fn settled(entries: &[Entry]) -> BTreeMap<String, Record> {
    let mut found = fold(entries);
    found.retain(|_, record| matches!(record.state, State::Settled { .. } | State::Revised));
    for record in found.values_mut() {
        (record.revision, record.through) = (0, 0);
        record.state = State::Revised;
    }
    found
}

/// Definite causes by record.
fn definite(entries: &[Entry]) -> BTreeMap<String, Cause> {
    let causes = fold(entries).into_iter().filter_map(|(id, record)| record.cause.map(|cause| (id, cause)));
    causes.filter(|(_, cause)| cause.standing != Standing::Undetermined).map(|(id, cause)| (id, cause.word)).collect()
}

fn assert_weaker(name: &str, whole: &BTreeMap<String, Cause>, less: &BTreeMap<String, Cause>, what: &str) {
    for (id, cause) in less {
        if let Some(before) = whole.get(id) {
            assert_eq!(before, cause, "{name}: {id} turned into another cause without {what}");
        }
    }
}

/// Entries in another order, some twice, before the first watermark, one each `step` milliseconds.
fn shuffled(entries: &[Entry], order: &[prop::sample::Index], again: &[prop::sample::Index], step: u64) -> Vec<Entry> {
    let marks = |entry: &Entry| match &entry.body.fact {
        Fact::Heartbeat(_) => true,
        Fact::Import(import) => import.complete_to.is_some(),
        _ => false,
    };
    let first = entries.iter().position(marks).unwrap_or(entries.len());
    let (facts, beats) = entries.split_at(first);
    let mut mixed = facts.to_vec();
    if !facts.is_empty() {
        mixed.extend(again.iter().map(|index| facts[index.index(facts.len())].clone()));
    }
    for (n, index) in order.iter().enumerate().take(mixed.len()) {
        let other = index.index(mixed.len());
        mixed.swap(n, other);
    }
    for (n, entry) in (1..).zip(&mut mixed) {
        (entry.stamp.tick, entry.stamp.append) = (n * step, n);
    }
    for beat in beats {
        let mut beat = beat.clone();
        beat.stamp.tick += 3_600_000;
        mixed.push(beat);
    }
    mixed
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    for (name, entries) in scenarios() {
        let (a, b) = (records(&entries), records(&entries));
        assert_eq!((bytes(&a.0), a.1), (bytes(&b.0), b.1), "{name}");
    }
}

#[test]
fn a_snapshot_at_any_point_goes_on_as_if_there_had_been_no_stop() {
    for (name, entries) in scenarios() {
        let (whole, end) = records(&entries);
        for cut in 0..=entries.len() {
            let (mut correlator, mut out) = (Correlator::new(Config::default()), Vec::new());
            for entry in &entries[..cut] {
                correlator.apply(entry, &mut out);
            }
            let mut restored = Correlator::restore(&correlator.snapshot()).unwrap();
            for entry in &entries[cut..] {
                restored.apply(entry, &mut out);
            }
            assert_eq!(bytes(&out), bytes(&whole), "{name} cut at {cut}");
            assert_eq!(restored.snapshot(), end, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_snapshot_in_the_middle_of_a_recording_too() {
    let entries =
        recording::entries(&recording::fixtures().join("stories/token-not-rotated-then-renewed"), |_, _| true);
    let (whole, end) = records(&entries);
    let cut = entries.len() / 2;
    let (mut correlator, mut out) = (Correlator::new(Config::default()), Vec::new());
    for entry in &entries[..cut] {
        correlator.apply(entry, &mut out);
    }
    let mut restored = Correlator::restore(&correlator.snapshot()).unwrap();
    for entry in &entries[cut..] {
        restored.apply(entry, &mut out);
    }
    assert_eq!(bytes(&out), bytes(&whole));
    assert_eq!(restored.snapshot(), end);
}

#[test]
fn clusters_do_not_see_each_other() {
    let mesh = recording::fixtures().join("mesh");
    let story = recording::fixtures().join("stories/token-not-rotated-then-renewed");
    for (a, b) in [
        (mesh.join("b-svid-expired-token-not-rotated"), mesh.join("b-svid-expired-server-unreachable")),
        (mesh.join("d-bundle-stale-on-called-side"), mesh.join("h-not-yet-valid-future-notbefore")),
        (story.clone(), story),
    ] {
        let whole = |folder: &Path| recording::entries(folder, |_, _| true);
        let both = recording::interleaved(&whole(&a), &recording::of_cluster(&whole(&b), "other"));
        let only = |cluster: &str| {
            let own =
                |entry: &&Entry| entry.body.source.cluster == cluster || matches!(entry.body.fact, Fact::Heartbeat(_));
            let mut own: Vec<Entry> = both.iter().filter(own).cloned().collect();
            for entry in &mut own {
                if let Fact::Heartbeat(heartbeat) = &mut entry.body.fact {
                    heartbeat.sources.retain(|mark| mark.source.cluster == cluster);
                }
            }
            fold(&own)
        };
        let (here, there) = (only("default"), only("other"));
        assert!(!here.is_empty() && !there.is_empty(), "{}", a.display());
        assert!(here.keys().all(|id| !there.contains_key(id)), "{}: equal ids in two clusters", a.display());
        let apart: BTreeMap<String, Record> = here.into_iter().chain(there).collect();
        assert_eq!(fold(&both), apart, "{} and {}", a.display(), b.display());
    }
}

#[test]
fn no_single_fact_turns_one_definite_cause_into_another() {
    for (name, entries) in scenarios() {
        let whole = definite(&entries);
        for n in 0..entries.len() {
            let mut less = entries.clone();
            let taken = less.remove(n);
            assert_weaker(&name, &whole, &definite(&less), &format!("line {}: {:?}", n + 1, taken.body.fact));
        }
    }
}

#[test]
fn no_whole_source_turns_one_definite_cause_into_another() {
    for folder in recording::folders("mesh").into_iter().chain(recording::folders("stories")) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let entries = recording::entries(&folder, |_, _| true);
        let whole = definite(&entries);
        if whole.is_empty() {
            continue;
        }
        let mut sources: Vec<_> = entries.iter().map(|entry| entry.body.source.clone()).collect();
        sources.sort();
        sources.dedup();
        for source in sources {
            let less: Vec<Entry> = entries.iter().filter(|entry| entry.body.source != source).cloned().collect();
            assert_weaker(&name, &whole, &definite(&less), &source.to_string());
        }
    }
}

#[test]
fn without_spire_the_stories_fall_back_to_undetermined() {
    let folder = recording::fixtures().join("stories/token-not-rotated-then-renewed");
    let spire = |_: &str, path: &Path| {
        !path.to_string_lossy().contains("spire-") && !path.to_string_lossy().contains("spiffe-")
    };
    let found = fold(&recording::entries(&folder, spire));
    let expired: Vec<_> = found
        .values()
        .filter(|record| matches!(&record.detail, model::record::Detail::Handshake(detail) if detail.verify_code == Some(10)))
        .collect();
    assert!(!expired.is_empty());
    for record in expired {
        assert_eq!(record.cause.as_ref().map(|cause| cause.word), Some(Cause::Undetermined), "{}", record.summary);
        assert!(record.missing.iter().any(|missing| missing.source.contains("SPIRE")), "{:?}", record.missing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_duplicates_do_not_matter(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        // Within one look; a look for each; runs settle between two.
        step in prop::sample::select(vec![100, 6_000, 61_000]),
    ) {
        for (name, entries) in scenarios() {
            let mut want = settled(&shuffled(&entries, &[], &[], 100));
            let mut have = settled(&shuffled(&entries, &order, &again, step));
            // A run counts every sighting, repeats too: that is what its count is for.
            for record in want.values_mut().chain(have.values_mut()) {
                if let model::record::Detail::Run(detail) = &mut record.detail {
                    (record.count, detail.repeats) = (0, 0);
                }
            }
            let kinds = |all: &BTreeMap<String, Record>| all.iter().map(|(id, record)| format!("{id} {} {}", record.kind, record.summary)).collect::<Vec<_>>();
            prop_assert_eq!(kinds(&want), kinds(&have), "{}", name);
            for (id, record) in &want {
                prop_assert_eq!(record, &have[id], "{}", name);
            }
        }
    }

    #[test]
    fn dropping_any_facts_of_a_recording_never_gives_another_definite_cause(
        keep in prop::collection::vec(any::<bool>(), 64),
        which in 0usize..6,
    ) {
        let folders = ["b-svid-expired-token-not-rotated", "c-renewed-not-reloaded", "e-wrong-spiffe-id-403", "f-no-client-certificate", "n-join-token-agent-evicted", "h-not-yet-valid-future-notbefore"];
        let entries = recording::entries(&recording::fixtures().join("mesh").join(folders[which]), |_, _| true);
        let whole = definite(&entries);
        let mut less = entries.clone();
        let mut n = 0;
        less.retain(|_| {
            n += 1;
            keep[n % keep.len()] || n % 2 != 0
        });
        assert_weaker(folders[which], &whole, &definite(&less), "some facts");
    }
}

#[test]
fn the_last_revision_counts() {
    let (name, entries) = scenarios().remove(0);
    let (out, _) = records(&entries);
    let found = last(out.clone());
    assert!(
        found.values().all(|record| out
            .iter()
            .filter(|other| other.id == record.id)
            .all(|other| other.revision <= record.revision)),
        "{name}"
    );
}
