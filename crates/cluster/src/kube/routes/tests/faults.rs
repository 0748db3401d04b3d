//! An API server that refuses, hangs and goes away.

use std::time::Duration;

use super::world::{Fate, World, adapter, base, route, service};
use super::{SECOND, TURN, said};

#[tokio::test(start_paused = true)]
async fn i11_a_slice_that_cannot_be_written_delays_no_other() {
    for fate in [Fate::Code(500), Fate::Code(422), Fate::Code(403), Fate::Code(429), Fate::Hangs, Fate::Lost] {
        let mut world = World::listed().await;
        world.server.judge(move |call| if call.contains("endpointslices/bad-") { fate } else { Fate::Done });
        world.routes.publish(route("bad", 1, [1]));
        for number in 0..50 {
            world.routes.publish(route(&format!("good-{number}"), 1, [1]));
        }
        world.run(TURN * 5).await;
        let answers = world.answers();
        let good = answers.iter().filter(|answered| answered.adapter != adapter("bad") && answered.result.is_ok());
        assert_eq!(good.count(), 50, "{fate:?}");
        world.calls();
        world.run(SECOND * 60).await;
        let tried = world.calls().iter().filter(|call| call.contains("endpointslices/bad-")).count();
        assert!(tried <= 30, "{fate:?}: {tried} calls in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again() {
    let mut world = World::listed().await;
    world.server.judge(|call| if call.contains("endpointslices") { Fate::Code(403) } else { Fate::Done });
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Err("Forbidden"), None)]);
    assert_eq!(world.urgent.count(), 0, "what fails holds nothing else back");
    // The same once more is answered at once and costs no call.
    world.calls();
    world.routes.publish(route("sql", 1, [1]));
    world.run(Duration::from_micros(1)).await;
    assert_eq!(said(&world.answers()), [(1, Err("Forbidden"), None)]);
    world.server.judge(|_| Fate::Done);
    world.run(SECOND * 30).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn one_failure_that_passes_is_not_told() {
    let mut world = World::listed().await;
    let mut failures = 2;
    world.server.judge(move |call| {
        let fails = failures > 0 && call.contains("endpointslices");
        failures -= usize::from(fails);
        if fails { Fate::Code(500) } else { Fate::Done }
    });
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_made_is_told_beside_the_route() {
    let mut world = World::listed().await;
    world.server.judge(|call| if call.contains("services") { Fate::Code(403) } else { Fate::Done });
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), Some("Forbidden"))]);
    world.server.judge(|_| Fate::Done);
    world.run(SECOND * 30).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_does_not_wait_for_a_service() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1, 2]));
    world.run(SECOND).await;
    world.server.judge(|call| if call.contains("services") { Fate::Hangs } else { Fate::Done });
    world.delete(&service("sql"));
    world.run(TURN).await;
    world.answers();
    world.routes.publish(route("sql", 2, [1]));
    world.run(TURN).await;
    assert_eq!(said(&world.answers()), [(2, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_another_life_has_replaced_is_looked_at_and_not_written_on_blindly() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1, 2]));
    world.run(SECOND).await;
    let slice = world.keys("endpointslices").remove(0);
    // Another life of it, of which the watch has not shown anything yet.
    let body = world.json(&slice);
    world.delete(&slice);
    world.put("endpointslices", &body);
    world.routes.publish(route("sql", 2, [1]));
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.pods("sql"), ["pod-1".to_owned()].into());
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None), (2, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_minute_without_the_api_server_loses_nothing_and_ends_without_a_storm() {
    let mut world = World::listed().await;
    for number in 0..100 {
        world.routes.publish(route(&format!("a-{number}"), 1, [1, 2]));
    }
    world.run(SECOND).await;
    world.forget();
    world.server.judge(|_| Fate::Hangs);
    for number in 0..100 {
        world.routes.publish(route(&format!("a-{number}"), 2, [2]));
    }
    world.run(SECOND * 60).await;
    let calls = world.calls().len();
    assert!(calls <= 16 * 13, "{calls} calls while it was away");
    assert!(world.answers().iter().all(|answered| answered.result.is_err()));
    world.server.judge(|_| Fate::Done);
    world.server.busy.lock().unwrap().1 = 0;
    // What hangs still is given up first.
    world.run(SECOND * 6).await;
    let answers = world.answers();
    assert_eq!(answers.iter().filter(|answered| answered.result.is_ok()).count(), 100);
    assert!(world.calls().len() <= 250 && world.server.busy.lock().unwrap().1 <= 16);
}

#[tokio::test(start_paused = true)]
async fn withdrawals_go_before_additions_and_few_are_under_way() {
    let mut world = World::listed().await;
    world.routes.publish(route("old", 1, [1]));
    world.run(SECOND).await;
    world.server.latency(|| TURN);
    for number in 0..200 {
        world.routes.publish(route(&format!("a-{number}"), 1, [1]));
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.routes.publish(route("old", 2, []));
    tokio::time::sleep(TURN * 5).await;
    assert!(world.pods("old").is_empty(), "it waited behind all additions");
    world.run(SECOND * 5).await;
    assert_eq!(world.slices().len(), 200);
    assert!(world.server.busy.lock().unwrap().1 <= 5, "four, and the withdrawal beside them");

    world.server.busy.lock().unwrap().1 = 0;
    for number in 0..200 {
        world.routes.publish(route(&format!("a-{number}"), 2, []));
    }
    world.run(SECOND * 5).await;
    assert_eq!(world.server.busy.lock().unwrap().1, 16, "withdrawals do not wait for each other as long");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_leads_no_more_writes_nothing_and_says_so() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    world.forget();
    world.fence.close();
    world.routes.publish(route("sql", 2, [1, 2]));
    world.routes.base(base([1]));
    world.run(SECOND * 60).await;
    assert!(world.calls().is_empty());
    assert_eq!(said(&world.answers()), [(2, Err("NotLeading"), None)]);
    world.routes.publish(route("chat", 3, [1]));
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(3, Err("NotLeading"), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_was_retracted_while_it_waited_is_answered() {
    let mut world = World::listed().await;
    world.server.judge(|_| Fate::Hangs);
    world.routes.publish(route("sql", 1, [1]));
    world.run(TURN).await;
    world.routes.retract(adapter("sql"));
    world.run(TURN).await;
    assert_eq!(said(&world.answers()), [(1, Err("Retracted"), None)]);
    world.server.judge(|_| Fate::Done);
    world.run(SECOND * 60).await;
    assert!(world.slices().is_empty() && world.keys("services").is_empty());
}
