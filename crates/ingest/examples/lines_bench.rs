//! How fast lines are read: `cargo run --release -p ingest --example lines_bench [SECONDS [WORD]]`; with a word only the
//! rows that have it in their name (for a profiler).
//!
//! Each row reads the same generated lines again and again for about a second, and shows the fastest round, because
//! other programs disturb the slower ones. Beside our parsers stand a plain scan for line feeds (what the memory
//! allows) and `serde_json::Value` (what the obvious way costs), in the same run.

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use ingest::{
    Context,
    lines::{Format, Framed, Seen, Start, take},
    nginx_access::{AccessFormat, Fold},
    nginx_error,
    persons::Persons,
    redact::Redactor,
    spire,
};
use model::{
    SourceId, Time,
    identity::{Declared, SourceKind},
};

/// Bytes of generated lines per format: one append at its longest.
const BYTES: usize = 4 << 20;

fn main() {
    let seconds = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let source =
        SourceId { cluster: "c".into(), kind: SourceKind::NginxAccess, name: "bench".into(), instance: String::new() };
    let declared = Declared::default();
    let persons = Persons::new([1; 32]);
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let redactor = Redactor::new(&[2; 32]);
    let budget = Duration::from_secs_f64(seconds);

    println!("{:<46}{:>14}{:>10}", "", "lines/s", "GB/s");
    let json = generate(access_json);
    let combined = generate(access_combined);
    let error = generate(error_line);
    let agent = generate(spire_line);
    let start = Start::File { fingerprint: "f".into(), offset: 0 };

    row("JSON access: line feeds only", &json, budget, |bytes| memchr::memchr_iter(b'\n', bytes).count());
    row("JSON access: serde_json::Value", &json, budget, |bytes| {
        lines(bytes).filter(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()).count()
    });
    row("JSON access: fold", &json, budget, |bytes| fold(bytes, &context));
    row("JSON access: redact", &json, budget, |bytes| redactor.redact(bytes).0.len());
    let format = Format::NginxAccess(AccessFormat::auto());
    row("JSON access: take (redact, fold, account)", &json, budget, |bytes| {
        take(&format, &context, &redactor, bytes, &start, None).drafts.len()
    });
    row("combined access: fold", &combined, budget, |bytes| fold(bytes, &context));
    row("combined access: redact", &combined, budget, |bytes| redactor.redact(bytes).0.len());
    row("combined access: take", &combined, budget, |bytes| {
        take(&format, &context, &redactor, bytes, &start, None).drafts.len()
    });
    row("error, every third line a handshake: parse", &error, budget, |bytes| {
        let (mut seen, mut out) = (Seen::default(), Vec::new());
        lines(bytes).for_each(|line| drop(nginx_error::parse(&Framed::read(line), &context, &mut seen, &mut out)));
        out.len()
    });
    row("error: redact", &error, budget, |bytes| redactor.redact(bytes).0.len());
    row("SPIRE JSON, mostly polls: parse", &agent, budget, |bytes| {
        let (mut seen, mut out) = (Seen::default(), Vec::new());
        lines(bytes).for_each(|line| drop(spire::parse(&Framed::read(line), &context, &mut seen, &mut out)));
        out.len()
    });
    // What a client could post to make us work: many lines that nobody knows.
    let unknown = b"x\n".repeat(1 << 20);
    for (name, format) in [
        ("unknown lines as nginx-error: take", Format::NginxError),
        ("unknown lines as nginx-access: take", Format::NginxAccess(AccessFormat::auto())),
        ("unknown lines as spire: take", Format::Spire),
    ] {
        row(name, &unknown, budget, |bytes| take(&format, &context, &redactor, bytes, &start, None).drafts.len());
    }
    row("error, every third line a handshake: take", &error, budget, |bytes| {
        take(&Format::NginxError, &context, &redactor, bytes, &start, None).drafts.len()
    });
}

fn fold(bytes: &[u8], context: &Context<'_>) -> usize {
    let (mut fold, mut seen) = (Fold::new(AccessFormat::auto()), Seen::default());
    for (number, line) in (0..).zip(lines(bytes)) {
        fold.line(number, &Framed::read(line), context, &mut seen);
    }
    fold.finish().len()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', bytes).map(move |end| {
        let line = &bytes[begin..end];
        begin = end + 1;
        line
    })
}

