//! Several controllers: one leads, and when it dies, freezes or goes, another does, and nothing is done twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use longshore_kube_tests::scene::engines::{adapter, loads};
use longshore_kube_tests::scene::{CONTROLLER, Install, ROUTER, SOON, SYSTEM};
use longshore_kube_tests::{Cluster, Engine, Options, Signal, inside};
use longshore_testkit::{Faults, What};
use serde_json::Value;

/// Soon enough for a test, and long enough for a leader on a busy machine.
const SHORT: [&str; 3] = [
    "--leader-election-lease-duration=6s",
    "--leader-election-renew-deadline=4s",
    "--leader-election-retry-period=0.5s",
];

/// So long that nobody would see it expire here: who takes over has been let.
const LONG: [&str; 2] = ["--leader-election-lease-duration=900s", "--leader-election-renew-deadline=600s"];

/// Every call to load that an engine has had, with its answer.
fn calls(engine: &Engine) -> Vec<(String, u16)> {
    let log = engine.control().log();
    log.into_iter().filter(|entry| entry.what == What::Load).map(|entry| (entry.name, entry.status)).collect()
}

/// Applies an adapter that its engine is slow to load, does `what` in the middle of that, and waits until all is well.
async fn in_the_middle_of_a_load(cluster: &Cluster, engine: &Engine, name: &str, what: impl AsyncFnOnce()) {
    engine.control().set(Faults { load_delay_ms: 2000, ..Faults::default() }).await;
    cluster.apply(&adapter("default", name, &cluster.artifact("sql", 1), None)).await;
    engine.control().until_reading().await;
    what().await;
    cluster.until_ready_on("default", name, &[engine.pod.name()]).await;
    cluster.until_phase("default", name, "Running", true).await;
    engine.control().set(Faults::default()).await;
    assert_eq!(engine.loads(name), 1, "{:?}", calls(engine));
}

#[test]
fn i3_a_leader_that_is_killed_or_frozen_is_followed_by_one_that_repeats_nothing() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().flags(&SHORT)).await;
        let engine = cluster.engine("default", "engine-0").await;
        let (leader, holder) = cluster.leader().await;
        in_the_middle_of_a_load(&cluster, &engine, "killed", async || {
            cluster.kill_container(SYSTEM, &leader, "controller");
        })
        .await;
        let (leader, holder) = cluster.leader_after(&holder).await;

        // Settled, and then frozen: the other finds everything as it should be.
        let seen = cluster.until_quiet().await;
        let process = cluster.process(SYSTEM, &leader, "controller").unwrap();
        cluster.signal(SYSTEM, &leader, "controller", Signal::STOP);
        let (next, holder) = cluster.leader_after(&holder).await;
        assert_ne!(next, leader);
        let token = cluster.token_for(SYSTEM, ROUTER, "longshore").await;
        let fleet = cluster.fleet_api(&next).await;
        cluster
            .wait_for("the new leader's own view", SOON, async || {
                let answer = fleet.get_as("/v1/adapters/killed?namespace=default", &token).await;
                if answer.body["readyReplicas"] == 1 { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
        let calls_before = calls(&engine);
        let quiet = cluster.until_quiet().await;
        assert_eq!(cluster.writes_since(seen), [], "a new leader has nothing to change");
        assert_eq!(calls(&engine), calls_before);

        // The new one works. The old one wakes, does nothing more, and begins again as a follower.
        cluster.apply(&adapter("default", "after", &cluster.artifact("sql", 1), None)).await;
        cluster.until_ready_on("default", "after", &["engine-0"]).await;
        cluster.until_phase("default", "after", "Running", true).await;
        let seen = cluster.until_quiet().await;
        assert!(seen > quiet);
        let calls_before = calls(&engine);
        cluster.signal(SYSTEM, &leader, "controller", Signal::CONT);
        cluster.process_after(SYSTEM, &leader, "controller", process).await;
        cluster.rolled_out(SYSTEM).await;
        cluster.until_quiet().await;
        assert_eq!(cluster.writes_since(seen), [], "who has slept has nothing to say");
        assert_eq!(calls(&engine), calls_before);
        assert_eq!(cluster.holder().await.unwrap(), holder);

        // One controller alone, which starts again by itself.
        cluster.scale(SYSTEM, CONTROLLER, 1).await;
        let (leader, holder) = cluster.leader().await;
        let process = cluster.process(SYSTEM, &leader, "controller");
        let process = process.unwrap_or_else(|| panic!("{leader} has been scaled down and still holds the Lease"));
        in_the_middle_of_a_load(&cluster, &engine, "alone", async || {
            cluster.kill_container(SYSTEM, &leader, "controller");
            cluster.process_after(SYSTEM, &leader, "controller", process).await;
        })
        .await;
        assert_eq!(cluster.leader_after(&holder).await.0, leader);
        let log = engine.control().log();
        for name in ["killed", "after", "alone"] {
            assert_eq!(loads(&log, name), 1, "{log:?}");
        }
    });
}

#[test]
fn a_leader_that_is_told_to_go_lets_the_other_lead_at_once_and_every_replica_answers_for_the_leader() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().flags(&LONG)).await;
        let _engine = cluster.engine("default", "engine-0").await;
        cluster.apply(&adapter("default", "sql", &cluster.artifact("sql", 1), None)).await;
        cluster.until_phase("default", "sql", "Running", true).await;
        let (leader, holder) = cluster.leader().await;
        let replicas = cluster.pod_names(SYSTEM, &format!("app.kubernetes.io/name={CONTROLLER}")).await;
        assert_eq!(replicas.len(), 2);

        let path = "/v1/adapters";
        let router = cluster.token_for(SYSTEM, ROUTER, "longshore").await;
        let stranger = cluster.token_for("default", "default", "longshore").await;
        let elsewhere = cluster.token(SYSTEM, ROUTER).await;
        for replica in &replicas {
            let fleet = cluster.fleet_api(replica).await;
            let answer = fleet.get_as(path, &router).await;
            assert_eq!(answer.status, 200, "{replica}: {answer:?}");
            let adapters = answer.body["adapters"].as_array().unwrap();
            let shown: Vec<_> = adapters.iter().map(|one| (&one["name"], &one["phase"])).collect();
            assert_eq!(shown, [(&Value::from("sql"), &Value::from("Running"))], "{replica}");
            assert_eq!(fleet.get(path).await.status, 401, "{replica}: nobody");
            assert_eq!(fleet.get_as(path, "rubbish").await.status, 401, "{replica}");
            assert_eq!(fleet.get_as(path, &elsewhere).await.status, 401, "{replica}: a token for the API server");
            assert_eq!(fleet.get_as(path, &stranger).await.status, 403, "{replica}: another account");
        }

        // As an update or a drain does it: SIGTERM.
        cluster.kubectl(&["delete", "pod", &leader, "--namespace", SYSTEM]).await.expect_success();
        let (next, _) = cluster.leader_after(&holder).await;
        assert_ne!(next, leader);
        cluster.rolled_out(SYSTEM).await;
        let replicas = cluster.pod_names(SYSTEM, &format!("app.kubernetes.io/name={CONTROLLER}")).await;
        assert_eq!(replicas.len(), 2);
        for replica in &replicas {
            let fleet = cluster.fleet_api(replica).await;
            cluster
                .wait_for("the fleet of the new leader", SOON, async || {
                    let answer = fleet.get_as("/v1/adapters/sql?namespace=default", &router).await;
                    if answer.body["readyReplicas"] == 1 { Ok(()) } else { Err(format!("{replica}: {answer:?}")) }
                })
                .await;
        }
    });
}
