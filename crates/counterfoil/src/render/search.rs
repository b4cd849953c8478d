//! `counterfoil search` as a table.

use comfy_table::{ContentArrangement, Table, presets};
use model::{
    Record,
    record::{Detail, LinkKind},
};

use super::{footer, moment, safe, short, span};
use crate::answer::{Found, SearchAnswer};

/// The table and its footer.
pub fn text(answer: &SearchAnswer) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["LAST SEEN", "FOR", "TYPE", "WHAT", "N", "CAUSE", "STANDING", "RUN", "ID"]);
    let (mut records, mut entries) = (0u64, 0u64);
    for hit in &answer.hits {
        match hit {
            Found::Record(record) => {
                records += 1;
                table.add_row(row(record));
            }
            Found::Entry(entry) => {
                entries += 1;
                table.add_row([
                    moment(entry.time),
                    String::new(),
                    format!("entry.{}", entry.kind),
                    safe(&entry.summary, 100),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                    format!("#{}", entry.index),
                ]);
            }
        }
    }
    let mut out = String::new();
    if answer.hits.is_empty() {
        out.push_str("nothing found\n");
    } else {
        out.push_str(&table.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>());
    }
    let shown = match (records, entries) {
        (r, 0) => format!("{r} of {} found", answer.total),
        (r, e) => format!("{r} records and {e} entries of {} found", answer.total),
    };
    let mut more = format!("{shown} in {:.1} ms", answer.took_ms);
    if let Some(next) = &answer.next {
        more = format!("{more} · next page: --after {next}");
    }
    out.push_str(&footer(&answer.through, &more));
    out
}

fn row(record: &Record) -> [String; 9] {
    let (cause, standing) = record
        .cause
        .as_ref()
        .map_or((String::new(), String::new()), |cause| (cause.word.to_string(), cause.standing.as_str().to_owned()));
    let run = record.links.iter().find(|link| link.what == LinkKind::Run);
    let run = run.and_then(|link| {
        let mark = if link.grade == model::Grade::Authenticated { "" } else { " ~" };
        link.target.as_ref().map(|target| format!("{target}{mark}"))
    });
    [
        moment(record.to),
        if record.to > record.from { span(record.to - record.from) } else { "-".into() },
        record.kind.to_string(),
        what(record),
        record.count.to_string(),
        cause,
        standing,
        run.unwrap_or_else(|| "-".into()),
        short(&record.id).to_owned(),
    ]
}

/// What a record is about, in few words.
pub(super) fn what(record: &Record) -> String {
    match &record.detail {
        Detail::Handshake(d) => {
            let stream = if d.stream { " (stream)" } else { "" };
            format!("{} -> {}{stream}", safe(&d.from.name, 60), safe(&d.to.name, 60))
        }
        Detail::Run(d) => {
            format!("{} {}/{} {}", d.kind.as_str(), safe(&d.namespace, 60), safe(&d.name, 80), safe(&d.reason, 40))
        }
        Detail::Credential(d) if d.spiffe_id.is_empty() => safe(&d.source.to_string(), 80),
        Detail::Credential(d) => safe(&d.spiffe_id, 120),
        Detail::Blind(d) => format!("{}: NOT OBSERVABLE", safe(&d.source.to_string(), 80)),
        Detail::Late(d) => format!("{} {}", safe(&d.source.to_string(), 80), safe(&d.fact, 20)),
    }
}
