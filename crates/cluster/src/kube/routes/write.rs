//! One job, done: an attempt, and a look at what is there where the attempt met something else than we knew of.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource};
use longshore_api::labels::{MANAGER, SLICE_ADAPTER, SLICE_BASE_MODEL, SLICE_DIGEST};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::super::calls::{CallError, Calls};
use super::super::slices::{ServiceSeen, ServiceWanted, SliceSeen};
use super::desk::{Done, Job, LaneId, Outcome, ServiceCall, SliceCall, Work};
use super::metrics::{Metrics, Object, Verb};

pub(super) async fn perform(calls: &Calls, metrics: &Metrics, job: Job) -> Outcome {
    let (LaneId::Slice(id) | LaneId::Service(id)) = &job.lane;
    match job.work {
        Work::Slice(call) => {
            let on = On::<EndpointSlice>::new(calls, metrics, Object::Slice, id.namespace.as_str(), &id.name);
            Outcome::Slice(write_slice(&on, call).await)
        }
        Work::Service(call) => {
            let on = On::<Service>::new(calls, metrics, Object::Service, id.namespace.as_str(), &id.name);
            Outcome::Service(write_service(&on, call).await)
        }
    }
}

async fn write_slice(on: &On<'_, EndpointSlice>, call: SliceCall) -> Result<Done<SliceSeen>, CallError> {
    let done = match call {
        SliceCall::Look => Done { seen: on.get().await?, conflicted: false },
        // Without force, so that one of another's that we did not know of is a conflict; with the uid, so that one that has
        // taken the place of ours is.
        SliceCall::Apply { slice, uid } => {
            let forced = uid.is_some();
            on.settle(on.apply(&slice.render(uid.as_deref()), forced).await, forced).await?
        }
        SliceCall::Strip { keys, uid, version } => {
            on.settle(on.merge(&strip(&keys, &uid, &version)).await, true).await?
        }
        SliceCall::Delete { uid } => on.delete(&uid).await?,
    };
    Ok(done.and_then(SliceSeen::of))
}

async fn write_service(on: &On<'_, Service>, call: ServiceCall) -> Result<Done<ServiceSeen>, CallError> {
    let done = match call {
        ServiceCall::Look => Done { seen: on.get().await?, conflicted: false },
        ServiceCall::Create(wanted) => on.settle(on.create(&wanted.render(None)).await, false).await?,
        ServiceCall::Apply { wanted, uid, adopt } => {
            if adopt {
                remove_former_slice(on, &wanted).await?;
            }
            on.settle(on.apply(&wanted.render(Some(&uid)), true).await, true).await?
        }
        ServiceCall::Strip { wanted, uid, version, adopt } => {
            if adopt {
                remove_former_slice(on, &wanted).await?;
            }
            on.settle(on.merge(&wanted.render_strip(&uid, &version)).await, true).await?
        }
        ServiceCall::Delete { uid } => on.delete(&uid).await?,
    };
    Ok(done.and_then(ServiceSeen::of))
}

/// AIBrix's controller writes one slice of the adapter's own name for the same object. It goes before we first write on
/// that controller's Service, so that what is found half done after a crash is found again.
async fn remove_former_slice(on: &On<'_, Service>, wanted: &ServiceWanted) -> Result<(), CallError> {
    let namespace = wanted.key.namespace().as_str();
    let former = On::<EndpointSlice>::new(on.calls, on.metrics, Object::Slice, namespace, wanted.key.name.as_str());
    if let Some(slice) = former.get().await?.as_ref().and_then(SliceSeen::of)
        && slice.owners.contains(&wanted.owner)
        && !slice.managed
    {
        former.delete(&slice.uid).await?;
    }
    Ok(())
}

/// A merge patch that takes out labels and annotations of ours.
fn strip(keys: &[&str], uid: &str, version: &str) -> Value {
    let nulls = |annotations: bool| -> Map<String, Value> {
        let is_annotation = |key: &str| [SLICE_ADAPTER, SLICE_BASE_MODEL, SLICE_DIGEST].contains(&key);
        let keys = keys.iter().filter(|key| is_annotation(key) == annotations);
        keys.map(|key| ((*key).to_owned(), Value::Null)).collect()
    };
    json!({"metadata": {"uid": uid, "resourceVersion": version, "labels": nulls(false), "annotations": nulls(true)}})
}

/// One object, to be read and written.
struct On<'a, K> {
    calls: &'a Calls,
    metrics: &'a Metrics,
    object: Object,
    api: Api<K>,
    name: &'a str,
}

impl<'a, K> On<'a, K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    fn new(calls: &'a Calls, metrics: &'a Metrics, object: Object, namespace: &str, name: &'a str) -> Self {
        Self { calls, metrics, object, api: Api::namespaced(calls.client(), namespace), name }
    }

    async fn once<T>(&self, verb: Verb, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
        let result = self.calls.once(call).await;
        self.metrics.count(self.object, verb, &result);
        result
    }

    async fn get(&self) -> Result<Option<K>, CallError> {
        self.once(Verb::Get, self.api.get_opt(self.name)).await
    }

    async fn create(&self, body: &K) -> Result<K, CallError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.once(Verb::Create, self.api.create(&params, body)).await
    }

    async fn apply(&self, body: &K, force: bool) -> Result<K, CallError> {
        let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
        self.once(Verb::Patch, self.api.patch(self.name, &params, &Patch::Apply(body))).await
    }

    async fn merge(&self, patch: &Value) -> Result<K, CallError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.once(Verb::Patch, self.api.patch(self.name, &params, &Patch::Merge(patch))).await
    }

    /// Deletes the life of it with this uid. One that is gone already is as good.
    async fn delete(&self, uid: &Arc<str>) -> Result<Done<K>, CallError> {
        let preconditions = Preconditions { uid: Some(uid.to_string()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.once(Verb::Delete, self.api.delete(self.name, &params)).await {
            // It is shown while something else holds it.
            Ok(answer) => Ok(Done { seen: answer.left(), conflicted: false }.held()),
            Err(error) if error.is_not_found() => Ok(Done { seen: None, conflicted: false }),
            Err(error) if error.is_conflict() => Ok(Done { seen: self.get().await?, conflicted: true }),
            Err(error) => Err(error),
        }
    }

    /// Makes of an attempt what is there now. `there` says that the attempt was on one that was there: then that it is not
    /// is no failure either.
    async fn settle(&self, attempt: Result<K, CallError>, there: bool) -> Result<Done<K>, CallError> {
        match attempt {
            Ok(written) => Ok(Done { seen: Some(written), conflicted: false }),
            Err(error) if error.is_conflict() || (there && (error.is_not_found() || is_another(&error))) => {
                Ok(Done { seen: self.get().await?, conflicted: true })
            }
            Err(error) => Err(error),
        }
    }
}

impl<K: Resource> Done<K> {
    /// The API server answers a deletion that is complete with the object as it was, in some versions and for some kinds.
    fn held(self) -> Self {
        let held = |object: &K| {
            let meta = object.meta();
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_some_and(|all| !all.is_empty())
        };
        Self { seen: self.seen.filter(held), ..self }
    }
}

/// Whether another object of that name has taken the place of the one that was written on: a uid that does not fit is
/// refused as a change of a field that cannot be changed.
fn is_another(error: &CallError) -> bool {
    let CallError::Refused(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 422 && causes.into_iter().any(|cause| cause.field == "metadata.uid")
}
