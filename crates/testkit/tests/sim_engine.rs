//! What a simulated engine can be told to do, and what it keeps through its lives.

// A test's helper may fail as a test does.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_testkit::adapters::{self, AdapterRecipe};
use longshore_testkit::{Answer, Faults, SimConfig, SimEngine, Version, What, digest};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to see that something hangs; nothing is concluded from what happens just after it.
const A_WHILE: Duration = Duration::from_millis(80);

struct Bench {
    engine: SimEngine,
    client: Client,
    dir: TempDir,
}

impl Bench {
    async fn new(config: SimConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        Self { engine: SimEngine::start(config).await.unwrap(), client, dir: tempfile::tempdir().unwrap() }
    }

    async fn with_version(version: Version) -> Self {
        Self::new(SimConfig::version(version)).await
    }

    fn adapter(&self, name: &str, seed: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        adapters::write(&path, &AdapterRecipe::seeded(seed)).unwrap();
        path
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(format!("{}{path}", self.engine.url())).json(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.engine.url())).send().await.unwrap()
    }

    async fn load(&self, name: &str, path: &Path) -> StatusCode {
        self.post("/v1/load_lora_adapter", &json!({"lora_name": name, "lora_path": path})).await.status()
    }

    async fn text(&self, model: &str) -> String {
        let answer = self.post("/v1/completions", &json!({"model": model, "prompt": "x", "max_tokens": 4})).await;
        let body: Value = answer.json().await.unwrap();
        body["choices"][0]["text"].as_str().unwrap_or_default().to_owned()
    }

    async fn adapters(&self) -> Vec<String> {
        let list: Value = self.get("/v1/models").await.json().await.unwrap();
        let name = |model: &Value| model["id"].as_str().unwrap().to_owned();
        list["data"].as_array().unwrap().iter().skip(1).map(name).collect()
    }

    async fn boot(&self) -> String {
        let metrics = self.get("/metrics").await.text().await.unwrap();
        metrics.lines().find(|line| line.starts_with("process_start_time_seconds")).unwrap().to_owned()
    }

    async fn is_refused(&self) -> bool {
        self.client.get(format!("{}/health", self.engine.url())).send().await.is_err_and(|error| error.is_connect())
    }

    async fn set(&self, faults: Faults) {
        self.engine.control().set(faults).await;
    }
}

#[tokio::test]
async fn an_answer_begins_with_the_digest_of_the_bytes_that_made_it() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let path = bench.adapter("a", 1);
    assert_eq!(bench.load("a", &path).await, 200);
    assert!(bench.text("a").await.starts_with(&digest(&path).unwrap().short()));
    assert!(bench.text("tiny-base").await.starts_with("tiny-base "));
}

#[tokio::test]
async fn a_restart_forgets_what_was_loaded_and_is_another_boot_on_the_same_port() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    bench.load("a", &bench.adapter("a", 1)).await;
    let (addr, before) = (bench.engine.addr(), bench.boot().await);
    bench.engine.restart().await.unwrap();
    assert_eq!(bench.engine.addr(), addr);
    assert_ne!(bench.boot().await, before);
    assert_eq!(bench.adapters().await, Vec::<String>::new());
    assert_eq!(bench.engine.control().boot(), 2);
}

#[tokio::test]
async fn adapters_of_the_configuration_come_back_and_can_be_unloaded() {
    let dir = tempfile::tempdir().unwrap();
    adapters::write(dir.path(), &AdapterRecipe::default()).unwrap();
    let fixed = vec![("fixed".to_owned(), dir.path().display().to_string())];
    let bench = Bench::new(SimConfig { static_adapters: fixed, ..SimConfig::default() }).await;
    assert_eq!(bench.adapters().await, ["fixed"]);
    let unloaded = bench.post("/v1/unload_lora_adapter", &json!({"lora_name": "fixed"})).await;
    assert_eq!(unloaded.status(), 200);
    assert_eq!(bench.adapters().await, Vec::<String>::new());
    bench.engine.restart().await.unwrap();
    assert_eq!(bench.adapters().await, ["fixed"]);
}

