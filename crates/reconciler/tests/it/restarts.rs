//! What survives a restart of ours, of an engine, or of an object's name; and facts that come at a bad moment.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_api::status::{ArtifactStatus, ModelAdapterStatus, Phase};
use longshore_reconciler::{Fact, Listing, ObjectSeen, ResidentSeen};
use longshore_types::{BaseModel, Boot, EngineKind, Fault, LoadSignals, Root, Scope, Timestamp};

use crate::world::*;

/// What an engine answers that holds `sql` from these bytes.
fn listing(boot: &str, bytes: u8) -> Listing {
    Listing {
        boot: Boot::new(boot),
        residents: vec![ResidentSeen { name: "sql".into(), root: Root::Store(digest(bytes)) }],
        base_models: vec![BaseModel::new("tiny-base").unwrap()],
        load: LoadSignals::default(),
    }
}

/// The status of an adapter that was served from these roots before a restart of ours.
fn running(roots: &[Root]) -> ModelAdapterStatus {
    ModelAdapterStatus {
        phase: Phase::Running,
        observed_generation: Some(1),
        artifact: Some(ArtifactStatus {
            roots: roots.iter().map(ToString::to_string).collect(),
            ..ArtifactStatus::default()
        }),
        ..ModelAdapterStatus::default()
    }
}

#[test]
fn i1_what_an_earlier_life_answers_late_is_not_believed() {
    let mut world = World::ready(0);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(100);
    world.add_engine("e0");
    world.engine("e0").hangs = true;
    world.engine("e0").boot_told = Some(1);
    world.tell_engine("e0", |_| {});
    // Asked in one life, which was never heard of; answered in the next.
    world.tell_engine("e0", |seen| seen.boot = Some(Boot::new("2")));
    world.tell(Fact::Listed { engine: engine_id("e0"), result: Ok(listing("1", 1)) });
    assert!(world.routed("sql").is_empty());
}

#[test]
fn i1_an_engine_is_not_taken_for_the_one_of_its_name_that_is_gone() {
    let mut world = World::ready(0);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(100);
    world.add_engine("e0");
    world.remove_engine("e0");
    world.engine("e0").hangs = true;
    world.return_engine("e0");
    // The first one was asked, and answers now.
    world.tell(Fact::Listed { engine: engine_id("e0"), result: Ok(listing("1", 1)) });
    assert!(world.routed("sql").is_empty());
    world.engine("e0").hangs = false;
    world.run(Duration::from_secs(5));
    assert_eq!(world.routed("sql"), ["e0"], "the second one is asked in its turn");
    assert_eq!(world.engine("e0").loads.len(), 1);
}

#[test]
fn i3_an_engine_is_given_one_load_at_a_time() {
    let mut world = World::ready(1);
    world.run_ms(100);
    world.engine("e0").load_takes = 100;
    for n in 0..5 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::All));
    }
    world.run_ms(1_000);
    let loads: Vec<u64> =
        world.trace.iter().filter(|(_, effect)| effect.starts_with("Load(")).map(|(at, _)| *at).collect();
    assert_eq!(loads.len(), 5);
    assert!(loads.windows(2).all(|pair| pair[1] - pair[0] >= 100), "{loads:?}");
}

#[test]
fn i5_a_withdrawal_that_is_under_way_for_another_reason_is_waited_for() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.publish_takes = 700;
    world.tell_engine("e0", |seen| seen.ready = false);
    // Ready again and deleted at once: the route without it is the one that is already on its way.
    let back = Fact::Engine(Box::new(world.seen("e0")));
    world.reconciler.observe(world.at(), back);
    world.delete("sql");
    world.run_ms(600);
    assert_eq!(world.holders("sql"), ["e0"]);
    world.run_ms(400);
    assert!(world.holders("sql").is_empty());
}

#[test]
fn i5_a_deletion_waits_for_routers_beyond_its_bound() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.publish_fails = true;
    world.delete("sql");
    world.run(world.config.delete_bound + world.config.drain + Duration::from_secs(5));
    assert_eq!(world.holders("sql"), ["e0"]);
    assert!(!world.released.contains(&object("sql")));
    world.publish_fails = false;
    world.run(Duration::from_secs(2));
    assert!(world.holders("sql").is_empty());
    assert!(world.released.contains(&object("sql")));
}

