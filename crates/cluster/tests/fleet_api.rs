//! The fleet API as its clients see it, in process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use longshore_api::fleet::{self, Adapter, AdapterList, Demand, Engine, EngineList, ErrorBody, PlacementList};
use longshore_cluster::fleet::{FleetApi, FleetStore, OPENAPI, router};
use longshore_types::Secret;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tower::ServiceExt;

struct Fleet {
    store: Arc<FleetStore>,
    demand: mpsc::Receiver<Demand>,
    router: Router,
}

/// A fleet of two adapters, one of them in two namespaces, and one engine.
fn fleet() -> Fleet {
    let store = Arc::new(FleetStore::new());
    let (sender, demand) = mpsc::channel(1);
    for (namespace, name, base, phase) in [
        ("default", "sql", "tiny", "Running"),
        ("default", "code", "tiny", "Failed"),
        ("team-b", "sql", "big", "Running"),
    ] {
        store.put_adapter(adapter(namespace, name, base, phase));
    }
    store.put_engine(Engine { engine: "127.0.0.1:8001".into(), namespace: "default".into(), ..Engine::default() });
    store.open();
    let router = router(FleetApi::new(store.clone(), sender));
    Fleet { store, demand, router }
}

fn adapter(namespace: &str, name: &str, base: &str, phase: &str) -> Adapter {
    let pod = fleet::Placement { pod: "127.0.0.1:8001".into(), state: "loaded".into(), ..fleet::Placement::default() };
    Adapter {
        namespace: namespace.into(),
        name: name.into(),
        base_model: Some(base.into()),
        phase: phase.into(),
        endpoints: if phase == "Running" { vec![pod] } else { vec![] },
        ..Adapter::default()
    }
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, String) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn ok<T: DeserializeOwned>(router: &Router, path: &str) -> T {
    let (status, body) = send(router, get(path)).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The code and message of an error answer.
async fn refused(router: &Router, request: Request<Body>, expected: StatusCode) -> (String, String) {
    let shown = format!("{} {}", request.method(), request.uri());
    let (status, body) = send(router, request).await;
    assert_eq!(status, expected, "{shown}: {body}");
    let body: ErrorBody = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{shown}: {error}: {body}"));
    (body.error.code, body.error.message)
}

fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/demand").body(body.into()).unwrap()
}

/// One server-sent event: its name, its id, its data. A comment has neither.
async fn event(body: &mut Body) -> (String, String, String) {
    let frame = body.frame().await.expect("the watch goes on").unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "one event per frame: {text:?}");
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    (field("event"), field("id"), field("data"))
}

