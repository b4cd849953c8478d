use model::{
    SourceId, Time, When,
    fact::{Action, Change},
    identity::{Actor, Declared, SourceKind, Submitter},
};

use super::*;

fn action(changes: Vec<String>, groups: Vec<String>, refusal: Option<String>) -> Fact {
    Fact::Action(Action {
        occurred: When::exact(Time::from_seconds(0)),
        verb: "patch".into(),
        group: String::new(),
        resource: "pods".into(),
        subresource: None,
        namespace: None,
        name: None,
        uid: None,
        actor: Actor::System { name: "system:x".into() },
        impersonated: None,
        groups,
        pod: None,
        credential_id: None,
        status: None,
        refusal,
        changes,
        audit_id: "a".into(),
        stage: "ResponseComplete".into(),
    })
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("item {i:05}")).collect()
}

#[test]
fn what_fits_is_not_touched() {
    let fact = action(numbered(3), vec![], None);
    assert_eq!(fit_to(fact.clone(), FACT_BYTES), (fact, vec![]));
}

#[test]
fn a_body_is_written_with_its_fact_cut_where_it_is_too_long() {
    let beyond = Cut { list: "/action/groups".into(), omitted: 1, digest: String::new() };
    let body_of = |fact| Body {
        v: Body::VERSION,
        source: SourceId { cluster: "c".into(), kind: SourceKind::K8sAudit, name: "n".into(), instance: String::new() },
        declared: Declared::default(),
        parser: "k8s-audit/1".into(),
        observed_at: Time::from_seconds(0),
        submitter: Submitter::Local,
        place: None,
        payload: None,
        pruned: None,
        redacted: vec![],
        cut: vec![beyond.clone()],
        fact,
    };
    // Around the limit a body is longer than it, and its fact is not.
    for items in [0, 900, 950, 1000, 3000] {
        let whole = body_of(action(numbered(items), vec![], None));
        let written: Body = serde_json::from_slice(&body(whole.clone()).unwrap()).unwrap();
        let (fact, mut cut) = fit_to(whole.fact.clone(), FACT_BYTES);
        cut.push(beyond.clone());
        assert_eq!(written, Body { fact, cut, ..whole.clone() });
        assert_eq!(written.cut.len() == 1, length(&whole.fact) <= FACT_BYTES, "{items}");
    }
}

#[test]
fn the_longest_list_loses_its_last_items_and_as_few_as_needed() {
    let fact = action(numbered(500), numbered(20), None);
    let (cut, cuts) = fit_to(fact, 4096);
    let Fact::Action(kept) = &cut else { panic!() };
    assert_eq!(kept.groups, numbered(20), "the shorter list stays");
    let n = kept.changes.len();
    assert_eq!(kept.changes, numbered(500)[..n]);
    let left_out = serde_json::to_string(&numbered(500)[n..]).unwrap();
    assert_eq!(
        cuts,
        [Cut { list: "/action/changes".into(), omitted: 500 - n as u64, digest: hex(&Sha256::digest(left_out)) }]
    );
    let (one, comma) = (length(&"item 00000"), 1);
    assert!(length(&cut) <= 4096 && length(&cut) + one + comma > 4096, "one more would not fit");
}

#[test]
fn then_the_next_list_then_strings() {
    let fact = action(numbered(500), numbered(400), Some("é".repeat(9000)));
    let (cut, cuts) = fit_to(fact, 4096);
    let Fact::Action(kept) = &cut else { panic!() };
    let lists: Vec<&str> = cuts.iter().map(|cut| cut.list.as_str()).collect();
    assert_eq!(lists, ["/action/changes", "/action/groups", "/action/refusal"]);
    assert!(kept.changes.is_empty() && kept.groups.is_empty());
    let refusal = kept.refusal.as_ref().unwrap();
    assert!(refusal.ends_with('…') && refusal.starts_with("éé") && length(&cut) <= 4096 && length(&cut) > 4000);
    let shown = refusal.len() - "…".len();
    assert_eq!(cuts[2].omitted, 18_000 - shown as u64);
}

#[test]
fn maps_with_outside_keys_are_lists() {
    let fact = Fact::Change(Change {
        occurred: None,
        what: "a.b".into(),
        subject: "s".into(),
        chain_id: None,
        content: numbered(1000).into_iter().map(|name| (name, "v".to_owned())).collect(),
    });
    let (cut, cuts) = fit_to(fact, 4096);
    let Fact::Change(kept) = &cut else { panic!() };
    assert!(!kept.content.is_empty() && length(&cut) <= 4096);
    assert_eq!((cuts[0].list.as_str(), cuts[0].omitted), ("/change/content", 1000 - kept.content.len() as u64));
}

#[test]
fn bytes_that_are_no_text_still_decode_after_a_cut() {
    let fact = Fact::Opaque(Opaque {
        reason: "r".into(),
        detail: String::new(),
        event_type: None,
        head: Text::new(vec![0xff; 9000]),
    });
    let (cut, cuts) = fit_to(fact, 4096);
    let Fact::Opaque(kept) = &cut else { panic!() };
    assert!(kept.head.bytes().iter().all(|b| *b == 0xff) && length(&cut) <= 4096);
    assert_eq!(cuts[0].list, "/opaque/head/b64");
}
