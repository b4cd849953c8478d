//! From an episode to the run and commit behind an end, and to the run that ended the trouble.
//!
//! The ladder, strongest first: *authenticated*, the Kubernetes audit log has the pod of a TaskRun changing the
//! object; *asserted*, an image that runs is one that a run says it made; *inferred*, the identity's service account
//! belongs to exactly one run that was open. Otherwise the link says how many candidates there are, or what is missing.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    Grade, SourceId, Time,
    action::Action,
    credential::CredentialEvent,
    record::{Endpoint, Link, LinkKind},
    workload::Workload,
};

use crate::{
    run_fold::RunFold,
    runs::{Place, Runs},
    store::{Noted, Store},
    topology::account,
};

fn link(what: LinkKind) -> Link {
    Link {
        what,
        target: None,
        uid: None,
        grade: Grade::Unknown,
        via: String::new(),
        entries: Vec::new(),
        candidates: None,
        missing: Vec::new(),
    }
}

fn to_run(what: LinkKind, fold: &RunFold, grade: Grade, via: String, entries: Vec<u64>) -> Link {
    let target = Some(format!("{}/{}", fold.namespace, fold.name));
    Link { target, uid: Some(fold.uid.clone()), grade, via, entries, ..link(what) }
}

/// The run that put the workload at that end, and the commit it names.
pub(crate) fn behind(store: &Store, runs: &Runs, cluster: &str, end: &Endpoint, at: Time) -> Vec<Link> {
    let pod = end.address.as_deref().and_then(|address| store.pod_at(address, at));
    let found = by_action(store, runs, cluster, end, pod, at)
        .or_else(|| by_digest(runs, pod))
        .or_else(|| by_account(runs, end, at));
    match found {
        Some((link, Some(run))) => {
            let mut links = vec![link];
            links.extend(commits(run, &links[0]));
            links
        }
        Some((link, None)) => vec![link],
        None => {
            let mut missing = Vec::new();
            if pod.is_none() {
                missing.push(format!("pods of {} (k8s-objects)", end.name));
            }
            if store.actions.0.is_empty() {
                missing.push("Kubernetes audit of the objects behind it".into());
            } else if pod.is_some() {
                missing.push("a run that changed its owner or made its image".into());
            }
            vec![Link { missing, ..link(LinkKind::Run) }]
        }
    }
}

type Found<'a> = (Link, Option<&'a RunFold>);

/// The API server saw a step's pod change the pod's owner before the pod was made.
fn by_action<'a>(
    store: &Store,
    runs: &'a Runs,
    cluster: &str,
    end: &Endpoint,
    pod: Option<&Noted<Workload>>,
    at: Time,
) -> Option<Found<'a>> {
    let names = objects(store, end, pod);
    let born = pod.and_then(|pod| pod.fact.created);
    let to = born.map_or(at, |born| born.plus_seconds(1));
    let hit = names
        .iter()
        .flat_map(|object| store.actions_on(object, Time(i64::MIN), to))
        .filter(|noted| is_change(&noted.fact))
        .max_by_key(|noted| (noted.fact.occurred.at, noted.entry))?;
    let bound = hit.fact.pod.as_ref()?;
    let (run, named) = runs.of_pod(cluster, &bound.namespace, &bound.name)?;
    let via = format!("pod {}/{} did {} (k8s audit)", bound.namespace, bound.name, did(&hit.fact));
    // As sure as the weakest of audit line, pod list and event that names the pod. Without the pod's birth, the change
    // is known and that this pod came of it is not.
    let grade = match pod.filter(|_| born.is_some()) {
        Some(pod) => hit.best.min(pod.best).min(named),
        None => Grade::Inferred,
    };
    Some((to_run(LinkKind::Run, run, grade, via, vec![hit.entry]), Some(run)))
}

/// Each run once, in the order of their uids.
fn apart<'a>(runs: impl Iterator<Item = &'a RunFold>) -> Vec<&'a RunFold> {
    let once: BTreeMap<(&str, &str), &RunFold> = runs.map(|fold| ((&*fold.uid, &*fold.name), fold)).collect();
    once.into_values().collect()
}

