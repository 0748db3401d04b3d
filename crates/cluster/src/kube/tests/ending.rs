//! Adapters that go: deleted, noted, let go of; and drivers that end.

use longshore_engine::FakeOperation;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::testing::Trouble;
use super::FINALIZER;
use super::world::{SECOND, World, adapter, adapter_path, held, kind_of, pod_path, writes};

const NOTE: &str = "/api/v1/namespaces/default/configmaps/longshore-unfinished";

#[tokio::test(start_paused = true)]
async fn i4_a_deletion_leaves_nothing() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    world.server.delete(&adapter_path("sql"));
    world.until("sql is gone", |world| world.server.get(&adapter_path("sql")).is_none()).await;
    assert_eq!(held(&engine).len(), 0, "before the finalizer goes");
    sleep(SECOND * 10).await;
    for path in ["/apis/discovery.k8s.io/", "/api/v1/namespaces/default/services/", NOTE] {
        assert_eq!(world.server.below(path).len(), 0, "{path}");
    }
    // Nobody selects the pod any more.
    engine.take_calls();
    sleep(SECOND * 60).await;
    assert_eq!(engine.take_calls(), []);
    assert_eq!(running.fleet.engines().items.len(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i4_what_a_deletion_could_not_undo_is_noted_and_undone_when_the_engine_wakes() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    engine.hang(FakeOperation::Unload);
    let begun = Instant::now();
    world.server.delete(&adapter_path("sql"));
    world.until("sql is gone", |world| world.server.get(&adapter_path("sql")).is_none()).await;
    assert!(begun.elapsed() < SECOND * 14, "{:?}", begun.elapsed());
    assert!(world.server.get(NOTE).is_some());
    running.stop().await;
    // Another process takes over and finds the note.
    let running = world.start();
    sleep(SECOND * 20).await;
    assert_eq!(held(&engine), ["sql"]);
    engine.resume(FakeOperation::Unload);
    world.until("the note is settled", |world| world.server.get(NOTE).is_none()).await;
    assert_eq!(held(&engine).len(), 0);
    sleep(SECOND * 10).await;
    engine.take_calls();
    sleep(SECOND * 60).await;
    assert_eq!(engine.take_calls(), [], "and nobody asks it anything any more");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_note_about_a_pod_that_is_gone_is_settled() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    engine.hang(FakeOperation::Unload);
    world.server.delete(&adapter_path("sql"));
    world.until("sql is noted", |world| world.server.get(NOTE).is_some()).await;
    running.stop().await;
    world.server.remove(&pod_path("pod-1"));
    let running = world.start();
    world.until("the note is settled", |world| world.server.get(NOTE).is_none()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i4_a_selector_that_changes_takes_the_adapter_off_and_lets_the_engine_go() {
    let world = World::new();
    let (old, new) = (world.engine("pod-1", &json!({"app": "a"})), world.engine("pod-2", &json!({"app": "b"})));
    world.adapter("sql", "a");
    let running = world.start();
    world.runs("sql").await;
    world.server.change(&adapter_path("sql"), &json!({"spec": {"podSelector": {"matchLabels": {"app": "b"}}}}));
    world.until("the other pod serves", |world| world.endpoints("sql") == ["10.0.0.2"]).await;
    world.until("the first one is empty", |_| held(&old).is_empty()).await;
    assert_eq!(held(&new), ["sql"]);
    sleep(SECOND * 10).await;
    old.take_calls();
    sleep(SECOND * 60).await;
    assert_eq!(old.take_calls(), []);
    assert_eq!(running.fleet.engines().items.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i4_a_selector_that_changed_while_nobody_looked_leaks_nothing_though_the_engine_is_slow_to_answer() {
    let world = World::new();
    let old = world.engine("pod-1", &json!({"app": "a"}));
    world.engine("pod-2", &json!({"app": "b"}));
    world.adapter("sql", "a");
    let running = world.start();
    world.runs("sql").await;
    running.stop().await;
    world.server.change(&adapter_path("sql"), &json!({"spec": {"podSelector": {"matchLabels": {"app": "b"}}}}));
    old.hang(FakeOperation::Models);
    let running = world.start();
    sleep(SECOND * 60).await;
    assert_eq!(held(&old), ["sql"]);
    old.resume(FakeOperation::Models);
    world.until("it is empty", |_| held(&old).is_empty()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_others_hold_is_not_taken_up_again_after_we_have_let_go() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let mut object = adapter("sql", "vllm");
    object["metadata"]["finalizers"] = json!(["example.com/theirs"]);
    world.server.put(&adapter_path("sql"), object);
    let running = world.start();
    world.runs("sql").await;
    world.server.delete(&adapter_path("sql"));
    let finalizers = |world: &World| world.server.get(&adapter_path("sql")).unwrap()["metadata"]["finalizers"].clone();
    world.until("ours is off", |world| finalizers(world) == json!(["example.com/theirs"])).await;
    sleep(SECOND * 10).await;
    writes(&world.server);
    engine.take_calls();
    for number in 0..3 {
        let patch = json!({"metadata": {"annotations": {"looked": number.to_string()}}});
        world.server.change(&adapter_path("sql"), &patch);
        sleep(SECOND * 5).await;
    }
    assert_eq!((writes(&world.server), engine.take_calls()), (vec![], vec![]));
    // Gone at last, and made anew.
    world.server.change(&adapter_path("sql"), &json!({"metadata": {"finalizers": null}}));
    let mut again = adapter("sql", "vllm");
    again["metadata"]["uid"] = json!("another");
    world.server.put(&adapter_path("sql"), again);
    world.runs("sql").await;
    assert_eq!(finalizers(&world), json!([FINALIZER]));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_made_anew_while_the_one_before_is_undone_is_held_and_served() {
    for slow in ["nothing", "the engine", "the API server"] {
        let world = World::new();
        let engine = world.engine("pod-1", &json!({"app": "vllm"}));
        world.adapter("sql", "vllm");
        let running = world.start();
        world.runs("sql").await;
        match slow {
            "the engine" => engine.hang(FakeOperation::Unload),
            // The one before is over before the new one is held.
            "the API server" => world.server.trouble(|seen| {
                (kind_of(seen) == "modeladapters" && seen.method == "PATCH").then_some(Trouble::Slow(SECOND * 3))
            }),
            _ => {}
        }
        // Somebody has taken every finalizer off.
        world.server.remove(&adapter_path("sql"));
        let mut again = adapter("sql", "vllm");
        again["metadata"]["uid"] = json!("another");
        world.server.put(&adapter_path("sql"), again);
        sleep(SECOND * 5).await;
        engine.resume(FakeOperation::Unload);
        world.runs("sql").await;
        sleep(SECOND * 30).await;
        let object = world.server.get(&adapter_path("sql")).unwrap();
        assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]), "slow: {slow}");
        assert_eq!((held(&engine), world.endpoints("sql")), (vec!["sql".to_owned()], vec!["10.0.0.1".to_owned()]));
        let service = world.server.get("/api/v1/namespaces/default/services/sql").unwrap();
        assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "another", "slow: {slow}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_being_deleted_before_we_began_is_undone() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    sleep(SECOND * 5).await;
    running.stop().await;
    world.server.delete(&adapter_path("sql"));
    let running = world.start();
    world.until("sql is gone", |world| world.server.get(&adapter_path("sql")).is_none()).await;
    assert_eq!(held(&engine).len(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_fence_is_closed_changes_nothing_any_more() {
    let world = World::new();
    world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    sleep(SECOND * 10).await;
    running.fence.close();
    world.server.take_seen();
    world.server.delete(&adapter_path("sql"));
    world.adapter("code", "vllm");
    sleep(SECOND * 60).await;
    let written = world.server.take_writes();
    assert!(written.is_empty(), "{:?}", written.iter().map(kind_of).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_stopped_or_dropped_leaves_nothing_running() {
    for stop in [true, false] {
        let world = World::new();
        let engine = world.engine("pod-1", &json!({"app": "vllm"}));
        world.adapter("sql", "vllm");
        let running = world.start();
        world.runs("sql").await;
        if stop {
            running.stop().await;
        } else {
            drop(running);
        }
        sleep(SECOND).await;
        engine.take_calls();
        world.server.take_seen();
        world.adapter("code", "vllm");
        sleep(SECOND * 60).await;
        assert_eq!((engine.take_calls(), world.server.take_seen().len()), (vec![], 0), "stop: {stop}");
        assert_eq!(held(&engine), ["sql"], "nothing is unloaded");
    }
}