#[tokio::test]
async fn an_engine_does_not_start_with_an_adapter_that_it_cannot_load() {
    let static_adapters = vec![("x".to_owned(), "/no/such/path".to_owned())];
    let started = SimEngine::start(SimConfig { static_adapters, ..SimConfig::default() }).await;
    assert!(started.is_err_and(|error| error.to_string().contains("No adapter found for /no/such/path")));
}

#[tokio::test]
async fn a_killed_engine_refuses_connections_until_it_is_started_again() {
    let bench = Bench::with_version(Version::V0_11_0).await;
    bench.engine.kill().await;
    assert!(bench.is_refused().await);
    bench.engine.restart().await.unwrap();
    assert_eq!(bench.get("/health").await.status(), 200);
}

#[tokio::test]
async fn an_orderly_stop_finishes_what_is_in_flight() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let request = begin_slowly(&bench).await;
    let control = bench.engine.control();
    tokio::join!(bench.engine.stop(), control.set(Faults::default()));
    assert_eq!(request.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_repository_is_found_in_the_hub_and_nothing_outside_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = dir.path().join("hub");
    adapters::write(&hub.join("org/name"), &AdapterRecipe::seeded(1)).unwrap();
    adapters::write(&dir.path().join("outside"), &AdapterRecipe::seeded(2)).unwrap();
    let bench = Bench::new(SimConfig { hub: Some(hub), ..SimConfig::default() }).await;
    assert_eq!(bench.load("a", Path::new("org/name")).await, 200);
    for outside in ["../outside", "org/../../outside", "org/none", "s3://org/name"] {
        assert_eq!(bench.load("b", Path::new(outside)).await, 404, "{outside}");
    }
}

#[tokio::test]
async fn a_load_that_hangs_holds_up_completions_and_ends_when_it_may() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let path = bench.adapter("a", 1);
    bench.set(Faults { hang_load: true, ..Faults::default() }).await;
    let body = json!({"lora_name": "a", "lora_path": path});
    let load = bench.client.post(format!("{}/v1/load_lora_adapter", bench.engine.url())).json(&body).send();
    // Its caller gives up.
    let load = tokio::spawn(load);
    bench.engine.control().until_reading().await;
    load.abort();
    assert!(timeout(A_WHILE, bench.text("tiny-base")).await.is_err());
    assert_eq!(bench.get("/health").await.status(), 200);
    assert_eq!(bench.adapters().await, Vec::<String>::new());
    bench.set(Faults::default()).await;
    assert_eq!(bench.load("a", &path).await, 400, "it was loaded all the same");
}

#[tokio::test]
async fn each_call_can_be_made_to_hang_by_itself() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let hanging = [
        (Faults { hang_list: true, ..Faults::default() }, "/v1/models"),
        (Faults { hang_metrics: true, ..Faults::default() }, "/metrics"),
        (Faults { hang_all: true, ..Faults::default() }, "/version"),
    ];
    for (faults, path) in hanging {
        let others_hang = faults.hang_all;
        bench.set(faults).await;
        assert!(timeout(A_WHILE, bench.get(path)).await.is_err(), "{path}");
        if others_hang {
            assert!(timeout(A_WHILE, bench.get("/health")).await.is_err());
        } else {
            assert_eq!(bench.get("/health").await.status(), 200);
        }
        assert_eq!(bench.get("/sim/log").await.status(), 200);
        bench.set(Faults::default()).await;
        assert_eq!(bench.get(path).await.status(), 200);
    }
}

#[tokio::test]
async fn a_port_that_refuses_takes_connections_again() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    bench.load("a", &bench.adapter("a", 1)).await;
    bench.set(Faults { refuse: true, ..Faults::default() }).await;
    assert!(bench.is_refused().await);
    bench.set(Faults::default()).await;
    assert_eq!(bench.adapters().await, ["a"], "it is the same life");
}

