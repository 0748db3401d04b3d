//! The fleet API's wire forms: what is loaded where. JSON with camelCase names; fields are added, never renamed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `GET /v1/adapters`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterList {
    /// Opaque; equal means nothing changed.
    pub revision: String,
    /// Ordered by namespace and name.
    pub adapters: Vec<Adapter>,
}

/// `GET /v1/engines`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineList {
    /// Opaque; equal means nothing changed.
    pub revision: String,
    /// Ordered by namespace and name.
    pub engines: Vec<Engine>,
}

/// `GET /v1/adapters/{name}/pods`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacementList {
    /// Opaque; equal means nothing changed.
    pub revision: String,
    /// Only engines whose present boot has confirmed the adapter.
    pub pods: Vec<Placement>,
}

/// One adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    /// Namespace of the declaring object.
    pub namespace: String,
    /// What clients put in `model`.
    pub name: String,
    /// Kind of the declaring object.
    pub kind: String,
    /// Name of the declaring object.
    pub object: String,
    /// Base model: the engines' own once one is known, else as declared.
    pub base_model: Option<String>,
    /// Without userinfo and query.
    #[serde(rename = "artifactURL")]
    pub artifact_url: String,
    /// `sha256:…`, null while unknown.
    pub digest: Option<String>,
    /// Size of the kept files in bytes.
    pub bytes: Option<u64>,
    /// LoRA rank.
    pub rank: Option<u32>,
    /// `Pending`, `Scheduled`, `Loading`, `Bound`, `Running` or `Failed`.
    pub phase: String,
    /// Why it is not ready, as a CamelCase word; empty when it is. `UpdateFailed` where the version before is served.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// Higher comes first.
    pub priority: i32,
    /// Engines that should hold it.
    pub desired_replicas: u32,
    /// Engines whose present boot has confirmed it and that are published.
    pub ready_replicas: u32,
    /// Generation of the declaring object.
    pub generation: i64,
    /// Every engine that it concerns, worst first.
    pub engines: Vec<AdapterEngine>,
    /// Where requests may be sent now.
    pub endpoints: Vec<Placement>,
    /// Whether its only holder is being changed over, which takes less than a second: requests wait instead of failing.
    #[serde(default)]
    pub swapping: bool,
    /// How far its files have come, while they are fetched; null else.
    #[serde(default)]
    pub fetching: Option<Fetching>,
}

/// A fetch under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetching {
    /// Bytes that have come: compressed ones, where it is an archive.
    pub bytes: u64,
    /// How many there will be, null where the source does not say.
    pub total: Option<u64>,
    /// Bytes a second, over the last second or so.
    pub bytes_per_second: u64,
}

/// `12.0 of 84.0 MB, 6.5 MB/s`, in units of a million.
impl fmt::Display for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = |bytes: u64| bytes as f64 / 1e6;
        write!(f, "{:.1}", millions(self.bytes))?;
        if let Some(total) = self.total {
            write!(f, " of {:.1}", millions(total))?;
        }
        write!(f, " MB, {:.1} MB/s", millions(self.bytes_per_second))
    }
}

impl Adapter {
    /// What there is to say of it now, in a sentence: why it is not ready, and how far its files have come.
    pub fn news(&self) -> String {
        match &self.fetching {
            Some(fetching) => format!("fetching its files: {fetching}"),
            None => self.message.clone(),
        }
    }
}

/// One engine, as one adapter sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterEngine {
    /// The engine's name.
    pub engine: String,
    /// `wanted`, `loading`, `loaded`, `backing-off`, `refused`, `draining` or `unloading`.
    pub state: String,
    /// Attempts so far.
    pub attempt: u32,
    /// CamelCase word, empty when all is well.
    pub reason: String,
    /// A sentence, empty when all is well.
    pub message: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// The digest that it holds or loads.
    pub digest: Option<String>,
}

