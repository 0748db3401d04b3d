//! What people read, whole.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_types::{Fault, Scope};

use crate::world::*;

#[test]
fn the_status_of_a_running_adapter() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::Count(2)));
    world.run_ms(3_000);
    insta::assert_json_snapshot!(world.status("sql"));
}

#[test]
fn the_status_of_an_adapter_that_backs_off() {
    let mut world = World::ready(2);
    world.run_ms(100);
    world.engine("e1").load_fails = Some(transient("connection refused"));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(8_000);
    insta::assert_json_snapshot!(world.status("sql"));
}

#[test]
fn the_status_of_an_adapter_that_an_engine_refuses() {
    let mut world = World::ready(1);
    world.run_ms(100);
    let refusal = Fault::new(Scope::Engine, "LoraDisabled", "LoRA is not enabled: start it with --enable-lora");
    world.engine("e0").load_fails = Some(refusal);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(3_000);
    insta::assert_json_snapshot!(world.status("sql"));
}

#[test]
fn the_status_of_an_adapter_that_finds_no_engine() {
    let mut world = World::new();
    for name in ["e0", "e1", "e2"] {
        world.add_engine(name);
        world.engine(name).max_cpu_loras = Some(1);
        world.tell_engine(name, |seen| {
            seen.max_lora_rank = (name == "e0").then_some(4);
            seen.terminating = name == "e2";
        });
    }
    world.tell(longshore_reconciler::Fact::Synced);
    let mut small = spec("small", "/a/2", Replicas::Count(1));
    small.selector.match_labels.insert("app".to_owned(), "vllm".to_owned());
    world.artifacts.insert("/a/2".to_owned(), Ok(longshore_reconciler::Resolved { rank: Some(8), ..resolved(2) }));
    world.apply(small);
    world.run_ms(500);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(3_000);
    insta::assert_json_snapshot!(world.status("sql"));
}

#[test]
fn the_status_of_an_adapter_whose_artifact_is_being_changed() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(3_000);
    for engine in world.engines.values_mut() {
        engine.load_takes = 5_000;
    }
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(3_000);
    insta::assert_json_snapshot!(world.status("sql"));
}

/// The story that AIBrix tells of an engine that is not to be reached.
#[test]
fn the_events_and_log_of_an_adapter_that_is_retried_and_then_moved() {
    let mut world = World::ready(2);
    world.run_ms(100);
    world.engine("e0").load_fails = Some(transient("connection refused"));
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run(Duration::from_secs(200));
    let events = world.events.iter().map(|event| {
        let kind = if event.warning { "Warning" } else { "Normal" };
        let related = event.related.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{kind:<8} {:<20} {related:<3} {}", event.reason, event.message)
    });
    let lines = world.log.iter().map(|line| {
        let engines: Vec<_> = line.engines.iter().map(ToString::to_string).collect();
        let error = line.error.as_ref().map(|error| format!(" error={error:?}")).unwrap_or_default();
        format!("{} modelAdapter={} pod={}{error}", line.message, line.adapter, engines.join(","))
    });
    let story: Vec<String> = events.chain(["".to_owned()]).chain(lines).collect();
    insta::assert_snapshot!(story.join("\n"));
}
