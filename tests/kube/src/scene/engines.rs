//! What engines hold and did, and what routers are told of it.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use longshore_api::labels::{GROUP, KIND, VERSION};
use longshore_testkit::adapters::{AdapterRecipe, write};
use longshore_testkit::{LogEntry, SimConfig, What};
use serde_json::{Value, json};

use super::SOON;
use crate::{Cluster, Engine, ManualPod, manifests};

/// The base model of these engines, which is also the label by which adapters find them.
pub const MODEL: &str = longshore_testkit::tiny::NAME;

/// How many adapters an engine here has room for.
const ROOM: usize = 128;

/// How often an engine was asked to load an adapter and did, over all its lives.
pub fn loads(log: &[LogEntry], adapter: &str) -> usize {
    done(log, What::Load, adapter)
}

/// How often an engine was asked to unload an adapter and did.
pub fn unloads(log: &[LogEntry], adapter: &str) -> usize {
    done(log, What::Unload, adapter)
}

fn done(log: &[LogEntry], what: What, adapter: &str) -> usize {
    log.iter().filter(|entry| entry.what == what && entry.name == adapter && entry.status == 200).count()
}

/// The adapters that an engine lists.
pub async fn held(address: SocketAddr) -> Result<Vec<String>, String> {
    let asked = async { reqwest::get(format!("http://{address}/v1/models")).await?.json::<Value>().await };
    let models = asked.await.map_err(|error| error.to_string())?;
    let cards = models["data"].as_array().cloned().unwrap_or_default();
    let adapters = cards.iter().filter(|card| !card["parent"].is_null());
    Ok(adapters.filter_map(|card| card["id"].as_str().map(str::to_owned)).collect())
}

/// Takes an adapter off an engine behind everybody's back.
pub async fn unload(address: SocketAddr, adapter: &str) {
    let url = format!("http://{address}/v1/unload_lora_adapter");
    let answer = reqwest::Client::new().post(&url).json(&json!({"lora_name": adapter})).send().await;
    if let Err(error) = answer.and_then(reqwest::Response::error_for_status) {
        panic!("{url}: {error}");
    }
}

/// A ModelAdapter for so many engines, or for all.
pub fn adapter(namespace: &str, name: &str, url: &str, replicas: Option<usize>) -> String {
    let mut object = manifests::adapter(namespace, name, MODEL, url);
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    format!("---\n{object}\n")
}

impl Engine {
    /// The adapters that it lists.
    pub async fn held(&self) -> Vec<String> {
        held(self.sim.addr()).await.unwrap_or_else(|error| panic!("{}: {error}", self.pod.name()))
    }

    /// How often it has loaded an adapter.
    pub fn loads(&self, adapter: &str) -> usize {
        loads(&self.control().log(), adapter)
    }
}

impl Cluster {
    /// The path of a good adapter that every engine can read; another seed is another adapter.
    pub fn artifact(&self, name: &str, seed: u64) -> String {
        let folder = self.shared().join("adapters").join(name);
        if let Err(error) = write(&folder, &AdapterRecipe::seeded(seed)) {
            panic!("{}: {error}", folder.display());
        }
        folder.to_string_lossy().into_owned()
    }

    /// An engine of [`MODEL`] in the test's process, whose pod has been Ready for long.
    pub async fn engine(&self, namespace: &str, name: &str) -> Engine {
        let config = SimConfig { max_cpu_loras: ROOM, hub: Some(self.hub()), ..SimConfig::default() };
        Engine::start(self, namespace, name, config, |pod: ManualPod| {
            pod.label("model.aibrix.ai/name", MODEL)
                .args(&["--enable-lora", &format!("--max-cpu-loras={ROOM}"), "--max-lora-rank=16"])
                .ready_for(Duration::from_secs(60))
        })
        .await
    }

    /// An `Api` of adapters that takes and shows all that the server has.
    pub fn adapters(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
        Api::namespaced_with(self.client().clone(), namespace, &resource)
    }

    /// The status of an adapter.
    pub async fn status(&self, namespace: &str, adapter: &str) -> Result<Value, String> {
        let found = self.adapters(namespace).get(adapter).await.map_err(|error| error.to_string())?;
        Ok(found.data["status"].clone())
    }

    /// Waits until an adapter is in this phase, with `Ready` saying so.
    pub async fn until_phase(&self, namespace: &str, adapter: &str, phase: &str, ready: bool) {
        let expected = if ready { "True" } else { "False" };
        self.wait_for(&format!("{adapter} {phase}, Ready={expected}"), SOON, async || {
            let status = self.status(namespace, adapter).await?;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let says = |condition: &Value| condition["type"] == "Ready" && condition["status"] == expected;
            if status["phase"] == phase && conditions.iter().any(says) { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// Waits until no object of these adapters is left.
    pub async fn until_gone(&self, namespace: &str, adapters: &[&str]) {
        self.wait_for(&format!("the end of {}", adapters.join(", ")), SOON, async || {
            let found =
                self.adapters(namespace).list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let left: Vec<_> = found.items.into_iter().filter_map(|object| object.metadata.name).collect();
            match left.iter().any(|name| adapters.contains(&name.as_str())) {
                true => Err(format!("{left:?} are left")),
                false => Ok(()),
            }
        })
        .await;
    }

    /// The pods to which routers may send requests for an adapter, by name.
    pub async fn ready_on(&self, namespace: &str, adapter: &str) -> Result<Vec<String>, String> {
        let slices: Api<EndpointSlice> = self.api(namespace);
        let labels =
            format!("model.aibrix.ai/name={adapter},endpointslice.kubernetes.io/managed-by=longshore-controller");
        let found = slices.list(&ListParams::default().labels(&labels)).await.map_err(|error| error.to_string())?;
        let endpoints = found.items.into_iter().flat_map(|slice| slice.endpoints);
        let ready =
            endpoints.filter(|one| one.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true));
        let mut pods: Vec<_> = ready.filter_map(|one| one.target_ref.and_then(|target| target.name)).collect();
        pods.sort();
        Ok(pods)
    }

    /// Waits until just these pods are the ones.
    pub async fn until_ready_on(&self, namespace: &str, adapter: &str, pods: &[&str]) {
        self.wait_for(&format!("{adapter} on {pods:?} alone"), SOON, async || {
            let found = self.ready_on(namespace, adapter).await?;
            if found == pods { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}
