//! The status of a `ModelAdapter`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// How far the adapter has come.
///
/// A word that is none of these reads as [`Phase::Pending`]: AIBrix's controller writes others, and an object that it
/// left behind must not become unreadable for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
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
    /// Every phase, in the order in which they are passed; `Failed` last.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Scheduled, Self::Loading, Self::Bound, Self::Running, Self::Failed];

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

impl<'de> Deserialize<'de> for Phase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Self::ALL.into_iter().find(|phase| phase.as_str() == word).unwrap_or_default())
    }
}

/// What has become of it, written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelAdapterStatus {
    /// How far the adapter has come: Pending, Scheduled, Loading, Bound, Running or Failed.
    // No enumeration in the schema: an API server would refuse to touch an object on which AIBrix left another word.
    #[serde(default)]
    #[schemars(with = "String")]
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
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// The files that are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ArtifactStatus")]
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
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
}

/// The files that engines hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// `sha256:…`; absent where the bytes cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub digest: Option<String>,
    /// Size of the kept files in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub bytes: Option<i64>,
    /// LoRA rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
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
    /// Attempts so far. Where it is loaded, or nothing was tried yet, there is nothing to count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: i32,
    /// CamelCase word, absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub reason: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn full() -> ModelAdapterStatus {
        ModelAdapterStatus {
            phase: Phase::Running,
            candidates: 3,
            desired_replicas: 2,
            ready_replicas: 1,
            instances: vec!["qwen-0".into()],
            conditions: vec![Condition {
                type_: "Ready".into(),
                status: "True".into(),
                reason: "ModelAdapterAvailable".into(),
                message: "ModelAdapter default/qwen-code-lora is ready".into(),
                last_transition_time: "2025-02-16T19:14:55Z".into(),
                observed_generation: Some(4),
            }],
            observed_generation: Some(4),
            artifact: Some(ArtifactStatus {
                digest: Some(format!("sha256:{}", "ab".repeat(32))),
                bytes: Some(1_048_576),
                rank: Some(16),
                roots: vec!["/var/lib/longshore/sha256/abab".into()],
            }),
            engines: vec![EngineStatus {
                pod: "qwen-1".into(),
                state: "backing-off".into(),
                attempt: 2,
                reason: Some("ConnectionRefused".into()),
                since: "2025-02-16T19:14:55Z".into(),
            }],
        }
    }

    #[test]
    fn a_full_status_looks_like_this_and_reads_back() {
        insta::assert_json_snapshot!(full());
        let text = serde_json::to_value(full()).unwrap();
        assert_eq!(serde_json::from_value::<ModelAdapterStatus>(text).unwrap(), full());
    }

    #[test]
    fn an_empty_status_claims_only_its_counts() {
        assert_eq!(
            serde_json::to_value(ModelAdapterStatus::default()).unwrap(),
            json!({"phase": "Pending", "candidates": 0, "desiredReplicas": 0, "readyReplicas": 0})
        );
    }

    #[test]
    fn every_phase_reads_back_as_it_is_shown() {
        for phase in Phase::ALL {
            let shown = serde_json::to_value(phase).unwrap();
            assert_eq!(shown, json!(phase.to_string()));
            assert_eq!(serde_json::from_value::<Phase>(shown).unwrap(), phase);
        }
    }

    #[test]
    fn a_status_that_aibrix_left_behind_is_read() {
        let status: ModelAdapterStatus = serde_json::from_value(json!({
            "phase": "Starting",
            "instances": ["qwen-0"],
            "conditions": [{
                "type": "Initialized", "status": "Unknown", "reason": "ModelAdapterPending",
                "message": "Starting reconciliation", "lastTransitionTime": "2025-02-16T19:14:50Z"
            }],
            "somethingOfTheirs": true
        }))
        .unwrap();
        assert_eq!(status.phase, Phase::Pending);
        assert_eq!(status.instances, ["qwen-0"]);
    }
}
