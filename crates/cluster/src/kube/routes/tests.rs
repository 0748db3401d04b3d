//! The writer, beside an API server in this process.

mod faults;
mod random;
mod store;
mod strangers;
mod world;

use std::time::Duration;

use longshore_api::labels;
use longshore_types::{Digest, Fault};
use serde_json::json;

use super::Answered;
use world::{World, adapter, base, route, service};

const TURN: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// A sequence, how it was answered, and the notice's reason.
type Said = (u64, Result<(), &'static str>, Option<&'static str>);

fn said(answers: &[Answered]) -> Vec<Said> {
    let reason = |fault: &Fault| fault.reason;
    let said = |a: &Answered| (a.sequence, a.result.as_ref().copied().map_err(reason), a.notice.as_ref().map(reason));
    answers.iter().map(said).collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_endpoint_costs_one_service_write_and_one_slice_write_side_by_side() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(TURN).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
    assert_eq!(world.calls().len(), 2);
    assert_eq!(world.server.busy.lock().unwrap().1, 2, "one waited for the other");
    let (writes, slice) = (world.writes(), world.keys("endpointslices").remove(0));
    assert_eq!(writes, [format!("apply endpointslices/{}", slice.2), "create services/sql".to_owned()]);

    let owner = json!([{
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "name": "sql", "uid": "uid-of-sql",
        "controller": true
    }]);
    let json = world.json(&slice);
    assert_eq!(
        json["metadata"]["labels"],
        json!({
            "kubernetes.io/service-name": "sql", "model.aibrix.ai/name": "sql",
            "endpointslice.kubernetes.io/managed-by": "longshore-controller"
        })
    );
    assert_eq!(
        json["metadata"]["annotations"],
        json!({
            "longshore.dev/adapter": "sql", "longshore.dev/base-model": "qwen/base",
            "longshore.dev/digest": Digest::from_bytes([7; 32]).to_string(), "longshore.dev/engine-kind": "vllm"
        })
    );
    assert_eq!(json["metadata"]["ownerReferences"], owner);
    assert_eq!(json["addressType"], "IPv4");
    assert_eq!(json["ports"], json!([{"name": "http", "port": 8000, "protocol": "TCP", "appProtocol": "http"}]));
    assert_eq!(
        json["endpoints"],
        json!([{
            "addresses": ["10.244.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-1", "zone": "zone-1",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "pod-1", "uid": "uid-pod-1"}
        }])
    );
    let json = world.json(&service("sql"));
    assert_eq!(
        json["metadata"]["labels"],
        json!({"adapter.model.aibrix.ai/name": "sql", "model.aibrix.ai/name": "sql"})
    );
    assert_eq!(json["metadata"]["ownerReferences"], owner);
    assert_eq!(
        json["spec"],
        json!({
            "type": "ClusterIP", "clusterIP": "None", "selector": {},
            "ports": [{"name": "http", "port": 8000, "targetPort": 8000, "protocol": "TCP", "appProtocol": "http"}]
        })
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_everything_has_been_listed() {
    let mut world = World::new(world::Server::new());
    world.routes.publish(route("sql", 1, [1]));
    world.routes.base(base([1]));
    world.routes.slice(super::Change::Listed);
    world.run(SECOND).await;
    assert!(world.calls().is_empty() && world.answers().is_empty());
    world.list();
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
}

#[tokio::test(start_paused = true)]
async fn i10_a_restart_on_what_stands_writes_nothing() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, 1..=120));
    world.routes.base(base(1..=120));
    world.routes.settled();
    world.run(SECOND).await;
    assert_eq!(world.slices().len(), 4);
    let mut world = world.restart().await;
    world.forget();
    world.list();
    world.routes.expect(adapter("sql"));
    // Another number, the same endpoints in another order.
    world.routes.publish(route("sql", 1, (1..=120).rev()));
    world.routes.base(base((1..=120).rev()));
    world.routes.settled();
    world.run(SECOND * 60).await;
    assert_eq!((world.writes(), world.calls()), (Vec::new(), Vec::new()));
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
    world.list();
    world.run(SECOND * 60).await;
    assert!(world.calls().is_empty(), "a resync wrote");
}

