//! What one EndpointSlice says.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use kube::core::{DeserializeGuard, Resource};
use longshore_api::labels::{SLICE_ADAPTER, SLICE_BASE_MODEL, SLICE_DIGEST, SLICE_ENGINE_KIND};
use longshore_routing::Endpoint;
use longshore_types::{AdapterName, Address, BaseModel, Boot, Digest, EngineId, EngineKind, Invalid, Namespace};

use crate::source::fleet::kind;
use crate::source::http_client::Controller;

/// A slice, or as much of it as tells which one it is.
pub(super) type Guarded = DeserializeGuard<EndpointSlice>;

/// Which slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SliceKey {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl SliceKey {
    pub(super) fn of(slice: &Guarded) -> Self {
        let meta = slice.meta();
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        Self { namespace: text(&meta.namespace), name: text(&meta.name) }
    }
}

/// Whom a slice's engines answer for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Adapter(Namespace, AdapterName),
    Base(Namespace, BaseModel),
}

/// What matters of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slice {
    /// Nobody where that could not be understood.
    pub(super) whose: Option<Whose>,
    /// The engines that may be asked. What confirms them is told by how they come and go, so they do not say.
    pub(super) endpoints: Vec<Endpoint>,
    /// How much could not be understood: the slice itself, or endpoints of it.
    pub(super) left_out: u64,
}

/// Why a slice is not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("it names neither an adapter nor a base model")]
    Nobody,
    #[error("its addresses are of the type `{0}`")]
    AddressType(String),
    #[error("it has {0} ports instead of one for TCP")]
    Ports(usize),
    #[error("it does not say which software its engines are, or this version does not know it")]
    Kind,
}

impl Slice {
    /// Reads a slice. What cannot be understood is left out and never stops the rest (I11).
    pub(super) fn read(slice: &Guarded) -> Self {
        let whose = slice.0.as_ref().map_err(|error| Unusable::Malformed(error.error.clone())).and_then(whose);
        let read = whose.and_then(|(namespace, whose)| {
            let slice = slice.0.as_ref().map_err(|error| Unusable::Malformed(error.error.clone()))?;
            Ok((engines(slice, &namespace, &whose), whose))
        });
        let (unusable, whose) = match read {
            Ok((Ok((endpoints, left_out)), whose)) => return Self { whose: Some(whose), endpoints, left_out },
            // Its name stays declared, so that it means nothing else (I1).
            Ok((Err(unusable), whose)) => (unusable, Some(whose)),
            Err(unusable) => (unusable, None),
        };
        let SliceKey { namespace, name } = SliceKey::of(slice);
        tracing::warn!(%namespace, slice = %name, error = %unusable, "Left out an EndpointSlice");
        Self { whose, endpoints: Vec::new(), left_out: 1 }
    }
}

fn annotation<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn whose(slice: &EndpointSlice) -> Result<(Namespace, Whose), Unusable> {
    let namespace: Namespace = slice.metadata.namespace.as_deref().unwrap_or_default().parse()?;
    let whose = match (annotation(slice, SLICE_ADAPTER), annotation(slice, SLICE_BASE_MODEL)) {
        (Some(adapter), _) => Whose::Adapter(namespace.clone(), adapter.parse()?),
        (None, Some(base)) => Whose::Base(namespace.clone(), base.parse()?),
        (None, None) => return Err(Unusable::Nobody),
    };
    Ok((namespace, whose))
}

/// What all endpoints of a slice have in common.
struct Common<'a> {
    namespace: &'a Namespace,
    kind: EngineKind,
    port: u16,
    digest: Option<Digest>,
    base_model: Option<BaseModel>,
    nothing: Arc<str>,
}

