//! The EndpointSlices and the Service that a route should look like. Pure.
//!
//! One set of slices stands for one adapter as engines of one kind hold it: same digest, same base model, same port, same
//! IP family. So what routers read beside the endpoints is true of each of them. A base model's engines have sets too,
//! without a Service and without an owner.

mod layout;
mod seen;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use longshore_api::labels;
use longshore_reconciler::{Endpoint, Route};
use longshore_types::{AdapterKey, BaseModel, Digest, EngineId, EngineKind, Namespace, OwnerKind};

pub(super) use layout::{Layout, lay_out, name_of, sets};
pub(super) use seen::SliceSeen;
pub(super) use service::{Fix, ServiceSeen, ServiceWanted, port_for};

/// The name of the port, in slices and in Services, which are joined by it.
pub(super) const PORT_NAME: &str = "http";

/// What engines speak there.
const APP_PROTOCOL: &str = "http";

/// A route as it should be written.
#[derive(Clone, Debug)]
pub(in crate::kube) struct RouteWrite {
    /// Where requests may go.
    pub route: Route,
    /// The uid of the object that declares the adapter, which owns what is written.
    pub uid: Arc<str>,
    /// The uid of each engine's pod, where it is known.
    pub pods: BTreeMap<EngineId, Arc<str>>,
}

/// The engines of one base model, all of them.
#[derive(Clone, Debug)]
pub(in crate::kube) struct BaseWrite {
    /// Of which namespace.
    pub namespace: Namespace,
    /// Which base model.
    pub base_model: BaseModel,
    /// The engines that answer for it; none when the last one has gone.
    pub endpoints: Vec<Endpoint>,
    /// The uid of each engine's pod, where it is known.
    pub pods: BTreeMap<EngineId, Arc<str>>,
}

/// Whose slices they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// An adapter's.
    Adapter(AdapterKey),
    /// A base model's, in a namespace.
    Base(Namespace, BaseModel),
}

impl Subject {
    pub(super) fn namespace(&self) -> &Namespace {
        match self {
            Self::Adapter(key) => key.namespace(),
            Self::Base(namespace, _) => namespace,
        }
    }

    /// The name that clients put in `model`.
    pub(super) fn model(&self) -> &str {
        match self {
            Self::Adapter(key) => key.name.as_str(),
            Self::Base(_, model) => model.as_str(),
        }
    }
}

/// `<namespace>/<model>`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.model())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    IPv4,
    IPv6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        }
    }
}

/// What all endpoints of one set have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetKey {
    pub family: Family,
    pub port: u16,
    pub kind: EngineKind,
    pub base_model: Option<BaseModel>,
    pub digest: Option<Digest>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub address: IpAddr,
    /// The pod's name; its namespace is the slice's.
    pub pod: Arc<str>,
    pub uid: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
    pub zone: Option<Arc<str>>,
}

impl Target {
    /// Whether it is the same engine at the same place, whatever else is known of it.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.address == other.address && self.pod == other.pod && self.uid == other.uid
    }
}

/// One slice, as it should be or as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub name: Arc<str>,
    pub subject: Subject,
    /// The uid of the object that owns it; a base model's slices have no owner.
    pub owner: Option<Arc<str>>,
    /// Whether it belongs to the adapter's Service.
    pub joined: bool,
    pub set: SetKey,
    /// In order, and none twice.
    pub targets: Vec<Target>,
}

