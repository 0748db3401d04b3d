//! What a cluster's driver is told and tells: finalizers, pods, Services of others, notes and annotations.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;
use longshore_reconciler::{Config, Fact, Resolved, Retry};
use longshore_types::{Boot, Fault, Root, Scope};

use crate::world::*;

#[test]
fn a_quick_deletion_writes_no_status_and_a_long_one_says_what_it_waits_for() {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("quick", "/a/1", Replicas::All));
    world.apply(spec("slow", "/a/1", Replicas::All));
    world.run_ms(3_000);
    let writes = world.count("status");
    world.delete("quick");
    world.run_ms(900);
    assert!(world.released.contains(&object("quick")));
    assert_eq!(world.count("status"), writes);
    world.engine("pod-1").unload_fails = Some(transient("connection refused"));
    world.delete("slow");
    world.run_ms(900);
    assert_eq!(world.count("status"), writes);
    world.run_ms(1_500);
    let (status, reason, message) = world.condition("slow", "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Deleting"));
    assert_eq!(message, "waiting for 1 engine to unload: pod-1: connection refused");
    assert_eq!(world.status("slow").ready_replicas, 0);
    assert_eq!(world.status("slow").observed_generation, Some(world.generation("slow")));
    world.run_ms(8_000);
    assert!(world.count("status") <= writes + 2, "{} writes", world.count("status") - writes);
}

#[test]
fn a_foreign_service_is_said_beside_the_endpoints_and_forgotten_when_it_is_gone() {
    let mut world = World::cluster(&["pod-1"]);
    let conflict = Fault::new(Scope::Artifact, "ServiceConflict", "Service sql is not ours: rename the adapter");
    world.notice = Some(conflict);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(3_000);
    let created = world.condition("sql", "ResourceCreated");
    assert_eq!((created.0.as_str(), created.1.as_str()), ("False", "ServiceConflict"));
    assert!(created.2.contains("rename the adapter"), "{created:?}");
    assert_eq!(world.condition("sql", "Ready").0, "True", "requests are answered");
    assert_eq!(world.event_reasons().iter().filter(|reason| **reason == "ServiceConflict").count(), 1);
    // It is gone: the driver says so of the route that stands.
    let sequence = world.routes[&adapter("sql")].sequence;
    world.tell(Fact::Published { adapter: adapter("sql"), sequence, result: Ok(()), notice: None });
    world.run_ms(1_500);
    assert_eq!(world.condition("sql", "ResourceCreated").0, "True");
    // And what is said late of an earlier route is history.
    let old = Some(Fault::new(Scope::Artifact, "ServiceConflict", "late"));
    world.tell(Fact::Published { adapter: adapter("sql"), sequence: sequence - 1, result: Ok(()), notice: old });
    world.run_ms(1_500);
    assert_eq!(world.condition("sql", "ResourceCreated").0, "True");
}

#[test]
fn where_loads_fail_is_told_while_they_fail_and_taken_back_when_they_do_not() {
    let mut world = World::cluster(&["pod-1", "pod-2"]);
    world.engine("pod-1").load_fails = Some(transient("bad gateway"));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(1_000);
    let told = world.retries[&object("sql")].clone();
    let [Retry { engine, count: 1, last }] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*engine, engine_id("pod-1"));
    assert!(world.at().since(*last) < Duration::from_secs(1));
    world.run_ms(7_000);
    assert_eq!(world.retries[&object("sql")][0].count, 2);
    world.engine("pod-1").load_fails = None;
    world.run_ms(15_000);
    assert_eq!(world.retries[&object("sql")], []);
    // What an earlier process has left is taken back as well.
    world.restart_ours();
    world.counts.clear();
    world.run_ms(3_000);
    assert_eq!(world.retries[&object("sql")], []);
}

#[test]
fn a_pod_that_refuses_connections_is_tried_five_times_and_then_left_for_another() {
    let config = Config { retry_base: Duration::from_millis(1_000), ..Config::default() };
    let mut world = World::cluster(&["pod-1"]);
    world.config = config.clone();
    world.crash("pod-1");
    world.restart_ours();
    world.run_ms(100);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(6_500);
    assert_eq!(world.status("sql").phase, Phase::Loading);
    let (status, reason, message) = world.condition("sql", "Bound");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "LoadFailed"), "{message}");
    world.run_ms(10_000);
    // Another one comes up while the first is being tried: the attempts go on to their end.
    world.add_engine("pod-2");
    world.engine("pod-2").boot_told = Some(1);
    world.tell_engine("pod-2", |_| {});
    world.run_ms(40_000);
    let story: Vec<String> = world.events.iter().map(|event| format!("{} {}", event.reason, event.message)).collect();
    assert_eq!(
        story,
        [
            "Scheduled ModelAdapter has selected 1 pods for scheduling: [pod-1]",
            "LoadFailed pod-1: connection refused",
            "MaxRetriesExceeded Max retries exceeded for pod pod-1: connection refused",
            "Scheduled ModelAdapter has selected 1 pods for scheduling: [pod-2]",
            "Loaded Successfully loaded adapter on pod pod-2",
        ]
    );
    let tried: Vec<_> = world.log.iter().filter(|line| line.message == "Retriable error loading adapter").collect();
    assert_eq!(tried.len(), 6);
    assert!(world.log.iter().any(|line| line.message == "Switching to another pod"));
    assert_eq!(world.routed("sql"), ["pod-2"]);
}

