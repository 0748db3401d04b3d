//! A driver beside an API server and engines that are both in this process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_engine::{Engine, FakeEngine};
use longshore_reconciler::{Config, Reconciler};
use longshore_types::{EngineId, Fault, Namespace, Scope};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::super::connect::{Connect, Refused};
use super::super::fence::Fence;
use super::super::pods::Access;
use super::super::testing::{Seen, Server};
use super::super::{Driver, EngineKeySecret, Options, demand};
use crate::fleet::FleetStore;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Engines by the name of their pod.
#[derive(Default)]
pub(super) struct FakeConnect(Mutex<BTreeMap<String, Arc<dyn Engine>>>);

impl Connect for FakeConnect {
    fn connect(&self, id: &EngineId, _: Option<&Access>) -> Arc<dyn Engine> {
        let engines = self.0.lock().unwrap();
        engines
            .get(&*id.name)
            .cloned()
            .unwrap_or_else(|| Arc::new(Refused(Fault::new(Scope::Engine, "UnsupportedEngine", "the test has none"))))
    }
}

/// Everything around a driver.
pub(super) struct World {
    pub server: Server,
    pub connect: Arc<FakeConnect>,
    pub namespaces: Vec<Namespace>,
    pub reconciler: Config,
    pub engine_key: Option<EngineKeySecret>,
}

/// A driver, and what was given to it.
pub(super) struct Running {
    pub driver: Driver,
    pub fence: Fence,
    pub fleet: Arc<FleetStore>,
    _demand: tokio::sync::mpsc::Sender<longshore_api::fleet::Demand>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            server: Server::new(),
            connect: Arc::default(),
            namespaces: Vec::new(),
            reconciler: Config::default(),
            engine_key: None,
        }
    }

    pub(super) fn start(&self) -> Running {
        let (sender, receiver) = demand();
        let (fence, fleet) = (Fence::open(), Arc::new(FleetStore::new()));
        let options = Options {
            client: self.server.client(),
            fence: fence.clone(),
            namespaces: self.namespaces.clone(),
            reconciler: self.reconciler.clone(),
            policy: None,
            engine_key: self.engine_key.clone(),
            instance: "test-1".to_owned(),
        };
        let connect = self.connect.clone();
        let brain = Reconciler::new(self.reconciler.clone());
        let driver = Driver::start_with(options, fleet.clone(), receiver, brain, |_| connect);
        Running { driver, fence, fleet, _demand: sender }
    }

    /// A Ready pod with an engine in it that serves `tiny`.
    pub(super) fn engine(&self, name: &str, labels: &Value) -> Arc<FakeEngine> {
        let engine = Arc::new(FakeEngine::new("tiny"));
        self.connect.0.lock().unwrap().insert(name.to_owned(), engine.clone());
        self.pod(name, labels);
        engine
    }

    pub(super) fn pod(&self, name: &str, labels: &Value) {
        self.server.put(&pod_path(name), pod(name, labels));
    }

    pub(super) fn adapter(&self, name: &str, selects: &str) {
        self.server.put(&adapter_path(name), adapter(name, selects));
    }

    /// The API server's word on an adapter's phase.
    pub(super) fn phase(&self, name: &str) -> String {
        let object = self.server.get(&adapter_path(name)).unwrap_or_default();
        object["status"]["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// A condition of an adapter: its status, reason and message.
    pub(super) fn condition(&self, name: &str, type_: &str) -> (String, String, String) {
        let object = self.server.get(&adapter_path(name)).unwrap_or_default();
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|one| one["type"] == type_).unwrap_or_default();
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// Addresses that routers are given for a model.
    pub(super) fn endpoints(&self, model: &str) -> Vec<String> {
        let slices = self.server.below("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/");
        let of_model = slices.into_iter().filter(|slice| slice["metadata"]["labels"]["model.aibrix.ai/name"] == model);
        let endpoints = of_model.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let mut addresses: Vec<_> =
            endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap_or_default().to_owned()).collect();
        addresses.sort();
        addresses
    }

    /// Waits until it is so. Paused time makes the bound free.
    pub(super) async fn until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !is(self) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let objects = || self.server.below("/apis/model.aibrix.ai/");
        assert!(timeout(SECOND * 900, wait).await.is_ok(), "never {what}: {:#}", Value::from(objects()));
    }

    pub(super) async fn runs(&self, name: &str) {
        self.until(&format!("{name} runs"), |world| world.phase(name) == "Running").await;
    }
}

impl Running {
    pub(super) async fn stop(self) {
        self.driver.stop().await;
    }
}

pub(super) fn adapter_path(name: &str) -> String {
    format!("/apis/model.aibrix.ai/v1alpha1/namespaces/default/modeladapters/{name}")
}

pub(super) fn pod_path(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{name}")
}

pub(super) fn adapter(name: &str, selects: &str) -> Value {
    json!({
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z"
        },
        "spec": {"podSelector": {"matchLabels": {"app": selects}}, "artifactURL": format!("/srv/{name}")}
    })
}

/// Pods have the addresses 10.0.0.1, 10.0.0.2 and so on, by the last character of their names.
pub(super) fn pod(name: &str, labels: &Value) -> Value {
    let last = name.as_bytes().last().map_or(1, |last| u32::from(*last) % 16);
    let address = format!("10.0.0.{last}");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": labels},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.11.0", "ports": [{"containerPort": 8000}]}]
        },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [{
                "name": "vllm", "image": "vllm", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": format!("containerd://{name}"), "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            }]
        }
    })
}

/// The last part of the path of each write, without events.
pub(super) fn writes(server: &Server) -> Vec<String> {
    let written = server.take_writes().into_iter().filter(|seen| !seen.path.contains("/events"));
    written.map(|seen| format!("{} {}", seen.method, kind_of(&seen))).collect()
}

/// `endpointslices`, `modeladapters/status` and so on.
pub(super) fn kind_of(seen: &Seen) -> String {
    let parts: Vec<&str> = seen.path.split('/').skip_while(|part| *part != "namespaces").skip(2).collect();
    match parts.as_slice() {
        [plural, _, below] => format!("{plural}/{below}"),
        [plural, ..] => (*plural).to_owned(),
        [] => seen.path.clone(),
    }
}

pub(super) fn held(engine: &FakeEngine) -> Vec<String> {
    engine.adapters().into_iter().map(|model| model.id).collect()
}
