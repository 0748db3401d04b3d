//! The life of an adapter: declared, loaded, published, scaled, deleted.

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;
use longshore_reconciler::Fact;
use longshore_types::{Root, Timestamp};

use crate::world::*;

#[test]
fn an_adapter_comes_up_on_every_matching_engine() {
    let mut world = World::ready(3);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(100);
    assert_eq!(world.routed("sql"), ["e0", "e1", "e2"]);
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.phases("sql"), [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running]);
}

#[test]
fn five_status_writes_bring_up_an_adapter_on_one_engine_one_per_phase() {
    let mut world = World::ready(1);
    world.run_ms(100);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(50);
    assert_eq!(world.status("sql").phase, Phase::Running);
    assert_eq!(world.count("status"), 5, "{:#?}", world.statuses);
    assert_eq!(world.count("publish"), 1);
    assert_eq!(world.count("load"), 1);
}

#[test]
fn a_count_of_replicas_is_held_by_that_many_engines() {
    let mut world = World::ready(4);
    world.apply(spec("sql", "/a/1", Replicas::Count(2)));
    world.run_ms(300);
    assert_eq!(world.routed("sql").len(), 2);
    world.apply(spec("sql", "/a/1", Replicas::Count(3)));
    world.run_ms(300);
    assert_eq!(world.routed("sql").len(), 3);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(4_000);
    assert_eq!(world.routed("sql").len(), 1);
    assert_eq!(world.holders("sql"), world.routed("sql"));
    world.apply(spec("sql", "/a/1", Replicas::Count(0)));
    world.run_ms(4_000);
    assert!(world.holders("sql").is_empty());
}

#[test]
fn i4_a_deleted_adapter_leaves_nothing_behind() {
    let mut world = World::ready(3);
    for name in ["a", "b", "c"] {
        world.apply(spec(name, "/a/1", Replicas::All));
    }
    world.run_ms(300);
    for name in ["a", "b", "c"] {
        world.delete(name);
    }
    assert!(world.routes.is_empty(), "routers forget it at once");
    world.run_ms(1_000);
    assert_eq!(world.released.len(), 3);
    for engine in world.engines.values() {
        assert!(engine.residents.is_empty(), "{} still holds {:?}", engine.id, engine.residents);
    }
    world.run(world.config.unpin_after * 2);
    assert!(world.pinned.is_empty(), "files stay pinned: {:?}", world.pinned);
}

#[test]
fn i5_an_adapter_is_drained_before_it_is_unloaded() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.engine("e0").busy.insert("sql".to_owned());
    world.delete("sql");
    world.run_ms(1_000);
    assert_eq!(world.holders("sql"), ["e0"], "a request is still running");
    world.engine("e0").busy.clear();
    world.run_ms(200);
    assert!(world.holders("sql").is_empty());
    assert!(
        world.pinned.contains(&digest(1)),
        "the engine may still read the files for a request that it had accepted"
    );
}

#[test]
fn a_drain_ends_at_its_bound() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.engine("e0").busy.insert("sql".to_owned());
    world.delete("sql");
    world.run(world.config.drain + std::time::Duration::from_millis(100));
    assert!(world.holders("sql").is_empty());
    assert!(world.released.contains(&object("sql")));
}

#[test]
fn nothing_is_unloaded_before_routers_have_confirmed_the_withdrawal() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.publish_takes = 700;
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(600);
    assert_eq!(world.holders("sql").len(), 2);
    world.run_ms(400);
    assert_eq!(world.holders("sql").len(), 1);
}

#[test]
fn an_adapter_that_comes_back_while_it_is_deleted_is_served_again() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.delete("sql");
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_000);
    assert_eq!(world.routed("sql").len(), 2);
}