#[tokio::test]
async fn loads_and_completions_can_be_given_any_answer() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let answer = Some(Answer { status: 503, text: "no room".into() });
    let faults = Faults { load_answer: answer.clone(), completion_answer: answer, ..Faults::default() };
    bench.set(faults).await;
    assert_eq!(bench.load("a", &bench.adapter("a", 1)).await, 503);
    let refused = bench.post("/v1/chat/completions", &json!({"messages": [{"role": "user", "content": "x"}]})).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("no room"));
    assert_eq!(bench.adapters().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_stream_can_be_reset_in_the_middle() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    bench.set(Faults { reset_after: Some(3), ..Faults::default() }).await;
    let body = json!({"prompt": "x", "max_tokens": 20, "stream": true});
    let answer = bench.post("/v1/completions", &body).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.is_err());
}

#[tokio::test]
async fn a_death_ends_what_is_in_flight_and_then_the_process() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let request = begin_slowly(&bench).await;
    bench.engine.control().die();
    bench.set(Faults::default()).await;
    assert_eq!(request.await.unwrap().unwrap().status(), 500);
    let gone = async {
        while !bench.is_refused().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert!(bench.engine.control().log().iter().any(|entry| entry.what == What::Death && entry.boot == 1));
}

#[tokio::test]
async fn the_log_counts_loads_and_unloads_with_their_outcome_and_life() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    bench.load("a", &bench.adapter("a", 1)).await;
    bench.load("b", Path::new("/no/such/path")).await;
    bench.engine.restart().await.unwrap();
    bench.post("/v1/unload_lora_adapter", &json!({"lora_name": "a"})).await;
    let seen: Vec<_> = bench.engine.control().log().into_iter().map(|e| (e.boot, e.what, e.name, e.status)).collect();
    let expected = [
        (1, What::Start, "", 200),
        (1, What::Load, "a", 200),
        (1, What::Load, "b", 404),
        (2, What::Start, "", 200),
        (2, What::Unload, "a", 404),
    ];
    assert_eq!(seen, expected.map(|(boot, what, name, status)| (boot, what, name.to_owned(), status)));
    let over_http: Value = bench.get("/sim/log").await.json().await.unwrap();
    assert_eq!(over_http["boot"], 2);
    assert_eq!(over_http["entries"][2]["what"], "load");
}

#[tokio::test]
async fn faults_can_be_set_over_http_for_a_while() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let asked = bench.post("/sim/faults", &json!({"faults": {"hang_list": true}, "for_ms": 50})).await;
    assert_eq!(asked.status(), 200);
    assert_eq!(bench.adapters().await, Vec::<String>::new(), "it answers when the time is over");
    assert_eq!(bench.post("/sim/faults", &json!({"faults": {"refuse": true}})).await.status(), 400);
    assert_eq!(bench.post("/sim/faults", &json!({"faults": {"no_such_fault": 1}})).await.status(), 400);
    bench.post("/sim/faults", &json!({"restart": true})).await;
    let restarted = async {
        while bench.engine.control().boot() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, restarted).await.unwrap();
}

#[tokio::test]
async fn an_adapter_that_was_loaded_in_place_is_read_again_each_time() {
    let bench = Bench::with_version(Version::V0_32_0).await;
    let path = bench.adapter("a", 1);
    let body = json!({"lora_name": "a", "lora_path": path, "load_inplace": true});
    assert_eq!(bench.post("/v1/load_lora_adapter", &body).await.status(), 200);
    let before = bench.text("a").await;
    bench.adapter("a", 2);
    let after = bench.text("a").await;
    assert_ne!(before[..12], after[..12], "no load came between");
}

/// Begins a completion that lasts until the faults are taken back, and waits until the engine makes its first token.
async fn begin_slowly(bench: &Bench) -> JoinHandle<reqwest::Result<Response>> {
    bench.set(Faults { token_delay_ms: Some(3_600_000), ..Faults::default() }).await;
    let url = format!("{}/v1/completions", bench.engine.url());
    let request = tokio::spawn(bench.client.post(url).json(&json!({"prompt": "x", "max_tokens": 4})).send());
    let running = async {
        loop {
            let metrics = bench.get("/metrics").await.text().await.unwrap();
            if metrics.lines().any(|line| line.starts_with("vllm:num_requests_running{") && line.ends_with(" 1.0")) {
                return;
            }
        }
    };
    timeout(PATIENCE, running).await.unwrap();
    request
}
