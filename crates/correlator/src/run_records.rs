//! `run.completed` and `run.incomplete`.

use model::{
    Grade, Time,
    record::{Detail, Evidence, Missing, RecordKind, Role, RunDetail},
    run::{ChildRef, RunKind, RunState},
    time::SECOND,
};

use crate::{
    book::{Book, Draft},
    episode::record_id,
    handshakes::World,
    run_fold::RunFold,
    runs::RunKey,
};

/// Id of a run's `run.completed`.
pub(crate) fn completed_id(key: &RunKey) -> String {
    record_id(&[b"run.completed", key.0.as_bytes(), key.1.as_bytes()])
}

/// Id of the `run.incomplete` of a run that is known by an event of its own.
pub(crate) fn incomplete_id(key: &RunKey) -> String {
    record_id(&[b"run.incomplete", key.0.as_bytes(), key.1.as_bytes()])
}

/// Id of the `run.incomplete` of a child that is known only by its parent's list.
fn listed_id(parent: &RunKey, child: &ChildRef) -> String {
    record_id(&[
        b"run.incomplete",
        parent.0.as_bytes(),
        parent.1.as_bytes(),
        child.kind.as_bytes(),
        child.name.as_bytes(),
    ])
}

impl World<'_> {
    /// The record of a run that has ended.
    pub(crate) fn completed(&self, key: &RunKey) -> Option<Draft> {
        let fold = self.runs.get(key).filter(|fold| fold.ended())?;
        let (from, to) = fold.span();
        let detail = fold.detail(&key.0, self.runs, self.store);
        let mut missing = Vec::new();
        if !detail.started_by.iter().any(|claim| claim.grade == Grade::Authenticated) {
            missing.push(Missing {
                what: "who started it".into(),
                source: "Kubernetes audit at level RequestResponse for create".into(),
            });
        }
        if self.runs.evicted > 0 {
            missing
                .push(Missing { what: "older runs, dropped to keep within the limits".into(), source: "limit".into() });
        }
        let commits = if detail.disputed { ", commit disputed" } else { "" };
        let mut evidence = fold.evidence();
        evidence.extend(detail.started_by.iter().map(|claim| Evidence {
            entry: claim.entry,
            at: from,
            role: Role::Context,
            says: format!("{} ({})", claim.did, claim.grade),
            times: None,
        }));
        Some(Draft {
            id: completed_id(key),
            kind: RecordKind::RunCompleted,
            from,
            to,
            count: fold.sightings(),
            summary: format!("{} {} after {} s{commits}", fold.title(), fold.reason(), (to - from) / SECOND),
            detail: Detail::Run(Box::new(detail)),
            cause: None,
            links: Vec::new(),
            evidence,
            missing,
            settled: self.run_passed(fold, to),
        })
    }

    /// Settled when the source is complete beyond the end, or nothing new came for long enough.
    pub(crate) fn run_passed(&self, fold: &RunFold, to: Time) -> Option<Vec<String>> {
        let mark = self.store.sources.get(&fold.source).and_then(|known| known.complete_to);
        if mark.is_some_and(|mark| mark > to) {
            return Some(Vec::new());
        }
        // A pushed source has no watermark: nothing can be waited for but time.
        (self.tick.saturating_sub(fold.changed) >= self.config.run_settle_ms).then(Vec::new)
    }

    /// Records of what evidence says has no end: children that an ended parent lists, runs deleted before their end.
    pub(crate) fn incomplete(&self, key: &RunKey) -> Vec<Draft> {
        let Some(fold) = self.runs.get(key) else { return Vec::new() };
        if !fold.ended() {
            return self.deleted(key, fold).into_iter().collect();
        }
        // A child may outlive its parent by a moment (finally tasks of a timed-out PipelineRun): wait for the window.
        if self.run_passed(fold, fold.span().1).is_none() {
            return Vec::new();
        }
        let open =
            fold.children.iter().filter(|child| !self.runs.child(&key.0, fold, child).is_some_and(RunFold::ended));
        open.map(|child| self.without_end(key, fold, child)).collect()
    }

    /// What takes the place of records that said of listed children that no event of them was received: those whose
    /// events came. Each draft with the id of the record that stands.
    pub(crate) fn heard_of(&self, key: &RunKey, book: &Book) -> Vec<(Draft, String)> {
        let Some(fold) = self.runs.get(key) else { return Vec::new() };
        let known = |child: &ChildRef| {
            let known = self.runs.child(&key.0, fold, child)?;
            let own = known.key(&key.0);
            let stands = if known.ended() { completed_id(&own) } else { incomplete_id(&own) };
            Some((Draft { id: listed_id(key, child), ..self.without_end(key, fold, child) }, stands))
        };
        fold.children.iter().filter(|child| book.holds(&listed_id(key, child))).filter_map(known).collect()
    }

    fn without_end(&self, key: &RunKey, parent: &RunFold, child: &ChildRef) -> Draft {
        let known = self.runs.child(&key.0, parent, child);
        let (from, to) = known.map_or_else(|| parent.span(), RunFold::span);
        let mut evidence: Vec<Evidence> = known.map(RunFold::evidence).unwrap_or_default();
        evidence.extend(parent.evidence().into_iter().map(|line| Evidence {
            role: Role::Context,
            says: format!("parent {}", line.says),
            ..line
        }));
        let id = match known {
            Some(fold) => incomplete_id(&fold.key(&key.0)),
            None => listed_id(key, child),
        };
        let detail =
            known.map_or_else(|| listed(&key.0, parent, child), |fold| fold.detail(&key.0, self.runs, self.store));
        let what = if known.is_some() { "no end received" } else { "no event received" };
        Draft {
            id,
            kind: RecordKind::RunIncomplete,
            from,
            to,
            count: known.map_or(0, RunFold::sightings).max(1),
            summary: format!(
                "{} {}/{}: {what}, though {} ended and lists it",
                child.kind,
                parent.namespace,
                child.name,
                parent.title()
            ),
            detail: Detail::Run(Box::new(detail)),
            cause: None,
            links: Vec::new(),
            evidence,
            missing: vec![Missing { what: what.into(), source: parent.source.to_string() }],
            settled: Some(Vec::new()),
        }
    }

    /// A run that was deleted before an end was received: Tekton sends nothing more.
    fn deleted(&self, key: &RunKey, fold: &RunFold) -> Option<Draft> {
        let resource = format!("{}s", fold.kind.as_str().to_lowercase());
        let (from, _) = fold.span();
        let done = self.store.actions_on(&(resource, fold.namespace.clone(), fold.name.clone()), from, Time(i64::MAX));
        let noted = done
            .into_iter()
            .find(|noted| noted.fact.verb == "delete" && noted.fact.status.is_none_or(|status| status < 300))?;
        let at = noted.fact.occurred.at;
        let mut evidence = fold.evidence();
        evidence.push(Evidence {
            entry: noted.entry,
            at,
            role: Role::Supports,
            says: "deleted (k8s audit)".into(),
            times: None,
        });
        Some(Draft {
            id: incomplete_id(key),
            kind: RecordKind::RunIncomplete,
            from,
            to: at.max(from),
            count: fold.sightings(),
            summary: format!("{}: deleted before an end was received", fold.title()),
            detail: Detail::Run(Box::new(fold.detail(&key.0, self.runs, self.store))),
            cause: None,
            links: Vec::new(),
            evidence,
            missing: vec![Missing { what: "no end received".into(), source: fold.source.to_string() }],
            settled: Some(Vec::new()),
        })
    }
}

/// A child of which nothing but its name is known.
fn listed(cluster: &str, parent: &RunFold, child: &ChildRef) -> RunDetail {
    let kind = match child.kind.as_str() {
        "PipelineRun" => RunKind::PipelineRun,
        "CustomRun" => RunKind::CustomRun,
        "Run" => RunKind::Run,
        _ => RunKind::TaskRun,
    };
    RunDetail {
        cluster: cluster.into(),
        kind,
        namespace: parent.namespace.clone(),
        name: child.name.clone(),
        uid: String::new(),
        parent: Some(parent.name.clone()),
        pipeline: None,
        task: None,
        pipeline_task: child.pipeline_task.clone(),
        state: RunState::Unknown,
        reason: String::new(),
        message: String::new(),
        attempts: 0,
        started: None,
        completed: None,
        service_accounts: Vec::new(),
        pods: Vec::new(),
        commits: Vec::new(),
        disputed: false,
        artifacts: Vec::new(),
        children: Vec::new(),
        open_children: Vec::new(),
        skipped: Vec::new(),
        trigger_event: None,
        started_by: Vec::new(),
        repeats: 0,
    }
}
