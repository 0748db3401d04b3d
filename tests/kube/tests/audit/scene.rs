//! A scene in which the controller and the router do everything that they ever do, in the namespace `default`.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use longshore_kube_tests::scene::SOON;
use longshore_kube_tests::scene::engines::{MODEL, adapter, unload};
use longshore_kube_tests::{Cluster, Engine, ManualPod};
use longshore_testkit::{Faults, SimConfig};
use serde_json::{Value, json};

/// What is there before the controller: two engines, and objects of an earlier life.
pub struct Scene {
    engines: [Engine; 2],
}

/// An engine on the node that is in no zone, so that the node itself is looked at.
async fn engine(cluster: &Cluster, name: &str) -> Engine {
    Engine::start(cluster, "default", name, SimConfig { max_cpu_loras: 8, ..SimConfig::default() }, |pod: ManualPod| {
        pod.label("model.aibrix.ai/name", MODEL).node("node-c").ready_for(Duration::from_secs(60))
    })
    .await
}

/// Needs the definition of the resource.
pub async fn before(cluster: &Cluster) -> Scene {
    let engines = [engine(cluster, "engine-0").await, engine(cluster, "engine-1").await];
    let path = cluster.artifact("sql", 1);

    // Its Service and its slice are as AIBrix's controller leaves them.
    cluster.apply(&adapter("default", "old", &path, None)).await;
    let uid = cluster.adapters("default").get("old").await.unwrap().metadata.uid;
    let owner = json!({
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "name": "old", "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let labels = json!({"model.aibrix.ai/name": "old"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "old", "namespace": "default", "labels": labels, "ownerReferences": [owner]},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "ports": [{"name": "http", "port": 8000}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": "old", "namespace": "default", "ownerReferences": [owner],
            "labels": {"kubernetes.io/service-name": "old"},
        },
        "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": [{"name": "http", "port": 8000}],
    });
    for object in [service, slice] {
        cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.expect_success();
    }

    // Deleted already, and kept by somebody else alone.
    let mut ended: Value =
        serde_json::from_str(adapter("default", "ended", &path, None).trim_start_matches("---")).unwrap();
    ended["metadata"]["finalizers"] = json!(["longshore.dev/test"]);
    cluster.kubectl_with(&["create", "-f", "-"], &ended.to_string()).await.expect_success();
    cluster.kubectl(&["delete", "modeladapter", "ended", "--wait=false"]).await.expect_success();
    Scene { engines }
}

/// With the controller and the router there.
pub async fn use_everything(cluster: &Cluster, scene: Scene) {
    let [first, second] = &scene.engines;
    let both = ["engine-0", "engine-1"];

    // An engine's key from a Secret.
    cluster.kubectl(&["create", "secret", "generic", "keys", "--from-literal=engine=sk-1"]).await.expect_success();
    let path = cluster.artifact("sql", 1);
    let mut keyed: Value =
        serde_json::from_str(adapter("default", "keyed", &path, None).trim_start_matches("---")).unwrap();
    keyed["spec"]["engineApiKeySecretRef"] = json!({"name": "keys", "key": "engine"});
    cluster.apply(&keyed.to_string()).await;
    for name in ["old", "keyed"] {
        cluster.until_ready_on("default", name, &both).await;
        cluster.until_phase("default", name, "Running", true).await;
    }
    let release = r#"{"metadata": {"finalizers": null}}"#;
    cluster.kubectl(&["patch", "modeladapter", "ended", "--type=merge", "-p", release]).await.expect_success();
    cluster.until_gone("default", &["ended"]).await;

    // What is ours is edited and taken away.
    let edited = ["label", "service", "keyed", "model.aibrix.ai/name=edited", "--overwrite"];
    cluster.kubectl(&edited).await.expect_success();
    cluster
        .wait_for("the label as it was", SOON, async || {
            let get = ["get", "service", "keyed", "-o", r"jsonpath={.metadata.labels.model\.aibrix\.ai/name}"];
            let label = cluster.kubectl(&get).await.expect_success();
            if label == "keyed" { Ok(()) } else { Err(label) }
        })
        .await;

    // The same happens again and again.
    for loads in [2, 3] {
        unload(first.sim.addr(), "keyed").await;
        cluster
            .wait_for("the adapter again", SOON, async || match first.loads("keyed") {
                found if found == loads => Ok(()),
                found => Err(format!("{found} loads")),
            })
            .await;
        cluster.until_ready_on("default", "keyed", &both).await;
    }
    cluster.until_quiet().await;

    // Two go while an engine hangs, one after the other.
    second.control().set(Faults { hang_all: true, ..Faults::default() }).await;
    for name in ["keyed", "old"] {
        cluster.kubectl(&["delete", "modeladapter", name, "--timeout=60s"]).await.expect_success();
    }
    second.control().set(Faults::default()).await;
    cluster
        .wait_for("an engine without adapters, and no note", SOON, async || {
            let note = cluster.api::<ConfigMap>("default").get_opt("longshore-unfinished").await;
            let note = note.map_err(|error| error.to_string())?;
            match (second.held().await, note) {
                (held, None) if held.is_empty() => Ok(()),
                (held, note) => Err(format!("{held:?}, {note:?}")),
            }
        })
        .await;
    assert_eq!(first.held().await, [""; 0]);
}
