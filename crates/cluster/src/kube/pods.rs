//! What a pod says of the engine in it. Pure.

mod engine;
mod env;
mod flags;
mod quantity;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus};
use longshore_api::labels::{ADAPTER_MEMORY, ENABLED, MODEL_ENGINE, MODEL_PORT};
use longshore_reconciler::EngineSeen;
use longshore_types::{Address, Boot, EngineId, EngineKind, Invalid, Namespace, Timestamp};

pub(super) use engine::{EngineFacts, KeySource, Sidecar};
pub(super) use env::KeyRef;

use engine::Told;

/// Kubernetes' own label for where something runs; pods have it from 1.35 on.
const ZONE: &str = "topology.kubernetes.io/zone";
/// The most problems of one pod that are kept.
const MOST_PROBLEMS: usize = 8;

/// What is kept of every pod: enough to tell selectors, routers and the reconciler of the engine in it, and no more, since
/// a cluster has many pods that are none.
///
/// Two looks at a pod are equal where nothing that matters here has changed, so whoever has told the reconciler of one
/// tells it again only where they differ.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodFacts {
    /// Which engine it is, if it is one.
    pub(super) id: EngineId,
    /// One life of the pod; another of the same name has another.
    pub(super) uid: Arc<str>,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// Whether its label makes it an engine or leaves it out; without the label, selectors tell.
    pub(super) enabled: Option<bool>,
    /// The node that it runs on.
    pub(super) node: Option<Arc<str>>,
    /// The zone, where its own label tells.
    pub(super) zone: Option<Arc<str>>,
    /// Its addresses, at most one of each IP family, as the cluster orders them.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether its engine can take requests: it is Ready, its engine's container runs and is ready, it has an address and
    /// is neither finished nor on its way out. A dead container says so here before the pod's condition does.
    pub(super) ready: bool,
    /// Since when it is Ready, where its condition tells. To the second.
    pub(super) ready_since: Option<Timestamp>,
    /// Whether its deletion has begun.
    pub(super) terminating: bool,
    /// Whether it has ended for good.
    pub(super) finished: bool,
    /// The present life of the engine's container. `None` until it has begun. A sidecar that restarts is no new life.
    pub(super) boot: Option<Boot>,
    /// The engine. `None` where there is no container that could be one.
    pub(super) engine: Option<EngineFacts>,
    /// Memory for adapters in bytes.
    pub(super) adapter_memory: Option<u64>,
    /// The container beside the engine that may load adapters.
    pub(super) sidecar: Option<Sidecar>,
    /// What is written in the pod and makes no sense, for people. It was left out.
    pub(super) problems: Vec<String>,
}

/// How to speak to an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Where its API begins: `http://host:port`.
    pub(super) base_url: String,
    /// Which software it is.
    pub(super) kind: EngineKind,
    /// Where its bearer token is.
    pub(super) api_key: KeySource,
}

impl PodFacts {
    /// Reads a pod.
    ///
    /// # Errors
    /// [`Invalid`] for a namespace that is none. An API server gives no such pods.
    pub(super) fn of(pod: &Pod) -> Result<Self, Invalid> {
        let metadata = &pod.metadata;
        let namespace = Namespace::new(metadata.namespace.as_deref().unwrap_or_default())?;
        let labels = metadata.labels.clone().unwrap_or_default();
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let mut problems = Vec::new();
        let told = told(&labels, &mut problems);
        let engine = spec.and_then(|spec| EngineFacts::of(spec, told, &mut problems));
        let adapter_memory = adapter_memory(pod, &mut problems);
        problems.truncate(MOST_PROBLEMS);

        let uid: Arc<str> = metadata.uid.as_deref().unwrap_or_default().into();
        let container = engine.as_ref().zip(status).and_then(|(engine, status)| container(status, &engine.container));
        let addresses = status.map(addresses).unwrap_or_default();
        let terminating = metadata.deletion_timestamp.is_some();
        let finished =
            status.and_then(|status| status.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed");
        let condition = status.and_then(ready_condition);
        let ready = condition.is_some()
            && !terminating
            && !finished
            && !addresses.is_empty()
            && container.is_none_or(|container| container.ready && runs(container));
        Ok(Self {
            id: EngineId::new(namespace, metadata.name.as_deref().unwrap_or_default()),
            enabled: labels.get(ENABLED).map(|value| value == "true"),
            node: spec.and_then(node),
            zone: labels.get(ZONE).filter(|zone| !zone.is_empty()).map(|zone| zone.as_str().into()),
            ready,
            ready_since: condition.flatten().filter(|_| ready),
            terminating,
            finished,
            boot: container.and_then(|container| boot(&uid, container)),
            sidecar: spec.and_then(Sidecar::of),
            uid,
            labels,
            addresses,
            engine,
            adapter_memory,
            problems,
        })
    }

    /// The engine as the reconciler is told of it: `None` where there is none, where it has no address yet, and where it has
    /// ended for good.
    ///
    /// `zone` is the node's, and counts where the pod does not tell its own. How long it has been Ready depends on `now`, so
    /// what this gives differs from one moment to the next: whether there is anything to tell is seen by comparing the facts.
    pub(super) fn seen(&self, now: Timestamp, zone: Option<Arc<str>>) -> Option<EngineSeen> {
        let engine = self.engine.as_ref().filter(|_| !self.finished)?;
        let address = self.address()?;
        let ready_for = self.ready_since.map(|since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX));
        Some(EngineSeen {
            id: self.id.clone(),
            kind: engine.kind,
            address: Address {
                host: address.to_string().into(),
                port: engine.port,
                node: self.node.clone(),
                zone: self.zone.clone().or(zone),
            },
            labels: self.labels.clone(),
            base_model: engine.base_model.clone(),
            boot: self.boot.clone(),
            ready: self.ready,
            ready_for,
            terminating: self.terminating,
            trusted: false,
            max_loras: engine.max_loras,
            max_cpu_loras: engine.max_cpu_loras,
            max_lora_rank: engine.max_lora_rank,
            adapter_memory: self.adapter_memory,
        })
    }

