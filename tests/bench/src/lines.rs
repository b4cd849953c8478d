//! Lines of NGINX to facts, beside the crate `vrl` on the same lines.
//!
//! Equal fields: VRL's program parses the line, and so its result holds what we read: caller, time, answer and (JSON) the
//! TLS values, of the error log level, process, connection, message, client, server and upstream. We also cut secrets out,
//! fold the lines into rows and account for each of them; VRL only parses. VRL's own function is what its users call; beside
//! it stands, as a further row, a regular expression for no more than our fields of a combined line.

use std::{collections::BTreeMap, fmt::Write as _};

use ingest::{
    Context,
    lines::{Format, Framed, Seen, Start, take},
    nginx_access::{AccessFormat, Fold},
    persons::Persons,
    redact::Redactor,
};
use model::{
    SourceId, Time,
    identity::{Declared, SourceKind},
};
use vrl::{
    compiler::{Context as VrlContext, Program, TargetValue, TimeZone, state::RuntimeState},
    value::{Secrets, Value},
};

use crate::{Clock, Table};

const BYTES: usize = 1 << 20;
const ROUNDS: usize = 9;

/// Caller, time and answer of a combined line.
const OUR_FIELDS: &str = r#"
. = parse_regex!(string!(.message), r'^(?P<client>\S+) - [^\[]+ \[(?P<time>[^\]]+)\] "[^"]*" (?P<status>\d+) \d+ "[^"]*" "[^"]*"$')
.time = parse_timestamp!(.time, "%d/%b/%Y:%T %z")
.status = to_int!(.status)
"#;

pub fn run() {
    let source =
        SourceId { cluster: "c".into(), kind: SourceKind::Unknown, name: "bench".into(), instance: String::new() };
    let (declared, persons) = (Declared::default(), Persons::new([1; 32]));
    let observed_at = Time::from_seconds(1_800_000_000);
    let context =
        Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
    let redactor = Redactor::new(&[2; 32]);
    let start = Start::File { fingerprint: "f".into(), offset: 0 };
    let access = || Format::NginxAccess(AccessFormat::auto());
    for (name, program, format, line) in [
        (
            "combined",
            r#". = parse_nginx_log!(string!(.message), format: "combined")"#,
            access(),
            combined as fn(&mut String, usize),
        ),
        ("error", r#". = parse_nginx_log!(string!(.message), format: "error")"#, Format::NginxError, error),
        ("JSON", r". = parse_json!(string!(.message))", access(), json),
    ] {
        let text = generate(line);
        let lines: Vec<&str> = text.lines().collect();
        let compile = |text: &str| vrl::compiler::compile(text, &vrl::stdlib::all()).expect("it compiles").program;
        let program = compile(program);
        // VRL keeps its copy of the line in the event, as Vector hands it over.
        let events: Vec<Value> = lines.iter().map(|line| event(line)).collect();
        assert!(events.iter().all(|event| resolve(&program, event)), "VRL reads every line");
        let taken = take(&format, &context, &redactor, text.as_bytes(), &start, None);
        let model::Fact::Import(import) = &taken.drafts[0].fact else { unreachable!("the account comes first") };
        assert_eq!((import.lines, import.opaque), (lines.len() as u64, 0), "we read every line");

        let vrl = format!("{name}: vrl");
        let ours = format!("{name}: redacted, read, accounted for");
        let fold = format!("{name}: read and folded only");
        let regex = format!("{name}: vrl, a regular expression for our fields");
        let mut works: Vec<crate::Work<'_>> = vec![
            (&vrl, Box::new(|| assert!(events.iter().all(|event| resolve(&program, event))))),
            (
                &ours,
                Box::new(|| {
                    std::hint::black_box(take(&format, &context, &redactor, text.as_bytes(), &start, None));
                }),
            ),
        ];
        if matches!(format, Format::NginxAccess(_)) {
            works.push((
                &fold,
                Box::new(|| {
                    let (mut fold, mut seen) = (Fold::new(AccessFormat::auto()), Seen::default());
                    for (number, line) in (0..).zip(&lines) {
                        fold.line(number, &Framed::read(line.as_bytes()), &context, &mut seen);
                    }
                    std::hint::black_box(fold.finish());
                }),
            ));
        }
        if name == "combined" {
            let program = compile(OUR_FIELDS);
            let events = &events;
            let work = move || assert!(events.iter().all(|event| resolve(&program, event)), "VRL reads every line");
            works.push((&regex, Box::new(work)));
        }
        Table { bytes: text.len(), items: lines.len(), rounds: ROUNDS, clock: Clock::Thread }
            .print(Some(20.0), &mut works);
    }
    println!("  goal on text lines besides: 1.5 GB/s on one core");
}

