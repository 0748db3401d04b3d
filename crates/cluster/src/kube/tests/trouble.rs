//! What goes wrong with one thing and must not go wrong with others.

use longshore_engine::FakeOperation;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::testing::Trouble;
use super::FINALIZER;
use super::world::{SECOND, World, adapter, adapter_path, held, kind_of};

#[tokio::test(start_paused = true)]
async fn i11_an_object_that_cannot_be_read_stops_no_other() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let mut broken = adapter("broken", "vllm");
    broken["spec"]["podSelector"] = json!("no selector");
    world.server.put(&adapter_path("broken"), broken.clone());
    broken["metadata"]["name"] = json!("zz");
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    world.server.put(&adapter_path("zz"), broken);
    world.adapter("code", "vllm");
    world.runs("code").await;
    assert_eq!(held(&engine), ["sql", "code"]);
    // Mended, it is as any other; broken again, what it declared goes on.
    world.adapter("broken", "vllm");
    world.runs("broken").await;
    world.server.change(&adapter_path("broken"), &json!({"spec": {"podSelector": null}}));
    sleep(SECOND * 30).await;
    assert_eq!(held(&engine), ["sql", "code", "broken"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn i11_an_engine_that_hangs_delays_no_other() {
    let world = World::new();
    let (hangs, works) =
        (world.engine("pod-1", &json!({"app": "vllm"})), world.engine("pod-2", &json!({"app": "vllm"})));
    hangs.hang(FakeOperation::Load);
    let running = world.start();
    let begun = Instant::now();
    for number in 0..20 {
        world.adapter(&format!("a{number}"), "vllm");
    }
    for number in 0..20 {
        world.runs(&format!("a{number}")).await;
    }
    assert!(begun.elapsed() < SECOND * 5, "{:?}", begun.elapsed());
    assert_eq!((held(&works).len(), hangs.most_loads_at_once()), (20, 1));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_for_an_object_that_cannot_be_held_until_it_can() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.server.trouble(|seen| {
        (kind_of(seen) == "modeladapters" && seen.method == "PATCH").then_some(Trouble::Answer(403, "no right"))
    });
    world.adapter("sql", "vllm");
    let running = world.start();
    world.until("it says why", |world| world.condition("sql", "Ready").2.contains("cannot put our finalizer")).await;
    assert_eq!(world.phase("sql"), "Failed");
    // News of the object changes nothing about that.
    world.server.change(&adapter_path("sql"), &json!({"spec": {"artifactURL": "/srv/other"}}));
    sleep(SECOND * 60).await;
    assert_eq!((held(&engine).len(), world.phase("sql").as_str()), (0, "Failed"));
    world.server.trouble(|_| None);
    world.runs("sql").await;
    assert_eq!(world.server.get(&adapter_path("sql")).unwrap()["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(engine.adapters()[0].root, "/srv/other");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_that_somebody_takes_off_is_put_back() {
    let world = World::new();
    world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    let finalizers = |world: &World| world.server.get(&adapter_path("sql")).unwrap()["metadata"]["finalizers"].clone();
    world.server.change(&adapter_path("sql"), &json!({"metadata": {"finalizers": null}}));
    world.until("it is back", |world| finalizers(world) == json!([FINALIZER])).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_that_we_may_not_take_off_is_taken_off_when_we_may() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    world.server.trouble(|seen| {
        (kind_of(seen) == "modeladapters" && seen.method == "PATCH").then_some(Trouble::Answer(403, "no right"))
    });
    world.server.delete(&adapter_path("sql"));
    sleep(SECOND * 60).await;
    assert!(world.server.get(&adapter_path("sql")).is_some() && held(&engine).is_empty());
    world.server.trouble(|_| None);
    world.until("sql is gone", |world| world.server.get(&adapter_path("sql")).is_none()).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_becomes_wrong_keeps_what_it_declared_before() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    world.adapter("sql", "vllm");
    let running = world.start();
    world.runs("sql").await;
    // Nothing that the schema would have let through.
    world.server.change(&adapter_path("sql"), &json!({"spec": {"artifactURL": "relative/path"}}));
    sleep(SECOND * 60).await;
    assert_eq!((held(&engine), world.endpoints("sql")), (vec!["sql".to_owned()], vec!["10.0.0.1".to_owned()]));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_adapter_is_tried_with_its_attempts_on_the_object_until_it_works() {
    let world = World::new();
    let engine = world.engine("pod-1", &json!({"app": "vllm"}));
    let fault = longshore_types::Fault::new(longshore_types::Scope::Transient, "ConnectionRefused", "refused");
    engine.fail(FakeOperation::Load, fault);
    world.adapter("sql", "vllm");
    let running = world.start();
    let annotations =
        |world: &World| world.server.get(&adapter_path("sql")).unwrap()["metadata"]["annotations"].clone();
    let count = "adapter.model.aibrix.ai/retry-count.pod-1";
    world.until("it was tried twice", |world| annotations(world)[count] == "2").await;
    engine.heal();
    world.runs("sql").await;
    world.until("they are off", |world| annotations(world)[count].is_null()).await;
    running.stop().await;
}