/// Where one adapter may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The engine's name.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// Host name or IP address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// Node, where known.
    pub node: Option<String>,
    /// Zone, where known.
    pub zone: Option<String>,
    /// The life of the engine that confirmed it.
    pub boot: String,
    /// The digest that it holds, null where the bytes are not known.
    pub digest: Option<String>,
    /// `loaded`.
    pub state: String,
}

/// One engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Pod name, or `host:port`.
    pub engine: String,
    /// Namespace.
    #[serde(default)]
    pub namespace: String,
    /// `http://host:port`.
    #[serde(default)]
    pub url: String,
    /// `vllm`, `sglang` or `simulated`.
    #[serde(default)]
    pub kind: String,
    /// Base model, null until the engine has said.
    pub base_model: Option<String>,
    /// Whether requests may be sent to it.
    #[serde(default)]
    pub ready: bool,
    /// Why not, CamelCase; empty when ready.
    #[serde(default)]
    pub reason: String,
    /// The same in a sentence.
    #[serde(default)]
    pub message: String,
    /// Its present life, null until known.
    pub boot: Option<String>,
    /// Labels that selectors are held against.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Adapters per batch.
    pub max_loras: Option<u32>,
    /// Adapters held in host memory; a hard number where given.
    pub max_cpu_loras: Option<u32>,
    /// Largest rank that it takes.
    pub max_lora_rank: Option<u32>,
    /// What it holds.
    #[serde(default)]
    pub resident: Vec<Resident>,
    /// How busy it was when last listed.
    #[serde(default)]
    pub load: Load,
}

/// One adapter that an engine lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resident {
    /// The name that the engine lists.
    pub name: String,
    /// Its digest, null where the bytes are not known.
    pub digest: Option<String>,
    /// Whether an object declares it and it is held from where we put it.
    pub ours: bool,
}

/// How busy an engine is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Requests running.
    pub running: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Of those, waiting for an adapter slot in the batch.
    pub deferred: u32,
    /// 0 to 1.
    pub kv_usage: f64,
}

/// What `event: delete` carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gone {
    /// Namespace.
    pub namespace: String,
    /// Adapter or engine name.
    pub name: String,
}

/// `POST /v1/demand`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Demand {
    /// The router that reports.
    pub router: String,
    /// Counts since its last report.
    #[serde(default)]
    pub adapters: Vec<AdapterDemand>,
    /// Engines that answered that they lack an adapter.
    #[serde(default)]
    pub missing: Vec<Missing>,
}

/// Requests for one adapter since the last report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdapterDemand {
    /// Namespace.
    pub namespace: String,
    /// Adapter.
    pub name: String,
    /// Requests begun.
    #[serde(default)]
    pub requests: u64,
    /// Requests under way now.
    #[serde(default)]
    pub in_flight: u64,
    /// Requests that wait for the adapter.
    #[serde(default)]
    pub waiting: u64,
}

/// An engine answered that it has no such adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Missing {
    /// Namespace.
    pub namespace: String,
    /// Adapter.
    pub name: String,
    /// The engine.
    pub pod: String,
}

