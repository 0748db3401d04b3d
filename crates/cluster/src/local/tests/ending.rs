//! Stopping, and what is left in the store.

use super::*;

#[tokio::test(start_paused = true)]
async fn i4_a_shutdown_unloads_everything_and_removes_no_file() {
    let mut world = World::new();
    let engines = [world.fake_engine("h:1"), world.fake_engine("h:2")];
    for engine in &engines {
        engine.put("by-hand", "/models/by-hand");
    }
    world.adapter("sql", 1);
    world.adapter("code", 2);
    let local = world.driver().start();
    served(&local, "sql", 2).await;
    served(&local, "code", 2).await;
    let fleet = local.fleet();
    let begin = Instant::now();
    assert_eq!(local.shutdown(true, Duration::from_secs(30)).await, []);
    assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
    for engine in &engines {
        assert_eq!(held(engine), ["by-hand"], "what is not ours stays");
    }
    assert_eq!(fleet.adapters().items, []);
    assert!(world.depot.has(digest(1)) && world.depot.has(digest(2)));
}

#[tokio::test(start_paused = true)]
async fn i11_a_shutdown_ends_within_its_bound_and_says_what_is_still_loaded() {
    let mut world = World::new();
    let good = world.fake_engine("h:1");
    let hung = world.fake_engine("h:2");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 2).await;
    hung.hang(FakeOperation::Unload);
    let begin = Instant::now();
    let left = local.shutdown(true, Duration::from_secs(8)).await;
    assert!(begin.elapsed() <= Duration::from_millis(8100), "in paused time this is exact");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((&*left[0].engine.name, left[0].adapter.as_str()), ("h:2", "sql"));
    assert_eq!(held(&good), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_stopped_without_unloading_leaves_everything_as_it_is() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert_eq!(local.shutdown(false, Duration::from_secs(8)).await, []);
    assert_eq!(held(&engine), ["sql"]);
    engine.take_calls();
    // The next one finds what is there and loads nothing.
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert!(!engine.calls().iter().any(|call| matches!(call, FakeCall::Load { .. } | FakeCall::Unload { .. })));
    drop(local);
}

#[tokio::test(start_paused = true)]
async fn i5_nothing_is_swept_from_the_store_as_long_as_an_engine_has_not_said_what_it_holds() {
    let mut world = World::new();
    world.fake_engine("h:1");
    let down = world.fake_engine("h:2");
    let refused = Fault::new(Scope::Transient, "ConnectionRefused", "not yet");
    down.fail(FakeOperation::Signals, refused);
    *world.depot.age.lock().unwrap() = Duration::from_secs(25 * 3600);
    for byte in [7, 8] {
        fs::create_dir_all(world.depot.path(digest(byte))).unwrap();
    }
    down.put("by-hand", &world.depot.view().path_of(&digest(8)));
    let local = world.driver().start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(world.depot.has(digest(7)));
    down.heal();
    while world.depot.has(digest(7)) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(world.depot.has(digest(8)), "an engine holds it");
    drop(local);
}
