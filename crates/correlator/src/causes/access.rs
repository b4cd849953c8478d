//! Verdicts from access lines alone: refused by policy, answered with an error, given up, kept alive.

use model::{
    handshake::Side,
    identity::SourceKind,
    record::{Cause, Standing},
};

use crate::{
    finding::{Case, Finding},
    traffic::Shown,
};

/// Requests that succeeded with a certificate past its end.
pub(crate) fn kept_alive(case: &Case<'_>) -> Finding {
    let mut finding = Finding::established(Cause::KeptAlive);
    finding.identity = case.caller().and_then(|caller| case.store.identity_at(caller, case.episode.first));
    finding.lacks("a new handshake: it would have failed", "the connection was kept or its session resumed")
}

/// Requests answered with an error status; `answered` when an upstream gave that very status.
pub(crate) fn answer(case: &Case<'_>, status: u16, answered: bool) -> Finding {
    let logs = case.store.siblings(&case.episode.key.source, SourceKind::NginxError);
    let error_log = !logs.is_empty();
    match (case.episode.key.side, status, answered) {
        (_, 499, _) => Finding::established(Cause::ClientGaveUp).lacks("how long it waited", "log of the caller"),
        (Side::Server, 403, false) if verified(case) => wrong_identity(case),
        (Side::Server, 400, true) | (_, 500 | 501 | 503 | 505..=599, true) => {
            Finding::consistent(Cause::ApplicationError)
                .rules_out(
                    Cause::WrongIdentity,
                    "the request passed the sidecar and was answered behind it",
                    Vec::new(),
                )
                .lacks("why it answers that", "log of the application")
        }
        (Side::Server, 502 | 504, true) if error_log => Finding::consistent(Cause::ApplicationError)
            .rules_out(Cause::ApplicationDown, "the sidecar's error log has no failed connection to it", Vec::new())
            .lacks("why it answers that", "log of the application"),
        (Side::Server, 400 | 495 | 496 | 497, false) => Finding::undetermined()
            .lacks("why NGINX refused: 400 alone proves nothing", "error log of the called side at level info"),
        (Side::Client, 400 | 403, _) => Finding::undetermined().lacks(
            "whether the peer's sidecar or its application said so",
            "logs of the called side, error log at level info",
        ),
        (_, 502 | 504, _) => Finding::undetermined()
            .lacks("which connection failed", "error log of the same NGINX, or logs of the called side"),
        _ => Finding::undetermined()
            .lacks("who gave that answer", "$upstream_status in the access log, or the error log"),
    }
}

/// The certificates of the refused requests verified.
fn verified(case: &Case<'_>) -> bool {
    case.episode.doing.iter().any(|verify| verify == "SUCCESS")
}

/// 403 by NGINX itself after a certificate verified: the identity is not allowed.
fn wrong_identity(case: &Case<'_>) -> Finding {
    let (store, episode) = (case.store, case.episode);
    let caller = case.caller().unwrap_or_default();
    let mut finding = Finding::consistent(Cause::WrongIdentity)
        .lacks("which identities are allowed", "policy of the called side (NGINX configuration)");
    let shown = store.shown.get(caller);
    let during = |shown: &&Shown| episode.overlaps(shown.first, shown.last, 0) && shown.last >= episode.first;
    let mut now: Vec<&Shown> = shown.into_iter().flat_map(|list| list.0.values()).filter(during).collect();
    now.sort_by_key(|shown| (std::cmp::Reverse(shown.first.max(episode.first)), shown.entry));
    let inside = now.iter().find(|shown| shown.first >= episode.first.plus_seconds(-1)).or(now.first());
    let Some(shown) = inside else { return finding };
    let Some(known) = store.whose(shown) else { return finding };
    for entry in &known.entries {
        finding = finding.supports(shown.first, *entry, format!("refused: {} ({})", known.spiffe_id, known.by));
    }
    let list = store.shown.get(caller).into_iter().flat_map(|list| list.0.values());
    let other = list
        .filter(|other| other.last < episode.first || other.first > episode.last)
        .filter_map(|other| store.whose(other).map(|whose| (other, whose)))
        .filter(|(_, whose)| whose.spiffe_id != known.spiffe_id)
        .min_by_key(|(other, _)| (other.first, other.entry));
    if let Some((other, whose)) = other {
        finding =
            finding.supports(other.first, other.entry, format!("accepted from the same address: {}", whose.spiffe_id));
        finding.cause.standing = Standing::Established;
    }
    finding.identity = Some(known);
    finding
}
