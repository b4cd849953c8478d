//! Fields, time and summary of an entry.

use model::{
    Fact, Time, When,
    action::Action,
    credential::Credential,
    edges::{Direction, EdgeRow, Edges},
    entry::Entry,
    handshake::{Handshake, Side},
    own::{Gap, Import},
    run::{Envelope, Run, RunState, Trigger},
    workload::Workload,
};

use super::{Draft, record::uid_field, result};
use crate::fields::Field;

/// First and last moment that a fact tells of.
type Period = (Time, Time);

/// Fills the fields. Gives the time that the entry is sorted by, and a summary. `None` for heartbeats.
pub(super) fn fill(doc: &mut Draft<'_>, entry: &Entry) -> Option<(Time, String)> {
    let body = &entry.body;
    let seen = (body.observed_at, body.observed_at);
    let ((from, to), summary) = match &body.fact {
        Fact::Heartbeat(_) => return None,
        Fact::Run(run) => (of_run(doc, run).unwrap_or(seen), run_summary(run)),
        Fact::Trigger(trigger) => of_trigger(doc, trigger, body.observed_at),
        Fact::Handshake(handshake) => {
            (period(&handshake.occurred), of_handshake(doc, handshake, declared_name(entry).as_deref()))
        }
        Fact::Edges(edges) => {
            let (period, summary) = of_edges(doc, edges, declared_name(entry).as_deref());
            (period.unwrap_or(seen), summary)
        }
        Fact::Credential(credential) => (period(&credential.occurred), of_credential(doc, credential)),
        Fact::Workload(workload) => (period(&workload.occurred), of_workload(doc, workload)),
        Fact::Action(action) => (period(&action.occurred), of_action(doc, action)),
        Fact::Change(change) => {
            for (key, value) in &change.content {
                doc.words(key);
                doc.words(value);
            }
            (change.occurred.as_ref().map_or(seen, period), format!("{} {}", change.what, change.subject))
        }
        Fact::Metric(metric) => ((metric.from, metric.to), format!("{} counters", metric.increase.len())),
        Fact::Attestation(attestation) => {
            for subject in &attestation.subjects {
                doc.put(Field::Digest, subject);
            }
            (seen, format!("attestation {}", attestation.predicate))
        }
        Fact::Policy(policy) => {
            doc.put(Field::EdgeSource, &policy.from);
            doc.put(Field::EdgeDestination, &policy.to);
            let verb = if policy.allow { "allows" } else { "denies" };
            (seen, format!("policy {verb} {} -> {}", policy.from, policy.to))
        }
        Fact::Clock(clock) => (seen, format!("the clock stepped by {} ms", clock.step_ms)),
        Fact::Gap(gap) => of_gap(doc, gap, seen),
        Fact::Access(access) => (seen, format!("{} {} {}", access.who, access.what, access.scope)),
        Fact::Import(import) => (import_period(import).unwrap_or(seen), import_summary(import)),
        Fact::Ledger(note) => (seen, format!("ledger {}: {}", note.what, note.detail)),
        Fact::Amendment(amendment) => {
            doc.number(Field::Evidence, amendment.of);
            (seen, format!("#{} read again", amendment.of))
        }
        Fact::Opaque(opaque) => {
            doc.put(Field::ErrorType, &opaque.reason);
            doc.maybe(Field::EventType, opaque.event_type.as_deref());
            doc.words(&opaque.detail);
            doc.words(&opaque.head.lossy());
            (seen, format!("not understood ({}): {}", opaque.reason, opaque.head))
        }
        Fact::Unknown(kind) => (seen, format!("a fact of a newer version: {kind}")),
    };
    doc.number(Field::Entry, entry.index);
    doc.put(Field::Type, &format!("entry.{}", body.fact.kind()));
    doc.time(Field::Start, from.min(to));
    doc.time(Field::Time, to);
    doc.source(&body.source);
    doc.maybe(Field::Namespace, body.declared.namespace.as_deref());
    if let Some(name) = declared_name(entry) {
        doc.put(Field::Workload, &name);
    }
    doc.maybe(Field::Node, body.declared.node.as_deref());
    Some((to, summary))
}

fn period(when: &When) -> Period {
    (when.at, when.latest())
}

/// `namespace/workload` as the source declares it.
fn declared_name(entry: &Entry) -> Option<String> {
    let declared = &entry.body.declared;
    let workload = declared.workload.as_deref()?;
    Some(
        declared
            .namespace
            .as_deref()
            .map_or_else(|| workload.to_owned(), |namespace| format!("{namespace}/{workload}")),
    )
}

fn envelope(doc: &mut Draft<'_>, event: &Envelope) {
    doc.put(Field::EventId, &event.id);
    doc.put(Field::EventType, &event.kind);
}

