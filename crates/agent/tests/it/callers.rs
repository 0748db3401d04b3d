//! Other systems' paths.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use longshore_agent::{Agent, Callers, callers};
use longshore_cluster::fleet::Guard;
use longshore_cluster::local::{Connect, ConnectVllm};
use longshore_types::Secret;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::place::{Place, held, set, until};

/// The paths, as a process serves them.
fn paths(place: &Place, agent: &Agent, guard: Guard) -> Router {
    let engine = ConnectVllm::new().unwrap().connect(&place.engine()).unwrap();
    callers(Callers::new(agent.clone(), engine, place.path("secrets"), guard))
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text))
    }
}

async fn call(paths: &Router, method: Method, path: &str, body: Value) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = paths.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

async fn post(paths: &Router, path: &str, body: Value) -> Answer {
    call(paths, Method::POST, path, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn aibrixs_controller_loads_lists_and_unloads() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let url = place.files("sql", 1).artifact_url;

    let load = json!({"lora_name": "sql", "artifact_url": url, "credentials_secret": null, "additional_config": {}});
    let loaded = post(&paths, "/v1/lora_adapter/load", load.clone()).await;
    assert_eq!((loaded.status, &loaded.json()["status"]), (StatusCode::OK, &json!("success")), "{}", loaded.text);
    let local = loaded.json()["local_path"].as_str().unwrap().to_owned();
    assert!(std::path::Path::new(&local).join("adapter_config.json").is_file(), "{local}");
    assert_eq!(held(&agent), ["sql"]);
    assert_eq!(post(&paths, "/v1/lora_adapter/load", load).await.status, StatusCode::OK, "once more is fine");
    assert_eq!(place.loads(), 1);

    let models = call(&paths, Method::GET, "/v1/models", Value::Null).await.json();
    let (base, adapter) = (&models["data"][0], &models["data"][1]);
    assert_eq!((&adapter["id"], &adapter["parent"]), (&json!("sql"), &base["id"]));
    assert_eq!(adapter["root"], json!(local));

    let unload = json!({"lora_name": "sql", "cleanup_local": true});
    let unloaded = post(&paths, "/v1/lora_adapter/unload", unload.clone()).await;
    assert_eq!((unloaded.status, &unloaded.json()["status"]), (StatusCode::OK, &json!("success")));
    assert_eq!(place.listed().await, [""; 0], "the engine has let go");
    let again = post(&paths, "/v1/lora_adapter/unload", unload).await;
    assert_eq!((again.status, &again.json()["type"]), (StatusCode::NOT_FOUND, &json!("NotFoundError")));

    // By a path, as its other form has it.
    let path = place.files("code", 2).artifact_url;
    let direct = post(&paths, "/v1/lora_adapter/load", json!({"lora_name": "code", "lora_path": path})).await;
    assert_eq!(
        (direct.status, direct.text.as_str()),
        (StatusCode::OK, "Success: LoRA adapter 'code' added successfully.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_said_as_what_it_is_and_wanted_no_more() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let missing = json!({"lora_name": "sql", "artifact_url": place.path("none").to_str().unwrap()});
    let answer = post(&paths, "/v1/lora_adapter/load", missing).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["type"]), (StatusCode::NOT_FOUND, &json!("NotFoundError")), "{body}");
    assert_eq!((&body["reason"], &body["transient"]), (&json!("ArtifactNotFound"), &json!(false)));
    let broken = place.files("broken", 3).artifact_url;
    std::fs::write(place.path("broken").join("adapter_config.json"), "{").unwrap();
    let answer = post(&paths, "/v1/lora_adapter/load", json!({"lora_name": "sql", "artifact_url": broken})).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (StatusCode::BAD_REQUEST, &json!("ConfigInvalid")));
    until(&agent, "nothing is wanted", |agent| agent.fleet().adapters().items.is_empty()).await;
    for (body, what) in [
        (json!({"lora_name": "sql"}), "neither"),
        (json!({"lora_name": "sql", "artifact_url": "/a", "lora_path": "/b"}), "both"),
        (json!({"lora_name": "sql", "artifact_url": "/a", "unknown": "hunter2"}), "a field that nobody knows"),
        (json!({"lora_name": "sql", "artifact_url": "ftp://hunter2/a"}), "no reference"),
        (json!({"lora_name": "sql", "artifact_url": "relative/path"}), "a relative path"),
        (json!({"lora_name": "sql", "lora_path": "org/name"}), "a path that is none"),
        (json!({"lora_name": "", "artifact_url": "/a"}), "no name"),
        (
            json!({"lora_name": "sql", "artifact_url": "s3://b/a/", "credentials_secret": "../../etc"}),
            "no Secret's name",
        ),
        (
            json!({"lora_name": "sql", "artifact_url": "s3://b/a/", "credentials_secret": "none"}),
            "a Secret that is not there",
        ),
        (json!({"lora_name": "sql", "artifact_url": "/a", "credentials": {"token": ["hunter2"]}}), "a wrong type"),
    ] {
        let answer = post(&paths, "/v1/lora_adapter/load", body).await;
        assert_eq!(
            (answer.status, &answer.json()["object"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("error")),
            "{what}"
        );
        assert!(!answer.text.contains("hunter2"), "{what}: {}", answer.text);
    }
    let download = post(&paths, "/v1/model/download", json!({"model_uri": "s3://b/m"})).await;
    assert_eq!(download.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_what_a_controller_wants_is_not_taken_away_by_another_caller() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let sql = place.files("sql", 1);
    agent.desire(set(1, 1, std::slice::from_ref(&sql))).await.unwrap();
    until(&agent, "it runs", |agent| held(agent) == ["sql"]).await;
    let unload = post(&paths, "/v1/lora_adapter/unload", json!({"lora_name": "sql"})).await;
    assert_eq!((unload.status, &unload.json()["reason"]), (StatusCode::CONFLICT, &json!("WantedByController")));
    let other = place.files("other", 2).artifact_url;
    let load = post(&paths, "/v1/lora_adapter/load", json!({"lora_name": "sql", "artifact_url": other})).await;
    assert_eq!(load.status, StatusCode::CONFLICT);
    let same = json!({"lora_name": "sql", "artifact_url": sql.artifact_url});
    assert_eq!(post(&paths, "/v1/lora_adapter/load", same).await.status, StatusCode::OK);
    assert_eq!(held(&agent), ["sql"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sagemaker_registers_and_unregisters() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let src = place.files("sql", 1).artifact_url;
    let registered = post(&paths, "/adapters", json!({"name": "sql", "src": src, "preload": true, "pin": false})).await;
    assert_eq!((registered.status, registered.text.as_str()), (StatusCode::OK, "Adapter sql registered"));
    assert_eq!(held(&agent), ["sql"]);
    let missing = post(&paths, "/adapters", json!({"name": "none", "src": "/none"})).await;
    assert_eq!((missing.status, &missing.json()["error"]["type"]), (StatusCode::NOT_FOUND, &json!("ArtifactNotFound")));
    assert_eq!(post(&paths, "/adapters", json!({"name": "none"})).await.status, StatusCode::BAD_REQUEST);
    let gone = call(&paths, Method::DELETE, "/adapters/sql", Value::Null).await;
    assert_eq!((gone.status, gone.text.as_str()), (StatusCode::OK, "Adapter sql unregistered"));
    assert_eq!(call(&paths, Method::DELETE, "/adapters/sql", Value::Null).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_is_a_reason_to_come_back_and_probes_ask_for_no_token() {
    let place = Place::new().await;
    let agent = place.start().await;
    until(&agent, "it is ready", Agent::is_ready).await;
    place.sim.kill().await;
    let open = paths(&place, &agent, Guard::open());
    let models = call(&open, Method::GET, "/v1/models", Value::Null).await;
    assert_eq!((models.status, &models.json()["type"]), (StatusCode::BAD_GATEWAY, &json!("ConnectionError")));
    let guarded = paths(&place, &agent, Guard::open().or_token(Secret::new("hunter2")));
    assert_eq!(call(&guarded, Method::GET, "/ready", Value::Null).await.json(), json!({"status": "ready"}));
    let load = post(&guarded, "/v1/lora_adapter/load", json!({"lora_name": "sql", "artifact_url": "/a"})).await;
    assert_eq!(load.status, StatusCode::UNAUTHORIZED);
    assert!(load.headers.get("retry-after").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_name_from_another_place_is_loaded_when_the_engine_has_that_and_not_before() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let load = async |url: String| {
        post(&paths, "/v1/lora_adapter/load", json!({"lora_name": "sql", "artifact_url": url})).await
    };
    let (one, two) = (place.files("one", 1).artifact_url, place.files("two", 2).artifact_url);
    let first = load(one.clone()).await.json()["local_path"].clone();
    let second = load(two.clone()).await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    assert_ne!(second.json()["local_path"], first);
    assert_eq!(place.roots().await, [second.json()["local_path"].as_str().unwrap()]);
    // What cannot be had changes nothing: what was wanted before is wanted and served.
    let broken = place.files("broken", 3).artifact_url;
    std::fs::write(place.path("broken").join("adapter_config.json"), "{").unwrap();
    let failed = load(broken).await;
    assert_eq!(failed.status, StatusCode::BAD_REQUEST, "{}", failed.text);
    assert_eq!(agent.in_force().await.adapters[0].artifact_url, two);
    assert_eq!(load(two).await.status, StatusCode::OK, "and an old failure is not told of it");
    assert_eq!(place.roots().await, [second.json()["local_path"].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wanted_an_adapter_is_known_after_a_restart_too() {
    let place = Place::new().await;
    let agent = place.start().await;
    agent.desire(set(1, 1, &[place.files("ours", 1)])).await.unwrap();
    let asked = json!({"lora_name": "theirs", "artifact_url": place.files("theirs", 2).artifact_url});
    assert_eq!(
        post(&paths(&place, &agent, Guard::open()), "/v1/lora_adapter/load", asked).await.status,
        StatusCode::OK
    );
    until(&agent, "both run", |agent| held(agent).len() == 2).await;
    let record = place.path("record.json");
    let both = |text: String| text.matches("sha256:").count() == 2;
    until(&agent, "both are kept", |_| std::fs::read_to_string(&record).is_ok_and(both)).await;
    drop(agent);
    let agent = place.start().await;
    until(&agent, "both are there", |agent| held(agent).len() == 2).await;
    let paths = paths(&place, &agent, Guard::open());
    let unload = post(&paths, "/v1/lora_adapter/unload", json!({"lora_name": "ours"})).await;
    assert_eq!(unload.status, StatusCode::CONFLICT, "{}", unload.text);
    agent.desire(set(1, 2, &[])).await.unwrap();
    until(&agent, "the leader's has gone", |agent| held(agent) == ["theirs"]).await;
    let unload = post(&paths, "/v1/lora_adapter/unload", json!({"lora_name": "theirs"})).await;
    assert_eq!(unload.status, StatusCode::OK, "{}", unload.text);
    assert_eq!(place.loads(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaders_word_for_a_name_is_the_last() {
    let place = Place::new().await;
    let agent = place.start().await;
    let paths = paths(&place, &agent, Guard::open());
    let asked = json!({"lora_name": "sql", "artifact_url": place.files("theirs", 1).artifact_url});
    assert_eq!(post(&paths, "/v1/lora_adapter/load", asked).await.status, StatusCode::OK);
    agent.desire(set(1, 1, &[place.files("sql", 2)])).await.unwrap();
    let unload = post(&paths, "/v1/lora_adapter/unload", json!({"lora_name": "sql"})).await;
    assert_eq!(unload.status, StatusCode::CONFLICT);
    agent.desire(set(1, 2, &[])).await.unwrap();
    until(&agent, "nothing comes back", |agent| agent.fleet().adapters().items.is_empty()).await;
    assert!(agent.in_force().await.adapters.is_empty());
}
