//! A router by a cluster's EndpointSlices, from the request to the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use longshore_api::fleet;
use longshore_proxy::{KubeConfig, Proxy, ProxyConfig, Token};
use longshore_types::Secret;
use serde_json::{Value, json};

use super::api_server::{ApiServer, Watching, next_call};
use super::controller::{Controller, next, snapshot, upsert};
use super::kube_source::{self, Running};
use super::support::*;

/// A cluster as the router sees it, and the router.
struct World {
    server: ApiServer,
    source: Running,
    router: Router,
    slices: Watching,
}

impl World {
    /// A cluster with these slices, and a Service of the controller with this slice.
    async fn start(slices: &[Value], replicas: &[Value]) -> Self {
        let mut server = ApiServer::start();
        let config = KubeConfig {
            token: Some(Token::Fixed(Secret::new("t0ken"))),
            router: "router-1".into(),
            max_pause: Duration::from_millis(20),
            ..kube_source::config()
        };
        let mut source = Running::start(&server, config);
        next_call(&mut server.replicas).await.list("1", replicas);
        next_call(&mut server.slices).await.list("1", slices);
        let slices = next_call(&mut server.slices).await.watch();
        source.synced.wait_for(|synced| *synced).await.unwrap();
        // No test is so slow that an engine is asked again because time has passed.
        let config = ProxyConfig { distrust: PATIENCE * 10, ..ProxyConfig::default() };
        let proxy = Proxy::new(config, source.tables.clone(), Some(source.missing.clone()));
        let router = Router::with(proxy).await;
        Self { server, source, router, slices }
    }

    /// Says that this is the slice now, and waits until the router knows.
    async fn put(&mut self, slice: &Value) {
        self.source.tables.borrow_and_update();
        self.slices.event("MODIFIED", "2", slice);
        tokio::time::timeout(PATIENCE, self.source.tables.changed()).await.expect("the table changes").unwrap();
    }
}

/// The adapter `sql` on this engine, or on none at its port.
fn sql(engine: &Engine, there: bool) -> Value {
    let engines = [engine.name];
    kube_source::slice("sql", engine.address.port(), if there { &engines } else { &[] })
}

/// The slice of a Service with these controllers.
fn service(controllers: &[&Controller]) -> Vec<Value> {
    let slice = |(n, controller): (usize, &&Controller)| {
        let port: u16 = controller.url.rsplit(':').next().unwrap().parse().unwrap();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("longshore-controller-{n}"), "namespace": "longshore-system"},
            "addressType": "IPv4",
            "ports": [{"name": "fleet", "port": port}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        })
    };
    controllers.iter().enumerate().map(slice).collect()
}

#[tokio::test]
async fn an_endpoint_that_goes_is_left_and_one_that_comes_is_used() {
    let (mut e1, e2) = (Engine::ok("e1").await, Engine::ok("e2").await);
    let mut world = World::start(&[sql(&e1, true)], &[]).await;
    let answered = world.router.ask("sql").await;
    assert_eq!((answered.text(), answered.header("x-longshore-adapter")), ("e1", Some("sql@abababababab")));
    world.put(&sql(&e2, true)).await;
    world.put(&sql(&e1, false)).await;
    e1.asked_so_far();
    for _ in 0..10 {
        assert_eq!(world.router.ask("sql").await.text(), "e2");
    }
    assert_eq!(e1.asked_so_far().len(), 0);
    world.put(&sql(&e2, false)).await;
    assert_eq!(world.router.ask("sql").await.error(), (503, "adapter_not_ready".to_owned()));
}

#[tokio::test]
async fn i1_an_engine_that_lacks_the_adapter_is_reported_at_once_and_asked_again_when_it_is_published_anew() {
    let has_it = Arc::new(AtomicBool::new(false));
    let mut e1 = Engine::with("e1", {
        let has_it = has_it.clone();
        move |_| {
            let has_it = has_it.load(Ordering::SeqCst);
            async move { if has_it { answer(StatusCode::OK, "e1") } else { lacks("sql") } }
        }
    })
    .await;
    let e2 = Engine::ok("e2").await;
    let mut controller = Controller::start().await;
    let mut world = World::start(&[sql(&e1, true), sql(&e2, true)], &service(&[&controller])).await;
    // Asked first about every other time: that it is never in thirty requests happens once in 10^9 runs.
    for _ in 0..30 {
        assert_eq!(world.router.ask("sql").await.text(), "e2");
    }
    assert_eq!(e1.asked_so_far().len(), 1, "it is left out");
    let call = next(&mut controller.demand).await;
    assert_eq!(call.headers["authorization"], "Bearer t0ken");
    let report: fleet::Demand = serde_json::from_slice(&call.body).unwrap();
    let missing = fleet::Missing { namespace: "default".into(), name: "sql".into(), pod: "e1".into() };
    assert_eq!((report.router.as_str(), report.missing), ("router-1", vec![missing]));
    // The controller has listed it, loaded it again, and publishes it anew.
    has_it.store(true, Ordering::SeqCst);
    world.put(&sql(&e1, false)).await;
    world.put(&sql(&e2, false)).await;
    world.put(&sql(&e1, true)).await;
    assert_eq!(world.router.ask("sql").await.text(), "e1");
}

