//! Recorded lines of real programs: what they become, told in one line per fact. The snapshots are the golden truth;
//! `tests/fixtures/lines/README.md` says where the lines come from.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{fmt::Write as _, fs};

use ingest::{
    Context,
    lines::{Format, Start, Taken, take},
    nginx_access::AccessFormat,
    persons::Persons,
    redact::Redactor,
};
use model::{
    Fact, SourceId, Time,
    credential::Credential,
    edges::EdgeRow,
    handshake::Handshake,
    identity::{Declared, SourceKind},
};

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/fixtures/lines/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn read(format: &Format, bytes: &[u8]) -> Vec<Fact> {
    let source = SourceId { cluster: "c".into(), kind: format.kind(), name: "n".into(), instance: String::new() };
    let declared = Declared::default();
    let persons = Persons::new([3; 32]);
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let start = Start::File { fingerprint: "f".into(), offset: 0 };
    let Taken { drafts, consumed, .. } = take(format, &context, &Redactor::new(&[4; 32]), bytes, &start, None);
    assert_eq!(consumed, bytes.len());
    drafts.into_iter().map(|draft| draft.fact).collect()
}

/// The facts of a fixture, a line each; the format is found out.
fn told(name: &str, kind: SourceKind) -> String {
    let bytes = fixture(name);
    let format = Format::detect(&bytes).unwrap_or_else(|| panic!("{name}: no format"));
    assert_eq!(format.kind(), kind, "{name}");
    tell(&read(&format, &bytes))
}

fn tell(facts: &[Fact]) -> String {
    let mut text = String::new();
    for fact in facts {
        match fact {
            Fact::Handshake(fact) => handshake(&mut text, fact),
            Fact::Credential(fact) => credential(&mut text, fact),
            Fact::Edges(edges) => edges.rows.iter().for_each(|row| edge(&mut text, row)),
            other => writeln!(text, "{}", serde_json::to_string(other).unwrap()).unwrap(),
        }
    }
    text
}

fn some(name: &str, value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| format!(" {name}={}", value.to_string()))
}

fn handshake(text: &mut String, fact: &Handshake) {
    let when = fact.occurred.at;
    write!(text, "{when} {} {} {:?}", fact.failure.as_str(), fact.side.as_str(), fact.layer).unwrap();
    text.push_str(&some("code", fact.verify_code));
    text.push_str(&some("reason", fact.reason.map(|reason| format!("{reason:#X}"))));
    text.push_str(&some("alert", fact.alert));
    text.push_str(&some("expected", fact.expected_name.as_ref()));
    text.push_str(&some("client", fact.client.as_ref()));
    text.push_str(&some("server", fact.server.as_ref()));
    text.push_str(&some("upstream", fact.upstream.as_ref()));
    text.push_str(&some("conn", fact.connection));
    for (word, is) in [("disputed", fact.alert_disputed), ("tainted", fact.tainted), ("truncated", fact.truncated)] {
        text.push_str(if is { " " } else { "" });
        text.push_str(if is { word } else { "" });
    }
    text.push('\n');
}

fn credential(text: &mut String, fact: &Credential) {
    write!(text, "{} {}", fact.occurred.at, fact.event.as_str()).unwrap();
    text.push_str(&some("trouble", fact.trouble.map(model::credential::Trouble::as_str)));
    text.push_str(&some("id", fact.spiffe_id.as_ref()));
    text.push_str(&some("agent", fact.agent_id.as_ref()));
    text.push_str(&some("entry", fact.entry_id.as_ref()));
    text.push_str(&some("serial", fact.serial.as_ref()));
    text.push_str(&some("not_after", fact.not_after));
    text.push_str(&some("replaces", fact.replaces_not_after));
    text.push_str(&some("ttl", fact.ttl_seconds));
    writeln!(text, " | {}", fact.message).unwrap();
}