/// The engines of `slice` that may be asked, and how many could not be understood.
fn engines(slice: &EndpointSlice, namespace: &Namespace, whose: &Whose) -> Result<(Vec<Endpoint>, u64), Unusable> {
    let digest = match whose {
        // Bytes that are said and not understood must not be taken for bytes that are not known.
        Whose::Adapter(..) => annotation(slice, SLICE_DIGEST).map(str::parse).transpose()?,
        Whose::Base(..) => None,
    };
    let base_model = annotation(slice, SLICE_BASE_MODEL).map(str::parse).transpose()?;
    let kind = annotation(slice, SLICE_ENGINE_KIND).and_then(kind).ok_or(Unusable::Kind)?;
    let port = port(slice)?;
    let family = Family::of(slice)?;
    let common = Common { namespace, kind, port, digest, base_model, nothing: Arc::from("") };
    let (mut endpoints, mut left_out) = (Vec::new(), 0);
    for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        match engine(endpoint, family, &common) {
            Some(endpoint) => endpoints.push(endpoint),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let (namespace, slice) = (namespace.as_str(), slice.metadata.name.as_deref());
        tracing::warn!(namespace, slice, left_out, "Left out endpoints that cannot be understood");
    }
    Ok((endpoints, left_out))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(slice: &EndpointSlice) -> Result<Self, Unusable> {
        match slice.address_type.as_str() {
            "IPv4" => Ok(Self::V4),
            "IPv6" => Ok(Self::V6),
            other => Err(Unusable::AddressType(other.chars().take(16).collect())),
        }
    }

    fn has(self, address: IpAddr) -> bool {
        (self == Self::V4) == address.is_ipv4()
    }
}

/// The only port of a slice.
fn port(slice: &EndpointSlice) -> Result<u16, Unusable> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let [port] = ports else { return Err(Unusable::Ports(ports.len())) };
    tcp(port).ok_or(Unusable::Ports(0))
}

fn tcp(port: &discovery::EndpointPort) -> Option<u16> {
    let number = port.port.and_then(|number| u16::try_from(number).ok())?;
    (number > 0 && port.protocol.as_deref().unwrap_or("TCP") == "TCP").then_some(number)
}

/// Whether requests may be sent there. The controller says it of every endpoint, so silence means no.
fn is_ready(endpoint: &discovery::Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| {
        conditions.ready == Some(true) && conditions.serving != Some(false) && conditions.terminating != Some(true)
    })
}

/// One engine: a pod of the slice's own namespace (I7), whose name says whom to report on.
fn engine(endpoint: &discovery::Endpoint, family: Family, common: &Common<'_>) -> Option<Endpoint> {
    let Common { namespace, kind, port, digest, base_model, nothing } = common;
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let own = pod.namespace.as_deref().is_none_or(|of| of == namespace.as_str());
    let name = pod.name.as_deref().filter(|name| own && !name.is_empty())?;
    // All addresses of one endpoint are interchangeable, and the first is the one to use.
    let address: IpAddr = endpoint.addresses.first()?.parse().ok().filter(|address| family.has(*address))?;
    let text = |text: &Option<String>| text.as_deref().map(Arc::from);
    Some(Endpoint {
        engine: EngineId::new((*namespace).clone(), name),
        // Which of the pod's lives is not said: a pod that came to be anew is another boot, and the rest is told by
        // endpoints that go and come back.
        boot: Boot::new(pod.uid.as_deref().unwrap_or_default()),
        kind: *kind,
        address: Address {
            node: text(&endpoint.node_name),
            zone: text(&endpoint.zone),
            ..Address::new(address.to_string(), *port)
        },
        digest: *digest,
        base_model: base_model.clone(),
        confirmation: nothing.clone(),
    })
}

/// The port of the controller's Service that its fleet API answers on, where the Service has several.
const FLEET_PORT: &str = "fleet";

/// The replicas of the controller in a slice of its Service.
pub(super) fn replicas(slice: &Guarded) -> Vec<Controller> {
    let Ok(slice) = &slice.0 else { return Vec::new() };
    let ports = slice.ports.as_deref().unwrap_or_default();
    let named = ports.iter().find(|port| port.name.as_deref() == Some(FLEET_PORT));
    let Some(port) = named.or(ports.first()).and_then(tcp) else { return Vec::new() };
    let ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
    let addresses = ready.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok());
    addresses.map(|address: IpAddr| Controller::at(SocketAddr::new(address, port))).collect()
}

#[cfg(test)]
mod tests;
