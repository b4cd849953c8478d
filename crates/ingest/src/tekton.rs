//! Events of Tekton Pipelines and Triggers become [`Run`] and [`Trigger`] facts.
//!
//! Both generations of senders are read: the core reconciler (up to 1.11) and `tekton-events-controller` (since
//! 1.12), which differ in which states they send and how often, not in form: `dev.tekton.event.<kind>.<state>.v1`
//! with the whole object as data. The object is read by typed structs that borrow from the body, so a script of
//! megabytes costs a scan and nothing else.

mod claims;
mod triggers;
mod wire;

use model::{
    Fact,
    run::{ChildRef, Envelope, Parent, Run, RunAccount, RunKind, RunState, Skipped, Step, TriggerRef},
};

pub(crate) use claims::without_credentials;

use crate::{Context, Draft, PersonSeen, json::Str};
use wire::{Data, Object, Status};

/// Parser and version, as written in entries.
pub const PARSER: &str = "tekton/1";

/// Which event a type of Tekton names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType<'a> {
    /// A run changed condition.
    Run(RunKind, RunState),
    /// An EventListener handled a request: `started`, `successful`, `failed` or `done`.
    Trigger(&'a str),
}

impl<'a> EventType<'a> {
    /// Reads `dev.tekton.event.<kind>.<state>.v<n>`; `None` for every other type.
    pub fn parse(event_type: &'a str) -> Option<Self> {
        let mut parts = event_type.strip_prefix("dev.tekton.event.")?.split('.');
        let (kind, state, version) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || version.strip_prefix('v').is_none_or(|n| n.parse::<u8>().is_err()) {
            return None;
        }
        let kind = match kind {
            "pipelinerun" => RunKind::PipelineRun,
            "taskrun" => RunKind::TaskRun,
            "customrun" => RunKind::CustomRun,
            "run" => RunKind::Run,
            "triggers" if matches!(state, "started" | "successful" | "failed" | "done") => {
                return Some(Self::Trigger(state));
            }
            _ => return None,
        };
        let state = match state {
            "queued" => RunState::Queued,
            "started" => RunState::Started,
            "unknown" => RunState::Unknown,
            "running" => RunState::Running,
            "successful" => RunState::Successful,
            "failed" => RunState::Failed,
            _ => return None,
        };
        Some(Self::Run(kind, state))
    }
}

/// Reads the data of a Tekton event. The error is a fixed word and details, for [`model::fact::Opaque`].
pub fn read(
    event_type: EventType<'_>,
    event: Envelope,
    data: &[u8],
    context: &Context<'_>,
    persons: &mut Vec<PersonSeen>,
) -> Result<Draft, (&'static str, String)> {
    let (kind, state) = match event_type {
        EventType::Trigger(state) => return triggers::read(state, event, data),
        EventType::Run(kind, state) => (kind, state),
    };
    let not_json =
        |error: serde_json::Error| (if error.is_data() { "not_a_run" } else { "not_json" }, error.to_string());
    // `null` is valid data, of which nothing can be read.
    let data: Option<Data<'_>> = match std::str::from_utf8(data) {
        // Looked at once as a whole, which is faster than string by string.
        Ok(text) => serde_json::from_str(text),
        // What is wrong may stand where we do not read.
        Err(_) => serde_json::from_slice(data),
    }
    .map_err(not_json)?;
    let data = data.unwrap_or_default();
    let object = match kind {
        RunKind::PipelineRun => data.pipeline_run,
        RunKind::TaskRun => data.task_run,
        RunKind::CustomRun => data.custom_run,
        RunKind::Run => data.run,
    };
    let object = object.ok_or_else(|| ("no_object", format!("the data has no {}", kind.as_str())))?;
    let name = object.metadata.name.owned().or_else(|| event.subject.clone());
    let name = name.ok_or_else(|| ("no_object", format!("the {} has no name", kind.as_str())))?;
    let run = run(kind, state, name, event, &object, context, persons);
    let mut cut = Vec::new();
    lists_beyond(&object, &mut cut);
    Ok(Draft { place: None, parser: PARSER, fact: Fact::Run(Box::new(run)), cut })
}

