//! A small index made by hand: every alias, every way to match, paging, replacement, and what a crash leaves.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use indexer::{Config, Cursor, FoundRecord, Hit, Index, IndexError, Search};
use model::{Entry, Record, Time, record::RecordId};
use serde_json::{Value, json};
use tempfile::TempDir;

const DIGEST: &str = "sha256:505ff8761f3b0c9d505ff8761f3b0c9d505ff8761f3b0c9d505ff8761f3b0c9d";
const RUN_UID: &str = "f48e71e2-0c1f-4a3b-9d7e-112233445566";

struct Made {
    index: Index,
    folder: TempDir,
}

fn cursor(size: u64) -> Cursor {
    Cursor { size, leaf_hash: format!("{size:064x}"), rules: 1 }
}

fn source(kind: &str, name: &str) -> Value {
    json!({"cluster": "default", "kind": kind, "name": name})
}

fn record(id: &str, kind: &str, to: &str, detail: &Value) -> Value {
    json!({
        "id": id, "type": kind, "version": 1, "revision": 1, "state": {"is": "provisional"},
        "from": "2026-11-23T15:20:59Z", "to": to, "count": 1, "summary": "x", "detail": detail,
        "evidence": [], "through": 9,
    })
}

fn read(value: Value) -> Record {
    serde_json::from_value(value).unwrap()
}

fn failed() -> Value {
    let detail = json!({"handshake": {
        "source": source("nginx-error", "ledger"), "side": "server", "layer": "tls", "failure": "verify_failed",
        "verify_code": 10, "alert": 45, "peer": "10.0.9.4",
        "from": {"name": "shop/gateway", "address": "10.0.9.4", "pod": "gateway-7d9f-x2", "node": "node-1", "grade": "asserted",
                 "spiffe_id": "spiffe://example.org/ns/shop/sa/gateway"},
        "to": {"name": "shop/ledger", "address": "10.0.9.5", "grade": "asserted"},
    }});
    let mut value = record("7Q2M4X9A", "handshake.failed", "2026-11-23T15:22:11Z", &detail);
    value["count"] = json!(181);
    value["summary"] = json!("gateway -> ledger: certificates expired, token not rotated");
    value["cause"] = json!({"word": "svid_expired_token_not_rotated", "standing": "established",
        "ruled_out": [{"cause": "renewed_on_disk_but_not_reloaded", "why": "nothing was issued"}]});
    value["links"] = json!([
        {"what": "run", "target": format!("shop-ci/gateway-41 ({RUN_UID})"), "uid": RUN_UID, "grade": "asserted"},
        {"what": "commit", "target": "3b1f0c9d6a", "grade": "asserted"},
    ]);
    value["evidence"] = json!([{"entry": 48177, "at": "2026-11-23T15:20:59Z", "role": "supports", "says": "(10:certificate has expired)"}]);
    value["missing"] = json!([{"what": "kubelet log", "source": "node-1"}]);
    value
}

fn completed() -> Value {
    let detail = json!({"run": {
        "cluster": "prod", "kind": "PipelineRun", "namespace": "shop-ci", "name": "checkout-1", "uid": "aaaa71e2-0000-4a3b-9d7e-112233445566",
        "pipeline": "build-and-ship", "state": "failed", "reason": "PipelineRunTimeout", "message": "took too long",
        "attempts": 1, "service_accounts": [{"name": "builder"}], "pods": ["checkout-1-pod"],
        "commits": [{"revision": "bdf81936cc", "repository": "https://git.example/shop/checkout", "source": "param revision", "grade": "asserted"}],
        "disputed": false, "artifacts": [{"uri": "images.example/shop/checkout", "digest": DIGEST, "source": "result", "grade": "asserted"}],
        "children": [], "skipped": [], "repeats": 0,
        "started_by": [{"actor": {"kind": "person", "person": "p-00112233445566778899aabbccddeeff"}, "did": "create", "grade": "authenticated", "entry": 3}],
    }});
    record("K3F9AA01", "run.completed", "2026-11-23T15:21:34Z", &detail)
}

