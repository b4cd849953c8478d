//! Who did what to which object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{When, identity::Actor};

/// One request of the Kubernetes audit log, or of SPIRE's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// When the request was received.
    pub occurred: When,
    /// `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// API group; empty for core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Resource, such as `pipelineruns`.
    pub resource: String,
    /// Subresource, such as `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
    /// Namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name; absent for a create with `generateName` whose answer was not logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// uid from the object reference or the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Who asked, as the API server authenticated it.
    pub actor: Actor,
    /// Whom the request was made for, when it impersonated somebody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonated: Option<Actor>,
    /// The actor's groups, but for `system:` ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The pod that the actor's token is bound to (`authentication.kubernetes.io/pod-name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<BoundPod>,
    /// `authentication.kubernetes.io/credential-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<String>,
    /// Status code of the answer; absent when the stage has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why the request was refused, as answered; only when `status` is 400 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What changed, for objects that we understand: `spec.status=Cancelled`, `image app=…@sha256:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Audit id: the same request logged at several stages.
    pub audit_id: String,
    /// `ResponseComplete` and so on.
    pub stage: String,
}

/// The pod in a bound token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BoundPod {
    /// Namespace: the service account's.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}
