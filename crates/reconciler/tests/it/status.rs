//! What people read.

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;

use crate::world::*;

#[test]
fn a_selector_that_matches_nothing_says_so() {
    let mut world = World::ready(2);
    world.run_ms(100);
    let mut lost = spec("sql", "/a/1", Replicas::All);
    lost.selector.match_labels.insert("app".to_owned(), "other".to_owned());
    world.apply(lost);
    world.run_ms(1_500);
    assert_eq!(world.status("sql").phase, Phase::Pending);
    let (status, reason, message) = world.condition("sql", "Scheduled");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoMatchingPods"));
    assert!(message.contains("2 known in namespace default"), "{message}");
}

#[test]
fn an_unknown_policy_is_refused_with_the_list_of_known_ones() {
    let mut world = World::ready(1);
    world.run_ms(100);
    let mut odd = spec("sql", "/a/1", Replicas::Count(1));
    odd.policy = "best".to_owned();
    world.apply(odd);
    world.run_ms(1_500);
    let (_, _, message) = world.condition("sql", "Scheduled");
    assert!(message.contains("best") && message.contains("least-adapters"), "{message}");
}

#[test]
fn another_base_model_is_counted_as_the_reason() {
    let mut world = World::ready(3);
    world.run_ms(100);
    let mut odd = spec("sql", "/a/1", Replicas::Count(1));
    odd.base_model = Some("llama".parse().unwrap());
    world.apply(odd);
    world.run_ms(1_500);
    let (_, _, message) = world.condition("sql", "Scheduled");
    assert!(message.starts_with("0/3 engines: 3 ") && message.contains("llama"), "{message}");
}

#[test]
fn the_messages_of_a_running_adapter_are_those_that_people_know() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(1_500);
    assert_eq!(
        world.condition("sql", "Scheduled").2,
        "ModelAdapter default/sql has selected 1 pods for scheduling: [e0]"
    );
    assert_eq!(world.condition("sql", "Ready").2, "ModelAdapter default/sql is ready");
    assert_eq!(world.condition("sql", "Ready").1, "ModelAdapterAvailable");
    assert_eq!(world.condition("sql", "Initialized").2, "Starting reconciliation");
    assert_eq!(world.status("sql").instances, ["e0"]);
    let said: Vec<_> = world.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        said,
        ["ModelAdapter has selected 1 pods for scheduling: [e0]", "Successfully loaded adapter on pod e0"]
    );
}

#[test]
fn counts_are_written_at_most_once_a_second() {
    let mut world = World::ready(10);
    world.run_ms(100);
    for engine in world.engines.values_mut() {
        engine.load_takes = 100 + u64::from(engine.id.name.as_bytes()[1] - b'0') * 300;
    }
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(10_000);
    assert_eq!(world.status("sql").ready_replicas, 10);
    assert!(world.count("status") <= 5 + 4, "{} writes", world.count("status"));
}

#[test]
fn the_view_for_routers_and_people_agrees_with_the_status() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_500);
    let view = world.reconciler.adapter(&adapter("sql")).unwrap();
    assert_eq!((view.phase.as_str(), view.ready_replicas, view.desired_replicas), ("Running", 2, 2));
    assert_eq!(view.digest.as_deref(), Some(digest(1).to_string().as_str()));
    assert_eq!(view.endpoints.len(), 2);
    assert_eq!(view.base_model.as_deref(), Some("tiny-base"));
    let engine = world.reconciler.engine(&engine_id("e0")).unwrap();
    assert!(engine.ready && engine.resident[0].ours);
    world.delete("sql");
    assert!(world.reconciler.adapter(&adapter("sql")).is_none());
}