fn of_run(doc: &mut Draft<'_>, run: &Run) -> Option<Period> {
    let namespace = run.namespace.as_deref();
    envelope(doc, &run.event);
    doc.put(Field::RunKind, run.kind.as_str());
    doc.named(Field::Run, namespace, &run.name);
    doc.maybe(Field::Namespace, namespace);
    doc.maybe(uid_field(run.kind), run.uid.as_deref());
    if let Some(parent) = &run.parent {
        doc.named(Field::RunParent, namespace, &parent.name);
        doc.maybe(Field::PipelineRunId, parent.uid.as_deref());
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
    if let Some(trigger) = &run.trigger {
        doc.maybe(Field::TriggerEvent, trigger.event_id.as_deref());
    }
    if let Some(sender) = &run.sender {
        doc.put(Field::Person, &sender.0);
    }
    // The moment of the condition, not the whole run: an entry is one sighting.
    let at = run.transition.or(if run.state.is_terminal() { run.completed } else { run.started }).or(run.event.time)?;
    Some((at, at))
}

fn run_summary(run: &Run) -> String {
    let name = run.namespace.as_ref().map_or_else(|| run.name.clone(), |namespace| format!("{namespace}/{}", run.name));
    let reason = if run.reason.is_empty() { String::new() } else { format!(" ({})", run.reason) };
    format!("{} {name} {}{reason}", run.kind.as_str(), run.state.as_str())
}

fn of_trigger(doc: &mut Draft<'_>, trigger: &Trigger, seen: Time) -> (Period, String) {
    envelope(doc, &trigger.event);
    doc.put(Field::TriggerEvent, &trigger.event_id);
    doc.maybe(Field::Namespace, trigger.namespace.as_deref());
    let listener = trigger.listener.as_deref().unwrap_or("of unknown name");
    doc.words(listener);
    let at = trigger.event.time.unwrap_or(seen);
    ((at, at), format!("EventListener {listener}: {}", trigger.state))
}

/// `owner` is the workload that wrote the line: the called end for `side: server`, the calling one otherwise.
fn of_handshake(doc: &mut Draft<'_>, handshake: &Handshake, owner: Option<&str>) -> String {
    doc.put(Field::Side, handshake.side.as_str());
    doc.put(Field::ErrorType, handshake.failure.as_str());
    doc.number(Field::Count, handshake.count);
    if let Some(code) = handshake.verify_code {
        doc.number(Field::VerifyCode, u64::from(code));
    }
    if let Some(alert) = handshake.alert {
        doc.number(Field::Alert, u64::from(alert));
    }
    let peer = match handshake.side {
        Side::Server => {
            doc.maybe(Field::EdgeDestination, owner);
            doc.maybe(Field::ClientAddress, handshake.client.as_deref());
            doc.maybe(Field::ServerAddress, handshake.server.as_deref());
            handshake.client.as_deref()
        }
        // `client:` is the local application here, not the peer.
        Side::Client => {
            doc.maybe(Field::EdgeSource, owner);
            doc.maybe(Field::ServerAddress, handshake.upstream.as_deref().map(without_port));
            doc.maybe(Field::ServerAddress, handshake.expected_name.as_deref());
            handshake.upstream.as_deref()
        }
    };
    doc.maybe(Field::PeerAddress, peer);
    doc.words(&handshake.message.lossy());
    let (from, to) = match handshake.side {
        Side::Server => (peer.unwrap_or("?"), owner.or(handshake.server.as_deref()).unwrap_or("?")),
        Side::Client => (owner.unwrap_or("?"), peer.unwrap_or("?")),
    };
    format!("{from} -> {to} {}: {}", handshake.failure.as_str(), handshake.message)
}

fn of_edges(doc: &mut Draft<'_>, edges: &Edges, owner: Option<&str>) -> (Option<Period>, String) {
    let mut period: Option<Period> = None;
    let mut requests = 0_u64;
    for row in &edges.rows {
        of_row(doc, row, owner);
        requests = requests.saturating_add(row.requests);
        period = Some(period.map_or((row.first, row.last), |(first, last)| (first.min(row.first), last.max(row.last))));
    }
    doc.number(Field::Count, requests);
    (
        period,
        format!("{requests} requests in {} rows at {}", edges.rows.len(), owner.unwrap_or("an undeclared workload")),
    )
}

fn of_row(doc: &mut Draft<'_>, row: &EdgeRow, owner: Option<&str>) {
    let address = without_port(&row.peer);
    doc.put(Field::PeerAddress, &row.peer);
    match row.direction {
        Direction::In => {
            doc.put(Field::ClientAddress, address);
            doc.maybe(Field::EdgeDestination, owner);
            doc.maybe(Field::ServerAddress, row.server_name.as_deref());
        }
        Direction::Out => {
            doc.put(Field::ServerAddress, address);
            doc.maybe(Field::EdgeSource, owner);
            doc.maybe(Field::ServerAddress, row.upstream_name.as_deref());
        }
    }
    doc.maybe(Field::Pod, row.pod.as_deref());
    for answer in &row.answers {
        doc.number(Field::Status, u64::from(answer.status));
    }
    let Some(tls) = &row.tls else { return };
    doc.maybe(Field::TlsVersion, tls.protocol.as_deref());
    doc.maybe(Field::Serial, tls.serial.as_ref().map(model::identity::Serial::as_str));
    doc.maybe(Field::SpiffeId, tls.spiffe_id.as_deref());
    doc.maybe(Field::ClientSubject, tls.subject.as_deref());
    doc.maybe(Field::ClientIssuer, tls.issuer.as_deref());
    if let Some(end) = tls.not_after {
        doc.time(Field::NotAfter, end);
    }
}

/// `10.0.0.1:8443` and `[::1]:8443` without the port; anything else as it is.
fn without_port(address: &str) -> &str {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            match host.strip_prefix('[') {
                Some(inner) => inner.strip_suffix(']').unwrap_or(host),
                None if host.contains(':') => address,
                None => host,
            }
        }
        _ => address,
    }
}