/// Every error answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// Code and message of an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// `NotFound`, `BadRequest`, `Conflict`, `Unavailable`.
    pub code: String,
    /// One sentence.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    fn placement() -> Placement {
        Placement {
            pod: "qwen-0".into(),
            namespace: "default".into(),
            address: "10.244.0.7".into(),
            port: 8000,
            node: Some("node-a".into()),
            zone: None,
            boot: "uid-1/0".into(),
            digest: Some("sha256:ab".into()),
            state: "loaded".into(),
        }
    }

    fn adapters() -> AdapterList {
        AdapterList {
            revision: "7".into(),
            adapters: vec![Adapter {
                namespace: "default".into(),
                name: "sql-lora".into(),
                kind: "ModelAdapter".into(),
                object: "sql-lora".into(),
                base_model: Some("tiny-base".into()),
                artifact_url: "hf://org/sql".into(),
                digest: None,
                bytes: Some(1_048_576),
                rank: Some(16),
                phase: "Running".into(),
                reason: String::new(),
                message: String::new(),
                priority: 0,
                desired_replicas: 2,
                ready_replicas: 1,
                generation: 3,
                engines: vec![AdapterEngine {
                    engine: "qwen-1".into(),
                    state: "backing-off".into(),
                    attempt: 2,
                    reason: "ConnectionRefused".into(),
                    message: "connection refused".into(),
                    since: "2025-02-16T19:14:50Z".into(),
                    digest: None,
                }],
                endpoints: vec![placement()],
                swapping: false,
                fetching: None,
            }],
        }
    }

    #[test]
    fn a_fetch_is_told_in_one_line() {
        let fetching = Fetching { bytes: 12_000_000, total: Some(84_000_000), bytes_per_second: 6_540_000 };
        assert_eq!(fetching.to_string(), "12.0 of 84.0 MB, 6.5 MB/s");
        assert_eq!(Fetching { total: None, ..fetching.clone() }.to_string(), "12.0 MB, 6.5 MB/s");
        let adapter = Adapter { message: "waits".into(), fetching: Some(fetching), ..Adapter::default() };
        assert_eq!(adapter.news(), "fetching its files: 12.0 of 84.0 MB, 6.5 MB/s");
        assert_eq!(Adapter { fetching: None, ..adapter }.news(), "waits");
    }

    fn engines() -> EngineList {
        EngineList {
            revision: "7".into(),
            engines: vec![Engine {
                engine: "qwen-0".into(),
                namespace: "default".into(),
                url: "http://10.244.0.7:8000".into(),
                kind: "vllm".into(),
                base_model: Some("tiny-base".into()),
                ready: true,
                boot: Some("uid-1/0".into()),
                labels: BTreeMap::from([("model.aibrix.ai/name".into(), "tiny-base".into())]),
                max_loras: Some(4),
                max_cpu_loras: Some(16),
                resident: vec![Resident { name: "sql-lora".into(), digest: Some("sha256:ab".into()), ours: true }],
                load: Load { running: 3, waiting: 1, deferred: 0, kv_usage: 0.25 },
                ..Engine::default()
            }],
        }
    }

    fn demand() -> Demand {
        Demand {
            router: "router-0".into(),
            adapters: vec![AdapterDemand {
                namespace: "default".into(),
                name: "sql-lora".into(),
                requests: 12,
                in_flight: 3,
                waiting: 1,
            }],
            missing: vec![Missing { namespace: "default".into(), name: "sql-lora".into(), pod: "qwen-0".into() }],
        }
    }

    fn reads_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
    }

    #[test]
    fn every_answer_reads_back_as_it_was_written() {
        reads_back(&adapters());
        reads_back(&engines());
        reads_back(&PlacementList { revision: "7".into(), pods: vec![placement()] });
        reads_back(&Gone { namespace: "default".into(), name: "sql-lora".into() });
        reads_back(&demand());
        let detail = ErrorDetail { code: "NotFound".into(), message: "no adapter `x`".into() };
        reads_back(&ErrorBody { error: detail });
    }

    #[test]
    fn the_answers_look_like_this() {
        insta::assert_json_snapshot!("adapters", adapters());
        insta::assert_json_snapshot!("engines", engines());
        insta::assert_json_snapshot!("demand", demand());
    }

    #[test]
    fn a_reader_takes_an_answer_with_fields_that_it_does_not_know() {
        let mut answer = serde_json::to_value(adapters()).unwrap();
        answer["adapters"][0]["addedLater"] = json!({"x": 1});
        assert_eq!(serde_json::from_value::<AdapterList>(answer).unwrap(), adapters());
    }

    #[test]
    fn a_report_of_demand_with_a_misspelt_field_is_refused() {
        let report = json!({"router": "r", "adapters": [{"namespace": "a", "name": "b", "inflight": 1}]});
        assert!(serde_json::from_value::<Demand>(report).unwrap_err().to_string().contains("inflight"));
    }
}
