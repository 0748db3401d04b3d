//! Several engines and several adapters.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use longshore_api::ModelAdapter;
use longshore_kube_tests::scene::engines::held;
use longshore_kube_tests::scene::{Router, SOON};
use longshore_kube_tests::{Cluster, Options, inside};

const BASE: &str = "qwen-coder-1-5b-instruct";
/// The adapters of the samples and the engines that each is on.
const ADAPTERS: [(&str, usize); 3] = [("qwen-code-lora", 3), ("multi-replica-lora", 2), ("reliability-demo-lora", 1)];

/// What each engine holds.
async fn loaded(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for pod in cluster.pod_names("default", &format!("model.aibrix.ai/name={BASE}")).await {
        let address = SocketAddr::new(cluster.pod_address("default", &pod).await, 8000);
        all.insert(pod, held(address).await.unwrap());
    }
    all
}

#[test]
fn the_samples_share_three_engines_and_leave_nothing_on_them() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        cluster.hub_adapter("ai-blond/Qwen-Qwen2.5-Coder-1.5B-Instruct-lora", 1);
        let sample = |name: &str| format!("{}/../../samples/adapter/{name}", env!("CARGO_MANIFEST_DIR"));
        cluster.kubectl(&["apply", "-f", &sample("base.yaml")]).await.expect_success();
        cluster.scale("default", BASE, 3).await;
        for file in ["adapter.yaml", "adapter-multi-replica.yaml", "adapter-reliability-demo.yaml"] {
            cluster.kubectl(&["apply", "-f", &sample(file)]).await.expect_success();
        }
        let adapters: Api<ModelAdapter> = cluster.api("default");
        let router = Router::of(&cluster).await;
        for (name, replicas) in ADAPTERS {
            cluster
                .wait_for(&format!("{name} on {replicas} engines"), SOON, async || {
                    let status =
                        adapters.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
                    let counts = (status.desired_replicas, status.ready_replicas, status.instances.len());
                    let wanted = i32::try_from(replicas).unwrap();
                    if counts == (wanted, wanted, replicas) { Ok(()) } else { Err(format!("{status:?}")) }
                })
                .await;
            cluster
                .wait_for(&format!("answers by {name}"), SOON, async || {
                    let answer = router.complete(name, None).await;
                    let by = answer.header("x-longshore-adapter");
                    if (answer.status, by) == (200, name) { Ok(()) } else { Err(format!("{answer:?}")) }
                })
                .await;
        }
        let on = |name: &str, all: &BTreeMap<String, Vec<String>>| {
            all.values().filter(|loaded| loaded.iter().any(|it| it == name)).count()
        };
        let all = loaded(&cluster).await;
        for (name, replicas) in ADAPTERS {
            assert_eq!(on(name, &all), replicas, "{name}: {all:?}");
        }

        cluster.kubectl(&["delete", "modeladapters", "--all", "--timeout=60s"]).await.expect_success();
        let all = loaded(&cluster).await;
        assert!(all.len() == 3 && all.values().all(Vec::is_empty), "{all:?}");
        cluster
            .wait_for("nothing of ours but the base model's slice", SOON, async || {
                let (services, slices): (Api<Service>, Api<EndpointSlice>) =
                    (cluster.api("default"), cluster.api("default"));
                let labels = "endpointslice.kubernetes.io/managed-by=longshore-controller";
                let slices = slices.list(&ListParams::default().labels(labels)).await.unwrap().items;
                let services =
                    services.list(&ListParams::default().labels("adapter.model.aibrix.ai/name")).await.unwrap();
                let left: Vec<String> = slices.iter().map(|slice| slice.name_any()).collect();
                let bases =
                    slices.iter().filter(|slice| !slice.annotations().contains_key("longshore.dev/adapter")).count();
                if services.items.is_empty() && left.len() == bases { Ok(()) } else { Err(format!("{left:?}")) }
            })
            .await;
    });
}
