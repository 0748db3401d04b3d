//! Loads that fail: retried, given up, refused.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;
use longshore_types::{Fault, Scope};

use crate::world::*;

fn loads_on(world: &World, engine: &str) -> Vec<u64> {
    let is = |effect: &str| effect.starts_with("Load(") && effect.contains(&format!("engine: default/{engine},"));
    world.trace.iter().filter(|(_, effect)| is(effect)).map(|(at, _)| *at).collect()
}

#[test]
fn transient_failures_are_retried_after_5_10_20_40_and_80_seconds_then_another_engine_is_chosen() {
    let mut world = World::ready(2);
    world.run_ms(100);
    for engine in world.engines.values_mut() {
        engine.load_fails = Some(transient("connection refused"));
    }
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(1_000);
    let first = if loads_on(&world, "e0").is_empty() { "e1" } else { "e0" };
    let other = if first == "e0" { "e1" } else { "e0" };
    world.engine(other).load_fails = None;
    world.run(Duration::from_secs(160));
    let times = loads_on(&world, first);
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
    assert_eq!(waits, [5, 10, 20, 40, 80]);
    assert_eq!(world.routed("sql"), [other]);
    let reasons = world.event_reasons();
    assert_eq!(reasons.iter().filter(|reason| **reason == "MaxRetriesExceeded").count(), 1, "{reasons:?}");
    let messages: Vec<_> = world.log.iter().map(|line| line.message).collect();
    assert_eq!(messages.iter().filter(|line| **line == "Retriable error loading adapter").count(), 6);
    assert!(messages.contains(&"Switching to another pod"), "{messages:?}");
    assert!(messages.contains(&"Successfully loaded adapter on pod"), "{messages:?}");
}

#[test]
fn while_it_backs_off_the_adapter_is_loading_and_says_why() {
    let mut world = World::ready(1);
    world.engine("e0").load_fails = Some(transient("connection refused"));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_500);
    assert_eq!(world.status("sql").phase, Phase::Loading);
    let (status, reason, message) = world.condition("sql", "Bound");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "LoadFailed"));
    assert!(message.contains("connection refused"), "{message}");
    assert_eq!(world.status("sql").engines[0].state, "backing-off");
    assert_eq!(world.status("sql").engines[0].attempt, 1);
}

#[test]
fn an_engine_that_answers_after_refusing_connections_is_tried_at_once() {
    let mut world = World::ready(1);
    world.run_ms(100);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.crash("e0");
    world.run_ms(20_000);
    assert!(world.routed("sql").is_empty());
    world.restart("e0");
    world.run(world.config.list_interval + Duration::from_millis(100));
    assert_eq!(world.routed("sql"), ["e0"]);
}

#[test]
fn a_refusal_of_one_engine_is_not_retried_there_and_another_one_is_tried() {
    let mut world = World::ready(2);
    world.run_ms(100);
    let refusal = Fault::new(Scope::Engine, "LoraDisabled", "LoRA is not enabled: start it with --enable-lora");
    world.engine("e0").load_fails = Some(refusal.clone());
    world.engine("e1").load_fails = Some(refusal);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run(Duration::from_secs(120));
    assert_eq!((loads_on(&world, "e0").len(), loads_on(&world, "e1").len()), (1, 1));
    assert_eq!(world.status("sql").phase, Phase::Failed);
    world.engine("e0").load_fails = None;
    world.restart("e0");
    world.run(Duration::from_secs(10));
    assert_eq!(world.routed("sql"), ["e0"], "a new life is tried");
}

#[test]
fn a_path_that_is_missing_on_an_engine_is_tried_once_there_and_5_minutes() {
    let mut world = World::ready(2);
    world.run_ms(100);
    let missing = Fault::new(Scope::EngineFiles, "ArtifactNotFound", "no adapter found at /models/x");
    for engine in world.engines.values_mut() {
        engine.load_fails = Some(missing.clone());
    }
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run(Duration::from_secs(290));
    assert_eq!((loads_on(&world, "e0").len(), loads_on(&world, "e1").len()), (1, 1));
    assert_eq!(world.condition("sql", "Ready").1, "ArtifactNotFound");
    world.engine("e0").load_fails = None;
    world.engine("e1").load_fails = None;
    world.run(Duration::from_secs(20));
    assert_eq!(world.routed("sql").len(), 1);
}

#[test]
fn a_fault_of_the_artifact_is_not_tried_on_other_engines() {
    let mut world = World::ready(3);
    world.run_ms(100);
    let wrong = Fault::new(Scope::Artifact, "Incompatible", "shapes of another base model");
    for engine in world.engines.values_mut() {
        engine.load_fails = Some(wrong.clone());
    }
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run(Duration::from_secs(200));
    assert_eq!(world.count("load"), 1);
    assert_eq!(world.status("sql").phase, Phase::Failed);
    assert_eq!(world.condition("sql", "Ready").1, "Incompatible");
    for engine in world.engines.values_mut() {
        engine.load_fails = None;
    }
    world.run(Duration::from_secs(120));
    assert_eq!(world.routed("sql").len(), 1, "tried again after 5 minutes");
}

#[test]
fn a_missing_artifact_is_failed_with_its_reason_and_tried_again_when_the_object_changes() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/nowhere", Replicas::All));
    world.run_ms(500);
    assert_eq!(world.status("sql").phase, Phase::Failed);
    assert_eq!(world.condition("sql", "Ready").1, "ArtifactNotFound");
    assert_eq!(world.count("load"), 0);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(500);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.status("sql").phase, Phase::Running);
}

#[test]
fn an_unload_that_fails_is_tried_again_and_the_object_released_at_its_bound() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.engine("e0").unload_fails = Some(transient("busy"));
    world.delete("sql");
    world.run(world.config.delete_bound + world.config.drain + Duration::from_millis(10));
    assert!(world.released.contains(&object("sql")), "kubectl delete comes back");
    assert_eq!(world.holders("sql"), ["e0"]);
    world.engine("e0").unload_fails = None;
    world.run(Duration::from_secs(60));
    assert!(world.holders("sql").is_empty(), "unloaded when the engine lets it");
}

#[test]
fn at_most_32_events_per_object_and_minute_are_said() {
    let config = longshore_reconciler::Config {
        retry_base: Duration::from_millis(1),
        max_retries: 0,
        cool_down: Duration::from_millis(1),
        ..longshore_reconciler::Config::default()
    };
    let mut world = World::with(config, 0);
    world.add_engine("e0");
    world.tell(longshore_reconciler::Fact::Synced);
    world.engine("e0").load_fails = Some(transient("connection refused"));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(30_000);
    assert_eq!(world.events.len(), 32);
    world.run_ms(40_000);
    assert!(world.event_reasons().contains(&"TooManyEvents"));
}
