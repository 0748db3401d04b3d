//! The real process: from "not ready" by a first request to SIGTERM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// Ends the process with the test.
struct Router(Child);

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends a request and reads the answer whole.
fn ask(address: &str, request_line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The stream of events of one list: a snapshot, and then nothing for as long as the connection lasts.
fn followed(list: &Value) -> Response {
    use std::convert::Infallible;

    let event = format!("event: snapshot\nid: 1\ndata: {list}\n\n");
    let mut first = Some(event);
    let stream = futures::stream::poll_fn(move |_| match first.take() {
        Some(event) => std::task::Poll::Ready(Some(Ok::<_, Infallible>(event))),
        None => std::task::Poll::Pending,
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], axum::body::Body::from_stream(stream)).into_response()
}

/// A controller and an engine in one, at this address. The list of engines is held back until `listed`.
async fn world(listener: tokio::net::TcpListener, listed: Arc<Notify>) {
    let address = listener.local_addr().unwrap();
    let adapters = json!({"revision": "1", "adapters": [{
        "namespace": "default", "name": "sql", "kind": "ModelAdapter", "object": "sql", "baseModel": "tiny",
        "artifactURL": "s3://bucket/sql", "digest": null, "bytes": null, "rank": null, "phase": "Running", "reason": "",
        "message": "", "priority": 0, "desiredReplicas": 1, "readyReplicas": 1, "generation": 1, "engines": [],
        "endpoints": [{
            "pod": "e1", "namespace": "default", "address": address.ip().to_string(), "port": address.port(), "node": null,
            "zone": null, "boot": "b", "digest": format!("sha256:{}", "ab".repeat(32)), "state": "loaded",
        }],
    }]});
    let engines = json!({"revision": "1", "engines": [{
        "engine": "e1", "namespace": "default", "url": format!("http://{address}"), "kind": "vllm", "baseModel": "tiny",
        "ready": true, "boot": "b",
    }]});
    let router = axum::Router::new()
        .route("/v1/adapters", get(move || std::future::ready(followed(&adapters))))
        .route(
            "/v1/engines",
            get(move || async move {
                listed.notified().await;
                followed(&engines)
            }),
        )
        .route("/v1/completions", post(|request: Request| async move { Json(json!({"path": request.uri().path()})) }));
    axum::serve(listener, router).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_ready_when_it_knows_the_fleet_answers_and_ends_well() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let controller = format!("http://{}", listener.local_addr().unwrap());
    let listed = Arc::new(Notify::new());
    let world = tokio::spawn(world(listener, listed.clone()));
    let test = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore-router"));
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--controller",
            &controller,
        ]);
        let mut router = Router(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(router.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut address_in = |message: &str| {
            let line = lines.find(|line| line.contains(message)).unwrap_or_else(|| panic!("no line says {message:?}"));
            serde_json::from_str::<Value>(&line).unwrap()["address"].as_str().unwrap().to_owned()
        };
        let address = address_in("Router listening");
        let admin = address_in("Admin server listening");

        assert!(ask(&admin, "GET /livez", "").starts_with("HTTP/1.1 200"));
        let waiting = ask(&admin, "GET /readyz", "");
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("lists of adapters and engines"), "{waiting}");
        assert!(ask(&address, "POST /v1/completions", r#"{"model":"sql"}"#).starts_with("HTTP/1.1 503"));
        listed.notify_one();
        // There is no event to wait for in another process but the one that is asked about.
        while !ask(&admin, "GET /readyz", "").starts_with("HTTP/1.1 200") {
            std::thread::yield_now();
        }

        let answer = ask(&address, "POST /v1/completions", r#"{"model":"sql"}"#);
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("x-longshore-adapter: sql@abababababab"),
            "{answer}"
        );
        let metrics = ask(&admin, "GET /metrics", "");
        for line in [
            r#"longshore_router_requests_total{adapter="default/sql",class="Ok"} 1"#,
            r#"longshore_router_source_connected{list="engines"} 1"#,
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }

        kill_process(Pid::from_child(&router.0), Signal::TERM).unwrap();
        assert_eq!(router.0.wait().unwrap().code(), Some(0));
    });
    test.await.unwrap();
    world.abort();
}

#[test]
fn wrong_arguments_are_named_before_anything_is_started() {
    for (arguments, named) in [
        (&[][..], "--controller"),
        (&["--controller", "https://controller"], "must begin with `http://`"),
        (&["--controller", "http://c:1", "--namespace", "No_Such"], "invalid namespace"),
        (&["--controller", "http://c:1", "--max-attempts", "0"], "--max-attempts"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_longshore-router"))
            .args(arguments)
            .env_remove("LONGSHORE_CONTROLLER")
            .output();
        let run = run.unwrap();
        assert_eq!(run.status.code(), Some(2));
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(said.contains(named), "{said}");
    }
}
