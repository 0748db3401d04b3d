//! What a caller sees, rule by rule.

use longshore_scheduler::{
    Adapter, AdapterId, Candidate, Class, Engine, EngineId, EngineSet, Policy, Reason, Replicas, Scheduler, Score,
};

fn fleet(engines: impl IntoIterator<Item = Engine>) -> Scheduler {
    let mut scheduler = Scheduler::new();
    engines.into_iter().for_each(|engine| scheduler.set_engine(engine));
    scheduler
}

fn engine(id: &str, slots: u32) -> Engine {
    Engine { max_adapters: Some(slots), ..Engine::new(id) }
}

fn ids<T: From<&'static str>, C: FromIterator<T>>(names: &'static str) -> C {
    names.split_whitespace().map(T::from).collect()
}

fn adapter(id: &str, replicas: u32, engines: &'static str) -> Adapter {
    Adapter { replicas: Replicas::Count(replicas), engines: ids::<EngineId, _>(engines), ..Adapter::new(id) }
}

fn everywhere(id: &str, engines: &'static str) -> Adapter {
    Adapter { replicas: Replicas::All, ..adapter(id, 0, engines) }
}

fn engines(names: &'static str) -> Vec<EngineId> {
    ids(names)
}

fn set_ready(scheduler: &mut Scheduler, id: &str, ready: bool) {
    let engine = scheduler.engine(&id.into()).cloned().expect("the test has told of it");
    scheduler.set_engine(Engine { ready, ..engine });
}

#[test]
fn a_hundred_adapters_on_ten_equal_engines_end_ten_by_ten() {
    for policy in Scheduler::policies() {
        let names: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
        let mut scheduler = fleet(names.iter().map(|name| engine(name, 16)));
        for n in 0..100 {
            let wish = Adapter {
                policy: (*policy).to_owned(),
                engines: names.iter().map(|name| EngineId::from(name.as_str())).collect(),
                ..Adapter::new(format!("a{n}"))
            };
            assert_eq!(scheduler.schedule_adapter(&wish).added.len(), 1);
        }
        for name in &names {
            assert_eq!(scheduler.engine_adapters(&name.as_str().into()).len(), 10, "{policy} {name}");
            assert_eq!(scheduler.free_slots(&name.as_str().into()), Some(6));
        }
    }
}

#[test]
fn unequal_engines_fill_in_proportion_by_default_and_evenly_by_count() {
    for (policy, large, small) in [("default", 8, 2), ("least-adapters", 5, 5)] {
        let mut scheduler = fleet([engine("large", 40), engine("small", 10)]);
        for n in 0..10 {
            let wish = Adapter { policy: policy.into(), ..adapter(&format!("a{n}"), 1, "large small") };
            let _ = scheduler.schedule_adapter(&wish);
        }
        assert_eq!(scheduler.engine_adapters(&"large".into()).len(), large, "{policy}");
        assert_eq!(scheduler.engine_adapters(&"small".into()).len(), small, "{policy}");
    }
}

#[test]
fn what_is_missing_is_explained_in_counts() {
    let mut scheduler = fleet([
        Engine { max_rank: Some(16), ..Engine::new("a") },
        Engine { max_rank: Some(16), ..Engine::new("b") },
        Engine { draining: true, ..Engine::new("c") },
        engine("d", 0),
        engine("e", 1),
    ]);
    let decision = scheduler.schedule_adapter(&Adapter { rank: Some(64), ..adapter("x", 3, "a b c d e f") });
    assert_eq!(decision.added, engines("e"));
    assert_eq!((decision.candidates, decision.considered), (1, 6));
    let unplaced = decision.unplaced.expect("two are missing");
    assert_eq!(unplaced.missing, 2);
    assert_eq!(
        unplaced.to_string(),
        "1/6 engines: 2 rank 64 above max_lora_rank 16, 1 not known, 1 draining, 1 no free slot"
    );
    assert_eq!(scheduler.adapter_status(&"x".into()).and_then(|status| status.unplaced), Some(unplaced));
}

#[test]
fn reasons_tell_what_kind_of_remedy_helps() {
    assert_eq!(Reason::Rank { rank: 64, max: 16 }.class(), Class::Unsuitable);
    assert_eq!(Reason::Draining.class(), Class::NotReady);
    assert_eq!(Reason::NoSlot.class(), Class::NoCapacity);
}

