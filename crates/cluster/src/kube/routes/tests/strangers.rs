//! What others do to our objects, and what is theirs.

use longshore_api::labels;
use serde_json::{Value, json};

use super::store::Key;
use super::world::{World, adapter, route, service};
use super::{SECOND, TURN, said};

async fn published() -> (World, Key) {
    let mut world = World::listed().await;
    world.routes.publish(route("sql", 1, [1, 2]));
    world.run(SECOND).await;
    world.forget();
    let slice = world.keys("endpointslices").remove(0);
    (world, slice)
}

/// What `key` says, without what the API server counts.
fn content(world: &World, key: &Key) -> Value {
    let mut json = world.json(key);
    for counted in ["uid", "resourceVersion", "managedFields"] {
        json["metadata"].as_object_mut().unwrap().remove(counted);
    }
    json
}

#[tokio::test(start_paused = true)]
async fn what_is_edited_is_repaired_with_as_little_as_needed() {
    let (mut world, slice) = published().await;
    for (key, patch, bound) in [
        (&slice, json!({"endpoints": []}), 1),
        (&slice, json!({"metadata": {"labels": {labels::MODEL_NAME: "other"}}}), 1),
        (&slice, json!({"metadata": {"labels": {labels::SERVICE_NAME: null}}}), 1),
        (&slice, json!({"metadata": {"labels": {labels::MANAGED_BY: "me"}}}), 2),
        (&slice, json!({"metadata": {"annotations": {labels::SLICE_DIGEST: "sha256:00"}}}), 1),
        (&slice, json!({"metadata": {"annotations": {labels::SLICE_ADAPTER: null}}}), 1),
        (&slice, json!({"metadata": {"ownerReferences": []}}), 1),
        (&slice, json!({"ports": []}), 1),
        (&service("sql"), json!({"metadata": {"labels": {labels::MODEL_NAME: null}}}), 1),
        (&service("sql"), json!({"metadata": {"ownerReferences": []}}), 1),
        (&service("sql"), json!({"spec": {"selector": {"app": "x"}}}), 1),
        (&service("sql"), json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}]}}), 1),
    ] {
        let before = content(&world, key);
        world.edit(key, &patch);
        assert_ne!(content(&world, key), before, "{patch}");
        world.run(SECOND * 70).await;
        assert_eq!(content(&world, key), before, "{patch}");
        let writes = world.writes();
        assert!((1..=bound).contains(&writes.len()), "{patch}: {writes:?}");
    }
    assert!(world.answers().is_empty(), "nothing about the route has changed");
}

#[tokio::test(start_paused = true)]
async fn labels_of_others_beside_ours_stay() {
    let (mut world, slice) = published().await;
    world.edit(&slice, &json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}}));
    world.run(SECOND).await;
    assert!(world.calls().is_empty());
    world.routes.publish(route("sql", 2, [1]));
    world.run(SECOND).await;
    assert_eq!(world.json(&slice)["metadata"]["labels"]["team"], "a");
}

