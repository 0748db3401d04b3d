use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::Full;
use longshore_proxy::ProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

#[tokio::test]
async fn headers_of_one_connection_stay_on_it_and_others_pass() {
    let mut engine = Engine::with("e1", |_| async {
        let mut response = answer(StatusCode::OK, "e1");
        for (name, value) in
            [("connection", "x-theirs"), ("x-theirs", "1"), ("keep-alive", "timeout=5"), ("x-kept", "yes")]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    })
    .await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let body = asking("sql");
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authorization: Basic eA==\r\nUpgrade: websocket\r\nAuthorization: Bearer t\r\nX-Kept: yes\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = router.raw(request.as_bytes()).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("x-kept: yes"), "{answer}");
    assert!(!answer.contains("x-theirs") && !answer.contains("timeout=5"), "{answer}");
    let asked = engine.asked().await;
    for name in ["connection", "x-mine", "te", "keep-alive", "proxy-authorization", "upgrade"] {
        assert!(!asked.headers.contains_key(name), "{name}");
    }
    for (name, value) in [("authorization", "Bearer t"), ("x-kept", "yes"), ("content-type", "application/json")] {
        assert_eq!(asked.headers[name], value);
    }
}

#[tokio::test]
async fn ids_are_passed_on_or_made_and_the_client_learns_its_own() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let request =
        router.request(Method::POST, "/v1/completions").header("x-request-id", "abc-123").header("traceparent", parent);
    let answered = router.send(request.body(Full::new(asking("sql").into())).unwrap()).await;
    assert_eq!(answered.header("x-request-id"), Some("abc-123"));
    let asked = engine.asked().await;
    assert_eq!(
        (asked.headers["x-request-id"].to_str().unwrap(), asked.headers["traceparent"].to_str().unwrap()),
        ("abc-123", parent)
    );

    let answered = router.ask("sql").await;
    let asked = engine.asked().await;
    assert_eq!(answered.header("x-request-id"), asked.headers["x-request-id"].to_str().ok());
    assert!(asked.headers.contains_key("traceparent"));
    assert!(router.ask("ghost").await.header("x-request-id").is_some(), "errors have one too");
}

/// Reads one answer with a `content-length` from a connection that stays open.
async fn one_answer(stream: &mut tokio::net::TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    format!("{head}{}", String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order_also_when_sent_ahead() {
    let engine = Engine::with("e1", |asked| async move { answer(StatusCode::OK, asked.json()["n"].to_string()) }).await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let request = |n: u32| {
        let body = format!(r#"{{"model":"sql","n":{n}}}"#);
        format!("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let mut stream = router.connect().await;
    stream.write_all(request(1).as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.ends_with("\r\n\r\n1"));
    // Three at once, the second of which is refused by the proxy itself.
    let bad = "POST /v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(format!("{}{bad}{}", request(2), request(3)).as_bytes()).await.unwrap();
    assert!(one_answer(&mut stream).await.ends_with("\r\n\r\n2"));
    assert!(one_answer(&mut stream).await.starts_with("http/1.1 404"));
    assert!(one_answer(&mut stream).await.ends_with("\r\n\r\n3"));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let body = asking("sql");
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = router.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!engine.asked().await.headers.contains_key("expect"));
}

#[tokio::test]
async fn a_stopping_proxy_finishes_what_is_under_way_and_takes_nothing_new() {
    let (release, released) = tokio::sync::watch::channel(false);
    let mut engine = Engine::with("e1", move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            answer(StatusCode::OK, "late")
        }
    })
    .await;
    let mut router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let mut idle = router.connect().await;
    let client = router.client.clone();
    let request = router.request(Method::POST, "/v1/completions").body(Full::new(asking("sql").into())).unwrap();
    let under_way = tokio::spawn(async move { client.request(request).await });
    engine.asked().await;
    router.stop.cancel();
    // A connection on which nothing is under way is closed; nothing listens any more.
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(router.address).await.is_err());
    assert!(!router.serving.is_finished());
    release.send(true).unwrap();
    assert_eq!(under_way.await.unwrap().unwrap().status(), 200);
    tokio::time::timeout(PATIENCE, &mut router.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stopping_proxy_waits_no_longer_than_its_bound() {
    let mut engine = Engine::with("e1", |_| std::future::pending()).await;
    let mut router = Router::draining(
        ProxyConfig::default(),
        table(vec![on("sql", &[&engine])], Vec::new()),
        Duration::from_millis(10),
    )
    .await;
    let client = router.client.clone();
    let request = router.request(Method::POST, "/v1/completions").body(Full::new(asking("sql").into())).unwrap();
    let under_way = tokio::spawn(async move { client.request(request).await });
    engine.asked().await;
    router.stop.cancel();
    tokio::time::timeout(PATIENCE, &mut router.serving).await.unwrap().unwrap().unwrap();
    assert!(under_way.await.unwrap().is_err());
}
