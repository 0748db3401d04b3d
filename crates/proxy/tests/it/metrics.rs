use super::support::*;

#[tokio::test]
async fn requests_retries_and_the_table_are_measured() {
    let (dead, alive) = (Engine::dead("e1").await, Engine::ok("e2").await);
    let router = Router::start(table(vec![on("dead", &[&dead]), on("sql", &[&alive])], vec![base(&[&alive])])).await;
    for model in ["sql", "sql", "tiny", "ghost", "dead"] {
        router.ask(model).await;
    }
    // The last answer may end a moment after it has been read.
    let text = tokio::time::timeout(PATIENCE, async {
        loop {
            let text = router.metrics();
            if text.contains("longshore_router_requests_in_flight 0") {
                break text;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    for line in [
        r#"longshore_router_requests_total{adapter="default/sql",class="Ok"} 2"#,
        r#"longshore_router_requests_total{adapter="_base",class="Ok"} 1"#,
        r#"longshore_router_requests_total{adapter="_none",class="ClientError"} 1"#,
        r#"longshore_router_requests_total{adapter="default/dead",class="ServerError"} 1"#,
        r#"longshore_router_time_to_first_byte_seconds_count{adapter="default/sql"} 2"#,
        r#"longshore_router_request_duration_seconds_count{adapter="default/sql"} 2"#,
        r#"longshore_router_table_adapters{state="Ready"} 2"#,
        "longshore_router_table_base_models 1",
        "longshore_router_table_age_seconds ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_retry_is_counted_with_its_cause() {
    let (lacking, busy) = (Engine::with("e1", |_| async { lacks("sql") }).await, Engine::always("e2", 503, "").await);
    let router = Router::start(table(vec![on("sql", &[&lacking, &busy])], Vec::new())).await;
    // Whichever of the two is asked first, the other one is asked next.
    assert_eq!(router.ask("sql").await.status, 503);
    let text = router.metrics();
    let retries: Vec<_> = text.lines().filter(|line| line.starts_with("longshore_router_retries_total{")).collect();
    assert_eq!(retries.len(), 1, "{text}");
    assert!(retries[0].ends_with(" 1") && retries[0].contains(r#"adapter="default/sql""#), "{retries:?}");
}