#[tokio::test(start_paused = true)]
async fn a_digest_that_somebody_writes_on_bytes_that_are_not_known_is_taken_off() {
    let mut world = World::listed().await;
    let mut write = route("sql", 1, [1]);
    write.route.endpoints[0].digest = None;
    world.routes.publish(write);
    world.run(SECOND).await;
    let slice = world.keys("endpointslices").remove(0);
    let before = content(&world, &slice);
    world.edit(
        &slice,
        &json!({"metadata": {"annotations": {labels::SLICE_DIGEST: format!("sha256:{}", "0".repeat(64))}}}),
    );
    world.run(SECOND).await;
    assert_eq!(content(&world, &slice), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_made_again() {
    let (mut world, slice) = published().await;
    for key in [&slice, &service("sql")] {
        let before = content(&world, key);
        world.delete(key);
        world.run(TURN).await;
        assert_eq!(content(&world, key), before);
    }
    assert_eq!(world.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_changes_it_back_each_time_is_not_fought_without_a_pause() {
    let (mut world, slice) = published().await;
    for _ in 0..1000 {
        if world.json(&slice)["endpoints"] != json!([]) {
            world.edit(&slice, &json!({"endpoints": []}));
        }
        world.run(TURN).await;
    }
    let writes = world.writes().len();
    assert!((5..30).contains(&writes), "{writes} repairs in 20 s");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_service_is_never_touched_and_is_told_of_until_it_goes() {
    let mut world = World::listed().await;
    world.put(
        "services",
        &json!({"metadata": {"name": "sql", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1"}}),
    );
    let before = world.json(&service("sql"));
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert_eq!(said(&world.answers()), [(1, Ok(()), Some("ServiceConflict"))]);
    let slice = world.keys("endpointslices").remove(0);
    assert!(world.json(&slice)["metadata"]["labels"].get(labels::SERVICE_NAME).is_none());
    world.routes.publish(route("sql", 2, [1, 2]));
    world.run(SECOND * 60).await;
    assert_eq!(said(&world.answers()), [(2, Ok(()), Some("ServiceConflict"))]);
    assert_eq!(world.json(&service("sql")), before);
    world.delete(&service("sql"));
    world.run(SECOND * 15).await;
    assert_eq!(said(&world.answers()), [(2, Ok(()), None)]);
    assert_eq!(world.json(&service("sql"))["spec"]["clusterIP"], "None");
    assert_eq!(world.json(&slice)["metadata"]["labels"][labels::SERVICE_NAME], "sql");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_is_expected_never_joins_a_foreign_service_even_for_a_moment() {
    let mut world = World::listed().await;
    // It has our labels, and nobody's owner.
    world.put(
        "services",
        &json!({"metadata": {
        "name": "chat", "namespace": "default", "labels": {labels::ADAPTER_NAME: "chat", labels::MODEL_NAME: "chat"}
    }, "spec": {"clusterIP": "None"}}),
    );
    world.put(
        "services",
        &json!({"metadata": {"name": "sql", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1"}}),
    );
    for name in ["sql", "chat"] {
        world.routes.expect(adapter(name));
        world.run(TURN).await;
        world.routes.publish(route(name, 1, [1]));
        world.run(SECOND).await;
        let writes = world.writes();
        assert!(writes.len() == 1 && writes[0].contains("apply endpointslices"), "{name}: {writes:?}");
        assert_eq!(said(&world.answers()), [(1, Ok(()), Some("ServiceConflict"))]);
    }
    world.routes.retract(adapter("sql"));
    world.routes.retract(adapter("chat"));
    world.run(SECOND).await;
    assert_eq!(world.keys("services").len(), 2, "what is not ours stays");
    assert!(world.slices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_first_look_for_a_foreign_service_does_not_wait_behind_the_slices_of_others() {
    let mut world = World::listed().await;
    world.put(
        "services",
        &json!({"metadata": {"name": "sql", "namespace": "default"}, "spec": {"clusterIP": "10.0.0.1"}}),
    );
    world.run(TURN).await;
    world.server.latency(|| TURN);
    for number in 0..200 {
        world.routes.publish(route(&format!("a-{number}"), 1, [1]));
    }
    world.routes.expect(adapter("sql"));
    tokio::time::sleep(TURN * 3).await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND * 5).await;
    let writes = world.writes();
    let of_sql: Vec<_> = writes.iter().filter(|write| write.contains("sql")).collect();
    assert_eq!(of_sql.len(), 1, "not first as one of the Service and then as none of it: {of_sql:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slice_of_anothers_in_the_way_is_never_touched() {
    let (mut world, slice) = published().await;
    world.routes.retract(adapter("sql"));
    world.run(SECOND).await;
    let theirs = json!({"metadata": {"name": slice.2, "namespace": "default"}, "addressType": "IPv4", "endpoints": []});
    world.put("endpointslices", &theirs);
    let before = world.json(&slice);
    world.routes.publish(route("sql", 2, [1]));
    world.run(SECOND * 30).await;
    assert_eq!(said(&world.answers()), [(2, Ok(()), Some("ServiceConflict"))]);
    assert_eq!(world.json(&slice), before);
    assert_eq!(world.pods("sql").len(), 1, "under another name");
    world.delete(&slice);
    world.run(SECOND * 15).await;
    assert_eq!(said(&world.answers()), [(2, Ok(()), None)]);
    world.routes.retract(adapter("sql"));
    world.run(SECOND).await;
    assert!(world.slices().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_aibrix_made_for_the_same_object_is_taken_over_in_place() {
    let mut world = World::listed().await;
    let owner = json!([{
        "apiVersion": "model.aibrix.ai/v1alpha1", "kind": "ModelAdapter", "name": "sql", "uid": "uid-of-sql",
        "controller": true, "blockOwnerDeletion": true
    }]);
    world.put("services", &json!({
        "metadata": {"name": "sql", "namespace": "default", "ownerReferences": owner, "labels": {
            labels::ADAPTER_NAME: "sql", labels::MODEL_NAME: "sql"
        }},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8001, "protocol": "TCP", "targetPort": 8001}]}
    }));
    let old = json!({
        "metadata": {"name": "sql", "namespace": "default", "ownerReferences": owner, "labels": {labels::SERVICE_NAME: "sql"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.9"]}]
    });
    world.put("endpointslices", &old);
    let uid = world.json(&service("sql"))["metadata"]["uid"].clone();
    world.run(TURN).await;
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    let writes = world.writes();
    assert!(writes[0].starts_with("apply endpointslices/sql-"), "ours stands first: {writes:?}");
    assert_eq!(writes[1], "delete endpointslices/sql", "{writes:?}");
    let json = world.json(&service("sql"));
    assert_eq!((&json["metadata"]["uid"], &json["spec"]["ports"][0]["port"]), (&uid, &json!(8000)));
    assert_eq!(said(&world.answers()), [(1, Ok(()), None)]);
    let mut world = world.restart().await;
    world.calls();
    world.list();
    world.routes.publish(route("sql", 1, [1]));
    world.run(SECOND).await;
    assert!(world.calls().is_empty(), "it is taken over once");
}
