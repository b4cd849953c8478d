use model::{
    Grade,
    credential::CredentialEvent,
    handshake::Failure,
    identity::{Declared, SourceId, SourceKind},
};

use super::*;
use crate::persons::Persons;

/// Parses one line of a source in this zone; the outcome and the only fact.
fn read_in(zone: Option<&str>, line: &[u8]) -> (Outcome, Option<Fact>) {
    let source =
        SourceId { cluster: "c".into(), kind: SourceKind::NginxError, name: "n".into(), instance: String::new() };
    let declared = Declared { zone: zone.map(str::to_owned), ..Declared::default() };
    let persons = Persons::new([7; 32]);
    let context = Context {
        source: &source,
        declared: &declared,
        zone: zone.map_or(chrono_tz::UTC, |zone| zone.parse().unwrap()),
        observed_at: Time::from_seconds(1_800_000_000),
        persons: &persons,
    };
    let (mut seen, mut out) = (Seen::default(), Vec::new());
    let outcome = parse(&Framed::read(line), &context, &mut seen, &mut out);
    assert!(out.len() < 2);
    (outcome, out.pop().map(|draft| draft.fact))
}

fn handshake(line: &[u8]) -> Handshake {
    match read_in(None, line) {
        (Outcome::Understood, Some(Fact::Handshake(handshake))) => handshake,
        other => panic!("{other:?}"),
    }
}

fn of(message_and_fields: &str) -> Handshake {
    handshake(format!("2026/11/23 06:38:54 [info] 7#0: *5 {message_and_fields}").as_bytes())
}

#[test]
fn refusals_of_a_client() {
    let refused = of("client SSL certificate verify error: (10:certificate has expired) while reading client request \
                      headers, client: 127.0.0.1, server: payments.prod.svc, request: \"GET /pay?id=1 HTTP/1.1\", \
                      host: \"payments.prod.svc:18443\"");
    assert_eq!((refused.failure, refused.verify_code), (Failure::VerifyFailed, Some(10)));
    assert_eq!((refused.side, refused.layer), (Side::Server, Layer::Http));
    assert_eq!((refused.client.as_deref(), refused.server.as_deref()), (Some("127.0.0.1"), Some("payments.prod.svc")));
    assert_eq!((refused.pid, refused.connection), (7, Some(5)));
    assert_eq!(refused.occurred.at, Time::parse("2026-11-23T06:38:54Z").unwrap());
    assert_eq!((refused.occurred.within_ms, refused.occurred.zone), (1000, Grade::Inferred));
    assert!(refused.message.lossy().ends_with("while reading client request headers"));
    assert!(!refused.tainted && !refused.truncated && refused.upstream.is_none());

    // stream: while the handshake lasts, with the listen address for a server name.
    let stream =
        of("client sent no required SSL certificate while SSL handshaking, client: 10.0.0.1, server: 0.0.0.0:1");
    assert_eq!((stream.failure, stream.layer), (Failure::NoCertificate, Layer::Stream));
    assert_eq!(stream.server.as_deref(), Some("0.0.0.0:1"));

    // OCSP: a text in place of the number.
    let ocsp = of("client SSL certificate verify error: certificate revoked while reading client request headers");
    assert_eq!((ocsp.failure, ocsp.verify_code, ocsp.client), (Failure::VerifyFailed, None, None));
}

#[test]
fn refusals_by_us_as_the_caller() {
    let expired = of("upstream SSL certificate verify error: (10:certificate has expired) while SSL handshaking to \
                      upstream, client: 127.0.0.1, server: cafe, request: \"GET /a HTTP/1.1\", upstream: \
                      \"https://127.0.0.1:18502/a\", host: \"cafe\"");
    assert_eq!((expired.side, expired.upstream.as_deref()), (Side::Client, Some("127.0.0.1:18502")));

    let name = of("upstream SSL certificate does not match \"payments.prod.svc\" while SSL handshaking to upstream, \
                   client: 127.0.0.1, server: 127.0.0.1:18603, upstream: \"127.0.0.1:18505\", bytes from/to \
                   client:0/0, bytes from/to upstream:0/0");
    assert_eq!((name.failure, name.expected_name.as_deref()), (Failure::NameMismatch, Some("payments.prod.svc")));
    assert_eq!((name.layer, name.upstream.as_deref()), (Layer::Stream, Some("127.0.0.1:18505")));

    // TLS 1.3: the refusal of our certificate comes after the handshake.
    let late = of("SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert \
                   number 116) while reading response header from upstream, client: 127.0.0.1, server: , request: \
                   \"GET / HTTP/1.1\", upstream: \"https://unix:/run/a.sock:/x\", host: \"h\"");
    assert_eq!((late.failure, late.alert, late.side), (Failure::PeerAlert, Some(116), Side::Client));
    assert_eq!((late.server.as_deref(), late.upstream.as_deref()), (Some(""), Some("unix:/run/a.sock")));
}