fn entry(index: u64, body: &Value) -> Entry {
    let stamp = json!({"recorded_at": "2026-11-23T15:21:05Z", "tick": 5, "append": 2, "part": [1, 1]});
    Entry::from_leaf(index, format!("{stamp}\n{body}").as_bytes()).unwrap()
}

fn body(source: &Value, fact: &Value) -> Value {
    json!({"v": 1, "source": source, "parser": "test/1", "observed_at": "2026-11-23T15:21:04Z",
        "submitter": {"by": "local"}, "fact": fact})
}

fn credential(index: u64, at: &str) -> Entry {
    entry(
        index,
        &body(
            &source("spire", "server"),
            &json!({"credential": {
                "occurred": {"at": at}, "event": "signed", "spiffe_id": "spiffe://example.org/ns/shop/sa/quotes",
                "serial": "E1F4292977A598AE90BFF8ACCB5AAB3", "message": "Signed X509 SVID",
            }}),
        ),
    )
}

fn heartbeat(index: u64) -> Entry {
    let fact = json!({"heartbeat": {"life": "a", "phase": "beat", "sources": []}});
    entry(index, &body(&source("counterfoil", "self"), &fact))
}

fn open(folder: &TempDir) -> Index {
    Index::open(folder.path(), &Config { memory_bytes: 0, ..Config::default() }).unwrap()
}

fn made() -> Made {
    let folder = TempDir::new().unwrap();
    let index = open(&folder);
    index.add_record(&read(failed())).unwrap();
    index.add_record(&read(completed())).unwrap();
    index.add_entry(&credential(48190, "2026-11-23T15:10:00Z")).unwrap();
    index.add_entry(&heartbeat(48191)).unwrap();
    index.commit(&cursor(48192)).unwrap();
    Made { index, folder }
}

fn asked(query: &str) -> Search {
    Search { query: query.into(), limit: 100, ..Search::default() }
}

/// Record ids and entry indices of a page, in order.
fn names(hits: &[Hit]) -> Vec<String> {
    hits.iter()
        .map(|hit| match hit {
            Hit::Record(record) => record.id.0.clone(),
            Hit::Entry { index, .. } => format!("#{index}"),
        })
        .collect()
}

fn found(index: &Index, query: &str) -> String {
    let page = index.search(&asked(query)).unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(page.total, page.hits.len() as u64, "{query}");
    names(&page.hits).join(" ")
}

