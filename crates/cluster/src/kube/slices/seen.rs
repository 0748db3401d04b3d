//! A slice as the API server shows it, trimmed to what we judge it by.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use longshore_api::labels;
use longshore_types::{AdapterKey, AdapterName, BaseModel, EngineKind, Namespace, ObjectKey, ObjectName};

use super::{Family, SetKey, Slice, Subject, Target, owner_kind};

/// A slice that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) struct SliceSeen {
    pub namespace: Namespace,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub version: Arc<str>,
    /// Whether it is on its way out.
    pub deleting: bool,
    /// Whether its label says that we write it.
    pub managed: bool,
    /// The uids of the objects that own it.
    pub owners: Vec<Arc<str>>,
    /// Whose it is, as far as its annotations and its owner tell.
    pub subject: Option<Subject>,
    /// What it says; nothing where it says anything that we would not have written.
    pub content: Option<Slice>,
    /// The labels and annotations of ours that it has and that not every slice has.
    pub keys: Vec<&'static str>,
}

/// Those labels and annotations.
const OPTIONAL: [&str; 4] =
    [labels::SERVICE_NAME, labels::SLICE_ADAPTER, labels::SLICE_BASE_MODEL, labels::SLICE_DIGEST];

impl SliceSeen {
    /// What `slice` says. Nothing where it has no name, which no API server shows.
    pub(in crate::kube) fn of(slice: &EndpointSlice) -> Option<Self> {
        let meta = &slice.metadata;
        let namespace = Namespace::new(meta.namespace.as_deref()?).ok()?;
        let subject = subject_of(&namespace, slice);
        let content = subject.as_ref().and_then(|subject| read(subject, slice)).filter(|read| is_like(read, slice));
        Some(Self {
            name: meta.name.as_deref()?.into(),
            uid: meta.uid.as_deref()?.into(),
            version: meta.resource_version.as_deref().unwrap_or_default().into(),
            deleting: meta.deletion_timestamp.is_some(),
            managed: label(slice, labels::MANAGED_BY) == Some(labels::MANAGER),
            owners: meta.owner_references.iter().flatten().map(|owner| owner.uid.as_str().into()).collect(),
            keys: OPTIONAL
                .into_iter()
                .filter(|key| label(slice, key).is_some() || annotation(slice, key).is_some())
                .collect(),
            namespace,
            subject,
            content,
        })
    }

    /// Whether we may write on it for `wanted`: it says in one way or another that it is ours.
    pub(in crate::kube) fn is_ours(&self, wanted: &Slice) -> bool {
        let owned = wanted.owner.as_ref().is_some_and(|owner| self.owners.contains(owner));
        self.managed || owned || self.subject.as_ref() == Some(&wanted.subject)
    }

    /// Whether it is one that we once wrote, for whomever: label and annotation say so.
    pub(in crate::kube) fn was_ours(&self) -> bool {
        let annotated = [labels::SLICE_ADAPTER, labels::SLICE_BASE_MODEL].iter().any(|key| self.keys.contains(key));
        self.managed && annotated
    }

    /// Whether a write of `wanted` takes something away that others may go by.
    pub(in crate::kube) fn loses(&self, wanted: &Slice) -> bool {
        let Some(content) = &self.content else { return true };
        (content.joined && !wanted.joined) || content.targets.iter().any(|target| !wanted.targets.contains(target))
    }

    /// What it has of our optional keys beyond those of `wanted`.
    pub(in crate::kube) fn surplus(&self, wanted: &Slice) -> Vec<&'static str> {
        let keep = wanted.optional_keys();
        self.keys.iter().copied().filter(|key| !keep.contains(key)).collect()
    }
}

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    slice.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn subject_of(namespace: &Namespace, slice: &EndpointSlice) -> Option<Subject> {
    if let Some(name) = annotation(slice, labels::SLICE_ADAPTER) {
        let owners = slice.metadata.owner_references.iter().flatten();
        let (kind, owner) = owners.filter_map(|owner| Some((owner_kind(owner)?, owner))).next()?;
        let object = ObjectKey { namespace: namespace.clone(), kind, name: ObjectName::new(&owner.name).ok()? };
        return Some(Subject::Adapter(AdapterKey { object, name: AdapterName::new(name).ok()? }));
    }
    let base = BaseModel::new(annotation(slice, labels::SLICE_BASE_MODEL)?).ok()?;
    Some(Subject::Base(namespace.clone(), base))
}

fn read(subject: &Subject, slice: &EndpointSlice) -> Option<Slice> {
    let kind = annotation(slice, labels::SLICE_ENGINE_KIND)?;
    let kinds = [EngineKind::Vllm, EngineKind::Sglang, EngineKind::Simulated];
    let owners = slice.metadata.owner_references.iter().flatten();
    let owner = owners.filter(|owner| owner_kind(owner).is_some()).map(|owner| owner.uid.as_str().into()).next();
    Some(Slice {
        name: slice.metadata.name.as_deref()?.into(),
        subject: subject.clone(),
        owner: owner.filter(|_| matches!(subject, Subject::Adapter(_))),
        joined: label(slice, labels::SERVICE_NAME).is_some(),
        set: SetKey {
            family: match slice.address_type.as_str() {
                "IPv4" => Family::IPv4,
                "IPv6" => Family::IPv6,
                _ => return None,
            },
            port: u16::try_from(slice.ports.as_ref()?.first()?.port?).ok()?,
            kind: kinds.into_iter().find(|known| known.as_str() == kind)?,
            base_model: annotation(slice, labels::SLICE_BASE_MODEL).map(BaseModel::new).transpose().ok()?,
            digest: annotation(slice, labels::SLICE_DIGEST).map(str::parse).transpose().ok()?,
        },
        targets: slice.endpoints.iter().map(read_target).collect::<Option<_>>()?,
    })
}

fn read_target(endpoint: &SliceEndpoint) -> Option<Target> {
    let target = endpoint.target_ref.as_ref()?;
    Some(Target {
        address: endpoint.addresses.first()?.parse::<IpAddr>().ok()?,
        pod: target.name.as_deref()?.into(),
        uid: target.uid.as_deref().map(Into::into),
        node: endpoint.node_name.as_deref().map(Into::into),
        zone: endpoint.zone.as_deref().map(Into::into),
    })
}

/// Whether all that we would write of `content` is in `slice` as we would write it. Labels, annotations and owners of
/// others beside ours are theirs.
fn is_like(content: &Slice, slice: &EndpointSlice) -> bool {
    let wanted = content.render(None);
    let has = |wanted: &Option<std::collections::BTreeMap<_, _>>, shown: &Option<std::collections::BTreeMap<_, _>>| {
        wanted.iter().flatten().all(|(key, value)| shown.as_ref().and_then(|shown| shown.get(key)) == Some(value))
    };
    let owners: Vec<_> = slice.metadata.owner_references.iter().flatten().collect();
    let owned = wanted.metadata.owner_references.iter().flatten().all(|wanted| {
        owners.iter().any(|shown| {
            (&shown.uid, &shown.name, &shown.kind, &shown.api_version, shown.controller)
                == (&wanted.uid, &wanted.name, &wanted.kind, &wanted.api_version, wanted.controller)
        })
    });
    has(&wanted.metadata.labels, &slice.metadata.labels)
        && has(&wanted.metadata.annotations, &slice.metadata.annotations)
        && owned
        && wanted.address_type == slice.address_type
        && wanted.ports == slice.ports
        && wanted.endpoints == slice.endpoints
}