impl Slice {
    /// As the API server takes it. `uid` is that of the slice that is there, which makes it the only one that this can be
    /// written on.
    pub(super) fn render(&self, uid: Option<&str>) -> EndpointSlice {
        let namespace = self.subject.namespace();
        EndpointSlice {
            metadata: ObjectMeta {
                name: Some(self.name.to_string()),
                namespace: Some(namespace.to_string()),
                uid: uid.map(str::to_owned),
                labels: Some(self.labels()),
                annotations: Some(self.annotations()),
                owner_references: self
                    .owner
                    .as_deref()
                    .and_then(|uid| owner_reference(&self.subject, uid))
                    .map(|o| vec![o]),
                ..ObjectMeta::default()
            },
            address_type: self.set.family.as_str().to_owned(),
            ports: Some(vec![EndpointPort {
                name: Some(PORT_NAME.to_owned()),
                port: Some(self.set.port.into()),
                protocol: Some("TCP".to_owned()),
                app_protocol: Some(APP_PROTOCOL.to_owned()),
            }]),
            endpoints: self.targets.iter().map(|target| render_target(namespace, target)).collect(),
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let model = self.subject.model();
        let mut all = BTreeMap::from([
            (labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned()),
            (labels::MODEL_NAME.to_owned(), labels::label_value(model)),
        ]);
        if self.joined {
            all.insert(labels::SERVICE_NAME.to_owned(), model.to_owned());
        }
        all
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([(labels::SLICE_ENGINE_KIND.to_owned(), self.set.kind.to_string())]);
        if let Subject::Adapter(key) = &self.subject {
            all.insert(labels::SLICE_ADAPTER.to_owned(), key.name.to_string());
        }
        if let Some(base) = &self.set.base_model {
            all.insert(labels::SLICE_BASE_MODEL.to_owned(), base.to_string());
        }
        if let Some(digest) = &self.set.digest {
            all.insert(labels::SLICE_DIGEST.to_owned(), digest.to_string());
        }
        all
    }

    /// Which of the labels and annotations that we alone give a meaning, and that not every slice has, this one has.
    pub(super) fn optional_keys(&self) -> Vec<&'static str> {
        let adapter = matches!(self.subject, Subject::Adapter(_));
        [
            (self.joined, labels::SERVICE_NAME),
            (adapter, labels::SLICE_ADAPTER),
            (self.set.base_model.is_some(), labels::SLICE_BASE_MODEL),
            (self.set.digest.is_some(), labels::SLICE_DIGEST),
        ]
        .into_iter()
        .filter_map(|(has, key)| has.then_some(key))
        .collect()
    }
}

fn render_target(namespace: &Namespace, target: &Target) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![target.address.to_string()],
        // What is published is what the engine's present life has confirmed; everything else is left out.
        conditions: Some(EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.to_string()),
            name: Some(target.pod.to_string()),
            uid: target.uid.as_deref().map(str::to_owned),
            ..ObjectReference::default()
        }),
        node_name: target.node.as_deref().map(str::to_owned),
        zone: target.zone.as_deref().map(str::to_owned),
        ..SliceEndpoint::default()
    }
}

/// The reference that makes Kubernetes take away what we wrote when the object is gone. It does not hold the object's own
/// deletion back, which would need a right on its finalizers and gain nothing: we have one of our own.
pub(super) fn owner_reference(subject: &Subject, uid: &str) -> Option<OwnerReference> {
    let Subject::Adapter(key) = subject else { return None };
    Some(OwnerReference {
        api_version: api_version(key.object.kind).to_owned(),
        kind: key.object.kind.to_string(),
        name: key.object.name.to_string(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    })
}

const fn api_version(kind: OwnerKind) -> &'static str {
    match kind {
        OwnerKind::ModelAdapter => labels::API_VERSION,
    }
}

/// The kind of ours that an owner reference names, in any version of its group.
fn owner_kind(reference: &OwnerReference) -> Option<OwnerKind> {
    let (group, _) = reference.api_version.split_once('/')?;
    (group == labels::GROUP && reference.kind == OwnerKind::ModelAdapter.as_str()).then_some(OwnerKind::ModelAdapter)
}

/// Where an engine is reached, or why Kubernetes does not take it in a slice.
///
/// # Errors
/// One sentence for a person.
pub(super) fn target_of(endpoint: &Endpoint, uid: Option<&Arc<str>>) -> Result<Target, String> {
    let Endpoint { engine, address, .. } = endpoint;
    let parsed = address.host.parse::<IpAddr>().map(|ip| ip.to_canonical());
    let parsed = parsed.map_err(|_| format!("{engine} has no IP address but {:?}", address.host))?;
    let refused = match parsed {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if refused {
        return Err(format!("{engine} has the address {parsed}, which Kubernetes takes in no EndpointSlice"));
    }
    Ok(Target {
        address: parsed,
        pod: engine.name.clone(),
        uid: uid.cloned(),
        node: address.node.clone(),
        zone: address.zone.clone(),
    })
}