#[test]
fn i6_what_leaves_takes_its_slot_until_it_is_gone() {
    let mut scheduler = fleet([engine("e", 1)]);
    assert_eq!(scheduler.schedule_adapter(&adapter("a", 1, "e")).added, engines("e"));
    scheduler.release(&"a".into(), &"e".into());
    assert!(scheduler.engine_adapters(&"e".into()).is_empty());
    assert_eq!(scheduler.free_slots(&"e".into()), Some(0));
    assert!(scheduler.schedule_adapter(&adapter("b", 1, "e")).added.is_empty());

    scheduler.unassign(&"a".into(), &"e".into());
    assert_eq!(scheduler.free_slots(&"e".into()), Some(1));
    assert_eq!(scheduler.schedule_adapter(&adapter("b", 1, "e")).added, engines("e"));
}

#[test]
fn i6_foreign_adapters_take_slots() {
    let mut scheduler = fleet([Engine { foreign: 2, ..engine("e", 2) }]);
    let unplaced = scheduler.schedule_adapter(&adapter("a", 1, "e")).unplaced.expect("there is no slot");
    assert_eq!(unplaced.reasons, [(Reason::NoSlot, 1)].into());
}

#[test]
fn an_adapter_that_is_leaving_can_take_its_own_slot_again() {
    let mut scheduler = fleet([engine("e", 1)]);
    let wish = adapter("a", 1, "e");
    let _ = scheduler.schedule_adapter(&wish);
    let gone = scheduler.schedule_adapter(&adapter("a", 0, "e"));
    assert_eq!(gone.removed, engines("e"));
    assert_eq!(scheduler.schedule_adapter(&wish).added, engines("e"));
    assert!(scheduler.adapter_status(&"a".into()).is_some_and(|status| status.leaving.is_empty()));
}

#[test]
fn a_removed_adapter_takes_its_slots_until_it_is_gone_and_is_then_forgotten() {
    let mut scheduler = fleet([engine("e", 1), engine("f", 1)]);
    let _ = scheduler.schedule_adapter(&adapter("a", 2, "e f"));
    scheduler.release(&"a".into(), &"f".into());
    assert_eq!(scheduler.remove_adapter(&"a".into()), engines("e f"));
    assert_eq!(scheduler.free_slots(&"e".into()), Some(0));
    scheduler.unassign(&"a".into(), &"e".into());
    assert!(scheduler.adapter_status(&"a".into()).is_some());
    assert!(scheduler.remove_engine(&"f".into()).is_empty(), "no replica was lost");
    assert_eq!(scheduler.adapter_status(&"a".into()), None);
}

#[test]
fn a_lost_engine_names_the_adapters_that_lost_a_replica() {
    let mut scheduler = fleet([engine("e", 4), engine("f", 4)]);
    let wish = adapter("b", 1, "e f");
    let _ = scheduler.schedule_adapter(&adapter("a", 2, "e f"));
    let _ = scheduler.schedule_adapter(&wish);
    assert_eq!(scheduler.remove_engine(&"e".into()), ids::<AdapterId, Vec<_>>("a b"));
    assert_eq!(scheduler.schedule_adapter(&wish).added, engines("f"));
}

#[test]
fn residents_found_after_a_restart_are_kept_where_they_are_even_beyond_capacity() {
    let mut scheduler = fleet([engine("e", 1), engine("f", 9)]);
    for id in ["a", "b", "c"] {
        assert!(scheduler.assign(&id.into(), &"e".into()));
    }
    assert!(!scheduler.assign(&"a".into(), &"unheard-of".into()));
    for id in ["a", "b", "c"] {
        assert!(scheduler.schedule_adapter(&adapter(id, 1, "e f")).is_unchanged(), "{id}");
    }
    assert_eq!(scheduler.free_slots(&"e".into()), Some(0));
}