fn run(
    kind: RunKind,
    state: RunState,
    name: String,
    event: Envelope,
    object: &Object<'_>,
    context: &Context<'_>,
    persons: &mut Vec<PersonSeen>,
) -> Run {
    let Object { metadata, spec, status } = object;
    let none = Status::default();
    let status = status.as_deref().unwrap_or(&none);
    let labels = &metadata.labels;
    let label = |name: &str| labels.text(name).map(str::to_owned);
    let condition = status.conditions.items.iter().find(|condition| condition.kind.get() == Some("Succeeded"));
    let sender = metadata.annotations.text("pipelinesascode.tekton.dev/sender").map(|sender| {
        let person = context.persons.reference(sender);
        persons.push((person.clone(), sender.to_owned()));
        person
    });
    let task = [&spec.task_ref, &spec.custom_ref, &spec.run_ref].into_iter().find_map(|r| r.name.owned());
    // A custom task without a name is known by its kind (`ApprovalTask`).
    let custom_kind = || [&spec.custom_ref, &spec.run_ref].into_iter().find_map(|r| r.kind.owned());
    let trigger = TriggerRef {
        event_id: label("triggers.tekton.dev/triggers-eventid"),
        listener: label("triggers.tekton.dev/eventlistener"),
        trigger: label("triggers.tekton.dev/trigger"),
    };
    let claims = claims::of(object);
    Run {
        kind,
        namespace: metadata.namespace.owned(),
        name,
        uid: metadata.uid.owned(),
        parent: parent(kind, object),
        pipeline: spec.pipeline_ref.name.owned().or_else(|| label("tekton.dev/pipeline")),
        pipeline_task: label("tekton.dev/pipelineTask"),
        task: task
            .or_else(|| label("tekton.dev/task"))
            .or_else(|| label("tekton.dev/clusterTask"))
            .or_else(custom_kind),
        state,
        reason: condition.and_then(|c| c.reason.owned()).unwrap_or_default(),
        message: condition.and_then(|c| c.message.owned()).unwrap_or_default(),
        attempt: attempts(status),
        created: metadata.creation_timestamp.time(),
        started: status.start_time.time(),
        completed: status.completion_time.time(),
        transition: condition.and_then(|c| c.last_transition_time.time()),
        steps: status.steps.items.iter().filter_map(step).collect(),
        service_accounts: service_accounts(object),
        pods: status
            .retries_status
            .items
            .iter()
            .map(|a| &a.pod_name)
            .chain([&status.pod_name])
            .filter_map(Str::owned)
            .collect(),
        commits: claims.commits,
        artifacts: claims.artifacts,
        children: children(status),
        skipped: status.skipped_tasks.items.iter().filter_map(skipped).collect(),
        trigger: (trigger != TriggerRef { event_id: None, listener: None, trigger: None }).then_some(trigger),
        traceparent: traceparent(kind, object, status),
        sender,
        event,
    }
}

/// Attempts that ended before this one.
fn attempts(status: &Status<'_>) -> u32 {
    let retries = status.retries_status.items.len() as u64 + status.retries_status.omitted();
    u32::try_from(retries).unwrap_or(u32::MAX)
}

/// The owner reference is set by the controller; the labels are copies that anybody may write.
fn parent(kind: RunKind, object: &Object<'_>) -> Option<Parent> {
    let owner = object.metadata.owner_references.items.iter().find(|owner| owner.kind.get() == Some("PipelineRun"));
    if let Some(owner) = owner {
        return Some(Parent { name: owner.name.owned()?, uid: owner.uid.owned() });
    }
    // A PipelineRun does not get these labels for its own sake.
    let labels = (kind != RunKind::PipelineRun).then_some(&object.metadata.labels)?;
    let name = labels.text("tekton.dev/pipelineRun")?.to_owned();
    Some(Parent { name, uid: labels.text("tekton.dev/pipelineRunUID").map(str::to_owned) })
}

