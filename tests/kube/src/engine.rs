//! Simulated engines in the cluster.

use std::net::SocketAddr;

use longshore_testkit::{Control, FaultRequest, Faults, LogEntry, SimConfig, SimEngine};
use serde::Deserialize;

use crate::{Cluster, ManualPod};

/// The engines' usual port.
const PORT: u16 = 8000;

/// A simulated engine that lives in the test's process, on an address of its own, and a pod that says so. Many of them
/// cost little.
pub struct Engine {
    /// The pod; it does not know by itself what happens to the engine.
    pub pod: ManualPod,
    /// The engine.
    pub sim: SimEngine,
}

impl Engine {
    /// Starts an engine and makes its pod, as `prepare` changes it. `config.listen` is replaced.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        config: SimConfig,
        prepare: impl FnOnce(ManualPod) -> ManualPod,
    ) -> Self {
        let listen = SocketAddr::from((cluster.local_address(), PORT));
        let sim = match SimEngine::start(SimConfig { listen, ..config }).await {
            Ok(sim) => sim,
            Err(error) => panic!("engine {name} on {listen}: {error}"),
        };
        let pod = prepare(ManualPod::new(namespace, name, listen));
        pod.create(cluster).await;
        Self { pod, sim }
    }

    /// Makes it fail, and tells what it did.
    pub fn control(&self) -> Control {
        self.sim.control()
    }
}

/// The handle of a simulated engine that is a process in a pod. Clones are the same one.
#[derive(Clone, Debug)]
pub struct SimControl {
    base: String,
    client: reqwest::Client,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<LogEntry>,
}

impl SimControl {
    /// Of the engine that listens there.
    pub fn of(address: SocketAddr) -> Self {
        Self { base: format!("http://{address}"), client: reqwest::Client::new() }
    }

    /// Of the engine on the usual port of a pod.
    pub async fn of_pod(cluster: &Cluster, namespace: &str, pod: &str) -> Self {
        Self::of(SocketAddr::new(cluster.pod_address(namespace, pod).await, PORT))
    }

    /// The faults from now on, instead of those before.
    pub async fn set(&self, faults: Faults) {
        self.send(&FaultRequest { faults: Some(faults), ..FaultRequest::default() }).await;
    }

    /// Changes faults, or lets the engine die.
    pub async fn send(&self, request: &FaultRequest) {
        let answer = self.client.post(format!("{}/sim/faults", self.base)).json(request).send().await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {}
            Err(error) => panic!("{}: {error}", self.base),
        }
    }

    /// Everything that the present process did, in order.
    pub async fn log(&self) -> Vec<LogEntry> {
        let answer = self.client.get(format!("{}/sim/log", self.base)).send().await;
        let log: Result<Log, _> = match answer {
            Ok(answer) => answer.json().await,
            Err(error) => Err(error),
        };
        log.unwrap_or_else(|error| panic!("{}: {error}", self.base)).entries
    }
}
