use model::identity::{Declared, SourceId};
use proptest::prelude::*;

use super::*;
use crate::persons::Persons;

fn start() -> Start {
    Start::File { fingerprint: "f".into(), offset: 1000 }
}

/// Reads a stretch of a followed file.
fn read<'a>(format: &Format, bytes: &'a [u8], start: &Start) -> Taken<'a> {
    let source = SourceId { cluster: "c".into(), kind: format.kind(), name: "n".into(), instance: String::new() };
    let declared = Declared::default();
    let persons = Persons::new([7; 32]);
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    take(format, &context, &Redactor::new(&[8; 32]), bytes, start, None)
}

fn account(taken: &Taken<'_>) -> Import {
    match &taken.drafts[0].fact {
        Fact::Import(import) => import.clone(),
        other => panic!("{other:?}"),
    }
}

fn offset(draft: &Draft) -> u64 {
    match draft.place {
        Some(Place::File { offset, .. }) => offset,
        Some(Place::Post { line, .. }) => line,
        None => panic!("every draft of lines has a place"),
    }
}

const REJECTED: &str =
    "2026/11/23 06:39:00 [info] 1#0: *24 handshake rejected while SSL handshaking, client: 10.0.0.1, server: b";

#[test]
fn every_line_is_accounted_for_and_has_its_place() {
    let text = format!("{REJECTED}\r\n\n2026/11/23 06:39:05 [notice] 1#0: exiting\nnoise\n{REJECTED}");
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    let import = account(&taken);
    assert_eq!((import.lines, import.understood, import.passed, import.opaque), (4, 2, 1, 1));
    assert_eq!(import.levels, [("info".to_owned(), 2), ("notice".to_owned(), 1)].into());
    assert_eq!(import.newest, Time::parse("2026-11-23T06:39:05Z"));
    assert_eq!((taken.oldest, taken.newest), (import.oldest, import.newest));
    let places: Vec<u64> = taken.drafts.iter().map(offset).collect();
    let first = REJECTED.len() as u64 + 3;
    assert_eq!(places, [1000, 1000, 1000 + first + 42, 1000 + first + 48]);
    assert_eq!(taken.payload.as_ref(), text.as_bytes());
    assert_eq!(taken.consumed, text.len());

    let post = Start::Post { digest: "d".into(), line: 1 };
    let lines: Vec<u64> = read(&Format::NginxError, text.as_bytes(), &post).drafts.iter().map(offset).collect();
    assert_eq!(lines, [1, 1, 4, 5]);
    assert_eq!(post.after(text.as_bytes()), Start::Post { digest: "d".into(), line: 5 });
}

#[test]
fn a_secret_reaches_neither_payload_nor_leaf_and_moves_no_place() {
    let secret = "hunter2hunter2";
    let text = format!("noise password={secret} more\n{REJECTED}\n");
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    assert_eq!(taken.redacted.len(), 1);
    assert!(memchr::memmem::find(&taken.payload, secret.as_bytes()).is_none());
    let leaves: String = taken.drafts.iter().map(|draft| serde_json::to_string(&draft.fact).unwrap()).collect();
    assert!(leaves.contains("noise password=[redacted:") && !leaves.contains(secret), "{leaves}");
    assert_eq!(offset(&taken.drafts[2]), 1000 + text.find('\n').unwrap() as u64 + 1);
}

#[test]
fn a_line_that_redaction_made_shorter_is_still_known_to_be_cut() {
    let mut line =
        "2026/11/23 06:39:15 [error] 1#0: *9 upstream SSL certificate verify error: (10:x) while SSL handshaking to \
                    upstream, client: a, server: b, request: \"GET /?password="
            .to_owned();
    line.push_str(&"A".repeat(2047 - line.len()));
    let taken = read(&Format::NginxError, line.as_bytes(), &start());
    assert!(taken.payload.len() < 500, "the secret is gone");
    assert!(matches!(&taken.drafts[1].fact, Fact::Handshake(handshake) if handshake.truncated));
}

#[test]
fn opaque_lines_are_kept_up_to_a_limit_and_counted_beyond() {
    let text = "noise\n".repeat(25);
    let taken = read(&Format::Spire, text.as_bytes(), &start());
    assert_eq!(account(&taken).opaque, 25);
    assert_eq!(taken.drafts.len() as u64, 1 + MAX_OPAQUE_FACTS);
    let long = "x".repeat(MAX_TEXT_LINE + 1);
    let taken = read(&Format::Spire, long.as_bytes(), &start());
    let Fact::Opaque(opaque) = &taken.drafts[1].fact else { panic!() };
    assert_eq!((opaque.reason.as_str(), opaque.head.bytes().len()), ("too_long", 256));
}

