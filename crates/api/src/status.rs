//! The status of a `ModelAdapter`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far the adapter has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Seen; no engine chosen.
    #[default]
    Pending,
    /// Engines chosen.
    Scheduled,
    /// Being fetched or loaded.
    Loading,
    /// At least one engine has it; endpoints are being published.
    Bound,
    /// Requests are answered.
    Running,
    /// It cannot be served as it is declared.
    Failed,
}

impl Phase {
    /// The phase as status shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Scheduled => "Scheduled",
            Self::Loading => "Loading",
            Self::Bound => "Bound",
            Self::Running => "Running",
            Self::Failed => "Failed",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `status` of a `ModelAdapter`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelAdapterStatus {
    /// How far the adapter has come.
    #[serde(default)]
    pub phase: Phase,
    /// Engines that could hold it: they match, are ready and pass every hard rule.
    #[serde(default)]
    pub candidates: i32,
    /// Engines that should hold it.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Engines whose present life has confirmed it and that are published.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Names of the engines that hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// The present truth, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The files that are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactStatus>,
    /// At most 16 engines, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineStatus>,
}

/// One condition, in the form that Kubernetes uses everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Initialized`, `Scheduled`, `Loading`, `Bound`, `ResourceCreated`, `Ready` or `UpToDate`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When `status` last changed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The files that engines hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// `sha256:…`; absent where the bytes cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Size of the kept files in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// LoRA rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i32>,
    /// The paths or repositories by which engines hold it; two while it is being changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<String>,
}

/// One engine, as the adapter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// The engine.
    pub pod: String,
    /// `wanted`, `loading`, `loaded`, `backing-off`, `refused`, `draining` or `unloading`.
    pub state: String,
    /// Attempts so far.
    #[serde(default)]
    pub attempt: i32,
    /// CamelCase word, absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
}