#[test]
fn the_same_alert_in_every_spelling() {
    for error in [
        "error:14094412:SSL routines:SSL3_READ_BYTES:sslv3 alert bad certificate:SSL alert number 42",
        "error:14094412:SSL routines:ssl3_read_bytes:sslv3 alert bad certificate:SSL alert number 42",
        "error:0A000412:SSL routines::sslv3 alert bad certificate:SSL alert number 42",
        "error:0A000412:SSL routines::ssl/tls alert bad certificate:SSL alert number 42",
        "error:10000412:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE",
        "error:80000002:system library::x error:0A000412:SSL routines::sslv3 alert bad certificate",
        "error:no number here:SSL alert number 42",
    ] {
        let read = of(&format!("SSL_do_handshake() failed (SSL: {error}) while SSL handshaking, client: a, server: b"));
        assert_eq!((read.failure, read.alert, read.alert_disputed), (Failure::PeerAlert, Some(42), false), "{error}");
    }
    let disputed = of("SSL_do_handshake() failed (SSL: error:0A000412:SSL routines::x:SSL alert number 48) while y");
    assert_eq!((disputed.alert, disputed.reason, disputed.alert_disputed), (Some(42), Some(1042), true));
}

#[test]
fn reasons_of_the_library() {
    for (error, failure) in [
        ("error:0A00010B:SSL routines::wrong version number", Failure::NotTls),
        ("error:1408F10B:SSL routines:ssl3_get_record:wrong version number", Failure::NotTls),
        ("error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER", Failure::NotTls),
        ("error:0A00009C:SSL routines::http request", Failure::PlainHttp),
        ("error:0A0000C1:SSL routines::no shared cipher", Failure::NoCommonCipher),
        ("error:100000b8:SSL routines:OPENSSL_internal:NO_SHARED_CIPHER", Failure::NoCommonCipher),
        ("error:0A000102:SSL routines::unsupported protocol", Failure::NoCommonProtocol),
        ("error:0A000126:SSL routines::unexpected eof while reading", Failure::ClosedDuringHandshake),
        ("error:0A0000F4:SSL routines::unexpected message", Failure::OtherTls),
        ("error:0A000179:SSL routines::cert cb error", Failure::OtherTls),
    ] {
        let read = of(&format!("SSL_do_handshake() failed (SSL: {error}) while SSL handshaking, client: a, server: b"));
        assert_eq!(read.failure, failure, "{error}");
        assert_eq!((read.alert, read.reason.is_some()), (None, true));
    }
    // HTTP/3 loses the reason.
    assert_eq!(of("SSL_do_handshake() failed while handling frames, client: a, server: b").failure, Failure::OtherTls);
}

#[test]
fn failures_that_are_none_of_a_certificate() {
    for (message, failure, side) in [
        (
            "peer closed connection in SSL handshake (104: x) while SSL handshaking",
            Failure::ClosedDuringHandshake,
            Side::Server,
        ),
        (
            "peer closed connection in SSL handshake while SSL handshaking to upstream",
            Failure::ClosedDuringHandshake,
            Side::Client,
        ),
        ("client closed connection while SSL handshaking", Failure::ClosedDuringHandshake, Side::Server),
        (
            "client timed out (110: Connection timed out) while SSL handshaking",
            Failure::HandshakeTimedOut,
            Side::Server,
        ),
        ("handshake rejected while SSL handshaking", Failure::Rejected, Side::Server),
        (
            "client sent plain HTTP request to HTTPS port while reading client request headers",
            Failure::PlainHttp,
            Side::Server,
        ),
        ("client closed connection while waiting for request", Failure::ClosedBeforeRequest, Side::Server),
        (
            "upstream timed out (110: Operation timed out) while SSL handshaking to upstream",
            Failure::HandshakeTimedOut,
            Side::Client,
        ),
        (
            "upstream timed out (110: Operation timed out) while reading response header from upstream",
            Failure::UpstreamTimedOut,
            Side::Client,
        ),
        (
            "upstream timed out (110: Operation timed out) while connecting to upstream",
            Failure::ConnectFailed,
            Side::Client,
        ),
        (
            "connect() failed (111: Connection refused) while connecting to upstream",
            Failure::ConnectFailed,
            Side::Client,
        ),
        (
            "upstream prematurely closed connection while reading response header from upstream",
            Failure::UpstreamClosed,
            Side::Client,
        ),
        (
            "recv() failed (104: Connection reset by peer) while reading response header from upstream",
            Failure::UpstreamClosed,
            Side::Client,
        ),
        (
            "cannot load certificate \"/x\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/x, r) error:10000080:BIO routines::no such file) while SSL handshaking",
            Failure::CannotLoadCertificate,
            Side::Server,
        ),
        (
            "client attempted to request the server name different from the one that was negotiated while reading client request headers",
            Failure::WrongServerName,
            Side::Server,
        ),
    ] {
        let read = of(&format!("{message}, client: ::ffff:10.0.0.1, server: b"));
        assert_eq!(
            (read.failure, read.side, read.client.as_deref()),
            (failure, side, Some("::ffff:10.0.0.1")),
            "{message}"
        );
    }
}

