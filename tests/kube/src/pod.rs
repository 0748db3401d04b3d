//! Pods whose status the test writes itself, for what depends on the moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::Cluster;

/// The annotation by which the kit's kubelet leaves a pod alone.
pub(crate) const MANUAL: &str = "kit.longshore.dev/manual";

/// A pod with one container that exists only in the API server. It is told where its engine listens and what to say about
/// it; nobody starts anything for it.
#[derive(Clone, Debug)]
pub struct ManualPod {
    namespace: String,
    name: String,
    address: SocketAddr,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    node: String,
    container: Value,
    ready: bool,
    /// For how long it has been what it is when it is made.
    age: Duration,
    restarts: i32,
}

impl ManualPod {
    /// The pod of an engine that listens on `address`, on the first node, Ready once it is made.
    pub fn new(namespace: &str, name: &str, address: SocketAddr) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            address,
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([(MANUAL.to_owned(), "yes".to_owned())]),
            node: "node-a".to_owned(),
            container: json!({
                "name": "engine",
                "image": "vllm/vllm-openai:v0.11.0",
                "args": ["--enable-lora"],
                "ports": [{"containerPort": address.port()}],
            }),
            ready: true,
            age: Duration::ZERO,
            restarts: 0,
        }
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// On this node: `node-a` in `zone-a`, `node-b` in `zone-b`, `node-c` in none, unless the test's options say otherwise.
    pub fn node(mut self, name: &str) -> Self {
        self.node = name.to_owned();
        self
    }

    /// With these arguments of the container.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.container["args"] = json!(args);
        self
    }

    /// With this environment variable of the container, as in a manifest: `{"value": ...}` or `{"valueFrom": ...}`.
    pub fn env(mut self, name: &str, value: Value) -> Self {
        let mut entry = value;
        entry["name"] = json!(name);
        match self.container["env"].as_array_mut() {
            Some(list) => list.push(entry),
            None => self.container["env"] = json!([entry]),
        }
        self
    }

    /// Not Ready when it is made.
    pub fn not_ready(mut self) -> Self {
        self.ready = false;
        self
    }

    /// Ready for this long already when it is made, as its conditions say.
    pub fn ready_for(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where its engine listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it and writes its first status.
    pub async fn create(&self, cluster: &Cluster) {
        let object = json!({
            "metadata": {"name": self.name, "labels": self.labels, "annotations": self.annotations},
            "spec": {
                "nodeName": self.node,
                "automountServiceAccountToken": false,
                // A pod that nobody stops is gone at once when it is deleted.
                "terminationGracePeriodSeconds": 0,
                "containers": [self.container],
            },
        });
        let object: Pod = serde_json::from_value(object).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let pods: Api<Pod> = cluster.api(&self.namespace);
        if let Err(error) = pods.create(&PostParams::default(), &object).await {
            panic!("pod {}: {error}", self.name);
        }
        self.write(cluster, self.age).await;
    }

    /// Ready or not, from now on.
    pub async fn set_ready(&mut self, cluster: &Cluster, ready: bool) {
        self.ready = ready;
        self.write(cluster, Duration::ZERO).await;
    }

    /// What a kubelet writes when the container has died and runs again: another container id, one restart more.
    pub async fn restarted(&mut self, cluster: &Cluster) {
        self.restarts += 1;
        self.write(cluster, Duration::ZERO).await;
    }

    /// Its container's id now.
    pub fn container_id(&self) -> String {
        format!("containerd://{}-{}-{}", self.namespace, self.name, self.restarts)
    }

    /// Deletes it. It is gone when this returns.
    pub async fn delete(&self, cluster: &Cluster) {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        let pods: Api<Pod> = cluster.api(&self.namespace);
        if let Err(error) = pods.delete(&self.name, &now).await {
            panic!("pod {}: {error}", self.name);
        }
    }

    /// The kubelet's patch of the status, as of `age` ago.
    async fn write(&self, cluster: &Cluster, age: Duration) {
        let pods: Api<Pod> = cluster.api(&self.namespace);
        let patch = Patch::Strategic(json!({"status": self.status(age)}));
        if let Err(error) = pods.patch_status(&self.name, &PatchParams::default(), &patch).await {
            panic!("status of the pod {}: {error}", self.name);
        }
    }

    fn status(&self, age: Duration) -> Value {
        let since = SystemTime::now() - age;
        let since = Timestamp::try_from(since).unwrap_or_else(|error| panic!("{since:?}: {error}")).to_string();
        let condition = |kind: &str, on: bool| {
            let status = if on { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": since})
        };
        let address = self.address.ip().to_string();
        json!({
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": since,
            "conditions": [
                condition("Initialized", true),
                condition("ContainersReady", self.ready),
                condition("Ready", self.ready),
            ],
            "containerStatuses": [{
                "name": "engine",
                "image": self.container["image"],
                "imageID": "",
                "containerID": self.container_id(),
                "restartCount": self.restarts,
                "ready": self.ready,
                "started": true,
                "state": {"running": {"startedAt": since}},
            }],
        })
    }
}
