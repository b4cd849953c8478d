use model::identity::{Declared, SourceId, SourceKind};

use super::*;
use crate::persons::Persons;

fn read(line: &str) -> Option<Credential> {
    let source = SourceId { cluster: "c".into(), kind: SourceKind::Spire, name: "n".into(), instance: String::new() };
    let declared = Declared::default();
    let persons = Persons::new([7; 32]);
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let mut out = Vec::new();
    let outcome = parse(&Framed::read(line.as_bytes()), &context, &mut Seen::default(), &mut out);
    assert_eq!(outcome, if out.is_empty() { Outcome::Passed } else { Outcome::Understood }, "{line}");
    out.pop().map(|draft| match draft.fact {
        Fact::Credential(fact) => fact,
        other => panic!("{other:?}"),
    })
}

/// The event of a message with these fields.
fn event_of(msg: &str, fields: &str) -> Option<(Event, Option<Trouble>)> {
    let line = format!(r#"time="2026-11-23T15:02:29.5Z" level=error msg="{msg}" {fields}"#);
    read(line.trim_end()).map(|fact| (fact.event, fact.trouble))
}

#[test]
fn the_same_message_has_the_trouble_of_its_error() {
    for (error, trouble) in [
        ("[invalid bearer token, service account token has expired]", Trouble::TokenExpired),
        ("[invalid bearer token, Token has expired.]", Trouble::TokenExpired),
        ("token not authenticated according to TokenReview API for cluster", Trouble::TokenRefused),
        ("nodeattestor(k8s_psat): ns:sa is not an allowed service account", Trouble::TokenRefused),
        ("dial tcp 10.0.0.1:8081: connect: connection refused", Trouble::Unreachable),
        ("failed to dial dns:///spire-server:8081: context deadline exceeded", Trouble::Unreachable),
        ("rpc error: code = PermissionDenied desc = authorization denied for method /x", Trouble::AttestationLost),
        ("attestation method is not re-attestable", Trouble::AttestationLost),
        (
            "code = Unavailable desc = connection error: x509: certificate signed by unknown authority",
            Trouble::BundleStale,
        ),
        ("code = Unavailable desc = connection error: remote error: tls: expired certificate", Trouble::OwnExpired),
        ("code = Unavailable desc = connection error: remote error: tls: bad certificate", Trouble::Other),
        ("current SVID has already expired", Trouble::OwnExpired),
        ("current SVID has already expired and reattest agent failed: connection refused", Trouble::Unreachable),
        ("something new", Trouble::Other),
    ] {
        let fields = format!(r#"error="{error}" subsystem_name=manager"#);
        assert_eq!(
            event_of("Could not reattest agent", &fields),
            Some((Event::AgentRefused, Some(trouble))),
            "{error}"
        );
    }
}

#[test]
fn a_serial_in_decimal_is_the_one_that_nginx_writes_in_hex() {
    let fact = read(
        r#"{"entry_id":"e","expiration":"2026-11-23T15:17:50Z","level":"debug","msg":"Signed X509 SVID","serial_num":"18771503396829118256055557720416561843","spiffe_id":"spiffe://d/x","caller_id":"spiffe://d/spire/agent/k8s_psat/c/1","time":"2026-11-23T15:16:50.2Z"}"#,
    )
    .unwrap();
    assert_eq!(fact.serial, Serial::from_hex("0E1F4292977A598AE90BFF8ACCB5AAB3"));
    assert_eq!(fact.not_after, Time::parse("2026-11-23T15:17:50Z"));
    assert_eq!(fact.agent_id.as_deref(), Some("spiffe://d/spire/agent/k8s_psat/c/1"));
    // The audit line of the same has the end in seconds since 1970 and no serial.
    let audit = read(
        r#"{"expires_at":1795447070,"level":"info","method":"BatchNewX509SVID","msg":"API accessed","status":"success","type":"audit","spiffe_id":"spiffe://d/x","time":"2026-11-23T15:16:50.2Z"}"#,
    )
    .unwrap();
    assert_eq!((audit.event, audit.not_after, audit.serial), (Event::Signed, fact.not_after, None));
}

#[test]
fn polls_failures_of_audit_and_second_listeners_are_passed() {
    for (msg, fields) in [
        ("API accessed", "method=SyncAuthorizedEntries status=success type=audit"),
        ("API accessed", "method=GetBundle status=success type=audit authorized_via="),
        ("API accessed", "method=BatchUpdateEntry status=error type=audit"),
        ("API accessed", "method=BatchUpdateEntry status=success"),
        ("Starting Server APIs", "network=unix"),
        ("Health check failed", "error=x"),
        ("SVID updated", "spiffe_id=x"),
    ] {
        assert_eq!(event_of(msg, fields), None, "{msg} {fields}");
    }
}

#[test]
fn a_refused_attestation_is_known_by_its_place() {
    let token = "unable to validate token with TokenReview API: [service account token has expired]";
    for (msg, fields) in [
        (format!("Nodeattestor(k8s_psat): {token}"), "authorized_as=nobody"),
        (format!("nodeattestor(k8s_psat): {token}"), ""),
        (format!("Failed to attest: {token}"), "method=AttestAgent"),
    ] {
        assert_eq!(event_of(&msg, fields), Some((Event::AttestationRefused, Some(Trouble::TokenExpired))), "{msg}");
    }
}

#[test]
fn a_terminal_line_has_the_time_of_receipt_graded_inferred() {
    let fact =
        read("INFO[0000] Creating X509-SVID                            entry_id=50c1 spiffe_id=\"spiffe://d/w\"")
            .unwrap();
    assert_eq!((fact.event, fact.spiffe_id.as_deref()), (Event::Creating, Some("spiffe://d/w")));
    assert_eq!((fact.occurred.at, fact.occurred.zone), (Time::from_seconds(1_800_000_000), model::Grade::Inferred));
    let framed = read("2026-11-23T15:02:29.5Z stdout F INFO[0000] Creating X509-SVID   entry_id=50c1").unwrap();
    assert_eq!(framed.occurred, model::When::exact(Time::parse("2026-11-23T15:02:29.500Z").unwrap()));
}

#[test]
fn validity_is_never_rounded_up() {
    let fact = read(
        r#"{"level":"debug","msg":"Fetched X.509 SVID","ttl":59.99,"spiffe_id":"spiffe://d/w","time":"2026-11-23T15:16:50.2Z"}"#,
    );
    assert_eq!(fact.unwrap().ttl_seconds, Some(59));
}