#[test]
fn a_pod_that_answers_after_refusing_is_loaded_at_once_and_nothing_counts_against_it() {
    let mut world = World::cluster(&["pod-1"]);
    world.crash("pod-1");
    world.run_ms(3_000);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(17_000);
    assert_eq!(world.retries[&object("sql")][0].count, 3);
    // Its process is only now up, in the life that the pod has told all the while.
    world.engine("pod-1").alive = true;
    world.run(world.config.list_interval);
    assert_eq!(world.routed("sql"), ["pod-1"]);
    assert_eq!(world.retries[&object("sql")], []);
}

#[test]
fn a_choice_falls_on_a_pod_that_answers_before_one_that_refuses() {
    let mut world = World::cluster(&["pod-1", "pod-2"]);
    world.crash("pod-1");
    world.run_ms(3_000);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(500);
    assert_eq!(world.routed("sql"), ["pod-2"]);
    assert!(!world.event_reasons().contains(&"LoadFailed"));
}

#[test]
fn an_adapter_on_a_pod_that_is_not_ready_or_being_stopped_is_unloaded_all_the_same() {
    for terminating in [false, true] {
        let mut world = World::cluster(&["pod-1"]);
        world.apply(spec("sql", "/a/1", Replicas::All));
        world.run_ms(500);
        let engine = world.engine("pod-1");
        (engine.ready, engine.terminating) = (terminating, terminating);
        world.tell_engine("pod-1", |_| {});
        world.delete("sql");
        world.run_ms(500);
        assert!(world.holders("sql").is_empty());
        assert!(world.released.contains(&object("sql")));
        assert!(world.note.is_empty());
    }
}

#[test]
fn a_pod_that_is_not_ready_for_two_seconds_moves_nothing_and_leaks_nothing() {
    for replicas in [Replicas::All, Replicas::Count(1), Replicas::Count(2)] {
        let mut world = World::cluster(&["pod-1", "pod-2", "pod-3"]);
        for n in 0..5 {
            world.apply(spec(&format!("a{n}"), "/a/1", replicas));
        }
        world.run_ms(2_000);
        let held = |world: &World| (0..5).map(|n| world.holders(&format!("a{n}"))).collect::<Vec<_>>();
        let routed = |world: &World| (0..5).map(|n| world.routed(&format!("a{n}"))).collect::<Vec<_>>();
        let (before, loads) = (held(&world), world.count("load"));
        for pod in ["pod-1", "pod-2", "pod-3"] {
            world.tell_engine(pod, |seen| seen.ready = false);
            assert!(!routed(&world).concat().contains(&pod.to_owned()), "withdrawn at once");
            world.run_ms(2_000);
            world.tell_engine(pod, |_| {});
            world.run_ms(300);
            assert_eq!((held(&world), routed(&world)), (before.clone(), before.clone()));
        }
        assert_eq!((world.count("load"), world.count("unload")), (loads, 0));
    }
}

#[test]
fn i9_with_the_last_pod_the_endpoint_goes_and_nothing_is_running() {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(2_000);
    assert_eq!(world.status("sql").phase, Phase::Running);
    world.remove_engine("pod-1");
    assert!(world.routed("sql").is_empty());
    assert_eq!(world.status("sql").phase, Phase::Pending);
    assert_eq!(world.condition("sql", "Ready").0, "False");
    assert_eq!(world.condition("sql", "Scheduled").1, "NoMatchingPods");
    assert_eq!(world.status("sql").instances, Vec::<String>::new());
    world.return_engine("pod-1");
    world.run_ms(7_000);
    assert_eq!(
        world.phases("sql")[5..],
        [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running]
    );
}

#[test]
fn an_adapter_that_an_engine_lost_while_it_was_being_listed_is_found_at_once_all_the_same() {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(500);
    // A listing is under way whose answer is from before.
    let before = longshore_reconciler::Listing {
        boot: Boot::new("1"),
        residents: vec![longshore_reconciler::ResidentSeen { name: "sql".into(), root: Root::Other("hub/1".into()) }],
        base_models: Vec::new(),
        load: longshore_types::LoadSignals::default(),
    };
    let name = adapter("sql").name;
    world.engine("pod-1").hangs = true;
    world.tell(Fact::Missing { engine: engine_id("pod-1"), name: name.clone() });
    world.engine("pod-1").residents.clear();
    world.tell(Fact::Missing { engine: engine_id("pod-1"), name });
    world.engine("pod-1").hangs = false;
    world.tell(Fact::Listed { engine: engine_id("pod-1"), result: Ok(before) });
    world.run_ms(200);
    assert_eq!(world.engine("pod-1").residents.len(), 1, "loaded again");
    assert_eq!(world.count("load"), 2);
}

