//! How long a storm takes to fold: many clients, each refused with an error line and a 400 in the access log.
//!
//! `cargo run --release -p correlator --example storm` prints entries, seconds and records per number of clients. The
//! time should grow as the number of clients does.

use std::time::Instant;

use correlator::{Config, Correlator};
use model::{
    Body, Entry, Fact, SourceId, Text, Time, When,
    edges::{Answer, Direction, EdgeRow, Edges, TlsSeen},
    entry::{Place, Stamp},
    handshake::{Failure, Handshake, Layer, Side},
    identity::{DEFAULT_CLUSTER, Declared, SourceKind, Submitter},
};

fn entry(index: u64, kind: SourceKind, at: Time, fact: Fact) -> Entry {
    let source = SourceId { cluster: DEFAULT_CLUSTER.into(), kind, name: "ledger".into(), instance: String::new() };
    Entry {
        index,
        stamp: Stamp { recorded_at: at, tick: index * 10, append: index, part: [1, 1] },
        body: Body {
            v: Body::VERSION,
            source,
            declared: Declared::default(),
            parser: "storm/1".into(),
            observed_at: at,
            submitter: Submitter::Local,
            place: Some(Place::Post { post: "storm".into(), line: index }),
            payload: None,
            pruned: None,
            redacted: Vec::new(),
            cut: Vec::new(),
            fact,
        },
    }
}

fn line(client: &str, at: Time) -> Fact {
    Fact::Handshake(Handshake {
        occurred: When::second(at),
        side: Side::Server,
        layer: Layer::Http,
        failure: Failure::NoCertificate,
        verify_code: None,
        reason: None,
        alert: None,
        alert_disputed: false,
        expected_name: None,
        client: Some(client.into()),
        server: Some("ledger.payments.svc.cluster.local".into()),
        upstream: None,
        message: Text::from("client sent no required SSL certificate while reading client request headers"),
        pid: 7,
        connection: None,
        tainted: false,
        truncated: false,
        count: 1,
    })
}

fn row(client: &str, at: Time) -> Fact {
    let tls = TlsSeen { verify: Some("NONE".into()), ..TlsSeen::default() };
    let answer = Answer { status: 400, upstream: None, n: 1, first: at, last: at };
    Fact::Edges(Edges {
        rows: vec![EdgeRow {
            minute: at.minute(),
            direction: Direction::In,
            peer: client.into(),
            server_name: Some("ledger.payments.svc.cluster.local".into()),
            upstream_name: None,
            pod: None,
            stream: false,
            tls: Some(tls),
            requests: 1,
            answers: vec![answer],
            resumed: 0,
            kept_alive: 0,
            after_expiry: 0,
            empty: 0,
            first: at,
            last: at,
        }],
    })
}

/// Two entries for each client, ten clients in each second.
fn storm(clients: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut index = 0;
    for n in 0..clients {
        let at = Time::from_seconds(1_780_000_000 + i64::from(n) / 10);
        let client = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        for (kind, fact) in [(SourceKind::NginxError, line(&client, at)), (SourceKind::NginxAccess, row(&client, at))] {
            index += 1;
            entries.push(entry(index, kind, at, fact));
        }
    }
    entries
}

fn main() {
    println!("{:>8} {:>8} {:>10} {:>10} {:>8}", "clients", "entries", "ms", "us/entry", "records");
    for clients in [500, 1_000, 2_000, 4_000] {
        let entries = storm(clients);
        let (mut correlator, mut out) = (Correlator::new(Config::default()), Vec::new());
        let begun = Instant::now();
        for entry in &entries {
            correlator.apply(entry, &mut out);
        }
        let took = begun.elapsed();
        let each = took.as_micros() / entries.len().max(1) as u128;
        println!("{clients:>8} {:>8} {:>10} {each:>10} {:>8}", entries.len(), took.as_millis(), out.len());
    }
}
