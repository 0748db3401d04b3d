//! What is shown and routed to is what engines really hold: pods that go, restart, flap or lie, adapters that change, move
//! and are deleted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "truth/change.rs"]
mod change;
#[path = "truth/deletion.rs"]
mod deletion;
#[path = "truth/pods.rs"]
mod pods;
#[path = "truth/spread.rs"]
mod spread;

use std::time::Duration;

use longshore_kube_tests::scene::engines::{held, loads};
use longshore_kube_tests::{Cluster, Engine, ManualPod, manifests};
use longshore_testkit::SimConfig;
use longshore_testkit::adapters::{AdapterRecipe, write};
use serde_json::{Value, json};

/// The label by which adapters find engines here.
const MODEL: &str = "tiny-base";

/// The path of a good adapter that every engine can read; another seed is another adapter.
fn artifact(cluster: &Cluster, name: &str, seed: u64) -> String {
    let folder = cluster.shared().join("adapters").join(name);
    write(&folder, &AdapterRecipe::seeded(seed)).unwrap();
    folder.to_string_lossy().into_owned()
}

/// An engine that has been Ready for long, with room for what these scenes load.
async fn engine(cluster: &Cluster, name: &str) -> Engine {
    let config = SimConfig { max_cpu_loras: 128, hub: Some(cluster.hub()), ..SimConfig::default() };
    Engine::start(cluster, "default", name, config, |pod: ManualPod| {
        pod.label("model.aibrix.ai/name", MODEL)
            .args(&["--enable-lora", "--max-cpu-loras=128", "--max-lora-rank=16"])
            .ready_for(Duration::from_secs(60))
    })
    .await
}

/// An adapter for every engine, or for so many.
fn adapter(name: &str, url: &str, replicas: Option<usize>) -> Value {
    let mut object = manifests::adapter("default", name, MODEL, url);
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

/// How many adapters an engine lists.
async fn count(engine: &Engine) -> usize {
    held(engine.sim.addr()).await.unwrap().len()
}

/// How often an engine has loaded an adapter.
fn loaded(engine: &Engine, adapter: &str) -> usize {
    loads(&engine.control().log(), adapter)
}
