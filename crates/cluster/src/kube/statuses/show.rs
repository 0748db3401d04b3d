//! Writes one status.

use longshore_api::status::ModelAdapterStatus;
use longshore_types::ObjectKey;
use serde_json::{Value, json};

use crate::kube::calls::{CallError, Calls};
use crate::kube::objects::access;

/// What became of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The object shows it.
    Shown,
    /// The object is gone, or another one has its name.
    Gone,
    /// The API server will not have it however often it is tried.
    Refused(CallError),
    /// It may go through later.
    Failed(CallError),
}

/// Makes the object's status exactly this, where it still is the object that is meant.
///
/// By JSON patch, and not by server-side apply: of an apply to `/status` the API server ignores the uid, so that an object
/// of the same name made anew would get the status of the one before; what another controller has left in status would
/// stay; and where it owns a part of a condition that we show no more, the rest of that condition is found invalid and
/// the whole status refused.
pub(super) async fn show(calls: &Calls, object: &ObjectKey, uid: &str, status: &ModelAdapterStatus) -> Outcome {
    let patch = access::json_patch(operations(uid, status));
    let api = access::api(calls, object);
    match calls.once(api.patch_status(object.name.as_str(), &access::ours(), &patch)).await {
        Ok(_) => Outcome::Shown,
        Err(error) if error.is_not_found() => Outcome::Gone,
        Err(error) => judge(calls, object, uid, error).await,
    }
}

/// The test comes first: a patch is done as a whole or not at all. `add` also replaces what is there.
pub(super) fn operations(uid: &str, status: &ModelAdapterStatus) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status},
    ])
}

async fn judge(calls: &Calls, object: &ObjectKey, uid: &str, error: CallError) -> Outcome {
    let CallError::Refused(status) = &error else { return Outcome::Failed(error) };
    match status.code {
        // A test that fails is answered just as a status that is invalid: whether it was the test, only a look can tell.
        409 | 422 => match access::look(calls, object, uid).await {
            Ok(None) => Outcome::Gone,
            Ok(Some(_)) if status.code == 422 => Outcome::Refused(error),
            Ok(Some(_)) => Outcome::Failed(error),
            Err(error) => Outcome::Failed(error),
        },
        // What etcd will not take comes as a 500.
        500 if status.message.contains("too large") => Outcome::Refused(error),
        // Rights may be given back; what is wrong with the request itself stays wrong.
        401 | 403 | 408 | 429 | 500..=599 => Outcome::Failed(error),
        _ => Outcome::Refused(error),
    }
}