#[test]
fn levels_decide_nothing() {
    for level in ["info", "error", "crit"] {
        let line = format!(
            "2026/11/23 06:38:54 [{level}] 7#7: *5 handshake rejected while SSL handshaking, client: a, server: b"
        );
        assert_eq!(handshake(line.as_bytes()).failure, Failure::Rejected);
        let line = format!(
            "2026/11/23 06:38:54 [{level}] 7#7: *5 SSL_shutdown() failed (SSL: error:0A000123:SSL \
                            routines::application data after close notify) while SSL handshaking, client: a, server: b"
        );
        assert_eq!(read_in(None, line.as_bytes()), (Outcome::Passed, None));
    }
}

#[test]
fn a_server_name_may_be_a_regular_expression() {
    let read =
        of("SSL_do_handshake() failed (SSL: error:1408F10B:SSL routines:x:y) while SSL handshaking to upstream, \
                   client: 127.0.0.1, server: ~^(?<domain>.{1,3}, [a-z]+)$, request: \"POST /a HTTP/2.0\", upstream: \
                   \"grpcs://192.0.2.9:7080\", host: \"h\"");
    assert_eq!(read.server.as_deref(), Some("~^(?<domain>.{1,3}, [a-z]+)$"));
    assert_eq!(read.upstream.as_deref(), Some("192.0.2.9:7080"));
    assert!(!read.tainted);
    let udp = of("handshake rejected while SSL handshaking, udp client: 10.0.0.9, server: 0.0.0.0:53");
    assert_eq!(udp.client.as_deref(), Some("10.0.0.9"));
}

#[test]
fn forged_fields_are_marked() {
    let start = "upstream SSL certificate verify error: (10:x) while SSL handshaking to upstream, client: 127.0.0.1, server: cafe, ";
    for (fields, upstream) in [
        // A second upstream in the path, with and without the space that NGINX writes.
        (
            "request: \"GET /bad\",upstream:\"https://10.0.0.9:443/x\",host:\"v HTTP/1.1\", upstream: \"https://127.0.0.1:1/b\", host: \"c\"",
            "127.0.0.1:1",
        ),
        (
            "request: \"GET / HTTP/1.1\", upstream: \"https://127.0.0.1:1/b\", host: \"c\", referrer: \"https://e/\", host: \"spoofed\"",
            "127.0.0.1:1",
        ),
        (
            "request: \"GET / HTTP/1.1\", upstream: \"https://127.0.0.1:1/b\", host: \"c\", client: 10.0.0.1",
            "127.0.0.1:1",
        ),
        // The genuine field was cut off, only the forged one is left.
        ("request: \"GET /x\", upstream: \"https://10.0.0.9:443/x", "10.0.0.9:443"),
    ] {
        let read = of(&format!("{start}{fields}"));
        assert!(read.tainted, "{fields}");
        assert_eq!(read.upstream.as_deref(), Some(upstream), "{fields}");
        assert_eq!((read.client.as_deref(), read.server.as_deref()), (Some("127.0.0.1"), Some("cafe")));
    }
    let quoted = of(&format!(
        "{start}request: \"GET / HTTP/1.1\", upstream: \"https://127.0.0.1:1/b\", host: \"c\", referrer: \"https://r/?q=\"x\"\""
    ));
    assert!(!quoted.tainted, "quotes alone forge nothing");
}

#[test]
fn a_line_cut_at_2047_bytes_says_so() {
    let mut line = b"2026/11/23 06:39:15 [error] 1#0: *96 upstream SSL certificate verify error: (10:certificate has \
        expired) while SSL handshaking to upstream, client: 127.0.0.1, server: cafe, request: \"GET /"
        .to_vec();
    line.resize(2047, b'A');
    let read = handshake(&line);
    assert!(read.truncated);
    assert_eq!((read.upstream, read.verify_code), (None, Some(10)));
    line.truncate(2000);
    assert!(!handshake(&line).truncated);
}

