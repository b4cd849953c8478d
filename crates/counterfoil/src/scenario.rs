//! Writing a scenario file: a bug report that replays, without secrets and names of persons.
//!
//! Each entry is a line of JSON as it stands in its leaf, less the commitment to a payload that nobody has; after
//! `--- expect` stands what this version concludes. Whoever disagrees changes an expectation and sends the file.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};
use correlator::Correlator;
use model::{
    Entry, Record,
    record::{Detail, RecordId, RecordKind, State},
};

use crate::log::Log;

/// Entries read at once.
const STEP: usize = 1000;

/// Writes the entries of a ledger as a scenario.
pub fn write(log: &Log) -> Result<String> {
    let mut text = String::from(
        "# Written by `counterfoil explain --as-scenario`. Secrets and persons are replaced; addresses and names of workloads are\n\
         # not: read it before you send it. Put it into tests/scenarios/ and correct what is expected.\n",
    );
    let mut fold = Correlator::new(correlator::Config::default());
    let (mut written, mut latest) = (Vec::new(), BTreeMap::<RecordId, Record>::new());
    let mut next = 0;
    loop {
        let leaves = log.entries(next, STEP).with_context(|| format!("read entries from #{next}"))?;
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves {
            let entry = Entry::from_leaf(next, &leaf).map_err(anyhow::Error::msg)?;
            next += 1;
            fold.apply(&entry, &mut written);
            let mut body = entry.body;
            (body.payload, body.redacted) = (None, Vec::new());
            text.push_str(&serde_json::to_string(&body).context("write a body")?);
            text.push('\n');
        }
        latest.extend(written.drain(..).map(|record| (record.id.clone(), record)));
    }
    text.push_str("--- expect\n");
    for record in latest.values().filter(|record| !matches!(record.state, State::Withdrawn { .. })) {
        expectation(&mut text, record);
    }
    Ok(text)
}

/// One line per failure: what a reader would agree or disagree with.
fn expectation(text: &mut String, record: &Record) {
    let (RecordKind::HandshakeFailed, Detail::Handshake(detail), Some(cause)) =
        (record.kind, &record.detail, &record.cause)
    else {
        return;
    };
    let _ = writeln!(
        text,
        "{} cause={} standing={} from={} to={} n={}",
        record.kind,
        cause.word,
        cause.standing.as_str(),
        quote(&detail.from.name),
        quote(&detail.to.name),
        record.count
    ); // writing to a String cannot fail
}

fn quote(value: &str) -> String {
    if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() }
}
