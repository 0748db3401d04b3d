use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use longshore_types::AdapterName;

use super::support::*;

#[tokio::test]
async fn a_request_counts_from_before_it_is_sent_until_its_answer_has_ended() {
    let (chunks, body) = streamed();
    let body = Arc::new(tokio::sync::Mutex::new(Some(body)));
    let mut engine = Engine::with("e1", move |_| {
        let body = body.clone();
        async move { answer(StatusCode::OK, body.lock().await.take().unwrap()) }
    })
    .await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let (id, sql): (_, AdapterName) = (engine.endpoint().engine, "sql".parse().unwrap());
    let in_flight = router.proxy.in_flight().clone();
    let request = router.request(Method::POST, "/v1/completions").body(Full::new(asking("sql").into())).unwrap();
    let asking = tokio::spawn(router.client.request(request));
    engine.asked().await;
    assert_eq!(in_flight.of_adapter(&id, &sql), 1);
    // The head of the answer and a part of it have come: it has not ended.
    let mut answer = asking.await.unwrap().unwrap().into_body();
    chunks.send("x").unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    assert!(in_flight.active_on(&id).contains(&sql));
    drop(chunks);
    assert!(answer.frame().await.is_none());
    tokio::time::timeout(PATIENCE, in_flight.drained(&id, &sql)).await.unwrap();
    assert_eq!(router.proxy.in_flight_of(&id, &sql), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_an_engine_that_was_withdrawn_and_drained_is_never_asked_again() {
    // While this is set, being asked is a fault: the adapter would have been unloaded.
    let unloaded = Arc::new(AtomicBool::new(false));
    let faults = Arc::new(AtomicU64::new(0));
    let engine = Engine::with("e1", {
        let (unloaded, faults) = (unloaded.clone(), faults.clone());
        move |_| {
            faults.fetch_add(u64::from(unloaded.load(Ordering::SeqCst)), Ordering::SeqCst);
            async { answer(StatusCode::OK, "e1") }
        }
    })
    .await;
    let other = Engine::ok("e2").await;
    let (both, rest) =
        (table(vec![on("sql", &[&engine, &other])], Vec::new()), table(vec![on("sql", &[&other])], Vec::new()));
    let router = Arc::new(Router::start(both.clone()).await);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (router, over) = (router.clone(), over.clone());
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(router.ask("sql").await.status, 200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let (id, sql) = (engine.endpoint().engine, "sql".parse().unwrap());
    for _ in 0..100 {
        router.publish(rest.clone());
        tokio::time::timeout(PATIENCE, router.proxy.in_flight().drained(&id, &sql)).await.unwrap();
        unloaded.store(true, Ordering::SeqCst);
        // Some requests go by in this state.
        router.ask("sql").await;
        unloaded.store(false, Ordering::SeqCst);
        router.publish(both.clone());
        router.ask("sql").await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
    assert_eq!(faults.load(Ordering::SeqCst), 0);
}
