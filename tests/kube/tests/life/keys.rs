//! Engines that ask for a key.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use longshore_kube_tests::scene::{Router, SOON};
use longshore_kube_tests::{Options, inside};

const BASE: &str = "qwen-coder-1-5b-instruct";
const ADAPTER: &str = "qwen-code-lora-with-key";
/// The samples' own, which everybody can read there.
const KEY: &str = "sk-kFJ12nKsFakefVmGpj3QzX65s4RbN2xJqWzPYCjYu7wT3BFake";

fn sample(name: &str) -> String {
    format!("{}/../../samples/adapter/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn i8_an_engine_that_asks_for_a_key_gets_it_from_a_secret_or_from_the_object_with_a_warning() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        cluster.hub_adapter("ai-blond/Qwen-Qwen2.5-Coder-1.5B-Instruct-lora", 1);
        cluster.kubectl(&["apply", "-f", &sample("base-api-key.yaml")]).await.expect_success();
        cluster.rolled_out("default").await;
        let router = Router::of(&cluster).await;

        // The sample, AIBrix's form of it, and the same as its documents print it: each from the beginning.
        let printed = include_str!("aibrix-adapter-with-key.yaml");
        for (form, insecure) in [("adapter-with-key.yaml", false), ("adapter-api-key.yaml", true), ("", true)] {
            let applied = match form {
                "" => cluster.kubectl_with(&["apply", "-f", "-"], printed).await,
                file => cluster.kubectl(&["apply", "-f", &sample(file)]).await,
            };
            applied.expect_success();
            cluster.condition("default", ADAPTER, "Ready").await;
            cluster
                .wait_for("an answer to who has the key", SOON, async || {
                    let answer = router.complete(ADAPTER, Some(KEY)).await;
                    if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
                })
                .await;
            assert_eq!(router.complete(ADAPTER, None).await.status, 401, "the router shows no key of its own");
            cluster
                .wait_for("the events", SOON, async || {
                    let told = cluster.told("default", ADAPTER).await;
                    let has = |reason: &str| told.iter().any(|event| event.reason == reason);
                    if has("Loaded") && has("InsecureApiKey") == insecure { Ok(()) } else { Err(format!("{told:?}")) }
                })
                .await;
            cluster.kubectl(&["delete", "modeladapter", ADAPTER, "--timeout=30s"]).await.expect_success();
            cluster.kubectl(&["delete", "events", "--all"]).await.expect_success();
        }

        // Only the objects that show it and the pods that have it know the key.
        let events: Api<Event> = cluster.api("default");
        let told = serde_json::to_string(&events.list(&ListParams::default()).await.unwrap().items).unwrap();
        for text in [cluster.controller_logs(), cluster.logs("longshore-system", "router"), told] {
            assert!(!text.contains(KEY), "the key is told");
        }
        assert_eq!(router.complete(BASE, Some(KEY)).await.status, 200);
    });
}
