use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use longshore_proxy::ProxyConfig;
use longshore_routing::{Endpoint, Route, RouteState, Table};
use tokio::sync::Mutex;

use super::support::*;

fn swapping() -> Route {
    adapter("sql", RouteState::Swapping)
}

/// A proxy that waits longer than the test does.
async fn patient(table: Table) -> Router {
    Router::configured(ProxyConfig { swap_hold: PATIENCE * 2, ..ProxyConfig::default() }, table).await
}

/// Returns when a request waits.
async fn until_one_waits(router: &Router) {
    tokio::time::timeout(PATIENCE, async {
        while !router.metrics().contains("longshore_router_requests_waiting 1") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a request waits");
}

#[tokio::test]
async fn a_request_waits_while_the_only_holder_is_changed_over() {
    let engine = Engine::ok("e1").await;
    let router = patient(table(vec![swapping()], vec![base(&[&engine])])).await;
    let (answered, ()) = tokio::join!(router.ask("sql"), async {
        until_one_waits(&router).await;
        // A table in which nothing has changed for it does not end the wait.
        router.publish(table(vec![swapping(), on("other", &[&engine])], vec![base(&[&engine])]));
        router.publish(table(vec![on("sql", &[&engine])], vec![base(&[&engine])]));
    });
    assert_eq!((answered.status, answered.text()), (200, "e1"));
    assert_eq!(answered.header("x-longshore-adapter"), Some("sql@abababababab"));
    let metrics = router.metrics();
    assert!(
        metrics.contains(r#"longshore_router_holds_total{adapter="default/sql",outcome="Released"} 1"#),
        "{metrics}"
    );
    assert!(metrics.contains("longshore_router_requests_waiting 0"), "{metrics}");
}

#[tokio::test]
async fn i1_a_change_over_that_takes_too_long_is_503_and_not_the_base() {
    let mut engine = Engine::ok("e1").await;
    let config = ProxyConfig { swap_hold: Duration::from_millis(10), ..ProxyConfig::default() };
    let router = Router::configured(config, table(vec![swapping()], vec![base(&[&engine])])).await;
    let answered = router.ask("sql").await;
    assert_eq!(answered.error(), (503, "adapter_swapping".to_owned()));
    assert_eq!(answered.header("retry-after"), Some("1"));
    assert_eq!(engine.asked_so_far().len(), 0);
    assert!(router.metrics().contains(r#"longshore_router_holds_total{adapter="default/sql",outcome="Expired"} 1"#));
}

#[tokio::test]
async fn a_request_that_waits_learns_that_the_adapter_is_deleted_or_failed() {
    for (after, error) in [
        (table(Vec::new(), Vec::new()), (404, "model_not_found".to_owned())),
        (table(vec![not_ready("sql", "Failed", "RankTooHigh", "")], Vec::new()), (503, "adapter_not_ready".to_owned())),
    ] {
        let router = patient(table(vec![swapping()], Vec::new())).await;
        let (answered, ()) = tokio::join!(router.ask("sql"), async {
            until_one_waits(&router).await;
            router.publish(after);
        });
        assert_eq!(answered.error(), error);
    }
}

#[tokio::test]
async fn i1_an_engine_that_lost_the_adapter_to_a_change_over_is_waited_for() {
    // The engine is asked just before it is changed over: it lacks the adapter, and then has it anew.
    let swap: Arc<Mutex<Option<tokio::sync::watch::Sender<Arc<Table>>>>> = Arc::default();
    let engine = Engine::with("e1", {
        let swap = swap.clone();
        move |_| {
            let swap = swap.clone();
            async move {
                match swap.lock().await.take() {
                    Some(tables) => {
                        tables.send_replace(Arc::new(table(vec![swapping()], Vec::new())));
                        lacks("sql")
                    }
                    None => answer(StatusCode::OK, "e1"),
                }
            }
        }
    })
    .await;
    let mut router = patient(table(vec![on("sql", &[&engine])], Vec::new())).await;
    *swap.lock().await = Some(router.tables.clone());
    let again = Endpoint { confirmation: Arc::from("2"), ..engine.endpoint() };
    let mut missing = std::mem::replace(&mut router.missing, tokio::sync::mpsc::channel(1).1);
    let (answered, ()) = tokio::join!(router.ask("sql"), async {
        // By then the table says that it is being changed over.
        missing.recv().await.unwrap();
        router.publish(table(vec![adapter("sql", RouteState::Ready(vec![again]))], Vec::new()));
    });
    assert_eq!((answered.status, answered.text()), (200, "e1"));
}
