use std::time::Duration;

use http::Method;
use http_body_util::Full;
use longshore_proxy::ProxyConfig;
use longshore_types::EngineId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

#[tokio::test]
async fn a_body_that_names_no_model_is_the_clients_mistake() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], vec![base(&[&engine])])).await;
    for (body, param) in [
        (&br#"{"prompt":"x"}"#[..], Some("model")),
        (br#"{"model":null}"#, Some("model")),
        (br#"{"model":7}"#, Some("model")),
        (br#"{"model":["sql"]}"#, Some("model")),
        (br#"{"model":"sql","model":"tiny"}"#, Some("model")),
        (br#"{"messages":[{"model":"sql"}]}"#, Some("model")),
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"\"sql\"", None),
        (b"model=sql", None),
        (br#"{"model":"sql"}{"model":"tiny"}"#, None),
        (br#"{"model":"sql",}"#, None),
        (b"{\"model\":\"\xff\"}", None),
        (b"\xef\xbb\xbf{\"model\":\"sql\"}", None),
    ] {
        let answered = router.post("/v1/chat/completions", body).await;
        let code = if param.is_some() { "invalid_model" } else { "invalid_body" };
        assert_eq!(answered.error(), (400, code.to_owned()), "{body:?}");
        assert_eq!(answered.json()["error"]["param"].as_str(), param);
        assert_eq!(answered.json()["error"]["type"], "invalid_request_error");
    }
    assert_eq!(engine.asked_so_far().len(), 0);
}

#[tokio::test]
async fn an_unknown_model_is_404_in_the_form_that_clients_know() {
    let router = Router::start(table(Vec::new(), Vec::new())).await;
    for model in ["ghost", "", "../outside", "/etc/passwd", "a/b/c", "default/ghost"] {
        let answered = router.ask(model).await;
        assert_eq!(answered.error(), (404, "model_not_found".to_owned()));
        let error = &answered.json()["error"];
        assert_eq!(error["param"], "model");
        assert_eq!(error["message"], format!("The model `{model}` does not exist."));
    }
}

#[tokio::test]
async fn before_the_first_table_nothing_is_said_to_be_unknown() {
    let router = Router::start(longshore_routing::Table::default()).await;
    let answered = router.ask("sql").await;
    assert_eq!(answered.error(), (503, "router_not_ready".to_owned()));
    assert_eq!(answered.header("retry-after"), Some("1"));
    for path in ["/v1/models", "/v1/models/sql"] {
        assert_eq!(router.get(path).await.error(), (503, "router_not_ready".to_owned()));
    }
}

#[tokio::test]
async fn a_declared_adapter_that_no_engine_has_says_why_and_when_to_come_back() {
    let engine = Engine::ok("e1").await;
    let adapters = vec![
        not_ready("slow", "Loading", "", ""),
        not_ready("bad", "Failed", "RankTooHigh", "rank 64 is greater than 16"),
        on("empty", &[]),
    ];
    let router = Router::start(table(adapters, vec![base(&[&engine])])).await;
    let answered = router.ask("slow").await;
    assert_eq!(answered.error(), (503, "adapter_not_ready".to_owned()));
    assert_eq!(answered.header("retry-after"), Some("5"));
    assert!(answered.message().contains("phase Loading"));
    let answered = router.ask("bad").await;
    assert_eq!((answered.status, answered.header("retry-after")), (503, Some("60")));
    assert!(answered.message().contains("RankTooHigh: rank 64 is greater than 16"), "{}", answered.message());
    assert_eq!(router.ask("empty").await.error(), (503, "adapter_not_ready".to_owned()));
}

#[tokio::test]
async fn a_base_model_whose_engines_are_all_away_is_503() {
    let router = Router::start(table(Vec::new(), vec![base(&[])])).await;
    let answered = router.ask("tiny").await;
    assert_eq!(answered.error(), (503, "engine_unavailable".to_owned()));
    assert!(answered.header("retry-after").is_some());
}

#[tokio::test]
async fn i7_a_bare_name_of_two_namespaces_is_409_and_the_full_one_works() {
    let (mine, theirs) = (Engine::ok("e1").await, Engine::ok("e2").await);
    let mut other = on("sql", &[&theirs]);
    other.namespace = "other".parse().unwrap();
    if let longshore_routing::RouteState::Ready(endpoints) = &mut other.state {
        endpoints[0].engine = EngineId::new("other".parse().unwrap(), "e2");
    }
    let router = Router::start(table(vec![on("sql", &[&mine]), other], Vec::new())).await;
    let answered = router.ask("sql").await;
    assert_eq!(answered.error(), (409, "ambiguous_model".to_owned()));
    assert_eq!(router.ask("default/sql").await.text(), "e1");
    assert_eq!(router.ask("other/sql").await.text(), "e2");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_announced_or_not() {
    let mut engine = Engine::ok("e1").await;
    let config = ProxyConfig { max_body: 1000, ..ProxyConfig::default() };
    let router = Router::configured(config, table(vec![on("sql", &[&engine])], Vec::new())).await;
    // Refused by its length alone: none of it is sent, nor asked for.
    let announced = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    let answer = router.raw(announced.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("request_too_large"), "{answer}");
    let chunked = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n",
        "x".repeat(1001)
    );
    let answer = router.raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let fits = format!("{}{}", asking("sql"), " ".repeat(1000 - asking("sql").len()));
    assert_eq!(router.post("/v1/completions", fits).await.status, 200);
    assert_eq!(engine.asked_so_far().len(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let engine = Engine::ok("e1").await;
    let config = ProxyConfig { body_timeout: Duration::from_millis(10), ..ProxyConfig::default() };
    let router = Router::configured(config, table(vec![on("sql", &[&engine])], Vec::new())).await;
    let begun = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"model\":";
    let answer = router.raw(begun.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let config = ProxyConfig { header_timeout: Duration::from_millis(10), ..ProxyConfig::default() };
    let router = Router::configured(config, table(Vec::new(), Vec::new())).await;
    let answer = router.raw(b"POST /v1/completions HTTP/1.1\r\nHost:").await;
    assert!(!answer.contains("200"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let config = ProxyConfig { max_header: 10_000, ..ProxyConfig::default() };
    let router = Router::configured(config, table(Vec::new(), Vec::new())).await;
    let request = format!("POST /v1/completions HTTP/1.1\r\nHost: x\r\nX: {}\r\n", "x".repeat(11_000));
    // The proxy closes with bytes unread, so the end of the connection may be a reset.
    let mut stream = router.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 431");
}

#[tokio::test]
async fn a_compressed_body_is_415() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let send = |encoding: &'static str| {
        let request = router.request(Method::POST, "/v1/completions").header("content-encoding", encoding);
        router.send(request.body(Full::new(asking("sql").into())).unwrap())
    };
    assert_eq!(send("gzip").await.error(), (415, "unsupported_encoding".to_owned()));
    assert_eq!(engine.asked_so_far().len(), 0);
    assert_eq!(send("identity").await.status, 200);
}

#[tokio::test]
async fn an_engine_that_does_not_begin_to_answer_is_504() {
    let engine = Engine::with("e1", |_| std::future::pending()).await;
    let config = ProxyConfig { answer_timeout: Duration::from_millis(10), ..ProxyConfig::default() };
    let router = Router::configured(config, table(vec![on("sql", &[&engine])], Vec::new())).await;
    assert_eq!(router.ask("sql").await.error(), (504, "engine_timeout".to_owned()));
}