/// A run says that it made the image that the pod runs.
fn by_digest<'a>(runs: &'a Runs, pod: Option<&Noted<Workload>>) -> Option<Found<'a>> {
    let pod = pod?;
    let digests: BTreeSet<&String> = pod.fact.images.iter().filter_map(|image| image.digest.as_ref()).collect();
    let made = digests.into_iter().flat_map(|digest| runs.at(&Place::Digest(digest.clone())));
    let mut hits: Vec<&RunFold> = apart(made);
    // The TaskRun and its PipelineRun say it both: the PipelineRun stands for them.
    if hits.iter().any(|fold| fold.parent.is_none()) {
        hits.retain(|fold| fold.parent.is_none());
    }
    let run = hits.first()?;
    if hits.len() > 1 {
        let candidates = u64::try_from(hits.len()).ok();
        let missing = vec!["which of several runs that made this image deployed it".into()];
        return Some((Link { candidates, missing, entries: vec![pod.entry], ..link(LinkKind::Run) }, None));
    }
    let via = format!("image digest of pod {}/{} in the run's results", pod.fact.namespace, pod.fact.name);
    Some((to_run(LinkKind::Run, run, Grade::Asserted, via, vec![pod.entry]), Some(run)))
}

/// The identity's account is one that runs use, and exactly one such run was open.
fn by_account<'a>(runs: &'a Runs, end: &Endpoint, at: Time) -> Option<Found<'a>> {
    let (namespace, name) = account(end.spiffe_id.as_deref()?)?;
    let users = runs.at(&Place::Account(namespace.into(), name.into()));
    let mut hits: Vec<&RunFold> = apart(users.filter(|fold| fold.open_at(at)));
    if hits.iter().any(|fold| fold.parent.is_none()) {
        hits.retain(|fold| fold.parent.is_none());
    }
    let run = hits.first()?;
    if hits.len() > 1 {
        let missing = vec!["Kubernetes audit, or the pod behind the identity".into()];
        return Some((Link { candidates: u64::try_from(hits.len()).ok(), missing, ..link(LinkKind::Run) }, None));
    }
    let via = format!("same service account {namespace}/{name}, only run open");
    Some((
        to_run(
            LinkKind::Run,
            run,
            Grade::Inferred,
            via,
            run.evidence().iter().map(|seen| seen.entry).take(1).collect(),
        ),
        Some(run),
    ))
}

/// Commits that the run names, with no better grade than the link to the run has.
fn commits(run: &RunFold, to: &Link) -> Vec<Link> {
    let claims = run.commits.iter().filter(|claim| !claim.source.starts_with("provenance"));
    let revisions: BTreeSet<(&String, Grade)> =
        claims.filter_map(|claim| claim.revision.as_ref().map(|revision| (revision, claim.grade))).collect();
    let n = revisions.iter().map(|(revision, _)| revision).collect::<BTreeSet<_>>().len();
    let mut seen = BTreeSet::new();
    let first = revisions.into_iter().filter(|(revision, _)| seen.insert(*revision));
    first
        .map(|(revision, grade)| Link {
            target: Some(revision.clone()),
            grade: grade.min(to.grade),
            via: if n > 1 {
                format!("disputed: {n} revisions named by {}/{}", run.namespace, run.name)
            } else {
                "named by the run".into()
            },
            entries: to.entries.clone(),
            ..link(LinkKind::Commit)
        })
        .collect()
}

