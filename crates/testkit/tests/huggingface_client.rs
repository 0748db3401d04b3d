//! The real `huggingface_hub` client against our hub: what the one cannot download from, the other must not pass for.
//!
//! It has to be installed first, so it is run only when it is asked for: `cargo xtask e2e clients`, or
//!
//! ```text
//! LONGSHORE_CLIENTS=1 cargo test -p longshore-testkit --test huggingface_client -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use longshore_testkit::clients;
use longshore_testkit::hub::{Access, At, FakeHub, Fault, Server, Trouble};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

const TOOL: &str = "huggingface";
const WEIGHTS: &str = "adapter_model.safetensors";

struct Client {
    python: PathBuf,
    hub: FakeHub,
    cache: tempfile::TempDir,
}

/// The client and a hub, where it is asked for.
async fn client() -> Option<Client> {
    if let Some(why) = clients::not_asked_for(TOOL) {
        // The test harness shows what is printed only of tests that fail. Without a place to say it, nobody listens.
        let _ = writeln!(std::io::stderr(), "{why}");
        return None;
    }
    let installed = tokio::task::spawn_blocking(|| clients::install(TOOL)).await;
    let venv = installed.expect("nothing panics there").expect("the client can be installed");
    let hub = FakeHub::start().await.expect("a port is free");
    let cache = tempfile::tempdir().expect("a directory for its cache");
    Some(Client { python: venv.join("bin/python"), hub, cache })
}

impl Client {
    async fn run(&self, token: Option<&str>, arguments: &[&str]) -> Value {
        let [what, repo, revision, names @ ..] = arguments else { panic!("what, repository and revision are named") };
        let mut command = Command::new(&self.python);
        command.arg(clients::folder().join("huggingface.py")).args([what, repo, revision]);
        command.arg(self.cache.path().join("cache")).args(names).env_clear();
        command
            .env("HF_ENDPOINT", self.hub.url())
            .env("HF_HOME", self.cache.path())
            .env("HF_HUB_DISABLE_TELEMETRY", "1");
        command.env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
        command.envs(token.map(|token| ("HF_TOKEN", token)));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    async fn error(&self, token: Option<&str>, arguments: &[&str]) -> String {
        let said = self.run(token, arguments).await;
        said["error"].as_str().unwrap_or_else(|| panic!("it is a success: {said}")).to_owned()
    }
}

/// Bytes that do not repeat for long.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

fn files(seed: u32) -> Vec<(String, Vec<u8>)> {
    let file = |name: &str, bytes| (name.to_owned(), bytes);
    vec![
        file("README.md", b"# An adapter".to_vec()),
        file("adapter_config.json", format!(r#"{{"r":{seed}}}"#).into_bytes()),
        file(WEIGHTS, bytes(100_000, seed)),
        file("runs/best/adapter_config.json", b"{}".to_vec()),
        file("tokenizer/special/empty.json", Vec::new()),
    ]
}

fn digests(files: &[(String, Vec<u8>)]) -> Value {
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let digests: BTreeMap<_, _> = files.iter().map(|(name, bytes)| (name, hex(bytes))).collect();
    serde_json::json!({"files": digests})
}

#[tokio::test(flavor = "multi_thread")]
async fn it_downloads_a_repository_at_every_kind_of_revision() {
    let Some(client) = client().await else { return };
    client.hub.page(2);
    let first = client.hub.push("org/adapter", files(1));
    client.hub.name("org/adapter", "v1.0", &first);
    client.hub.name("org/adapter", "refs/pr/1", &first);
    client.hub.push("org/adapter", files(2));
    assert_eq!(client.run(None, &["snapshot", "org/adapter", "main"]).await, digests(&files(2)));
    for revision in ["v1.0", "refs/pr/1", &first] {
        assert_eq!(client.run(None, &["snapshot", "org/adapter", revision]).await, digests(&files(1)), "{revision}");
    }
    client.hub.rename("org/adapter", "org/renamed");
    let one = client.run(None, &["file", "org/adapter", "main", WEIGHTS, "runs/best/adapter_config.json"]).await;
    let wanted =
        files(2).into_iter().filter(|(name, _)| name == WEIGHTS || name.starts_with("runs")).collect::<Vec<_>>();
    assert_eq!(one, digests(&wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_a_connection_ended() {
    let Some(client) = client().await else { return };
    // It takes 10 MiB at a time, and keeps only whole ones.
    let large = vec![(WEIGHTS.to_owned(), bytes(24 << 20, 1))];
    client.hub.push("org/adapter", large.clone());
    client.hub.fail(Fault::at(At::Cdn, Trouble::Cut(15 << 20)));
    assert_eq!(client.run(None, &["snapshot", "org/adapter", "main"]).await, digests(&large));
    let log = client.hub.log();
    let ranges: Vec<_> =
        log.iter().filter(|asked| asked.server == Server::Cdn).filter_map(|asked| asked.range.as_ref()).collect();
    assert!(ranges.iter().any(|range| !range.starts_with("bytes=0-")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_let_in_by_its_token_and_shows_it_to_the_hub_alone() {
    let Some(client) = client().await else { return };
    client.hub.push("org/private", files(1));
    client.hub.push("org/gated", files(2));
    client.hub.restrict("org/private", Access::Private);
    client.hub.restrict("org/gated", Access::Gated);
    client.hub.admit("hf_good", "org/private");
    client.hub.admit("hf_good", "org/gated");
    client.hub.know("hf_other");
    for token in [None, Some("hf_other")] {
        assert_eq!(client.error(token, &["snapshot", "org/private", "main"]).await, "RepositoryNotFoundError");
        assert_eq!(client.error(token, &["file", "org/gated", "main", WEIGHTS]).await, "GatedRepoError");
    }
    assert_eq!(client.run(Some("hf_good"), &["snapshot", "org/private", "main"]).await, digests(&files(1)));
    assert_eq!(client.run(Some("hf_good"), &["snapshot", "org/gated", "main"]).await, digests(&files(2)));
    let log = client.hub.log();
    let mut cdn = log.iter().filter(|asked| asked.server == Server::Cdn).peekable();
    assert!(cdn.peek().is_some() && cdn.all(|asked| asked.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_knows_what_is_missing() {
    let Some(client) = client().await else { return };
    client.hub.push("org/adapter", files(1));
    for (arguments, error) in [
        (["file", "org/none", "main", WEIGHTS], "RepositoryNotFoundError"),
        (["file", "org/adapter", "v9", WEIGHTS], "RevisionNotFoundError"),
        (["file", "org/adapter", "main", "none.json"], "RemoteEntryNotFoundError"),
    ] {
        assert_eq!(client.error(None, &arguments).await, error, "{arguments:?}");
    }
    client.hub.fail(Fault::at(At::Cdn, Trouble::Expired).times(usize::MAX));
    assert_eq!(client.error(None, &["file", "org/adapter", "main", WEIGHTS]).await, "HfHubHTTPError");
}
