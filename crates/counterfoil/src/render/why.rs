//! `counterfoil why`: the cause, what speaks for it, what was ruled out, what is missing.

use std::fmt::Write as _;

use model::{
    Record,
    record::{Cause, Detail, Endpoint, Evidence, HandshakeDetail, LinkKind, Role, Standing, State},
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
    let mut told: Vec<&Record> = Vec::new();
    for record in answer.failures.iter().take(MOST) {
        if told.iter().any(|before| same_story(before, record)) {
            also(&mut out, record);
        } else {
            failure(&mut out, record);
            told.push(record);
        }
    }
    if answer.failures.len() > MOST {
        let _ =
            writeln!(out, "… and {} more: counterfoil search 'type:handshake.failed'", answer.failures.len() - MOST);
    }
    for record in answer.blind.iter().take(MOST) {
        if let Detail::Blind(blind) = &record.detail {
            let _ = writeln!(
                out,
                "{}  {}: {}; set: {}",
                paint(UNSURE, "BLIND"),
                safe(&blind.source.to_string(), 80),
                safe(&blind.cannot_show, 160),
                safe(&blind.fix, 120)
            );
        }
    }
    out.push_str(&footer(&answer.through, ""));
    out
}

/// The same edge fails for the same known cause: seen from another end or through another listener.
fn same_story(a: &Record, b: &Record) -> bool {
    let known = |record: &Record| {
        record.cause.as_ref().filter(|cause| cause.standing != Standing::Undetermined).map(|cause| cause.word)
    };
    match (&a.detail, &b.detail) {
        (Detail::Handshake(x), Detail::Handshake(y)) => {
            known(a).is_some() && known(a) == known(b) && x.from.name == y.from.name && x.to.name == y.to.name
        }
        _ => false,
    }
}

/// A failure whose story has been told, in one line.
fn also(out: &mut String, record: &Record) {
    let Detail::Handshake(detail) = &record.detail else { return };
    let stream = if detail.stream { " (stream)" } else { "" };
    let _ = writeln!(
        out,
        "ALSO  {} -> {}{stream}  {} x{}  {} .. {}  seen by {}  record {}\n",
        safe(&detail.from.name, 80),
        safe(&detail.to.name, 80),
        safe(&detail.failure, 40),
        record.count,
        clock(record.from),
        clock(record.to),
        safe(&detail.source.to_string(), 80),
        super::short(&record.id),
    );
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
        let (means, clears) = meaning(cause.word);
        let _ =
            writeln!(out, "{}  {}  {mark}  {}", paint(STRONG, "CAUSE"), paint(STRONG, means), paint(FAINT, cause.word));
        if !clears.is_empty() {
            let _ = writeln!(out, "{}  {clears}", paint(STRONG, "CLEARS"));
        }
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
                super::short(&record.id),
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
            let _ =
                writeln!(out, "  {label}{} #{:<6} {}{times}", clock(e.at), e.entry, middle(&safe(&e.says, 2000), 190));
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

/// Text of at most so many characters, cut in the middle: what decides stands at the end of most errors.
fn middle(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most / 3).collect();
    let tail: String = text.chars().skip(length - (most - most / 3)).collect();
    format!("{head} … {tail}")
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

/// What a cause means in one sentence, and what ends it. The evidence for it is in the record; `docs/causes.md` has more.
fn meaning(cause: Cause) -> (&'static str, &'static str) {
    match cause {
        Cause::Undetermined => ("not known: the evidence does not decide", ""),
        Cause::TokenNotRotated => (
            "the certificate expired: its SPIRE agent could not re-attest, its service account token was not rotated",
            "when the agent's token is refreshed; then up to the helper's retry wait more. Restarting the agent does not help",
        ),
        Cause::ServerUnreachable => (
            "the certificate expired: its SPIRE agent could not reach the server",
            "when the server answers again; agents renew at their next sync, helpers follow",
        ),
        Cause::AttestationLost => (
            "the certificate expired: the SPIRE server no longer accepts its agent",
            "when the agent is attested anew and its registration entries name the new agent",
        ),
        Cause::NotReloaded => (
            "the certificate was renewed on disk and NGINX never loaded it",
            "when NGINX is reloaded; check that the helper's signal reaches it",
        ),
        Cause::ReloadRejected => (
            "the certificate was renewed on disk and NGINX refused to load",
            "when the configuration that `nginx -t` complains about is mended, and NGINX reloaded",
        ),
        Cause::KeptAlive => (
            "the certificate has expired and calls go on over connections or sessions made before",
            "not a failure yet: the next full handshake will fail unless it is renewed",
        ),
        Cause::BundleServerSide => (
            "the called side's trust bundle lacks the CA that signed the caller's certificate",
            "when the called side loads the present bundle",
        ),
        Cause::BundleClientSide => (
            "the calling side's trust bundle lacks the CA that signed the called side's certificate",
            "when the calling side loads the present bundle",
        ),
        Cause::WrongIdentity => (
            "a valid certificate with an identity that the policy does not allow",
            "when the caller's registration entry or the policy is put right",
        ),
        Cause::NameMismatch => {
            ("the upstream's certificate does not carry the expected name", "when name and DNS SAN agree")
        }
        Cause::NoCertificateOutsider => (
            "no client certificate, from a caller that has never shown one",
            "nothing to mend here unless the caller belongs to the mesh",
        ),
        Cause::NoCertificateConfiguration => (
            "no client certificate, from a caller that has one and does not present it",
            "when the caller's proxy_ssl_certificate is configured",
        ),
        Cause::PlaintextToTls => ("plain HTTP to a TLS port", "when the caller speaks TLS"),
        Cause::UpstreamPlaintext => {
            ("the called port speaks plain text where TLS is expected", "when the called side serves TLS")
        }
        Cause::PortScan => ("connections that are no calls: a scan or a health check", ""),
        Cause::NotYetValid => ("the certificate is not yet valid", "by itself when its NotBefore is reached"),
        Cause::ClockSkew => ("the checking side's clock is behind", "when its clock is put right"),
        Cause::ApplicationDown => {
            ("not mTLS: the application behind the called sidecar does not listen", "when it is up")
        }
        Cause::ApplicationError => {
            ("not mTLS: the application answers errors", "when the application, or what it calls, is well")
        }
        Cause::ApplicationTimeout => ("not mTLS: the application does not answer in time", "when it answers"),
        Cause::UpstreamDown => {
            ("not mTLS: nothing listens at the called address, the pod is gone", "when a pod is there")
        }
        Cause::UpstreamSilent => ("the called port accepts and never answers TLS", "when that pod is replaced"),
        Cause::ClientGaveUp => ("not mTLS: the calling client gave up first", ""),
        Cause::ProtocolMismatch => ("the two sides have no TLS version in common", "when ssl_protocols agree"),
        Cause::NoSharedCipher => ("the two sides have no cipher suite in common", "when ssl_ciphers agree"),
        Cause::CallerRefused => (
            "the caller refused the called side's certificate; why stands in the caller's log",
            "give the caller's error log",
        ),
    }
}
