//! `counterfoil show`: a run with its story, a record, an entry.

use std::{collections::BTreeMap, fmt::Write as _};

use model::{
    Grade, Record,
    identity::Actor,
    record::{Detail, RecordKind, RunDetail},
    run::{ArtifactClaim, CommitClaim, RunKind},
};

use super::{BAD, FAINT, STRONG, UNSURE, clock, footer, moment, paint, safe, span, why};
use crate::answer::{EntryShown, PayloadIs, ShowAnswer};

/// Most records that are printed in full.
const MOST: usize = 4;

/// Most entries that are listed.
const MOST_ENTRIES: usize = 30;

/// The whole answer.
pub fn text(answer: &ShowAnswer) -> String {
    let mut out = String::new();
    let people: BTreeMap<&str, &str> = answer.people.iter().map(|(r, n)| (r.as_str(), n.as_str())).collect();
    if let Some(entry) = &answer.entry {
        shown(&mut out, entry);
    }
    let mut records: Vec<&Record> = answer.records.iter().collect();
    records.sort_by_key(|record| order(record)); // stable: newest first among equals
    let rotations = records.iter().filter(|record| record.kind == RecordKind::CredentialRotated).count();
    if rotations > 1 {
        // The newest one stands for all.
        let mut seen = false;
        records.retain(|record| record.kind != RecordKind::CredentialRotated || !std::mem::replace(&mut seen, true));
        let _ = writeln!(out, "{rotations} renewals in these records; the newest is shown");
    }
    for record in records.iter().take(MOST) {
        match &record.detail {
            Detail::Run(run) => self::run(&mut out, record, run, &people),
            Detail::Handshake(_) => why::failure(&mut out, record),
            _ => other(&mut out, record),
        }
    }
    if answer.records.len() > MOST {
        let _ =
            writeln!(out, "… and {} more records; narrow it with `counterfoil search`", answer.records.len() - MOST);
    }
    if !answer.entries.is_empty() {
        let _ = writeln!(out, "{}", paint(STRONG, "entries"));
        for entry in answer.entries.iter().take(MOST_ENTRIES) {
            let _ = writeln!(
                out,
                "  {} #{:<6} {:<10} {}",
                moment(entry.time),
                entry.index,
                entry.kind,
                safe(&entry.summary, 140)
            );
        }
    }
    if answer.records.is_empty() && answer.entries.is_empty() && answer.entry.is_none() {
        let _ = writeln!(
            out,
            "nothing is known about {} (taken for {})",
            safe(&answer.what, 120),
            safe(&answer.taken_for, 60)
        );
    }
    out.push_str(&footer(&answer.through, ""));
    out
}

/// PipelineRuns before their tasks, failures before renewals.
fn order(record: &Record) -> u8 {
    match &record.detail {
        Detail::Run(run) if run.kind == RunKind::PipelineRun => 0,
        Detail::Handshake(_) => 1,
        Detail::Run(_) => 2,
        _ => 3,
    }
}

fn shown(out: &mut String, entry: &EntryShown) {
    let _ = writeln!(out, "{}  leaf hash {}", paint(STRONG, format!("entry #{}", entry.index)), entry.leaf_hash);
    for (label, value) in [("stamp", &entry.stamp), ("body", &entry.body)] {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        let _ = writeln!(out, "{label}");
        for line in text.lines() {
            let _ = writeln!(out, "  {}", safe(line, 400));
        }
    }
    match &entry.payload {
        None => {
            let words = match (entry.payload_is, entry.pruned_by) {
                (PayloadIs::None, _) => "none".to_owned(),
                (PayloadIs::Kept, _) => paint(UNSURE, "kept; not text, or too long to be shown"),
                (PayloadIs::Pruned, Some(by)) => {
                    paint(UNSURE, format!("pruned by #{by}; the entry still proves what it was"))
                }
                (PayloadIs::Pruned, None) => paint(UNSURE, "pruned"),
                (PayloadIs::Missing, _) => paint(BAD, "MISSING: damage; `counterfoil verify` says more"),
            };
            let _ = writeln!(out, "payload  {words}");
        }
        Some(payload) => {
            let _ = writeln!(out, "payload");
            for line in payload.lines().take(40) {
                let _ = writeln!(out, "  {}", safe(line, 400));
            }
            if payload.lines().count() > 40 {
                let _ = writeln!(out, "  … {} more lines", payload.lines().count() - 40);
            }
        }
    }
}