    /// How to speak to its engine. `None` where there is none, or it has no address.
    pub(super) fn access(&self) -> Option<Access> {
        let (engine, address) = (self.engine.as_ref()?, self.address()?);
        let authority = Address::new(address.to_string(), engine.port).authority();
        Some(Access { base_url: format!("http://{authority}"), kind: engine.kind, api_key: engine.api_key.clone() })
    }

    /// The address by which we speak to it: IPv4 where it has one.
    fn address(&self) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4()).or(self.addresses.first()).copied()
    }
}

/// What its labels say of the engine.
fn told(labels: &BTreeMap<String, String>, problems: &mut Vec<String>) -> Told {
    let mut told = Told::default();
    if let Some(text) = labels.get(MODEL_PORT) {
        told.port = text.parse().ok().filter(|port| *port > 0);
        if told.port.is_none() {
            problems.push(format!("label {MODEL_PORT}: {text:?} is no port, so it is left out"));
        }
    }
    if let Some(text) = labels.get(MODEL_ENGINE) {
        let known = [EngineKind::Vllm, EngineKind::Sglang, EngineKind::Simulated];
        told.kind = known.into_iter().find(|kind| text.eq_ignore_ascii_case(kind.as_str()));
        if told.kind.is_none() {
            problems.push(format!("label {MODEL_ENGINE}: {text:?} is not known; known are vllm, sglang and simulated"));
        }
    }
    told
}

fn adapter_memory(pod: &Pod, problems: &mut Vec<String>) -> Option<u64> {
    let text = pod.metadata.annotations.as_ref()?.get(ADAPTER_MEMORY)?;
    let bytes = quantity::bytes(text.trim());
    if bytes.is_none() {
        let shown: String = text.chars().take(40).collect();
        problems.push(format!("annotation {ADAPTER_MEMORY}: {shown:?} is no amount of memory such as 8Gi"));
    }
    bytes
}

fn node(spec: &PodSpec) -> Option<Arc<str>> {
    spec.node_name.as_deref().filter(|node| !node.is_empty()).map(Arc::from)
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in all.filter_map(|address| address.parse::<IpAddr>().ok()) {
        if !addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
            addresses.push(address);
        }
    }
    addresses
}

/// Whether it is Ready, and since when where that is told.
fn ready_condition(status: &PodStatus) -> Option<Option<Timestamp>> {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")?;
    let since = condition.last_transition_time.as_ref();
    let millis = since.and_then(|time| u64::try_from(time.0.as_millisecond()).ok());
    (condition.status == "True").then(|| millis.map(Timestamp::from_millis))
}

fn container<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    status.container_statuses.iter().flatten().find(|status| status.name == name)
}

/// Whether it is not known to stand still.
fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_none_or(|state| state.terminated.is_none() && state.waiting.is_none())
}

/// The container's present life. One that waits for its next start shows the one before.
fn boot(uid: &str, status: &ContainerStatus) -> Option<Boot> {
    let id = status.container_id.as_deref().filter(|id| !id.is_empty())?;
    Some(Boot::new(format!("{uid}/{id}#{}", status.restart_count)))
}

#[cfg(test)]
mod tests;
