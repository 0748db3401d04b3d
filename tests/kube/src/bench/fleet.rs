//! Engines and adapters of one namespace.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use longshore_api::labels::{GROUP, KIND, MODEL_NAME, VERSION};
use longshore_testkit::What;
use longshore_testkit::{Faults, LogEntry, SimConfig, SimEngine};
use serde_json::Value;

use super::SOON;
use super::relay::Relay;
use super::seen::Seen;
use crate::{Cluster, Engine, ManualPod, manifests};

/// The adapter that all of them are: engines are told its path, which they see as this process does.
const REPOSITORY: &str = "bench/adapter";

/// The base model.
pub(super) const MODEL: &str = "tiny";

/// Adapters that an engine keeps: more than it is ever given.
const MANY: usize = 1000;

/// Objects that are made or deleted at once: more would need more connections, whose making is no part of this.
pub(super) const AT_ONCE: usize = 8;

/// A namespace with engines, and what is seen of it.
pub(super) struct Fleet {
    pub cluster: Cluster,
    pub namespace: String,
    pub engines: Vec<Engine>,
    pub seen: Seen,
    api: Api<DynamicObject>,
    client: reqwest::Client,
}

impl Fleet {
    /// With so many engines, which are Ready.
    pub(super) async fn start(cluster: &Cluster, engines: usize) -> Self {
        let namespace = cluster.namespace("bench").await;
        cluster.hub_adapter(REPOSITORY, 1);
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
        let mut fleet = Self {
            api: Api::namespaced_with(cluster.client().clone(), &namespace, &resource),
            seen: Seen::of(cluster, &namespace).await,
            cluster: cluster.clone(),
            engines: Vec::new(),
            client: reqwest::Client::new(),
            namespace,
        };
        for number in 0..engines {
            let engine = fleet.engine(&format!("engine-{number}"), true).await;
            fleet.engines.push(engine);
        }
        fleet
    }

    /// One more engine, which is Ready or not.
    pub(super) async fn engine(&self, name: &str, ready: bool) -> Engine {
        let config = SimConfig { max_cpu_loras: MANY, ..SimConfig::default() };
        let prepare = |pod| if ready { prepared(pod) } else { prepared(pod).not_ready() };
        Engine::start(&self.cluster, &self.namespace, name, config, prepare).await
    }

    /// Another engine in place of this one, whose listings are counted.
    pub(super) async fn relay(&mut self, engine: usize) -> Relay {
        let former = &self.engines[engine].pod;
        let name = former.name().to_owned();
        former.delete(&self.cluster).await;
        let sim = SimEngine::start(SimConfig { max_cpu_loras: MANY, ..SimConfig::default() }).await;
        let sim = sim.unwrap_or_else(|error| panic!("{name}: {error}"));
        let listen = SocketAddr::from((self.cluster.local_address(), 8000));
        let relay = Relay::start(listen, sim.addr()).await;
        let pod = prepared(ManualPod::new(&self.namespace, &name, listen));
        pod.create(&self.cluster).await;
        self.engines[engine] = Engine { pod, sim };
        relay
    }

    /// How many loads and unloads all engines were asked for so far.
    pub(super) fn loads(&self) -> usize {
        let asked = |entry: &LogEntry| matches!(entry.what, What::Load | What::Unload);
        self.engines.iter().map(|engine| engine.control().log().iter().filter(|entry| asked(entry)).count()).sum()
    }

    /// The address of an engine, as slices have it.
    pub(super) fn address(&self, engine: usize) -> String {
        self.engines[engine].pod.address().ip().to_string()
    }

    /// Makes an adapter that every engine is to hold. When it was asked for.
    pub(super) async fn create(&self, name: &str) -> Instant {
        let url = self.cluster.hub().join(REPOSITORY);
        let object: Value = manifests::adapter(&self.namespace, name, MODEL, &url.to_string_lossy());
        let object = serde_json::from_value(object).unwrap_or_else(|error| panic!("{name}: {error}"));
        let begun = Instant::now();
        if let Err(error) = self.api.create(&PostParams::default(), &object).await {
            panic!("{name}: {error}");
        }
        begun
    }

    /// Makes all of them. When that began.
    pub(super) async fn create_all(&self, names: &[String]) -> Instant {
        let begun = Instant::now();
        stream::iter(names)
            .for_each_concurrent(AT_ONCE, async |name| {
                self.create(name).await;
            })
            .await;
        begun
    }

    /// Deletes an adapter. When that was asked for.
    pub(super) async fn delete(&self, name: &str) -> Instant {
        let begun = Instant::now();
        if let Err(error) = self.api.delete(name, &DeleteParams::default()).await {
            panic!("{name}: {error}");
        }
        begun
    }

    /// Deletes all of them at once. When that began.
    pub(super) async fn delete_all(&self, names: &[String]) -> Instant {
        let begun = Instant::now();
        stream::iter(names)
            .for_each_concurrent(AT_ONCE, async |name| {
                self.delete(name).await;
            })
            .await;
        begun
    }

    /// Deletes all of them and waits until nothing is left; how long that took.
    pub(super) async fn clear(&self, names: &[String]) -> Duration {
        let begun = self.delete_all(names).await;
        let gone = self.seen.until("all adapters gone", |state| names.iter().all(|name| state.is_gone(name))).await;
        for engine in 0..self.engines.len() {
            let left = self.held_by(engine).await;
            assert!(left.is_empty(), "engine {engine} still has {left:?}");
        }
        gone - begun
    }

    /// The adapters that an engine lists.
    pub(super) async fn held_by(&self, engine: usize) -> BTreeSet<String> {
        held_by(&self.client, self.engines[engine].sim.addr()).await
    }

    /// Waits until an engine lists none of these.
    pub(super) async fn until_unloaded(&self, engine: usize, names: &[String]) -> Instant {
        self.cluster
            .wait_for("adapters to be unloaded", SOON, async || {
                let held = self.held_by(engine).await;
                let left = names.iter().filter(|name| held.contains(*name)).count();
                if left == 0 { Ok(Instant::now()) } else { Err(format!("{left} left")) }
            })
            .await
    }

    /// The faults of one engine from now on.
    pub(super) async fn set(&self, engine: usize, faults: Faults) {
        self.engines[engine].control().set(faults).await;
    }

    /// What went wrong with one adapter, from what was seen of it: every phase once, in order.
    pub(super) fn assert_every_phase(&self, name: &str) {
        let phases = self.seen.look(|state| state.objects.get(name).map(|object| object.phases.clone()));
        let expected = ["Pending", "Scheduled", "Loading", "Bound", "Running"];
        assert_eq!(phases.unwrap_or_default(), expected, "the phases of {name}");
    }
}

fn prepared(pod: ManualPod) -> ManualPod {
    pod.label(MODEL_NAME, MODEL).args(&["--enable-lora", "--max-loras=8", &format!("--max-cpu-loras={MANY}")])
}

async fn held_by(client: &reqwest::Client, engine: SocketAddr) -> BTreeSet<String> {
    let listed: Value = match client.get(format!("http://{engine}/v1/models")).send().await {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(error) => panic!("{engine}: {error}"),
    };
    let models = listed["data"].as_array().into_iter().flatten();
    models
        .filter(|model| !model["parent"].is_null())
        .filter_map(|model| Some(model["id"].as_str()?.to_owned()))
        .collect()
}

/// Names of adapters.
pub(super) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}
