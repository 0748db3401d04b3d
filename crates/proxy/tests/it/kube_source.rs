//! The table by a cluster's EndpointSlices.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use longshore_proxy::{KubeConfig, KubeSource, Missing, SourceStatus, TableSource};
use longshore_routing::Table;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api_server::{ApiServer, next_call};
use super::support::PATIENCE;

/// A slice of the adapter `name` on these engines.
pub fn slice(name: &str, port: u16, engines: &[&str]) -> Value {
    let endpoint = |pod: &&str| {
        json!({
            "addresses": ["127.0.0.1"], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": "default", "uid": format!("uid-{pod}")},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{port}"), "namespace": "default", "resourceVersion": "1",
            "annotations": {
                "longshore.dev/adapter": name, "longshore.dev/base-model": "tiny", "longshore.dev/engine-kind": "vllm",
                "longshore.dev/digest": format!("sha256:{}", "ab".repeat(32)),
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": engines.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

pub fn config() -> KubeConfig {
    KubeConfig { max_pause: Duration::from_secs(5), ..KubeConfig::new("longshore-system".parse().unwrap()) }
}

/// A running source.
pub struct Running {
    pub tables: watch::Receiver<Arc<Table>>,
    pub synced: watch::Receiver<bool>,
    pub missing: mpsc::Sender<Missing>,
    pub status: SourceStatus,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Infallible>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    pub fn start(server: &ApiServer, config: KubeConfig) -> Self {
        let source = KubeSource::new(server.client.clone(), config);
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

    /// Waits until these are the adapters that have engines, each with its engines: `sql: e1 e2`.
    pub async fn has(&mut self, routes: &[&str]) {
        let waited = tokio::time::timeout(PATIENCE, self.tables.wait_for(|table| shown(table) == routes)).await.is_ok();
        assert!(waited, "waited for {routes:?} in {:?}", shown(&self.tables.borrow()));
    }

    /// What is measured of one thing.
    pub fn measured(&self, metric: &str) -> Option<u64> {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.status.register_metrics(&mut registry);
        encode(&mut text, &registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))?.parse().ok()
    }
}

/// Adapters with engines, and their engines.
fn shown(table: &Table) -> Vec<String> {
    let ready = table.adapters().filter(|route| !route.endpoints().is_empty());
    ready
        .map(|route| {
            let engines: Vec<_> = route.endpoints().iter().map(|endpoint| &*endpoint.engine.name).collect();
            format!("{}: {}", route.name, engines.join(" "))
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_table_follows_the_slices_and_needs_no_controller() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.path, "/apis/discovery.k8s.io/v1/endpointslices");
    assert_eq!((call.query("limit"), call.query("resourceVersion")), (Some("500"), None), "the newest, page by page");
    call.page("10", &[slice("sql", 1, &["e1", "e2"])], "more");
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.query("continue"), Some("more"));
    assert!(!*running.synced.borrow(), "half of the truth is none");
    call.list("10", &[slice("poet", 1, &["e1"])]);
    let call = next_call(&mut server.slices).await;
    assert_eq!((call.watches_from(), call.query("allowWatchBookmarks")), (Some("10"), Some("true")));
    running.has(&["poet: e1", "sql: e1 e2"]).await;
    running.synced.wait_for(|synced| *synced).await.unwrap();
    let events = call.watch();
    events.event("MODIFIED", "11", &slice("sql", 1, &["e2"]));
    running.has(&["poet: e1", "sql: e2"]).await;
    events.event("DELETED", "12", &slice("poet", 1, &["e1"]));
    events.event("ADDED", "13", &slice("new", 1, &["e3"]));
    running.has(&["new: e3", "sql: e2"]).await;
    assert_eq!(
        next_call(&mut server.replicas).await.path,
        "/apis/discovery.k8s.io/v1/namespaces/longshore-system/endpointslices"
    );
    running.stop.cancel();
    (&mut running.task).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn i7_namespaces_are_watched_one_by_one_and_all_are_waited_for() {
    let mut server = ApiServer::start();
    let namespaces = BTreeSet::from(["a".parse().unwrap(), "default".parse().unwrap()]);
    let mut running = Running::start(&server, KubeConfig { namespaces, ..config() });
    let mut calls = [next_call(&mut server.slices).await, next_call(&mut server.slices).await];
    calls.sort_by(|a, b| a.path.cmp(&b.path));
    let paths = calls.each_ref().map(|call| call.path.clone());
    let path = |namespace: &str| format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    assert_eq!(paths, [path("a"), path("default")]);
    let [first, second] = calls;
    second.list("10", &[slice("sql", 1, &["e1"])]);
    next_call(&mut server.slices).await;
    assert!(!*running.synced.borrow());
    first.list("10", &[]);
    running.has(&["sql: e1"]).await;
    assert!(running.measured(r#"source_connected{list="slices/a"}"#).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_renewed_from_where_it_ended_and_nothing_is_lost() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    next_call(&mut server.slices).await.list("10", &[slice("sql", 1, &["e1"])]);
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.query("timeoutSeconds"), Some("30"));
    let events = call.watch();
    events.event("MODIFIED", "11", &slice("sql", 1, &["e2"]));
    running.has(&["sql: e2"]).await;
    drop(events);
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.watches_from(), Some("11"));
    let events = call.watch();
    events.bookmark("500");
    drop(events);
    assert_eq!(next_call(&mut server.slices).await.watches_from(), Some("500"));
    assert_eq!(running.measured("source_lost_connections"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn i1_after_a_relist_nothing_is_routed_to_what_vanished_meanwhile_and_until_then_the_table_stays() {
    for by_status in [false, true] {
        let mut server = ApiServer::start();
        let mut running = Running::start(&server, config());
        let both = [slice("sql", 1, &["e1", "e2"]), slice("poet", 1, &["e1"])];
        next_call(&mut server.slices).await.list("10", &both);
        let call = next_call(&mut server.slices).await;
        running.has(&["poet: e1", "sql: e1 e2"]).await;
        if by_status {
            call.refuse(410, "Expired");
        } else {
            call.watch().expire();
        }
        // The list is read anew page by page, and takes its time.
        let call = next_call(&mut server.slices).await;
        assert_eq!((call.watches_from(), call.query("resourceVersion")), (None, None));
        call.page("90", &[slice("sql", 1, &["e2"])], "more");
        let call = next_call(&mut server.slices).await;
        running.has(&["poet: e1", "sql: e1 e2"]).await;
        call.list("90", &[]);
        running.has(&["sql: e2"]).await;
        assert_eq!(next_call(&mut server.slices).await.watches_from(), Some("90"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_has_expired_begins_the_list_anew() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    next_call(&mut server.slices).await.page("10", &[slice("sql", 1, &["e1"])], "more");
    next_call(&mut server.slices).await.refuse(410, "Expired");
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.query("continue"), None);
    call.list("20", &[slice("poet", 1, &["e1"])]);
    running.has(&["poet: e1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_noticed_and_asked_again() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    // A list that is never answered, and another.
    let hanging = next_call(&mut server.slices).await;
    next_call(&mut server.slices).await.list("10", &[slice("sql", 1, &["e1"])]);
    running.has(&["sql: e1"]).await;
    // A watch that never begins.
    let never = next_call(&mut server.slices).await;
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.watches_from(), Some("10"));
    // One that begins, says something, and falls silent without an end.
    let silent = call.watch();
    silent.event("MODIFIED", "11", &slice("sql", 1, &["e2"]));
    running.has(&["sql: e2"]).await;
    let began = Instant::now();
    silent.given_up().await;
    assert_eq!(began.elapsed().as_secs(), 35, "the watch's own 30 s and 5 s of grace");
    let call = next_call(&mut server.slices).await;
    assert_eq!(call.watches_from(), Some("11"));
    running.has(&["sql: e2"]).await;
    drop((hanging, never));
}

#[tokio::test(start_paused = true)]
async fn routing_goes_on_while_the_api_server_is_away_and_no_storm_follows() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    next_call(&mut server.slices).await.list("10", &[slice("sql", 1, &["e1"])]);
    drop(next_call(&mut server.slices).await.watch());
    running.has(&["sql: e1"]).await;
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(60) {
        next_call(&mut server.slices).await.refuse([500, 503, 429][asked % 3], "Away");
        asked += 1;
    }
    // Pauses of 2.5 to 5 s once they have grown, seven growing ones before.
    assert!((12..=31).contains(&asked), "{asked} requests in a minute");
    running.has(&["sql: e1"]).await;
    assert!(running.measured(r#"source_failing_seconds{list="slices"}"#).unwrap() >= 55);
    // What vanished in that minute is gone as soon as it is back.
    next_call(&mut server.slices).await.list("99", &[slice("poet", 1, &["e2"])]);
    running.has(&["poet: e2"]).await;
    assert_eq!(running.measured(r#"source_failing_seconds{list="slices"}"#), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_at_once_is_not_stormed() {
    let mut server = ApiServer::start();
    let _running = Running::start(&server, config());
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(60) {
        let call = next_call(&mut server.slices).await;
        match call.watches_from() {
            Some(_) => drop(call.watch()),
            None => call.list("10", &[]),
        }
        asked += 1;
    }
    assert!(asked < 80, "{asked} requests in a minute");
}

#[tokio::test(start_paused = true)]
async fn i11_a_malformed_slice_never_stops_the_rest_and_takes_its_old_routes_along() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    let mut odd = slice("odd", 1, &["e1"]);
    odd["endpoints"] = "nonsense".into();
    next_call(&mut server.slices).await.list("10", &[odd, slice("sql", 1, &["e1"]), slice("poet", 1, &["e1"])]);
    running.has(&["poet: e1", "sql: e1"]).await;
    assert_eq!(running.measured("source_left_out"), Some(1));
    let events = next_call(&mut server.slices).await.watch();
    let mut odd = slice("sql", 1, &["e1"]);
    odd["addressType"] = 7.into();
    events.event("MODIFIED", "11", &odd);
    events.event("ADDED", "12", &slice("new", 1, &["e1"]));
    running.has(&["new: e1", "poet: e1"]).await;
    assert_eq!(running.measured("source_left_out"), Some(2));
    assert_eq!(running.measured("source_lost_connections"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_published_at_once_and_those_that_follow_it_together() {
    let mut server = ApiServer::start();
    let mut running = Running::start(&server, config());
    next_call(&mut server.slices).await.list("10", &[]);
    let events = next_call(&mut server.slices).await.watch();
    running.synced.wait_for(|synced| *synced).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    events.event("ADDED", "11", &slice("a0", 1, &["e1"]));
    running.has(&["a0: e1"]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    running.tables.borrow_and_update();
    for n in 1..100 {
        events.event("ADDED", &format!("{}", 11 + n), &slice(&format!("a{n}"), 1, &["e1"]));
    }
    running.tables.changed().await.unwrap();
    assert_eq!(running.tables.borrow_and_update().adapters().count(), 100, "one table for all of them");
    assert!(began.elapsed() <= Duration::from_millis(20));
}
