//! A router of its own that follows the fleet API of `longshore up`, as `longshore-router` does.

use std::time::Duration;

use longshore_proxy::{Controller, FleetConfig, FleetSource, Proxy, ProxyConfig, TableSource};
use longshore_runtime::CancellationToken;
use tokio::net::TcpListener;

use crate::harness::*;

struct Router {
    address: String,
    stop: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

impl Router {
    fn following(admin: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let controller: Controller = format!("http://{admin}").parse().unwrap();
        let source = FleetSource::new(FleetConfig::new(controller));
        let proxy = Proxy::new(ProxyConfig::default(), source.tables(), Some(source.missing()));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        runtime.spawn(source.run(stop.clone()));
        runtime.spawn(proxy.serve(listener, stop.clone(), Duration::from_secs(1)));
        Self { address, stop, runtime }
    }

    fn ask(&self, model: &str) -> Answer {
        post(
            &self.address,
            "/v1/completions",
            &format!(r#"{{"model": "{model}", "prompt": "Hello", "max_tokens": 4}}"#),
        )
    }
}

#[test]
fn a_second_router_follows_the_fleet_and_goes_on_when_the_controller_is_away() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    make_adapter(dir.path(), "two", 2);
    manifest(dir.path(), "a", "./one", "");
    let engine = Engine::start(&[]);
    let mut up = Up::start(dir.path(), &["--engine", &engine.url(), "-f", ".", "--leave-loaded"]);
    let router = Router::following(&up.admin);
    until("a is served by the second router", || router.ask("a").is_by("a"));
    assert_eq!(get(&router.address, "/v1/models").json()["data"].as_array().unwrap().len(), 2);

    // What changes is seen there too, and what is not ready says so.
    manifest(dir.path(), "b", "./two", "");
    until("b is served", || router.ask("b").is_by("b"));
    manifest(dir.path(), "c", "./nowhere", "");
    until("c is known", || router.ask("c").status == 503);
    std::fs::remove_file(dir.path().join("b.yaml")).unwrap();
    until("b is gone", || router.ask("b").status == 404);

    // An engine that has lost an adapter: this router tells the controller, which loads it again.
    assert_eq!(post(&engine.address, "/v1/unload_lora_adapter", r#"{"lora_name": "a"}"#).status, 200);
    until("a is served again", || {
        let answer = router.ask("a");
        assert!(answer.status == 503 || answer.is_by("a"), "I1: {answer:?}");
        answer.status == 200
    });

    // The controller goes, the routes stay.
    assert_eq!(up.process.terminate(), Some(0));
    assert!(router.ask("a").is_by("a"));
    router.stop.cancel();
    router.runtime.shutdown_background();
}
