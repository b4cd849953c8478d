use model::identity::{Declared, SourceId, SourceKind};

use super::*;
use crate::persons::Persons;

/// Folds lines of a format.
fn fold_as(format: AccessFormat, lines: &[&str]) -> Vec<(u64, Edges)> {
    let source =
        SourceId { cluster: "c".into(), kind: SourceKind::NginxAccess, name: "n".into(), instance: String::new() };
    let declared = Declared::default();
    let persons = Persons::new([7; 32]);
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let (mut fold, mut seen) = (Fold::new(format), Seen::default());
    for (number, line) in (0..).zip(lines) {
        assert_eq!(
            fold.line(number, &Framed::read(line.as_bytes()), &context, &mut seen),
            Outcome::Understood,
            "{line}"
        );
    }
    fold.finish()
}

fn rows(lines: &[&str]) -> Vec<EdgeRow> {
    fold_as(AccessFormat::auto(), lines).into_iter().flat_map(|(_, edges)| edges.rows).collect()
}

fn at(text: &str) -> Time {
    Time::parse(text).unwrap()
}

#[test]
fn a_minute_of_an_edge_is_one_row() {
    let line = |msec: &str, status: &str, upstream: &str| {
        format!(r#"{{"msec":"{msec}","remote_addr":"10.0.0.9","status":"{status}","upstream_status":"{upstream}"}}"#)
    };
    let lines = [
        line("1795415939.900", "200", "502, 200"),
        line("1795415933.819", "200", ""),
        line("1795415940.000", "499", "-"),
        line("1795415933.820", "200", ""),
    ];
    let rows = rows(&lines.each_ref().map(String::as_str));
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].minute, rows[0].requests), (at("2026-11-23T06:38:00Z"), 3));
    assert_eq!((rows[0].first, rows[0].last), (at("2026-11-23T06:38:53.819Z"), at("2026-11-23T06:38:59.900Z")));
    let answers: Vec<_> = rows[0].answers.iter().map(|a| (a.status, a.upstream.as_deref(), a.n)).collect();
    assert_eq!(answers, [(200, Some(""), 2), (200, Some("502, 200"), 1)]);
    assert_eq!(rows[1].answers[0].upstream.as_deref(), Some(""), "`-` means nothing was answered");
    assert!(rows[0].tls.is_none(), "the format has no TLS variable");
}

