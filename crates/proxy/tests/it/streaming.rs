use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::support::*;

/// An engine that streams what it is given, and the place to give it.
async fn streaming() -> (Engine, mpsc::UnboundedSender<&'static str>) {
    let (chunks, body) = streamed();
    let body = Arc::new(Mutex::new(Some(body)));
    let engine = Engine::with("e1", move |_| {
        let body = body.clone();
        async move {
            let mut response = answer(StatusCode::OK, body.lock().await.take().expect("asked once"));
            response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
    });
    (engine.await, chunks)
}

#[tokio::test]
async fn each_event_passes_before_the_next_one_is_sent() {
    let (engine, chunks) = streaming().await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let request = router.request(Method::POST, "/v1/completions").body(Full::new(asking("sql").into())).unwrap();
    // The head passes before there is any event.
    let response = tokio::time::timeout(PATIENCE, router.client.request(request)).await.unwrap().unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for chunk in ["data: 1\n\n", "data: 2\n\n", "data: [DONE]\n\n"] {
        chunks.send(chunk).unwrap();
        let frame =
            tokio::time::timeout(PATIENCE, body.frame()).await.expect("the event passes at once").unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), chunk);
    }
    drop(chunks);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn large_bodies_pass_intact_both_ways() {
    let mut engine = Engine::with("e1", |asked| async move { answer(StatusCode::OK, asked.body) }).await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    for (size, model) in [(60_000, "sql"), (1 << 20, "sql"), (8 << 20, "default/sql")] {
        let text: String = (0..size).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
        let with = |model: &str| serde_json::json!({"prompt": text, "model": model}).to_string();
        let answered = router.post("/v1/completions", with(model)).await;
        assert_eq!(answered.status, 200);
        // The engine got, and the client got back, every byte, but for the name that the engine knows.
        assert!(engine.asked().await.body == with("sql"), "{size}");
        assert!(answered.body == with("sql"), "{size}");
    }
}

#[tokio::test]
async fn a_chunked_request_is_passed_on_whole() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let request = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   8\r\n{\"model\"\r\n7\r\n:\"sql\"}\r\n0\r\n\r\n";
    assert!(router.raw(request.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let asked = engine.asked().await;
    assert_eq!(asked.body, r#"{"model":"sql"}"#);
    assert_eq!(asked.headers["content-length"], "15");
    assert!(!asked.headers.contains_key("transfer-encoding"));
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_cancels_the_engines_request() {
    let (sender, dropped) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let mut engine = Engine::with("e1", move |_| {
        let sender = sender.clone();
        async move {
            let _dropped = Dropped(sender.lock().await.take());
            std::future::pending().await
        }
    })
    .await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let mut client = router.connect().await;
    let body = asking("sql");
    let request = format!("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write_all(request.as_bytes()).await.unwrap();
    engine.asked().await;
    drop(client);
    tokio::time::timeout(PATIENCE, dropped).await.expect("the engine's request is cancelled").unwrap();
    let id = engine.endpoint().engine;
    tokio::time::timeout(PATIENCE, router.proxy.in_flight().drained(&id, &"sql".parse().unwrap())).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_cancels_it() {
    let (engine, chunks) = streaming().await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let mut client = router.connect().await;
    let body = asking("sql");
    let request = format!("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write_all(request.as_bytes()).await.unwrap();
    chunks.send("data: 1\n\n").unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(client);
    // The engine's side of the stream is gone, although it never sends anything more.
    tokio::time::timeout(PATIENCE, chunks.closed()).await.expect("the stream is cancelled");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let mut broken = Engine::dead("e1").await;
    broken.address = address;
    let router = Router::start(table(vec![on("sql", &[&broken])], Vec::new())).await;
    let request =
        router.request(Method::POST, "/v1/completions").body(Full::<Bytes>::new(asking("sql").into())).unwrap();
    let response = router.client.request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.unwrap();
    assert!(body.is_err(), "{body:?}");
    engine.await.unwrap();
}
