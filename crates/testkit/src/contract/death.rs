//! The end of an engine: the files of an adapter vanish while it is still registered.
//!
//! Memory has room for four adapters. Once four others have been used, the next request for the first one reads its
//! files again; where they are gone, the whole engine dies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::http::Call;
use super::report::Report;
use super::scenarios::Temporary;
use super::{Target, check};
use crate::Version;
use crate::adapters::{self, AdapterRecipe};

/// The real engines' processes were gone after 0.1 s and 2.4 s; this is far from both.
const GONE_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) async fn run(target: &Target, adapters: &Path, report: &mut Report) {
    const GROUP: &str = "death";
    let prepared = prepare(target, adapters).await;
    let ready = prepared.is_ok();
    report.add(GROUP, "an adapter answers from memory after its files have vanished", prepared);
    if !ready {
        return;
    }
    // Of two adapters in one batch, so that the victim has a place in it.
    let (bystander, stream) = (begin(target, false), begin(target, true));
    let seen = running(target).await;
    report.add(GROUP, "others are being answered", seen);
    let victim = target.complete("victim", 4).await;
    let dead = victim.and_then(|answer| {
        let right = answer.status == 500 && answer.body.contains("EngineCore encountered an issue.");
        check(right, || format!("{} {}", answer.status, answer.body))
    });
    report.add(GROUP, "once pushed out of memory, the request that names it is 500", dead);
    report.add(GROUP, "health is 503, or the process has gone already", health(target).await);
    let answer = bystander.await.map_err(|error| error.to_string()).and_then(|answer| answer);
    let failed = answer.and_then(|answer| check(answer.status == 500, || format!("{} {}", answer.status, answer.body)));
    report.add(GROUP, "another adapter's request in flight is 500", failed);
    let answer = stream.await.map_err(|error| error.to_string()).and_then(|answer| answer);
    let code = if target.version == Version::V0_32_0 { 500 } else { 400 };
    let ended = answer.and_then(|answer| {
        // Its status has been sent long ago: the error is an event.
        let mut events = answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).rev();
        let (done, last) = (events.next(), events.next().unwrap_or_default());
        let error: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        check(done == Some("[DONE]") && error["error"]["code"] == code, || format!("{last:?}, then {done:?}"))
    });
    report.add(GROUP, "a stream in flight ends with an error and [DONE]", ended);
    report.add(GROUP, "the process ends by itself", gone(target).await);
}

async fn prepare(target: &Target, fixtures: &Path) -> Result<(), String> {
    let dir = Temporary::new(fixtures, "vanishing")?;
    adapters::write(&dir.0, &AdapterRecipe::seeded(77)).map_err(|error| error.to_string())?;
    let load = async |name: &str, path: &Path| {
        let answer = target.load(name, path).await?;
        check(answer.status == 200, || format!("loading {name}: {} {}", answer.status, answer.body))
    };
    let answers = async |name: &str| {
        let answer = target.complete(name, 2).await?;
        check(answer.status == 200, || format!("completing with {name}: {} {}", answer.status, answer.body))
    };
    load("victim", &dir.0).await?;
    answers("victim").await?;
    fs::remove_dir_all(&dir.0).map_err(|error| error.to_string())?;
    answers("victim").await?;
    for name in ["a", "b", "c", "d"] {
        load(name, &fixtures.join(format!("r8-{name}"))).await?;
        answers(name).await?;
    }
    Ok(())
}

type Task = tokio::task::JoinHandle<Result<super::http::Answer, String>>;

/// A long request for an adapter that stays.
fn begin(target: &Target, stream: bool) -> Task {
    let target = target.clone();
    let body = json!({
        "model": "d", "prompt": "hello", "max_tokens": 120, "temperature": 0, "ignore_eos": true, "stream": stream,
    });
    tokio::spawn(async move { target.send(Call::post("/v1/completions", &body)).await })
}

async fn running(target: &Target) -> Result<(), String> {
    let look = async {
        loop {
            let metrics = target.send(Call::get("/metrics")).await?.body;
            let line = metrics.lines().find(|line| line.starts_with("vllm:num_requests_running{"));
            if line.is_some_and(|line| line.ends_with(" 2.0")) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.map_err(|_| "they were never seen".to_owned())?
}

async fn health(target: &Target) -> Result<(), String> {
    match target.send(Call::get("/health")).await {
        Ok(answer) => check(answer.status == StatusCode::SERVICE_UNAVAILABLE.as_u16(), || format!("{}", answer.status)),
        // It may have been quick.
        Err(_) => Ok(()),
    }
}

/// The older version's server stays until another request meets the dead engine.
async fn gone(target: &Target) -> Result<(), String> {
    let wait = async {
        while target.send(Call::get("/health")).await.is_ok() {
            if target.version == Version::V0_11_0 {
                // What it answers does not matter: it may be gone in between.
                let _ = target.complete(crate::tiny::NAME, 1).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(GONE_WITHIN, wait).await.map_err(|_| "it still answers".into())
}