fn event(line: &str) -> Value {
    Value::Object(BTreeMap::from([("message".into(), Value::from(line))]))
}

/// Runs a program over an event; whether it made one.
fn resolve(program: &Program, event: &Value) -> bool {
    let metadata = Value::Object(BTreeMap::new());
    let mut target = TargetValue { value: event.clone(), metadata, secrets: Secrets::default() };
    let (mut state, zone) = (RuntimeState::default(), TimeZone::default());
    let mut context = VrlContext::new(&mut target, &mut state, &zone);
    program.resolve(&mut context).is_ok()
}

fn generate(line: fn(&mut String, usize)) -> String {
    let mut text = String::with_capacity(BYTES + 1024);
    for n in 0.. {
        if text.len() >= BYTES {
            break;
        }
        line(&mut text, n);
        text.push('\n');
    }
    text
}

/// A number without an order: who calls next cannot be foretold.
const fn mixed(n: usize) -> usize {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) & 0xFFFF
}

/// Twenty callers; a browser's name and a page before, as such lines have.
fn combined(text: &mut String, n: usize) {
    let status = if n.is_multiple_of(50) { 502 } else { 200 };
    let _ = write!(
        text,
        r#"10.0.3.{} - - [23/Nov/2026:06:38:{:02} +0000] "GET /catalogue/items/{n}?page=2&sort=price HTTP/1.1" {status} 8812 "https://shop.example/catalogue" "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0""#,
        mixed(n) % 20,
        n / 1000 % 60
    );
}

/// Every third line a failed handshake.
fn error(text: &mut String, n: usize) {
    let caller = mixed(n) % 200;
    let _ = if n.is_multiple_of(3) {
        write!(
            text,
            r#"2026/11/23 06:38:54 [error] 1453#0: *{n} upstream SSL certificate verify error: (10:certificate has expired) while SSL handshaking to upstream, client: 10.0.3.{caller}, server: cafe.example.com, request: "GET /pay HTTP/1.1", upstream: "https://127.0.0.1:18502/pay", host: "cafe.example.com""#
        )
    } else {
        write!(
            text,
            r#"2026/11/23 06:38:54 [error] 1453#0: *{n} open() "/var/www/items/{n}.png" failed (2: No such file or directory), client: 10.0.3.{caller}, server: cafe.example.com, request: "GET /items/{n}.png HTTP/1.1", host: "cafe.example.com""#
        )
    };
}

/// Our recommended format.
fn json(text: &mut String, n: usize) {
    let (caller, status) = (mixed(n) % 20, if n.is_multiple_of(50) { 502 } else { 200 });
    let _ = write!(
        text,
        r#"{{"msec":"17954159{:02}.{:03}","pod":"ledger-7c8f6d9b5-kk7zp","dir":"in","remote_addr":"10.0.3.{caller}","server_name":"s{}.prod.svc","status":"{status}","upstream_addr":"127.0.0.1:8080","upstream_status":"{status}","request_time":"0.003","request_id":"bdc8dbdf5ecb32f8aa680dc0{n:08x}","connection":"{n}","connection_requests":"3","ssl_protocol":"TLSv1.3","ssl_session_reused":".","ssl_server_name":"s.prod.svc","ssl_client_verify":"SUCCESS","ssl_client_serial":"149FB0D04DC133357BD9AB5EABD6C5{caller:02X}","ssl_client_v_start":"Nov 23 14:58:36 2026 GMT","ssl_client_v_end":"Nov 23 15:59:46 2026 GMT","ssl_client_s_dn":"CN=c{caller}.shop.svc,O=SPIRE,C=US","ssl_client_i_dn":"serialNumber=240648099142818382953686348877100315397,O=SPIFFE,C=US","ssl_client_escaped_cert":""}}"#,
        n / 1000 % 60 + 20,
        n % 1000,
        n % 4
    );
}