#[test]
fn i4_an_object_that_is_being_deleted_when_we_start_is_unloaded_before_it_is_released() {
    let mut world = World::new();
    let opaque = Root::Other("hub/sql".into());
    let seen = ObjectSeen {
        key: object("sql"),
        generation: 2,
        deleting: true,
        lowered: Ok(vec![spec("sql", "/a/1", Replicas::All)]),
        shown: Some(running(std::slice::from_ref(&opaque))),
        warnings: vec![],
    };
    world.tell(Fact::Applied(Box::new(seen)));
    assert!(world.released.is_empty(), "engines are still to be told of");
    world.add_engine("e0");
    world.engine("e0").residents.insert("sql".to_owned(), opaque);
    world.tell(Fact::Synced);
    assert!(world.released.is_empty(), "the engine has not been asked");
    world.run_ms(1_000);
    assert!(world.holders("sql").is_empty());
    assert!(world.released.contains(&object("sql")));
}

#[test]
fn i4_what_an_engine_held_on_to_beyond_the_bound_is_unloaded_when_it_answers_again() {
    let mut world = World::new();
    let opaque = Root::Other("hub/sql".into());
    world.artifacts.insert("hub".to_owned(), Ok(longshore_reconciler::Resolved { root: opaque, ..resolved(1) }));
    world.artifacts.insert("/hub".to_owned(), world.artifacts["hub"].clone());
    world.add_engine("e0");
    world.engine("e0").max_cpu_loras = Some(1);
    world.tell_engine("e0", |_| {});
    world.tell(Fact::Synced);
    world.engine("e0").load_takes = 40_000;
    world.apply(spec("sql", "/hub", Replicas::All));
    world.run_ms(1_000);
    // A load is under way, and goes on beyond the bound.
    world.delete("sql");
    world.run(world.config.delete_bound + world.config.drain + Duration::from_secs(1));
    assert!(world.released.contains(&object("sql")));
    world.engine("e0").load_takes = 5;
    world.apply(spec("next", "/a/2", Replicas::All));
    world.run(Duration::from_secs(15));
    assert_eq!(world.condition("next", "Scheduled").1, "NoCapacity", "I6: it still takes the slot");
    world.run(Duration::from_secs(30));
    assert!(world.holders("sql").is_empty());
    assert_eq!(world.routed("next"), ["e0"], "the slot is free again");
}

#[test]
fn i6_a_name_that_somebody_else_holds_takes_a_slot() {
    let mut world = World::new();
    world.add_engine("e0");
    let engine = world.engine("e0");
    engine.max_cpu_loras = Some(2);
    engine.residents.insert("sql".to_owned(), theirs());
    world.tell_engine("e0", |_| {});
    for name in ["sql", "one", "two"] {
        world.apply(spec(name, "/a/1", Replicas::Count(1)));
    }
    world.tell(Fact::Synced);
    world.run_ms(2_000);
    assert_eq!(world.condition("sql", "Ready").1, "ForeignAdapter");
    assert_eq!(world.count("load"), 1, "{:?}", world.engine("e0").residents);
}

#[test]
fn i9_a_restart_of_ours_is_no_news_to_those_who_watch_a_running_adapter() {
    let mut world = World::new();
    let mut before = running(&[Root::Store(digest(1))]);
    before.ready_replicas = 1;
    world.apply_shown(spec("sql", "/a/1", Replicas::All), Some(before));
    world.add_engine("e0");
    world.engine("e0").residents.insert("sql".to_owned(), Root::Store(digest(1)));
    world.publish_takes = 50;
    world.run_ms(500);
    world.tell(Fact::Synced);
    world.run_ms(1_500);
    assert_eq!(world.phases("sql"), [Phase::Running]);
    assert_eq!(world.condition("sql", "UpToDate").1, "AllReplicas");
}

