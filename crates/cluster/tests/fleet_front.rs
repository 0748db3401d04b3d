//! The fleet API of several replicas, one of which leads: over real sockets, since that is what lies between them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use axum::routing::any;
use http_body_util::BodyExt;
use longshore_api::fleet::{Adapter, AdapterList, Demand, ErrorBody};
use longshore_cluster::fleet::{FleetApi, FleetStore, Front, Guard, OPENAPI, Where};
use longshore_types::Secret;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A replica that leads, at an address.
struct Leader {
    store: Arc<FleetStore>,
    demand: mpsc::Receiver<Demand>,
    front: Front,
    address: SocketAddr,
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn front() -> Front {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Front::new().unwrap()
}

fn guard() -> Guard {
    Guard::open().or_token(Secret::new("hunter2"))
}

async fn leader() -> Leader {
    let store = Arc::new(FleetStore::new());
    store.put_adapter(Adapter { namespace: "default".into(), name: "sql".into(), ..Adapter::default() });
    store.open();
    let (sender, demand) = mpsc::channel(1);
    let front = front();
    front.turn(Where::Here(FleetApi::new(store.clone(), sender)));
    let address = serve(front.router(guard())).await;
    Leader { store, demand, front, address }
}

fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer hunter2");
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn ask(front: &Front, request: Request<Body>) -> Response {
    front.router(guard()).oneshot(request).await.unwrap()
}

async fn text(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn no_leader(response: Response) {
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, body) = text(response).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(serde_json::from_str::<ErrorBody>(&body).unwrap().error.code, "NoLeader");
}

#[tokio::test]
async fn a_replica_that_follows_answers_as_the_leader_does() {
    let mut leader = leader().await;
    let follower = front();
    follower.turn(Where::There(leader.address));
    let paths = [
        "/v1/adapters?namespace=default",
        "/v1/adapters/sql",
        "/v1/adapters/none",
        "/v1/adapters?phase=x",
        "/v1/engines/127.0.0.1%3A8001",
        "/v1/nowhere",
    ];
    let found = text(ask(&leader.front, request("GET", "/v1/adapters/sql", "")).await).await;
    assert_eq!(found.0, StatusCode::OK, "{}", found.1);
    for path in paths {
        let here = text(ask(&leader.front, request("GET", path, "")).await).await;
        let there = text(ask(&follower, request("GET", path, "")).await).await;
        assert_eq!(here, there, "{path}");
    }
    assert_eq!(ask(&follower, request("DELETE", "/v1/adapters", "")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    let report = r#"{"router":"r","missing":[{"namespace":"default","name":"sql","pod":"p"}]}"#;
    assert_eq!(ask(&follower, request("POST", "/v1/demand", report)).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(leader.demand.recv().await.unwrap().missing[0].pod, "p");
    let large = "r".repeat((1 << 20) + 1);
    assert_eq!(ask(&follower, request("POST", "/v1/demand", &large)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_watch_streams_through_a_follower_and_ends_where_another_leads() {
    let leader = leader().await;
    let follower = front();
    follower.turn(Where::There(leader.address));
    let response = ask(&follower, request("GET", "/v1/adapters?watch=1", "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut chunk = async || {
        let bytes = body.frame().await?.map(|frame| frame.into_data().unwrap());
        Some(bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()))
    };
    assert!(chunk().await.unwrap().unwrap().starts_with("event: snapshot"));
    leader.store.put_adapter(Adapter { name: "code".into(), ..Adapter::default() });
    assert!(chunk().await.unwrap().unwrap().starts_with("event: upsert"));
    follower.turn(Where::There(leader.address));
    leader.store.remove_adapter("", "code");
    assert!(chunk().await.unwrap().unwrap().starts_with("event: delete"), "told the same again, it goes on");
    follower.turn(Where::Nobody);
    assert!(chunk().await.unwrap().is_err());
}

#[tokio::test]
async fn without_a_leader_that_answers_clients_are_told_to_come_back() {
    let follower = front();
    no_leader(ask(&follower, request("GET", "/v1/adapters", "")).await).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    follower.turn(Where::There(gone));
    no_leader(ask(&follower, request("GET", "/v1/adapters", "")).await).await;
}

#[tokio::test]
async fn a_request_is_passed_on_once_at_most() {
    let (a, b) = (front(), front());
    let there = [serve(a.router(guard())).await, serve(b.router(guard())).await];
    a.turn(Where::There(there[1]));
    b.turn(Where::There(there[0]));
    no_leader(ask(&a, request("GET", "/v1/adapters", "")).await).await;
    a.turn(Where::There(there[0]));
    no_leader(ask(&a, request("GET", "/v1/adapters", "")).await).await;
}

#[tokio::test]
async fn what_is_passed_on_carries_the_callers_token_and_nothing_of_the_connection() {
    let seen = Arc::new(Mutex::new(HeaderMap::new()));
    let spy = seen.clone();
    let leader = any(move |headers: HeaderMap| async move {
        *spy.lock().unwrap() = headers;
        [("connection", "x-private"), ("x-private", "1"), ("x-public", "2")]
    });
    let follower = front();
    follower.turn(Where::There(serve(Router::new().fallback_service(leader)).await));
    let mut asked = request("GET", "/v1/adapters", "");
    for (name, value) in [("connection", "close, x-mine"), ("x-mine", "1"), ("last-event-id", "7"), ("host", "service")]
    {
        asked.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = ask(&follower, asked).await;
    assert_eq!(answer.headers()["x-public"], "2");
    assert!(!answer.headers().contains_key("x-private"));
    let seen = seen.lock().unwrap();
    assert_eq!(
        (&seen["authorization"], &seen["last-event-id"]),
        (&"Bearer hunter2".parse().unwrap(), &"7".parse().unwrap())
    );
    assert!(!seen.contains_key("x-mine"));
    assert_ne!(seen["host"], "service");
}

#[tokio::test]
async fn nobody_gets_past_a_follower_whom_it_does_not_know_or_out_of_the_api() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let spy = asked.clone();
    let leader = any(move |request: Request<Body>| async move { spy.lock().unwrap().push(request.uri().to_string()) });
    let follower = front();
    follower.turn(Where::There(serve(Router::new().fallback_service(leader)).await));
    let stranger = Request::get("/v1/adapters").header("authorization", "Bearer guess").body(Body::empty()).unwrap();
    assert_eq!(ask(&follower, stranger).await.status(), StatusCode::UNAUTHORIZED);
    for path in ["/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/adapters/../../livez", "/v2/adapters"] {
        assert_eq!(ask(&follower, request("GET", path, "")).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn every_replica_describes_the_api() {
    assert_eq!(
        text(ask(&front(), request("GET", "/openapi.json", "")).await).await,
        (StatusCode::OK, OPENAPI.to_owned())
    );
}

#[tokio::test]
async fn a_replica_that_begins_to_lead_answers_from_its_own_store() {
    let front = front();
    let routes = front.router(guard());
    let ask = async || text(routes.clone().oneshot(request("GET", "/v1/adapters", "")).await.unwrap()).await;
    assert_eq!(ask().await.0, StatusCode::SERVICE_UNAVAILABLE);
    let store = Arc::new(FleetStore::new());
    front.turn(Where::Here(FleetApi::new(store.clone(), mpsc::channel(1).0)));
    let (status, body) = ask().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        serde_json::from_str::<ErrorBody>(&body).unwrap().error.code,
        "Unavailable",
        "its lists are not there yet"
    );
    store.open();
    let (status, body) = ask().await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<AdapterList>(&body).unwrap().adapters, []);
}
