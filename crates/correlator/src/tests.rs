//! Limits and names; what records say is tried on scenario files and recordings in the `scenarios` package.

use model::{
    Body, Entry, Fact, Record, SourceId, Text, Time, When,
    credential::{Credential, CredentialEvent},
    edges::{Answer, Direction, EdgeRow, Edges, TlsSeen},
    entry::{Place, Stamp},
    handshake::{Failure, Handshake, Layer, Side},
    identity::{DEFAULT_CLUSTER, Declared, Serial, SourceKind, Submitter},
    record::State,
};

use crate::{
    Config, Correlator, RestoreError,
    episode::record_id,
    fold::Fold,
    topology::{account, host, is_local, is_socket, service},
};

fn entry(index: u64, kind: SourceKind, at: Time, fact: Fact) -> Entry {
    Entry {
        index,
        stamp: Stamp { recorded_at: at, tick: index * 10, append: index, part: [1, 1] },
        body: Body {
            v: Body::VERSION,
            source: SourceId { cluster: DEFAULT_CLUSTER.into(), kind, name: "a".into(), instance: String::new() },
            declared: Declared::default(),
            parser: "test/1".into(),
            observed_at: at,
            submitter: Submitter::Local,
            place: Some(Place::Post { post: "p".into(), line: index }),
            payload: None,
            pruned: None,
            redacted: Vec::new(),
            cut: Vec::new(),
            fact,
        },
    }
}

fn failure(index: u64, client: &str, at: Time) -> Entry {
    let line = Handshake {
        occurred: When::second(at),
        side: Side::Server,
        layer: Layer::Http,
        failure: Failure::NoCommonProtocol,
        verify_code: None,
        reason: None,
        alert: None,
        alert_disputed: false,
        expected_name: None,
        client: Some(client.into()),
        server: Some("10.0.0.1:8443".into()),
        upstream: None,
        message: Text::from("unsupported protocol while SSL handshaking"),
        pid: 1,
        connection: None,
        tainted: false,
        truncated: false,
        count: 1,
    };
    entry(index, SourceKind::NginxError, at, Fact::Handshake(line))
}

fn renewal(index: u64, at: Time) -> Entry {
    let step = Credential {
        occurred: When::exact(at),
        event: CredentialEvent::Renewing,
        spiffe_id: Some("spiffe://prod.example/ns/a/sa/b".into()),
        entry_id: None,
        agent_id: None,
        serial: None,
        not_after: None,
        replaces_not_after: None,
        ttl_seconds: None,
        trouble: None,
        pid: None,
        tainted: false,
        message: Text::from("Renewing X509-SVID"),
    };
    entry(index, SourceKind::Spire, at, Fact::Credential(step))
}

/// The fold of the only cluster.
fn only(correlator: &Correlator) -> &Fold {
    &correlator.clusters[DEFAULT_CLUSTER]
}

/// One call with a certificate of that serial.
fn call(index: u64, serial: &str, at: Time) -> Entry {
    let tls = TlsSeen { serial: Serial::from_hex(serial), verify: Some("SUCCESS".into()), ..TlsSeen::default() };
    let row = EdgeRow {
        minute: at.minute(),
        direction: Direction::In,
        peer: "10.0.0.9".into(),
        server_name: None,
        upstream_name: None,
        pod: Some(format!("pod-{serial}")),
        stream: false,
        tls: Some(tls),
        requests: 1,
        answers: vec![Answer { status: 200, upstream: None, n: 1, first: at, last: at }],
        resumed: 0,
        kept_alive: 0,
        after_expiry: 0,
        empty: 0,
        first: at,
        last: at,
    };
    entry(index, SourceKind::NginxAccess, at, Fact::Edges(Edges { rows: vec![row] }))
}

/// The end of a run that has nothing but its name.
fn end(index: u64, uid: &str, at: Time) -> Entry {
    let run = serde_json::json!({
        "kind": "TaskRun", "namespace": "ci", "name": uid, "uid": uid, "state": "successful", "reason": "Succeeded",
        "completed": at,
        "event": {"id": uid, "source": "/apis", "type": "dev.tekton.event.taskrun.successful.v1", "time": at},
    });
    entry(index, SourceKind::CloudEvents, at, Fact::Run(serde_json::from_value(run).unwrap()))
}

fn sighting(index: u64, reason: &str, at: Time) -> Entry {
    let run = serde_json::json!({
        "kind": "TaskRun", "namespace": "ci", "name": "build", "uid": "t1", "state": "running", "reason": reason,
        "commits": [{"revision": reason, "source": "param revision", "grade": "asserted"}],
        "event": {"id": reason, "source": "/apis", "type": "dev.tekton.event.taskrun.running.v1", "time": at},
    });
    entry(index, SourceKind::CloudEvents, at, Fact::Run(serde_json::from_value(run).unwrap()))
}

fn noon() -> Time {
    Time::parse("2026-11-23T12:00:00Z").unwrap()
}

