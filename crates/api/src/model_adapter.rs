//! The `ModelAdapter` resource: AIBrix's, with a few fields more.

mod rules;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use longshore_types::ArtifactUrl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use rules::*;

use crate::status::ModelAdapterStatus;

/// The custom resource definition, ready to be applied to a cluster.
pub fn crd() -> CustomResourceDefinition {
    ModelAdapter::crd()
}

/// What is to be served, and where. Manifests written for AIBrix fit unchanged.
#[derive(CustomResource, KubeSchema, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "model.aibrix.ai",
    version = "v1alpha1",
    kind = "ModelAdapter",
    plural = "modeladapters",
    singular = "modeladapter",
    namespaced,
    status = "ModelAdapterStatus",
    derive = "PartialEq",
    doc = "A LoRA adapter to be served by the inference engines that its selector matches.",
    validation = NAME,
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Candidates", type_ = "integer", json_path = ".status.candidates"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Model Path", type_ = "string", json_path = ".spec.artifactURL"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Base Model", type_ = "string", json_path = ".spec.baseModel", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.artifact.digest", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ARTIFACT_TEXT,
    validation = ARTIFACT_SCHEME,
    validation = ARTIFACT_HUGGINGFACE,
    validation = ARTIFACT_ARCHIVE,
    validation = ONE_KEY
)]
pub struct ModelAdapterSpec {
    /// Base model that the engines must serve, compared with what they report. Any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = BASE_MODEL_MAX))]
    #[x_kube(validation = BASE_MODEL)]
    pub base_model: Option<String>,

    /// Which pods of the namespace may hold the adapter. Labels and expressions must all hold; empty is refused.
    #[schemars(schema_with = "schema::selector")]
    #[x_kube(validation = SELECTOR_EMPTY, validation = SELECTOR_VALUES)]
    pub pod_selector: LabelSelector,

    /// Where the adapter's files come from: huggingface://org/repo (also hf://), with @revision behind it or not,
    /// s3://bucket/prefix/, gs:// or gcs://, az://, http(s):// with an archive, oci://, file:///path or an absolute path.
    #[serde(rename = "artifactURL")]
    #[schemars(length(max = ARTIFACT_MAX))]
    pub artifact_url: String,

    /// Placement policy by name.
    #[serde(default = "default_policy")]
    #[schemars(length(max = POLICY_MAX))]
    #[x_kube(validation = POLICY)]
    pub scheduler_name: String,

    /// On how many engines. Every engine that matches when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(max = i32::MAX))]
    #[x_kube(validation = REPLICAS)]
    pub replicas: Option<i32>,

    /// Secret of the same namespace with the credentials for the artifact's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretRef")]
    pub credentials_secret_ref: Option<SecretRef>,

    /// Further settings. `api-key` is the engine's bearer token in the clear; engineApiKeySecretRef is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::config")]
    #[x_kube(validation = API_KEY)]
    pub additional_config: Option<BTreeMap<String, String>>,

    /// Key of a Secret of the same namespace with the engine's bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SecretKeyRef")]
    pub engine_api_key_secret_ref: Option<SecretKeyRef>,

    /// Digest that the adapter's files must have (`sha256:` and 64 hexadecimal digits). Anything else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = DIGEST_MAX))]
    #[x_kube(validation = DIGEST)]
    pub artifact_digest: Option<String>,

    /// Higher comes first; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = i32::MIN, max = i32::MAX))]
    pub priority: Option<i32>,

    /// Whether an adapter that fits nowhere may displace others of strictly lower priority. LowerPriority when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PreemptionPolicy")]
    pub preemption_policy: Option<PreemptionPolicy>,

    /// How a change of the artifact is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "UpdateStrategySpec")]
    pub update_strategy: Option<UpdateStrategySpec>,
}

/// A Secret of the object's namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(max = SECRET_NAME_MAX))]
    #[x_kube(validation = SECRET_NAME)]
    pub name: String,
}

/// One key of a Secret of the object's namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(max = SECRET_NAME_MAX))]
    #[x_kube(validation = SECRET_NAME)]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(max = SECRET_NAME_MAX))]
    #[x_kube(validation = SECRET_KEY)]
    pub key: String,
}

/// Whether an adapter that fits nowhere may displace others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PreemptionPolicy {
    /// Others of strictly lower priority may be displaced.
    #[default]
    LowerPriority,
    /// It waits.
    #[serde(rename = "None")]
    Never,
}

/// How a change of the artifact is carried out on the engines that hold the old one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategySpec {
    /// Replicas that may be away at once, at least 1; 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(max = i32::MAX))]
    #[x_kube(validation = MAX_UNAVAILABLE)]
    pub max_unavailable: Option<i32>,
    /// Upper bound of the drain before each unload in seconds, 0 to 3600; the controller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    #[x_kube(validation = DRAIN)]
    pub drain_seconds: Option<i32>,
}

impl ModelAdapterSpec {
    /// A spec with what has no default, and the defaults.
    pub fn new(pod_selector: LabelSelector, artifact_url: impl Into<String>) -> Self {
        Self {
            base_model: None,
            pod_selector,
            artifact_url: artifact_url.into(),
            scheduler_name: default_policy(),
            replicas: None,
            credentials_secret_ref: None,
            additional_config: None,
            engine_api_key_secret_ref: None,
            artifact_digest: None,
            priority: None,
            preemption_policy: None,
            update_strategy: None,
        }
    }
}

/// Without what may hold secrets (I8). An object's annotations can repeat them, since `kubectl apply` writes its last input
/// there: an object as a whole is never logged.
impl fmt::Debug for ModelAdapterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            base_model,
            pod_selector,
            artifact_url,
            scheduler_name,
            replicas,
            credentials_secret_ref,
            additional_config,
            engine_api_key_secret_ref,
            artifact_digest,
            priority,
            preemption_policy,
            update_strategy,
        } = self;
        f.debug_struct("ModelAdapterSpec")
            .field("base_model", base_model)
            .field("pod_selector", pod_selector)
            .field("artifact_url", &ArtifactUrl::new(artifact_url).ok())
            .field("scheduler_name", scheduler_name)
            .field("replicas", replicas)
            .field("credentials_secret_ref", credentials_secret_ref)
            .field("additional_config", &additional_config.as_ref().map(|config| config.keys().collect::<Vec<_>>()))
            .field("engine_api_key_secret_ref", engine_api_key_secret_ref)
            .field("artifact_digest", artifact_digest)
            .field("priority", priority)
            .field("preemption_policy", preemption_policy)
            .field("update_strategy", update_strategy)
            .finish()
    }
}

fn default_policy() -> String {
    "default".to_owned()
}
