//! How objects are reached: by their kind and name, and never without naming the uid that is meant.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use longshore_api::{ModelAdapter, labels};
use longshore_types::{ObjectKey, OwnerKind};
use serde_json::Value;

use crate::kube::calls::{CallError, Calls};

/// The objects of this one's kind, in its namespace. What others have made of them is of no interest here, so nothing of
/// them is parsed.
pub(in crate::kube) fn api(calls: &Calls, key: &ObjectKey) -> Api<DynamicObject> {
    let resource = match key.kind {
        OwnerKind::ModelAdapter => ApiResource::erase::<ModelAdapter>(&()),
    };
    Api::namespaced_with(calls.client(), key.namespace.as_str(), &resource)
}

/// How we write: everything under one name.
pub(in crate::kube) fn ours() -> PatchParams {
    PatchParams { field_manager: Some(labels::MANAGER.to_owned()), ..PatchParams::default() }
}

/// `operations` as a JSON patch (RFC 6902).
pub(in crate::kube) fn json_patch(operations: Value) -> Patch<()> {
    Patch::Json(serde_json::from_value(operations).expect("operations with paths and values are a JSON patch"))
}

/// What the API server has of the object now; none where it is gone, or another one has its name.
pub(in crate::kube) async fn look(calls: &Calls, key: &ObjectKey, uid: &str) -> Result<Option<ObjectMeta>, CallError> {
    let api = api(calls, key);
    match calls.once(api.get_metadata(key.name.as_str())).await {
        Ok(seen) => Ok(Some(seen.metadata).filter(|meta| meta.uid.as_deref() == Some(uid))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
