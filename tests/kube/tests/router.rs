//! The router as it is installed: where it sends requests, and what it says where it cannot.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use longshore_kube_tests::scene::engines::{MODEL, adapter};
use longshore_kube_tests::scene::{Answered, CONTROLLER, Router, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Options, inside};
use longshore_testkit::Faults;

/// Waits for an answer that is as expected.
async fn until(cluster: &Cluster, router: &Router, model: &str, expected: impl Fn(&Answered) -> bool) -> Answered {
    cluster
        .wait_for(&format!("an answer for {model}"), SOON, async || {
            let answer = router.complete(model, None).await;
            if expected(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
}

fn is_ok(answer: &Answered) -> bool {
    answer.status == 200
}

fn says(answer: &Answered, status: u16, code: &str) -> bool {
    answer.status == status && answer.body["error"]["code"] == code
}

#[test]
fn i1_i7_requests_go_where_the_adapter_is_and_are_told_why_where_it_is_not() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let other = cluster.namespace("other").await;
        let (first, second) = (cluster.artifact("first", 1), cluster.artifact("second", 2));
        let engines = [cluster.engine("default", "engine-0").await, cluster.engine("default", "engine-1").await];
        let elsewhere = cluster.engine(&other, "elsewhere").await;
        for (namespace, name, path) in [
            ("default", "sql", first.as_str()),
            ("default", "only", &first),
            ("default", "broken", "/nowhere/at/all"),
            (&other, "sql", &second),
        ] {
            cluster.apply(&adapter(namespace, name, path, None)).await;
        }
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-1"]).await;
        cluster.until_ready_on("default", "only", &["engine-0", "engine-1"]).await;
        cluster.until_ready_on(&other, "sql", &["elsewhere"]).await;

        // A name that two namespaces have stands for neither; with the namespace it stands for just one.
        let router = Router::of(&cluster).await;
        let (ours, theirs) = ("default/sql".to_owned(), format!("{other}/sql"));
        let in_default = until(&cluster, &router, &ours, is_ok).await;
        assert_eq!(in_default.header("x-longshore-adapter"), "sql");
        let in_other = until(&cluster, &router, &theirs, is_ok).await;
        assert_ne!(in_default.text(), in_other.text());
        let only = until(&cluster, &router, "only", is_ok).await;
        assert_eq!(only.text(), in_default.text(), "the same bytes");
        assert!(says(&router.complete("sql", None).await, 409, "ambiguous_model"));

        // The base models likewise, and none of them is an adapter.
        let base = until(&cluster, &router, &format!("default/{MODEL}"), is_ok).await;
        assert_eq!(base.header("x-longshore-adapter"), "");
        assert_ne!(base.text(), in_default.text());
        assert!(is_ok(&router.complete(&format!("{other}/{MODEL}"), None).await));
        assert!(says(&router.complete(MODEL, None).await, 409, "ambiguous_model"));

        // What nobody has declared does not exist; what is declared and not there has a reason.
        assert!(says(&router.complete("unheard-of", None).await, 404, "model_not_found"));
        assert!(says(&router.complete(&format!("{other}/only"), None).await, 404, "model_not_found"));
        let refused = until(&cluster, &router, "broken", |answer| says(answer, 503, "adapter_not_ready")).await;
        let message = refused.body["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("ArtifactNotFound"), "{message}");
        assert_eq!(refused.header("retry-after"), "60");
        assert_eq!(router.get("/v1/lora_adapters").await.status, 404, "an engine's own paths are out of reach");
        let models = router.get("/v1/models").await;
        let mut shown: Vec<_> = models.body["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["id"].as_str().map(str::to_owned))
            .collect();
        shown.sort();
        assert!(
            shown.iter().any(|id| id.ends_with("only")) && !shown.iter().any(|id| id.ends_with("broken")),
            "{shown:?}"
        );

        // An endpoint that goes is left before it could do harm: whoever still went there would wait for ever.
        let mut engines = engines;
        engines[1].pod.set_ready(&cluster, false).await;
        cluster.until_ready_on("default", "sql", &["engine-0"]).await;
        let everybody = Router::all(&cluster).await;
        for router in &everybody {
            until(&cluster, router, &ours, is_ok).await;
        }
        engines[1].control().set(Faults { hang_all: true, ..Faults::default() }).await;
        for router in &everybody {
            for _ in 0..50 {
                let answer = router.complete(&ours, None).await;
                assert_eq!((answer.status, answer.text()), (200, in_default.text()));
            }
        }

        // Without any controller all of that goes on.
        cluster.scale(SYSTEM, CONTROLLER, 0).await;
        for router in &everybody {
            assert_eq!(router.complete(&ours, None).await.text(), in_default.text());
            assert_eq!(router.complete(&theirs, None).await.text(), in_other.text());
            assert!(is_ok(&router.complete(&format!("default/{MODEL}"), None).await));
            assert!(says(&router.complete("broken", None).await, 503, "adapter_not_ready"));
            assert!(says(&router.complete("unheard-of", None).await, 404, "model_not_found"));
        }

        // It comes back and finds that the pod has gone meanwhile.
        engines[1].pod.delete(&cluster).await;
        cluster.scale(SYSTEM, CONTROLLER, 1).await;
        cluster.kubectl(&["delete", "modeladapter", "only", "--timeout=60s"]).await.expect_success();
        until(&cluster, &router, "only", |answer| says(answer, 404, "model_not_found")).await;
        assert_eq!(router.complete(&ours, None).await.text(), in_default.text());
        assert!(!elsewhere.held().await.is_empty());
    });
}
