//! Services and EndpointSlices that are ours: repaired when somebody edits them, left alone when they are another's, not
//! written when nothing differs, and deleted with their adapter, also when no controller is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use longshore_kube_tests::scene::engines::adapter;
use longshore_kube_tests::scene::{CONTROLLER, Install, Router, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Options, inside};
use serde_json::{Value, json};

const FINALIZER: &str = "adapter.model.aibrix.ai/finalizer";

/// What of ours there is in the namespace, as far as we say it.
async fn ours(cluster: &Cluster) -> Vec<Value> {
    let (services, slices): (Api<Service>, Api<EndpointSlice>) = (cluster.api("default"), cluster.api("default"));
    let managed = ListParams::default().labels("endpointslice.kubernetes.io/managed-by=longshore-controller");
    let labelled = ListParams::default().labels("adapter.model.aibrix.ai/name");
    let slices = slices.list(&managed).await.unwrap().items;
    let services = services.list(&labelled).await.unwrap().items;
    let slices = slices.into_iter().map(|slice| {
        json!({
            "name": slice.name_any(), "labels": slice.labels(), "annotations": slice.annotations(),
            "owners": slice.owner_references(), "type": slice.address_type, "ports": slice.ports,
            "endpoints": slice.endpoints,
        })
    });
    let services = services.into_iter().map(|service| {
        let spec = service.spec.clone().unwrap();
        json!({
            "name": service.name_any(), "labels": service.labels(), "owners": service.owner_references(),
            "ip": spec.cluster_ip, "selector": spec.selector, "ports": spec.ports,
        })
    });
    let mut all: Vec<Value> = slices.chain(services).collect();
    all.sort_by_key(ToString::to_string);
    all
}

async fn repaired(cluster: &Cluster, what: &str, good: &[Value]) {
    cluster
        .wait_for(&format!("the repair after {what}"), SOON, async || {
            let seen = ours(cluster).await;
            if seen == good { Ok(()) } else { Err(json!(seen).to_string()) }
        })
        .await;
}

#[test]
fn what_is_ours_is_repaired_and_what_is_not_is_left_alone() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let _engine = cluster.engine("default", "engine-0").await;
        let path = cluster.artifact("sql", 1);

        // Of somebody else, and as like ours as it can be.
        cluster
            .apply(
                "
apiVersion: v1
kind: Service
metadata: {name: theirs, namespace: default, labels: {adapter.model.aibrix.ai/name: sql, model.aibrix.ai/name: sql}}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: theirs-1, namespace: default, labels: {kubernetes.io/service-name: sql, model.aibrix.ai/name: sql}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{port: 80}]
",
            )
            .await;
        let (services, slices): (Api<Service>, Api<EndpointSlice>) = (cluster.api("default"), cluster.api("default"));
        let theirs = async || (services.get("theirs").await.unwrap(), slices.get("theirs-1").await.unwrap());
        let before = theirs().await;

        cluster.apply(&adapter("default", "sql", &path, None)).await;
        cluster.condition("default", "sql", "Ready").await;
        cluster.until_quiet().await;
        let good: Vec<Value> = ours(&cluster).await;
        let name = |kind: &str| {
            let of = |one: &&Value| one["annotations"]["longshore.dev/adapter"].is_string() == (kind == "adapter");
            let one = good.iter().filter(|one| !one["endpoints"].is_null()).find(of).unwrap();
            one["name"].as_str().unwrap().to_owned()
        };
        let (slice, base) = (name("adapter"), name("base"));
        let router = Router::of(&cluster).await;

        // Few of them: somebody who edits again and again is answered less and less often.
        let edits = [
            json!({
                "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": true}}],
                "ports": [{"name": "http", "port": 9999}],
            }),
            json!({"metadata": {
                "annotations": {"longshore.dev/adapter": "other"},
                "labels": {"kubernetes.io/service-name": "other", "model.aibrix.ai/name": null},
                "ownerReferences": null,
            }}),
            // Its owner shows whose it is. With neither it would be somebody else's from then on, and stay as it is.
            json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "somebody"}}}),
        ];
        for edit in &edits {
            slices.patch(&slice, &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
            repaired(&cluster, &edit.to_string(), &good).await;
        }
        let edits = [
            json!({
                "metadata": {"labels": {"adapter.model.aibrix.ai/name": null, "model.aibrix.ai/name": "other"}},
                "spec": {"ports": [{"name": "http", "port": 9999}]},
            }),
            // With a selector it is another kind of Service, of which this cluster has no two families.
            json!({
                "metadata": {"ownerReferences": null},
                "spec": {"selector": {"app": "mine"}, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]},
            }),
        ];
        for edit in &edits {
            services.patch("sql", &PatchParams::default(), &Patch::Merge(edit)).await.unwrap();
            repaired(&cluster, &edit.to_string(), &good).await;
        }
        for name in [&slice, &base] {
            slices.delete(name, &DeleteParams::default()).await.unwrap();
            repaired(&cluster, &format!("the deletion of {name}"), &good).await;
        }
        services.delete("sql", &DeleteParams::default()).await.unwrap();
        repaired(&cluster, "the deletion of the Service", &good).await;
        assert_eq!(router.complete("sql", None).await.header("x-longshore-adapter"), "sql");

        // What somebody adds beside ours is theirs, and stays.
        let note = json!({"metadata": {"annotations": {"team": "a"}}});
        services.patch("sql", &PatchParams::default(), &Patch::Merge(&note)).await.unwrap();
        // Without the finalizer, a deletion would leave the adapter on its engines.
        let objects = cluster.adapters("default");
        let without = json!({"metadata": {"finalizers": null}});
        objects.patch("sql", &PatchParams::default(), &Patch::Merge(&without)).await.unwrap();
        cluster
            .wait_for("the finalizer", SOON, async || {
                let finalizers = objects.get("sql").await.unwrap().finalizers().to_vec();
                if finalizers == [FINALIZER] { Ok(()) } else { Err(format!("{finalizers:?}")) }
            })
            .await;
        cluster.until_quiet().await;
        assert_eq!(services.get("sql").await.unwrap().annotations().get("team").map(String::as_str), Some("a"));
        assert_eq!(theirs().await, before);
    });
}