#[test]
fn permanent_rules_take_away_what_they_forbid() {
    let good = Engine { base_models: ids("m"), max_rank: Some(16), ..Engine::new("e") };
    let wish = Adapter { base_model: Some("m".into()), rank: Some(16), ..adapter("a", 1, "e") };
    let bad = [
        (Engine { base_models: ids("n"), ..good.clone() }, wish.clone()),
        (Engine { max_rank: Some(8), ..good.clone() }, wish.clone()),
        (good.clone(), Adapter { engines: EngineSet::default(), ..wish.clone() }),
    ];
    for (engine, then) in bad {
        let mut scheduler = fleet([good.clone()]);
        assert_eq!(scheduler.schedule_adapter(&wish).added, engines("e"));
        scheduler.set_engine(engine);
        assert_eq!(scheduler.schedule_adapter(&then).removed, engines("e"));
    }
}

#[test]
fn what_passes_with_time_takes_nothing_away() {
    let good = Engine { base_models: ids("m"), max_adapters: Some(1), memory: Some(1), ..Engine::new("e") };
    let wish = Adapter { base_model: Some("m".into()), memory: Some(1), ..adapter("a", 1, "e") };
    let mut scheduler = fleet([good.clone()]);
    let _ = scheduler.schedule_adapter(&wish);
    for engine in [
        Engine { base_models: [].into(), ..good.clone() },
        Engine { ready: false, ..good.clone() },
        Engine { stable: false, ..good.clone() },
        Engine { stalled: true, ..good.clone() },
        Engine { draining: true, ..good.clone() },
        Engine { max_adapters: Some(0), ..good.clone() },
        Engine { memory: Some(0), ..good.clone() },
        Engine { foreign: 7, ..good },
    ] {
        scheduler.set_engine(engine);
        assert!(scheduler.schedule_adapter(&wish).is_unchanged());
    }
}

#[test]
fn a_flap_of_readiness_moves_nothing() {
    let mut scheduler = fleet([engine("e", 4), engine("f", 4)]);
    let wish = adapter("a", 1, "e f");
    assert_eq!(scheduler.schedule_adapter(&wish).added, engines("e"));
    set_ready(&mut scheduler, "e", false);
    assert!(scheduler.schedule_adapter(&wish).is_unchanged());
    set_ready(&mut scheduler, "e", true);
    assert!(scheduler.schedule_adapter(&wish).is_unchanged());
}

#[test]
fn an_avoided_engine_is_left_only_for_another_one() {
    let mut scheduler = fleet([engine("e", 4)]);
    let wish = adapter("a", 1, "e f");
    let _ = scheduler.schedule_adapter(&wish);
    let wish = Adapter { avoid: ids("e"), ..wish };
    let decision = scheduler.schedule_adapter(&wish);
    assert!(decision.is_unchanged());
    assert_eq!((decision.candidates, decision.unplaced), (1, None));
    assert_eq!(scheduler.waiting().collect::<Vec<_>>(), [&"a".into()]);

    scheduler.set_engine(engine("f", 4));
    let decision = scheduler.schedule_adapter(&wish);
    assert_eq!((decision.added, decision.removed), (engines("f"), engines("e")));
    assert_eq!(scheduler.waiting().count(), 0);
}

#[test]
fn a_draining_engine_is_left_only_for_another_one() {
    let mut scheduler = fleet([engine("e", 4)]);
    let wish = adapter("a", 1, "e f");
    let _ = scheduler.schedule_adapter(&wish);
    scheduler.set_engine(Engine { draining: true, ..engine("e", 4) });
    assert!(scheduler.schedule_adapter(&wish).is_unchanged());
    scheduler.set_engine(engine("f", 4));
    let decision = scheduler.schedule_adapter(&wish);
    assert_eq!((decision.added, decision.removed), (engines("f"), engines("e")));
}

#[test]
fn surplus_is_let_go_worst_first() {
    let mut scheduler = fleet(["a", "b", "c", "d", "e", "f"].map(|id| engine(id, 8)));
    let wish = Adapter { avoid: ids("b"), ..adapter("x", 6, "a b c d e f") };
    for id in ["a", "b", "c", "d", "e", "f"] {
        scheduler.assign(&"x".into(), &id.into());
    }
    scheduler.set_engine(Engine { draining: true, ..engine("c", 8) });
    set_ready(&mut scheduler, "d", false);
    scheduler.assign(&"y".into(), &"a".into());
    for (keep, gone) in [(5, "b"), (4, "c"), (3, "d"), (2, "a"), (1, "f"), (0, "e")] {
        let decision = scheduler.schedule_adapter(&Adapter { replicas: Replicas::Count(keep), ..wish.clone() });
        assert_eq!(decision.removed, engines(gone));
        assert_eq!(decision.assigned.len(), keep as usize);
    }
}

