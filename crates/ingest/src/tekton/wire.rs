//! What we read of a run, in the spellings of v1beta1 and v1. One shape serves all four kinds: the API gives a field
//! the same meaning wherever it stands (tektoncd/pipeline `pkg/apis/pipeline/{v1beta1,v1,v1alpha1}`).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{List, Map, Str};

/// The data of a Tekton event: exactly one member is there. Boxed, as is the status, because serde moves what it has read
/// from one hand to the next, and moving kilobytes costs more than reading them.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub(super) pipeline_run: Option<Box<Object<'a>>>,
    #[serde(borrow)]
    pub(super) task_run: Option<Box<Object<'a>>>,
    #[serde(borrow)]
    pub(super) custom_run: Option<Box<Object<'a>>>,
    #[serde(borrow)]
    pub(super) run: Option<Box<Object<'a>>>,
}

/// A PipelineRun, TaskRun, CustomRun or Run.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Object<'a> {
    #[serde(borrow)]
    pub(super) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(super) spec: Spec<'a>,
    #[serde(borrow)]
    pub(super) status: Option<Box<Status<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) namespace: Str<'a>,
    #[serde(borrow)]
    pub(super) uid: Str<'a>,
    #[serde(borrow)]
    pub(super) creation_timestamp: Str<'a>,
    #[serde(borrow)]
    pub(super) labels: Map<'a, Str<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Map<'a, Str<'a>>,
    #[serde(borrow)]
    pub(super) owner_references: List<OwnerReference<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnerReference<'a> {
    #[serde(borrow)]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) uid: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec<'a> {
    #[serde(borrow)]
    pub(super) params: List<Named<'a>>,
    #[serde(borrow)]
    pub(super) service_account_name: Str<'a>,
    /// v1: where a PipelineRun's own account stands.
    #[serde(borrow)]
    pub(super) task_run_template: TaskRunTemplate<'a>,
    #[serde(borrow)]
    pub(super) task_run_specs: List<TaskRunSpec<'a>>,
    /// Before 0.45: accounts per task.
    #[serde(borrow)]
    pub(super) service_account_names: List<TaskAccount<'a>>,
    #[serde(borrow)]
    pub(super) pipeline_ref: Reference<'a>,
    #[serde(borrow)]
    pub(super) task_ref: Reference<'a>,
    #[serde(borrow)]
    pub(super) custom_ref: Reference<'a>,
    /// v1alpha1 Run.
    #[serde(borrow, rename = "ref")]
    pub(super) run_ref: Reference<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TaskRunTemplate<'a> {
    #[serde(borrow)]
    pub(super) service_account_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the names are those on the wire")]
pub(super) struct TaskRunSpec<'a> {
    #[serde(borrow)]
    pub(super) pipeline_task_name: Str<'a>,
    /// v1beta1.
    #[serde(borrow)]
    pub(super) task_service_account_name: Str<'a>,
    /// v1.
    #[serde(borrow)]
    pub(super) service_account_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TaskAccount<'a> {
    #[serde(borrow)]
    pub(super) task_name: Str<'a>,
    #[serde(borrow)]
    pub(super) service_account_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) kind: Str<'a>,
}

/// A parameter or result: the value is a string, an array or an object.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Named<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) value: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the names are those on the wire")]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) conditions: List<Condition<'a>>,
    #[serde(borrow)]
    pub(super) start_time: Str<'a>,
    #[serde(borrow)]
    pub(super) completion_time: Str<'a>,
    #[serde(borrow)]
    pub(super) pod_name: Str<'a>,
    /// Of each attempt only the pod is read, so nothing here nests.
    #[serde(borrow)]
    pub(super) retries_status: List<Attempt<'a>>,
    #[serde(borrow)]
    pub(super) steps: List<Step<'a>>,
    /// v1beta1 TaskRun.
    #[serde(borrow)]
    pub(super) task_results: List<Named<'a>>,
    /// v1beta1 PipelineRun.
    #[serde(borrow)]
    pub(super) pipeline_results: List<Named<'a>>,
    /// v1, and CustomRun.
    #[serde(borrow)]
    pub(super) results: List<Named<'a>>,
    #[serde(borrow)]
    pub(super) child_references: List<ChildReference<'a>>,
    /// Embedded status (before 0.45): TaskRuns by name.
    #[serde(borrow)]
    pub(super) task_runs: Map<'a, Embedded<'a>>,
    /// Embedded status (before 0.45): Runs by name.
    #[serde(borrow)]
    pub(super) runs: Map<'a, Embedded<'a>>,
    #[serde(borrow)]
    pub(super) skipped_tasks: List<SkippedTask<'a>>,
    #[serde(borrow)]
    pub(super) provenance: Provenance<'a>,
    /// v1 only: lost in the conversion for events.
    #[serde(borrow)]
    pub(super) span_context: Map<'a, Str<'a>>,
    /// v1 only.
    #[serde(borrow)]
    pub(super) artifacts: Artifacts<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) reason: Str<'a>,
    #[serde(borrow)]
    pub(super) message: Str<'a>,
    #[serde(borrow)]
    pub(super) last_transition_time: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Attempt<'a> {
    #[serde(borrow)]
    pub(super) pod_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Step<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow, rename = "imageID")]
    pub(super) image_id: Str<'a>,
    #[serde(borrow)]
    pub(super) terminated: Option<StepTimes<'a>>,
    #[serde(borrow)]
    pub(super) running: Option<StepTimes<'a>>,
    #[serde(borrow)]
    pub(super) results: List<Named<'a>>,
    #[serde(borrow)]
    pub(super) inputs: List<Artifact<'a>>,
    #[serde(borrow)]
    pub(super) outputs: List<Artifact<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StepTimes<'a> {
    #[serde(borrow)]
    pub(super) started_at: Str<'a>,
    #[serde(borrow)]
    pub(super) finished_at: Str<'a>,
    pub(super) exit_code: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ChildReference<'a> {
    #[serde(borrow)]
    pub(super) kind: Str<'a>,
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) pipeline_task_name: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Embedded<'a> {
    #[serde(borrow)]
    pub(super) pipeline_task_name: Str<'a>,
    #[serde(borrow)]
    pub(super) status: EmbeddedStatus<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EmbeddedStatus<'a> {
    #[serde(borrow)]
    pub(super) task_results: List<Named<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct SkippedTask<'a> {
    #[serde(borrow)]
    pub(super) name: Str<'a>,
    #[serde(borrow)]
    pub(super) reason: Str<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Provenance<'a> {
    #[serde(borrow)]
    pub(super) ref_source: RefSource<'a>,
    /// Before 0.45.
    #[serde(borrow)]
    pub(super) config_source: RefSource<'a>,
}

/// Where a resolver found the definition.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct RefSource<'a> {
    #[serde(borrow)]
    pub(super) uri: Str<'a>,
    #[serde(borrow)]
    pub(super) digest: Map<'a, Str<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Artifacts<'a> {
    #[serde(borrow)]
    pub(super) inputs: List<Artifact<'a>>,
    #[serde(borrow)]
    pub(super) outputs: List<Artifact<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Artifact<'a> {
    #[serde(borrow)]
    pub(super) values: List<RefSource<'a>>,
}
