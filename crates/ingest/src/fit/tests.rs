use model::{
    Time, When,
    fact::{Action, Change},
    identity::Actor,
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
    assert_eq!(fit(fact.clone()), (fact, vec![]));
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
