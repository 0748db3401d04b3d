//! What deletions leave undone: noted, and undone when it can be.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_reconciler::Unfinished;
use longshore_types::{Boot, Root};

use crate::world::*;

fn unfinished(pod: &str, boot: &str, name: &str) -> Unfinished {
    let (engine, name) = (engine_id(pod), adapter(name).name);
    Unfinished { engine, boot: Boot::new(boot), name, root: Root::Other("hub/1".into()) }
}

/// An adapter on one pod that hangs while the object is deleted.
fn released_while_the_pod_hangs() -> World {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(500);
    world.engine("pod-1").hangs = true;
    world.delete("sql");
    world.run(world.config.delete_bound + world.config.drain + Duration::from_millis(100));
    assert!(world.released.contains(&object("sql")), "kubectl delete comes back");
    world
}

#[test]
fn i4_what_an_engine_would_not_let_go_of_in_time_is_noted_and_unloaded_when_it_wakes() {
    let mut world = released_while_the_pod_hangs();
    assert_eq!(world.note, [unfinished("pod-1", "1", "sql")].into());
    world.engine("pod-1").hangs = false;
    world.run(world.config.list_interval * 20);
    assert!(world.holders("sql").is_empty());
    assert!(world.note.is_empty(), "{:?}", world.note);
}

#[test]
fn i4_a_note_outlives_our_process() {
    let mut world = released_while_the_pod_hangs();
    world.restart_ours();
    world.run_ms(3_000);
    assert_eq!(world.note.len(), 1, "nobody knows better yet");
    world.engine("pod-1").hangs = false;
    world.run(world.config.list_interval * 2);
    assert!(world.holders("sql").is_empty());
    assert!(world.note.is_empty(), "{:?}", world.note);
}

#[test]
fn a_note_about_a_life_that_is_over_is_dropped_and_nothing_is_unloaded() {
    let mut world = released_while_the_pod_hangs();
    world.engine("pod-1").hangs = false;
    let unloads = world.count("unload");
    world.restart("pod-1");
    world.run(world.config.list_interval * 2);
    assert!(world.note.is_empty(), "{:?}", world.note);
    assert_eq!(world.count("unload"), unloads);
}

#[test]
fn a_note_about_an_engine_that_is_gone_is_dropped() {
    let mut world = released_while_the_pod_hangs();
    world.remove_engine("pod-1");
    assert!(world.note.is_empty(), "{:?}", world.note);
    // And so is one that is told when it has been gone for long.
    world.note.insert(unfinished("pod-9", "1", "sql"));
    world.restart_ours();
    world.run_ms(100);
    assert!(world.note.is_empty(), "{:?}", world.note);
}

#[test]
fn what_is_noted_and_declared_again_is_served_from_where_it_is_held() {
    let mut world = released_while_the_pod_hangs();
    let unloads = world.count("unload");
    world.restart_ours();
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.engine("pod-1").hangs = false;
    world.run(world.config.list_interval * 4);
    assert!(world.note.is_empty(), "{:?}", world.note);
    assert_eq!((world.count("unload"), world.count("load")), (unloads, 1), "it never left");
    assert_eq!(world.routed("sql"), ["pod-1"]);
}

#[test]
fn what_is_noted_and_declared_again_with_other_bytes_is_unloaded_first() {
    let mut world = released_while_the_pod_hangs();
    world.restart_ours();
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.engine("pod-1").hangs = false;
    world.run(world.config.list_interval * 4);
    assert!(world.note.is_empty(), "{:?}", world.note);
    assert_eq!(world.engine("pod-1").residents["sql"], Root::Other("hub/2".into()));
    assert_eq!(world.routed("sql"), ["pod-1"]);
}

#[test]
fn a_name_of_a_note_that_is_held_from_elsewhere_is_not_touched() {
    let mut world = World::cluster(&["pod-1"]);
    world.engine("pod-1").residents.insert("sql".to_owned(), theirs());
    world.note.insert(unfinished("pod-1", "1", "sql"));
    world.restart_ours();
    world.run(world.config.list_interval * 2);
    assert_eq!(world.holders("sql"), ["pod-1"]);
    assert!(world.note.is_empty());
}

#[test]
fn five_deletions_at_once_are_over_within_ten_seconds_though_an_engine_hangs() {
    let mut world = World::cluster(&["pod-1", "pod-2"]);
    for n in 0..5 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::All));
    }
    world.run_ms(1_000);
    world.engine("pod-1").hangs = true;
    for n in 0..5 {
        world.delete(&format!("a{n}"));
    }
    world.run_ms(1_000);
    assert!(world.engine("pod-2").residents.is_empty(), "one that answers waits for nobody");
    world.run_ms(8_900);
    assert_eq!(world.released.len(), 5);
    assert_eq!(world.note.len(), 5);
    world.engine("pod-1").hangs = false;
    world.run(world.config.list_interval * 5);
    assert!(world.engine("pod-1").residents.is_empty());
    assert!(world.note.is_empty());
}
