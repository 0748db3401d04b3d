//! Our finalizer, put on and taken off by JSON patches that test what they were made for, so that the finalizers of others
//! are never lost.

use longshore_api::labels::FINALIZER;
use serde_json::{Value, json};

const LIST: &str = "/metadata/finalizers";

/// The operations that add our finalizer to these; none where it is among them.
pub(super) fn add(uid: &str, finalizers: &[String]) -> Option<Value> {
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return None;
    }
    Some(if finalizers.is_empty() {
        // A list that is not there is null to a test.
        json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": LIST, "value": null},
            {"op": "add", "path": LIST, "value": [FINALIZER]},
        ])
    } else {
        // The list is tested as well: ours must not be put on twice.
        json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": LIST, "value": finalizers},
            {"op": "add", "path": format!("{LIST}/-"), "value": FINALIZER},
        ])
    })
}

/// The operations that take our finalizer off these; none where it is not among them.
pub(super) fn remove(uid: &str, finalizers: &[String]) -> Option<Value> {
    let at = finalizers.iter().position(|finalizer| finalizer == FINALIZER)?;
    let place = format!("{LIST}/{at}");
    Some(json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": place, "value": FINALIZER},
        {"op": "remove", "path": place},
    ]))
}
