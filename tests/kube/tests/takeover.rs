//! What AIBrix's controller has left behind is taken over where it stands.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use longshore_kube_tests::scene::engines::held;
use longshore_kube_tests::scene::{Router, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Options, SimControl, inside, manifests};
use longshore_testkit::What;
use serde_json::{Value, json};

const MODEL: &str = "qwen";
const NAME: &str = "legal-lora";
/// Where that controller's sidecar puts adapters.
const THEIRS: &str = "/tmp/aibrix/adapters";

/// The definition as somebody has it before: the same names, and another schema.
fn definition() -> String {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "modeladapters.model.aibrix.ai"},
        "spec": {
            "group": "model.aibrix.ai",
            "names": {
                "kind": "ModelAdapter", "listKind": "ModelAdapterList", "plural": "modeladapters",
                "singular": "modeladapter",
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": open}}},
            }],
        },
    })
    .to_string()
}

/// Two engines whose folder of adapters is that of AIBrix's sidecar.
fn engines(folder: &str) -> String {
    let mut deployment = manifests::engines("default", MODEL, 2, &["--max-cpu-loras", "8"]);
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["volumes"] = json!([{"name": "adapters", "hostPath": {"path": folder}}]);
    pod["containers"][0]["volumeMounts"] = json!([{"name": "adapters", "mountPath": THEIRS}]);
    deployment.to_string()
}

async fn address(cluster: &Cluster, pod: &str) -> SocketAddr {
    SocketAddr::new(cluster.pod_address("default", pod).await, 8000)
}

/// The object, its status, its Service, its slice, and the adapter on the engine.
async fn leave_behind(cluster: &Cluster, pod: &str) {
    let at = address(cluster, pod).await;
    let body = json!({"lora_name": NAME, "lora_path": format!("{THEIRS}/{NAME}")});
    let answer = reqwest::Client::new().post(format!("http://{at}/v1/load_lora_adapter")).json(&body).send().await;
    answer.unwrap().error_for_status().unwrap();

    let mut object = manifests::adapter("default", NAME, MODEL, "s3://adapters/legal/");
    object["metadata"]["finalizers"] = json!(["adapter.model.aibrix.ai/finalizer"]);
    object["spec"]["replicas"] = json!(1);
    object["spec"]["baseModel"] = json!(MODEL);
    cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.expect_success();
    let condition = |kind: &str, reason: &str| {
        let since = "2026-01-01T00:00:00Z";
        json!({"type": kind, "status": "True", "reason": reason, "message": "m", "lastTransitionTime": since})
    };
    let status = json!({"status": {
        "phase": "Running", "instances": [pod], "candidates": 2, "desiredReplicas": 1, "readyReplicas": 1,
        "conditions": [condition("Initialized", "ModelAdapterPending"), condition("Ready", "ModelAdapterAvailable")],
    }});
    let objects = cluster.adapters("default");
    let made = objects.patch_status(NAME, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let owner = json!([{
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "name": NAME, "uid": made.uid().unwrap(),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME, "namespace": "default", "ownerReferences": owner,
            "labels": {"model.aibrix.ai/base-model": MODEL, "model.aibrix.ai/model-adapter": NAME},
        },
        "spec": {
            "clusterIP": "None", "publishNotReadyAddresses": true,
            "ports": [{"name": "http", "port": 8000, "targetPort": 8000, "protocol": "TCP"}],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": NAME, "namespace": "default", "ownerReferences": owner, "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [at.ip()]}],
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
    });
    for object in [service, slice] {
        cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.expect_success();
    }
}

/// The slices behind the adapter's Service: their names, who writes them, and their endpoints' pods.
async fn slices(cluster: &Cluster) -> Vec<(String, Value, Vec<String>)> {
    let slices: Api<EndpointSlice> = cluster.api("default");
    let behind = ListParams::default().labels(&format!("kubernetes.io/service-name={NAME}"));
    let found = slices.list(&behind).await.unwrap().items;
    let told = found.into_iter().map(|slice| {
        let by = json!(slice.labels().get("endpointslice.kubernetes.io/managed-by"));
        let pods = slice.endpoints.iter().filter_map(|one| one.target_ref.as_ref()?.name.clone()).collect();
        (slice.name_any(), by, pods)
    });
    told.collect()
}