async fn watch(router: &Router, path: &str, last: Option<&str>) -> Body {
    let mut request = Request::get(path);
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

fn names(list: &AdapterList) -> Vec<String> {
    list.adapters.iter().map(|adapter| format!("{}/{}", adapter.namespace, adapter.name)).collect()
}

#[tokio::test]
async fn adapters_are_listed_by_every_filter() {
    let fleet = fleet();
    for (query, expected) in [
        ("", vec!["default/code", "default/sql", "team-b/sql"]),
        ("?baseModel=tiny", vec!["default/code", "default/sql"]),
        ("?namespace=team-b", vec!["team-b/sql"]),
        ("?phase=Running", vec!["default/sql", "team-b/sql"]),
        ("?phase=Running&baseModel=tiny&namespace=default&watch=0", vec!["default/sql"]),
        ("?baseModel=none", vec![]),
    ] {
        let list: AdapterList = ok(&fleet.router, &format!("/v1/adapters{query}")).await;
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[tokio::test]
async fn the_revision_changes_with_what_is_listed_and_only_then() {
    let fleet = fleet();
    let first: AdapterList = ok(&fleet.router, "/v1/adapters").await;
    fleet.store.put_engine(Engine { engine: "other".into(), ..Engine::default() });
    let second: AdapterList = ok(&fleet.router, "/v1/adapters").await;
    assert_eq!(first.revision, second.revision);
    fleet.store.remove_adapter("default", "code");
    let third: AdapterList = ok(&fleet.router, "/v1/adapters").await;
    assert_ne!(second.revision, third.revision);
}

#[tokio::test]
async fn one_adapter_is_found_by_its_name_and_where_needed_its_namespace() {
    let fleet = fleet();
    let one: Adapter = ok(&fleet.router, "/v1/adapters/code").await;
    assert_eq!(one.name, "code");
    let one: Adapter = ok(&fleet.router, "/v1/adapters/sql?namespace=team-b").await;
    assert_eq!(one.base_model.as_deref(), Some("big"));
    let (code, message) = refused(&fleet.router, get("/v1/adapters/sql"), StatusCode::CONFLICT).await;
    assert_eq!(code, "Conflict");
    assert!(message.contains("default, team-b"), "{message}");
    for path in ["/v1/adapters/none", "/v1/adapters/code?namespace=team-b"] {
        assert_eq!(refused(&fleet.router, get(path), StatusCode::NOT_FOUND).await.0, "NotFound");
    }
}

#[tokio::test]
async fn the_pods_of_an_adapter_are_those_that_have_confirmed_it() {
    let fleet = fleet();
    let list: PlacementList = ok(&fleet.router, "/v1/adapters/sql/pods?namespace=default").await;
    assert_eq!(list.pods.len(), 1);
    assert_eq!((list.pods[0].pod.as_str(), list.pods[0].state.as_str()), ("127.0.0.1:8001", "loaded"));
    let list: PlacementList = ok(&fleet.router, "/v1/adapters/code/pods").await;
    assert_eq!(list.pods, []);
    refused(&fleet.router, get("/v1/adapters/sql/pods"), StatusCode::CONFLICT).await;
    refused(&fleet.router, get("/v1/adapters/none/pods"), StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn engines_are_listed_and_found() {
    let fleet = fleet();
    let list: EngineList = ok(&fleet.router, "/v1/engines").await;
    assert_eq!(list.engines.len(), 1);
    let one: Engine = ok(&fleet.router, "/v1/engines/127.0.0.1:8001").await;
    assert_eq!(one.engine, "127.0.0.1:8001");
    let one: Engine = ok(&fleet.router, "/v1/engines/127.0.0.1%3A8001?namespace=default").await;
    assert_eq!(one.namespace, "default");
    refused(&fleet.router, get("/v1/engines/none"), StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn a_parameter_that_is_unknown_or_wrong_or_given_twice_is_named() {
    let fleet = fleet();
    for (path, named) in [
        ("/v1/adapters?basemodel=x", "basemodel"),
        ("/v1/adapters?phase=running", "running"),
        ("/v1/adapters?watch=yes", "yes"),
        ("/v1/adapters?namespace=a&namespace=b", "namespace"),
        ("/v1/adapters/sql?phase=Running", "phase"),
        ("/v1/adapters/sql/pods?watch=1", "watch"),
        ("/v1/engines?baseModel=x", "baseModel"),
        ("/v1/engines/127.0.0.1:8001?x", "x"),
        ("/openapi.json?pretty=1", "pretty"),
    ] {
        let (code, message) = refused(&fleet.router, get(path), StatusCode::BAD_REQUEST).await;
        assert_eq!(code, "BadRequest");
        assert!(message.contains(&format!("{named:?}")), "{path}: {message}");
    }
}

#[tokio::test]
async fn every_error_has_the_same_form() {
    let fleet = fleet();
    assert_eq!(refused(&fleet.router, get("/v2/adapters"), StatusCode::NOT_FOUND).await.0, "NotFound");
    let delete = Request::builder().method(Method::DELETE).uri("/v1/adapters").body(Body::empty()).unwrap();
    assert_eq!(refused(&fleet.router, delete, StatusCode::METHOD_NOT_ALLOWED).await.0, "MethodNotAllowed");
}

#[tokio::test]
async fn until_the_fleet_is_known_it_is_not_shown_as_an_empty_one() {
    let (sender, _demand) = mpsc::channel(1);
    let store = Arc::new(FleetStore::new());
    let router = router(FleetApi::new(store.clone(), sender));
    for path in ["/v1/adapters", "/v1/adapters?watch=1", "/v1/adapters/sql", "/v1/engines"] {
        assert_eq!(refused(&router, get(path), StatusCode::SERVICE_UNAVAILABLE).await.0, "Unavailable");
    }
    store.open();
    assert_eq!(ok::<AdapterList>(&router, "/v1/adapters").await.adapters, []);
}

#[tokio::test]
async fn a_watch_begins_with_the_listing_and_tells_each_change_with_its_revision() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", None).await;
    let (name, id, data) = event(&mut body).await;
    assert_eq!(name, "snapshot");
    let list: AdapterList = serde_json::from_str(&data).unwrap();
    assert_eq!(list.adapters.len(), 3);
    assert_eq!(list.revision, id);

    fleet.store.put_adapter(adapter("default", "code", "tiny", "Running"));
    let (name, id, data) = event(&mut body).await;
    assert_eq!(name, "upsert");
    assert_eq!(serde_json::from_str::<Adapter>(&data).unwrap().phase, "Running");
    assert_eq!(id, ok::<AdapterList>(&fleet.router, "/v1/adapters").await.revision);

    fleet.store.remove_adapter("default", "code");
    let (name, _, data) = event(&mut body).await;
    assert_eq!(name, "delete");
    assert_eq!(data, r#"{"namespace":"default","name":"code"}"#);
}

#[tokio::test]
async fn a_filtered_watch_tells_what_stops_matching_as_deleted() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1&phase=Running&namespace=default", None).await;
    let (_, _, data) = event(&mut body).await;
    assert_eq!(names(&serde_json::from_str(&data).unwrap()), ["default/sql"]);
    fleet.store.put_adapter(adapter("team-b", "sql", "big", "Failed"));
    fleet.store.put_adapter(adapter("default", "sql", "tiny", "Failed"));
    let (name, _, data) = event(&mut body).await;
    assert_eq!((name.as_str(), data.as_str()), ("delete", r#"{"namespace":"default","name":"sql"}"#));
}

#[tokio::test]
async fn a_watch_is_resumed_from_the_last_event_and_from_a_strange_one_with_a_snapshot() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", None).await;
    let (_, id, _) = event(&mut body).await;
    drop(body);
    fleet.store.put_adapter(adapter("default", "code", "tiny", "Running"));
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", Some(&id)).await;
    assert_eq!(event(&mut body).await.0, "upsert");
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", Some("of-another-process-7")).await;
    assert_eq!(event(&mut body).await.0, "snapshot");
}

#[tokio::test]
async fn engines_are_watched_likewise() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/engines?watch=1", None).await;
    let (name, _, data) = event(&mut body).await;
    assert_eq!(name, "snapshot");
    assert_eq!(serde_json::from_str::<EngineList>(&data).unwrap().engines.len(), 1);
    fleet.store.remove_engine("default", "127.0.0.1:8001");
    let (name, _, data) = event(&mut body).await;
    assert_eq!((name.as_str(), data.as_str()), ("delete", r#"{"namespace":"default","name":"127.0.0.1:8001"}"#));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_kept_alive_by_a_comment() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", None).await;
    event(&mut body).await;
    let before = tokio::time::Instant::now();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(frame.starts_with(b":"), "{frame:?}");
    assert_eq!(before.elapsed().as_secs(), 15, "in paused time this is exact");
}

#[tokio::test]
async fn closing_the_store_ends_a_watch() {
    let fleet = fleet();
    let mut body = watch(&fleet.router, "/v1/adapters?watch=1", None).await;
    event(&mut body).await;
    fleet.store.close();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn demand_is_passed_on() {
    let mut fleet = fleet();
    let report = r#"{"router":"r","missing":[{"namespace":"default","name":"sql","pod":"127.0.0.1:8001"}],
        "adapters":[{"namespace":"default","name":"sql","requests":2,"inFlight":1,"waiting":0}]}"#;
    assert_eq!(send(&fleet.router, post(report)).await, (StatusCode::NO_CONTENT, String::new()));
    let demand = fleet.demand.try_recv().unwrap();
    assert_eq!(demand.missing[0].pod, "127.0.0.1:8001");
    assert_eq!(demand.adapters[0].in_flight, 1);
}

#[tokio::test]
async fn a_report_that_is_no_report_is_refused_and_not_passed_on() {
    let mut fleet = fleet();
    for bad in [
        "",
        "[]",
        "{",
        r#"{"adapters":[]}"#,
        r#"{"router":"r","unknown":1}"#,
        r#"{"router":"r","adapters":[{"namespace":"default","name":"sql","requests":-1}]}"#,
        r#"{"router":"r","missing":[{"namespace":"default","name":"../sql","pod":"p"}]}"#,
        r#"{"router":"r","missing":[{"namespace":"Default","name":"sql","pod":"p"}]}"#,
    ] {
        assert_eq!(refused(&fleet.router, post(bad), StatusCode::BAD_REQUEST).await.0, "BadRequest", "{bad}");
    }
    let large = format!(r#"{{"router":"{}"}}"#, "r".repeat(2 << 20));
    refused(&fleet.router, post(large), StatusCode::PAYLOAD_TOO_LARGE).await;
    assert!(fleet.demand.try_recv().is_err());
}

#[tokio::test]
async fn i11_reports_that_nobody_takes_are_refused_instead_of_waited_for() {
    let fleet = fleet();
    assert_eq!(send(&fleet.router, post(r#"{"router":"r"}"#)).await.0, StatusCode::NO_CONTENT);
    refused(&fleet.router, post(r#"{"router":"r"}"#), StatusCode::SERVICE_UNAVAILABLE).await;
}

#[tokio::test]
async fn with_a_token_only_its_bearer_is_answered() {
    let fleet = fleet();
    let (sender, _demand) = mpsc::channel(1);
    let router = router(FleetApi::new(fleet.store.clone(), sender).with_token(Secret::new("hunter2")));
    for wrong in [None, Some("Bearer hunter"), Some("Basic hunter2"), Some("hunter2"), Some("Bearer ")] {
        for path in ["/v1/adapters", "/openapi.json", "/nowhere"] {
            let mut request = Request::get(path);
            if let Some(wrong) = wrong {
                request = request.header("authorization", wrong);
            }
            let (code, message) =
                refused(&router, request.body(Body::empty()).unwrap(), StatusCode::UNAUTHORIZED).await;
            assert_eq!(code, "Unauthorized");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
    for right in ["Bearer hunter2", "bearer hunter2"] {
        let request = Request::get("/v1/adapters").header("authorization", right).body(Body::empty()).unwrap();
        assert_eq!(send(&router, request).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_path_that_is_served() {
    let fleet = fleet();
    let document: serde_json::Value = ok(&fleet.router, "/openapi.json").await;
    assert_eq!(document, serde_json::from_str::<serde_json::Value>(OPENAPI).unwrap());
    let paths = document["paths"].as_object().unwrap();
    let served = [
        "/openapi.json",
        "/v1/adapters",
        "/v1/adapters/{name}",
        "/v1/adapters/{name}/pods",
        "/v1/demand",
        "/v1/engines",
        "/v1/engines/{engine}",
    ];
    assert_eq!(paths.keys().collect::<Vec<_>>(), served);
    for (path, operations) in paths {
        let path = path.replace("{name}", "code").replace("{engine}", "127.0.0.1:8001");
        let (method, body) = if operations.get("post").is_some() {
            (Method::POST, Body::from(r#"{"router":"r"}"#))
        } else {
            (Method::GET, Body::empty())
        };
        let request = Request::builder().method(method).uri(&path).body(body).unwrap();
        assert!(send(&fleet.router, request).await.0.is_success(), "{path}");
    }
}

/// The fields that a wire type writes, which is all of them: none is ever left out.
fn fields<T: serde::Serialize + Default>() -> Vec<String> {
    let value = serde_json::to_value(T::default()).unwrap();
    let mut fields: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    fields
}

#[test]
fn the_openapi_document_has_every_field_of_every_wire_type_and_no_other() {
    let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let types = [
        ("AdapterList", fields::<AdapterList>()),
        ("EngineList", fields::<EngineList>()),
        ("PlacementList", fields::<PlacementList>()),
        ("Adapter", fields::<Adapter>()),
        ("Fetching", fields::<fleet::Fetching>()),
        ("AdapterEngine", fields::<fleet::AdapterEngine>()),
        ("Placement", fields::<fleet::Placement>()),
        ("Engine", fields::<Engine>()),
        ("Resident", fields::<fleet::Resident>()),
        ("Load", fields::<fleet::Load>()),
        ("Gone", fields::<fleet::Gone>()),
        ("Demand", fields::<Demand>()),
        ("AdapterDemand", fields::<fleet::AdapterDemand>()),
        ("Missing", fields::<fleet::Missing>()),
        ("ErrorBody", fields::<ErrorBody>()),
        ("ErrorDetail", fields::<fleet::ErrorDetail>()),
    ];
    assert_eq!(types.len(), schemas.len());
    for (name, fields) in types {
        let mut described: Vec<_> = schemas[name]["properties"].as_object().unwrap().keys().cloned().collect();
        described.sort();
        assert_eq!(described, fields, "{name}");
    }
    // Every reference leads somewhere.
    for reference in OPENAPI.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
}