fn row(name: &str, bytes: &[u8], budget: Duration, mut work: impl FnMut(&[u8]) -> usize) {
    if env::args().nth(2).is_some_and(|word| !name.contains(&word)) {
        return;
    }
    let count = memchr::memchr_iter(b'\n', bytes).count();
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    while begun.elapsed() < budget {
        let round = Instant::now();
        black_box(work(black_box(bytes)));
        best = best.min(round.elapsed());
    }
    let each = best.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a few million lines")]
    let (lines, bytes) = (count as f64, bytes.len() as f64);
    println!("{name:<46}{:>14.0}{:>10.2}", lines / each, bytes / each / 1e9);
}

fn generate(line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES + 1024);
    let mut n = 0;
    while bytes.len() < BYTES {
        bytes.extend_from_slice(line(n).as_bytes());
        bytes.push(b'\n');
        n += 1;
    }
    bytes
}

/// Our recommended format: twenty callers, four servers, some failures.
fn access_json(n: usize) -> String {
    let (caller, status) = (mixed(n) % 20, if n.is_multiple_of(50) { 502 } else { 200 });
    format!(
        r#"{{"msec":"17954159{:02}.{:03}","pod":"ledger-7c8f6d9b5-kk7zp","dir":"in","remote_addr":"10.0.3.{caller}","server_name":"s{}.prod.svc","status":"{status}","upstream_addr":"127.0.0.1:8080","upstream_status":"{status}","request_time":"0.003","request_id":"bdc8dbdf5ecb32f8aa680dc0{n:08x}","connection":"{n}","connection_requests":"3","ssl_protocol":"TLSv1.3","ssl_session_reused":".","ssl_server_name":"s.prod.svc","ssl_client_verify":"SUCCESS","ssl_client_serial":"149FB0D04DC133357BD9AB5EABD6C5{caller:02X}","ssl_client_v_start":"Nov 23 14:58:36 2026 GMT","ssl_client_v_end":"Nov 23 15:59:46 2026 GMT","ssl_client_s_dn":"CN=c{caller}.shop.svc,O=SPIRE,C=US","ssl_client_i_dn":"serialNumber=240648099142818382953686348877100315397,O=SPIFFE,C=US","ssl_client_escaped_cert":""}}"#,
        n / 1000 % 60 + 20,
        n % 1000,
        n % 4
    )
}

/// A number without an order: who calls next cannot be foretold.
const fn mixed(n: usize) -> usize {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) & 0xFFFF
}

fn access_combined(n: usize) -> String {
    format!(
        r#"10.0.3.{} - - [23/Nov/2026:06:38:{:02} +0000] "GET /catalogue/items/{n}?page=2&sort=price HTTP/1.1" {} 8812 "https://shop.example/catalogue" "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0""#,
        mixed(n) % 20,
        n / 1000 % 60,
        if n.is_multiple_of(50) { 502 } else { 200 }
    )
}

fn error_line(n: usize) -> String {
    if n.is_multiple_of(3) {
        format!(
            r#"2026/11/23 06:38:54 [error] 1453#0: *{n} upstream SSL certificate verify error: (10:certificate has expired) while SSL handshaking to upstream, client: 10.0.3.{}, server: cafe.example.com, request: "GET /pay HTTP/1.1", upstream: "https://127.0.0.1:18502/pay", host: "cafe.example.com""#,
            n % 200
        )
    } else {
        format!("2026/11/23 06:38:54 [info] 1453#0: *{n} client 10.0.3.{} closed keepalive connection", n % 200)
    }
}

fn spire_line(n: usize) -> String {
    let (msg, method) =
        if n.is_multiple_of(10) { ("Signed X509 SVID", "BatchNewX509SVID") } else { ("API accessed", "GetBundle") };
    format!(
        r#"{{"authorized_as":"agent","authorized_via":"datastore","caller_addr":"127.0.0.1:55526","caller_id":"spiffe://example.org/spire/agent/k8s_psat/c/{n}","expiration":"2026-11-23T15:17:50Z","level":"info","method":"{method}","msg":"{msg}","request_id":"7200c25d-4791-4b9c-a34b-{n:012x}","serial_num":"18771503396829118256055557720416561843","service":"svid.v1.SVID","spiffe_id":"spiffe://example.org/ns/shop/sa/gateway","status":"success","subsystem_name":"api","time":"2026-11-23T15:16:50.207775353Z","type":"audit"}}"#
    )
}