#[test]
fn a_flood_of_one_failure_becomes_a_counted_row() {
    let other = REJECTED.replace("10.0.0.1", "10.0.0.2");
    let text = format!("{}{other}\n", format!("{REJECTED}\n").repeat(1500));
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    let counts: Vec<u64> = taken
        .drafts
        .iter()
        .filter_map(|draft| if let Fact::Handshake(fact) = &draft.fact { Some(fact.count) } else { None })
        .collect();
    assert_eq!(counts.len(), 1002);
    assert_eq!((counts[999], counts[1000], counts[1001]), (1, 500, 1));
    assert_eq!(account(&taken).understood, 1501);

    // One local client that calls two upstreams: the flood of one does not swallow the other.
    let called = |port: u16| {
        format!(
            "2026/11/23 06:39:00 [error] 1#0: *5 connect() failed (111: x) while connecting to upstream, client: 127.0.0.1, \
             server: s, request: \"GET / HTTP/1.1\", upstream: \"https://10.0.0.1:{port}/\", host: \"h\"\n"
        )
    };
    let text = format!("{}{}", called(1).repeat(1100), called(2));
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    let Some(Draft { fact: Fact::Handshake(last), .. }) = taken.drafts.last() else { panic!() };
    assert_eq!((last.upstream.as_deref(), last.count, taken.drafts.len()), (Some("10.0.0.1:2"), 1, 1003));
}

#[test]
fn parts_of_a_split_line_are_joined() {
    let (head, tail) = REJECTED.split_at(60);
    let text = format!(
        "2026-11-23T06:39:00.5Z stderr P {head}\n2026-11-23T06:39:00.6Z stdout F other\n2026-11-23T06:39:00.7Z stderr F {tail}\n"
    );
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    let import = account(&taken);
    assert_eq!((import.lines, import.understood, import.passed, import.opaque), (3, 1, 1, 1));
    let Some(Draft { fact: Fact::Handshake(fact), .. }) = taken.drafts.last() else { panic!("{:?}", taken.drafts) };
    assert_eq!(fact.client.as_deref(), Some("10.0.0.1"));
    assert_eq!(fact.occurred.at, Time::parse("2026-11-23T06:39:00.500Z").unwrap());
    assert_eq!(offset(taken.drafts.last().unwrap()), 1000, "the place of the first part");

    // Without its end the line is read as far as it goes, and says that it is cut.
    let alone = format!("2026-11-23T06:39:00.5Z stderr P {REJECTED}\n");
    let taken = read(&Format::NginxError, alone.as_bytes(), &start());
    assert_eq!((account(&taken).passed, account(&taken).understood), (1, 0));
    assert!(matches!(&taken.drafts[1].fact, Fact::Handshake(fact) if fact.truncated));
}

#[test]
fn a_kubernetes_list_may_span_lines_or_stand_on_one() {
    let list = r#"{"kind":"List","apiVersion":"v1","items":[]}"#;
    let many = list.replace(',', ",\n");
    for (text, lines) in [(list.to_owned(), 1), (format!("{list}\n{list}\n"), 2), (many, 1), ("\n \n".into(), 0)] {
        let taken = read(&Format::K8sObjects, text.as_bytes(), &start());
        assert_eq!(account(&taken).lines, lines, "{text}");
    }
}

