//! Fields of a record.

use model::{
    record::{CredentialDetail, Detail, Endpoint, HandshakeDetail, Link, LinkKind, Record, RunDetail},
    run::{RunKind, RunState},
};

use super::{Draft, result};
use crate::fields::Field;

pub(super) fn fill(doc: &mut Draft<'_>, record: &Record) {
    doc.put(Field::Id, &record.id.0);
    doc.put(Field::Type, record.kind.as_str());
    doc.put(Field::State, record.state.as_str());
    doc.number(Field::Revision, u64::from(record.revision));
    doc.number(Field::Count, record.count);
    doc.time(Field::Start, record.from.min(record.to));
    doc.time(Field::Time, record.to);
    match &record.detail {
        Detail::Run(run) => of_run(doc, run),
        Detail::Handshake(handshake) => of_handshake(doc, handshake),
        Detail::Credential(credential) => of_credential(doc, credential),
        Detail::Blind(blind) => {
            doc.source(&blind.source);
            doc.words(&blind.cannot_show);
        }
        Detail::Late(late) => doc.source(&late.source),
    }
    if let Some(cause) = &record.cause {
        doc.put(Field::Cause, cause.word.as_str());
        doc.put(Field::Standing, cause.standing.as_str());
        for rival in &cause.ruled_out {
            doc.put(Field::RuledOut, rival.cause.as_str());
        }
    }
    for link in &record.links {
        of_link(doc, link);
    }
    for evidence in &record.evidence {
        doc.number(Field::Evidence, evidence.entry);
        doc.words(&evidence.says);
    }
    for missing in &record.missing {
        doc.put(Field::Missing, &missing.what);
        doc.words(&missing.source);
    }
}

fn of_run(doc: &mut Draft<'_>, run: &RunDetail) {
    let namespace = Some(run.namespace.as_str());
    doc.put(Field::Cluster, &run.cluster);
    doc.put(Field::Namespace, &run.namespace);
    doc.put(Field::RunKind, run.kind.as_str());
    doc.named(Field::Run, namespace, &run.name);
    doc.put(uid_field(run.kind), &run.uid);
    if let Some(parent) = &run.parent {
        doc.named(Field::RunParent, namespace, parent);
    }
    doc.maybe(Field::PipelineName, run.pipeline.as_deref());
    doc.maybe(Field::TaskName, run.task.as_deref());
    if run.pipeline_task != run.task {
        doc.maybe(Field::TaskName, run.pipeline_task.as_deref());
    }
    doc.put(Field::RunState, run.state.as_str());
    doc.put(Field::RunReason, &run.reason);
    if run.state == RunState::Failed {
        doc.put(Field::ErrorType, &run.reason);
    }
    doc.maybe(Field::PipelineResult, result(run.state, &run.reason));
    doc.words(&run.message);
    for account in &run.service_accounts {
        doc.named(Field::ServiceAccount, namespace, &account.name);
    }
    for pod in &run.pods {
        doc.put(Field::Pod, pod);
    }
    for commit in &run.commits {
        doc.maybe(Field::Commit, commit.revision.as_deref());
        doc.maybe(Field::Repository, commit.repository.as_deref());
    }
    for artifact in &run.artifacts {
        doc.maybe(Field::Digest, artifact.digest.as_deref());
        doc.maybe(Field::Image, artifact.uri.as_deref());
    }
    doc.maybe(Field::TriggerEvent, run.trigger_event.as_deref());
    for claim in &run.started_by {
        doc.actor(&claim.actor);
    }
}

/// Where the uid of a run goes: OpenTelemetry has one name for whole runs and one for the runs of tasks.
pub(super) const fn uid_field(kind: RunKind) -> Field {
    match kind {
        RunKind::PipelineRun => Field::PipelineRunId,
        RunKind::TaskRun | RunKind::CustomRun | RunKind::Run => Field::TaskRunId,
    }
}

fn of_handshake(doc: &mut Draft<'_>, handshake: &HandshakeDetail) {
    doc.source(&handshake.source);
    doc.put(Field::Side, &handshake.side);
    doc.put(Field::ErrorType, &handshake.failure);
    if let Some(code) = handshake.verify_code {
        doc.number(Field::VerifyCode, u64::from(code));
    }
    if let Some(alert) = handshake.alert {
        doc.number(Field::Alert, u64::from(alert));
    }
    of_endpoint(doc, &handshake.from, Field::EdgeSource, Field::ClientAddress);
    of_endpoint(doc, &handshake.to, Field::EdgeDestination, Field::ServerAddress);
    doc.put(Field::PeerAddress, &handshake.peer);
}

fn of_endpoint(doc: &mut Draft<'_>, end: &Endpoint, name: Field, address: Field) {
    // `?` is the absence of a name, not a name.
    if end.name != "?" {
        doc.put(name, &end.name);
    }
    doc.maybe(address, end.address.as_deref());
    doc.maybe(Field::Pod, end.pod.as_deref());
    doc.maybe(Field::SpiffeId, end.spiffe_id.as_deref());
    doc.maybe(Field::Node, end.node.as_deref());
    // `namespace/workload`; addresses with a path do not occur.
    if let Some((namespace, _)) = end.name.split_once('/') {
        doc.put(Field::Namespace, namespace);
        doc.put(Field::Workload, &end.name);
    }
}

fn of_credential(doc: &mut Draft<'_>, credential: &CredentialDetail) {
    doc.source(&credential.source);
    doc.put(Field::SpiffeId, &credential.spiffe_id);
    doc.maybe(Field::Node, credential.node.as_deref());
    doc.maybe(Field::Serial, credential.serial.as_deref());
    for end in [credential.old_not_after, credential.new_not_after].into_iter().flatten() {
        doc.time(Field::NotAfter, end);
    }
    doc.words(&credential.says);
}

fn of_link(doc: &mut Draft<'_>, link: &Link) {
    let Some(target) = &link.target else { return };
    // Runs are written `namespace/name (uid)`.
    let name = target.split_once(" (").map_or(target.as_str(), |(name, _)| name);
    match link.what {
        LinkKind::Run => {
            doc.put(Field::Run, name);
            doc.maybe(Field::PipelineRunId, link.uid.as_deref());
        }
        LinkKind::Commit => doc.put(Field::Commit, target),
        LinkKind::FixedBy => doc.put(Field::FixedBy, name),
        LinkKind::Identity => doc.put(Field::SpiffeId, target),
    }
}
