//! `counterfoil why`: the cause, what speaks for it, what was ruled out, what is missing.

use std::fmt::Write as _;

use model::{
    Record,
    record::{Detail, Endpoint, Evidence, HandshakeDetail, LinkKind, Role, State},
};

use super::{BAD, FAINT, STRONG, UNSURE, clock, footer, moment, paint, safe, span, standing};
use crate::answer::WhyAnswer;

/// Most failures that are printed in full.
const MOST: usize = 6;

/// The whole answer.
pub fn text(answer: &WhyAnswer) -> String {
    let mut out = String::new();
    if answer.failures.is_empty() {
        let _ = writeln!(out, "no failed handshake of {} is known", safe(&answer.what, 120));
        if answer.blind.is_empty() {
            let _ = writeln!(
                out,
                "{}",
                paint(UNSURE, "that is no proof of none: `counterfoil doctor` says who could have shown one")
            );
        }
    }
    for record in answer.failures.iter().take(MOST) {
        failure(&mut out, record);
    }
    if answer.failures.len() > MOST {
        let _ =
            writeln!(out, "… and {} more: counterfoil search 'type:handshake.failed'", answer.failures.len() - MOST);
    }
    for record in answer.blind.iter().take(MOST) {
        if let Detail::Blind(blind) = &record.detail {
            let _ = writeln!(
                out,
                "{}  {}: {}; {}",
                paint(UNSURE, "NOT OBSERVABLE"),
                safe(&blind.source.to_string(), 80),
                safe(&blind.cannot_show, 160),
                safe(&blind.fix, 120)
            );
        }
    }
    out.push_str(&footer(&answer.through, ""));
    out
}

/// One failure.
pub(super) fn failure(out: &mut String, record: &Record) {
    let Detail::Handshake(detail) = &record.detail else {
        let _ = writeln!(out, "{}", safe(&record.summary, 300));
        return;
    };
    head(out, record, detail);
    if let Some(cause) = &record.cause {
        let mark = paint(standing(cause.standing), format!("[{}]", cause.standing.as_str()));
        let _ = writeln!(out, "{}  {}  {mark}", paint(STRONG, "CAUSE"), paint(STRONG, cause.word));
        let _ = writeln!(out, "       {}", safe(&record.summary, 400));
    }
    evidence(out, &record.evidence);
    let ruled_out = record.cause.iter().flat_map(|cause| &cause.ruled_out);
    section(
        out,
        "RULED OUT",
        ruled_out.map(|r| {
            let entries = refer(&r.entries, 3);
            format!("{}: {}{entries}", r.cause, safe(&r.why, 200))
        }),
    );
    section(out, "MISSING", record.missing.iter().map(|m| format!("{}: {}", safe(&m.source, 100), safe(&m.what, 200))));
    for (label, end) in [("FROM", &detail.from), ("TO", &detail.to)] {
        if let Some(line) = endpoint(end) {
            let _ = writeln!(out, "  {label:<9}{line}");
        }
    }
    links(out, record);
    let without = match &record.state {
        State::Settled { without } if !without.is_empty() => format!(" without {}", without.join(", ")),
        State::Withdrawn { by } => format!(" in favour of {by}"),
        _ => String::new(),
    };
    let tainted = if detail.tainted { " · some fields may be forged by a client" } else { "" };
    let _ = writeln!(
        out,
        "{}\n",
        paint(
            FAINT,
            format!(
                "  {}{without} · record {}/{} r{}{tainted}",
                record.state.as_str(),
                record.kind,
                record.id,
                record.revision
            )
        )
    );
}

fn head(out: &mut String, record: &Record, detail: &HandshakeDetail) {
    let stream = if detail.stream { " (stream)" } else { "" };
    let code = match (detail.verify_code, detail.alert) {
        (Some(code), _) => format!(" (verify code {code})"),
        (None, Some(alert)) => format!(" (alert {alert})"),
        (None, None) => String::new(),
    };
    let _ = writeln!(
        out,
        "{} -> {}{stream}   {}{code} x{}   {} .. {} ({})   seen by {}",
        paint(STRONG, safe(&detail.from.name, 80)),
        paint(STRONG, safe(&detail.to.name, 80)),
        paint(BAD, safe(&detail.failure, 40)),
        record.count,
        moment(record.from),
        clock(record.to),
        span(record.to - record.from),
        safe(&detail.source.to_string(), 80),
    );
}

fn evidence(out: &mut String, evidence: &[Evidence]) {
    const PART: usize = 8;
    for (role, label) in [(Role::Supports, ""), (Role::Contradicts, "AGAINST  "), (Role::Context, "CONTEXT  ")] {
        let of_role: Vec<_> = evidence.iter().filter(|e| e.role == role).collect();
        for e in of_role.iter().take(PART) {
            let times = e.times.map(|n| format!("  x{n}")).unwrap_or_default();
            let _ = writeln!(out, "  {label}{} #{:<6} {}{times}", clock(e.at), e.entry, safe(&e.says, 160));
        }
        if of_role.len() > PART {
            let _ = writeln!(out, "  {label}… {} more", of_role.len() - PART);
        }
    }
}

fn section(out: &mut String, label: &str, lines: impl Iterator<Item = String>) {
    for (n, line) in lines.enumerate() {
        let label = if n == 0 { label } else { "" };
        let _ = writeln!(out, "{label:<11}{line}");
    }
}

fn endpoint(end: &Endpoint) -> Option<String> {
    if end.spiffe_id.is_none() && end.pod.is_none() && end.by.is_empty() {
        return None;
    }
    let mut line = String::new();
    for part in [end.spiffe_id.as_ref(), end.pod.as_ref(), end.address.as_ref()].into_iter().flatten() {
        let _ = write!(line, "{}  ", safe(part, 120));
    }
    if let Some(node) = &end.node {
        let _ = write!(line, "on {}  ", safe(node, 60));
    }
    let _ = write!(line, "{} by {}", end.grade, safe(&end.by, 80));
    Some(line)
}

/// ` #12 #15`: the first entries of a list.
fn refer(entries: &[u64], most: usize) -> String {
    entries.iter().take(most).fold(String::new(), |mut text, entry| {
        let _ = write!(text, " #{entry}"); // writing to a String cannot fail
        text
    })
}

/// Links with their grades; what is not linked says why.
pub(super) fn links(out: &mut String, record: &Record) {
    for link in &record.links {
        let label = match link.what {
            LinkKind::Run => "RUN",
            LinkKind::Commit => "COMMIT",
            LinkKind::FixedBy => "FIXED BY",
            LinkKind::Identity => "IDENTITY",
        };
        let entries = refer(&link.entries, 4);
        let line = match (&link.target, link.candidates) {
            (Some(target), _) => format!("{}  {} via {}{entries}", safe(target, 160), link.grade, safe(&link.via, 160)),
            (None, Some(n)) => format!("candidates: {n}{entries}"),
            (None, None) => format!("not linked (missing: {})", safe(&link.missing.join("; "), 300)),
        };
        let _ = writeln!(out, "  {label:<9}{line}");
    }
}