fn step(step: &wire::Step<'_>) -> Option<Step> {
    let times = step.terminated.as_ref().or(step.running.as_ref());
    Some(Step {
        name: step.name.owned()?,
        started: times.and_then(|times| times.started_at.time()),
        finished: step.terminated.as_ref().and_then(|times| times.finished_at.time()),
        exit_code: step.terminated.as_ref().and_then(|times| times.exit_code),
        image: step.image_id.owned(),
    })
}

/// The run's own account first, then those of single tasks.
fn service_accounts(object: &Object<'_>) -> Vec<RunAccount> {
    let spec = &object.spec;
    let own = spec.service_account_name.owned().or_else(|| spec.task_run_template.service_account_name.owned());
    let mut accounts: Vec<RunAccount> = own.into_iter().map(|name| RunAccount { task: None, name }).collect();
    accounts.extend(spec.task_run_specs.items.iter().filter_map(|task| {
        let name = task.task_service_account_name.owned().or_else(|| task.service_account_name.owned())?;
        Some(RunAccount { task: task.pipeline_task_name.owned(), name })
    }));
    accounts.extend(spec.service_account_names.items.iter().filter_map(|task| {
        Some(RunAccount { task: task.task_name.owned(), name: task.service_account_name.owned()? })
    }));
    accounts
}

/// `childReferences`, or the names of the embedded statuses of old releases.
fn children(status: &Status<'_>) -> Vec<ChildRef> {
    let listed = status.child_references.items.iter().filter_map(|child| {
        Some(ChildRef {
            kind: child.kind.owned()?,
            name: child.name.owned()?,
            pipeline_task: child.pipeline_task_name.owned(),
        })
    });
    let embedded = [("TaskRun", &status.task_runs), ("Run", &status.runs)].into_iter().flat_map(|(kind, runs)| {
        runs.0.iter().map(move |(name, child)| ChildRef {
            kind: kind.to_owned(),
            name: name.clone().into_owned(),
            pipeline_task: child.pipeline_task_name.owned(),
        })
    });
    let mut children: Vec<ChildRef> = Vec::new();
    for child in listed.chain(embedded) {
        if !children.iter().any(|known| known.kind == child.kind && known.name == child.name) {
            children.push(child);
        }
    }
    children
}

fn skipped(task: &wire::SkippedTask<'_>) -> Option<Skipped> {
    Some(Skipped { name: task.name.owned()?, reason: task.reason.owned().unwrap_or_default() })
}

/// From the annotation of the run's own kind, its status, or the annotation inherited from the PipelineRun.
fn traceparent(kind: RunKind, object: &Object<'_>, status: &Status<'_>) -> Option<String> {
    let annotation = |name: &str| {
        let span: crate::json::Map<'_, Str<'_>> = serde_json::from_str(object.metadata.annotations.text(name)?).ok()?;
        span.text("traceparent").map(str::to_owned)
    };
    let own = match kind {
        RunKind::PipelineRun => "tekton.dev/pipelinerunSpanContext",
        RunKind::TaskRun => "tekton.dev/taskrunSpanContext",
        RunKind::CustomRun | RunKind::Run => "tekton.dev/customrunSpanContext",
    };
    annotation(own)
        .or_else(|| status.span_context.text("traceparent").map(str::to_owned))
        .or_else(|| annotation("tekton.dev/pipelinerunSpanContext"))
}

/// Lists of the object that were longer than we read.
fn lists_beyond(object: &Object<'_>, cut: &mut Vec<model::entry::Cut>) {
    object.spec.params.cut("/run/commits", cut);
    object.spec.task_run_specs.cut("/run/service_accounts", cut);
    let Some(status) = &object.status else { return };
    status.steps.cut("/run/steps", cut);
    status.retries_status.cut("/run/pods", cut);
    status.child_references.cut("/run/children", cut);
    status.skipped_tasks.cut("/run/skipped", cut);
    for results in [&status.task_results, &status.pipeline_results, &status.results] {
        results.cut("/run/artifacts", cut);
    }
}
