//! Where adapters go, and where they come off again.

use futures::future::join_all;
use longshore_kube_tests::scene::SOON;
use longshore_kube_tests::scene::engines::adapter;
use longshore_kube_tests::{Engine, Options, inside};
use serde_json::json;

#[test]
fn a_hundred_adapters_of_one_replica_are_spread_evenly_and_leave_nothing_when_they_move_or_go() {
    inside(Options::default(), async |cluster| {
        let path = cluster.artifact("sql", 1);
        let mut engines: Vec<Engine> = Vec::new();
        for number in 0..10 {
            engines.push(cluster.engine("default", &format!("engine-{number}")).await);
        }
        // They have been there for long, and nothing has selected them yet.
        cluster.install().await;
        let names: Vec<String> = (0..100).map(|number| format!("adapter-{number}")).collect();
        let all: Vec<String> = names.iter().map(|name| adapter("default", name, &path, Some(1))).collect();
        cluster.apply(&all.concat()).await;
        let counts = async || join_all(engines.iter().map(Engine::held)).await.iter().map(Vec::len).collect::<Vec<_>>();
        let until = async |what: &str, expected: &[usize]| {
            cluster
                .wait_for(what, SOON, async || {
                    let counts = counts().await;
                    if counts == expected { Ok(()) } else { Err(format!("{counts:?}")) }
                })
                .await;
        };
        until("10 on each of 10 engines", &[10; 10]).await;

        // Everywhere, then fewer, then by a selector that only one engine has.
        let patch = async |spec: serde_json::Value| {
            let patch = json!({"spec": spec}).to_string();
            cluster
                .kubectl(&["patch", "modeladapter", "adapter-0", "--type=merge", "-p", &patch])
                .await
                .expect_success();
        };
        patch(json!({"replicas": 10})).await;
        let everywhere: Vec<String> = (0..10).map(|number| format!("engine-{number}")).collect();
        let everywhere: Vec<&str> = everywhere.iter().map(String::as_str).collect();
        cluster.until_ready_on("default", "adapter-0", &everywhere).await;
        assert_eq!(counts().await.iter().sum::<usize>(), 109);
        patch(json!({"replicas": 3})).await;
        cluster
            .wait_for("102 in all", SOON, async || match counts().await.iter().sum::<usize>() {
                102 => Ok(()),
                other => Err(format!("{other}")),
            })
            .await;
        assert_eq!(cluster.ready_on("default", "adapter-0").await.unwrap().len(), 3);
        cluster.kubectl(&["label", "pod", "engine-7", "only=this"]).await.expect_success();
        patch(json!({"replicas": null, "podSelector": {"matchLabels": {"only": "this"}}})).await;
        cluster.until_ready_on("default", "adapter-0", &["engine-7"]).await;
        cluster
            .wait_for("100 in all", SOON, async || match counts().await.iter().sum::<usize>() {
                100 => Ok(()),
                other => Err(format!("{other}")),
            })
            .await;

        cluster.kubectl(&["delete", "modeladapter", "--all", "--timeout=60s"]).await.expect_success();
        until("nothing on any engine", &[0; 10]).await;
    });
}
