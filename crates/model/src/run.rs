//! Tekton: runs and triggers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Grade, Time, identity::PersonRef};

/// What kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunKind {
    /// A PipelineRun.
    PipelineRun,
    /// A TaskRun.
    TaskRun,
    /// A CustomRun.
    CustomRun,
    /// A v1alpha1 Run (Tekton 0.34 to 0.46).
    Run,
}

impl RunKind {
    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PipelineRun => "PipelineRun",
            Self::TaskRun => "TaskRun",
            Self::CustomRun => "CustomRun",
            Self::Run => "Run",
        }
    }
}

/// The state that an event's type names, in rank order: within one attempt a later one is never undone by an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// No condition yet.
    Queued,
    /// Condition Unknown, reason Started.
    Started,
    /// Condition Unknown, another reason than Started and Running (Pending, ToBeRetried, …).
    Unknown,
    /// Condition Unknown, reason Running.
    Running,
    /// Condition True.
    Successful,
    /// Condition False: failed, cancelled, timed out, invalid; the reason says which.
    Failed,
}

impl RunState {
    /// The run has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Successful | Self::Failed)
    }

    /// The word in the event type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started => "started",
            Self::Unknown => "unknown",
            Self::Running => "running",
            Self::Successful => "successful",
            Self::Failed => "failed",
        }
    }
}

/// One sighting of a run's condition. Repeats are recognised by (cluster, uid, attempt, state, reason, message,
/// completed), never by CloudEvent id or source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Kind of object.
    pub kind: RunKind,
    /// Namespace; absent when the event did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name; reused over time, never a key.
    pub name: String,
    /// `metadata.uid`, the object's key. Absent in events of foreign senders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The PipelineRun that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Name of the Pipeline, when referred to by name or labelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// Name of the task inside the Pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_task: Option<String>,
    /// Name of the Task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The state that the event's type names.
    pub state: RunState,
    /// Reason of the Succeeded condition; empty while there is no condition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Message of the Succeeded condition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many attempts ended before this one (`retriesStatus` length).
    #[serde(default)]
    pub attempt: u32,
    /// `metadata.creationTimestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// `status.startTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// `status.completionTime`: when the controller noticed, up to 75 s after the last step ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
    /// `lastTransitionTime` of the condition: an upper bound of the moment it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transition: Option<Time>,
    /// Steps with their own times: the ones to join with traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Service accounts that the run or its tasks use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<RunAccount>,
    /// Pods: of earlier attempts first, the present one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Every claim about commit and repository.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<CommitClaim>,
    /// Every claim about an image or artifact that the run made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactClaim>,
    /// Runs that this one started (`childReferences`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildRef>,
    /// Tasks that were skipped, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// The Triggers request that made the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerRef>,
    /// W3C traceparent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Who started it by its own annotations (grade: asserted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<PersonRef>,
    /// The envelope.
    pub event: Envelope,
}

/// CloudEvents attributes of the delivery. Context only: none of them is part of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// `id`.
    pub id: String,
    /// `source`, opaque.
    pub source: String,
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `time`: when sending began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// The owner of a child run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// Name of the PipelineRun.
    pub name: String,
    /// Its uid, from the owner reference or label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// A step's own times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The step's name.
    pub name: String,
    /// `terminated.startedAt` or `running.startedAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// `terminated.finishedAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Time>,
    /// Exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// `imageID` of the step's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A service account used by a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RunAccount {
    /// The pipeline task that it is for; absent for the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The account's name; its namespace is the run's.
    pub name: String,
}

/// One claim about what was built or deployed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct CommitClaim {
    /// Commit id as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Repository address as given, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Where it stood: `annotation pipelinesascode.tekton.dev/sha`, `param revision`, `result CHAINS-GIT_COMMIT`,
    /// `provenance refSource`.
    pub source: String,
    /// How far to trust it. Authenticated only for `provenance refSource`, which the resolver wrote.
    pub grade: Grade,
}

/// One claim about an artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactClaim {
    /// Image or artifact address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The result that said so.
    pub source: String,
    /// How far to trust it.
    pub grade: Grade,
}

/// A child as its parent lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ChildRef {
    /// TaskRun, CustomRun, Run or PipelineRun.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Pipeline task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_task: Option<String>,
}

/// A task that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// Pipeline task.
    pub name: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The Triggers request behind a run, from its labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerRef {
    /// `triggers.tekton.dev/triggers-eventid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// EventListener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
}

/// An EventListener handled a request. One request gives `started`, `done` and one `successful` per trigger that
/// created something, all under one event id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trigger {
    /// `started`, `successful`, `failed` or `done`.
    pub state: String,
    /// The request's id (also the CloudEvent's).
    pub event_id: String,
    /// Namespace of the EventListener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Names of the request's headers, and values of the harmless ones (`X-Github-Event`, `User-Agent`, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Option<String>)>,
    /// The envelope.
    pub event: Envelope,
}
