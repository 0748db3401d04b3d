use std::time::Duration;

use longshore_api::labels::FINALIZER;
use longshore_types::{Namespace, ObjectName, OwnerKind};
use serde_json::{Value, json};

use super::*;
use crate::kube::fence::Fence;
use crate::kube::testing::{Server, Trouble};

const PATH: &str = "/apis/model.aibrix.ai/v1alpha1/namespaces/default/modeladapters/sql";
const THEIRS: &str = "example.com/theirs";

fn key() -> ObjectKey {
    ObjectKey {
        namespace: Namespace::new("default").unwrap(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new("sql").unwrap(),
    }
}

/// A server that has the object, with this metadata besides its name and uid.
fn server(metadata: Value) -> Server {
    let server = Server::new();
    let mut object = json!({"metadata": metadata});
    object["metadata"]["name"] = json!("sql");
    object["metadata"]["uid"] = json!("u1");
    server.put(PATH, object);
    server
}

fn texts(finalizers: &[&str]) -> Vec<String> {
    finalizers.iter().map(|text| (*text).to_owned()).collect()
}

fn finalizers(server: &Server) -> Value {
    server.get(PATH).unwrap()["metadata"]["finalizers"].clone()
}

async fn hold(server: &Server, shown: &[&str]) -> Result<(), CallError> {
    Objects::new(server.calls()).hold(&key(), "u1", &texts(shown)).await
}

async fn release(server: &Server, shown: &[&str]) -> Result<(), CallError> {
    Objects::new(server.calls()).release(&key(), "u1", &texts(shown)).await
}

#[tokio::test(start_paused = true)]
async fn an_object_is_held_with_one_call_whatever_finalizers_it_has() {
    for (there, after) in [(json!(null), json!([FINALIZER])), (json!([THEIRS]), json!([THEIRS, FINALIZER]))] {
        let server = server(json!({ "finalizers": there }));
        let shown: Vec<_> = there.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        hold(&server, &shown).await.unwrap();
        assert_eq!((finalizers(&server), server.take_seen().len()), (after, 1));
    }
    let held = server(json!({"finalizers": [FINALIZER]}));
    hold(&held, &[FINALIZER]).await.unwrap();
    assert!(held.take_seen().is_empty(), "there is nothing to do");
}

#[tokio::test(start_paused = true)]
async fn an_object_is_released_with_one_call_and_others_finalizers_stay() {
    for there in [vec![FINALIZER], vec![THEIRS, FINALIZER], vec![FINALIZER, THEIRS]] {
        let server = server(json!({ "finalizers": there }));
        release(&server, &there).await.unwrap();
        assert!(!finalizers(&server).as_array().unwrap().contains(&json!(FINALIZER)));
        assert_eq!((finalizers(&server).as_array().unwrap().len(), server.take_seen().len()), (there.len() - 1, 1));
        release(&server, &there).await.unwrap();
        assert_eq!(server.take_writes().len(), 1, "the second time a look tells that nothing is left to do");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_is_not_kept_by_a_finalizer_that_the_watch_has_not_shown_yet() {
    let held = server(json!({"finalizers": [FINALIZER]}));
    release(&held, &[]).await.unwrap();
    assert_eq!(finalizers(&held), json!([]));
    release(&held, &[]).await.unwrap();
    assert_eq!(held.take_writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_finalizer_lets_the_object_go() {
    let server = server(json!({"finalizers": [FINALIZER], "deletionTimestamp": "2025-02-16T19:14:50Z"}));
    release(&server, &[FINALIZER]).await.unwrap();
    assert_eq!(server.get(PATH), None);
    release(&server, &[FINALIZER]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_patches_of_finalizers_test_what_they_were_made_for() {
    insta::assert_json_snapshot!("holds_the_first", finalizer::add("u1", &[]));
    insta::assert_json_snapshot!("holds_beside_others", finalizer::add("u1", &texts(&[THEIRS])));
    insta::assert_json_snapshot!("releases", finalizer::remove("u1", &texts(&[THEIRS, FINALIZER])));
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_finalizers_meanwhile_is_never_lost() {
    // The watch lags behind: none of what it has shown is true any more.
    for shown in [&[][..], &[FINALIZER, THEIRS], &["example.com/gone"], &[THEIRS, "example.com/gone"]] {
        let stale = server(json!({"finalizers": [THEIRS]}));
        if !shown.contains(&FINALIZER) {
            hold(&stale, shown).await.unwrap();
            assert_eq!(finalizers(&stale), json!([THEIRS, FINALIZER]), "{shown:?}");
        }
        let held = server(json!({"finalizers": [THEIRS, FINALIZER]}));
        let mut shown = shown.to_vec();
        shown.retain(|name| *name != FINALIZER);
        shown.insert(0, FINALIZER);
        release(&held, &shown).await.unwrap();
        assert_eq!(finalizers(&held), json!([THEIRS]), "{shown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_is_faster_again_and_again_is_outlasted() {
    let server = server(json!({}));
    let mut left = vec!["example.com/a", "example.com/b", "example.com/c"];
    server.trouble(move |seen| {
        let name = if seen.method == "PATCH" { left.pop() } else { None };
        // Just before each of our patches another finalizer is put on.
        name.map(|name| Trouble::Before(PATH, json!([{"op": "add", "path": "/metadata/finalizers", "value": [name]}])))
    });
    hold(&server, &[]).await.unwrap();
    assert_eq!(finalizers(&server), json!(["example.com/a", FINALIZER]));
}

#[tokio::test(start_paused = true)]
async fn an_object_of_that_name_that_is_another_one_is_left_alone() {
    let server = server(json!({"finalizers": [FINALIZER], "annotations": {"a": "b"}}));
    let before = server.get(PATH);
    let objects = Objects::new(server.calls());
    objects.hold(&key(), "old", &[]).await.unwrap();
    objects.release(&key(), "old", &texts(&[FINALIZER])).await.unwrap();
    let attempts = [Attempts { pod: "pod-1".into(), count: 1, last: Timestamp::ZERO }];
    objects.retries(&key(), "old", &attempts, &BTreeMap::new()).await.unwrap();
    assert_eq!(server.get(PATH), before);
    server.remove(PATH);
    objects.hold(&key(), "old", &[]).await.unwrap();
    objects.release(&key(), "old", &texts(&[FINALIZER])).await.unwrap();
    objects.retries(&key(), "old", &attempts, &BTreeMap::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_being_deleted_is_not_held() {
    let server = server(json!({"finalizers": [THEIRS], "deletionTimestamp": "2025-02-16T19:14:50Z"}));
    // The API server's own words for it have the code of a test that fails.
    server.trouble(|seen| (seen.method == "PATCH").then_some(Trouble::Answer(422, "no new finalizers can be added")));
    hold(&server, &[THEIRS]).await.unwrap();
    assert_eq!(server.take_writes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_until_it_goes_and_what_may_not_is_told() {
    let troubles = [
        Trouble::Answer(500, "no"),
        Trouble::Answer(429, "later"),
        Trouble::Hang,
        Trouble::Lost,
        Trouble::Answer(503, ""),
    ];
    let sick = server(json!({"finalizers": [FINALIZER]}));
    let mut left = troubles.to_vec();
    sick.trouble(move |_| left.pop());
    release(&sick, &[FINALIZER]).await.unwrap();
    assert_eq!(finalizers(&sick), json!([]));
    for code in [400, 403, 422] {
        let server = server(json!({}));
        server.trouble(move |seen| (seen.method == "PATCH").then_some(Trouble::Answer(code, "never")));
        let error = hold(&server, &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "never", "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_leads_no_more_lets_nothing_go() {
    let server = server(json!({"finalizers": [FINALIZER]}));
    let fence = Fence::open();
    let objects = Objects::new(server.calls_within(fence.clone()));
    fence.close();
    let error = objects.release(&key(), "u1", &texts(&[FINALIZER])).await.unwrap_err();
    assert!(matches!(error, CallError::NotLeading) && server.take_seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_objects_at_once_are_sixteen_calls_at_once() {
    let server = server(json!({"finalizers": [FINALIZER]}));
    server.trouble(|_| Some(Trouble::Slow(Duration::from_millis(3))));
    let objects = Objects::new(server.calls());
    let released = (0..1000).map(|_| {
        let objects = objects.clone();
        async move { objects.release(&key(), "old", &texts(&[FINALIZER])).await }
    });
    for released in futures::future::join_all(released).await {
        released.unwrap();
    }
    assert_eq!(server.most_under_way(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn retry_annotations_become_what_is_wanted_in_one_patch_and_others_stay() {
    let old = |name: &str| format!("adapter.model.aibrix.ai/{name}");
    let shown = BTreeMap::from([
        ("example.com/theirs".to_owned(), "x".to_owned()),
        (old("enabled"), "true".to_owned()),
        (old("retry-count.gone"), "5".to_owned()),
        (old("last-retry-time.gone"), "2025-02-16T19:14:50Z".to_owned()),
        (old("retry-count.pod-1"), "1".to_owned()),
        (old("last-retry-time.pod-1"), "2025-02-16T19:14:50Z".to_owned()),
    ]);
    let server = server(json!({ "annotations": shown }));
    let attempts = [
        Attempts { pod: "pod-1".into(), count: 2, last: Timestamp::from_millis(1_739_733_300_000) },
        Attempts { pod: "p".repeat(200), count: 1, last: Timestamp::from_millis(1_739_733_290_000) },
    ];
    let objects = Objects::new(server.calls());
    objects.retries(&key(), "u1", &attempts, &shown).await.unwrap();
    let [seen] = <[_; 1]>::try_from(server.take_seen()).unwrap();
    assert_eq!((seen.content_type.as_str(), seen.path.as_str()), ("application/merge-patch+json", PATH));
    insta::assert_json_snapshot!("retry_annotations", seen.body);
    let now = server.get(PATH).unwrap()["metadata"]["annotations"].clone();
    let now: BTreeMap<String, String> = serde_json::from_value(now).unwrap();
    assert_eq!(now.len(), 6);
    objects.retries(&key(), "u1", &attempts, &now).await.unwrap();
    assert!(server.take_seen().is_empty(), "nothing differs");
    objects.retries(&key(), "u1", &[], &now).await.unwrap();
    let left = server.get(PATH).unwrap()["metadata"]["annotations"].clone();
    assert_eq!(left, json!({"example.com/theirs": "x", "adapter.model.aibrix.ai/enabled": "true"}));
}
