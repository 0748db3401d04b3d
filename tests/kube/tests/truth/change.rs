//! Other bytes behind one name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use longshore_kube_tests::scene::engines::adapter;
use longshore_kube_tests::scene::{Router, SOON};
use longshore_kube_tests::{Cluster, Options, inside};
use serde_json::json;

/// Asks without a pause until it is told to stop, and says what it was answered: how often, and what it had not to be.
async fn ask_on(router: Router, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Vec<String> {
    let mut failed = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let answer = router.complete("sql", None).await;
        if answer.status != 200 {
            failed.push(format!("{answer:?}"));
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    failed
}

async fn until_text(cluster: &Cluster, router: &Router, what: &str, is_it: impl Fn(&str) -> bool) -> String {
    cluster
        .wait_for(what, SOON, async || {
            let answer = router.complete("sql", None).await;
            answer.text().filter(|text| is_it(text)).map(str::to_owned).ok_or_else(|| format!("{answer:?}"))
        })
        .await
}

#[test]
fn a_changed_url_is_served_and_no_request_fails_meanwhile() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let (old, new) = (cluster.artifact("sql-1", 1), cluster.artifact("sql-2", 2));
        let engines = [cluster.engine("default", "engine-0").await, cluster.engine("default", "engine-1").await];
        cluster.apply(&adapter("default", "sql", &old, None)).await;
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-1"]).await;
        let router = Router::of(&cluster).await;
        let before = until_text(&cluster, &router, "an answer", |_| true).await;

        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients: Vec<_> =
            (0..2).map(|_| tokio::spawn(ask_on(router.clone(), Arc::clone(&stop), Arc::clone(&answered)))).collect();
        let enough = async |more: u64| {
            let from = answered.load(Ordering::SeqCst);
            cluster
                .wait_for("more answers", SOON, async || {
                    let now = answered.load(Ordering::SeqCst);
                    if now >= from + more { Ok(()) } else { Err(format!("{now}")) }
                })
                .await;
        };
        enough(50).await;
        let patch = json!({"spec": {"artifactURL": new}}).to_string();
        cluster.kubectl(&["patch", "modeladapter", "sql", "--type=merge", "-p", &patch]).await.expect_success();
        let after = until_text(&cluster, &router, "another answer", |text| text != before).await;
        // Both engines have the new bytes and nothing but them, and all answers are theirs from then on.
        for engine in &engines {
            cluster
                .wait_for("the new path alone", SOON, async || {
                    let models: serde_json::Value =
                        async { reqwest::get(format!("{}/v1/models", engine.sim.url())).await?.json().await }
                            .await
                            .map_err(|error: reqwest::Error| error.to_string())?;
                    let roots: Vec<_> =
                        models["data"].as_array().unwrap().iter().skip(1).map(|m| m["root"].clone()).collect();
                    if roots == [json!(new)] { Ok(()) } else { Err(format!("{roots:?}")) }
                })
                .await;
        }
        cluster.until_ready_on("default", "sql", &["engine-0", "engine-1"]).await;
        enough(50).await;
        stop.store(true, Ordering::SeqCst);
        for client in clients {
            assert_eq!(client.await.unwrap(), Vec::<String>::new());
        }
        for _ in 0..20 {
            assert_eq!(router.complete("sql", None).await.text(), Some(after.as_str()));
        }
        cluster.until_phase("default", "sql", "Running", true).await;
    });
}
