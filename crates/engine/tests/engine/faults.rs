//! Networks, gateways and engines that do not do as they should.

use std::time::Duration;

use longshore_engine::{Engine, Vllm};
use longshore_types::{AdapterName, Fault, Scope};
use tokio::net::TcpListener;

use crate::server::{Answer, LOAD, METRICS, MODELS, Server, UNLOAD, Version, base_only, engine_at, error, raw, whole};

const SHORT: Duration = Duration::from_millis(100);

fn name() -> AdapterName {
    "x".parse().unwrap()
}

async fn load(engine: &Vllm) -> Result<(), Fault> {
    engine.load(&name(), "/srv/a/x", None).await
}

fn kind(result: Result<(), Fault>) -> (Scope, &'static str) {
    let fault = result.unwrap_err();
    (fault.scope, fault.reason)
}

async fn server() -> Server {
    Server::start(Version::V0_32).await
}

#[tokio::test]
async fn an_engine_that_is_not_there_refuses_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let engine = engine_at(address, |_| {});
    let fault = engine.models().await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Transient, "ConnectionRefused"));
    assert_eq!(fault.message, "GET /v1/models: connection refused");
    assert_eq!(engine.signals().await.unwrap_err().reason, "ConnectionRefused");
    assert_eq!(kind(load(&engine).await), (Scope::Transient, "ConnectionRefused"));
    assert_eq!(kind(engine.unload(&name(), None).await), (Scope::Transient, "ConnectionRefused"));
}

#[tokio::test]
async fn a_host_without_an_address_says_so() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let config = longshore_engine::VllmConfig::new("http://no-such-host.invalid:1".parse().unwrap());
    let fault = Vllm::new(longshore_engine::http_client().unwrap(), config).models().await.unwrap_err();
    // Where the machine's resolver does not answer at all, it is the connect timeout that ends it.
    assert_eq!(fault.scope, Scope::Transient);
    assert!(matches!(fault.reason, "ConnectFailed" | "ConnectTimeout"), "{fault:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_transient() {
    let (address, _task) = raw(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"data\":".to_vec()).await;
    let fault = engine_at(address, |_| {}).models().await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Transient, "ConnectionReset"));

    let (address, _task) = raw(|path| if path == MODELS { whole("200 OK", &base_only()) } else { Vec::new() }).await;
    assert_eq!(kind(load(&engine_at(address, |_| {})).await), (Scope::Transient, "ConnectionReset"));
}

#[tokio::test]
async fn an_engine_that_hangs_costs_no_more_than_its_deadline() {
    let server = server().await;
    let engine = server.engine_with(|config| config.call_timeout = SHORT);
    server.answer(MODELS, Answer::Hang);
    server.answer(METRICS, Answer::Hang);
    let fault = engine.models().await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Transient, "Timeout"));
    assert_eq!(fault.message, "GET /v1/models: no answer within 0.1 s");
    assert_eq!(engine.signals().await.unwrap_err().reason, "Timeout");
    // Nothing was asked that the engine might yet do.
    assert_eq!(kind(load(&engine).await), (Scope::Transient, "Timeout"));
    assert!(server.seen(LOAD).is_empty());
}

#[tokio::test]
async fn a_load_that_times_out_is_unknown_unless_a_listing_tells() {
    let server = server().await;
    let engine = server.engine_with(|config| config.load_timeout = SHORT);
    server.answer(LOAD, Answer::Hang);
    assert_eq!(kind(load(&engine).await), (Scope::Unknown, "LoadTimeout"));
    server.answer(LOAD, Answer::DoAndHang);
    load(&engine).await.expect("the listing has it");
    assert_eq!(server.adapters()["x"], "/srv/a/x");
}

#[tokio::test]
async fn an_unload_that_times_out_is_unknown_unless_a_listing_tells() {
    let server = server().await;
    server.put("x", "/srv/a/x");
    let engine = server.engine_with(|config| config.unload_timeout = SHORT);
    server.answer(UNLOAD, Answer::Hang);
    assert_eq!(kind(engine.unload(&name(), None).await), (Scope::Unknown, "UnloadTimeout"));
    server.answer(UNLOAD, Answer::DoAndHang);
    engine.unload(&name(), None).await.expect("the listing has it no more");
}

