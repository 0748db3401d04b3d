//! Manifests for engines that are processes of their own, and for adapters.

use serde_json::{Value, json};

/// A Deployment of simulated engines in a namespace, labelled `model.aibrix.ai/name: MODEL` and open to adapters. `args` are
/// those of `longshore sim-engine` besides the host, port and model's name; adapters such as `org/name` come from
/// [`Cluster::hub`](crate::Cluster::hub).
pub fn engines(namespace: &str, model: &str, replicas: u32, args: &[&str]) -> Value {
    let labels = json!({"model.aibrix.ai/name": model, "adapter.model.aibrix.ai/enabled": "true"});
    let mut all = vec!["--port", "8000", "--served-model-name", model];
    all.extend(args);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": model, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"model.aibrix.ai/name": model}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "engine",
                        "image": "longshore/sim-engine:test",
                        "args": all,
                        "ports": [{"containerPort": 8000}],
                        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
                    }],
                },
            },
        },
    })
}

/// A ModelAdapter of that artifact for every engine with the label `model.aibrix.ai/name: MODEL`. Its `spec` is the test's
/// to change.
pub fn adapter(namespace: &str, name: &str, model: &str, url: &str) -> Value {
    json!({
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {"matchLabels": {"model.aibrix.ai/name": model}}, "artifactURL": url},
    })
}