/// The run whose pod changed something that the trouble hangs on, before it ended. That it *therefore* ended is our
/// conclusion: never better than inferred.
pub(crate) fn fixed_by(
    store: &Store,
    runs: &Runs,
    cluster: &str,
    ends: [&Endpoint; 2],
    agent: Option<&SourceId>,
    span: (Time, Time),
) -> Option<Link> {
    let (first, last) = span;
    let mut best: Option<(&Noted<Action>, String)> = None;
    let behind = ends.map(|end| {
        let pod = end.address.as_deref().and_then(|address| store.pod_at(address, first));
        objects(store, end, pod)
    });
    for noted in changes(store, first, last.plus_seconds(2)) {
        let action = &noted.fact;
        let on_end = behind.iter().any(|objects| touches(action, objects));
        let on_agent = agent.is_some_and(|agent| is_agent(store, agent, action));
        if on_agent {
            let renewed = agent.and_then(|agent| {
                let steps = store.steps_of(agent, action.occurred.at, last.plus_seconds(2));
                steps.into_iter().find(|(_, _, step)| step.event == CredentialEvent::AgentRenewed)
            });
            if let Some((at, entry, _)) = renewed {
                best = Some((noted, format!("; the agent got its credential at {at} (#{entry})")));
                break;
            }
        } else if on_end {
            best = Some((noted, String::new()));
        }
    }
    let (noted, after) = best?;
    let bound = noted.fact.pod.as_ref()?;
    let (run, _) = runs.of_pod(cluster, &bound.namespace, &bound.name)?;
    let via = format!(
        "pod {}/{} did {} (k8s audit), then the failures ended{after}",
        bound.namespace,
        bound.name,
        did(&noted.fact)
    );
    Some(to_run(LinkKind::FixedBy, run, Grade::Inferred, via, vec![noted.entry]))
}

/// Changes that a pod made through the API and that succeeded, between two times.
fn changes(store: &Store, from: Time, to: Time) -> impl Iterator<Item = &Noted<Action>> {
    store.actions.between(from, to).map(|(_, noted)| noted).filter(|noted| is_change(&noted.fact))
}

/// A pod changed something through the API, and that succeeded.
fn is_change(action: &Action) -> bool {
    action.pod.is_some()
        && matches!(action.verb.as_str(), "create" | "update" | "patch" | "delete")
        && matches!(action.resource.as_str(), "deployments" | "pods" | "daemonsets" | "statefulsets" | "replicasets")
        && action.status.is_none_or(|status| status < 300)
}

/// Objects that stand behind an end: (resource, namespace, name).
fn objects(store: &Store, end: &Endpoint, pod: Option<&Noted<Workload>>) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    if let Some(pod) = pod {
        let (kind, name) = store.owner(&pod.fact);
        found.insert((format!("{}s", kind.to_lowercase()), pod.fact.namespace.clone(), name));
        found.insert(("pods".into(), pod.fact.namespace.clone(), pod.fact.name.clone()));
        if let Some(owner) = &pod.fact.owner {
            found.insert((format!("{}s", owner.kind.to_lowercase()), pod.fact.namespace.clone(), owner.name.clone()));
        }
    } else if let Some((namespace, name)) = end.name.split_once('/') {
        found.insert(("deployments".into(), namespace.into(), name.into()));
    }
    found
}

fn touches(action: &Action, objects: &BTreeSet<(String, String, String)>) -> bool {
    let (Some(namespace), Some(name)) = (&action.namespace, &action.name) else { return false };
    objects.contains(&(action.resource.clone(), namespace.clone(), name.clone()))
}

/// A deleted or changed pod that runs on the agent's node and is called like an agent, or the agent's own workload.
fn is_agent(store: &Store, agent: &SourceId, action: &Action) -> bool {
    let (Some(namespace), Some(name)) = (&action.namespace, &action.name) else { return false };
    let declared = store.sources.get(agent).map(|known| &known.declared);
    let mut pods = store.pods_by_name(name).filter_map(|looks| looks.0.values().next_back());
    let pod = pods.find(|noted| noted.fact.namespace == *namespace);
    let Some(pod) = pod.filter(|_| action.resource == "pods") else { return false };
    let owner = store.owner(&pod.fact).1;
    let is_workload =
        declared.and_then(|declared| declared.workload.as_ref()).is_none_or(|workload| *workload == owner);
    let node = pod.fact.node.as_deref().unwrap_or_default();
    let same_node = match declared.and_then(|declared| declared.node.as_deref()) {
        Some(declared) => declared == node,
        // `spire-agent-node-1` is the agent on `mesh-node-1`: the longest tail of the node's name that the source has.
        None => node.split_once('-').is_some_and(|(_, tail)| agent.name.ends_with(node) || agent.name.ends_with(tail)),
    };
    is_workload && same_node && owner.contains("agent")
}

fn did(action: &Action) -> String {
    let namespace = action.namespace.as_deref().unwrap_or_default();
    format!("{} {} {namespace}/{}", action.verb, action.resource, action.name.as_deref().unwrap_or("?"))
}
