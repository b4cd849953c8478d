//! Reads files as `serve` would and prints what became of their lines: for looking at a new source.
//! `cargo run -p ingest --example lines_read -- FILE…`

use std::{collections::BTreeMap, env, fs};

use ingest::{
    Context,
    lines::{Format, Start, take},
    persons::Persons,
    redact::Redactor,
};
use model::{
    Fact, SourceId, Time,
    identity::{Declared, SourceKind},
};

fn main() {
    let redactor = Redactor::new(&[1; 32]);
    let persons = Persons::new([2; 32]);
    let declared = Declared::default();
    for path in env::args().skip(1) {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{path}: {error}");
                continue;
            }
        };
        let Some(format) = Format::detect(&bytes) else {
            println!("{path}: no format");
            continue;
        };
        let name = path.clone();
        let source = SourceId { cluster: "default".into(), kind: SourceKind::Unknown, name, instance: String::new() };
        let observed_at = Time::from_seconds(1_800_000_000);
        let context =
            Context { source: &source, declared: &declared, zone: chrono_tz::UTC, observed_at, persons: &persons };
        let start = Start::File { fingerprint: "f".into(), offset: 0 };
        let taken = take(&format, &context, &redactor, &bytes, &start, None);
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        for draft in &taken.drafts {
            let kind = match &draft.fact {
                Fact::Handshake(handshake) => format!("handshake {}", handshake.failure.as_str()),
                Fact::Credential(credential) => format!(
                    "credential {} {}",
                    credential.event.as_str(),
                    credential.trouble.map_or("", model::credential::Trouble::as_str)
                ),
                Fact::Edges(edges) => format!("edges of {} rows", edges.rows.len()),
                Fact::Import(import) => {
                    println!("{path}: {} {}", format.kind(), serde_json::to_string(import).unwrap_or_default());
                    continue;
                }
                Fact::Opaque(opaque) => format!("opaque {} {}", opaque.reason, opaque.detail),
                other => other.kind().to_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        for (kind, n) in kinds {
            println!("  {n:6} {kind}");
        }
        for redacted in &taken.redacted {
            println!("  {:6} redacted {}", redacted.n, redacted.rule);
        }
    }
}
