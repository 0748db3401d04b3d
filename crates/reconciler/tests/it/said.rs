//! What is said in events and conditions about things that make no sense, and how often.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;
use longshore_reconciler::{Fact, ObjectSeen, Resolved};
use longshore_types::{Fault, Scope, Timestamp};

use crate::world::*;

fn said<'a>(world: &'a World, reason: &str) -> Vec<&'a str> {
    let events = world.events.iter().filter(|event| event.reason == reason && event.warning);
    events.map(|event| event.message.as_str()).collect()
}

#[test]
fn a_selector_that_goes_on_matching_nothing_is_said_once() {
    let mut world = World::ready(1);
    let mut lost = spec("sql", "/a/1", Replicas::All);
    lost.selector.match_labels.insert("app".to_owned(), "other".to_owned());
    world.apply(lost);
    world.run_ms(900);
    assert_eq!(world.event_reasons(), Vec::<&str>::new(), "it may pass by itself");
    world.run(Duration::from_secs(600));
    let messages = said(&world, "NoMatchingPods");
    assert!(matches!(messages.as_slice(), [one] if one.contains("compare its labels")), "{messages:?}");
}

#[test]
fn engines_that_come_within_a_moment_of_their_adapter_are_no_event() {
    let mut world = World::ready(0);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(500);
    world.add_engine("e0");
    world.run(Duration::from_secs(60));
    assert_eq!(world.event_reasons(), ["Scheduled", "Loaded"]);
}

#[test]
fn a_policy_that_there_is_not_is_refused_with_those_that_there_are() {
    let mut world = World::ready(2);
    let mut odd = spec("sql", "/a/1", Replicas::Count(1));
    odd.policy = "bogus".to_owned();
    world.apply(odd.clone());
    world.run_ms(3_000);
    let (status, reason, message) = world.condition("sql", "Scheduled");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Unschedulable"));
    assert!(message.contains("bogus") && message.contains("default, least-adapters"), "{message}");
    assert_eq!(said(&world, "Unschedulable").len(), 1);
    // One that is served when its policy is mistyped stays where it is, and says so.
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(3_000);
    let at = world.routed("sql");
    world.apply(odd);
    world.run_ms(3_000);
    assert_eq!(world.routed("sql"), at);
    let (status, _, message) = world.condition("sql", "Scheduled");
    assert_eq!(status, "True");
    assert!(message.contains("it stays there: policy \"bogus\""), "{message}");
    assert_eq!(said(&world, "Unschedulable").len(), 2);
}

#[test]
fn the_younger_of_two_objects_with_one_name_hears_of_it() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    let mut young = spec("young", "/a/2", Replicas::All);
    young.created = Timestamp::from_millis(START + 5_000);
    young.key.name = adapter("sql").name;
    world.apply(young);
    world.run_ms(10_000);
    assert_eq!(said(&world, "NameConflict"), ["ModelAdapter of default/sql already has the name sql"]);
}

#[test]
fn an_object_that_cannot_be_understood_hears_why_and_delays_nobody() {
    let mut world = World::ready(1);
    let fault = Fault::new(Scope::Artifact, "InvalidSpec", "spec.artifactURL: ftp is none of the schemes");
    let seen = ObjectSeen {
        key: object("odd"),
        generation: 1,
        deleting: false,
        lowered: Err(fault),
        shown: None,
        warnings: Vec::new(),
    };
    world.tell(Fact::Applied(Box::new(seen)));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(10_000);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.status("odd").phase, Phase::Failed);
    assert_eq!(said(&world, "InvalidSpec"), ["spec.artifactURL: ftp is none of the schemes"]);
}

#[test]
fn what_is_odd_about_an_artifact_is_said_once_per_generation_and_shown_for_good() {
    let mut world = World::ready(2);
    let odd = vec![("SlowSource", "the engine downloads this itself, which blocks its requests".to_owned())];
    world.artifacts.insert("/a/1".to_owned(), Ok(Resolved { warnings: odd, ..resolved(1) }));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run(Duration::from_secs(10));
    assert_eq!(said(&world, "SlowSource").len(), 1);
    let shown = world.condition("sql", "UpToDate");
    assert_eq!((shown.0.as_str(), shown.1.as_str()), ("True", "AllReplicas"));
    assert!(shown.2.ends_with("; the engine downloads this itself, which blocks its requests"), "{shown:?}");
    // The same artifact is resolved again for another generation.
    let mut changed = spec("sql", "/a/1", Replicas::All);
    changed.priority = 7;
    world.apply(changed);
    world.run(Duration::from_secs(10));
    assert_eq!(said(&world, "SlowSource").len(), 2);
}

#[test]
fn more_adapters_than_fit_are_said_once_for_all_engines() {
    let mut world = World::ready(3);
    world.apply(spec("one", "/a/1", Replicas::All));
    world.run_ms(1_000);
    assert_eq!(said(&world, "Overcommitted"), Vec::<&str>::new());
    world.apply(spec("two", "/a/2", Replicas::All));
    world.run_ms(1_000);
    let messages = said(&world, "Overcommitted");
    assert!(
        matches!(messages.as_slice(), [one] if one.starts_with("e0 e1 e2 now have") && one.contains("--max-cpu-loras")),
        "{messages:?}"
    );
}

#[test]
fn a_path_that_no_engine_finds_is_tried_once_on_each_and_then_said() {
    for replicas in [Replicas::All, Replicas::Count(1)] {
        let mut world = World::ready(10);
        world.run_ms(100);
        let missing = Fault::new(Scope::EngineFiles, "ArtifactNotFound", "no adapter found at /models/x");
        for engine in world.engines.values_mut() {
            engine.load_fails = Some(missing.clone());
        }
        world.apply(spec("sql", "/a/1", replicas));
        world.run(Duration::from_secs(290));
        assert_eq!(world.count("load"), 10);
        assert_eq!(world.status("sql").phase, Phase::Failed);
        let (_, reason, message) = world.condition("sql", "Ready");
        assert_eq!(reason, "ArtifactNotFound");
        assert!(message.contains("no adapter found at /models/x"), "{message}");
        assert_eq!(said(&world, "LoadFailed").len(), 10);
    }
}

#[test]
fn a_deletion_is_said_engine_by_engine() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_000);
    world.delete("sql");
    world.run_ms(1_000);
    let unloaded: Vec<_> = world.events.iter().filter(|event| event.reason == "Unloaded").collect();
    assert_eq!(unloaded.len(), 2);
    assert!(unloaded.iter().all(|event| !event.warning && event.related.is_some()));
}
