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

/// What a started router says of itself: where it answers requests, and where its admin server is.
fn started(command: &mut Command) -> (Router, String, String) {
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    let mut router = Router(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(router.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut address_in = |message: &str| {
        let line = lines.find(|line| line.contains(message)).unwrap_or_else(|| panic!("no line says {message:?}"));
        serde_json::from_str::<Value>(&line).unwrap()["address"].as_str().unwrap().to_owned()
    };
    let (address, admin) = (address_in("Router listening"), address_in("Admin server listening"));
    // Whatever it says later is read, so that it never has to wait for that.
    std::thread::spawn(move || lines.for_each(drop));
    (router, address, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_is_ready_when_it_knows_the_fleet_answers_and_ends_well() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let controller = format!("http://{}", listener.local_addr().unwrap());
    let listed = Arc::new(Notify::new());
    let world = tokio::spawn(world(listener, listed.clone()));
    let test = tokio::task::spawn_blocking(move || {
        let (mut router, address, admin) =
            started(Command::new(env!("CARGO_BIN_EXE_longshore-router")).args(["--controller", &controller]));

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

/// An API server and an engine in one, at this address. The slices are held back until `listed`.
async fn cluster(listener: tokio::net::TcpListener, listed: Arc<Notify>) {
    let address = listener.local_addr().unwrap();
    let slice = json!({
        "metadata": {
            "name": "sql-1", "namespace": "default", "annotations": {
                "longshore.dev/adapter": "sql", "longshore.dev/base-model": "tiny", "longshore.dev/engine-kind": "vllm",
                "longshore.dev/digest": format!("sha256:{}", "ab".repeat(32)),
            },
        },
        "addressType": "IPv4",
        "ports": [{"port": address.port()}],
        "endpoints": [{
            "addresses": [address.ip().to_string()], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "e1", "namespace": "default", "uid": "u1"},
        }],
    });
    let list = |items: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"},
            "items": items,
        })
    };
    let (ours, nobody) = (list(json!([slice])), list(json!([])));
    let slices = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices";
    let router = axum::Router::new()
        .route(
            slices,
            get(move |request: Request| async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                if query.contains("watch=true") {
                    return axum::body::Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>())
                        .into_response();
                }
                if query.contains("service-name") {
                    return Json(nobody).into_response();
                }
                assert!(request.uri().path().contains("/default/"));
                assert!(request.headers()[header::USER_AGENT].to_str().unwrap().starts_with("longshore-router/"));
                listed.notified().await;
                Json(ours).into_response()
            }),
        )
        .route("/v1/completions", post(|request: Request| async move { Json(json!({"path": request.uri().path()})) }));
    axum::serve(listener, router).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_in_a_cluster_is_ready_when_it_knows_the_slices_though_no_controller_is_there() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let listed = Arc::new(Notify::new());
    let world = tokio::spawn(cluster(listener, listed.clone()));
    let test = tokio::task::spawn_blocking(move || {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("config");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "longshore-system"}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let (mut router, address, admin) = started(
            Command::new(env!("CARGO_BIN_EXE_longshore-router"))
                .args(["--namespace", "default"])
                .env("KUBECONFIG", &kubeconfig)
                .env("LONGSHORE_KUBERNETES", "true"),
        );
        let waiting = ask(&admin, "GET /readyz", "");
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("EndpointSlices"), "{waiting}");
        listed.notify_one();
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
            r#"longshore_router_table_adapters{state="Ready"} 1"#,
            r#"longshore_router_source_connected{list="slices/default"} 1"#,
            r#"longshore_router_source_connected{list="adapters"} 0"#,
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
fn without_a_cluster_a_router_for_one_says_where_it_looked() {
    let run = Command::new(env!("CARGO_BIN_EXE_longshore-router"))
        .arg("--kubernetes")
        .env("KUBECONFIG", "/nowhere/config")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("no cluster is known: neither KUBECONFIG"), "{said}");
}

#[test]
fn wrong_arguments_are_named_before_anything_is_started() {
    for (arguments, named) in [
        (&[][..], "one of --kubernetes and --controller is needed"),
        (&["--kubernetes", "--controller", "http://c:1"], "--kubernetes and --controller exclude each other"),
        (&["--kubernetes", "--controller-namespace", "No_Such"], "invalid namespace"),
        (&["--controller", "https://controller"], "must begin with `http://`"),
        (&["--controller", "http://c:1", "--namespace", "No_Such"], "invalid namespace"),
        (&["--controller", "http://c:1", "--max-attempts", "0"], "--max-attempts"),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_longshore-router"))
            .args(arguments)
            .env_remove("LONGSHORE_CONTROLLER")
            .env_remove("LONGSHORE_KUBERNETES")
            .output();
        let run = run.unwrap();
        assert_eq!(run.status.code(), Some(2));
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(said.contains(named), "{said}");
    }
}
