//! `counterfoil doctor` as a table.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

use super::{BAD, UNSURE, footer, paint, safe, span};
use crate::{answer::DoctorAnswer, publish::outside::Witnessing};

/// The line of the self-check.
fn selfcheck(answer: &DoctorAnswer) -> String {
    let Some(state) = &answer.selfcheck else { return "self-check: not made yet\n".into() };
    let when = match (state.running, state.ended) {
        (true, _) => format!("round {} at #{} of {}", state.rounds + 1, state.next, state.size),
        (false, Some(ended)) => format!("round {} ended {} ago", state.rounds, span(answer.through.asked_at - ended)),
        (false, None) => "stopped".into(),
    };
    let read = format!("{} entries, {} payloads read again", state.entries, state.payloads);
    match &state.first_damage {
        None => format!("self-check: {when} · {read}, as they were signed\n"),
        Some(first) => {
            let file = safe(&first.file.display().to_string(), 120);
            let damage = format!(
                "DAMAGED: {}, the first #{} in {file}: {}",
                state.damaged,
                first.entry,
                safe(&first.detail, 200)
            );
            format!("self-check: {when} · {read}\n{}\n", paint(BAD, damage))
        }
    }
}

/// The table, the ledger's line and the footer.
pub fn text(answer: &DoctorAnswer) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "SOURCE",
        "HEARD",
        "COMPLETE TO",
        "ENTRIES",
        "CAN SHOW",
        "CANNOT, AND THE ONE LINE THAT CHANGES IT",
    ]);
    for line in &answer.sources {
        let cannot: Vec<_> = line
            .cannot_show
            .iter()
            .map(|blind| format!("{}  {}", safe(&blind.what, 100), safe(&blind.fix, 100)))
            .collect();
        let opaque = if line.opaque > 0 { format!(" ({} not understood)", line.opaque) } else { String::new() };
        table.add_row([
            safe(&line.source.to_string(), 60),
            span(answer.through.asked_at - line.last_observed),
            line.complete_to.map_or_else(|| "nobody vouches".into(), super::moment),
            format!("{}{opaque}", line.entries),
            line.can_show.join(", "),
            if cannot.is_empty() { "-".into() } else { cannot.join("; ") },
        ]);
    }
    let mut out = String::new();
    if answer.sources.is_empty() {
        out.push_str("no source has sent anything yet: README, \"Point Tekton at it\" and \"Point NGINX at it\"\n");
    } else {
        out.push_str(&table.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>());
    }
    let disk = answer.free_bytes.map_or_else(|| "disk: unknown".into(), |b| format!("{} MiB free", b >> 20));
    let _ = writeln!(
        out,
        "ledger {} · {} entries, {} sealed · index {} behind · {disk}",
        safe(&answer.origin, 80),
        answer.through.ledger,
        answer.sealed,
        answer.through.ledger.saturating_sub(answer.through.entries),
    );
    out.push_str(&selfcheck(answer));
    outside(&mut out, answer);
    if answer.sources.iter().any(|s| s.complete_to.is_none()) {
        out.push_str(&paint(
            UNSURE,
            "sources that nobody vouches for cannot prove absence: say complete_to= when posting, or follow the file",
        ));
        out.push('\n');
    }
    out.push_str(&footer(&answer.through, ""));
    out
}

/// Who else holds what this ledger has signed.
fn outside(out: &mut String, answer: &DoctorAnswer) {
    let line = match &answer.witness {
        Witnessing::NotConfigured => {
            let none = "witness: NONE. Nobody outside holds a checkpoint: who holds the signing key could rewrite all of this.";
            let fix = if answer.published.is_empty() {
                " Configure [witness] or [publish], or keep the output of `counterfoil checkpoint` elsewhere."
            } else {
                " Only the places below hold checkpoints."
            };
            format!("{}{fix}", paint(BAD, none))
        }
        Witnessing::Unknown => {
            paint(UNSURE, "witness: not known. No process serves this folder, or no witness has answered it yet.")
        }
        Witnessing::Witnessed { size } => format!("witness: the quorum of the policy has cosigned {size} entries"),
        Witnessing::Unwitnessed { size, since } => {
            let size = size.map_or_else(|| "none".to_owned(), |size| size.to_string());
            let span = span(answer.through.asked_at - *since);
            paint(BAD, format!("witness: UNWITNESSED since {since} ({span}); entries with the quorum: {size}"))
        }
    };
    let _ = writeln!(out, "{line}");
    for place in &answer.published {
        let size = place.size.map_or_else(|| "none".to_owned(), |size| size.to_string());
        let late = match place.since {
            Some(since) if place.behind => paint(BAD, format!(", BEHIND since {since}")),
            _ => String::new(),
        };
        let trouble = place.trouble.as_ref().map(|text| format!(": {}", safe(text, 200))).unwrap_or_default();
        let _ = writeln!(out, "{} {}: {size} entries{late}{trouble}", place.kind.as_str(), safe(&place.name, 60));
    }
}
