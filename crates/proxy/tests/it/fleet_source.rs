use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use longshore_api::fleet;
use longshore_proxy::{FleetConfig, FleetSource, Missing, TableSource, Token};
use longshore_routing::Table;
use longshore_types::{Boot, EngineId, Namespace, Secret};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::controller::{Controller, next, snapshot, upsert};
use super::support::{PATIENCE, answer};

fn config(controller: &Controller) -> FleetConfig {
    FleetConfig { max_pause: Duration::from_millis(20), ..FleetConfig::new(controller.url.parse().unwrap()) }
}

/// A running source.
struct Running {
    tables: watch::Receiver<Arc<Table>>,
    synced: watch::Receiver<bool>,
    missing: mpsc::Sender<Missing>,
    status: longshore_proxy::SourceStatus,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Infallible>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    fn start(config: FleetConfig) -> Self {
        let source = FleetSource::new(config);
        let stop = CancellationToken::new();
        Self {
            tables: source.tables(),
            synced: source.synced(),
            missing: source.missing(),
            status: source.status(),
            task: tokio::spawn(source.run(stop.clone())),
            stop,
        }
    }

    /// The names of the adapters in the table, once they are these.
    async fn has(&mut self, names: &[&str]) {
        let are_these =
            |table: &Arc<Table>| table.adapters().map(|route| route.name.as_str()).eq(names.iter().copied());
        let waited = tokio::time::timeout(PATIENCE, self.tables.wait_for(are_these)).await.is_ok();
        assert!(waited, "waited for {names:?} in {:?}", self.tables.borrow());
    }
}

fn engines() -> String {
    let engine = fleet::Engine {
        engine: "e1".into(),
        namespace: "default".into(),
        url: "http://127.0.0.1:1".into(),
        kind: "vllm".into(),
        base_model: Some("tiny".into()),
        ready: true,
        ..fleet::Engine::default()
    };
    let list = fleet::EngineList { revision: "e-1".into(), engines: vec![engine] };
    format!("event: snapshot\nid: e-1\ndata: {}\n\n", serde_json::to_string(&list).unwrap())
}

fn delete(id: &str, name: &str) -> String {
    format!("event: delete\nid: {id}\ndata: {{\"namespace\":\"default\",\"name\":\"{name}\"}}\n\n")
}

#[tokio::test]
async fn the_table_follows_both_lists() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(config(&controller));
    let call = next(&mut controller.adapters).await;
    assert_eq!((call.path.as_str(), call.last_event_id()), ("/v1/adapters?watch=1", None));
    let adapters = call.stream();
    adapters.send(snapshot("1", &["a", "b"])).unwrap();
    let call = next(&mut controller.engines).await;
    assert_eq!(call.path, "/v1/engines?watch=1");
    assert!(!*running.synced.borrow(), "half of the truth is none");
    let engine_events = call.stream();
    engine_events.send(engines()).unwrap();
    running.has(&["a", "b"]).await;
    tokio::time::timeout(PATIENCE, running.synced.wait_for(|synced| *synced)).await.unwrap().unwrap();
    assert!(running.status.is_connected());
    assert_eq!(running.tables.borrow().bases().count(), 1);
    // Events may come cut anywhere, and together, with comments between them.
    let text = format!(": keep-alive\n\n{}{}", upsert("2", "c"), delete("3", "a"));
    let (one, two) = text.split_at(40);
    adapters.send(one.to_owned()).unwrap();
    adapters.send(two.to_owned()).unwrap();
    running.has(&["b", "c"]).await;
    running.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut running.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_ends_is_resumed_where_it_ended_and_the_table_stays() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(config(&controller));
    let _engines = {
        let events = next(&mut controller.engines).await.stream();
        events.send(engines()).unwrap();
        events
    };
    let events = next(&mut controller.adapters).await.stream();
    events.send(snapshot("7", &["a"])).unwrap();
    events.send(upsert("8", "b")).unwrap();
    running.has(&["a", "b"]).await;
    drop(events);
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.last_event_id(), Some("8"));
    // Refusals in between change nothing, neither of the table nor of where to go on.
    call.refuse(503);
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.last_event_id(), Some("8"));
    running.has(&["a", "b"]).await;
    let events = call.stream();
    events.send(delete("9", "a")).unwrap();
    running.has(&["b"]).await;
    // One that is too old is answered with a new snapshot, which is all there is.
    drop(events);
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.last_event_id(), Some("9"));
    let events = call.stream();
    events.send(snapshot("100", &["c"])).unwrap();
    running.has(&["c"]).await;
}