#[test]
fn routers_that_insist_do_not_have_an_engine_listed_without_a_pause() {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(500);
    let lists = world.count("list");
    for _ in 0..1_000 {
        world.tell(Fact::Missing { engine: engine_id("pod-1"), name: adapter("sql").name });
        world.run_ms(1);
    }
    assert!(world.count("list") - lists <= 21, "{} listings in a second", world.count("list") - lists);
}

#[test]
fn i10_a_restart_of_ours_in_a_settled_cluster_writes_nothing_and_loads_nothing() {
    let mut world = World::cluster(&["pod-1", "pod-2", "pod-3"]);
    world.notice = Some(Fault::new(Scope::Artifact, "ServiceConflict", "Service is not ours"));
    let odd = vec![("Odd", "this is odd".to_owned())];
    for n in 1..=3_u8 {
        let root = Root::Other(format!("hub/{n}").into());
        world
            .artifacts
            .insert(format!("/a/{n}"), Ok(Resolved { root, bytes: None, rank: None, warnings: odd.clone() }));
    }
    world.warnings = vec![("InsecureApiKey", "spec.additionalConfig holds a key".to_owned())];
    world.apply(spec("all", "/a/1", Replicas::All));
    world.apply(spec("one", "/a/2", Replicas::Count(1)));
    world.apply(spec("policy", "/a/2", Replicas::Count(9)));
    let mut lost = spec("lost", "/a/3", Replicas::Count(1));
    lost.selector.match_labels.insert("app".to_owned(), "other".to_owned());
    world.apply(lost);
    let mut twice = spec("twice", "/a/3", Replicas::Count(1));
    twice.key.name = adapter("all").name;
    twice.created = longshore_types::Timestamp::from_millis(START + 1);
    world.apply(twice);
    world.run_ms(10_000);
    let routes = world.routes.clone();
    world.events.clear();
    world.counts.clear();
    world.restart_ours();
    assert_eq!(world.routes.len(), routes.len(), "nobody is told of a route before it is known");
    world.run_ms(20_000);
    assert_eq!(world.events, []);
    for effect in ["status", "load", "unload", "release"] {
        assert_eq!(world.count(effect), 0, "{effect}: {:?}", world.trace.iter().rev().take(3).collect::<Vec<_>>());
    }
    let endpoints = |routes: &std::collections::BTreeMap<_, longshore_reconciler::Route>| {
        routes.values().map(|route| route.endpoints.clone()).collect::<Vec<_>>()
    };
    assert_eq!(endpoints(&world.routes), endpoints(&routes));
}

#[test]
fn i1_after_a_restart_other_bytes_are_not_loaded_where_an_old_route_may_lead() {
    let mut world = World::cluster(&["pod-1"]);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(2_000);
    // While we are away the engine restarts, and the object changes.
    world.engine("pod-1").residents.clear();
    world.publish_fails = true;
    world.restart_ours();
    world.apply(spec("sql", "/a/2", Replicas::All));
    world.run_ms(3_000);
    assert_eq!(world.routed("sql"), ["pod-1"], "routers go by the route of the process before");
    assert_eq!(world.count("load"), 1);
    world.publish_fails = false;
    world.run_ms(3_000);
    assert_eq!(world.engine("pod-1").residents["sql"], Root::Other("hub/2".into()));
    assert_eq!(world.routed("sql"), ["pod-1"]);
}

#[test]
fn adapters_of_one_replica_are_spread_evenly_however_they_and_their_pods_come() {
    let spread = |world: &World| world.engines.values().map(|engine| engine.residents.len()).collect::<Vec<_>>();
    let apply = |world: &mut World, range: std::ops::Range<usize>| {
        for n in range {
            world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(1)));
        }
    };
    let add = |world: &mut World, n: usize| {
        let name = format!("pod-{n}");
        world.add_engine(&name);
        world.engine(&name).boot_told = Some(1);
        world.tell_engine(&name, |_| {});
    };
    // All of them wait while the pods come up, one after the other.
    let mut world = World::cluster(&[]);
    apply(&mut world, 0..100);
    for n in 0..10 {
        add(&mut world, n);
        world.run_ms(300);
    }
    world.run_ms(20_000);
    assert_eq!(spread(&world), [10; 10]);
    // The pods are there, and all adapters come at once.
    let mut world = World::cluster(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    world.run_ms(60_000);
    apply(&mut world, 0..100);
    world.run_ms(3_000);
    assert_eq!(spread(&world), [10; 10]);
    // They come by and by, as pods do.
    let mut world = World::cluster(&[]);
    for n in 0..10 {
        add(&mut world, n);
        world.run_ms(20_000);
        apply(&mut world, n * 10..n * 10 + 10);
        world.run_ms(1_000);
    }
    assert_eq!(spread(&world), [10; 10]);
}

#[test]
fn a_new_pod_delays_no_adapter_where_others_have_been_there_for_a_while() {
    let mut world = World::cluster(&["pod-1"]);
    world.run_ms(60_000);
    world.add_engine("pod-2");
    world.engine("pod-2").boot_told = Some(1);
    world.tell_engine("pod-2", |_| {});
    world.run_ms(100);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(50);
    assert_eq!(world.routed("sql"), ["pod-1"]);
}