#[test]
fn all_replicas_do_not_wait_for_readiness_but_for_room() {
    let mut scheduler = fleet([
        Engine { ready: false, stable: false, ..engine("starting", 4) },
        Engine { stalled: true, ..engine("stalled", 4) },
        Engine { draining: true, ..engine("leaving", 4) },
        engine("full", 0),
        engine("good", 4),
    ]);
    let wish = everywhere("a", "starting stalled leaving full good");
    let decision = scheduler.schedule_adapter(&wish);
    assert_eq!(decision.added, engines("good stalled starting"));
    let unplaced = decision.unplaced.expect("one is full");
    assert_eq!((unplaced.missing, unplaced.to_string().as_str()), (1, "3/5 engines: 1 draining, 1 no free slot"));

    scheduler.set_engine(engine("full", 1));
    assert_eq!(scheduler.schedule_adapter(&wish).unplaced, None);
}

#[test]
fn all_replicas_mean_suitable_engines_but_one_at_least() {
    let small = Engine { max_rank: Some(8), ..Engine::new("small") };
    let mut scheduler = fleet([small.clone(), Engine::new("large")]);
    let wish = Adapter { rank: Some(16), ..everywhere("a", "small large") };
    let decision = scheduler.schedule_adapter(&wish);
    assert_eq!((decision.added, decision.unplaced), (engines("large"), None));

    let mut scheduler = fleet([small]);
    let unplaced = scheduler.schedule_adapter(&wish).unplaced.expect("none is suitable");
    assert_eq!((unplaced.missing, unplaced.considered), (1, 2));
}

#[test]
fn all_replicas_stay_on_avoided_engines() {
    let mut scheduler = fleet([Engine::new("e"), Engine::new("f")]);
    let wish = everywhere("a", "e f");
    let _ = scheduler.schedule_adapter(&wish);
    assert!(scheduler.schedule_adapter(&Adapter { avoid: ids("e"), ..wish }).is_unchanged());
}

#[test]
fn soft_slots_can_be_exceeded_and_that_is_said() {
    let mut scheduler = fleet([Engine { max_loras: Some(2), ..Engine::new("e") }, engine("f", 1)]);
    assert!(scheduler.schedule_adapter(&adapter("a", 2, "e f")).overcommitted.is_empty());
    assert!(scheduler.schedule_adapter(&adapter("b", 1, "e")).overcommitted.is_empty());
    let decision = scheduler.schedule_adapter(&adapter("c", 1, "e"));
    assert_eq!((decision.overcommitted, decision.unplaced), (engines("e"), None));
    assert_eq!(scheduler.free_slots(&"e".into()), None);
}

#[test]
fn an_engine_whose_base_model_is_not_known_yet_gets_nothing_that_asks_for_one() {
    let mut scheduler = fleet([Engine::new("e")]);
    let wish = Adapter { base_model: Some("m".into()), ..adapter("a", 1, "e") };
    let unplaced = scheduler.schedule_adapter(&wish).unplaced.expect("the engine may serve anything");
    assert_eq!(unplaced.to_string(), "0/1 engines: 1 base model not known yet");
    scheduler.set_engine(Engine { base_models: ids("m"), ..Engine::new("e") });
    assert_eq!(scheduler.schedule_adapter(&wish).added, engines("e"));
}

#[test]
fn an_unknown_policy_leaves_everything_as_it_is() {
    let mut scheduler = fleet([Engine::new("e")]);
    let _ = scheduler.schedule_adapter(&adapter("a", 1, "e"));
    for (wish, text) in [
        (adapter("a", 2, ""), "0/0 engines: policy \"best\" is not one of default, least-adapters"),
        (adapter("a", 0, "e f"), "1/2 engines: policy \"best\" is not one of default, least-adapters"),
    ] {
        let decision = scheduler.schedule_adapter(&Adapter { policy: "best".into(), ..wish });
        assert!(decision.is_unchanged());
        assert_eq!(decision.unplaced.map(|unplaced| unplaced.to_string()).as_deref(), Some(text));
    }
}