#[tokio::test]
async fn a_failure_is_a_success_where_the_listing_shows_it() {
    for (status, body) in [(500, "{}"), (502, "Bad Gateway"), (504, ""), (400, "has already been loaded"), (202, "")] {
        let server = server().await;
        server.answer(LOAD, Answer::DoAndSay(status, body.into()));
        server.answer(UNLOAD, Answer::DoAndSay(status, body.into()));
        load(&server.engine()).await.unwrap_or_else(|fault| panic!("{status}: {fault}"));
        server.engine().unload(&name(), None).await.unwrap_or_else(|fault| panic!("{status}: {fault}"));
    }
}

#[tokio::test]
async fn a_name_that_another_hand_takes_meanwhile_is_taken() {
    let (address, _task) = raw({
        let listings = std::sync::atomic::AtomicUsize::new(0);
        move |path| match path {
            MODELS if listings.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => whole("200 OK", &base_only()),
            MODELS => whole("200 OK", r#"{"data":[{"id":"x","root":"/srv/other","parent":"b"}]}"#),
            _ => whole(
                "400 Bad Request",
                &error("The lora adapter 'x' has already been loaded.", "InvalidUserInput", 400),
            ),
        }
    })
    .await;
    let fault = load(&engine_at(address, |_| {})).await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Engine, "NameTaken"));
    assert_eq!(fault.message, "`x` is the name of an adapter that was loaded from /srv/other");
}

#[tokio::test]
async fn a_success_that_is_not_the_engines_is_not_believed() {
    let server = server().await;
    for (status, body) in [(200, "<h1>Welcome</h1>"), (202, ""), (504, "Gateway Timeout")] {
        server.answer(LOAD, Answer::Say(status, body.into()));
        assert_eq!(kind(load(&server.engine()).await), (Scope::Unknown, "LoadTimeout"), "{status}");
    }
}

#[tokio::test]
async fn a_gateway_that_cannot_reach_the_engine_is_transient() {
    let server = server().await;
    for (status, reason) in [(502, "BadGateway"), (503, "Unavailable"), (429, "TooManyRequests")] {
        server.answer(LOAD, Answer::Say(status, "x".into()));
        assert_eq!(kind(load(&server.engine()).await), (Scope::Transient, reason));
        server.answer(MODELS, Answer::Say(status, "x".into()));
        let fault = server.engine().models().await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Transient, reason));
        server.answer(MODELS, Answer::Say(200, base_only()));
    }
}

#[tokio::test]
async fn an_unknown_refusal_with_no_listing_is_what_the_listing_failed_of() {
    let (address, _task) = raw({
        let listings = std::sync::atomic::AtomicUsize::new(0);
        move |path| match path {
            MODELS if listings.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => whole("200 OK", &base_only()),
            LOAD => whole("500 Internal Server Error", &error("something", "InternalServerError", 500)),
            _ => Vec::new(),
        }
    })
    .await;
    assert_eq!(kind(load(&engine_at(address, |_| {})).await), (Scope::Transient, "ConnectionReset"));
}

#[tokio::test]
async fn an_answer_of_another_form_is_no_answer() {
    let server = server().await;
    let deep = "[".repeat(100_000);
    for body in ["", "<html></html>", "{}", "[]", r#"{"data":[{"root":"/m"}]}"#, deep.as_str()] {
        server.answer(MODELS, Answer::Say(200, body.into()));
        let fault = server.engine().models().await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Engine, "InvalidAnswer"), "{body:.20}");
        server.answer(METRICS, Answer::Say(200, body.into()));
        let fault = server.engine().signals().await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Engine, "InvalidAnswer"), "{body:.20}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let server = server().await;
    let large = "x".repeat((16 << 20) + 1);
    server.answer(MODELS, Answer::Say(200, large.clone()));
    assert_eq!(server.engine().models().await.unwrap_err().reason, "InvalidAnswer");
    server.answer(METRICS, Answer::Say(200, large.clone()));
    assert_eq!(server.engine().signals().await.unwrap_err().reason, "InvalidAnswer");
    // The status of one that is too long still counts, its words do not.
    server.answer(MODELS, Answer::Say(200, base_only()));
    server.answer(LOAD, Answer::Say(500, large));
    let fault = load(&server.engine()).await.unwrap_err();
    assert_eq!((fault.reason, fault.message.as_str()), ("LoadFailed", "the engine refused: status 500"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = server().await;
    server.answer(MODELS, Answer::Echo(307, ""));
    let fault = server.engine().models().await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Engine, "UnexpectedStatus"));
    server.answer(MODELS, Answer::Say(200, base_only()));
    server.answer(LOAD, Answer::Echo(307, ""));
    assert_eq!(kind(load(&server.engine()).await), (Scope::Engine, "LoadFailed"));
    assert!(server.seen("/elsewhere").is_empty());
}
