//! Everything recorded from real Tekton controllers folds to exactly the runs that there were.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use model::{
    Fact, Record, SourceId,
    record::{Detail, RecordKind, RunDetail},
};
use scenarios::{fold, recording};

fn completed(records: &BTreeMap<String, Record>) -> BTreeMap<String, &RunDetail> {
    let runs = records.values().filter(|record| record.kind == RecordKind::RunCompleted);
    let details = runs.filter_map(|record| match &record.detail {
        Detail::Run(run) => Some((run.uid.clone(), &**run)),
        _ => None,
    });
    details.collect()
}

/// Types of the terminal events among those that the sender delivered.
fn delivered_an_end(run: &serde_json::Value) -> bool {
    let events = run["delivered"].as_object().into_iter().flatten();
    events.into_iter().any(|(kind, _)| kind.contains(".successful") || kind.contains(".failed"))
}

/// Records of what has no end must be about runs whose end was not delivered.
fn assert_incomplete(scenario: &str, records: &BTreeMap<String, Record>, ended: &BTreeMap<String, &serde_json::Value>) {
    let names: BTreeSet<(&str, &str)> =
        ended.values().map(|run| (run["namespace"].as_str().unwrap(), run["name"].as_str().unwrap())).collect();
    for record in records.values().filter(|record| record.kind == RecordKind::RunIncomplete) {
        let Detail::Run(run) = &record.detail else { panic!("{}", record.summary) };
        let known = if run.uid.is_empty() {
            names.contains(&(run.namespace.as_str(), run.name.as_str()))
        } else {
            ended.contains_key(&run.uid)
        };
        assert!(!known, "{scenario}: {}", record.summary);
    }
}

/// Scenarios recorded with every version.
const SCENARIOS: [&str; 16] = [
    "cancelled",
    "customruns",
    "invalid",
    "pipelinerun-success",
    "resolved",
    "restart-flood",
    "service-accounts",
    "sink-500",
    "sink-503-twice",
    "skipped",
    "step-failed",
    "taskrun-success",
    "timeouts",
    "traced",
    "triggers-webhook",
    "variety",
];

fn check(version: &str, more: &[&str]) -> usize {
    let folder = recording::fixtures().join("tekton").join(version);
    let truth = recording::truth(&folder);
    let mut total = 0;
    let told: BTreeSet<&str> = truth["scenarios"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(told, SCENARIOS.iter().chain(more).copied().collect(), "{version}");
    for (scenario, told) in truth["scenarios"].as_object().unwrap() {
        let file = format!("{scenario}.jsonl.gz");
        let records = fold(&recording::accepted(&folder, &file));
        let ours = completed(&records);
        let want: BTreeMap<String, &serde_json::Value> = told["runs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|run| delivered_an_end(run))
            .map(|run| (run["uid"].as_str().unwrap().to_owned(), run))
            .collect();
        let (have, should): (BTreeSet<_>, BTreeSet<_>) = (ours.keys().collect(), want.keys().collect());
        assert_eq!(have, should, "{version}/{scenario}: runs with an end");
        assert_incomplete(scenario, &records, &want);
        for (uid, run) in &want {
            let mine = ours[uid];
            assert_eq!(mine.name, run["name"].as_str().unwrap(), "{scenario}");
            assert_eq!(mine.kind.as_str(), run["kind"].as_str().unwrap(), "{scenario}/{}", mine.name);
            if let Some(reason) = run["reason"].as_str() {
                assert_eq!(mine.reason, reason, "{scenario}/{}", mine.name);
            }
            let children = run["children"].as_array().into_iter().flatten();
            let children: BTreeSet<&str> = children.filter_map(|child| child["name"].as_str()).collect();
            let listed: BTreeSet<&str> = mine.children.iter().map(|child| child.name.as_str()).collect();
            assert_eq!(listed, children, "{scenario}/{}: children", mine.name);
            total += 1;
        }
    }
    total
}

#[test]
fn tekton_1_9_folds_to_its_runs() {
    let runs = check("1.9", &[]);
    assert!(runs > 100, "{runs} runs");
}

#[test]
fn tekton_1_15_folds_to_its_runs() {
    let runs = check("1.15", &["answers", "busy-hour", "https-http2", "large"]);
    assert!(runs > 100, "{runs} runs");
}

#[test]
fn the_api_server_says_who_started_a_run() {
    let folder = recording::fixtures().join("tekton/1.15");
    let both = |_: &str, path: &Path| path.file_name().is_some_and(|name| *name == *"variety.jsonl.gz");
    let records = fold(&recording::entries(&folder, both));
    let runs = completed(&records);
    let top: Vec<_> = runs.values().filter(|run| run.parent.is_none()).collect();
    assert!(!top.is_empty());
    for run in top {
        assert!(
            run.started_by.iter().any(|claim| claim.grade == model::Grade::Authenticated),
            "{}: {:?}",
            run.name,
            run.started_by
        );
    }
}

#[test]
fn only_what_has_an_end_is_completed() {
    let folder = recording::fixtures().join("tekton/1.15");
    let only = |_: &str, path: &Path| path.file_name().is_some_and(|name| *name == *"pipelinerun-success.jsonl.gz");
    let mut entries = recording::entries(&folder, only);
    entries.retain(|entry| !matches!(&entry.body.fact, Fact::Run(run) if run.state.is_terminal()));
    assert!(entries.iter().any(|entry| matches!(entry.body.fact, Fact::Run(_))));
    let records = fold(&entries);
    assert!(completed(&records).is_empty());
    let sources: BTreeSet<&SourceId> = entries.iter().map(|entry| &entry.body.source).collect();
    assert!(!sources.is_empty());
}