fn edge(text: &mut String, row: &EdgeRow) {
    write!(text, "{} {:?} {}", row.minute, row.direction, row.peer).unwrap();
    text.push_str(if row.stream { " stream" } else { "" });
    text.push_str(&some("server", row.server_name.as_ref()));
    text.push_str(&some("upstream", row.upstream_name.as_ref()));
    text.push_str(&some("pod", row.pod.as_ref()));
    write!(text, " n={}", row.requests).unwrap();
    for answer in &row.answers {
        write!(text, " {}{}x{}", answer.status, some("up", answer.upstream.as_ref()), answer.n).unwrap();
    }
    for (word, n) in
        [("resumed", row.resumed), ("kept", row.kept_alive), ("after_expiry", row.after_expiry), ("empty", row.empty)]
    {
        text.push_str(&some(word, Some(n).filter(|n| *n > 0)));
    }
    if let Some(tls) = &row.tls {
        write!(text, " tls={}", serde_json::to_string(tls).unwrap()).unwrap();
    }
    text.push('\n');
}

#[test]
fn nginx_errors() {
    insta::assert_snapshot!("nginx-error", told("nginx-error.log", SourceKind::NginxError));
    insta::assert_snapshot!("nginx-error.public", told("nginx-error.public.log", SourceKind::NginxError));
    insta::assert_snapshot!("nginx-error.syslog", told("nginx-error.syslog.log", SourceKind::NginxError));
    insta::assert_snapshot!("nginx-error.cri", told("nginx-error.cri.log", SourceKind::NginxError));
}

#[test]
fn access_lines_as_text() {
    insta::assert_snapshot!("access.combined", told("access.combined.log", SourceKind::NginxAccess));
    insta::assert_snapshot!("access.stream-text", told("access.stream.log", SourceKind::NginxAccess));
    // A format without time and status: what it has is counted at the time of receipt.
    let format =
        AccessFormat::compile("$remote_addr ssl_client_verify=$ssl_client_verify ssl_client_subject=$ssl_client_s_dn");
    let facts = read(&Format::NginxAccess(format.unwrap()), &fixture("access.ssl-log.log"));
    insta::assert_snapshot!("access.ssl-log", tell(&facts));
}

#[test]
fn access_lines_as_json() {
    for name in [
        "access.mtls",
        "access.after-expiry",
        "access.escaped-cert",
        "access.broken",
        "access.ngf",
        "access.stream",
        "access.sidecar",
        "access.cri",
    ] {
        insta::assert_snapshot!(name, told(&format!("{name}.jsonl"), SourceKind::NginxAccess));
    }
}

#[test]
fn a_declared_json_format_reads_by_its_own_keys() {
    let format = AccessFormat::compile(
        r#"log_format x escape=json '{"at":"$time_iso8601","who":"$remote_addr","code":$status,'
           '"to":"$upstream_addr","v":"$ssl_client_verify"}';"#,
    );
    let line = br#"{"at":"2026-11-23T06:38:53+00:00","who":"10.0.0.7","code":200,"to":"10.0.0.8:80","v":"SUCCESS"}"#;
    let facts = read(&Format::NginxAccess(format.unwrap()), line);
    let [Fact::Import(account), Fact::Edges(edges)] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((account.lines, account.understood), (1, 1));
    let row = &edges.rows[0];
    assert_eq!((row.peer.as_str(), row.answers[0].status), ("10.0.0.7", 200));
    assert_eq!(row.tls.as_ref().unwrap().verify.as_deref(), Some("SUCCESS"));
}

#[test]
fn the_snippet_that_we_ship_is_read_whole() {
    for (snippet, formats) in [
        (include_str!("../../../deploy/nginx/counterfoil-log-format.conf"), 2),
        (include_str!("../../../deploy/nginx/counterfoil-stream-log-format.conf"), 1),
    ] {
        let directives = snippet.split("\nlog_format ").skip(1);
        let compiled =
            directives.map(|rest| AccessFormat::compile(&format!("log_format {}", rest.split(';').next().unwrap())));
        assert_eq!(compiled.map(Result::unwrap).count(), formats);
    }
}

#[test]
fn spire_and_its_helper() {
    for name in ["spire-agent.jsonl", "spire-agent.log", "spire-server.jsonl", "spire-server.log"] {
        insta::assert_snapshot!(name, told(name, SourceKind::Spire));
    }
    insta::assert_snapshot!("spiffe-helper", told("spiffe-helper.log", SourceKind::SpiffeHelper));
}