fn other(out: &mut String, record: &Record) {
    let _ = writeln!(
        out,
        "{}  {}",
        paint(STRONG, format!("{}/{}", record.kind, super::short(&record.id))),
        safe(&record.summary, 300)
    );
    for e in record.evidence.iter().take(12) {
        let _ = writeln!(out, "  {} #{:<6} {}", clock(e.at), e.entry, safe(&e.says, 200));
    }
    for m in &record.missing {
        let _ = writeln!(out, "  {}  {}: {}", paint(UNSURE, "MISSING"), safe(&m.source, 100), safe(&m.what, 200));
    }
    why::links(out, record);
    let _ = writeln!(out, "{}\n", paint(FAINT, format!("  {} · r{}", record.state.as_str(), record.revision)));
}

fn run(out: &mut String, record: &Record, run: &RunDetail, people: &BTreeMap<&str, &str>) {
    let times = match (run.started, run.completed) {
        (Some(from), Some(to)) => format!("{} -> {}", moment(from), clock(to)),
        (Some(from), None) => format!("{} -> no end received", moment(from)),
        (None, _) => "start not recorded".into(),
    };
    let reason =
        if run.state == model::run::RunState::Failed { paint(BAD, &run.reason) } else { safe(&run.reason, 60) };
    let children = match run.children.len() {
        0 => String::new(),
        n => format!("   {} of {n} children ended", n - run.open_children.len().min(n)),
    };
    let title = format!("{} {}/{}", run.kind.as_str(), safe(&run.namespace, 80), safe(&run.name, 120));
    let _ = writeln!(out, "{}   {reason}   {times}{children}   uid {}", paint(STRONG, title), safe(&run.uid, 40));
    if run.state == model::run::RunState::Failed && !run.message.is_empty() {
        let _ = writeln!(out, "message     {}", safe(&run.message, 200));
    }
    started_by(out, run, people);
    let accounts: Vec<_> = run
        .service_accounts
        .iter()
        .map(|a| match &a.task {
            None => format!("{}/{}", run.namespace, a.name),
            Some(task) => format!("task {task}: {}/{}", run.namespace, a.name),
        })
        .collect();
    line(out, "ran as", &safe(&accounts.join("; "), 300), "asserted, run spec in event");
    commits(out, run);
    for artifact in run.artifacts.iter().take(6) {
        let claim = claim(artifact);
        line(out, "artifact", &claim, &format!("{}, {}", artifact.grade, safe(&artifact.source, 80)));
    }
    for skipped in &run.skipped {
        line(out, "skipped", &safe(&skipped.name, 80), &safe(&skipped.reason, 120));
    }
    if let Some(event) = &run.trigger_event {
        line(out, "trigger", &safe(event, 60), "asserted, label");
    }
    why::links(out, record);
    for m in &record.missing {
        let _ = writeln!(out, "{}     {}: {}", paint(UNSURE, "missing"), safe(&m.source, 100), safe(&m.what, 200));
    }
    if !run.open_children.is_empty() {
        let _ = writeln!(out, "{}  {}", paint(UNSURE, "no end from"), safe(&run.open_children.join(", "), 300));
    }
    let first = record.evidence.first().map_or(0, |e| e.entry);
    let last = record.evidence.last().map_or(0, |e| e.entry);
    let _ = writeln!(
        out,
        "{}\n",
        paint(
            FAINT,
            format!(
                "events {} kept, {} repeats · entries #{first}..#{last} · record {}/{} r{} {}",
                record.count,
                run.repeats,
                record.kind,
                super::short(&record.id),
                record.revision,
                record.state.as_str()
            )
        )
    );
}

