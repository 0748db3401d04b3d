//! The real process against an API server that is played: from the first election to SIGTERM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod process {
    pub mod api_server;
    pub mod replica;
}

use process::api_server::ApiServer;
use process::replica::{Replica, command, until};
use serde_json::Value;

const ROUTER: &str = "token-of-system:serviceaccount:longshore-system:longshore-router";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_leads_answers_and_gives_the_lease_up_at_the_end() {
    let server = ApiServer::start().await;
    blocking(move || {
        let mut replica = Replica::start(&server, "pod-a", "127.0.0.1:0", &["--metrics-bind-address=127.0.0.1:0"]);
        replica.until_ready();
        assert!(server.holder().starts_with("pod-a_"), "{}", server.holder());
        assert_eq!(replica.get("/livez", None).0, 200);

        // Whoever has no token of the router's has nothing.
        assert_eq!(replica.get("/v1/adapters", None).0, 401);
        assert_eq!(replica.get("/v1/adapters", Some("rubbish")).0, 401);
        assert_eq!(replica.get("/v1/adapters", Some("token-of-somebody-else")).0, 403);
        until("the fleet is known", || replica.get("/v1/adapters", Some(ROUTER)).0 == 200);
        let (_, fleet) = replica.get("/v1/adapters", Some(ROUTER));
        assert_eq!(serde_json::from_str::<Value>(&fleet).unwrap()["adapters"], serde_json::json!([]));

        for address in [replica.address.clone(), replica.line_with("Metrics server listening")] {
            let (status, metrics) = process::replica::get(&address, "/metrics", None);
            assert!(status == 200 && metrics.contains("\nlongshore_controller_leading 1\n"), "{metrics}");
            assert!(metrics.contains("\nprocess_cpu_seconds_total "), "{metrics}");
        }

        // What is counted is explained.
        let (_, metrics) = replica.get("/metrics", None);
        let page = include_str!("../../../docs/controller.md");
        let samples = metrics.lines().filter_map(|line| line.strip_prefix("longshore_controller_"));
        let names: Vec<_> = samples.map(|sample| sample.split(['{', ' ']).next().unwrap()).collect();
        assert!(names.contains(&"watch_lists_total"), "{metrics}");
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "docs/controller.md does not name {name}");
        }

        assert_eq!(replica.terminate().code(), Some(0));
        assert_eq!(server.holder(), "");
        assert!(
            server.agents().iter().all(|agent| agent.starts_with("longshore-controller/")),
            "{:?}",
            server.agents()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_passes_requests_on_and_takes_over_when_the_first_goes() {
    let server = ApiServer::start().await;
    blocking(move || {
        server.pod("pod-a", "127.0.0.1");
        server.pod("pod-b", "127.0.0.2");
        let mut first = Replica::start(&server, "pod-a", "127.0.0.1:0", &[]);
        first.until_ready();
        let port = first.address.rsplit(':').next().unwrap().to_owned();
        let second = Replica::start(&server, "pod-b", &format!("127.0.0.2:{port}"), &[]);
        second.until_ready();
        assert!(second.get("/metrics", None).1.contains("\nlongshore_controller_leading 0\n"));
        // It knows nothing by itself: what it answers comes from the one that leads.
        until("requests are passed on", || second.get("/v1/adapters", Some(ROUTER)).0 == 200);
        let revision = |replica: &Replica| {
            let (_, body) = replica.get("/v1/adapters", Some(ROUTER));
            serde_json::from_str::<Value>(&body).unwrap()["revision"].clone()
        };
        assert_eq!(revision(&first), revision(&second));
        assert_eq!(second.get("/v1/adapters", None).0, 401);

        let before = revision(&first);
        assert_eq!(first.terminate().code(), Some(0));
        until("the second leads", || second.get("/metrics", None).1.contains("\nlongshore_controller_leading 1\n"));
        second.until_ready();
        until("the fleet is known", || second.get("/v1/adapters", Some(ROUTER)).0 == 200);
        assert_ne!(revision(&second), before);
        assert!(server.holder().starts_with("pod-b_"));
        assert_eq!(server.transitions(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_lease_another_has_ends_and_says_so() {
    let server = ApiServer::start().await;
    blocking(move || {
        let mut replica = Replica::start(&server, "pod-a", "127.0.0.1:0", &[]);
        replica.until_ready();
        server.usurp("pod-x_1");
        let status = replica.wait();
        assert_eq!(status.code(), Some(1));
        assert!(
            replica.said().contains("this replica leads no more: pod-x_1 holds the Lease now"),
            "{}",
            replica.said()
        );
        assert_eq!(server.holder(), "pod-x_1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_may_not_list_is_alive_not_ready_and_says_what_is_missing() {
    let server = ApiServer::start().await;
    blocking(move || {
        server.forbid("pods");
        let mut replica = Replica::start(&server, "pod-a", "127.0.0.1:0", &[]);
        until("it leads", || server.holder().starts_with("pod-a_"));
        let (status, body) = replica.get("/readyz", None);
        assert!(status == 503 && body.contains("first lists"), "{body}");
        assert_eq!(replica.get("/livez", None).0, 200);
        assert_eq!(replica.get("/v1/adapters", Some(ROUTER)).0, 503);
        // As soon as it may, it goes on by itself.
        server.permit();
        replica.until_ready();
        assert_eq!(replica.terminate().code(), Some(0));
    })
    .await;
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    let run = |args: &[&str]| {
        let output = command().args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["--model-adapter-scheduler-policy=best"]);
    assert!(code == Some(2) && text.contains("default, least-adapters"), "{text}");
    let (code, text) = run(&["--leader-election-renew-deadline=30"]);
    assert!(code == Some(2) && text.contains("--leader-election-lease-duration"), "{text}");
    let (code, text) = run(&["--kubeconfig=/nowhere/config"]);
    assert!(code == Some(1) && text.contains("/nowhere/config"), "{text}");
}

/// The other half of these tests is processes, which are waited for with threads.
async fn blocking(test: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(test).await.unwrap();
}
