use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use longshore_proxy::ProxyConfig;
use longshore_routing::{Endpoint, RouteState};
use tokio::io::AsyncReadExt;

use super::support::*;

/// The adapter `sql` on these endpoints.
fn sql(endpoints: Vec<Endpoint>) -> longshore_routing::Route {
    adapter("sql", RouteState::Ready(endpoints))
}

/// No test is so slow that an engine is asked again because time has passed.
fn distrustful() -> ProxyConfig {
    ProxyConfig { distrust: PATIENCE * 10, ..ProxyConfig::default() }
}

#[tokio::test]
async fn an_engine_that_cannot_be_connected_to_is_passed_over() {
    let (dead, alive) = (Engine::dead("e1").await, Engine::ok("e2").await);
    let router = Router::start(table(vec![on("sql", &[&dead, &alive])], Vec::new())).await;
    for _ in 0..10 {
        let answered = router.ask("sql").await;
        assert_eq!((answered.status, answered.text()), (200, "e2"));
    }
}

#[tokio::test]
async fn an_engine_that_answers_502_or_503_is_passed_over() {
    for status in [502, 503] {
        let (mut busy, free) = (Engine::always("e1", status, "busy").await, Engine::ok("e2").await);
        let mut router = Router::start(table(vec![on("sql", &[&busy, &free])], vec![base(&[&busy, &free])])).await;
        for model in ["sql", "tiny"] {
            // Each is asked first about every other time; that one is asked but once in thirty happens once in 10^7 runs.
            for _ in 0..30 {
                let answered = router.ask(model).await;
                assert_eq!((answered.status, answered.text()), (200, "e2"));
            }
        }
        // It is busy, not without the adapter: it stays in the choice and nobody is told.
        assert!(busy.asked_so_far().iter().filter(|asked| asked.json()["model"] == "sql").count() > 1);
        assert!(router.missing.try_recv().is_err());
    }
}

#[tokio::test]
async fn i1_an_adapter_whose_engines_are_all_away_is_never_answered_by_the_base() {
    let (dead, busy) = (Engine::dead("e1").await, Engine::always("e2", 503, "").await);
    let mut free = Engine::ok("e3").await;
    let router = Router::start(table(vec![on("sql", &[&dead, &busy])], vec![base(&[&free])])).await;
    let answered = router.ask("sql").await;
    assert_eq!(answered.error(), (503, "engine_unavailable".to_owned()));
    assert_eq!(answered.header("retry-after"), Some("1"));
    assert_eq!(answered.header("x-longshore-adapter"), None);
    assert_eq!(free.asked_so_far().len(), 0);
    assert_eq!(router.ask("tiny").await.text(), "e3");
}

#[tokio::test]
async fn other_errors_are_the_engines_answer() {
    for status in [400, 401, 404, 422, 429, 500, 501, 504] {
        let mut engines = [Engine::always("e1", status, "mine").await, Engine::always("e2", status, "mine").await];
        let router = Router::start(table(vec![on("sql", &[&engines[0], &engines[1]])], Vec::new())).await;
        let answered = router.ask("sql").await;
        assert_eq!((answered.status, answered.text()), (status, "mine"));
        assert_eq!(
            answered.header("x-longshore-adapter"),
            Some("sql@abababababab"),
            "an adapter's engine has answered"
        );
        assert_eq!(engines[0].asked_so_far().len() + engines[1].asked_so_far().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_engine_that_breaks_off_before_it_answers_is_not_replaced() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut count = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            count += 1;
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            drop(stream);
            if count == 1 {
                break;
            }
        }
        count
    });
    let mut broken = Engine::dead("e1").await;
    broken.address = address;
    let router = Router::start(table(vec![on("sql", &[&broken])], Vec::new())).await;
    assert_eq!(router.ask("sql").await.error(), (502, "engine_failed".to_owned()));
    assert_eq!(accepting.await.unwrap(), 1);
}

#[tokio::test]
async fn a_request_is_sent_to_so_many_engines_and_no_more() {
    let mut engines =
        [Engine::always("e1", 503, "").await, Engine::always("e2", 503, "").await, Engine::always("e3", 503, "").await];
    let config = ProxyConfig { max_attempts: 2, ..ProxyConfig::default() };
    let all = on("sql", &engines.iter().collect::<Vec<_>>());
    let router = Router::configured(config, table(vec![all], Vec::new())).await;
    let answered = router.ask("sql").await;
    assert_eq!(answered.status, 503);
    assert!(answered.message().contains("answered 503"), "{}", answered.message());
    assert_eq!(engines.iter_mut().map(|engine| engine.asked_so_far().len()).sum::<usize>(), 2);
}