#[tokio::test]
async fn a_report_goes_to_the_next_replica_where_one_does_not_take_it() {
    let e1 = Engine::with("e1", |_| async { lacks("sql") }).await;
    let (mut one, mut other) = (Controller::start().await, Controller::start().await);
    let world = World::start(&[sql(&e1, true)], &service(&[&one, &other])).await;
    // Known to the router once it follows one of them.
    let followed = tokio::time::timeout(PATIENCE, async {
        tokio::select! { call = one.adapters.recv() => call, call = other.adapters.recv() => call }
    });
    let _events = followed.await.unwrap().unwrap().stream();
    assert_eq!(world.router.ask("sql").await.error(), (503, "engine_unavailable".to_owned()));
    let mut refused = 0;
    let both = tokio::time::timeout(PATIENCE, async {
        while refused < 2 {
            let call = tokio::select! { call = one.demand.recv() => call, call = other.demand.recv() => call };
            call.unwrap().refuse(503);
            refused += 1;
        }
    });
    both.await.expect("both are told");
}

#[tokio::test]
async fn what_is_declared_and_not_ready_says_why_and_the_last_that_was_heard_stays() {
    let e1 = Engine::ok("e1").await;
    let mut controller = Controller::start().await;
    let mut world = World::start(&[sql(&e1, true)], &service(&[&controller])).await;
    let call = next(&mut controller.adapters).await;
    assert_eq!(
        (call.path.as_str(), call.headers["authorization"].to_str().unwrap()),
        ("/v1/adapters?watch=1", "Bearer t0ken")
    );
    let events = call.stream();
    world.source.tables.borrow_and_update();
    events.send(snapshot("7", &["poet", "sql"])).unwrap();
    tokio::time::timeout(PATIENCE, world.source.tables.changed()).await.unwrap().unwrap();
    let said = world.router.ask("poet").await;
    assert_eq!(said.error(), (503, "adapter_not_ready".to_owned()));
    assert!(said.message().contains("Loading"), "{}", said.message());
    assert_eq!(world.router.ask("sql").await.text(), "e1", "whatever the controller says of it");
    assert_eq!(world.router.ask("ghost").await.status, 404);
    assert_eq!(world.source.measured(r#"source_connected{list="adapters"}"#), Some(1));
    // The replica dies and its pod is gone; the next one is found by the Service and asked to go on from there.
    let mut next_one = Controller::start().await;
    let replicas = next_call(&mut world.server.replicas).await.watch();
    drop((events, controller));
    let mut slice = service(&[&next_one]).remove(0);
    slice["metadata"]["resourceVersion"] = "2".into();
    replicas.event("MODIFIED", "2", &slice);
    let call = next(&mut next_one.adapters).await;
    assert_eq!(call.last_event_id(), Some("7"));
    assert_eq!(world.router.ask("poet").await.error(), (503, "adapter_not_ready".to_owned()), "as it was last heard");
    let events = call.stream();
    world.source.tables.borrow_and_update();
    events.send(upsert("8", "later")).unwrap();
    tokio::time::timeout(PATIENCE, world.source.tables.changed()).await.unwrap().unwrap();
    assert_eq!(world.router.ask("later").await.error(), (503, "adapter_not_ready".to_owned()));
}

#[tokio::test]
async fn a_replica_that_takes_no_requests_any_more_is_left_though_its_connection_lives() {
    let (mut frozen, mut alive) = (Controller::start().await, Controller::start().await);
    let mut world = World::start(&[], &service(&[&frozen])).await;
    let events = next(&mut frozen.adapters).await.stream();
    let replicas = next_call(&mut world.server.replicas).await.watch();
    replicas.event("MODIFIED", "2", &service(&[&alive])[0]);
    next(&mut alive.adapters).await;
    tokio::time::timeout(PATIENCE, events.closed()).await.expect("the frozen one is left");
}
