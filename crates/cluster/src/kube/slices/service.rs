//! An adapter's Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use longshore_api::labels;
use longshore_reconciler::Endpoint;
use longshore_types::{AdapterKey, Namespace, ObjectKey, ObjectName};
use serde_json::{Value, json};

use super::{APP_PROTOCOL, PORT_NAME, Subject, owner_kind, owner_reference};

/// The Service that an adapter should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) struct ServiceWanted {
    pub key: AdapterKey,
    /// The uid of the object that owns it.
    pub owner: Arc<str>,
    pub port: u16,
}

/// What makes a Service that is ours as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kube) enum Fix {
    /// Write our fields.
    Apply,
    /// Take out what others put in, which writing our fields leaves there.
    Strip,
    /// It cannot be made so in place: it has an address of its own, which is for life.
    Replace,
}

/// The port of most engines; of several, the one that the Service has, else the lowest.
pub(in crate::kube) fn port_for(endpoints: &[Endpoint], before: Option<u16>) -> Option<u16> {
    let mut counts = BTreeMap::<u16, usize>::new();
    for endpoint in endpoints {
        *counts.entry(endpoint.address.port).or_default() += 1;
    }
    let most = counts.values().copied().max();
    let mut best = counts.into_iter().filter(|(_, count)| Some(*count) == most).map(|(port, _)| port);
    let first = best.next();
    match before {
        Some(before) if first.is_none() || first == Some(before) || best.any(|port| port == before) => Some(before),
        _ => first,
    }
}

impl ServiceWanted {
    /// As the API server takes it. `uid` is that of the Service that is there, which makes it the only one that this can be
    /// written on.
    pub(in crate::kube) fn render(&self, uid: Option<&str>) -> Service {
        let subject = Subject::Adapter(self.key.clone());
        let name = self.key.name.to_string();
        Service {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.key.namespace().to_string()),
                uid: uid.map(str::to_owned),
                labels: Some(BTreeMap::from([
                    (labels::ADAPTER_NAME.to_owned(), name.clone()),
                    (labels::MODEL_NAME.to_owned(), name),
                ])),
                owner_references: owner_reference(&subject, &self.owner).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: Some("ClusterIP".to_owned()),
                cluster_ip: Some("None".to_owned()),
                ports: Some(vec![self.render_port()]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    /// A merge patch that takes out what applying leaves: a selector, and ports of others. Ports are told apart by their
    /// number, so a changed one is always such a case.
    pub(in crate::kube) fn render_strip(&self, uid: &str, version: &str) -> Value {
        json!({"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"selector": null, "ports": [self.render_port()]}})
    }

    fn render_port(&self) -> ServicePort {
        ServicePort {
            name: Some(PORT_NAME.to_owned()),
            port: self.port.into(),
            target_port: Some(IntOrString::Int(self.port.into())),
            protocol: Some("TCP".to_owned()),
            app_protocol: Some(APP_PROTOCOL.to_owned()),
            node_port: None,
        }
    }
}

/// A Service that is there, trimmed to what we judge it by.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kube) struct ServiceSeen {
    pub namespace: Namespace,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub version: Arc<str>,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// Whether we have written any of it; one that AIBrix's controller made is ours and not yet written by us.
    pub written: bool,
    owners: Vec<Owner>,
    labels: [Option<Arc<str>>; 2],
    headless: bool,
    selects: bool,
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    uid: Arc<str>,
    controller: bool,
    object: Option<ObjectKey>,
}

impl ServiceSeen {
    /// What `service` says. Nothing where it has no name, which no API server shows. The managed fields are needed: they
    /// tell whether we have written it.
    pub(in crate::kube) fn of(service: &Service) -> Option<Self> {
        let meta = &service.metadata;
        let namespace = Namespace::new(meta.namespace.as_deref()?).ok()?;
        let label = |key| meta.labels.as_ref().and_then(|all| all.get(key)).map(|value| value.as_str().into());
        let spec = service.spec.clone().unwrap_or_default();
        let owners = meta.owner_references.iter().flatten().map(|reference| Owner {
            uid: reference.uid.as_str().into(),
            controller: reference.controller == Some(true),
            object: owner_kind(reference).and_then(|kind| {
                Some(ObjectKey { namespace: namespace.clone(), kind, name: ObjectName::new(&reference.name).ok()? })
            }),
        });
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            version: meta.resource_version.as_deref().unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
            written: meta.managed_fields.iter().flatten().any(|f| f.manager.as_deref() == Some(labels::MANAGER)),
            owners: owners.collect(),
            labels: [label(labels::ADAPTER_NAME), label(labels::MODEL_NAME)],
            headless: spec.cluster_ip.as_deref() == Some("None")
                && spec.type_.as_deref().is_none_or(|kind| kind == "ClusterIP"),
            selects: spec.selector.is_some_and(|selector| !selector.is_empty()),
            ports: spec.ports.unwrap_or_default(),
            namespace,
        })
    }

    /// Whether the object with this uid owns it.
    pub(in crate::kube) fn is_owned_by(&self, uid: &str) -> bool {
        self.owners.iter().any(|owner| &*owner.uid == uid)
    }

    /// Whether an object of this name owns it, in this life of that object or in an earlier one.
    pub(in crate::kube) fn is_owned_by_any(&self, object: &ObjectKey) -> bool {
        self.owners.iter().any(|owner| owner.object.as_ref() == Some(object))
    }

    /// The port that it has.
    pub(in crate::kube) fn port(&self) -> Option<u16> {
        self.ports.first().and_then(|port| u16::try_from(port.port).ok())
    }

    /// Whether it has the label that the watch of Services goes by.
    pub(in crate::kube) fn is_labelled(&self) -> bool {
        self.labels[0].is_some()
    }

    /// What is to be done so that it is as wanted; nothing where it is.
    pub(in crate::kube) fn fix(&self, wanted: &ServiceWanted) -> Option<Fix> {
        let port = wanted.render_port();
        let surplus = self.ports.iter().any(|other| (other.port, &other.protocol) != (port.port, &port.protocol));
        let name = wanted.key.name.as_str();
        if !self.headless {
            Some(Fix::Replace)
        } else if self.selects || surplus {
            Some(Fix::Strip)
        } else {
            let owned = self.owners.iter().any(|owner| owner.uid == wanted.owner && owner.controller);
            let labelled = self.labels.iter().all(|label| label.as_deref() == Some(name));
            let same = self.written && owned && labelled && self.ports == [port];
            (!same).then_some(Fix::Apply)
        }
    }
}