fn of_credential(doc: &mut Draft<'_>, credential: &Credential) -> String {
    doc.put(Field::CredentialEvent, credential.event.as_str());
    doc.maybe(Field::SpiffeId, credential.spiffe_id.as_deref());
    doc.maybe(Field::SpiffeId, credential.agent_id.as_deref());
    doc.maybe(Field::Serial, credential.serial.as_ref().map(model::identity::Serial::as_str));
    for end in [credential.not_after, credential.replaces_not_after].into_iter().flatten() {
        doc.time(Field::NotAfter, end);
    }
    doc.maybe(Field::ErrorType, credential.trouble.map(model::credential::Trouble::as_str));
    doc.words(&credential.message.lossy());
    format!("{}: {}", credential.event.as_str(), credential.message)
}

fn of_workload(doc: &mut Draft<'_>, workload: &Workload) -> String {
    let namespace = Some(workload.namespace.as_str());
    doc.put(Field::Namespace, &workload.namespace);
    doc.named(Field::Workload, namespace, &workload.name);
    if workload.kind == "Pod" {
        doc.put(Field::Pod, &workload.name);
    }
    doc.put(Field::Uid, &workload.uid);
    if let Some(owner) = &workload.owner {
        doc.named(Field::Workload, namespace, &owner.name);
        doc.put(Field::Uid, &owner.uid);
    }
    doc.maybe(Field::Node, workload.node.as_deref());
    for address in &workload.addresses {
        doc.put(Field::PeerAddress, address);
    }
    if let Some(account) = &workload.service_account {
        doc.named(Field::ServiceAccount, namespace, account);
    }
    for image in &workload.images {
        doc.put(Field::Image, &image.image);
        doc.maybe(Field::Digest, image.digest.as_deref());
    }
    if let Some(run) = &workload.task_run {
        doc.named(Field::Run, namespace, run);
    }
    let phase = workload.phase.as_deref().map(|phase| format!(" {phase}")).unwrap_or_default();
    format!("{} {}/{}{phase}", workload.kind, workload.namespace, workload.name)
}

fn of_action(doc: &mut Draft<'_>, action: &Action) -> String {
    doc.put(Field::Verb, &action.verb);
    doc.put(Field::Resource, &action.resource);
    doc.actor(&action.actor);
    if let Some(actor) = &action.impersonated {
        doc.actor(actor);
    }
    let namespace = action.namespace.as_deref();
    doc.maybe(Field::Namespace, namespace);
    let name = action.name.as_deref().unwrap_or_default();
    let kind_of_run = matches!(action.resource.as_str(), "pipelineruns" | "taskruns" | "customruns");
    match (kind_of_run, action.resource.as_str()) {
        (true, _) => doc.named(Field::Run, namespace, name),
        (false, "pods") => doc.put(Field::Pod, name),
        (false, _) => doc.named(Field::Workload, namespace, name),
    }
    doc.maybe(
        match action.resource.as_str() {
            "pipelineruns" => Field::PipelineRunId,
            "taskruns" | "customruns" => Field::TaskRunId,
            _ => Field::Uid,
        },
        action.uid.as_deref(),
    );
    if let Some(pod) = &action.pod {
        doc.put(Field::Pod, &pod.name);
        doc.maybe(Field::Uid, pod.uid.as_deref());
    }
    if let Some(status) = action.status {
        doc.number(Field::Status, u64::from(status));
    }
    for change in &action.changes {
        doc.words(change);
    }
    if let Some(refusal) = &action.refusal {
        doc.words(refusal);
    }
    let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("{} {} {place}{name}", action.verb, action.resource)
}

fn of_gap(doc: &mut Draft<'_>, gap: &Gap, seen: Period) -> (Period, String) {
    doc.put(Field::ErrorType, &gap.what);
    if let Some(source) = &gap.source {
        doc.words(&source.name);
    }
    if let Some(count) = gap.count {
        doc.number(Field::Count, count);
    }
    ((gap.from.unwrap_or(seen.0), gap.to.unwrap_or(seen.1)), format!("gap ({}): {}", gap.what, gap.detail))
}

fn import_period(import: &Import) -> Option<Period> {
    Some((import.oldest?, import.newest?))
}

fn import_summary(import: &Import) -> String {
    format!(
        "{} lines: {} understood, {} passed, {} opaque",
        import.lines, import.understood, import.passed, import.opaque
    )
}
