//! Engines that restart, fall silent, hang, come and go.

use std::time::Duration;

use longshore_api::spec::Replicas;
use longshore_api::status::Phase;
use longshore_reconciler::{Config, Fact};
use longshore_types::{Boot, Fault, Scope};

use crate::world::*;

#[test]
fn a_restarted_engine_gets_its_adapters_again_and_no_request_before() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.restart("e0");
    world.run(world.config.list_interval + Duration::from_millis(100));
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.engine("e0").loads.len(), 2);
    assert!(world.event_reasons().contains(&"EngineLost"));
}

#[test]
fn i9_an_engine_that_is_down_is_not_shown_as_ready() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.crash("e0");
    world.run(world.config.list_interval * 2);
    assert!(world.routed("sql").is_empty());
    assert_ne!(world.status("sql").phase, Phase::Running);
    assert_eq!(world.status("sql").ready_replicas, 0);
    assert_eq!(world.condition("sql", "Ready").0, "False");
    assert_eq!(world.condition("sql", "UpToDate").0, "False");
}

#[test]
fn a_new_boot_that_the_pod_shows_withdraws_at_once() {
    let mut world = World::ready(1);
    world.tell_engine("e0", |seen| seen.boot = Some(Boot::new("1")));
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.restart("e0");
    world.tell_engine("e0", |seen| seen.boot = Some(Boot::new("2")));
    assert!(world.routed("sql").is_empty());
    world.run_ms(100);
    assert_eq!(world.routed("sql"), ["e0"]);
}

#[test]
fn a_pod_that_is_not_ready_for_a_moment_moves_nothing() {
    let mut world = World::ready(3);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(300);
    let at = world.routed("sql");
    world.tell_engine(&at[0], |seen| seen.ready = false);
    assert!(world.routed("sql").is_empty(), "its endpoint is withdrawn at once");
    world.run_ms(2_000);
    world.tell_engine(&at[0], |_| {});
    world.run_ms(200);
    assert_eq!(world.routed("sql"), at);
    assert_eq!(world.holders("sql"), at, "nothing was loaded elsewhere");
}

#[test]
fn an_engine_that_stays_away_has_its_adapters_moved() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(300);
    let at = world.routed("sql").remove(0);
    world.crash(&at);
    world.run(world.config.not_ready_grace + world.config.list_interval * 2);
    let now = world.routed("sql");
    assert_eq!(now.len(), 1);
    assert_ne!(now[0], at);
    world.restart(&at);
    world.run_ms(10_000);
    assert_eq!(world.routed("sql"), now, "it does not move back");
    assert_eq!(world.holders("sql"), now);
}

#[test]
fn an_engine_that_is_gone_has_its_adapters_moved_at_once() {
    let mut world = World::ready(2);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(300);
    let at = world.routed("sql").remove(0);
    world.crash(&at);
    world.tell(Fact::EngineGone(engine_id(&at)));
    assert!(world.routed("sql").is_empty());
    world.run_ms(100);
    assert_eq!(world.routed("sql").len(), 1);
}

#[test]
fn a_new_engine_gets_every_adapter_that_is_wanted_everywhere() {
    let mut world = World::ready(1);
    for n in 0..10 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::All));
    }
    world.run_ms(300);
    world.add_engine("late");
    world.run_ms(300);
    for n in 0..10 {
        assert_eq!(world.routed(&format!("a{n}")), ["e0", "late"]);
    }
}

#[test]
fn an_engine_that_has_been_ready_for_a_moment_only_is_not_chosen_but_reloaded() {
    let mut world = World::ready(1);
    world.tell_engine("e0", |seen| seen.trusted = false);
    world.apply(spec("one", "/a/1", Replicas::Count(1)));
    world.apply(spec("all", "/a/1", Replicas::All));
    world.run_ms(1_000);
    assert_eq!(world.routed("all"), ["e0"], "every matching engine is loaded as soon as it is Ready");
    assert!(world.routed("one").is_empty());
    assert_eq!(world.condition("one", "Scheduled").1, "PodsNotReady");
    world.run(world.config.stable_after);
    assert_eq!(world.routed("one"), ["e0"]);
}

#[test]
fn i11_one_hung_engine_delays_nobody_else() {
    let time_until_ready = |hung: bool| {
        let mut world = World::new();
        for n in 0..3 {
            world.add_engine(&format!("e{n}"));
        }
        world.engine("e2").hangs = hung;
        for n in 0..20 {
            world.apply(spec(&format!("a{n}"), "/a/1", Replicas::All));
        }
        world.tell(Fact::Synced);
        let begin = world.now;
        while !(0..20).all(|n| {
            let routed = world.routed(&format!("a{n}"));
            routed.contains(&"e0".to_owned()) && routed.contains(&"e1".to_owned())
        }) {
            world.run_ms(1);
            assert!(world.now < begin + 10_000, "never ready");
        }
        world.now - begin
    };
    assert_eq!(time_until_ready(false), time_until_ready(true));
}

