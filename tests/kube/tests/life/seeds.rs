//! What AIBrix's documents have people apply and look at.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use longshore_kube_tests::scene::{CONTROLLER, Phases, Router, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Options, SimControl, inside};
use longshore_testkit::What;

use super::mask::masked;

const BASE: &str = "qwen-coder-1-5b-instruct";
const ADAPTER: &str = "qwen-code-lora";
const REPOSITORY: &str = "ai-blond/Qwen-Qwen2.5-Coder-1.5B-Instruct-lora";
const PHASES: [&str; 5] = ["Pending", "Scheduled", "Loading", "Bound", "Running"];

#[test]
fn aibrix_s_own_manifests_show_what_its_documents_describe() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        cluster.hub_adapter(REPOSITORY, 1);
        cluster.kubectl_with(&["apply", "-f", "-"], include_str!("aibrix-base.yaml")).await.expect_success();
        cluster.rolled_out("default").await;
        let pod = cluster.pod_names("default", &format!("model.aibrix.ai/name={BASE}")).await.remove(0);

        let phases = Phases::watch(&cluster, "default").await;
        cluster.kubectl_with(&["apply", "-f", "-"], include_str!("aibrix-adapter.yaml")).await.expect_success();
        cluster.condition("default", ADAPTER, "Ready").await;
        assert_eq!(phases.of(ADAPTER), PHASES, "each phase once, in order");

        people_see_it(&cluster, &pod).await;
        clients_reach_it(&cluster).await;
        it_cost_no_more_writes_than_there_are_phases(&cluster);

        cluster.kubectl(&["delete", "modeladapter", ADAPTER, "--timeout=30s"]).await.expect_success();
        assert_eq!(phases.of(ADAPTER), PHASES, "a deletion is no phase");
        nothing_is_left(&cluster, &pod).await;
    });
}