#[test]
fn every_way_to_ask() {
    let made = made();
    for (query, ids) in [
        ("", "7Q2M4X9A K3F9AA01 #48190"),
        ("type:handshake.failed", "7Q2M4X9A"),
        ("type:handshake", "7Q2M4X9A"),
        ("type:hand", ""),
        ("type:entry", "#48190"),
        ("type:entry.credential", "#48190"),
        ("type:*.completed", "K3F9AA01"),
        ("id:7q2m", "7Q2M4X9A"),
        ("id:7q2", ""),
        ("#48190", "#48190"),
        ("entry:>=48190", "#48190"),
        ("evidence:48177", "7Q2M4X9A"),
        ("from:gateway", "7Q2M4X9A"),
        ("from:shop/gateway", "7Q2M4X9A"),
        ("from:gate", ""),
        ("from:gate*", "7Q2M4X9A"),
        ("from:shop/*", "7Q2M4X9A"),
        ("from:10.0.9.4", "7Q2M4X9A"),
        ("to:ledger", "7Q2M4X9A"),
        ("to:gateway", ""),
        ("from:gateway to:ledger", "7Q2M4X9A"),
        ("run:gateway-41", "7Q2M4X9A"),
        ("run:shop-ci/checkout-1", "K3F9AA01"),
        ("run:f48e71e2", "7Q2M4X9A"),
        ("run:shop-ci/?heckout-*", "K3F9AA01"),
        ("pipeline:build-and-ship", "K3F9AA01"),
        ("sa:builder", "K3F9AA01"),
        ("sa:shop-ci/builder", "K3F9AA01"),
        ("commit:3B1F0C", "7Q2M4X9A"),
        ("commit:bdf8", "K3F9AA01"),
        ("commit:(3b1f0c OR bdf8)", "7Q2M4X9A K3F9AA01"),
        ("repo:*checkout", "K3F9AA01"),
        ("digest:505ff876", "K3F9AA01"),
        ("digest:sha256:505ff876", "K3F9AA01"),
        ("sha256:505ff876", "K3F9AA01"),
        ("image:images.example/shop/checkout", "K3F9AA01"),
        ("identity:gateway", "7Q2M4X9A"),
        ("identity:spiffe://example.org/ns/shop/sa/quotes", "#48190"),
        ("serial:e1f4292977", "#48190"),
        ("uid:aaaa71e2", "K3F9AA01"),
        ("ns:shop", "7Q2M4X9A"),
        ("pod:checkout-1-pod", "K3F9AA01"),
        ("node:node-1", "7Q2M4X9A"),
        ("cluster:prod", "K3F9AA01"),
        ("workload:ledger", "7Q2M4X9A"),
        ("peer:10.0.9.4", "7Q2M4X9A"),
        ("person:p-0011", "K3F9AA01"),
        ("source:ledger", "7Q2M4X9A"),
        ("source.kind:spire", "#48190"),
        ("cause:svid_expired*", "7Q2M4X9A"),
        ("cause.ruled_out:renewed_on_disk_but_not_reloaded", "7Q2M4X9A"),
        ("standing:established", "7Q2M4X9A"),
        ("state:provisional", "7Q2M4X9A K3F9AA01"),
        ("missing:\"kubelet log\"", "7Q2M4X9A"),
        ("error:verify_failed", "7Q2M4X9A"),
        ("error:pipelineruntimeout", "K3F9AA01"),
        ("result:timeout", "K3F9AA01"),
        ("run.reason:PipelineRunTimeout", "K3F9AA01"),
        ("tls.alert:45", "7Q2M4X9A"),
        ("tls.verify_code:[9 TO 11]", "7Q2M4X9A"),
        ("count:>=100", "7Q2M4X9A"),
        ("count:{1 TO 181}", ""),
        ("credential.event:signed", "#48190"),
        ("_exists_:cause", "7Q2M4X9A"),
        ("NOT _exists_:cause", "K3F9AA01 #48190"),
        ("-type:entry -cause:*", "K3F9AA01"),
        ("time:2026-11-23", "7Q2M4X9A K3F9AA01 #48190"),
        ("time:2026-11-23T15:22", "7Q2M4X9A"),
        ("time:>2026-11-23T15:22", ""),
        ("time:[2026-11-23T15:21 TO 2026-11-23T15:21]", "K3F9AA01"),
        ("@timestamp:<2026-11-23T15:20", "#48190"),
        ("run:[shop-ci/a TO shop-ci/d]", "K3F9AA01"),
        ("expired", "7Q2M4X9A"),
        ("EXPIRED", "7Q2M4X9A"),
        ("\"certificate has expired\"", "7Q2M4X9A"),
        ("\"expired certificate\"", ""),
        ("expir*", "7Q2M4X9A"),
        ("checkout-1", "K3F9AA01"),
        ("shop/gateway", "7Q2M4X9A"),
        ("3b1f0c", "7Q2M4X9A"),
        ("summary:rotated", "7Q2M4X9A"),
        ("summary:kubelet", ""),
        ("expired OR signed", "7Q2M4X9A #48190"),
        ("spiffe://example.org/ns/shop/sa/quotes", "#48190"),
    ] {
        assert_eq!(found(&made.index, query), ids, "{query}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_said_with_its_place() {
    let made = made();
    for (query, what) in [
        ("ns:shop count:many", "column 15: `count` is a whole number, `many` is none"),
        ("count:1*", "column 7: `count` is a number: no wildcards"),
        ("time:yesterday", "column 6: `time` is a time, `yesterday` is none; such as"),
        ("time:2026*", "column 6: `time` is a time: no wildcards"),
        ("summary:[a TO b]", "column 9: `summary` has words, not an order"),
        ("comit:3b1f", "column 1: there is no field `comit`; did you mean `commit` or `count`?"),
    ] {
        match made.index.search(&asked(query)) {
            Err(IndexError::Query(error)) => assert!(error.to_string().starts_with(what), "{query}: {error}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[test]
fn a_period_finds_what_overlaps_it() {
    let made = made();
    let time = |text| Some(Time::parse(text).unwrap());
    let within = |from, to| {
        let search = Search { from, to, limit: 10, ..Search::default() };
        names(&made.index.search(&search).unwrap().hits).join(" ")
    };
    assert_eq!(within(time("2026-11-23T15:22:00Z"), time("2026-11-23T15:22:05Z")), "7Q2M4X9A");
    assert_eq!(within(time("2026-11-23T15:22:12Z"), None), "");
    assert_eq!(within(None, time("2026-11-23T15:20:58Z")), "#48190");
    assert_eq!(within(time("2026-11-23T15:21:34Z"), None), "7Q2M4X9A K3F9AA01");
}

#[test]
fn a_new_revision_replaces_and_a_withdrawn_record_is_found_by_id_only() {
    let made = made();
    let mut value = failed();
    value["revision"] = json!(2);
    value["summary"] = json!("second");
    value["state"] = json!({"is": "settled"});
    made.index.add_record(&read(value.clone())).unwrap();
    assert_eq!(found(&made.index, "summary:second"), "", "not before the commit");
    made.index.commit(&cursor(48193)).unwrap();
    assert_eq!(found(&made.index, "summary:second"), "7Q2M4X9A");
    assert_eq!(found(&made.index, "summary:rotated"), "");
    assert_eq!(found(&made.index, "revision:2"), "7Q2M4X9A");

    value["revision"] = json!(3);
    value["state"] = json!({"is": "withdrawn", "by": "0ABCDEFG"});
    made.index.add_record(&read(value)).unwrap();
    made.index.commit(&cursor(48194)).unwrap();
    assert_eq!(found(&made.index, ""), "K3F9AA01 #48190");
    assert_eq!(found(&made.index, "id:7Q2M4X9A"), "7Q2M4X9A");
    assert_eq!(found(&made.index, "state:withdrawn"), "7Q2M4X9A");
    assert!(matches!(made.index.record("7q2m").unwrap(), FoundRecord::One(record) if record.revision == 3));
}

#[test]
fn a_record_comes_back_as_it_was_and_an_ambiguous_beginning_lists_ids() {
    let made = made();
    assert_eq!(made.index.record("7Q2M4X9A").unwrap(), FoundRecord::One(Box::new(read(failed()))));
    assert_eq!(made.index.record("7Q2").unwrap(), FoundRecord::None, "too short");
    assert_eq!(made.index.record("ZZZZ").unwrap(), FoundRecord::None);
    let mut other = failed();
    other["id"] = json!("7Q2MZZZZ");
    made.index.add_record(&read(other)).unwrap();
    made.index.commit(&cursor(48193)).unwrap();
    let ids = vec![RecordId("7Q2M4X9A".into()), RecordId("7Q2MZZZZ".into())];
    assert_eq!(made.index.record("7Q2M").unwrap(), FoundRecord::Many(ids));
    assert!(matches!(made.index.record("7Q2MZ").unwrap(), FoundRecord::One(_)));
}

#[test]
fn pages_follow_each_other_without_a_gap_when_times_are_equal() {
    let folder = TempDir::new().unwrap();
    let index = open(&folder);
    // Three segments, so that the order cannot come from where documents lie.
    for chunk in [0..7, 7..20, 20..31] {
        for n in chunk {
            index.add_entry(&credential(n, "2026-11-23T15:10:00Z")).unwrap();
        }
        index.commit(&cursor(1)).unwrap();
    }
    let mut tied = completed();
    tied["to"] = json!("2026-11-23T15:10:00Z");
    index.add_record(&read(tied)).unwrap();
    index.commit(&cursor(32)).unwrap();

    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = index.search(&Search { limit: 4, after, ..Search::default() }).unwrap();
        assert_eq!(page.total, 32);
        all.extend(names(&page.hits));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> =
        std::iter::once("K3F9AA01".to_owned()).chain((0..31).rev().map(|n| format!("#{n}"))).collect();
    assert_eq!(all, expected);
    let wrong = Search { after: Some("x".into()), limit: 1, ..Search::default() };
    assert!(matches!(index.search(&wrong), Err(IndexError::Query(_))));
    assert_eq!(index.search(&Search::default()).unwrap().total, 32, "limit 0 counts");
}

#[test]
fn what_was_not_committed_is_gone_and_the_cursor_says_so() {
    let made = made();
    made.index.add_entry(&credential(48192, "2026-11-23T15:30:00Z")).unwrap();
    drop(made.index); // as a crash does: no commit
    let index = open(&made.folder);
    assert_eq!(index.cursor(), Some(cursor(48192)));
    assert_eq!(found(&index, "type:entry"), "#48190");
    index.add_entry(&credential(48192, "2026-11-23T15:30:00Z")).unwrap();
    index.commit(&cursor(48193)).unwrap();
    assert_eq!(found(&index, "type:entry"), "#48192 #48190", "each of them once");
    drop(index);
    assert_eq!(open(&made.folder).cursor(), Some(cursor(48193)));
}

#[test]
fn an_index_that_cannot_be_used_asks_to_be_built_again() {
    let made = made();
    let folder = made.folder;
    drop(made.index);
    let meta = folder.path().join("meta.json");
    let good = std::fs::read_to_string(&meta).unwrap();
    let broken = [
        good.replace(&format!("\\\"schema\\\":{}", indexer::fields::SCHEMA_VERSION), "\\\"schema\\\":0"), // documents of another version
        good.replace("cause.ruled_out", "cause.other"), // other fields
        good[..good.len() / 2].to_owned(),              // damage
    ];
    for broken in broken {
        assert_ne!(broken, good);
        std::fs::write(&meta, broken).unwrap();
        let error = Index::open(folder.path(), &Config::default()).unwrap_err();
        assert!(matches!(error, IndexError::Rebuild { .. }), "{error}");
    }
    std::fs::write(&meta, good).unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "term") {
            std::fs::write(&path, b"cut").unwrap();
        }
    }
    assert!(matches!(Index::open(folder.path(), &Config::default()), Err(IndexError::Rebuild { .. })));
}

#[test]
fn a_second_writer_is_refused_without_asking_for_a_rebuild() {
    let made = made();
    let error = Index::open(made.folder.path(), &Config::default()).unwrap_err();
    assert!(matches!(error, IndexError::Derived { .. }), "{error}");
}

#[test]
fn what_is_in_the_hand_finds_it() {
    let made = made();
    for (hand, ids) in [
        ("7Q2M4X9A", "7Q2M4X9A"),
        ("handshake.failed/7Q2M4X9A", "7Q2M4X9A"),
        ("shop-ci/checkout-1", "K3F9AA01"),
        ("checkout-1", "K3F9AA01"),
        (RUN_UID, "7Q2M4X9A"),
        ("3b1f0c9d", "7Q2M4X9A"),
        ("shop/gateway", "7Q2M4X9A"),
        ("gateway", "7Q2M4X9A"),
        ("spiffe://example.org/ns/shop/sa/quotes", "#48190"),
        ("0e:1f:42:92:97:7a:59:8a:e9:0b:ff:8a:cc:b5:aa:b3", "#48190"),
        ("18771503396829118256055557720416561843", "#48190"),
        ("images.example/shop/checkout@sha256:505ff876", "K3F9AA01"),
        ("#48190", "#48190"),
    ] {
        let hand = indexer::hand(hand);
        assert_eq!(found(&made.index, &hand.query), ids, "{hand:?}");
    }
}
