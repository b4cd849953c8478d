//! The live mesh recordings: what really happened beside what we say.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{fmt::Write as _, path::Path};

use model::{
    Fact, Record, Time,
    record::{Cause, Detail, HandshakeDetail, LinkKind, Standing},
};
use scenarios::{fold, recording};

/// A cause interval of a truth file that shows in calls.
struct Interval {
    cause: String,
    from: String,
    to: String,
    stream: bool,
    start: Time,
    end: Time,
}

/// Causes that are not about failing calls.
const OTHER: [&str; 9] = [
    "none",
    "traffic_shift_by_deployment",
    "traffic_shift_external_load",
    "rollback",
    "reload",
    "log_rotation",
    "worker_crash",
    "restart",
    "spire_server_restart_without_effect",
];

fn intervals(truth: &serde_json::Value) -> Vec<Interval> {
    let hidden =
        |i: &serde_json::Value| i["visible"] == false && i["cause"] != "svid_expired_but_connection_kept_alive";
    edges(truth, |i| !OTHER.contains(&i["cause"].as_str().unwrap()) && !hidden(i))
}

/// Intervals in which the called side of an edge was started anew.
fn restarts(truth: &serde_json::Value) -> Vec<Interval> {
    edges(truth, |i| i["cause"] == "restart")
}

fn edges(truth: &serde_json::Value, keep: impl Fn(&serde_json::Value) -> bool) -> Vec<Interval> {
    let list = truth["intervals"].as_array().or(truth["causes"].as_array()).unwrap();
    let time = |value: &serde_json::Value| Time::parse(value.as_str().unwrap()).unwrap();
    list.iter()
        .filter(|i| keep(i))
        .map(|i| {
            let edge = i["edge"].as_str().unwrap();
            let (from, to) = edge.trim_end_matches(" (stream)").split_once("->").unwrap();
            Interval {
                cause: i["cause"].as_str().unwrap().into(),
                from: from.into(),
                to: to.into(),
                stream: edge.ends_with("(stream)"),
                start: time(&i["t_start"]),
                end: time(&i["t_end"]),
            }
        })
        .collect()
}

fn handshakes(records: &[Record]) -> Vec<(&Record, &HandshakeDetail)> {
    let mut found: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.detail {
            Detail::Handshake(detail) => Some((record, &**detail)),
            _ => None,
        })
        .collect();
    found.sort_by_key(|(record, _)| record.from);
    found
}

/// `payments/ledger` is `ledger`.
fn names(end: &str, truth: &str) -> bool {
    end == truth || end.rsplit('/').next() == Some(truth)
}

fn same_edge(detail: &HandshakeDetail, interval: &Interval) -> bool {
    names(&detail.from.name, &interval.from) && names(&detail.to.name, &interval.to)
}

fn overlaps(record: &Record, interval: &Interval) -> bool {
    record.from <= interval.end.plus_seconds(2) && interval.start <= record.to.plus_seconds(2)
}

/// A definite cause where and when the truth knows of no failure. Two kinds are right without an interval of their own:
///
/// - an application that answers errors, or not in time, because calls of its own fail meanwhile: the truth names the
///   edge on which it began, and the record's edge leads to that edge's caller, at once or over others of the kind;
/// - the peer that cannot be connected to while the truth says that it restarts, for that is how a restart looks.
fn is_stray(
    record: &Record,
    detail: &HandshakeDetail,
    told: &[(&Record, &HandshakeDetail)],
    intervals: &[Interval],
    restarts: &[Interval],
    rename: fn(&str) -> String,
) -> bool {
    let is = |end: &str, name: &str| names(end, name) || names(end, &rename(name));
    let (cause, standing) = word(record);
    let here = |interval: &&Interval| {
        is(&detail.from.name, &interval.from) && is(&detail.to.name, &interval.to) && overlaps(record, interval)
    };
    if standing == Standing::Undetermined || intervals.iter().any(|interval| here(&interval)) {
        return false;
    }
    if cause == Cause::UpstreamDown.as_str() && restarts.iter().any(|interval| here(&interval)) {
        return false;
    }
    // Callers that see failures at that time, by the truth; then those that call them, as far as records lead.
    let roots = intervals.iter().chain(restarts).filter(|interval| overlaps(record, interval));
    let mut troubled: Vec<String> = roots.map(|interval| interval.from.clone()).collect();
    let passes_on = |record: &Record| {
        [Cause::ApplicationError, Cause::ApplicationTimeout].map(Cause::as_str).contains(&word(record).0)
    };
    let mut met = 0;
    while met < troubled.len() {
        let callee = troubled[met].clone();
        met += 1;
        for (other, edge) in told {
            let meanwhile = other.from <= record.to.plus_seconds(2) && record.from <= other.to.plus_seconds(2);
            let caller = edge.from.name.rsplit('/').next().unwrap_or_default().to_owned();
            if passes_on(other) && meanwhile && is(&edge.to.name, &callee) && !troubled.contains(&caller) {
                troubled.push(caller);
            }
        }
    }
    !(passes_on(record) && troubled.iter().any(|callee| is(&detail.to.name, callee)))
}