fn started_by(out: &mut String, run: &RunDetail, people: &BTreeMap<&str, &str>) {
    if run.started_by.is_empty() {
        line(out, "started by", "not recorded", "missing: Kubernetes audit log");
    }
    for claim in &run.started_by {
        let who = actor(&claim.actor, people);
        let style = if claim.grade == Grade::Authenticated { "" } else { " (a claim)" };
        line(
            out,
            "started by",
            &format!("{who}{style}"),
            &format!("{}, {} #{}", claim.grade, safe(&claim.did, 80), claim.entry),
        );
    }
}

fn actor(actor: &Actor, people: &BTreeMap<&str, &str>) -> String {
    match actor {
        Actor::Person { person } => match people.get(person.0.as_str()) {
            Some(name) => safe(name, 120),
            None => format!("{} (name not kept)", person.0),
        },
        Actor::ServiceAccount { namespace, name } => {
            format!("service account {}/{}", safe(namespace, 60), safe(name, 60))
        }
        Actor::Node { name } => format!("node {}", safe(name, 60)),
        Actor::System { name } => safe(name, 80),
    }
}

fn commits(out: &mut String, run: &RunDetail) {
    let revisions: Vec<&CommitClaim> = run.commits.iter().filter(|c| c.revision.is_some()).collect();
    if revisions.is_empty() {
        line(out, "commit", "not recorded", "no claim in params, results, annotations or provenance");
        return;
    }
    if run.disputed {
        let _ = writeln!(out, "commit      {}", paint(BAD, "DISPUTED: the claims differ"));
    }
    // Equal claims on one line, with everybody who makes them.
    let mut told: Vec<(&CommitClaim, Vec<&str>)> = Vec::new();
    for claim in revisions {
        match told.iter_mut().find(|(known, _)| known.revision == claim.revision && known.grade == claim.grade) {
            Some((_, sources)) => sources.push(&claim.source),
            None => told.push((claim, vec![&claim.source])),
        }
    }
    for (claim, sources) in told.iter().take(6) {
        let revision = claim.revision.as_deref().unwrap_or_default();
        let repository = claim.repository.as_deref().map(|r| format!("  {}", safe(r, 120))).unwrap_or_default();
        let value = format!("{}{repository}", safe(revision.get(..12).unwrap_or(revision), 40));
        line(out, "commit", &value, &format!("{}, {}", claim.grade, safe(&sources.join(", "), 160)));
    }
}

fn claim(artifact: &ArtifactClaim) -> String {
    let uri = artifact.uri.as_deref().unwrap_or("?");
    match &artifact.digest {
        None => safe(uri, 160),
        Some(digest) if uri.contains(digest.as_str()) => safe(uri, 200),
        Some(digest) => format!("{}@{}", safe(uri, 120), safe(digest.get(..19).unwrap_or(digest), 80)),
    }
}

fn line(out: &mut String, label: &str, value: &str, grade: &str) {
    let _ = writeln!(out, "{label:<11} {value:<60}  {}", paint(FAINT, grade));
}

/// Steps with their own times: `--steps`. From entries, since records fold them away.
pub fn steps(out: &mut String, name: &str, steps: &[model::run::Step]) {
    for step in steps {
        let times = match (step.started, step.finished) {
            (Some(from), Some(to)) => format!("{} -> {} ({})", clock(from), clock(to), span(to - from)),
            (Some(from), None) => format!("{} -> running", clock(from)),
            _ => "not started".into(),
        };
        let exit = step.exit_code.map(|c| format!("  exit {c}")).unwrap_or_default();
        let _ = writeln!(out, "  step {}/{}  {times}{exit}", safe(name, 80), safe(&step.name, 60));
    }
}
