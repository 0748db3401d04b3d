//! The driver with the real reconciler, in paused time: an API server and engines in this process.

mod ending;
mod lives;
mod trouble;
mod world;

use longshore_engine::{FakeCall, FakeOperation};
use serde_json::{Value, json};
use tokio::time::sleep;

use world::{SECOND, World, adapter, adapter_path, held, kind_of, writes};

const FINALIZER: &str = "adapter.model.aibrix.ai/finalizer";

#[tokio::test(start_paused = true)]
async fn an_adapter_comes_up_phase_by_phase_with_as_few_writes_as_there_are_things_to_say() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let running = world.start();
    sleep(SECOND).await;
    world.server.take_seen();
    world.adapter("sql", "vllm");
    world.runs("sql").await;
    sleep(SECOND * 30).await;
    assert_eq!(engine.adapters()[0].root, "/srv/sql");
    assert_eq!(world.endpoints("sql"), ["10.0.0.1"]);
    let seen = world.server.take_writes();
    let count = |kind: &str| seen.iter().filter(|seen| kind_of(seen) == kind).count();
    assert_eq!((count("modeladapters"), count("services")), (1, 1), "{seen:#?}");
    // The adapter's slice, and the base model's, since the pod has become an engine.
    assert_eq!(count("endpointslices"), 2, "{seen:#?}");
    let phases = seen.iter().filter(|seen| kind_of(seen) == "modeladapters/status");
    let phases: Vec<_> = phases.map(|seen| seen.body[1]["value"]["phase"].clone()).collect();
    assert_eq!(phases, ["Pending", "Scheduled", "Loading", "Bound", "Running"]);
    let object = world.server.get(&adapter_path("sql")).unwrap();
    assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(object["status"]["engines"][0].get("attempt"), None, "nothing to count where nothing failed");
    let events = world.server.below("/apis/events.k8s.io/");
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["Scheduled", "Loaded"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i10_a_restart_writes_and_loads_nothing_and_neither_does_an_idle_minute() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    world.adapter("code", "vllm");
    let running = world.start();
    world.runs("sql").await;
    world.runs("code").await;
    sleep(SECOND * 30).await;
    running.stop().await;
    world.server.take_seen();
    engine.take_calls();
    let running = world.start();
    sleep(SECOND * 60).await;
    assert!(running.fleet.is_open());
    let written = world.server.take_writes();
    assert!(written.is_empty(), "{written:#?}");
    let calls = engine.take_calls();
    let count = |operation| calls.iter().filter(|call| call.operation() == operation).count();
    assert_eq!((count(FakeOperation::Load), count(FakeOperation::Unload)), (0, 0));
    assert!((29..=31).contains(&count(FakeOperation::Models)), "{}", count(FakeOperation::Models));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reference_that_engines_download_is_said_in_a_condition_and_in_no_event() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let mut object = adapter("sql", "vllm");
    object["spec"]["artifactURL"] = json!("huggingface://org/sql");
    world.server.put(&adapter_path("sql"), object);
    let running = world.start();
    world.runs("sql").await;
    assert_eq!(engine.adapters()[0].root, "org/sql");
    let (status, reason, message) = world.condition("sql", "UpToDate");
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "Unverified"));
    assert!(message.contains("downloads it by itself") && message.contains("longshore-sidecar"), "{message}");
    sleep(SECOND * 30).await;
    let events = world.server.below("/apis/events.k8s.io/");
    assert!(events.iter().all(|event| event["type"] == "Normal"), "{events:#?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_missing_is_said_and_used_as_soon_as_it_is_there() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let mut object = adapter("sql", "vllm");
    object["spec"]["engineApiKeySecretRef"] = json!({"name": "keys", "key": "vllm"});
    world.server.put(&adapter_path("sql"), object);
    let running = world.start();
    world.until("the Secret is missed", |world| world.condition("sql", "Ready").1 == "SecretNotFound").await;
    let secret =
        json!({"metadata": {"name": "keys", "namespace": "default", "uid": "k"}, "data": {"vllm": "aHVudGVyMg=="}});
    world.server.put("/api/v1/namespaces/default/secrets/keys", secret);
    let begun = tokio::time::Instant::now();
    world.runs("sql").await;
    assert!(begun.elapsed() < SECOND * 70, "looked at every minute: {:?}", begun.elapsed());
    let key = engine.calls().into_iter().find_map(|call| match call {
        FakeCall::Load { key, .. } => key,
        _ => None,
    });
    assert_eq!(key, Some(longshore_types::Secret::new("hunter2")));
    let everything = Value::from(world.server.below("/apis/")).to_string();
    assert!(!everything.contains("hunter2"), "i8");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i7_with_namespaces_named_nothing_of_the_cluster_or_of_others_is_asked_for() {
    let mut world = World::new();
    // Twice the same one is once.
    world.namespaces = vec!["default".parse().unwrap(), "other".parse().unwrap(), "default".parse().unwrap()];
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let mut foreign = adapter("foreign", "vllm");
    foreign["metadata"]["namespace"] = json!("third");
    world.server.put("/apis/model.aibrix.ai/v1alpha1/namespaces/third/modeladapters/foreign", foreign);
    let running = world.start();
    world.runs("sql").await;
    sleep(SECOND * 5).await;
    assert_eq!(held(&engine), ["sql"]);
    let allowed = ["/namespaces/default/", "/namespaces/other/"];
    let outside: Vec<_> = world
        .server
        .take_seen()
        .into_iter()
        .filter(|seen| !allowed.iter().any(|part| seen.path.contains(part)))
        .collect();
    assert!(outside.is_empty(), "{outside:#?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_twice_when_a_selector_that_matches_nothing_meets_its_first_pod() {
    let world = World::new();
    world.adapter("sql", "vllm");
    let running = world.start();
    world.until("it says so", |world| world.condition("sql", "Scheduled").1 == "NoMatchingPods").await;
    sleep(SECOND * 10).await;
    assert_eq!(world.phase("sql"), "Pending");
    writes(&world.server);
    world.engine("pod-1", &json!({"app": "vllm"}));
    world.runs("sql").await;
    sleep(SECOND * 10).await;
    let written = writes(&world.server);
    let statuses = written.iter().filter(|write| write.ends_with("modeladapters/status")).count();
    assert_eq!(statuses, 4, "{written:?}");
    running.stop().await;
}