#[test]
fn of_two_objects_that_claim_one_name_the_older_keeps_it() {
    let mut world = World::ready(1);
    let mut young = spec("young", "/a/2", Replicas::All);
    young.created = Timestamp::from_millis(START + 5_000);
    young.key.name = adapter("sql").name;
    let young_key = young.key.clone();
    world.apply(young);
    world.run_ms(100);
    assert_eq!(world.routes[&young_key].endpoints[0].digest, Some(digest(2)));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert!(!world.routes.contains_key(&young_key));
    let (status, reason, message) = world.condition("young", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NameConflict"), "{message}");
    world.delete("sql");
    world.run_ms(1_000);
    assert_eq!(world.routes[&young_key].endpoints[0].digest, Some(digest(2)), "the heir gets it");
}

#[test]
fn i7_an_engine_of_another_namespace_is_never_used() {
    let mut world = World::ready(1);
    let mut seen = world.seen("e0");
    seen.id = longshore_types::EngineId::new(longshore_types::Namespace::new("other").unwrap(), "x");
    world.tell(Fact::Engine(Box::new(seen)));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.trace.clear();
    world.run_ms(300);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert!(!world.trace.iter().any(|(_, effect)| effect.contains("other/")), "{:?}", world.trace);
}

#[test]
fn a_leftover_from_our_store_that_nobody_declares_is_unloaded() {
    let mut world = World::new();
    world.add_engine("e0");
    world.engine("e0").residents.insert("old".to_owned(), Root::Store(digest(9)));
    world.engine("e0").residents.insert("theirs".to_owned(), Root::Other("/models/theirs".into()));
    world.run_ms(500);
    assert_eq!(world.holders("old"), ["e0"], "nothing is unloaded before everything was told");
    world.tell(Fact::Synced);
    world.run_ms(5_000);
    assert!(world.holders("old").is_empty());
    assert_eq!(world.holders("theirs"), ["e0"], "what others loaded is never touched");
}

#[test]
fn a_restart_of_ours_takes_over_what_engines_hold() {
    let mut world = World::new();
    world.add_engine("e0");
    world.add_engine("e1");
    world.engine("e1").residents.insert("sql".to_owned(), Root::Store(digest(1)));
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.tell(Fact::Synced);
    world.run_ms(500);
    assert_eq!(world.routed("sql"), ["e1"]);
    assert_eq!(world.count("load"), 0);
    assert_eq!(world.count("unload"), 0);
}

#[test]
fn a_name_that_somebody_else_loaded_is_refused_or_adopted_where_the_object_says_so() {
    let mut world = World::new();
    world.add_engine("e0");
    world.engine("e0").residents.insert("sql".to_owned(), Root::Other("/models/theirs".into()));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.tell(Fact::Synced);
    world.run_ms(500);
    assert!(world.routed("sql").is_empty());
    assert_eq!(world.condition("sql", "Ready").1, "ForeignAdapter");
    assert_eq!((world.count("load"), world.count("unload")), (0, 0));
    let mut adopting = spec("sql", "/a/1", Replicas::All);
    adopting.adopt = true;
    world.apply(adopting);
    world.run_ms(5_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
}

#[test]
fn a_name_that_turns_out_to_be_somebody_else_s_after_the_choice_is_told_once() {
    let mut world = World::ready(1);
    world.run_ms(50);
    world.engine("e0").residents.insert("sql".to_owned(), Root::Other("/models/theirs".into()));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(10_000);
    let (_, reason, message) = world.condition("sql", "Ready");
    assert_eq!((reason.as_str(), message.matches("e0").count()), ("ForeignAdapter", 1), "{message}");
    let said = world.event_reasons().into_iter().filter(|reason| *reason == "ForeignAdapter").count();
    assert_eq!(said, 1, "{:?}", world.events);
    assert_eq!(world.count("unload"), 0);
}

#[test]
fn an_adapter_named_like_the_base_model_is_refused() {
    let mut world = World::ready(1);
    world.run_ms(50);
    world.apply(spec("tiny-base", "/a/1", Replicas::All));
    world.run_ms(500);
    assert_eq!(world.count("load"), 0);
    assert_eq!(world.condition("tiny-base", "Ready").1, "NameTaken");
}

#[test]
fn a_name_that_is_the_base_model_s_is_refused_whenever_that_becomes_known() {
    // Before the choice, after it, or of one engine before and of the other after.
    for first in [0, 1, 2] {
        let mut world = World::ready(first);
        world.run_ms(500);
        world.apply(spec("tiny-base", "/a/1", Replicas::All));
        for number in first..2 {
            world.add_engine(&format!("e{number}"));
        }
        world.run_ms(5_000);
        assert_eq!(world.condition("tiny-base", "Ready").1, "NameTaken");
        assert_eq!(world.status("tiny-base").phase, Phase::Failed, "{first}: {:?}", world.status("tiny-base"));
    }
}

#[test]
fn i6_no_engine_is_given_more_than_it_may_hold() {
    let mut world = World::new();
    for name in ["e0", "e1"] {
        world.add_engine(name);
        world.engine(name).max_cpu_loras = Some(2);
        world.tell_engine(name, |_| {});
    }
    world.tell(Fact::Synced);
    for n in 0..6 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(1)));
    }
    world.run_ms(1_000);
    let running = (0..6).filter(|n| !world.routed(&format!("a{n}")).is_empty()).count();
    assert_eq!(running, 4);
    let waiting = (0..6).find(|n| world.routed(&format!("a{n}")).is_empty()).unwrap();
    let (status, reason, message) = world.condition(&format!("a{waiting}"), "Scheduled");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "NoCapacity"), "{message}");
    assert!(message.starts_with("0/2 engines: 2 "), "{message}");
    let served = (0..6).find(|n| !world.routed(&format!("a{n}")).is_empty()).unwrap();
    world.delete(&format!("a{served}"));
    world.run_ms(1_000);
    let running = (0..6).filter(|n| !world.routed(&format!("a{n}")).is_empty()).count();
    assert_eq!(running, 4, "a slot that comes free is used");
}

#[test]
fn one_hundred_adapters_of_one_replica_are_spread_evenly() {
    let mut world = World::ready(10);
    world.run_ms(50);
    for n in 0..100 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(1)));
    }
    world.run_ms(2_000);
    for engine in world.engines.values() {
        assert_eq!(engine.residents.len(), 10, "{}", engine.id);
    }
}
