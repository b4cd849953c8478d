//! Verify code 10: whose certificate ran out, and why there was no new one in use.
//!
//! The last issue before the failures decides the branch (forward join: a certificate issued at t ends one lifetime
//! after t, seen on 241 of 241 certificates). If it had ended, the agent did not renew, and its own words say why. If it
//! had not, a newer certificate existed and the holder did not use it: its reloads say why.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    SourceId, Time,
    credential::{Credential, CredentialEvent, Trouble},
    handshake::Side,
    identity::SourceKind,
    record::{Cause, Standing},
    time::SECOND,
};

use crate::{
    finding::{Case, Finding, named},
    index::{Issue, is_issue},
    queries::Life,
    store::Store,
    topology::{Known, same_unit},
};

/// Times of NGINX are cut to the second, and a certificate's end too.
const SLACK: i64 = 2;

/// Who knows how long certificates live.
const LIFETIME: &str = "SPIRE server at level debug, or two renewals";

pub(crate) fn expired(case: &Case<'_>) -> Finding {
    let episode = case.episode;
    let address = match episode.key.side {
        Side::Server => case.caller(),
        Side::Client => episode.socket(),
    };
    let holder = match episode.key.side {
        Side::Server => case.from,
        Side::Client => case.to,
    };
    let known = address.and_then(|address| case.store.identity_at(address, episode.first));
    let Some(known) = known else {
        let address = match episode.key.side {
            Side::Server => "access log of the called side with TLS variables, or the pod list: who is at that address",
            Side::Client => {
                "error or access log of the called side, the pod list, or a declared workload: who is at that address"
            }
        };
        // Only what is not there is missing.
        let spire = case.store.sources.keys().any(|source| source.kind == SourceKind::Spire);
        let lacks = if spire { address.to_owned() } else { format!("{address}; and SPIRE's log: what it was given") };
        return Finding::undetermined().lacks(format!("whose certificate {} presented", holder.name), lacks);
    };
    let mut finding = decide(case, &known, address.unwrap_or_default(), &holder.name);
    for entry in &known.entries {
        finding = finding.context(episode.first, *entry, format!("certificate of {} ({})", known.spiffe_id, known.by));
    }
    finding.identity = Some(known);
    finding
}

fn decide(case: &Case<'_>, known: &Known, address: &str, holder: &str) -> Finding {
    let (store, first) = (case.store, case.episode.first);
    let id = known.spiffe_id.as_str();
    let issues = store.issues(id);
    let life = store.lifetime(id);
    let end_of = |issue: &Issue| life.map(|life| Time(issue.at.0 + life.nanos));
    let valid = |issue: &Issue| end_of(issue).is_some_and(|end| end > first.plus_seconds(SLACK));
    let newer = issues.iter().copied().filter(|issue| issue.at <= first).find(|issue| valid(issue));
    let before = |newer: &Issue| issues.iter().rev().find(|issue| issue.at < newer.at).copied();
    let old_end = |newer: &Issue| newer.replaced.or_else(|| before(newer).and_then(&end_of));
    let mut finding = match newer {
        // Issued in time: it lay there and was not used.
        Some(newer) if old_end(newer).is_some_and(|end| end.plus_seconds(SLACK) >= newer.at) => {
            not_in_use(case, id, address, holder, newer)
        }
        // Issued after the old one had ended: the failures began before, or go on while it is delivered.
        Some(newer) => {
            let end = old_end(newer).unwrap_or(first);
            let finding = not_renewed(case, id, &newer.agent, before(newer), life, end.min(first));
            finding.context(
                newer.at,
                newer.entry,
                "a new certificate was issued; its delivery may lag behind by half a minute",
            )
        }
        None => {
            let last = issues.iter().rev().find(|issue| issue.at <= first.plus_seconds(SLACK)).copied();
            let Some(agent) = last.map(|last| last.agent.clone()).or_else(|| store.agent(id, first)) else {
                return Finding::undetermined()
                    .lacks(format!("issue of the certificate of {id}"), "log of the SPIRE agent that serves it");
            };
            // The renewal that ends the stall names the end of the old certificate, and so proves the gap.
            let gap = issues.iter().find(|issue| issue.at > first && issue.replaced.is_some_and(|end| end < issue.at));
            if let Some(last) = last.filter(|_| life.is_none() && gap.is_none()) {
                return Finding::undetermined()
                    .context(last.at, last.entry, format!("last certificate issued for {id}"))
                    .lacks(format!("the lifetime of certificates of {id}"), LIFETIME)
                    .asking(&agent);
            }
            let end = last.and_then(&end_of).or(gap.and_then(|issue| issue.replaced)).unwrap_or(first).min(first);
            let mut finding = not_renewed(case, id, &agent, last, life, end);
            if let Some(issue) = gap {
                let end = issue.replaced.unwrap_or(first);
                finding = finding.supports(
                    issue.at,
                    issue.entry,
                    format!("renewed only now; the old one had ended at {end}"),
                );
            }
            finding.agent = Some(agent);
            finding
        }
    };
    if life.is_some_and(|life| !life.own) && finding.cause.standing == Standing::Established {
        finding.cause.standing = Standing::Consistent;
        finding = finding.lacks(format!("the lifetime of certificates of {id}"), LIFETIME);
    }
    let agent = finding.agent.clone().or_else(|| newer.map(|newer| newer.agent.clone()));
    finding.agent.clone_from(&agent);
    match agent {
        Some(agent) => finding.asking(&agent),
        None => finding,
    }
}