#[tokio::test(start_paused = true)]
async fn engines_that_become_ready_one_after_the_other_are_written_together() {
    let mut world = World::listed().await;
    for count in 1..=30 {
        world.routes.publish(route("sql", count.into(), 1..=count));
        world.run(Duration::from_millis(10)).await;
    }
    world.run(SECOND).await;
    let writes = world.writes().iter().filter(|write| write.contains("endpointslices")).count();
    assert!((2..=5).contains(&writes), "{writes} writes");
    assert_eq!(world.pods("sql").len(), 30);
    let answers = world.answers();
    let sequences: Vec<_> = answers.iter().map(|answered| answered.sequence).collect();
    assert_eq!(sequences, (1..=30).collect::<Vec<_>>(), "each is answered once, and in order");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_is_withdrawn_at_once() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1, 2]));
    world.run(Duration::from_millis(10)).await;
    world.routes.publish(route("sql", 2, [1, 2, 3]));
    world.run(Duration::from_millis(10)).await;
    assert!(!world.pods("sql").contains("pod-3"), "an addition waits");
    world.routes.publish(route("sql", 3, [2, 3]));
    world.run(Duration::from_millis(5)).await;
    assert_eq!(world.pods("sql"), ["pod-2".to_owned(), "pod-3".to_owned()].into());
    assert_eq!(said(&world.answers()), [(1, Ok(()), None), (2, Ok(()), None), (3, Ok(()), None)]);
    world.routes.publish(route("sql", 4, []));
    world.run(Duration::from_millis(5)).await;
    assert!(world.slices().is_empty());
    assert_eq!(said(&world.answers()), [(4, Ok(()), None)]);
    assert_eq!(world.keys("services"), [service("sql")], "the Service stays while the object does");
}

#[tokio::test(start_paused = true)]
async fn i4_what_is_retracted_leaves_nothing() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, 1..=150));
    world.routes.base(base([1, 2]));
    world.run(SECOND).await;
    world.routes.retract(adapter("sql"));
    world.run(TURN).await;
    assert!(world.keys("services").is_empty());
    assert_eq!(world.slices().len(), 1, "the base model's stays");
    world.routes.base(base([]));
    world.run(TURN).await;
    assert!(world.slices().is_empty());
    // The same name again, by another object.
    let mut again = route("sql", 2, [1]);
    again.uid = "another".into();
    world.routes.publish(again);
    world.run(TURN).await;
    assert_eq!(world.pods("sql").len(), 1);
    assert_eq!(world.json(&service("sql"))["metadata"]["ownerReferences"][0]["uid"], "another");
}

#[tokio::test(start_paused = true)]
async fn a_new_object_of_an_old_name_does_not_wait_for_what_the_old_one_left() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    world.routes.retract(adapter("sql"));
    let mut again = route("sql", 2, [1, 2]);
    again.uid = "another".into();
    world.routes.publish(again);
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None), (2, Ok(()), None)]);
    let owners: Vec<_> = world.slices().iter().flat_map(|slice| slice.owners.clone()).collect();
    assert_eq!(owners, ["another".into()]);
    assert_eq!(world.json(&service("sql"))["metadata"]["ownerReferences"][0]["uid"], "another");
}

#[tokio::test(start_paused = true)]
async fn what_was_left_over_is_deleted_once_all_routes_are_known() {
    let mut world = World::listed().await;
    for name in ["sql", "chat"] {
        world.routes.publish(route(name, 1, [1]));
    }
    world.run(SECOND).await;
    world.put(
        "endpointslices",
        &json!({"metadata": {
        "name": "theirs", "namespace": "default", "labels": {labels::MANAGED_BY: labels::MANAGER}
    }, "addressType": "IPv4", "endpoints": []}),
    );
    let mut world = world.restart().await;
    world.list();
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert_eq!(world.pods("chat").len(), 1, "its object may be told yet");
    world.writes();
    world.routes.settled();
    world.run(SECOND).await;
    let writes = world.writes();
    assert!(writes.len() == 1 && writes[0].starts_with("delete endpointslices/chat-"), "{writes:?}");
    assert!(world.keys("endpointslices").iter().any(|key| key.2 == "theirs"), "a label alone makes it not ours");
}

