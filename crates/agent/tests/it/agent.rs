//! What leaders say, restarts, readiness, and the native API.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use longshore_agent::{Agent, Api, router};
use longshore_cluster::fleet::Guard;
use longshore_types::Secret;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::place::{Place, held, runs, set, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_leader_wants_is_loaded_and_what_it_wants_no_more_is_unloaded() {
    let place = Place::new().await;
    let agent = place.start().await;
    let (sql, code) = (place.files("sql", 1), place.files("code", 2));
    assert!(agent.desire(set(1, 1, &[sql.clone(), code])).await.unwrap().changed);
    until(&agent, "both", |agent| runs(agent, "sql") && runs(agent, "code")).await;
    agent.desire(set(1, 2, std::slice::from_ref(&sql))).await.unwrap();
    until(&agent, "one is gone", |agent| agent.fleet().adapter("default", "code").is_none()).await;
    until(&agent, "its engine lists the other alone", |agent| held(agent) == ["sql"]).await;
    let stale = agent.desire(set(1, 1, &[])).await.unwrap_err();
    assert_eq!(stale.reason(), "StaleStamp");
    assert!(!agent.desire(set(1, 2, &[sql])).await.unwrap().changed);
    assert!(runs(&agent, "sql"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_restarts_gets_its_adapters_back_with_no_leader_there() {
    let place = Place::new().await;
    let agent = place.start().await;
    agent.desire(set(1, 1, &[place.files("sql", 1)])).await.unwrap();
    until(&agent, "it runs", |agent| runs(agent, "sql")).await;
    place.sim.restart().await.unwrap();
    until(&agent, "it is back", |agent| place.loads() == 2 && held(agent) == ["sql"] && runs(agent, "sql")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_an_agent_that_restarts_goes_on_from_its_record_and_touches_nothing() {
    let place = Place::new().await;
    let agent = place.start().await;
    let sql = place.files("sql", 1);
    agent.desire(set(1, 7, std::slice::from_ref(&sql))).await.unwrap();
    until(&agent, "it runs", |agent| runs(agent, "sql")).await;
    let record = place.path("record.json");
    until(&agent, "it is kept", |_| std::fs::read_to_string(&record).is_ok_and(|text| text.contains("sha256:"))).await;
    drop(agent);
    // The source is gone, and nobody speaks.
    std::fs::remove_dir_all(place.path("sql")).unwrap();
    let agent = place.start().await;
    until(&agent, "it runs as before", |agent| runs(agent, "sql")).await;
    assert_eq!(place.loads(), 1, "the engine held it all the time");
    assert_eq!(agent.in_force().await.adapters[0].declared_by, "record");
    assert_eq!(agent.desire(set(1, 6, &[])).await.unwrap_err().reason(), "StaleStamp");
    // And where the engine has restarted meanwhile, it is loaded out of the store.
    place.sim.restart().await.unwrap();
    until(&agent, "it is back", |agent| place.loads() == 2 && held(agent) == ["sql"] && runs(agent, "sql")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_when_what_was_wanted_at_the_start_is_there() {
    let place = Place::new().await;
    let agent = place.start().await;
    until(&agent, "there was nothing to wait for", Agent::is_ready).await;
    agent.desire(set(1, 1, &[place.files("sql", 1)])).await.unwrap();
    until(&agent, "it runs", |agent| runs(agent, "sql")).await;
    let record = place.path("record.json");
    until(&agent, "it is kept", |_| std::fs::read_to_string(&record).is_ok_and(|text| text.contains("sha256:"))).await;
    drop(agent);
    place.sim.restart().await.unwrap();
    let agent = place.start().await;
    assert!(!agent.is_ready());
    until(&agent, "it is ready again", Agent::is_ready).await;
    assert_eq!(place.loads(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarts_beside_an_engine_that_holds_all_is_ready_soon() {
    let place = Place::new().await;
    let agent = place.start().await;
    agent.desire(set(1, 1, &[place.files("sql", 1)])).await.unwrap();
    let record = place.path("record.json");
    until(&agent, "it is kept", |_| std::fs::read_to_string(&record).is_ok_and(|text| text.contains("sha256:"))).await;
    until(&agent, "it runs", |agent| runs(agent, "sql")).await;
    drop(agent);
    let agent = place.start().await;
    // Less than the minute after which it is ready in any case.
    let ready = async {
        while !agent.is_ready() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(40), ready).await.unwrap();
    assert_eq!(place.loads(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_engine_takes_nothing_from_another_namespace_and_a_record_has_one_keeper() {
    let place = Place::new().await;
    let agent = place.start().await;
    let other =
        longshore_api::sidecar::DesiredSet { namespace: "team-a".into(), ..set(1, 1, &[place.files("sql", 1)]) };
    let error = agent.desire(other).await.unwrap_err();
    assert!(error.to_string().starts_with("namespace: is team-a, but the engine here is of default"), "{error}");
    assert!(agent.in_force().await.stamp.is_none(), "nothing of it was taken in");
    assert_eq!(place.try_start().unwrap_err().reason(), "RecordFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_up_has_said_what_it_said() {
    let place = Place::new().await;
    let agent = place.start().await;
    let wanted = set(1, 1, &[place.files("sql", 1)]);
    // Dropped at its first wait.
    assert!(futures::FutureExt::now_or_never(agent.desire(wanted.clone())).is_none());
    until(&agent, "it is taken in all the same", |agent| runs(agent, "sql")).await;
    assert!(!agent.desire(wanted).await.unwrap().changed);
}

async fn call(agent: &Agent, method: Method, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
    let guard = Guard::open().or_token(Secret::new("hunter2"));
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = router(Api::new(agent.clone(), guard)).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_native_api_takes_sets_in_and_says_what_is_wrong_with_them() {
    let place = Place::new().await;
    let agent = place.start().await;
    let token = Some("hunter2");
    let sql = place.files("sql", 1);
    let wanted = serde_json::to_value(set(1, 2, &[sql])).unwrap();
    for wrong in [None, Some("other")] {
        assert_eq!(call(&agent, Method::PUT, "/v1/desired", wrong, wanted.clone()).await.0, StatusCode::UNAUTHORIZED);
    }
    let (status, answer) = call(&agent, Method::PUT, "/v1/desired", token, wanted).await;
    assert_eq!((status, &answer["changed"]), (StatusCode::OK, &json!(true)));
    let (status, answer) = call(&agent, Method::GET, "/v1/desired", token, Value::Null).await;
    assert_eq!((status, &answer["adapters"][0]["declaredBy"]), (StatusCode::OK, &json!("leader")));
    let older = serde_json::to_value(set(1, 1, &[])).unwrap();
    let (status, answer) = call(&agent, Method::PUT, "/v1/desired", token, older).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("StaleStamp")));
    let bad = |adapter: Value| json!({"stamp": {"leaseCreated": 1, "transitions": 1, "revision": 9}, "namespace": "default", "adapters": [adapter]});
    for (adapter, field) in [
        (json!({"name": "", "artifactURL": "/a"}), "adapters[0].name"),
        (json!({"name": "a", "artifactURL": "ftp://hunter2"}), "adapters[0].artifactURL"),
        (json!({"name": "a", "artifactURL": "rel/ative"}), "adapters[0].artifactURL"),
        (json!({"name": "a", "artifactURL": "/a", "artifactDigest": "sha256:1"}), "adapters[0].artifactDigest"),
    ] {
        let (status, answer) = call(&agent, Method::PUT, "/v1/desired", token, bad(adapter)).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(message.starts_with(field) && !message.contains("hunter2"), "{message}");
    }
    let (status, answer) = call(&agent, Method::PUT, "/v1/desired", token, json!({"credentials": "hunter2"})).await;
    assert!(status.is_client_error() && !answer.to_string().contains("hunter2"), "{answer}");
    until(&agent, "the good one runs", |agent| runs(agent, "sql")).await;
    let (status, answer) = call(&agent, Method::GET, "/v1/adapters", token, Value::Null).await;
    assert_eq!((status, &answer["adapters"][0]["phase"]), (StatusCode::OK, &json!("Running")));
    let (_, answer) = call(&agent, Method::GET, "/v1/sidecar", token, Value::Null).await;
    assert_eq!((&answer["sidecar"], &answer["ready"]), (&json!("longshore"), &json!(true)));
}