/// The certificate had ended by `end`: why did the agent not renew it before?
fn not_renewed(
    case: &Case<'_>,
    id: &str,
    agent_id: &SourceId,
    last: Option<&Issue>,
    life: Option<Life>,
    end: Time,
) -> Finding {
    let store = case.store;
    // Trouble that the agent got over, for any identity, is no cause.
    let recovered = store
        .last_step(agent_id, end, |step| is_issue(step) || step.event == CredentialEvent::AgentRenewed)
        .map(|(at, ..)| at)
        .max(last.map(|last| last.at))
        .unwrap_or(Time(i64::MIN));
    let mut troubles: BTreeMap<Cause, Vec<(Time, u64, &Credential)>> = BTreeMap::new();
    let steps = store.steps_of(agent_id, recovered, end.plus_seconds(SLACK));
    for (at, entry, step) in steps.into_iter().filter(|(at, ..)| *at > recovered) {
        if let Some(cause) = cause_of(step) {
            troubles.entry(cause).or_default().push((at, entry, step));
        }
    }
    let agent = named(agent_id);
    let says_issue = |finding: Finding| match last {
        Some(last) => finding.supports(last.at, last.entry, format!("last certificate issued for {id}")),
        None => finding.lacks(format!("issue of the certificate of {id} that ended"), agent.clone()),
    };
    let mut kinds = troubles.iter();
    let (Some((cause, lines)), rival) = (kinds.next(), kinds.next()) else {
        return says_issue(Finding::undetermined())
            .lacks(format!("why the agent stopped renewing {id}"), format!("{agent} up to {end}"));
    };
    if let Some((other, others)) = rival {
        let mut finding = says_issue(Finding::undetermined());
        for (at, entry, step) in lines.iter().take(2).chain(others.iter().take(2)) {
            finding = finding.context(*at, *entry, short(step));
        }
        return finding.lacks(format!("which of {cause} and {other} kept the agent from renewing"), agent);
    }
    let lost = last.is_some_and(|last| store.lost(agent_id, last.at, end));
    let joined = last.filter(|_| life.is_some_and(|life| life.own) && !lost);
    let standing = if joined.is_some() { Standing::Established } else { Standing::Consistent };
    let mut finding = says_issue(Finding::new(*cause, standing));
    for (n, (at, entry, step)) in lines.iter().enumerate() {
        if n < 2 || n + 1 == lines.len() {
            finding.add(model::record::Role::Supports, *at, *entry, short(step), 1);
        }
    }
    if lines.len() > 3 {
        finding.evidence.last_mut().into_iter().for_each(|line| line.times = u64::try_from(lines.len() - 2).ok());
    }
    let proof: Vec<u64> = lines.iter().map(|(_, entry, _)| *entry).take(1).collect();
    if let Some(last) = joined {
        let why = format!("nothing was issued for {id} after {}", last.at);
        finding = finding.rules_out(Cause::NotReloaded, why, vec![last.entry]);
    } else if lost {
        finding = finding.lacks(format!("lines of it between its last certificate and {end}"), agent);
    } else {
        finding = finding.lacks(format!("the lifetime of certificates of {id}"), LIFETIME);
    }
    match cause {
        Cause::TokenNotRotated => {
            finding.rules_out(Cause::ServerUnreachable, "the server answered: it refused the token", proof).lacks(
                "why the token was not refreshed",
                "kubelet log of the agent's node, or Kubernetes audit of token requests",
            )
        }
        Cause::ServerUnreachable => {
            finding.rules_out(Cause::TokenNotRotated, "the error is the connection, no token was refused", proof)
        }
        Cause::AttestationLost => {
            finding.rules_out(Cause::ServerUnreachable, "the server answered: it refused the agent", proof)
        }
        _ => finding,
    }
}