#[test]
fn an_engine_that_hangs_on_load_loses_what_waits_for_it_to_others() {
    let mut world = World::ready(2);
    world.engine("e1").hangs_on_load = true;
    world.run_ms(100);
    for n in 0..6 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(1)));
    }
    world.run_ms(1_000);
    assert_eq!((0..6).filter(|n| !world.routed(&format!("a{n}")).is_empty()).count(), 3);
    world.run(world.config.stalled_after + Duration::from_secs(1));
    for n in 0..6 {
        assert_eq!(world.routed(&format!("a{n}")), ["e0"]);
    }
}

#[test]
fn a_load_of_unknown_outcome_is_settled_by_a_listing_and_not_repeated() {
    let mut world = World::ready(1);
    world.engine("e0").hangs_on_load = true;
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(40_000);
    assert_eq!(world.count("load"), 1);
    let (_, _, message) = world.condition("sql", "Ready");
    assert!(message.contains("has not answered in time"), "{message}");
    let engine = world.engine("e0");
    engine.hangs_on_load = false;
    engine.loading = None;
    engine.residents.insert("sql".to_owned(), longshore_types::Root::Store(digest(1)));
    world.run(world.config.list_interval * 2);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.count("load"), 1);
}

#[test]
fn a_load_of_unknown_outcome_gives_the_slot_back_at_its_bound() {
    let mut world = World::ready(1);
    world.engine("e0").hangs_on_load = true;
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(31_000);
    world.engine("e0").hangs_on_load = false;
    world.engine("e0").loading = None;
    world.run(world.config.load_bound + world.config.retry_base);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.count("load"), 2);
}

#[test]
fn one_listing_that_is_late_takes_nothing_away_and_two_do() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    let late = || Err(Fault::new(Scope::Transient, "Timeout", "no answer within 2 s"));
    world.engine("e0").hangs = true;
    world.run(world.config.list_interval + Duration::from_millis(2_100));
    assert_eq!(world.routed("sql"), ["e0"]);
    world.tell(Fact::Listed { engine: engine_id("e0"), result: late() });
    world.run(world.config.list_interval + Duration::from_millis(2_100));
    assert!(world.routed("sql").is_empty());
}

#[test]
fn an_adapter_that_an_engine_has_lost_is_loaded_again() {
    let mut world = World::ready(1);
    world.apply(spec("sql", "/a/1", Replicas::All));
    world.run_ms(300);
    world.engine("e0").residents.clear();
    world.tell(Fact::Missing { engine: engine_id("e0"), name: adapter("sql").name });
    world.run_ms(50);
    assert_eq!(world.routed("sql"), ["e0"]);
    assert_eq!(world.engine("e0").loads.len(), 2);
}

#[test]
fn i10_a_settled_world_is_quiet() {
    let mut world = World::ready(10);
    for n in 0..50 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(2)));
    }
    world.run(Duration::from_secs(30));
    world.counts.clear();
    world.trace.clear();
    world.run(Duration::from_secs(60));
    let per_engine = 60_000 / u64::try_from(world.config.list_interval.as_millis()).unwrap();
    let lists = u64::try_from(world.count("list")).unwrap();
    assert!(lists <= 10 * (per_engine + 1), "{lists} listings");
    world.counts.remove("list");
    assert!(world.counts.is_empty(), "{:?}: {:?}", world.counts, world.trace);
}

#[test]
fn a_shorter_grace_is_a_matter_of_configuration() {
    let config = Config { not_ready_grace: Duration::from_secs(1), ..Config::default() };
    let mut world = World::with(config, 0);
    world.add_engine("e0");
    world.add_engine("e1");
    world.tell(Fact::Synced);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.run_ms(300);
    let at = world.routed("sql").remove(0);
    world.crash(&at);
    world.run_ms(4_000);
    assert_eq!(world.routed("sql").len(), 1);
}

#[test]
fn engines_that_are_found_by_what_selects_them_share_it_whoever_answers_first() {
    let mut world = World::ready(0);
    for n in 0..6 {
        world.apply(spec(&format!("a{n}"), "/a/1", Replicas::Count(1)));
    }
    for name in ["e0", "e1", "e2"] {
        world.add_engine(name);
    }
    world.run_ms(500);
    for name in ["e0", "e1", "e2"] {
        assert_eq!(world.engine(name).loads.len(), 2, "{name}");
    }
}

#[test]
fn i11_an_engine_that_does_not_answer_at_first_delays_a_choice_for_a_moment_only() {
    let mut world = World::ready(0);
    world.apply(spec("sql", "/a/1", Replicas::Count(1)));
    world.add_engine("e0");
    world.add_engine("e1");
    world.engine("e1").hangs = true;
    world.run_ms(1_500);
    assert_eq!(world.routed("sql"), ["e0"]);
}
