//! A real vLLM in a pod, from the manifest of AIBrix's documentation as it stands.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::net::SocketAddr;
use std::time::Duration;

use longshore_kube_tests::scene::engines::held;
use longshore_kube_tests::scene::{Router, SOON};
use longshore_kube_tests::{Options, images, inside, manifests};
use longshore_testkit::Version;
use longshore_testkit::real::{install, not_asked_for};

const VERSION: Version = Version::V0_32_0;
/// What the manifest calls its model.
const MODEL: &str = "qwen-coder-1-5b-instruct";
/// It starts in 25 to 45 s on two idle cores; this is for busy ones.
const STARTED: Duration = Duration::from_secs(300);

#[test]
fn i1_a_real_vllm_answers_through_the_router_as_it_answers_itself() {
    if let Some(why) = not_asked_for(VERSION) {
        println!("{why}");
        return;
    }
    // Within the cluster there is no network to install it from.
    if std::env::var("LONGSHORE_KUBE").is_ok_and(|asked| asked == "1") {
        install(VERSION).unwrap_or_else(|error| panic!("{error}"));
    }
    let images = images::Table { real_vllm: Some(VERSION), ..images::Table::default() };
    let within = STARTED + Duration::from_secs(180);
    inside(Options { images, within, ..Options::default() }, async |cluster| {
        cluster.install().await;
        let base = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/life/aibrix-base.yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", base]).await.expect_success();
        let labels = format!("model.aibrix.ai/name={MODEL}");
        let pod = cluster
            .wait_for("vLLM", STARTED, async || {
                let pods = cluster.pods("default", &labels).await;
                let pod = pods.first().ok_or("no pod")?;
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let ready = conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True");
                let name = pod.metadata.name.clone().unwrap_or_default();
                if ready { Ok(name) } else { Err(cluster.log("default", &name, "vllm-openai")) }
            })
            .await;
        let address = SocketAddr::new(cluster.pod_address("default", &pod).await, 8000);

        // The tiny model stands for the one that the manifest names, so the adapter is one for that.
        let adapter = manifests::adapter("default", "sql", MODEL, &cluster.artifact("sql", 1));
        cluster.apply(&adapter.to_string()).await;
        cluster.until_ready_on("default", "sql", &[&pod]).await;
        cluster.until_phase("default", "sql", "Running", true).await;
        assert_eq!(held(address).await.unwrap(), ["sql"]);

        let (router, engine) = (Router::of(&cluster).await, Router::at(address));
        let routed = cluster
            .wait_for("an answer", SOON, async || {
                let answer = router.complete("sql", None).await;
                if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
            })
            .await;
        assert_eq!(routed.header("x-longshore-adapter"), "sql");
        assert!(routed.text().is_some_and(|text| !text.is_empty()), "{routed:?}");
        assert_eq!(routed.text(), engine.complete("sql", None).await.text());
        let of_base = router.complete(MODEL, None).await;
        assert_eq!(of_base.text(), engine.complete(MODEL, None).await.text());
        assert_ne!(routed.text(), of_base.text(), "the adapter changes the answer");

        cluster.kubectl(&["delete", "modeladapter", "sql", "--timeout=60s"]).await.expect_success();
        assert_eq!(held(address).await.unwrap(), [""; 0]);
        let after = cluster
            .wait_for("the router's no", SOON, async || {
                let answer = router.complete("sql", None).await;
                if answer.status == 404 { Ok(answer) } else { Err(format!("{answer:?}")) }
            })
            .await;
        assert_eq!(after.body["error"]["code"], "model_not_found");
        assert_eq!(router.complete(MODEL, None).await.text(), of_base.text());
    });
}
