//! The admin server, first as a service and then over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use http_body_util::BodyExt;
use longshore_runtime::{AdminServer, BoundAdmin, CancellationToken, Listen, Readiness, Registry};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

async fn ask(router: Router, request: Request<Body>) -> (StatusCode, String) {
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn readyz_says_what_is_missing_and_livez_does_not_care() {
    let readiness = Readiness::new();
    let condition = readiness.condition("first listing of engines");
    let router = AdminServer::new(readiness.clone(), Registry::default()).into_router();

    let (status, body) = ask(router.clone(), get("/readyz")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "not ready\nwaiting for first listing of engines\n");
    for path in ["/livez", "/healthz"] {
        assert_eq!(ask(router.clone(), get(path)).await, (StatusCode::OK, "ok\n".into()));
    }

    condition.set();
    assert_eq!(ask(router.clone(), get("/readyz")).await, (StatusCode::OK, "ready\n".into()));
    readiness.stop();
    let (status, body) = ask(router.clone(), get("/readyz")).await;
    assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping\n"));
    assert_eq!(ask(router, get("/livez")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn livez_fails_where_only_a_new_process_helps_and_says_why() {
    let stuck = Arc::new(AtomicBool::new(false));
    let check = {
        let stuck = stuck.clone();
        move || if stuck.load(Ordering::SeqCst) { Err("the loop is stuck".to_owned()) } else { Ok(()) }
    };
    let router = AdminServer::new(Readiness::new(), Registry::default()).alive(check).into_router();
    for path in ["/livez", "/healthz"] {
        stuck.store(false, Ordering::SeqCst);
        assert_eq!(ask(router.clone(), get(path)).await, (StatusCode::OK, "ok\n".into()));
        stuck.store(true, Ordering::SeqCst);
        let failing = (StatusCode::SERVICE_UNAVAILABLE, "the loop is stuck\n".into());
        assert_eq!(ask(router.clone(), get(path)).await, failing);
    }
    assert_eq!(ask(router, get("/readyz")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_starts_late_adds_its_metrics_and_a_server_of_metrics_answers_nothing_else() {
    let admin = AdminServer::new(Readiness::new(), Registry::with_prefix("longshore"));
    let metrics = admin.metrics();
    let alone = BoundAdmin::of_metrics(metrics.clone(), &"127.0.0.1:0".parse().unwrap(), "--metrics").await.unwrap();
    let (address, stop) = (alone.local_addr(), CancellationToken::new());
    let served = tokio::spawn({
        let stop = stop.clone();
        async move { alone.serve(stop).await.unwrap() }
    });
    let router = admin.into_router();

    let loads = Counter::<u64>::default();
    metrics.add(|registry| registry.register("adapter_loads", "Adapter loads", loads.clone()));
    loads.inc();
    let line = "\nlongshore_adapter_loads_total 1\n";
    assert!(ask(router, get("/metrics")).await.1.contains(line));
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(raw(address, &request("/metrics")).await.contains(line));
    assert!(raw(address, &request("/livez")).await.starts_with("HTTP/1.1 404 "));
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn metrics_hold_what_was_registered_and_the_process_without_its_prefix() {
    let mut registry = Registry::with_prefix("longshore");
    let loads = Counter::<u64>::default();
    registry.register("adapter_loads", "Adapter loads", loads.clone());
    loads.inc();
    let router = AdminServer::new(Readiness::new(), registry).into_router();

    let answer = router.oneshot(get("/metrics")).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains("\nlongshore_adapter_loads_total 1\n"), "{text}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");

    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let start = value("process_start_time_seconds");
    // A test's process is young; an hour is room for a debugger, and boot time is kept in whole seconds.
    assert!(start > now - 3600.0 && start < now + 2.0, "{start} at {now}");
    assert!(value("process_resident_memory_bytes") > 1e5);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_threads") >= 1.0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let echo = Router::new().route("/echo", post(|body: Bytes| async move { body.len().to_string() }));
    let router = AdminServer::new(Readiness::new(), Registry::default()).merge(echo).into_router();
    let send = |bytes: usize| Request::post("/echo").body(Body::from(vec![0; bytes])).unwrap();
    assert_eq!(ask(router.clone(), send(1 << 20)).await, (StatusCode::OK, "1048576".into()));
    assert_eq!(ask(router, send((1 << 20) + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_answered_for() {
    let hang = Router::new().route("/hang", post(std::future::pending::<()>));
    let router = AdminServer::new(Readiness::new(), Registry::default()).merge(hang).into_router();
    let (status, _) = ask(router, Request::post("/hang").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

async fn start(routes: Router) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let admin = AdminServer::new(Readiness::new(), Registry::default()).merge(routes);
    let admin = admin.bind(&"127.0.0.1:0".parse::<Listen>().unwrap(), "--admin").await.unwrap();
    let (address, stop) = (admin.local_addr(), CancellationToken::new());
    let served = tokio::spawn({
        let stop = stop.clone();
        async move { admin.serve(stop).await.unwrap() }
    });
    (address, stop, served)
}

/// Sends `request` and reads until the server closes.
async fn raw(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_answers_on_a_socket_until_it_is_stopped() {
    let (address, stop, served) = start(Router::new()).await;
    let answer = raw(address, "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    stop.cancel();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_it_stops() {
    let (entered, mut entries) = tokio::sync::mpsc::channel(1);
    let release = CancellationToken::new();
    let gate = release.clone();
    let slow = post(move || async move {
        entered.send(()).await.unwrap();
        gate.cancelled().await;
        "done"
    });
    let (address, stop, served) = start(Router::new().route("/slow", slow)).await;
    let answer =
        tokio::spawn(async move { raw(address, "POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await });
    entries.recv().await.unwrap();
    stop.cancel();
    release.cancel();
    let answer = answer.await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    served.await.unwrap();
}

#[tokio::test]
async fn a_header_over_the_limit_is_refused() {
    let (address, _stop, _served) = start(Router::new()).await;
    let request = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(40 << 10));
    let answer = raw(address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