async fn people_see_it(cluster: &Cluster, pod: &str) {
    let address = cluster.pod_address("default", pod).await.to_string();
    let describe = cluster
        .wait_for("the last event", SOON, async || {
            let said = cluster.kubectl(&["describe", "modeladapter", ADAPTER]).await.expect_success();
            if said.contains("Successfully loaded") { Ok(said) } else { Err(said) }
        })
        .await;
    let field = |name: &str| {
        let line = describe.lines().map(str::trim).find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let (uid, version) = (field("UID:"), format!("Resource Version:  {}", field("Resource Version:")));
    let known = [(pod, "POD"), (uid.as_str(), "UID"), (version.as_str(), "Resource Version:  VERSION")];
    insta::assert_snapshot!("describe", masked(&describe, &known));

    let get =
        async |args: &[&str]| masked(&cluster.kubectl(args).await.expect_success(), &[(address.as_str(), "ADDRESS")]);
    insta::assert_snapshot!("get", get(&["get", "modeladapters"]).await);
    insta::assert_snapshot!("get-wide", get(&["get", "modeladapters", "--output", "wide"]).await);
    let label = format!("model.aibrix.ai/name={ADAPTER}");
    let owned = get(&["get", "svc,endpointslices", "--selector", &label]).await;
    let (before, after) = owned.split_once("endpointslice.discovery.k8s.io/qwen-code-lora-").unwrap();
    let (_hash, after) = after.split_once(' ').unwrap();
    insta::assert_snapshot!("owned", format!("{before}endpointslice.discovery.k8s.io/qwen-code-lora-HASH {after}"));
    insta::assert_json_snapshot!("service", service(cluster, &uid).await);
    insta::assert_json_snapshot!("slice", slice(cluster, &uid, pod, &address).await);

    let logs = cluster.controller_logs();
    for line in ["Selected pods for adapter scheduling", "Successfully loaded adapter on pod"] {
        let found = logs.lines().find(|found| found.contains(line)).unwrap_or_else(|| panic!("no {line:?} in {logs}"));
        for field in [format!("modelAdapter=\"default/{ADAPTER}\""), format!("pod=\"{pod}\"")] {
            assert!(found.contains(&field), "{found}");
        }
    }
}

/// The Service without what the API server fills in.
async fn service(cluster: &Cluster, uid: &str) -> serde_json::Value {
    let services: Api<Service> = cluster.api("default");
    let mut found = services.get(ADAPTER).await.unwrap();
    assert_eq!(found.owner_references()[0].uid, uid);
    found.owner_references_mut()[0].uid = "UID".to_owned();
    let (spec, meta) = (found.spec.unwrap(), found.metadata);
    serde_json::json!({
        "labels": meta.labels, "annotations": meta.annotations, "ownerReferences": meta.owner_references,
        "clusterIP": spec.cluster_ip, "selector": spec.selector, "ports": spec.ports,
    })
}

/// The slice without what differs each time; where its engine is has been compared with its pod.
async fn slice(cluster: &Cluster, uid: &str, pod: &str, address: &str) -> serde_json::Value {
    let slices: Api<EndpointSlice> = cluster.api("default");
    let list = ListParams::default().labels(&format!("kubernetes.io/service-name={ADAPTER}"));
    let mut found = slices.list(&list).await.unwrap().items;
    assert_eq!(found.len(), 1);
    let mut found = found.remove(0);
    assert!(found.name_any().starts_with("qwen-code-lora-"), "{}", found.name_any());

    let pods: Api<Pod> = cluster.api("default");
    let engine = pods.get(pod).await.unwrap();
    let node = engine.spec.unwrap().node_name.unwrap();
    let labels = Api::<Node>::all(cluster.client().clone()).get(&node).await.unwrap().metadata.labels.unwrap();
    let endpoint = &mut found.endpoints[0];
    assert_eq!(endpoint.node_name.take(), Some(node));
    assert_eq!(endpoint.zone.take().as_ref(), labels.get("topology.kubernetes.io/zone"));
    let target = endpoint.target_ref.as_mut().unwrap();
    assert_eq!(target.uid.take(), engine.metadata.uid);

    let mut value = serde_json::to_value(&found).unwrap();
    let metadata = value["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["labels", "annotations", "ownerReferences"].contains(&key.as_str()));
    let text = value.to_string().replace(uid, "UID").replace(pod, "POD").replace(address, "ADDRESS");
    serde_json::from_str(&text).unwrap()
}

async fn clients_reach_it(cluster: &Cluster) {
    let router = Router::of(cluster).await;
    let adapted = cluster
        .wait_for("an answer by the adapter", SOON, async || {
            let answer = router.complete(ADAPTER, None).await;
            if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await;
    assert_eq!(adapted.header("x-longshore-adapter"), ADAPTER);
    let plain = router.complete(BASE, None).await;
    assert_eq!((plain.status, plain.header("x-longshore-adapter")), (200, ""));
    assert_ne!(adapted.text(), plain.text(), "the adapter says something else than its base");
    let listed = router.get("/v1/models").await.body;
    let mut names: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [ADAPTER, BASE]);
}

fn it_cost_no_more_writes_than_there_are_phases(cluster: &Cluster) {
    let log = cluster.audit();
    let writes = |resource: &str, subresource: &str, name: &str| {
        let ours = log.iter().filter(|entry| entry.is_by(SYSTEM, CONTROLLER) && entry.is_write());
        let about = ours.filter(|entry| entry.resource == resource && entry.subresource == subresource);
        about.filter(|entry| entry.name.starts_with(name)).count()
    };
    assert_eq!(writes("modeladapters", "status", ADAPTER), PHASES.len(), "status");
    assert_eq!(writes("modeladapters", "", ADAPTER), 1, "the finalizer");
    assert_eq!(writes("services", "", ADAPTER), 1, "Service");
    assert_eq!(writes("endpointslices", "", ADAPTER), 1, "EndpointSlice");
}

async fn nothing_is_left(cluster: &Cluster, pod: &str) {
    let log = SimControl::of_pod(cluster, "default", pod).await.log().await;
    let calls: Vec<_> = log.iter().filter(|entry| entry.name == ADAPTER).map(|entry| entry.what).collect();
    assert_eq!(calls, [What::Load, What::Unload], "loaded once, unloaded once");
    cluster
        .wait_for("no Service and no slice", SOON, async || {
            let label = format!("model.aibrix.ai/name={ADAPTER}");
            let left = cluster.kubectl(&["get", "svc,endpointslices", "--selector", &label, "--output", "name"]).await;
            let left = left.expect_success();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    let router = Router::of(cluster).await;
    cluster
        .wait_for("404", SOON, async || match router.complete(ADAPTER, None).await.status {
            404 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
    assert_eq!(router.complete(BASE, None).await.status, 200, "the base model stays");
}