#[tokio::test]
async fn i1_an_engine_that_lacks_the_adapter_is_passed_over_reported_and_left_alone() {
    let mut lacking = Engine::with("e1", |asked| async move { lacks(asked.json()["model"].as_str().unwrap()) }).await;
    let holding = Engine::ok("e2").await;
    let mut router = Router::configured(distrustful(), table(vec![on("sql", &[&lacking, &holding])], Vec::new())).await;
    for _ in 0..20 {
        let answered = router.ask("sql").await;
        assert_eq!((answered.status, answered.text()), (200, "e2"));
    }
    assert_eq!(lacking.asked_so_far().len(), 1, "it is not asked again");
    let missing = router.missing.recv().await.unwrap();
    assert_eq!(missing.engine, lacking.endpoint().engine);
    assert_eq!(missing.boot, lacking.endpoint().boot);
    assert_eq!(missing.name.as_str(), "sql");
    assert!(router.missing.try_recv().is_err(), "one report is enough");
}

#[tokio::test]
async fn i1_an_engine_that_lacked_the_adapter_is_asked_again_once_it_is_confirmed_anew() {
    let has_it = Arc::new(AtomicBool::new(false));
    let mut engine = Engine::with("e1", {
        let has_it = has_it.clone();
        move |_| {
            let has_it = has_it.load(Ordering::SeqCst);
            async move { if has_it { answer(StatusCode::OK, "e1") } else { lacks("sql") } }
        }
    })
    .await;
    let before = engine.endpoint();
    let router = Router::configured(distrustful(), table(vec![sql(vec![before.clone()])], Vec::new())).await;
    assert_eq!(router.ask("sql").await.error(), (503, "engine_unavailable".to_owned()));
    has_it.store(true, Ordering::SeqCst);
    // The same confirmation, in a table that is new for another reason, says nothing new.
    router.publish(table(vec![sql(vec![before.clone()]), on("other", &[])], Vec::new()));
    assert_eq!(router.ask("sql").await.status, 503);
    assert_eq!(engine.asked_so_far().len(), 1);
    router.publish(table(vec![sql(vec![Endpoint { confirmation: "2".into(), ..before }])], Vec::new()));
    assert_eq!(router.ask("sql").await.text(), "e1");
}

#[tokio::test]
async fn what_one_adapter_lacks_says_nothing_of_another() {
    let engine = Engine::with("e1", |asked| async move {
        match asked.json()["model"].as_str() {
            Some("sql") => lacks("sql"),
            _ => answer(StatusCode::OK, "e1"),
        }
    })
    .await;
    let router =
        Router::start(table(vec![on("sql", &[&engine]), on("poet", &[&engine])], vec![base(&[&engine])])).await;
    assert_eq!(router.ask("sql").await.status, 503);
    assert_eq!(router.ask("poet").await.status, 200);
    assert_eq!(router.ask("tiny").await.status, 200);
}

#[tokio::test]
async fn something_else_not_found_is_passed_on_whole_however_long() {
    let long: &'static str = Box::leak(format!("{{\"detail\":\"{}\"}}", "x".repeat(1 << 20)).into_boxed_str());
    for body in [
        "",
        r#"{"detail":"Not Found"}"#,
        r#"{"error":{"message":"Response with id 'x' not found.","type":"invalid_request_error","param":null,"code":404}}"#,
        long,
    ] {
        let engine = Engine::always("e1", 404, body).await;
        let mut router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
        let answered = router.ask("sql").await;
        assert_eq!(answered.status, 404);
        assert!(answered.text() == body, "{} bytes", answered.body.len());
        assert!(router.missing.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_base_models_404_is_the_engines_answer() {
    let engine = Engine::with("e1", |_| async { lacks("tiny") }).await;
    let mut router = Router::start(table(Vec::new(), vec![base(&[&engine])])).await;
    let answered = router.ask("tiny").await;
    assert_eq!(answered.status, 404);
    assert!(answered.text().contains("Valid aliases"));
    assert!(router.missing.try_recv().is_err());
}

#[tokio::test]
async fn a_retry_goes_by_the_newest_table() {
    let late = Engine::ok("e2").await;
    let (tables, receiver) = tokio::sync::oneshot::channel::<tokio::sync::watch::Sender<_>>();
    let receiver = Arc::new(tokio::sync::Mutex::new(Some(receiver)));
    let replacement = Arc::new(table(vec![on("sql", &[&late])], Vec::new()));
    // The only engine that had it publishes another one, then answers that it has gone.
    let first = Engine::with("e1", move |_| {
        let (receiver, replacement) = (receiver.clone(), replacement.clone());
        async move {
            let tables: tokio::sync::watch::Sender<Arc<longshore_routing::Table>> =
                receiver.lock().await.take().unwrap().await.unwrap();
            tables.send_replace(replacement);
            lacks("sql")
        }
    })
    .await;
    let router = Router::start(table(vec![on("sql", &[&first])], Vec::new())).await;
    tables.send(router.tables.clone()).unwrap();
    let answered = router.ask("sql").await;
    assert_eq!((answered.status, answered.text()), (200, "e2"));
}