fn apply(correlator: &mut Correlator, entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
    let mut out = Vec::new();
    for entry in entries {
        correlator.apply(&entry, &mut out);
    }
    out
}

#[test]
fn addresses_and_names_are_read_as_nginx_and_kubernetes_write_them() {
    assert_eq!(host("10.0.0.1:8443"), "10.0.0.1");
    assert_eq!(host("[2001:db8::1]:8443"), "[2001:db8::1]");
    assert_eq!(host("2001:db8::1"), "2001:db8::1");
    assert_eq!(host("10.0.0.1"), "10.0.0.1");
    assert!(is_socket("127.10.0.12:5433") && is_socket("[::]:8443"));
    assert!(!is_socket("ledger.payments.svc.cluster.local") && !is_socket("egress"));
    assert!(is_local("127.0.0.1:7080") && is_local("unix:/run/app.sock") && !is_local("127.10.0.12"));
    assert_eq!(account("spiffe://prod.example/ns/shop/sa/gateway"), Some(("shop", "gateway")));
    assert_eq!(account("spiffe://prod.example/spire/agent/join_token/x"), None);
    assert_eq!(service("ledger.payments.svc.cluster.local"), Some(("ledger", "payments")));
    assert_eq!(service("ledger.example.org"), None);
}

#[test]
fn record_ids_are_eighty_bits_and_never_change() {
    let id = record_id(&[b"run.completed", b"default", b"5dc3ebc3"]);
    assert_eq!(id, "4WV2TJM79R2J5Y2H");
    assert_ne!(id, record_id(&[b"run.completed", b"default5", b"dc3ebc3"]), "parts are kept apart");
}

#[test]
fn a_failure_is_written_at_once_and_its_repetition_is_not() {
    let mut correlator = Correlator::new(Config::default());
    let first = failure(1, "10.0.0.9", noon());
    let out = apply(&mut correlator, [first.clone()]);
    assert_eq!(out.len(), 1);
    let repeated = Entry { index: 2, stamp: Stamp { append: 2, ..first.stamp.clone() }, ..first };
    assert!(apply(&mut correlator, [repeated]).is_empty());
}

#[test]
fn what_is_dropped_for_space_is_counted_and_named() {
    let config = Config { max_steps: 2, ..Config::default() };
    let mut correlator = Correlator::new(config);
    let steps = (1..=4).map(|n| renewal(n, noon().plus_seconds(n.cast_signed())));
    apply(&mut correlator, steps);
    assert_eq!(correlator.evicted(), 2);
    let out = apply(&mut correlator, [failure(9, "10.0.0.9", noon().plus_seconds(5))]);
    let missing = &out.last().unwrap().missing;
    assert!(missing.iter().any(|missing| missing.source == "limit"), "{missing:?}");
}

#[test]
fn the_oldest_kind_of_failure_goes_first() {
    let config = Config { max_failures: 2, ..Config::default() };
    let mut correlator = Correlator::new(config);
    let lines = (1..=3).map(|n| failure(n, &format!("10.0.0.{n}"), noon().plus_seconds(n.cast_signed())));
    apply(&mut correlator, lines);
    assert_eq!(only(&correlator).failures.keys.len(), 2);
    assert!(only(&correlator).failures.keys.keys().all(|key| key.peer != "10.0.0.1"));
    assert_eq!(correlator.evicted(), 1);
}

#[test]
fn facts_beyond_the_reach_are_told_and_not_folded() {
    let mut correlator = Correlator::new(Config::default());
    apply(&mut correlator, [failure(1, "10.0.0.9", noon())]);
    let out = apply(&mut correlator, [failure(2, "10.0.0.8", noon().plus_seconds(-2 * 86_400))]);
    let kinds: Vec<&str> = out.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["evidence.late"]);
}

#[test]
fn a_time_from_the_future_does_not_age_the_rest() {
    let mut correlator = Correlator::new(Config::default());
    apply(&mut correlator, [failure(1, "10.0.0.9", noon())]);
    let mut wrong = failure(2, "10.0.0.8", noon().plus_seconds(400 * 86_400));
    wrong.body.observed_at = noon();
    apply(&mut correlator, [wrong]);
    assert_eq!(only(&correlator).store.now, noon());
}

#[test]
fn snapshots_of_other_rules_are_refused() {
    let correlator = Correlator::new(Config::default());
    let text = String::from_utf8(correlator.snapshot()).unwrap().replace("\"rules\":2", "\"rules\":0");
    assert!(matches!(Correlator::restore(text.as_bytes()), Err(RestoreError::Version { rules: 0, .. })));
    assert!(matches!(Correlator::restore(b"{"), Err(RestoreError::Damaged(_))));
    assert_eq!(Correlator::restore(&correlator.snapshot()).unwrap(), correlator);
}

#[test]
fn snapshots_of_another_configuration_are_refused() {
    let other = Config { max_steps: 2, ..Config::default() };
    let snapshot = Correlator::new(other.clone()).snapshot();
    assert!(matches!(Correlator::restore(&snapshot), Err(RestoreError::Configuration)));
    assert!(Correlator::restore_with(&snapshot, &other).is_ok());
}

