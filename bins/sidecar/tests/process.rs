//! The real process beside a simulated engine: from a set to SIGTERM, and under AIBrix's name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longshore_testkit::adapters::{AdapterRecipe, write};
use longshore_testkit::{SimConfig, SimEngine};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A bound that only a hang reaches.
const FAR: Duration = Duration::from_secs(60);

/// Ends the process with the test.
struct Sidecar {
    child: Child,
    url: String,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    /// Starts it and waits until it says where it listens.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).env("LONGSHORE_LOG_FORMAT", "text").spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let line = lines.by_ref().map(Result::unwrap).find(|line| {
            said.push_str(line);
            line.contains("Sidecar listening")
        });
        let line = line.unwrap_or_else(|| panic!("it ended: {said}"));
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: format!("http://{address}") }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(reqwest::Client::new().get(format!("{}{path}", self.url)).bearer_auth("hunter2")).await
    }
}

fn program(dir: &Path, sim: &SimEngine) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore-sidecar"));
    std::fs::write(dir.join("token"), "hunter2\n").unwrap();
    command.args(["--listen", "127.0.0.1:0", "--engine", &sim.url()]);
    command.arg("--store").arg(dir.join("store")).arg("--token-file").arg(dir.join("token"));
    command
}

fn adapter(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    write(&path, &AdapterRecipe::seeded(1)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_loads_goes_on_after_a_kill_and_stops_when_it_is_asked() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    let sidecar = Sidecar::start(&mut program(dir.path(), &sim));
    let set = json!({
        "stamp": {"leaseCreated": 1, "transitions": 1, "revision": 1}, "namespace": "default",
        "adapters": [{"name": "sql", "artifactURL": adapter(dir.path(), "sql")}],
    });
    let put = || reqwest::Client::new().put(format!("{}/v1/desired", sidecar.url)).json(&set);
    assert_eq!(sidecar.ask(put()).await.0, 401, "without the token");
    assert_eq!(sidecar.ask(put().bearer_auth("hunter2")).await.0, 200);
    until(&sidecar, |adapter| adapter["phase"] == "Running").await;
    assert_eq!(sidecar.get("/readyz").await.0, 200);
    assert_eq!(sidecar.get("/metrics").await.0, 200);
    let record = dir.path().join("store/.sidecar.json");
    let kept = async {
        while !std::fs::read_to_string(&record).is_ok_and(|text| text.contains("sha256:")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(FAR, kept).await.unwrap();
    drop(sidecar);

    let mut sidecar = Sidecar::start(&mut program(dir.path(), &sim));
    until(&sidecar, |adapter| adapter["phase"] == "Running").await;
    kill_process(Pid::from_child(&sidecar.child), Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || sidecar.child.wait().unwrap().code());
    assert_eq!(tokio::time::timeout(FAR, ended).await.unwrap().unwrap(), Some(0));
}

async fn until(sidecar: &Sidecar, is: impl Fn(&Value) -> bool) {
    let waiting = async {
        loop {
            let (status, answer) = sidecar.get("/v1/adapters/sql").await;
            if status == 200 && is(&answer) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(FAR, waiting).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_aibrixs_name_it_answers_as_that_and_in_its_place() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = tempfile::tempdir().unwrap();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    let link = dir.path().join("aibrix_runtime");
    symlink(env!("CARGO_BIN_EXE_longshore-sidecar"), &link).unwrap();
    let mut command = Command::new(&link);
    command.arg0("aibrix_runtime").args(["--host", "127.0.0.1", "--port", "0"]);
    command.env("INFERENCE_ENGINE_ENDPOINT", sim.url()).env("LONGSHORE_STORE", dir.path().join("store"));
    let sidecar = Sidecar::start(&mut command);
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    assert_eq!(sidecar.get("/ready").await, (200, json!({"status": "ready"})));
    let load = json!({"lora_name": "longshore-process-test", "artifact_url": adapter(dir.path(), "sql")});
    let url = format!("{}/v1/lora_adapter/load", sidecar.url);
    let (status, answer) = sidecar.ask(reqwest::Client::new().post(url).json(&load)).await;
    assert_eq!((status, &answer["status"]), (200, &json!("success")), "{answer}");
    let entry = Path::new(answer["local_path"].as_str().unwrap());
    assert!(entry.join("adapter_config.json").is_file(), "{answer}");
    let unload = json!({"lora_name": "longshore-process-test"});
    let url = format!("{}/v1/lora_adapter/unload", sidecar.url);
    assert_eq!(sidecar.ask(reqwest::Client::new().post(url).json(&unload)).await.0, 200);
}
