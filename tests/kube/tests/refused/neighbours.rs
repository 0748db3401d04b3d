//! Names that others have.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use longshore_kube_tests::scene::engines::{MODEL, adapter};
use longshore_kube_tests::scene::{Router, SOON};
use longshore_kube_tests::{Cluster, Options, inside};
use serde_json::json;

/// A Service that somebody has of his own.
const FOREIGN: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: default, labels: {team: shop}}
spec: {selector: {app: shop}, ports: [{port: 80}]}
";

async fn answers(cluster: &Cluster, router: &Router, model: &str) -> String {
    cluster
        .wait_for(&format!("an answer by {model}"), SOON, async || {
            let answer = router.complete(model, None).await;
            let text = answer.text().map(str::to_owned).filter(|_| answer.status == 200);
            text.ok_or_else(|| format!("{answer:?}"))
        })
        .await
}

#[test]
fn what_is_another_s_stays_as_it_is_and_the_adapter_is_served_all_the_same() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let engine = cluster.engine("default", "engine-0").await;
        let (mine, theirs) = (cluster.artifact("mine", 1), cluster.artifact("theirs", 2));

        // Somebody's Service, and somebody's adapter on the engine.
        cluster.apply(FOREIGN).await;
        let services: Api<Service> = cluster.api("default");
        let before = services.get("shop").await.unwrap();
        let body = json!({"lora_name": "borrowed", "lora_path": theirs});
        let url = format!("http://{}/v1/load_lora_adapter", engine.sim.addr());
        reqwest::Client::new().post(url).json(&body).send().await.unwrap().error_for_status().unwrap();

        cluster.apply(&adapter("default", "shop", &mine, None)).await;
        cluster.apply(&adapter("default", "borrowed", &mine, None)).await;

        cluster.condition("default", "shop", "Ready").await;
        cluster.condition("default", "shop", "ResourceCreated=False").await;
        let shown = cluster.kubectl(&["describe", "modeladapter", "shop"]).await.expect_success();
        assert!(
            shown.contains("ServiceConflict") && shown.contains("a Service named shop that belongs to something else"),
            "{shown}"
        );
        assert_eq!(services.get("shop").await.unwrap(), before, "it is untouched");
        cluster.until_ready_on("default", "shop", &["engine-0"]).await;
        let router = Router::of(&cluster).await;
        let own = answers(&cluster, &router, "shop").await;
        cluster
            .wait_for("the events", SOON, async || {
                let told = [cluster.told("default", "shop").await, cluster.told("default", "borrowed").await].concat();
                let has = |reason: &str| told.iter().any(|event| event.warning && event.reason == reason);
                if has("ServiceConflict") && has("ForeignAdapter") { Ok(()) } else { Err(format!("{told:?}")) }
            })
            .await;

        // What was loaded by somebody else is left alone until the object says that it may be replaced.
        let status = cluster.status("default", "borrowed").await.unwrap();
        assert!(status.to_string().contains("longshore.dev/adopt"), "{status}");
        let mut held = engine.held().await;
        held.sort();
        assert_eq!(held, ["borrowed", "shop"]);
        assert_eq!(engine.loads("borrowed"), 1, "theirs");
        cluster.kubectl(&["annotate", "modeladapter", "borrowed", "longshore.dev/adopt=true"]).await.expect_success();
        cluster.condition("default", "borrowed", "Ready").await;
        assert_eq!(answers(&cluster, &router, "borrowed").await, own, "it is the object's artifact by now");

        // When the other Service goes, ours comes.
        cluster.kubectl(&["delete", "service", "shop"]).await.expect_success();
        cluster.condition("default", "shop", "ResourceCreated").await;
        assert_eq!(services.get("shop").await.unwrap().spec.unwrap().cluster_ip.as_deref(), Some("None"));
        cluster.kubectl(&["delete", "modeladapters", "--all", "--timeout=60s"]).await.expect_success();
        assert!(engine.held().await.is_empty());
    });
}

#[test]
fn i7_two_namespaces_may_use_one_name_and_see_nothing_of_each_other() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let (a, b) = (cluster.namespace("team").await, cluster.namespace("team").await);
        let (engine_a, engine_b) = (cluster.engine(&a, "engine-0").await, cluster.engine(&b, "engine-0").await);
        let (path_a, path_b) = (cluster.artifact("a", 1), cluster.artifact("b", 2));
        cluster.apply(&adapter(&a, "sql", &path_a, None)).await;
        cluster.apply(&adapter(&b, "sql", &path_b, None)).await;
        cluster.condition(&a, "sql", "Ready").await;
        cluster.condition(&b, "sql", "Ready").await;
        for (engine, path) in [(&engine_a, path_a), (&engine_b, path_b)] {
            let log = engine.control().log();
            let loaded: Vec<_> =
                log.iter().filter(|entry| entry.name == "sql").map(|entry| entry.path.clone()).collect();
            assert_eq!(loaded, [path]);
        }

        let router = Router::of(&cluster).await;
        let of_a = answers(&cluster, &router, &format!("{a}/sql")).await;
        let of_b = answers(&cluster, &router, &format!("{b}/sql")).await;
        assert_ne!(of_a, of_b);
        assert_eq!(router.complete("sql", None).await.status, 409, "it has to be said which");
        assert_eq!(router.complete(&format!("{a}/{MODEL}"), None).await.status, 200);

        // One goes, and the other stays.
        cluster.kubectl(&["delete", "modeladapter", "sql", "--namespace", &a, "--timeout=60s"]).await.expect_success();
        assert!(engine_a.held().await.is_empty());
        assert_eq!(engine_b.held().await, ["sql"]);
        cluster
            .wait_for("the bare name of the only one", SOON, async || {
                let answer = router.complete("sql", None).await;
                if answer.text() == Some(of_b.as_str()) { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
    });
}