#[tokio::test(start_paused = true)]
async fn new_bytes_get_a_set_of_their_own() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1, 2]));
    world.run(SECOND).await;
    let mut changed = route("sql", 2, [1, 2]);
    changed.route.endpoints[0].digest = Some(Digest::from_bytes([8; 32]));
    world.routes.publish(changed);
    world.run(SECOND).await;
    let sets: Vec<_> = world.slices().into_iter().map(|slice| slice.content.unwrap()).collect();
    assert_eq!(sets.len(), 2);
    for slice in sets {
        let expected = if slice.set.digest == Some(Digest::from_bytes([8; 32])) { "pod-1" } else { "pod-2" };
        assert_eq!((slice.targets.len(), &*slice.targets[0].pod), (1, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_base_model_has_slices_and_nothing_else() {
    let mut world = World::listed().await;
    world.routes.base(base([1, 2]));
    world.run(SECOND).await;
    assert!(world.keys("services").is_empty() && world.answers().is_empty());
    let json = world.json(&world.keys("endpointslices")[0]);
    let labels = json["metadata"]["labels"].as_object().unwrap();
    assert!(!labels.contains_key(labels::SERVICE_NAME));
    assert_eq!(labels[labels::MODEL_NAME], json!(labels::label_value("qwen/base")));
    assert_eq!(
        json["metadata"]["annotations"],
        json!({"longshore.dev/base-model": "qwen/base", "longshore.dev/engine-kind": "vllm"})
    );
    assert_eq!(json["metadata"]["ownerReferences"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_no_service_can_have_is_routed_without_one() {
    let mut world = World::listed().await;
    let mut write = route("sql", 1, [1]);
    write.route.adapter.name = "Sql_v1.5".parse().unwrap();
    world.routes.expect(write.route.adapter.clone());
    world.routes.publish(write);
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
    assert!(world.keys("services").is_empty());
    let json = world.json(&world.keys("endpointslices")[0]);
    assert!(json["metadata"]["labels"].get(labels::SERVICE_NAME).is_none());
    assert_eq!(json["metadata"]["annotations"][labels::SLICE_ADAPTER], "Sql_v1.5");
}

#[tokio::test(start_paused = true)]
async fn i11_an_engine_with_an_address_that_no_slice_takes_does_not_keep_others_out() {
    let mut world = World::listed().await;
    let mut write = route("sql", 1, [1, 2]);
    write.route.endpoints[0].address.host = "127.0.0.1".into();
    world.routes.publish(write.clone());
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), Some("AddressRefused"))]);
    assert_eq!(world.pods("sql"), ["pod-2".to_owned()].into());
    write.route.sequence = 2;
    write.route.endpoints.truncate(1);
    world.routes.publish(write);
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(2, Err("AddressRefused"), Some("AddressRefused"))]);
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_the_port_of_its_engines() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    let mut moved = route("sql", 2, [1]);
    moved.route.endpoints[0].address.port = 9000;
    world.routes.publish(moved.clone());
    world.run(SECOND).await;
    let ports = world.json(&service("sql"))["spec"]["ports"].clone();
    assert_eq!((ports.as_array().unwrap().len(), &ports[0]["port"]), (1, &json!(9000)));
    assert_eq!(said(&world.answers()), [(1, Ok(()), None), (2, Ok(()), None)]);
    // And back, although both were written in two ways by now.
    world.routes.publish(route("sql", 3, [1]));
    world.run(SECOND).await;
    assert_eq!(world.json(&service("sql"))["spec"]["ports"][0]["port"], 8000);
}

#[tokio::test(start_paused = true)]
async fn other_work_makes_way_while_a_route_is_written() {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1]));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_micros(100)).await;
    assert_eq!(world.urgent.count(), 1);
    world.run(SECOND).await;
    assert_eq!(world.urgent.count(), 0);
}
