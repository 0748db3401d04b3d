//! Changing the artifact of an adapter that is served.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_types::{Fault, Scope};

use crate::world::*;

/// Runs a change to its end and tells the longest time in milliseconds without any endpoint.
fn gap(world: &mut World, until: impl Fn(&World) -> bool) -> u64 {
    let (mut gap, mut longest) = (0, 0);
    for _ in 0..20_000 {
        if until(world) {
            return longest;
        }
        world.run_ms(1);
        gap = if world.routed("sql").is_empty() { gap + 1 } else { 0 };
        longest = longest.max(gap);
    }
    panic!("never done: {:?}", world.trace);
}

#[test]
fn with_two_replicas_a_change_leaves_no_moment_without_an_endpoint() {
    for replicas in [Replicas::All, Replicas::Count(2)] {
        let mut world = World::ready(2);
        world.apply(spec("sql", "/a/1", replicas));
        world.run_ms(300);
        world.apply(spec("sql", "/a/2", replicas));
        let gap = gap(&mut world, |world| world.served("sql") == [digest(2)].into() && world.routed("sql").len() == 2);
        assert_eq!(gap, 0);
        world.run_ms(2_000);
        assert_eq!(world.condition("sql", "UpToDate").1, "AllReplicas");
        let artifact = world.status("sql").artifact.clone().unwrap();
        assert_eq!(artifact.roots, [digest(2).to_string()]);
    }
}

#[test]
fn one_replica_is_changed_by_way_of_a_spare_engine() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(300);
    let before = world.routed("sql");
    world.apply(spec("sql", "/a/2", Replicas::Count(1)));
    let gap = gap(&mut world, |world| world.served("sql") == [digest(2)].into() && world.holders("sql").len() == 1);
    assert_eq!(gap, 0);
    assert_ne!(world.routed("sql"), before);
}

#[test]
fn the_only_holder_is_changed_with_requests_waiting_and_its_drain_cut_short() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.engine("e0").busy.insert("sql".to_owned());
    world.apply(spec("sql", "/a/2", Replicas::All));
    let begin = world.now;
    while world.served("sql") != [digest(2)].into() {
        world.run_ms(1);
        let route = world.routes.get(&adapter("sql")).expect("the route stays known");
        assert!(!route.endpoints.is_empty() || route.swapping, "requests would fail at {}", world.now - begin);
        assert!(world.now < begin + 1_000, "took over a second");
    }
}

#[test]
fn nothing_is_changed_over_before_status_shows_both_roots() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.acknowledges = false;
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(5_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    let roots = world.status("sql").artifact.clone().unwrap().roots;
    assert_eq!(roots, [digest(2).to_string(), digest(1).to_string()]);
}

#[test]
fn a_change_to_an_artifact_that_is_missing_leaves_the_old_one_served() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.apply(spec("sql", "/nowhere", Replicas::All));
    world.run_ms(2_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.routed("sql").len(), 2);
    assert_eq!(world.condition("sql", "Ready").0, "True");
    let (status, reason, message) = world.condition("sql", "UpToDate");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UpdateFailed"), "{message}");
}

#[test]
fn a_change_that_an_engine_refuses_goes_back_and_leaves_the_others_alone() {
    let mut world = World::ready(3);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    for engine in world.engines.values_mut() {
        engine.load_fails = Some(Fault::new(Scope::Artifact, "Incompatible", "shapes of another base model"));
    }
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(2_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.routed("sql").len(), 2, "one was changed over and could not be");
    for engine in world.engines.values_mut() {
        engine.load_fails = None;
    }
    world.run(Duration::from_secs(400));
    assert_eq!(world.routed("sql").len(), 3, "it goes back to the old bytes");
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.condition("sql", "UpToDate").1, "UpdateFailed");
    world.apply(spec("sql", "/a/3", Replicas::All));
    world.run_ms(3_000);
    assert_eq!(world.served("sql"), [digest(3)].into());
    assert_eq!(world.condition("sql", "UpToDate").1, "AllReplicas");
}

#[test]
fn a_change_and_back_again_before_it_is_done_ends_with_what_is_asked_for_last() {
    let mut world = World::ready(3);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(20);
    world.apply(spec("sql", "/a/3", Replicas::All));
    world.run_ms(15);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(5_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.routed("sql").len(), 3);
    assert_eq!(world.condition("sql", "UpToDate").1, "AllReplicas");
}

#[test]
fn a_selector_that_no_longer_matches_unloads() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    let mut changed = spec("sql", "/a/1", Replicas::All);
    changed.selector.match_labels.insert("tier".to_owned(), "gold".to_owned());
    world.apply(changed);
    world.run_ms(5_000);
    assert!(world.routed("sql").is_empty());
    assert!(world.holders("sql").is_empty());
    assert_eq!(world.condition("sql", "Scheduled").1, "NoMatchingPods");
}

#[test]
fn a_generation_that_changes_no_bytes_loads_nothing() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    let loads = world.count("load");
    let mut changed = spec("sql", "/a/1", Replicas::All);
    changed.priority = 5;
    world.apply(changed);
    world.run_ms(3_000);
    assert_eq!(world.count("load"), loads);
    assert_eq!(world.status("sql").observed_generation, Some(2));
    assert_eq!(world.condition("sql", "UpToDate").0, "True");
}