#[test]
fn those_who_wait_are_ordered_by_priority_and_then_by_id() {
    let mut scheduler = fleet([engine("e", 0)]);
    for (id, priority) in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 9)] {
        let _ = scheduler.schedule_adapter(&Adapter { priority, ..adapter(id, 1, "e") });
    }
    let _ = scheduler.schedule_adapter(&Adapter { priority: 7, ..adapter("a", 1, "e") });
    scheduler.remove_adapter(&"e".into());
    let waiting: Vec<_> = scheduler.waiting().map(AdapterId::as_str).collect();
    assert_eq!(waiting, ["a", "b", "d", "c"]);

    scheduler.set_engine(engine("e", 1));
    let _ = scheduler.schedule_adapter(&Adapter { priority: 5, ..adapter("b", 1, "e") });
    let waiting: Vec<_> = scheduler.waiting().map(AdapterId::as_str).collect();
    assert_eq!(waiting, ["a", "d", "c"]);
}

#[test]
fn memory_counts_everything_that_is_there_and_follows_the_wish() {
    let mut scheduler = fleet([Engine { memory: Some(10), ..Engine::new("e") }]);
    let sized = |id, memory| Adapter { memory: Some(memory), ..adapter(id, 1, "e") };
    assert_eq!(scheduler.schedule_adapter(&sized("a", 6)).added, engines("e"));
    assert_eq!(scheduler.schedule_adapter(&sized("b", u64::MAX)).added, []);
    let unplaced = scheduler.schedule_adapter(&sized("b", 5)).unplaced.expect("only 4 are left");
    assert_eq!(unplaced.reasons, [(Reason::NoMemory { needed: 5 }, 1)].into());
    let _ = scheduler.schedule_adapter(&sized("a", 5));
    assert_eq!(scheduler.schedule_adapter(&sized("b", 5)).added, engines("e"));
}

#[test]
fn a_clone_is_a_world_of_its_own() {
    let scheduler = fleet([engine("e", 1)]);
    let mut other = scheduler.clone();
    let _ = other.schedule_adapter(&adapter("a", 1, "e"));
    assert_eq!(scheduler.free_slots(&"e".into()), Some(1));
    assert_eq!(other.free_slots(&"e".into()), Some(0));
}

/// Replicas in as many zones as there are.
struct Zones;

impl Policy for Zones {
    fn name(&self) -> &str {
        "zones"
    }

    fn score(&self, candidate: &Candidate<'_>) -> Score {
        let zone = &candidate.engine().zone;
        Score::from([candidate.peers().iter().filter(|peer| &peer.zone == zone).count() as f64])
    }

    fn looks_at_peers(&self) -> bool {
        true
    }
}

#[test]
fn a_policy_of_ones_own_sees_what_is_kept_and_what_was_chosen_before() {
    let zoned = |id: &str, zone: &str| Engine { zone: Some(zone.into()), ..Engine::new(id) };
    let mut scheduler =
        fleet([zoned("a0", "a"), zoned("a1", "a"), zoned("a2", "a"), zoned("b0", "b"), zoned("c0", "c")]);
    scheduler.add_policy(Zones);
    let wish = |count| Adapter { policy: "zones".into(), ..adapter("x", count, "a0 a1 a2 b0 c0") };
    scheduler.assign(&"x".into(), &"b0".into());
    assert_eq!(scheduler.schedule_adapter(&wish(3)).added, engines("a0 c0"));
    assert_eq!(scheduler.schedule_adapter(&wish(5)).added, engines("a1 a2"));
    assert_eq!(scheduler.schedule_adapter(&wish(3)).removed, engines("a1 a2"), "surplus leaves the crowded zone");
}

#[test]
fn a_policy_that_answers_nonsense_still_gets_an_answer() {
    struct Nonsense;
    impl Policy for Nonsense {
        fn name(&self) -> &str {
            "default"
        }
        fn score(&self, candidate: &Candidate<'_>) -> Score {
            Score::from([if candidate.engine().id.as_str() == "e" { f64::NAN } else { f64::INFINITY }, f64::NAN])
        }
    }
    let mut scheduler = fleet([Engine::new("f"), Engine::new("e")]);
    scheduler.add_policy(Nonsense);
    assert_eq!(scheduler.schedule_adapter(&adapter("a", 1, "e f")).added, engines("e"));
}