#[test]
fn formats_are_told_apart() {
    let access = r#"{"msec":"1795415933.819","status":"200","remote_addr":"10.0.0.1"}"#;
    for (text, kind) in [
        (REJECTED, Some(SourceKind::NginxError)),
        ("<190>Nov 23 06:38:53 vm nginx: 2026/11/23 06:38:53 [info] 1#0: x", Some(SourceKind::NginxError)),
        (access, Some(SourceKind::NginxAccess)),
        (r#"::1 - - [23/Nov/2026:06:38:53 +0000] "GET / HTTP/1.1" 200 3 "-" "-" "-""#, Some(SourceKind::NginxAccess)),
        (r#"10.0.0.1 [23/Nov/2026:06:38:53 +0000] TCP 200 3 0 0.002 "-""#, Some(SourceKind::NginxAccess)),
        (r#"{"level":"info","msg":"Starting agent","time":"2026-11-23T06:38:53Z"}"#, Some(SourceKind::Spire)),
        (
            r#"time="2026-11-23T06:38:53Z" level=info msg="Received update" system=spiffe-helper"#,
            Some(SourceKind::SpiffeHelper),
        ),
        (r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","stage":"Panic"}"#, Some(SourceKind::K8sAudit)),
        ("{\n  \"apiVersion\": \"v1\",\n  \"items\": [\n", Some(SourceKind::K8sObjects)),
        (r#"{"method":"POST","headers":[["Ce-Id","1"]],"body_b64":""}"#, Some(SourceKind::CloudEvents)),
        ("noise", None),
        ("", None),
        ("\u{1f}\u{8b}\u{8}\0", None),
    ] {
        assert_eq!(Format::detect(text.as_bytes()).map(|format| format.kind()), kind, "{text}");
    }
    // The two logs of one container belong together; each format passes the lines of the other.
    let mixed = format!("{REJECTED}\n{access}\n{access}\n");
    let format = Format::detect(mixed.as_bytes()).unwrap();
    assert_eq!(format.kind(), SourceKind::NginxAccess);
    for format in [format, Format::NginxError] {
        let import = account(&read(&format, mixed.as_bytes(), &start()));
        assert_eq!((import.opaque, import.understood + import.passed), (0, 3));
    }
    // Some lines of another program change nothing; a majority does.
    assert!(Format::detect(format!("{access}\n{access}\nnoise\n").as_bytes()).is_some());
    assert!(Format::detect(format!("{access}\nnoise\nnoise\n").as_bytes()).is_none());
}

fn formats() -> [Format; 7] {
    [
        Format::NginxError,
        Format::NginxAccess(AccessFormat::auto()),
        Format::Spire,
        Format::SpiffeHelper,
        Format::K8sObjects,
        Format::K8sAudit,
        Format::CloudEvents,
    ]
}

/// Bytes that come close to real lines: pieces of them in any order, and anything.
fn nearly_lines() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<Vec<u8>>(),
        prop::sample::select(vec![
            "2026/11/23 06:39:00 [info] 1#0: *24 ",
            "SSL_do_handshake() failed (SSL: error:0A000412:SSL routines::x:SSL alert number 42) while SSL handshaking",
            "upstream SSL certificate does not match \"",
            ", client: ",
            ", server: ",
            ", request: \"",
            ", upstream: \"https://unix:",
            "2026-11-23T06:39:00.5Z stderr P ",
            "<190>Nov 23 06:38:53 vm nginx: ",
            "{\"msec\":\"1795415933.819\",\"status\":",
            "\"ssl_client_escaped_cert\":\"-----BEGIN%20CERTIFICATE-----%0AMIIB",
            "10.0.0.1 - - [23/Nov/2026:06:38:53 +0000] \"GET / HTTP/1.1\" 200 ",
            "time=\"2026-11-23T06:38:53Z\" level=info msg=\"Signed X509 SVID\" serial_num=",
            "INFO[0000] Renewing X509-SVID   spiffe_id=\"",
            "{\"level\":\"info\",\"msg\":\"API accessed\",\"type\":\"audit\",\"method\":",
            "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\"",
            "password=",
            "-----BEGIN PRIVATE KEY-----",
            "\\x",
            "\"}",
            "\n",
            "\r\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_accounted_for(bytes in nearly_lines()) {
        for format in formats() {
            let taken = read(&format, &bytes, &start());
            let import = account(&taken);
            prop_assert_eq!(import.lines, import.understood + import.passed + import.opaque);
            prop_assert_eq!(taken.consumed, bytes.len());
            for draft in &taken.drafts {
                let at = offset(draft);
                prop_assert!(at >= 1000 && at <= 1000 + bytes.len() as u64);
                prop_assert!(serde_json::to_vec(&draft.fact).unwrap().len() <= model::Body::MAX_BYTES - 1024);
            }
        }
        Format::detect(&bytes);
    }

    #[test]
    fn the_cut_of_an_append_does_not_change_its_facts(
        order in prop::collection::vec(0usize..4, 1..40),
        cut in 0usize..40,
    ) {
        let lines = [REJECTED, "noise", "2026/11/23 06:39:01 [notice] 1#0: start worker processes", "2026/11/23 06:39:01 [info] 1#0: x"];
        let text: Vec<String> = order.iter().map(|line| format!("{}\n", lines[*line])).collect();
        let facts = |taken: &Taken<'_>| -> Vec<(u64, Fact)> {
            let own = |draft: &&Draft| !matches!(draft.fact, Fact::Import(_) | Fact::Opaque(_));
            taken.drafts.iter().filter(own).map(|draft| (offset(draft), draft.fact.clone())).collect()
        };
        let whole = text.concat();
        let (first, second) = text.split_at(cut.min(text.len()));
        let (first, second) = (first.concat(), second.concat());
        let mut parts = facts(&read(&Format::NginxError, first.as_bytes(), &start()));
        parts.extend(facts(&read(&Format::NginxError, second.as_bytes(), &start().after(first.as_bytes()))));
        prop_assert_eq!(facts(&read(&Format::NginxError, whole.as_bytes(), &start())), parts);
    }
}

#[test]
fn lines_of_no_known_form_cost_the_same_in_every_format() {
    // Whoever may post lines may post these. The fastest of three rounds, because other tests run beside this one.
    let text = "x\n".repeat(20_000);
    let cost = |format: &Format| {
        let round = || {
            let begin = std::time::Instant::now();
            assert_eq!(account(&read(format, text.as_bytes(), &start())).opaque, 20_000);
            begin.elapsed()
        };
        (0..3).map(|_| round()).min().unwrap()
    };
    let other = cost(&Format::SpiffeHelper);
    for format in [Format::NginxError, Format::NginxAccess(AccessFormat::auto()), Format::Spire] {
        let this = cost(&format);
        assert!(this < other * 20, "{format:?}: {this:?}, spiffe-helper: {other:?}");
    }
}

#[test]
fn lines_that_a_client_wrote_into_an_error_log_are_tainted() {
    let stamp = "2026/11/23 06:39:00";
    // GET /x%0A2026/11/23%2006:39:00%20[emerg]… : NGINX decodes the path.
    let forged = format!(
        "{stamp} [error] 7#7: *3 open() \"/usr/share/nginx/html/x\n\n{stamp} [emerg] 1#1: cannot load certificate\n\
         {stamp} [info] 7#7: *2 client SSL certificate verify error: (10:x) while reading client request headers, \
         client: 10.0.0.9, server: s\nz\" failed (2: No such file or directory), client: 10.0.0.1, server: s, \
         request: \"GET /x%0A%0A2026%0A2026%0Az HTTP/1.1\", host: \"h\"\n"
    );
    let reload = format!("{stamp} [notice] 1#1: signal 1 (SIGHUP) received from 1, reconfiguring\n");
    let honest = format!("{REJECTED}\n{reload}");
    let text = format!("{honest}{honest}{honest}{forged}{honest}");
    let taken = read(&Format::NginxError, text.as_bytes(), &start());
    let facts: Vec<(bool, Option<u32>)> = taken
        .drafts
        .iter()
        .filter_map(|draft| match &draft.fact {
            Fact::Handshake(fact) => Some((fact.tainted, Some(fact.pid))),
            Fact::Credential(fact) => Some((fact.tainted, fact.pid)),
            _ => None,
        })
        .collect();
    let honest = [(false, Some(1)); 2];
    assert_eq!(facts, [&honest[..], &honest, &honest, &[(true, Some(1)), (true, Some(7))], &honest].concat());

    let quoted = format!("{REJECTED}, request: \"GET / HTTP/1.1\"").replace("server: b", "server: b\" x");
    let taken = read(&Format::NginxError, quoted.as_bytes(), &start());
    assert!(matches!(&taken.drafts[1].fact, Fact::Handshake(fact) if fact.tainted), "a server's name has no quote");
}

#[test]
fn variables_that_hold_credentials_are_redacted() {
    for (format, line) in [
        (
            "$remote_addr $status $http_authorization [$time_local]",
            "1.1.1.1 200 Opaque S3CR3T [24/Nov/2026:13:00:00 +0000]",
        ),
        (
            "$remote_addr $status \"$http_cookie\" [$time_local]",
            "1.1.1.1 200 \"a=S3CR3T\" [24/Nov/2026:13:00:00 +0000]",
        ),
        ("$remote_addr $status [$time_local] $cookie_sid", "1.1.1.1 200 [24/Nov/2026:13:00:00 +0000] S3CR3T"),
        (
            r#"{"ip":"$remote_addr","status":"$status","who":"$http_authorization","time":"$time_iso8601"}"#,
            r#"{"ip":"1.1.1.1","status":"200","who":"S3CR3T","time":"2026-11-24T13:00:00+00:00"}"#,
        ),
    ] {
        let format = Format::NginxAccess(AccessFormat::compile(format).unwrap());
        let text = format!("2026-11-24T13:00:00.5Z stdout F {line}\n{line}\n");
        let taken = read(&format, text.as_bytes(), &start());
        let payload = String::from_utf8_lossy(&taken.payload);
        assert!(!payload.contains("S3CR3T") && payload.contains("[redacted:variable:"), "{payload}");
        assert_eq!(account(&taken).understood, 2, "{payload}");
        assert_eq!(taken.redacted[0].n, 2);
    }
}
