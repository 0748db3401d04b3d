//! One suite of probes for the simulated engine and for the real one.
//!
//! It asks an engine that serves the [tiny model](crate::tiny), through HTTP alone, and knows only which version it
//! is. Where the simulated engine and the real one differ, the simulated one is wrong.
//!
//! The engine has to run with `--max-loras 2 --max-cpu-loras 4 --max-lora-rank 16 --max-model-len 128` and to see the
//! directory of the [fixtures](crate::adapters::fixtures) under the path that it is given. Its adapters are unloaded.

mod client;
mod death;
mod expect;
mod http;
mod report;
mod scenarios;
mod table;

use std::net::SocketAddr;
use std::path::Path;

use ::http::header::AUTHORIZATION;
use longshore_types::Secret;
use serde_json::{Value, json};

use crate::Version;
use http::{Answer, Call};
pub use report::{Outcome, Report};
use table::Row;

/// The key that an engine under test has, where it has one.
pub const KEY: &str = "secret";

/// How the engine was started, which decides what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// With adapters, which can be changed over HTTP.
    #[default]
    Full,
    /// With adapters that cannot be changed.
    NoUpdating,
    /// Without `--enable-lora`.
    NoLora,
}

/// The engine to be probed.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whose answers are expected.
    pub version: Version,
    /// How it was started.
    pub setting: Setting,
    /// Whether it asks for [`KEY`].
    pub has_key: bool,
    /// Whether the last probe may kill it.
    pub may_die: bool,
}

impl Target {
    /// A keyless engine with everything on, which survives.
    pub fn new(addr: SocketAddr, version: Version) -> Self {
        Self { addr, version, setting: Setting::Full, has_key: false, may_die: false }
    }

    fn key(&self) -> Option<Secret> {
        self.has_key.then(|| Secret::new(KEY))
    }

    async fn send(&self, call: Call) -> Result<Answer, String> {
        let call = if self.has_key { call.header(AUTHORIZATION, &format!("Bearer {KEY}")) } else { call };
        call.send(self.addr).await
    }

    async fn load(&self, name: &str, path: &Path) -> Result<Answer, String> {
        let body = json!({"lora_name": name, "lora_path": path});
        self.send(Call::post("/v1/load_lora_adapter", &body)).await
    }

    async fn unload(&self, name: &str) -> Result<Answer, String> {
        self.send(Call::post("/v1/unload_lora_adapter", &json!({"lora_name": name}))).await
    }

    async fn complete(&self, model: &str, tokens: usize) -> Result<Answer, String> {
        let body = json!({
            "model": model,
            "prompt": "hello world the adapter",
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": true,
        });
        self.send(Call::post("/v1/completions", &body)).await
    }

    /// Names and roots of the adapters that it lists.
    async fn adapters(&self) -> Result<Vec<(String, String)>, String> {
        let list = self.send(Call::get("/v1/models")).await?.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let models = list["data"].as_array().cloned().unwrap_or_default();
        let adapters = models.iter().filter(|model| !model["parent"].is_null());
        Ok(adapters.map(|model| (text(&model["id"]), text(&model["root"]))).collect())
    }
}

/// Runs every probe that fits the target. `adapters` holds the fixtures, at the same path for the engine.
pub async fn run(target: &Target, adapters: &Path) -> Report {
    let mut report = Report {
        target: format!("vLLM {} at {} ({:?})", target.version, target.addr, target.setting),
        outcomes: Vec::new(),
    };
    let dir = adapters.display().to_string();
    match target.setting {
        Setting::NoUpdating => rows(target, table::fixed_rows(&dir), &mut report).await,
        Setting::NoLora => rows(target, table::plain_rows(&dir), &mut report).await,
        Setting::Full => {
            report.add("life", "every adapter can be unloaded", unload_all(target).await);
            rows(target, table::rows(&dir), &mut report).await;
            if target.has_key {
                rows(target, table::key_rows(&dir), &mut report).await;
            }
            scenarios::run(target, adapters, &mut report).await;
            client::run(target, adapters, &mut report).await;
            if target.may_die {
                death::run(target, adapters, &mut report).await;
            }
        }
    }
    report
}

async fn rows(target: &Target, rows: Vec<Row>, report: &mut Report) {
    for Row { group, name, call, expect, with_key } in rows {
        let answer = if with_key { target.send(call).await } else { call.send(target.addr).await };
        report.add(group, name, answer.and_then(|answer| expect.check(target.version, &answer)));
    }
}

async fn unload_all(target: &Target) -> Result<(), String> {
    for (name, _) in target.adapters().await? {
        let answer = target.unload(&name).await?;
        check(answer.status == 200, || format!("{name}: {} {}", answer.status, answer.body))?;
    }
    Ok(())
}

fn check(good: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(otherwise()) }
}
