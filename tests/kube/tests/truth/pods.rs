//! Pods that go, restart, flap, and one that shows nothing of what has happened in it.

use longshore_kube_tests::scene::engines::{MODEL, adapter, held, loads, unload};
use longshore_kube_tests::scene::{Install, Router, SOON};
use longshore_kube_tests::{Options, SimControl, inside, manifests};
use longshore_testkit::What;

/// Longer than a flap, which no test can measure; every wait in between is for something to be seen.
const FLAP: std::time::Duration = std::time::Duration::from_secs(2);

#[test]
fn i9_what_a_pods_status_says_is_shown_at_once_and_moves_only_what_it_must() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let path = cluster.artifact("sql", 1);
        let mut engines = [cluster.engine("default", "engine-0").await, cluster.engine("default", "engine-1").await];
        cluster.apply(&adapter("default", "everywhere", &path, None)).await;
        cluster.apply(&adapter("default", "once", &path, Some(1))).await;
        cluster.until_ready_on("default", "everywhere", &["engine-0", "engine-1"]).await;
        cluster.until_phase("default", "everywhere", "Running", true).await;
        cluster.until_phase("default", "once", "Running", true).await;
        let place = cluster.ready_on("default", "once").await.unwrap();
        let index = usize::from(place == ["engine-1"]);
        let (here, there) = (place[0].as_str(), ["engine-1", "engine-0"][index]);

        // Not Ready for a moment: withdrawn, and nothing else; then served again as it is.
        engines[index].pod.set_ready(&cluster, false).await;
        cluster.until_ready_on("default", "everywhere", &[there]).await;
        cluster.until_ready_on("default", "once", &[]).await;
        cluster.until_phase("default", "once", "Scheduled", false).await;
        tokio::time::sleep(FLAP).await;
        engines[index].pod.set_ready(&cluster, true).await;
        cluster.until_ready_on("default", "everywhere", &["engine-0", "engine-1"]).await;
        cluster.until_ready_on("default", "once", &[here]).await;
        cluster.until_phase("default", "once", "Running", true).await;
        assert_eq!([engines[index].loads("once"), engines[index].loads("everywhere")], [1, 1], "no reload");
        assert_eq!([engines[1 - index].loads("once"), engines[1 - index].loads("everywhere")], [0, 1]);

        // A new life of the container holds nothing: withdrawn as soon as the status shows it, and loaded once.
        engines[index].sim.kill().await;
        engines[index].pod.set_ready(&cluster, false).await;
        engines[index].pod.restarted(&cluster).await;
        cluster.until_ready_on("default", "everywhere", &[there]).await;
        engines[index].sim.restart().await.unwrap();
        engines[index].pod.set_ready(&cluster, true).await;
        cluster.until_ready_on("default", "everywhere", &["engine-0", "engine-1"]).await;
        cluster.until_ready_on("default", "once", &[here]).await;
        assert_eq!([engines[index].loads("once"), engines[index].loads("everywhere")], [2, 2], "once a life");
        assert_eq!([engines[1 - index].loads("once"), engines[1 - index].loads("everywhere")], [0, 1]);

        // Without a word of its pod an adapter is gone: the listing finds it.
        unload(engines[index].sim.addr(), "everywhere").await;
        cluster
            .wait_for("the adapter on its engine again", SOON, async || {
                let held = held(engines[index].sim.addr()).await?;
                if held.iter().any(|name| name == "everywhere") { Ok(()) } else { Err(format!("{held:?}")) }
            })
            .await;
        cluster.until_ready_on("default", "everywhere", &["engine-0", "engine-1"]).await;
        assert_eq!(engines[index].loads("everywhere"), 3);

        // The last pod goes.
        engines[0].pod.delete(&cluster).await;
        cluster.until_ready_on("default", "everywhere", &["engine-1"]).await;
        engines[1].pod.delete(&cluster).await;
        for name in ["everywhere", "once"] {
            cluster.until_ready_on("default", name, &[]).await;
            cluster.until_phase("default", name, "Pending", false).await;
        }
    });
}

#[test]
fn i1_an_engine_that_died_or_forgot_an_adapter_gets_no_request_that_it_cannot_answer() {
    inside(Options::default(), async |cluster| {
        // So rarely that no listing of the interval can be what finds it.
        cluster.install_with(&Install::default().flags(&["--list-interval=120"])).await;
        cluster.apply(&manifests::engines("default", MODEL, 2, &["--max-cpu-loras", "8"]).to_string()).await;
        cluster.apply(&adapter("default", "sql", &cluster.artifact("sql", 1), None)).await;
        cluster.rolled_out("default").await;
        let pods = cluster.pod_names("default", &format!("model.aibrix.ai/name={}", MODEL)).await;
        let names: Vec<&str> = pods.iter().map(String::as_str).collect();
        cluster.until_ready_on("default", "sql", &names).await;
        let router = Router::of(&cluster).await;
        let answer =
            |answered: &longshore_kube_tests::scene::Answered| (answered.status, answered.text().map(str::to_owned));
        let first = cluster
            .wait_for("an answer", SOON, async || {
                let answered = router.complete("sql", None).await;
                if answered.status == 200 { Ok(answered) } else { Err(format!("{answered:?}")) }
            })
            .await;

        // It has forgotten the adapter. Some request meets that; every one is answered, and the adapter is loaded again.
        let address = std::net::SocketAddr::new(cluster.pod_address("default", &pods[0]).await, 8000);
        let forgetful = SimControl::of(address);
        assert_eq!(loads(&forgetful.log().await, "sql"), 1);
        unload(address, "sql").await;
        cluster
            .wait_for("the adapter loaded again", SOON, async || {
                assert_eq!(answer(&router.complete("sql", None).await), answer(&first));
                match loads(&forgetful.log().await, "sql") {
                    2 => Ok(()),
                    other => Err(format!("{other} loads")),
                }
            })
            .await;
        cluster.until_ready_on("default", "sql", &names).await;

        // Its container dies: the same, with one load in its next life.
        let process = cluster.process("default", &pods[1], "engine").unwrap();
        cluster.kill_container("default", &pods[1], "engine");
        cluster.process_after("default", &pods[1], "engine", process).await;
        let reborn = SimControl::of_pod(&cluster, "default", &pods[1]).await;
        cluster
            .wait_for("the adapter in the engine's next life", SOON, async || {
                assert_eq!(answer(&router.complete("sql", None).await), answer(&first));
                let found = cluster.ready_on("default", "sql").await?;
                let address = std::net::SocketAddr::new(cluster.pod_address("default", &pods[1]).await, 8000);
                let held = held(address).await?;
                if found == names && held == ["sql"] { Ok(()) } else { Err(format!("{found:?}, holds {held:?}")) }
            })
            .await;
        let log = reborn.log().await;
        assert_eq!(loads(&log, "sql"), 1);
        assert!(log.iter().all(|entry| entry.what != What::Load || entry.status == 200), "{log:?}");
        assert_eq!(loads(&forgetful.log().await, "sql"), 2);
    });
}