fn word(record: &Record) -> (&'static str, Standing) {
    record.cause.as_ref().map_or(("-", Standing::Undetermined), |cause| (cause.word.as_str(), cause.standing))
}

/// Right intervals, all intervals, intervals with a definite wrong cause.
fn compare(folder: &Path, rename: fn(&str) -> String, table: &mut String) -> (usize, usize, usize) {
    let truth = recording::truth(folder);
    let records: Vec<Record> = fold(&recording::renamed(folder, rename)).into_values().collect();
    let told = handshakes(&records);
    let (mut right, mut wrong) = (0, 0);
    let intervals = intervals(&truth);
    writeln!(table, "{}", folder.file_name().unwrap().to_string_lossy()).unwrap();
    for interval in &intervals {
        let near: Vec<_> = told
            .iter()
            .filter(|(record, detail)| same_edge(detail, interval) && overlaps(record, interval))
            .filter(|(_, detail)| !interval.stream || detail.stream)
            .collect();
        let hit = near.iter().find(|(record, _)| word(record).0 == interval.cause);
        right += usize::from(hit.is_some());
        let definite = near.iter().any(|(record, _)| word(record).1 != Standing::Undetermined);
        wrong += usize::from(hit.is_none() && definite);
        writeln!(
            table,
            "  truth {:45} {}->{}{} {} {} s   {}",
            interval.cause,
            interval.from,
            interval.to,
            if interval.stream { " (stream)" } else { "" },
            interval.start,
            (interval.end - interval.start) / 1_000_000_000,
            if hit.is_some() { "OK" } else { "--" },
        )
        .unwrap();
    }
    for (record, detail) in &told {
        let (cause, standing) = word(record);
        let stray = is_stray(record, detail, &told, &intervals, &restarts(&truth), rename);
        wrong += usize::from(stray);
        writeln!(
            table,
            "  {} {cause:45} {}->{}{} {} {} s  n={} {} [{}] by {} {} {} {}",
            if stray { "STRAY" } else { "says " },
            detail.from.name,
            detail.to.name,
            if detail.stream { " (stream)" } else { "" },
            record.from,
            (record.to - record.from) / 1_000_000_000,
            record.count,
            detail.failure,
            standing.as_str(),
            detail.source,
            record.state.as_str(),
            record.missing.iter().map(|missing| missing.what.as_str()).collect::<Vec<_>>().join("; "),
            record
                .links
                .iter()
                .map(|link| format!("{:?}={}", link.what, link.target.as_deref().unwrap_or("-")))
                .collect::<Vec<_>>()
                .join(" "),
        )
        .unwrap();
    }
    (right, intervals.len(), wrong)
}

fn all(parent: &str, rename: fn(&str) -> String) -> (usize, usize, usize, String) {
    let mut table = String::new();
    let mut sum = (0, 0, 0);
    for folder in recording::folders(parent) {
        let (right, of, wrong) = compare(&folder, rename, &mut table);
        sum = (sum.0 + right, sum.1 + of, sum.2 + wrong);
    }
    (sum.0, sum.1, sum.2, table)
}

#[test]
fn causes_of_the_mesh_recordings_are_right_or_undetermined() {
    let (right, of, wrong, table) = all("mesh", str::to_owned);
    println!("{table}\n{right} of {of} right, {wrong} wrong");
    assert!(of >= 20, "{of} intervals");
    assert!(right * 10 >= of * 9, "{right} of {of} right\n{table}");
    assert_eq!(wrong, 0, "{table}");
}