#[test]
fn a_restart_of_ours_while_the_source_is_away_takes_nothing_away() {
    let mut world = World::new();
    world.artifacts.insert("/a/1".to_owned(), Err(transient("no route to the source")));
    world.apply_shown(spec("sql", "/a/1", Replicas::All), Some(running(&[Root::Store(digest(1))])));
    world.add_engine("e0");
    world.engine("e0").residents.insert("sql".to_owned(), Root::Store(digest(1)));
    world.tell(Fact::Synced);
    world.run(Duration::from_secs(60));
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!((world.count("load"), world.count("unload")), (0, 0));
    assert_eq!(world.condition("sql", "UpToDate").1, "UpdateFailed");
    world.artifacts.insert("/a/1".to_owned(), Ok(resolved(1)));
    world.run(Duration::from_secs(100));
    assert_eq!(world.condition("sql", "UpToDate").1, "AllReplicas");
}

#[test]
fn without_a_status_to_go_on_from_nothing_of_ours_is_unloaded_while_the_source_is_away() {
    let mut world = World::new();
    world.artifacts.insert("/a/1".to_owned(), Err(transient("no route to the source")));
    world.add_engine("e0");
    world.engine("e0").residents.insert("sql".to_owned(), Root::Store(digest(1)));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.tell(Fact::Synced);
    world.run(Duration::from_secs(30));
    assert_eq!(world.count("unload"), 0);
    world.artifacts.insert("/a/1".to_owned(), Ok(resolved(1)));
    world.run(Duration::from_secs(60));
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.count("load"), 0);
}

#[test]
fn a_restart_of_ours_in_the_middle_of_a_change_goes_on_with_it_and_can_go_back() {
    let mut world = World::new();
    let (old, new) = (Root::Other("hub/old".into()), Root::Store(digest(2)));
    for name in ["e0", "e1"] {
        world.add_engine(name);
        world.engine(name).residents.insert("sql".to_owned(), old.clone());
        world.engine(name).load_fails =
            Some(longshore_types::Fault::new(longshore_types::Scope::Artifact, "Incompatible", "other shapes"));
    }
    world.apply_shown(spec("sql", "/a/2", Replicas::All), Some(running(&[new.clone(), old.clone()])));
    world.tell(Fact::Synced);
    world.run(Duration::from_secs(30));
    assert_eq!(world.condition("sql", "UpToDate").1, "UpdateFailed");
    assert!(!world.routed("sql").is_empty(), "what could not be changed is served");
    let roots = world.status("sql").artifact.clone().unwrap().roots;
    assert!(roots.contains(&old.to_string()), "{roots:?}");
}

#[test]
fn what_aibrix_loaded_is_served_and_changed_over_where_its_status_lists_the_pod() {
    let mut world = World::new();
    let theirs = Root::Other("/tmp/aibrix/adapters/sql".into());
    for name in ["e0", "e1"] {
        world.add_engine(name);
        world.engine(name).residents.insert("sql".to_owned(), theirs.clone());
    }
    let shown = ModelAdapterStatus { instances: vec!["e0".to_owned()], ..ModelAdapterStatus::default() };
    world.acknowledges = false;
    world.apply_shown(spec("sql", "/a/1", Replicas::All), Some(shown));
    world.tell(Fact::Synced);
    world.run_ms(2_000);
    assert_eq!(world.routed("sql"), ["e0"], "it is served as AIBrix left it");
    assert_eq!(world.status("sql").artifact.clone().unwrap().roots, [digest(1).to_string(), theirs.to_string()]);
    world.acknowledges = true;
    world.run(Duration::from_secs(15));
    assert_eq!(world.served("sql"), [digest(1)].into());
    assert_eq!(world.engine("e1").residents["sql"], theirs, "nothing says that this one is ours");
    assert_eq!(world.count("unload"), 1);
}

#[test]
fn a_status_write_whose_answer_is_lost_is_asked_for_again() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.acknowledges = false;
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(1_000);
    world.acknowledges = true;
    world.run_ms(5_000);
    assert_eq!(world.served("sql"), [digest(1)].into());
    world.run_ms(6_000);
    assert_eq!(world.served("sql"), [digest(2)].into());
}