#[test]
fn entries_of_too_many_clusters_are_counted_and_not_folded() {
    let mut correlator = Correlator::new(Config { max_clusters: 1, ..Config::default() });
    let mut second = failure(2, "10.0.0.9", noon());
    second.body.source.cluster = "second".into();
    let out = apply(&mut correlator, [failure(1, "10.0.0.9", noon()), second]);
    assert_eq!((out.len(), correlator.evicted()), (1, 1));
}

#[test]
fn a_failure_that_goes_on_beyond_the_limit_keeps_its_record() {
    let mut correlator = Correlator::new(Config { max_minutes: 3, ..Config::default() });
    let lines = (1..=9).map(|n| failure(n, "10.0.0.9", noon().plus_seconds(60 * n.cast_signed())));
    let out = apply(&mut correlator, lines);
    assert!(out.iter().all(|record| record.id == out[0].id));
    let (key, minutes) = only(&correlator).failures.keys.first_key_value().unwrap();
    assert_eq!(minutes.0.len(), 3);
    let config = Config::default();
    let episodes: Vec<_> = only(&correlator).failures.overlapping(key, (noon(), noon()), 600, &config).collect();
    assert_eq!(episodes.iter().map(|episode| episode.count).collect::<Vec<_>>(), [9]);
    assert_eq!(correlator.evicted(), 6);
}

#[test]
fn facts_of_too_many_sources_are_counted_and_not_folded() {
    let mut correlator = Correlator::new(Config { max_sources: 1, ..Config::default() });
    let mut second = failure(2, "10.0.0.9", noon());
    second.body.source.name = "second".into();
    let out = apply(&mut correlator, [failure(1, "10.0.0.9", noon()), second]);
    assert_eq!((out.len(), correlator.evicted()), (1, 1));
}

#[test]
fn certificates_and_names_beyond_the_limit_are_dropped_and_counted() {
    let mut correlator = Correlator::new(Config { max_names: 2, ..Config::default() });
    let calls = (1..=3).map(|n| call(n, &format!("0{n}"), noon().plus_seconds(n.cast_signed())));
    apply(&mut correlator, calls);
    let store = &only(&correlator).store;
    assert_eq!(store.shown["10.0.0.9"].0.keys().map(|(_, serial)| serial.as_str()).collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(store.sources.values().map(|known| known.pods.len()).collect::<Vec<_>>(), [2]);
    assert_eq!(correlator.evicted(), 2);
}

#[test]
fn parts_of_a_run_beyond_the_limit_are_dropped_and_counted() {
    let mut correlator = Correlator::new(Config { max_parts: 2, ..Config::default() });
    let sightings = (1..=3).map(|n| sighting(n, &format!("r{n}"), noon().plus_seconds(n.cast_signed())));
    apply(&mut correlator, sightings);
    let runs = &only(&correlator).runs;
    assert_eq!(runs.by_key.values().map(|run| run.commits.len()).collect::<Vec<_>>(), [2]);
    assert_eq!(correlator.evicted(), 2, "a commit and a state");
}

#[test]
fn records_beyond_the_limit_are_forgotten_and_counted() {
    let mut correlator = Correlator::new(Config { max_records: 2, ..Config::default() });
    let lines = (1..=3).map(|n| failure(n, &format!("10.0.0.{n}"), noon().plus_seconds(n.cast_signed())));
    apply(&mut correlator, lines);
    assert_eq!(correlator.evicted(), 1);
}

#[test]
fn a_run_that_waits_is_told_again_for_news_and_settles_in_time() {
    let config = Config { max_runs: 16, refresh_ms: 10, run_settle_ms: 1000, ..Config::default() };
    let mut correlator = Correlator::new(config);
    let told = |out: &[Record], name: &str| -> Vec<(u64, bool)> {
        let named = out.iter().filter(|record| record.summary.contains(&format!("ci/{name} ")));
        named.map(|record| (record.count, matches!(record.state, State::Settled { .. }))).collect()
    };
    let out = apply(&mut correlator, [end(1, "a", noon()), end(2, "b", noon()), end(3, "c", noon())]);
    assert_eq!((told(&out, "a"), told(&out, "b")), (vec![(1, false)], vec![(1, false)]), "once each");
    let out = apply(&mut correlator, [end(4, "a", noon()), end(5, "d", noon())]);
    assert_eq!((told(&out, "a"), told(&out, "b")), (vec![(2, false)], vec![]), "a repeat counts");
    let out = apply(&mut correlator, (6..=20).map(|n| end(n, &format!("n{n:02}"), noon().plus_seconds(1))));
    assert_eq!((told(&out, "b"), told(&out, "n10").len()), (vec![], 2), "it says from now on that runs were dropped");
    let out = apply(&mut correlator, [end(150, "z", noon().plus_seconds(2))]);
    assert_eq!((told(&out, "a"), told(&out, "n10")), (vec![], vec![(1, true)]), "the dropped ones are not told again");
}