#[tokio::test]
async fn routing_goes_on_by_the_last_known_table_when_the_controller_dies() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(config(&controller));
    let adapters = next(&mut controller.adapters).await.stream();
    adapters.send(snapshot("1", &["a"])).unwrap();
    let engine_events = next(&mut controller.engines).await.stream();
    engine_events.send(engines()).unwrap();
    running.has(&["a"]).await;
    drop((adapters, engine_events));
    drop(controller);
    // Several attempts have failed by then.
    tokio::time::timeout(PATIENCE, async {
        while lost(&running.status).is_none_or(|lost| lost < 6) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    running.has(&["a"]).await;
    assert!(*running.synced.borrow() && !running.status.is_connected() && !running.task.is_finished());
}

/// How many connections have failed or ended.
fn lost(status: &longshore_proxy::SourceStatus) -> Option<u64> {
    let (mut registry, mut text) = (Registry::default(), String::new());
    status.register_metrics(&mut registry);
    encode(&mut text, &registry).unwrap();
    text.lines().find_map(|line| line.strip_prefix("source_lost_connections "))?.parse().ok()
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_given_up() {
    let mut controller = Controller::start().await;
    let _running = Running::start(FleetConfig { silence: Duration::from_millis(50), ..config(&controller) });
    let first = next(&mut controller.adapters).await.stream();
    let call = next(&mut controller.adapters).await;
    // The first one was given up, not ended by us.
    tokio::time::timeout(PATIENCE, first.closed()).await.unwrap();
    drop(call);
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_asked_for_from_the_beginning() {
    let mut controller = Controller::start().await;
    let mut running = Running::start(config(&controller));
    let _engines = {
        let events = next(&mut controller.engines).await.stream();
        events.send(engines()).unwrap();
        events
    };
    let events = next(&mut controller.adapters).await.stream();
    events.send(snapshot("1", &["a"])).unwrap();
    running.has(&["a"]).await;
    events.send("event: delete\nid: 2\ndata: nonsense\n\n".to_owned()).unwrap();
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.last_event_id(), None);
    running.has(&["a"]).await;
    call.stream().send(snapshot("3", &["b"])).unwrap();
    running.has(&["b"]).await;
}

#[tokio::test]
async fn an_answer_that_is_no_stream_of_events_is_not_taken_for_one() {
    let mut controller = Controller::start().await;
    let running = Running::start(config(&controller));
    let call = next(&mut controller.adapters).await;
    let _ = call.reply.send(answer(StatusCode::OK, snapshot("1", &["a"])));
    next(&mut controller.adapters).await.refuse(401);
    next(&mut controller.adapters).await;
    assert!(!*running.synced.borrow());
}

#[tokio::test]
async fn a_token_that_has_been_replaced_is_read_anew() {
    let mut controller = Controller::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "first\n").unwrap();
    let _running = Running::start(FleetConfig { token: Some(Token::File(path.clone())), ..config(&controller) });
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.headers["authorization"], "Bearer first");
    std::fs::write(&path, "second\n").unwrap();
    call.refuse(401);
    assert_eq!(next(&mut controller.adapters).await.headers["authorization"], "Bearer second");
}

#[tokio::test]
async fn what_an_engine_lacks_is_reported_at_once_with_the_token() {
    let mut controller = Controller::start().await;
    let config = FleetConfig {
        token: Some(Token::Fixed(Secret::new("t0ken"))),
        router: "router-1".into(),
        ..config(&controller)
    };
    let running = Running::start(config);
    let call = next(&mut controller.adapters).await;
    assert_eq!(call.headers["authorization"], "Bearer t0ken");
    let missing = Missing {
        engine: EngineId::new(Namespace::default_namespace(), "e1"),
        boot: Boot::new("b"),
        name: "sql".parse().unwrap(),
    };
    running.missing.send(missing.clone()).await.unwrap();
    let call = next(&mut controller.demand).await;
    assert_eq!((call.path.as_str(), call.headers["authorization"].to_str().unwrap()), ("/v1/demand", "Bearer t0ken"));
    let demand: fleet::Demand = serde_json::from_slice(&call.body).unwrap();
    assert_eq!(demand.router, "router-1");
    let expected = fleet::Missing { namespace: "default".into(), name: "sql".into(), pod: "e1".into() };
    assert_eq!(demand.missing, std::slice::from_ref(&expected));
    // A refusal does not stop later reports, and what comes meanwhile goes together, each once.
    running.missing.send(missing.clone()).await.unwrap();
    running.missing.send(missing.clone()).await.unwrap();
    call.refuse(503);
    let demand: fleet::Demand = serde_json::from_slice(&next(&mut controller.demand).await.body).unwrap();
    assert_eq!(demand.missing, [expected]);
}