#[test]
fn causes_of_the_stories_are_right_or_undetermined() {
    let (right, of, wrong, table) = all("stories", str::to_owned);
    println!("{table}\n{right} of {of} right, {wrong} wrong");
    assert!(of >= 4, "{of} intervals");
    assert!(right * 10 >= of * 9, "{right} of {of} right\n{table}");
    assert_eq!(wrong, 0, "{table}");
}

/// As a user of Kubernetes would name them: a pod's name for what a pod writes.
fn pods(name: &str) -> String {
    match name {
        "gateway" | "ledger" | "scorer" | "quotes" | "lb" => format!("{name}-6f7d9c5b8d-4xq2m"),
        _ => name.into(),
    }
}

/// Names that say nothing.
fn numbers(name: &str) -> String {
    format!("s{}", name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))))
}

#[test]
fn other_names_of_sources_make_no_cause_wrong() {
    for (rename, least) in [(pods as fn(&str) -> String, 9), (numbers, 8)] {
        let (right, of, wrong, table) = all("mesh", rename);
        println!("{table}\n{right} of {of} right, {wrong} wrong");
        assert_eq!(wrong, 0, "{table}");
        assert!(right * 10 >= of * least, "{right} of {of} right\n{table}");
    }
}

#[test]
fn runs_behind_the_stories_are_those_of_the_truth_and_never_an_innocent_one() {
    let (mut caused, mut fixed) = (0, 0);
    for folder in recording::folders("stories") {
        let truth = recording::truth(&folder);
        let innocent: Vec<&str> =
            truth["innocent_runs"].as_array().unwrap().iter().filter_map(|run| run["uid"].as_str()).collect();
        let records: Vec<Record> = fold(&recording::entries(&folder, |_, _| true)).into_values().collect();
        let told = handshakes(&records);
        for link in told.iter().flat_map(|(record, _)| &record.links) {
            assert!(!link.uid.as_deref().is_some_and(|uid| innocent.contains(&uid)), "{link:?}");
        }
        let causes = truth["causes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|cause| !OTHER.contains(&cause["cause"].as_str().unwrap()));
        for (cause, interval) in causes.filter(|cause| cause["visible"] != false).zip(intervals(&truth)) {
            let uid = |run: &serde_json::Value| run["uid"].as_str().map(str::to_owned);
            let mine =
                told.iter().filter(|(record, detail)| same_edge(detail, &interval) && overlaps(record, &interval));
            let mut seen = 0;
            for (record, _) in mine.filter(|(record, _)| word(record).0 == interval.cause) {
                let link = |what| record.links.iter().find(|link| link.what == what).and_then(|link| link.uid.clone());
                assert_eq!(link(LinkKind::FixedBy), uid(&cause["fixed_by_run"]), "{}", record.summary);
                // A run that put the workload there is linked whether or not it is to blame; none did here otherwise.
                assert_eq!(link(LinkKind::Run), uid(&cause["caused_by_run"]), "{}", record.summary);
                seen += 1;
                caused += usize::from(!cause["caused_by_run"].is_null());
                fixed += usize::from(!cause["fixed_by_run"].is_null());
            }
            assert!(seen > 0, "{}", interval.cause);
        }
    }
    assert!(caused >= 2 && fixed >= 4, "{caused} caused, {fixed} fixed");
}

#[test]
fn nothing_fails_in_a_healthy_mesh() {
    let folder = recording::fixtures().join("mesh/a-healthy");
    let entries = recording::entries(&folder, |_, _| true);
    let calls: u64 = entries
        .iter()
        .filter_map(|entry| match &entry.body.fact {
            Fact::Edges(edges) => Some(edges.rows.iter().map(|row| row.requests).sum::<u64>()),
            _ => None,
        })
        .sum();
    assert!(calls > 100, "{calls} calls in {} entries", entries.len());
    let records: Vec<Record> = fold(&entries).into_values().collect();
    for (record, _) in handshakes(&records) {
        assert_eq!(record.cause.as_ref().map(|cause| cause.word), Some(Cause::Undetermined), "{}", record.summary);
    }
}

#[test]
fn a_definite_cause_where_nothing_failed_is_wrong() {
    let folder = recording::fixtures().join("mesh/d-bundle-stale-on-called-side");
    let records: Vec<Record> = fold(&recording::entries(&folder, |_, _| true)).into_values().collect();
    let told = handshakes(&records);
    let (record, detail) = told.iter().find(|(record, _)| word(record).1 != Standing::Undetermined).unwrap();
    assert!(is_stray(record, detail, &told, &[], &[], str::to_owned));
}
