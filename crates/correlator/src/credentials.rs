//! `credential.rotated` and `credential.stalled`, from the steps of agents.

use std::collections::BTreeMap;

use model::{
    SourceId, Time,
    credential::{Credential, CredentialEvent, Trouble},
    identity::SourceKind,
    record::{CredentialDetail, Detail, Evidence, Missing, RecordKind, Role},
    time::SECOND,
};

use crate::{
    book::Draft,
    episode::{plural, record_id, source_key},
    handshakes::World,
    store::Key,
};

/// Trouble closer than this belongs together; SPIRE's backoff grows to minutes.
const STALL_GAP: i64 = 15 * 60;

impl World<'_> {
    /// The record of one issue of a certificate, or of an agent's own renewal; `since` is when it came, in ledger
    /// milliseconds.
    pub(crate) fn rotated(&self, source: &SourceId, key: &Key, since: u64) -> Option<Draft> {
        let noted = self.store.steps.get(source)?.0.get(key)?;
        let step = &noted.fact;
        if !matches!(step.event, CredentialEvent::Renewing | CredentialEvent::Creating | CredentialEvent::AgentRenewed)
        {
            return None;
        }
        let at = key.0;
        let spiffe_id = step.spiffe_id.clone().unwrap_or_default();
        let mut evidence = vec![supports(at, noted.entry, step)];
        let signed = self.signed_near(&spiffe_id, at);
        let mut missing = Vec::new();
        if let Some((signed_at, entry, signature)) = signed {
            evidence.push(supports(signed_at, entry, signature));
        } else if step.event != CredentialEvent::AgentRenewed {
            missing.push(Missing {
                what: "serial of the new certificate".into(),
                source: "SPIRE server log at level debug (Signed X509 SVID)".into(),
            });
        }
        let serial = step.serial.clone().or_else(|| signed.and_then(|(_, _, signature)| signature.serial.clone()));
        let new_not_after = step.not_after.or_else(|| signed.and_then(|(_, _, signature)| signature.not_after));
        let gap = step.replaces_not_after.filter(|end| *end < at).map(|end| (at - end) / SECOND);
        let late = gap.map_or(String::new(), |gap| format!(", {gap} s after the old one had ended"));
        let who = if spiffe_id.is_empty() { source.to_string() } else { spiffe_id.clone() };
        let declared = self.store.sources.get(source).map(|known| &known.declared);
        Some(Draft {
            id: record_id(&[
                b"credential.rotated",
                &source_key(source),
                spiffe_id.as_bytes(),
                at.to_string().as_bytes(),
            ]),
            kind: RecordKind::CredentialRotated,
            from: at,
            to: at,
            count: 1,
            summary: format!("{who} got a new certificate{late}"),
            detail: Detail::Credential(Box::new(CredentialDetail {
                source: source.clone(),
                spiffe_id,
                node: declared.and_then(|declared| declared.node.clone()),
                serial: serial.map(|serial| serial.as_str().to_owned()),
                old_not_after: step.replaces_not_after,
                new_not_after,
                gap_seconds: gap,
                says: step.message.lossy().into_owned(),
            })),
            cause: None,
            links: Vec::new(),
            evidence,
            missing,
            settled: self.passed(source, at).or_else(|| {
                let waited = self.tick.saturating_sub(since) >= self.config.settle_ms;
                waited.then(|| vec![source.to_string()])
            }),
        })
    }

    /// The signature of that identity at that moment, give or take the way from agent to server and back.
    fn signed_near(&self, spiffe_id: &str, at: Time) -> Option<(Time, u64, &Credential)> {
        let sources = self.store.stepping(SourceKind::Spire);
        let near = sources.flat_map(|source| self.store.steps_of(source, at.plus_seconds(-2), at.plus_seconds(2)));
        near.filter(|(_, _, step)| {
            step.event == CredentialEvent::Signed && step.spiffe_id.as_deref() == Some(spiffe_id)
        })
        .min_by_key(|(signed, entry, _)| ((*signed - at).abs(), *entry))
    }

    /// Stretches in which an agent could not renew, each with its record.
    pub(crate) fn stalls(&self, source: &SourceId) -> Vec<Draft> {
        let Some(timeline) = self.store.steps.get(source) else { return Vec::new() };
        let mut open: BTreeMap<Trouble, Stall<'_>> = BTreeMap::new();
        let mut drafts = Vec::new();
        for ((at, ..), noted) in &timeline.0 {
            let step = &noted.fact;
            if step.event == CredentialEvent::AgentRenewed
                || matches!(step.event, CredentialEvent::Renewing | CredentialEvent::Creating) && step.trouble.is_none()
            {
                // A new credential of the agent ends every stall; a workload's ends only those of reaching the server.
                let ends =
                    |trouble: &Trouble| step.event == CredentialEvent::AgentRenewed || *trouble == Trouble::Unreachable;
                let over: Vec<Trouble> = open.keys().copied().filter(ends).collect();
                for trouble in over {
                    let stall = open.remove(&trouble);
                    drafts
                        .extend(stall.map(|stall| self.stall(source, trouble, &stall, Some((*at, noted.entry, step)))));
                }
                continue;
            }
            let Some(trouble) = step.trouble.filter(|trouble| *trouble != Trouble::Other) else { continue };
            if open.get(&trouble).is_some_and(|stall| *at - stall.last().0 > STALL_GAP * SECOND) {
                drafts.extend(open.remove(&trouble).map(|stall| self.stall(source, trouble, &stall, None)));
            }
            open.entry(trouble).or_default().0.push((*at, noted.entry, step));
        }
        drafts.extend(open.iter().map(|(trouble, stall)| self.stall(source, *trouble, stall, None)));
        drafts
    }

    fn stall(
        &self,
        source: &SourceId,
        trouble: Trouble,
        stall: &Stall<'_>,
        end: Option<(Time, u64, &Credential)>,
    ) -> Draft {
        let (first, last) = (stall.first(), stall.last());
        let mut evidence = vec![supports(first.0, first.1, first.2)];
        let times = u64::try_from(stall.0.len()).unwrap_or(u64::MAX);
        evidence[0].times = (times > 1).then_some(times);
        if times > 1 {
            evidence.push(supports(last.0, last.1, last.2));
        }
        let mut missing = Vec::new();
        match end {
            Some((at, entry, step)) => evidence.push(Evidence { role: Role::Contradicts, ..supports(at, entry, step) }),
            None => missing.push(Missing { what: "the end of it".into(), source: source.to_string() }),
        }
        let to = end.map_or(last.0, |(at, ..)| at);
        let state = if end.is_some() { "over" } else { "no recovery seen" };
        let node = self.store.sources.get(source).and_then(|known| known.declared.node.clone());
        Draft {
            id: record_id(&[
                b"credential.stalled",
                &source_key(source),
                trouble.as_str().as_bytes(),
                first.0.to_string().as_bytes(),
            ]),
            kind: RecordKind::CredentialStalled,
            from: first.0,
            to,
            count: times,
            summary: format!("{source}: not renewed, {} ({}; {state})", trouble.as_str(), plural(times, "line")),
            detail: Detail::Credential(Box::new(CredentialDetail {
                source: source.clone(),
                spiffe_id: first.2.spiffe_id.clone().unwrap_or_default(),
                node,
                serial: None,
                old_not_after: None,
                new_not_after: None,
                gap_seconds: Some((to - first.0) / SECOND),
                says: first.2.message.lossy().into_owned(),
            })),
            cause: None,
            links: Vec::new(),
            evidence,
            missing,
            settled: if end.is_some() { self.passed(source, to) } else { None },
        }
    }

    /// Settled when the source is complete beyond that moment.
    fn passed(&self, source: &SourceId, at: Time) -> Option<Vec<String>> {
        let mark = self.store.sources.get(source).and_then(|known| known.complete_to);
        mark.filter(|mark| *mark >= at.plus_seconds(2)).map(|_| Vec::new())
    }
}

/// Lines of one trouble.
#[derive(Default)]
struct Stall<'a>(Vec<(Time, u64, &'a Credential)>);

impl<'a> Stall<'a> {
    fn first(&self) -> (Time, u64, &'a Credential) {
        self.0[0]
    }

    fn last(&self) -> (Time, u64, &'a Credential) {
        self.0[self.0.len() - 1]
    }
}

fn supports(at: Time, entry: u64, step: &Credential) -> Evidence {
    Evidence { entry, at, role: Role::Supports, says: step.message.lossy().chars().take(512).collect(), times: None }
}
