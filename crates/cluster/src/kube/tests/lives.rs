//! Pods that come, go, restart and are not Ready.

use longshore_engine::FakeOperation;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::testing::Trouble;
use super::world::{SECOND, World, adapter_path, held, pod_path};

fn unready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T00:00:00Z"}]}})
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_ready_is_withdrawn_at_once_though_the_api_server_does_not_tell_its_zone() {
    let world = World::new();
    world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    // Longer than a node without a zone is taken for one.
    sleep(SECOND * 700).await;
    world.server.trouble(|seen| seen.path.contains("/nodes/").then_some(Trouble::Hang));
    world.server.change(&pod_path("pod-1"), &unready());
    let begun = Instant::now();
    world.until("it is withdrawn", |world| world.endpoints("sql").is_empty()).await;
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    world.until("and not Running", |world| world.phase("sql") != "Running").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i9_a_pod_that_was_not_ready_any_more_before_we_began_is_withdrawn_though_it_cannot_be_asked() {
    let world = World::new();
    world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    running.stop().await;
    world.server.change(&pod_path("pod-1"), &unready());
    let running = world.start();
    world.until("it is withdrawn", |world| world.endpoints("sql").is_empty()).await;
    world.until("and not Running", |world| world.phase("sql") != "Running").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_zone_of_the_node_is_on_the_endpoint() {
    let world = World::new();
    world.engine("pod-1", &json!({"app": "vllm"}));
    let labels = json!({"topology.kubernetes.io/zone": "z1"});
    world.server.put("/api/v1/nodes/node-1", json!({"metadata": {"name": "node-1", "uid": "n", "labels": labels}}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    let slices = world.server.below("/apis/discovery.k8s.io/");
    assert!(slices.iter().all(|slice| slice["endpoints"][0]["zone"] == "z1"), "{slices:#?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_restarts_is_a_new_life_and_is_loaded_again() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    engine.restart();
    engine.take_calls();
    let mut pod = world.server.get(&pod_path("pod-1")).unwrap();
    pod["status"]["containerStatuses"][0]["containerID"] = json!("containerd://second");
    pod["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    world.server.put(&pod_path("pod-1"), pod);
    world.until("it is loaded again", |_| held(&engine) == ["sql"]).await;
    world.until("it is published", |world| world.endpoints("sql") == ["10.0.0.1"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_pod_of_the_same_name_is_another_engine() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    let mut pod = world.server.get(&pod_path("pod-1")).unwrap();
    world.server.remove(&pod_path("pod-1"));
    world.until("it is withdrawn", |world| world.endpoints("sql").is_empty()).await;
    world.until("it is not Running", |world| world.phase("sql") == "Pending").await;
    engine.restart();
    pod["metadata"]["uid"] = json!("another");
    world.server.put(&pod_path("pod-1"), pod);
    world.runs("sql").await;
    let slices = world.server.below("/apis/discovery.k8s.io/");
    assert!(slices.iter().all(|slice| slice["endpoints"][0]["targetRef"]["uid"] == "another"), "{slices:#?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_label_takes_a_pod_in_or_leaves_it_out() {
    let world = World::new();
    const ENABLED: &str = "adapter.model.aibrix.ai/enabled";
    let left_out = world.engine("pod-1", &json!({"app": "vllm", ENABLED: "false"}));
    let taken = world.engine("pod-2", &json!({"app": "vllm", ENABLED: "true"}));
    let alone = world.engine("pod-3", &json!({"app": "other", ENABLED: "true"}));
    let nobodys = world.engine("pod-4", &json!({"app": "other"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    assert_eq!((held(&left_out).len(), held(&taken)), (0, vec!["sql".to_owned()]));
    world.until("both answer for the base model", |world| world.endpoints("tiny") == ["10.0.0.2", "10.0.0.3"]).await;
    assert_eq!((left_out.calls(), nobodys.calls()), (vec![], vec![]));
    assert_eq!(held(&alone).len(), 0);
    // Left out afterwards: taken off and let go.
    world.server.change(&pod_path("pod-2"), &json!({"metadata": {"labels": {ENABLED: "no"}}}));
    world.until("it is taken off", |_| held(&taken).is_empty()).await;
    world.until("it is nobody's", |world| world.endpoints("tiny") == ["10.0.0.3"]).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i10_a_restart_takes_nothing_away_while_engines_are_slow_to_say_what_they_hold() {
    let world = World::new();
    let slow = world.engine("pod-1", &json!({"app": "vllm"}));
    let fails = world.engine("pod-2", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.until("both serve", |world| world.endpoints("sql").len() == 2 && world.endpoints("tiny").len() == 2).await;
    running.stop().await;
    slow.hang(FakeOperation::Models);
    let fault = longshore_types::Fault::new(longshore_types::Scope::Transient, "ConnectionRefused", "no");
    fails.fail(FakeOperation::Models, fault);
    let running = world.start();
    sleep(SECOND * 3 / 2).await;
    // One has failed, the other has said nothing: nobody knows.
    assert_eq!((world.endpoints("sql").len(), world.endpoints("tiny").len()), (2, 2));
    slow.resume(FakeOperation::Models);
    world.until("the one that fails is left", |world| world.endpoints("sql") == ["10.0.0.1"]).await;
    world.until("for the base model too", |world| world.endpoints("tiny") == ["10.0.0.1"]).await;
    assert!(world.server.get(&adapter_path("sql")).is_some());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i10_a_restart_writes_nothing_though_engines_answer_one_after_the_other() {
    let world = World::new();
    let engines = ["pod-1", "pod-2", "pod-3"].map(|name| world.engine(name, &json!({"app": "vllm"})));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.until("all serve", |world| world.endpoints("sql").len() == 3 && world.endpoints("tiny").len() == 3).await;
    sleep(SECOND * 10).await;
    running.stop().await;
    world.server.take_seen();
    for slow in &engines[1..] {
        slow.hang(FakeOperation::Models);
    }
    let running = world.start();
    for slow in &engines[1..] {
        sleep(SECOND / 25).await;
        slow.resume(FakeOperation::Models);
    }
    sleep(SECOND * 60).await;
    let written = world.server.take_writes();
    assert!(written.is_empty(), "{written:#?}");
    running.stop().await;
}