/// The cause that a trouble's text speaks for.
///
/// A bare `PermissionDenied` speaks for none: a server says it too when the agent's own certificate has ended, whatever
/// kept it from being renewed. Only a re-attestation that is refused for good says that the agent is lost.
fn cause_of(step: &Credential) -> Option<Cause> {
    match step.trouble? {
        Trouble::TokenExpired => Some(Cause::TokenNotRotated),
        Trouble::Unreachable => Some(Cause::ServerUnreachable),
        Trouble::BundleStale | Trouble::TokenRefused => Some(Cause::AttestationLost),
        Trouble::AttestationLost => {
            let says = step.message.lossy().to_ascii_lowercase();
            let lost = ["re-attestable", "reattestable", "banned", "evicted"].iter().any(|word| says.contains(word));
            lost.then_some(Cause::AttestationLost)
        }
        Trouble::OwnExpired | Trouble::Other => None,
    }
}

fn short(step: &Credential) -> String {
    step.message.lossy().chars().take(512).collect()
}

/// A newer certificate existed: why did the holder not use it?
fn not_in_use(case: &Case<'_>, id: &str, address: &str, holder: &str, newer: &Issue) -> Finding {
    let store = case.store;
    // A renewal that is the only sign of recovery from a trouble carries no cause alone: without it the trouble would.
    if !recovered_surely(store, id, newer, case.episode.first) {
        return Finding::undetermined()
            .context(newer.at, newer.entry, format!("a certificate was issued for {id} right after a trouble"))
            .lacks("a second sign that the agent had recovered", named(&newer.agent));
    }
    let (from, to) = (Time(newer.at.0 - newer.at.0.rem_euclid(SECOND)), case.episode.last);
    let issued =
        |finding: Finding| finding.supports(newer.at, newer.entry, format!("a newer certificate was issued for {id}"));
    let logs = holders(case, id, address);
    let [log] = logs.as_slice() else {
        return issued(Finding::undetermined())
            .lacks(format!("whether {holder} loaded it"), format!("error log of {holder} at level notice"));
    };
    let steps = store.steps_of(log, from, to);
    let of = |event| steps.iter().filter(move |(_, _, step)| step.event == event).collect::<Vec<_>>();
    let (asked, loaded, refused) =
        (of(CredentialEvent::ReloadAsked), of(CredentialEvent::Loaded), of(CredentialEvent::LoadRefused));
    if let Some((at, entry, step)) = refused.first() {
        let later = loaded.iter().any(|(loaded, ..)| *loaded > *at && *loaded <= case.episode.first);
        if !later {
            return issued(Finding::established(Cause::ReloadRejected))
                .supports(*at, *entry, short(step))
                .rules_out(Cause::NotReloaded, "a reload was asked for and refused", vec![*entry])
                .rules_out(Cause::TokenNotRotated, "the certificate was renewed", vec![newer.entry])
                .rules_out(Cause::ServerUnreachable, "the certificate was renewed", vec![newer.entry])
                .asking(log);
        }
    }
    let in_time = loaded.iter().find(|(at, ..)| *at <= case.episode.first);
    if let Some((at, entry, _)) = in_time {
        return issued(Finding::undetermined())
            .context(*at, *entry, "the holder loaded after that")
            .lacks("which certificate was on disk when it loaded", format!("spiffe-helper of {holder}"))
            .asking(log);
    }
    if let Some((at, entry, _)) = asked.iter().find(|(at, ..)| *at <= case.episode.first) {
        return issued(Finding::undetermined())
            .context(*at, *entry, "a reload was asked for; how it ended was not seen")
            .lacks("the end of that reload", named(log))
            .asking(log);
    }
    if !case.shows_notices(log) {
        return issued(Finding::undetermined())
            .lacks("reload lines", format!("{} at level notice", named(log)))
            .asking(log);
    }
    // Absence counts up to the watermark only: without one, the log itself must go on beyond the failures' start.
    if !case.complete(log, from, case.episode.first) {
        return issued(Finding::undetermined())
            .lacks(format!("that nothing of it is missing up to {}", case.episode.first), named(log))
            .asking(log);
    }
    let undelivered = store
        .helpers(log)
        .iter()
        .flat_map(|helper| store.steps_of(helper, from, case.episode.first))
        .filter(|(_, _, step)| matches!(step.event, CredentialEvent::Delivered | CredentialEvent::DeliveryFailed))
        .max_by_key(|(at, entry, _)| (*at, *entry))
        .filter(|(_, _, step)| step.event == CredentialEvent::DeliveryFailed);
    if let Some((at, entry, step)) = undelivered {
        return issued(Finding::undetermined())
            .context(at, entry, short(step))
            .lacks("that the new certificate reached the disk", format!("spiffe-helper of {holder}"))
            .asking(log);
    }
    let mut finding = issued(Finding::consistent(Cause::NotReloaded))
        .rules_out(Cause::TokenNotRotated, "the certificate was renewed", vec![newer.entry])
        .rules_out(Cause::ServerUnreachable, "the certificate was renewed", vec![newer.entry])
        .rules_out(Cause::ReloadRejected, format!("{} shows no refused reload", named(log)), Vec::new())
        .asking(log);
    let helpers = store.helpers(log);
    let delivered = helpers
        .iter()
        .flat_map(|helper| store.steps_of(helper, from, case.episode.first))
        .find(|(_, _, step)| step.event == CredentialEvent::Delivered);
    if let Some((at, entry, step)) = delivered {
        finding.cause.standing = Standing::Established;
        finding = finding.supports(at, entry, short(step));
    } else {
        finding = finding.lacks("that the new certificate was on disk", format!("spiffe-helper of {holder}"));
    }
    if let Some((at, entry, _)) = store
        .steps_of(log, case.episode.last, to.plus_seconds(case.config.recovery_seconds))
        .iter()
        .find(|(_, _, step)| step.event == CredentialEvent::Loaded)
    {
        finding = finding.context(*at, *entry, "loaded; the failures ended");
    }
    finding
}