#[test]
fn who_called_whom() {
    for (line, direction, peer) in [
        (r#"{"status":"200","remote_addr":"10.0.0.9","upstream_addr":"127.0.0.1:80"}"#, Direction::In, "10.0.0.9"),
        (
            r#"{"status":"200","dir":"out","remote_addr":"10.0.0.9","upstream_addr":"10.1.1.1:80, 10.1.1.2:80 : unix:/a:b"}"#,
            Direction::Out,
            "unix:/a:b",
        ),
        (
            r#"{"status":"200","dir":"outbound","upstream_addr":"10.1.1.1:80, 10.1.1.2:80"}"#,
            Direction::Out,
            "10.1.1.2:80",
        ),
        (
            r#"{"status":"200","dir":"in","remote_addr":"127.0.0.1","upstream":"x","upstream_addr":"10.1.1.1:80"}"#,
            Direction::In,
            "127.0.0.1",
        ),
        (r#"{"status":"200","dir":"sideways","remote_addr":"10.0.0.9"}"#, Direction::In, "10.0.0.9"),
        // Without `dir`: a named upstream, or a caller on this host and no client TLS in the format.
        (
            r#"{"status":"200","remote_addr":"10.0.0.9","upstream":"ledger","upstream_addr":"10.1.1.1:80"}"#,
            Direction::Out,
            "10.1.1.1:80",
        ),
        (r#"{"status":"200","remote_addr":"127.0.0.1","upstream_addr":"10.1.1.1:80"}"#, Direction::Out, "10.1.1.1:80"),
        (
            r#"{"status":"200","remote_addr":"127.0.0.1","upstream_addr":"10.1.1.1:80","ssl_client_verify":""}"#,
            Direction::In,
            "127.0.0.1",
        ),
        // `upstream` can hold the address itself.
        (r#"{"status":"200","remote_addr":"127.0.0.1","upstream":"10.1.1.1:80"}"#, Direction::Out, "10.1.1.1:80"),
        // No upstream was reached: unknown, not somebody.
        (r#"{"status":"502","remote_addr":"127.0.0.1","upstream":"ledger","upstream_addr":"-"}"#, Direction::Out, ""),
    ] {
        let rows = rows(&[line]);
        assert_eq!((rows[0].direction, rows[0].peer.as_str()), (direction, peer), "{line}");
    }
}

#[test]
fn success_after_the_end_of_the_certificate_is_counted() {
    let line = |msec: &str, verify: &str, n: &str, reused: &str| {
        format!(
            r#"{{"msec":"{msec}","remote_addr":"a","status":"200","ssl_client_verify":"{verify}","ssl_client_serial":"0a","ssl_client_v_end":"Nov 23 06:38:55 2026 GMT","connection_requests":"{n}","ssl_session_reused":"{reused}"}}"#
        )
    };
    let lines = [
        line("1795415935.000", "SUCCESS", "1", "."),
        line("1795415935.001", "SUCCESS", "2", "."),
        line("1795415936.000", "SUCCESS", "1", "r"),
        line("1795415936.000", "NONE", "1", "r"),
    ];
    let rows = rows(&lines.each_ref().map(String::as_str));
    let success = rows.iter().find(|row| row.tls.as_ref().unwrap().verify.as_deref() == Some("SUCCESS")).unwrap();
    assert_eq!((success.requests, success.after_expiry, success.kept_alive, success.resumed), (3, 2, 1, 1));
    assert_eq!(success.tls.as_ref().unwrap().serial, Serial::from_hex("A"));
    assert_eq!(rows.iter().map(|row| row.after_expiry).sum::<u64>(), 2);
}

#[test]
fn a_stream_connection_without_a_byte_is_empty() {
    let rows = rows(&[
        r#"10.0.0.1 [23/Nov/2026:06:39:15 +0000] TCP 200 0 0 0.002 "10.0.0.2:1""#,
        r#"10.0.0.1 [23/Nov/2026:06:39:15 +0000] TCP 200 0 4 0.002 "10.0.0.2:1" "x""#,
        r#"{"time":"2026-11-23T06:39:15+00:00","remote_addr":"10.0.0.1","protocol":"HTTP/1.1","status":"200","bytes_sent":"0","bytes_received":"0"}"#,
    ]);
    let counts: Vec<_> = rows.iter().map(|row| (row.stream, row.requests, row.empty)).collect();
    assert_eq!(counts, [(false, 1, 0), (true, 2, 1)]);
}

/// A certificate of the lab with serial 57F2…, `spiffe://example.org/ns/ci/sa/tekton-deployer`.
const CERTIFICATE: &str = include_str!("../../../tests/fixtures/lines/certificate.escaped.txt");

#[test]
fn a_certificate_names_the_other_lines_of_its_serial() {
    let line = |serial: &str, verify: &str, certificate: &str| {
        format!(
            r#"{{"msec":"1795415935.000","remote_addr":"a","status":"200","ssl_client_verify":"{verify}","ssl_client_serial":"{serial}","ssl_client_escaped_cert":"{certificate}"}}"#
        )
    };
    let serial = "57F219934F376CFB336E131686B3EEB03B08E5BD";
    let certificate = CERTIFICATE.trim();
    let lines = [
        line(serial, "SUCCESS", ""),
        line(serial, "SUCCESS", certificate),
        line(serial, "SUCCESS", ""),
        line("02", "SUCCESS", ""),
    ];
    let mut rows = rows(&lines.each_ref().map(String::as_str));
    rows.sort_by_key(|row| row.requests);
    let ids: Vec<_> = rows.iter().map(|row| (row.requests, row.tls.as_ref().unwrap().spiffe_id.as_deref())).collect();
    assert_eq!(ids, [(1, None), (3, Some("spiffe://example.org/ns/ci/sa/tekton-deployer"))]);

    // Anybody can write any serial into a certificate that nobody verified.
    let lines = [line(serial, "FAILED:self-signed certificate", certificate), line(serial, "SUCCESS", "")];
    let rows = self::rows(&lines.each_ref().map(String::as_str));
    let verified = rows.iter().find(|row| row.tls.as_ref().unwrap().verify.as_deref() == Some("SUCCESS")).unwrap();
    assert_eq!(verified.tls.as_ref().unwrap().spiffe_id, None);
}

#[test]
fn many_rows_become_several_facts_with_places_of_their_own() {
    let lines: Vec<String> = (0..300)
        .map(|i| format!(r#"{{"msec":"1795415935.000","remote_addr":"10.0.{}.{}","status":"200"}}"#, i / 200, i % 200))
        .collect();
    let facts = fold_as(AccessFormat::auto(), &lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(facts.len() > 1);
    assert_eq!(facts.iter().map(|(_, edges)| edges.rows.len()).sum::<usize>(), 300);
    let mut places: Vec<u64> = facts.iter().map(|(place, _)| *place).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), facts.len());
    for (_, edges) in &facts {
        assert!(serde_json::to_vec(edges).unwrap().len() <= MAX_FACT_BYTES + 16);
    }
}

#[test]
fn the_order_of_lines_does_not_change_the_rows() {
    let lines: Vec<String> = (0..40)
        .map(|i| {
            format!(
                r#"{{"msec":"17954159{:02}.000","remote_addr":"10.0.0.{}","status":"{}"}}"#,
                10 + i,
                i % 7,
                200 + i % 3
            )
        })
        .collect();
    let forward: Vec<&str> = lines.iter().map(String::as_str).collect();
    let backward: Vec<&str> = forward.iter().rev().copied().collect();
    assert_eq!(rows(&forward), rows(&backward));
}
