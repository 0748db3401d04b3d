//! Slices as the controller writes them.

use serde_json::{Value, json};

use super::read::Guarded;

/// The digest of 32 bytes of this.
pub(super) fn digest(byte: &str) -> String {
    format!("sha256:{}", byte.repeat(32))
}

/// A slice of the adapter `adapter` in the namespace `a`, with the digest `abab…`.
pub(super) fn adapter_slice(name: &str, adapter: &str, endpoints: &[Value]) -> Value {
    let mut slice = base_slice(name, endpoints);
    slice["metadata"]["annotations"]["longshore.dev/adapter"] = adapter.into();
    slice["metadata"]["annotations"]["longshore.dev/digest"] = digest("ab").into();
    slice
}

/// A slice of the base model `tiny` in the namespace `a`.
pub(super) fn base_slice(name: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": "a", "uid": format!("uid-{name}"), "resourceVersion": "7",
            "labels": {"endpointslice.kubernetes.io/managed-by": "longshore-controller"},
            "annotations": {"longshore.dev/base-model": "tiny", "longshore.dev/engine-kind": "vllm"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP", "appProtocol": "http"}],
        "endpoints": endpoints,
    })
}

/// The engine `pod` at this address, ready.
pub(super) fn engine(pod: &str, address: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "a", "uid": format!("uid-{pod}")},
        "nodeName": "node-1",
        "zone": "zone-1",
    })
}

/// As it comes from the API server.
pub(super) fn guarded(slice: &Value) -> Guarded {
    serde_json::from_value(slice.clone()).unwrap()
}