#[test]
fn an_object_of_the_same_name_is_another_one_whatever_its_generation() {
    let mut world = World::ready(1);
    let seen = |generation, url: &str, created: u64| {
        let spec = longshore_api::spec::AdapterSpec {
            generation,
            created: Timestamp::from_millis(created),
            ..spec("sql", url, Replicas::All)
        };
        ObjectSeen {
            key: object("sql"),
            generation,
            deleting: false,
            lowered: Ok(vec![spec]),
            shown: None,
            warnings: vec![],
        }
    };
    world.tell(Fact::Applied(Box::new(seen(1, "/a/1", START))));
    world.run_ms(300);
    world.tell(Fact::Applied(Box::new(seen(5, "/a/2", START))));
    world.run_ms(1_000);
    assert_eq!(world.served("sql"), [digest(2)].into());
    world.tell(Fact::Deleted(object("sql")));
    world.statuses.clear();
    world.tell(Fact::Applied(Box::new(seen(5, "/a/3", START + 1_000))));
    world.run_ms(2_000);
    assert_eq!(world.served("sql"), [digest(3)].into());
    // What is told late of the one before says nothing.
    world.tell(Fact::Applied(Box::new(seen(4, "/a/1", START))));
    world.run_ms(1_000);
    assert_eq!(world.served("sql"), [digest(3)].into());
}

#[test]
fn a_route_follows_its_engine_to_another_address() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.tell_engine("e0", |seen| {
        seen.address.port = 9_000;
        seen.kind = EngineKind::Vllm;
    });
    world.run_ms(10);
    let endpoint = &world.routes[&adapter("sql")].endpoints[0];
    assert_eq!((endpoint.address.port, endpoint.kind), (9_000, EngineKind::Vllm));
}

#[test]
fn an_engine_that_is_slow_to_list_does_not_end_its_back_off_by_it() {
    let mut world = World::ready(1);
    world.run_ms(100);
    world.engine("e0").load_fails = Some(transient("connection reset"));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(16_000);
    assert_eq!(world.status("sql").engines[0].attempt, 3, "the next one is 20 s after the third");
    world.engine("e0").hangs = true;
    world.run_ms(4_500);
    world.engine("e0").hangs = false;
    world.run_ms(5_000);
    assert_eq!(world.status("sql").engines[0].attempt, 3);
    assert_eq!(world.count("load"), 3);
}

#[test]
fn i10_what_cannot_be_loaded_is_said_once_by_however_many_lives_of_ours() {
    let mut world = World::ready(2);
    world.cluster = true;
    world.run_ms(100);
    for engine in ["e0", "e1"] {
        world.engine(engine).load_fails = Some(Fault::new(Scope::EngineFiles, "ArtifactNotFound", "no adapter found"));
    }
    world.apply(spec("lost", "/a/1", Replicas::All));
    world.run(Duration::from_secs(20));
    assert_eq!(world.condition("lost", "Ready").1, "ArtifactNotFound");
    world.artifacts.insert("/a/9".to_owned(), Err(Fault::new(Scope::Artifact, "StoreNotShared", "nobody fetches it")));
    world.apply(spec("wrong", "/a/9", Replicas::All));
    world.run(Duration::from_secs(5));
    assert_eq!(world.condition("wrong", "Ready").1, "StoreNotShared");
    let (written, events) = (world.statuses.clone(), world.events.len());
    world.restart_ours();
    world.run(Duration::from_secs(20));
    assert_eq!(world.count("load"), 4, "on each engine once by each life");
    assert_eq!(world.statuses, written);
    assert_eq!(world.events[events..].iter().map(|event| event.reason).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_aibrix_left_loaded_is_served_also_where_nobody_could_fetch_it_again() {
    let mut world = World::new();
    world.cluster = true;
    world.add_engine("e0");
    let theirs = Root::Other("/tmp/aibrix/adapters/sql".into());
    world.engine("e0").residents.insert("sql".to_owned(), theirs);
    world.artifacts.insert("/a/9".to_owned(), Err(Fault::new(Scope::Artifact, "StoreNotShared", "nobody fetches it")));
    let left =
        ModelAdapterStatus { phase: Phase::Running, instances: vec!["e0".to_owned()], ..ModelAdapterStatus::default() };
    world.apply_shown(spec("sql", "/a/9", Replicas::All), Some(left));
    world.tell(Fact::Synced);
    world.run(Duration::from_secs(5));
    assert_eq!(world.routed("sql"), ["e0"]);
    let (status, reason, message) = world.condition("sql", "UpToDate");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UpdateFailed"), "{message}");
    world.restart_ours();
    world.run(Duration::from_secs(5));
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!((world.count("load"), world.count("unload")), (0, 0));
}