/// No trouble of the agent stands right before the renewal, or two facts say that it was over.
fn recovered_surely(store: &Store, id: &str, newer: &Issue, first: Time) -> bool {
    let trouble = store.last_step(&newer.agent, newer.at, |step| cause_of(step).is_some()).map(|(at, ..)| at);
    let Some(trouble) = trouble else { return true };
    let is_ok = |step: &Credential| is_issue(step) || step.event == CredentialEvent::AgentRenewed;
    let steps = store.steps_of(&newer.agent, trouble, first);
    let by_agent = steps.iter().filter(|(at, _, step)| *at > trouble && is_ok(step)).count();
    let signed = store.stepping(SourceKind::Spire).flat_map(|source| store.steps_of(source, trouble, first));
    let signed =
        signed.filter(|(_, _, step)| step.event == CredentialEvent::Signed && step.spiffe_id.as_deref() == Some(id));
    by_agent + signed.count() >= 2
}

/// Error logs of the process that presents the identity from that address.
fn holders(case: &Case<'_>, id: &str, address: &str) -> Vec<SourceId> {
    let (store, at) = (case.store, case.episode.first);
    if let Some(unit) = store.unit_at(address, at) {
        return store.siblings(&unit, SourceKind::NginxError);
    }
    let named_so: BTreeSet<&SourceId> = store
        .sources
        .keys()
        .filter(|source| source.kind == SourceKind::NginxError && !same_unit(source, &case.episode.key.source))
        .filter(|source| {
            let own = store.addresses(source, at);
            own.is_empty() || own.contains(address)
        })
        .filter(|source| store.identity_of(source, at).is_some_and(|known| known.spiffe_id == id))
        .collect();
    named_so.into_iter().cloned().collect()
}