#[test]
fn i10_a_new_controller_writes_nothing_where_nothing_differs() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let engines = [cluster.engine("default", "engine-0").await, cluster.engine("default", "engine-1").await];
        let path = cluster.artifact("sql", 1);
        let names = ["sql", "one", "lost", "wrong"];
        cluster.apply(&adapter("default", "sql", &path, None)).await;
        cluster.apply(&adapter("default", "one", &path, Some(1))).await;
        cluster.apply(&adapter("default", "lost", "/models/nowhere", None)).await;
        cluster.apply(&adapter("default", "wrong", "s3://bucket/sql/", None)).await;
        for name in ["sql", "one"] {
            cluster.condition("default", name, "Ready").await;
        }
        for name in ["lost", "wrong"] {
            cluster.until_phase("default", name, "Failed", false).await;
        }
        let seen = cluster.until_quiet().await;
        let loads = |name: &str| engines.iter().map(|engine| engine.loads(name)).sum::<usize>();
        let before = names.map(loads);

        // Each of the two replicas is replaced, so that the new leader knows nothing of before.
        let deployment = format!("deployment/{CONTROLLER}");
        cluster.kubectl(&["rollout", "restart", &deployment, "--namespace", SYSTEM]).await.expect_success();
        cluster.rolled_out(SYSTEM).await;
        cluster.leader().await;
        cluster.until_quiet().await;
        let written = cluster.writes_since(seen);
        assert!(written.is_empty(), "{written:?}");
        assert_eq!(names.map(loads), before);
    });
}

#[test]
fn an_adapter_can_be_deleted_while_no_controller_is_there() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().controllers(1)).await;
        let engine = cluster.engine("default", "engine-0").await;
        let path = cluster.artifact("sql", 1);
        for name in ["let-go", "wait"] {
            cluster.apply(&adapter("default", name, &path, None)).await;
            cluster.condition("default", name, "Ready").await;
        }
        cluster.scale(SYSTEM, CONTROLLER, 0).await;
        cluster.kubectl(&["delete", "modeladapter", "let-go", "wait", "--wait=false"]).await.expect_success();

        // As the documents say.
        let documented = r#"[
            {"op": "test", "path": "/metadata/finalizers/0", "value": "adapter.model.aibrix.ai/finalizer"},
            {"op": "remove", "path": "/metadata/finalizers/0"}]"#;
        cluster.kubectl(&["patch", "modeladapter", "let-go", "--type=json", "-p", documented]).await.expect_success();
        cluster.until_gone("default", &["let-go"]).await;
        let waiting = cluster.adapters("default").get("wait").await.unwrap();
        assert!(waiting.metadata.deletion_timestamp.is_some(), "it waits for somebody to unload it");

        // A controller that is there again finishes what waits, and has no business with what was let go.
        cluster.scale(SYSTEM, CONTROLLER, 1).await;
        cluster.until_gone("default", &["wait"]).await;
        assert_eq!(engine.held().await, ["let-go"]);
        let slices: Api<EndpointSlice> = cluster.api("default");
        cluster
            .wait_for("no endpoint of either", SOON, async || {
                let left = slices.list(&ListParams::default()).await.unwrap().items;
                let of = |slice: &EndpointSlice| slice.annotations().get("longshore.dev/adapter").cloned();
                let left: Vec<String> = left.iter().filter_map(of).collect();
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            })
            .await;
    });
}
