//! `longshore up` on a real vLLM.
//!
//! Run by `cargo xtask e2e vllm`; without `LONGSHORE_VLLM` it says that nothing was run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "it/harness.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod harness;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::*;
use longshore_testkit::Version;
use longshore_testkit::real::{RealConfig, RealVllm, not_asked_for};
use serde_json::Value;

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What the engine says for itself, as numbers where it gives them: tokens say more than text.
fn completion(address: &str, model: &str) -> Answer {
    let body = format!(
        r#"{{"model": "{model}", "prompt": "hello world the adapter", "max_tokens": 16, "temperature": 0, "ignore_eos": true, "logprobs": 0}}"#
    );
    post(address, "/v1/completions", &body)
}

fn tokens(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["choices"][0]["logprobs"]["tokens"].clone()
}

fn listed(address: &str) -> Vec<String> {
    let models: Value = get(address, "/v1/models").json();
    let models = models["data"].as_array().cloned().unwrap_or_default();
    models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

async fn up_on(version: Version) {
    if let Some(why) = not_asked_for(version) {
        return say(&why);
    }
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    make_adapter(dir.path(), "two", 2);
    manifest(dir.path(), "one", "./one", "");
    let mut engine = RealVllm::start(version, &RealConfig::default(), logs).await.unwrap();
    let direct = engine.addr().to_string();
    let url = engine.url();
    let up = Up::start(dir.path(), &["--engine", &url, "-f", "one.yaml"]);
    up.until_ready("one", 1);

    // Through the router and asked of vLLM directly: the same tokens, and others than the base model's.
    let through = completion(&up.router, "one");
    assert!(through.served_by().starts_with("one@"), "{through:?}");
    let own = tokens(&through);
    assert_eq!(own, tokens(&completion(&direct, "one")));
    assert_ne!(own, tokens(&completion(&direct, "tiny-base")));
    let base = completion(&up.router, "tiny-base");
    assert_eq!(base.served_by(), "");
    assert_eq!(tokens(&base), tokens(&completion(&direct, "tiny-base")));
    say(&format!("vLLM {version}: the adapter's tokens are the same through the router and directly"));

    // A changed artifact: other tokens under another digest, no failed request.
    let before = through.served_by().to_owned();
    manifest(dir.path(), "one", "./two", "");
    let mut asked = 0;
    until("the new bytes are served", || {
        let answer = completion(&up.router, "one");
        assert_eq!(answer.status, 200, "request {asked}: {answer:?}");
        asked += 1;
        answer.served_by() != before
    });
    let changed = tokens(&completion(&up.router, "one"));
    assert_ne!(changed, own);
    assert_eq!(changed, tokens(&completion(&direct, "one")));
    say(&format!("vLLM {version}: a changed artifact failed none of {asked} requests"));

    // Killed and started again on the same port.
    engine.kill9();
    until("requests are refused", || up.ask("one").status == 503);
    let watcher = {
        let (router, direct) = (up.router.clone(), direct.clone());
        std::thread::spawn(move || {
            let mut refused = 0;
            let mut answers_since = None;
            let begin = Instant::now();
            loop {
                assert!(begin.elapsed() < Duration::from_secs(300), "never served again");
                if answers_since.is_none() && get(&direct, "/v1/models").status == 200 {
                    answers_since = Some(Instant::now());
                }
                // One token: what a cold engine takes for a long first answer is its own.
                let body = r#"{"model": "one", "prompt": "hello", "max_tokens": 1, "temperature": 0}"#;
                let begun = Instant::now();
                let answer = post(&router, "/v1/completions", body);
                match answer.status {
                    200 => {
                        assert!(answer.served_by().starts_with("one@"), "I1: {answer:?}");
                        let (routed, answered) = (begun, Instant::now());
                        let since = answers_since.unwrap_or(begun);
                        let times = (routed.saturating_duration_since(since), answered - since);
                        return (refused, times, tokens(&completion(&router, "one")));
                    }
                    503 => refused += 1,
                    _ => panic!("{answer:?}"),
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let engine = RealVllm::start_on(version, &RealConfig::default(), logs, engine.addr()).await.unwrap();
    let (refused, (routed, answered), tokens_after) = watcher.join().unwrap();
    assert_eq!(tokens_after, changed, "after a restart other bytes answered");
    say(&format!(
        "vLLM {version}: after the engine answered /v1/models, a request was let through {routed:?} later and answered \
         {answered:?} later; {refused} requests got 503 before"
    ));

    // Deleting the manifest leaves the base alone.
    std::fs::remove_file(dir.path().join("one.yaml")).unwrap();
    until("vLLM lists only its base", || listed(&direct) == ["tiny-base"]);
    assert_eq!(up.ask("one").status, 404);
    drop(engine);
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_up_serves_an_adapter_on_vllm_0_32_0_through_a_change_a_kill_and_a_deletion() {
    up_on(Version::V0_32_0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_up_serves_an_adapter_on_vllm_0_11_0_through_a_change_a_kill_and_a_deletion() {
    up_on(Version::V0_11_0).await;
}