#[test]
fn an_adapter_of_aibrix_is_taken_over_in_place() {
    inside(Options::default(), async |cluster| {
        let folder = cluster.artifact(NAME, 1);
        let folder = folder.strip_suffix(&format!("/{NAME}")).unwrap();
        cluster.kubectl_with(&["create", "-f", "-"], &definition()).await.expect_success();
        cluster
            .kubectl(&["wait", "--for=condition=Established", "crd/modeladapters.model.aibrix.ai"])
            .await
            .expect_success();
        cluster.apply(&engines(folder)).await;
        cluster.rolled_out("default").await;
        let pods = cluster.pod_names("default", &format!("model.aibrix.ai/name={MODEL}")).await;
        let (with, without) = (pods[1].as_str(), pods[0].as_str());
        leave_behind(&cluster, with).await;

        // As the documents say. Without the flag kubectl refuses, since the definition is somebody else's.
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
        let refused = cluster.kubectl(&["apply", "--server-side", "-k", deploy]).await.expect_failure();
        assert!(refused.contains("--force-conflicts"), "{refused}");
        cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", deploy]).await.expect_success();
        cluster.rolled_out(SYSTEM).await;

        cluster
            .wait_for("a slice of ours, and no other", SOON, async || {
                let found = slices(&cluster).await;
                let ours = |(name, by, pods): &(String, Value, Vec<String>)| {
                    name != NAME && by == "longshore-controller" && pods.len() == 1 && pods[0] == with
                };
                if found.len() == 1 && found.iter().all(ours) { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        let status = cluster
            .wait_for("a status that is true", SOON, async || {
                let status = cluster.status("default", NAME).await?;
                let seen = status["observedGeneration"] == 1 && status["phase"] == "Running";
                if seen && status["instances"] == json!([with]) { Ok(status) } else { Err(status.to_string()) }
            })
            .await;
        assert_eq!((&status["desiredReplicas"], &status["readyReplicas"]), (&json!(1), &json!(1)));
        let services: Api<Service> = cluster.api("default");
        let service = services.get(NAME).await.unwrap();
        assert_eq!(service.labels().get("adapter.model.aibrix.ai/name").map(String::as_str), Some(NAME));
        let router = Router::of(&cluster).await;
        cluster
            .wait_for("an answer", SOON, async || {
                let answer = router.complete(NAME, None).await;
                if answer.header("x-longshore-adapter") == NAME { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;

        // Nobody has loaded or unloaded anything since.
        cluster.until_quiet().await;
        let calls = async |pod: &str| {
            let log = SimControl::of_pod(&cluster, "default", pod).await.log().await;
            log.into_iter()
                .filter(|entry| entry.what != What::Start)
                .map(|entry| (entry.what, entry.path))
                .collect::<Vec<_>>()
        };
        assert_eq!(calls(with).await, [(What::Load, format!("{THEIRS}/{NAME}"))]);
        assert_eq!(calls(without).await, []);

        // And it is ours to take away: from the pod that is selected no more, and all of it at last.
        let path = format!("{THEIRS}/{NAME}");
        let label = format!("pod/{without}");
        cluster.kubectl(&["label", &label, "tier=gold"]).await.expect_success();
        let change = json!({"spec": {
            "artifactURL": path, "podSelector": {"matchLabels": {"model.aibrix.ai/name": MODEL, "tier": "gold"}},
        }});
        cluster
            .kubectl(&["patch", "modeladapter", NAME, "--type=merge", "-p", &change.to_string()])
            .await
            .expect_success();
        cluster.until_ready_on("default", NAME, &[without]).await;
        cluster
            .wait_for("nothing on the engine before", SOON, async || {
                let left = held(address(&cluster, with).await).await?;
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            })
            .await;
        let none = json!({"spec": {"replicas": 0}}).to_string();
        cluster.kubectl(&["patch", "modeladapter", NAME, "--type=merge", "-p", &none]).await.expect_success();
        cluster
            .wait_for("nothing on any engine", SOON, async || {
                let left = held(address(&cluster, without).await).await?;
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            })
            .await;
        cluster.kubectl(&["delete", "modeladapter", NAME, "--timeout=60s"]).await.expect_success();
    });
}