#[test]
fn bytes_of_a_client_do_no_harm() {
    let line =
        b"2026/11/23 06:39:10 [info] 1#0: *72 client sent invalid method while reading client request line, client: \
        127.0.0.1, server: cafe, request: \"\x16\x03\x01\x00\xff\x1b[31m\xe2\x80\xae\0\"";
    let read = handshake(line);
    assert_eq!(read.failure, Failure::NotHttp);
    assert!(!read.message.bytes().contains(&0x1b));
}

#[test]
fn reloads_and_ends() {
    for (line, event) in [
        ("[notice] 9#0: signal 1 (SIGHUP) received from 1977, reconfiguring", Some(CredentialEvent::ReloadAsked)),
        ("[notice] 9#0: signal 1 (SIGHUP) received, reconfiguring", Some(CredentialEvent::ReloadAsked)),
        ("[notice] 9#0: reconfiguring", None),
        ("[notice] 9#0: start worker processes", Some(CredentialEvent::Loaded)),
        ("[notice] 9#0: start worker process 1978", None),
        ("[emerg] 9#0: cannot load certificate \"/x\": BIO_new_file() failed", Some(CredentialEvent::LoadRefused)),
        (
            "[emerg] 9#0: host not found in upstream \"a\" in /etc/nginx/nginx.conf:5",
            Some(CredentialEvent::LoadRefused),
        ),
        ("[notice] 9#0: signal 15 (SIGTERM) received from 1, exiting", Some(CredentialEvent::HolderStopped)),
        ("[notice] 9#0: signal 3 (SIGQUIT) received from 1, shutting down", Some(CredentialEvent::HolderStopped)),
        ("[alert] 9#0: worker process 12 exited on signal 9", Some(CredentialEvent::HolderStopped)),
        ("[notice] 9#0: worker process 12 exited with code 0", None),
        ("[notice] 9#0: signal 17 (SIGCHLD) received from 12", None),
        ("[notice] 9#0: signal 10 (SIGUSR1) received from 12, reopening logs", None),
    ] {
        let (outcome, fact) = read_in(None, format!("2026/11/23 06:38:54 {line}").as_bytes());
        let read = fact.map(|fact| match fact {
            Fact::Credential(credential) => credential.event,
            other => panic!("{other:?}"),
        });
        assert_eq!(read, event, "{line}");
        assert_eq!(outcome, if event.is_some() { Outcome::Understood } else { Outcome::Passed });
    }
}

#[test]
fn times_take_the_best_clock() {
    let line = "2026/11/23 12:11:17 [info] 1#0: *1 handshake rejected while SSL handshaking, client: a, server: b";
    let when = |zone, line: &str| match read_in(zone, line.as_bytes()).1 {
        Some(Fact::Handshake(handshake)) => handshake.occurred,
        other => panic!("{other:?}"),
    };
    let at = |text| Time::parse(text).unwrap();
    assert_eq!(when(Some("Asia/Kolkata"), line), When::second(at("2026-11-23T06:41:17Z")));
    let cri = format!("2026-11-23T06:41:17.250Z stderr F {line}");
    assert_eq!(when(Some("Asia/Kolkata"), &cri), When::exact(at("2026-11-23T06:41:17.250Z")));
    let stern = format!("pod-1 controller 2026-11-23T08:41:17.250+02:00 {line}");
    assert_eq!(when(None, &stern), When::exact(at("2026-11-23T06:41:17.250Z")));
    let syslog = format!("<190>Nov 23 12:11:17 vm nginx_mesh: {line}");
    assert_eq!(when(Some("Asia/Kolkata"), &syslog), When::second(at("2026-11-23T06:41:17Z")));
    let excerpt = &line[20..];
    assert_eq!(when(None, excerpt).zone, Grade::Unknown);

    // Berlin set its clocks back from 03:00 to 02:00 on 2026-10-25: half past two happened twice.
    let autumn = line.replace("2026/11/23 12:11:17", "2026/10/25 02:30:00");
    let twice = When { at: at("2026-10-25T00:30:00Z"), within_ms: 3_601_000, zone: Grade::Asserted };
    assert_eq!(when(Some("Europe/Berlin"), &autumn), twice);
    // In spring 02:30 did not happen.
    let spring = line.replace("2026/11/23 12:11:17", "2026/03/29 02:30:00");
    let never = When { at: at("2026-03-29T01:30:00Z"), within_ms: 1000, zone: Grade::Inferred };
    assert_eq!(when(Some("Europe/Berlin"), &spring), never);
}

#[test]
fn other_programs_lines_are_opaque() {
    for line in [
        "",
        "hello",
        "2026/11/23 06:38:54 Reloading nginx",
        "2026/13/23 06:38:54 [info] 1#0: x",
        "[info] x",
        "[blah] 1#1: x",
    ] {
        assert!(matches!(read_in(None, line.as_bytes()).0, Outcome::Opaque(..)), "{line}");
    }
}
