//! What one request does to another: sequences and concurrency.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::net::unix::pipe::{OpenOptions, Sender};

use super::http::{Answer, Call};
use super::report::Report;
use super::{Target, check, unload_all};
use crate::Version;
use crate::adapters::{self, AdapterRecipe, CONFIG};

/// Enough tokens for an answer that lasts a while.
const LONG: usize = 110;
/// Between two looks at something that changes by itself.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn run(target: &Target, adapters: &Path, report: &mut Report) {
    let scenario = Scenario { target: target.clone(), adapters: adapters.to_owned() };
    let s = &scenario;
    s.case(report, "answers depend on the adapter's bytes and on nothing else", s.bytes_decide()).await;
    s.case(report, "a name that is loaded again answers with the new bytes", s.reloaded()).await;
    s.case(report, "of eight loads of one name one succeeds", s.one_of_eight()).await;
    s.case(report, "eight names load at once", s.eight_names()).await;
    s.case(report, "what memory cannot hold answers all the same", s.evicted()).await;
    s.case(report, "an unload does not wait for a running request, which finishes", s.unload_while_running()).await;
    s.case(report, "a third adapter waits for a place in the batch", s.third_waits()).await;
    s.case(report, "files that change under a loaded adapter change nothing while it is in memory", s.overwritten())
        .await;
    s.case(report, "a load blocks completions and loads, and nothing else", s.blocked()).await;
    s.case(report, "a client that gives up does not stop a load", s.given_up()).await;
    s.case(report, "a stream says what the whole answer says", s.streamed()).await;
    s.case(report, "failed loads leave answers as they were", s.not_poisoned()).await;
    s.case(report, "the metrics name the adapters of the last requests", s.named_in_metrics()).await;
}

struct Scenario {
    target: Target,
    adapters: PathBuf,
}

impl Scenario {
    async fn case(&self, report: &mut Report, name: &str, scenario: impl Future<Output = Result<(), String>>) {
        let result = scenario.await;
        let cleaned = unload_all(&self.target).await;
        report.add("scenario", name, result.and(cleaned));
    }

    fn fixture(&self, name: &str) -> PathBuf {
        self.adapters.join(name)
    }

    async fn load(&self, name: &str, fixture: &str) -> Result<(), String> {
        self.load_from(name, &self.fixture(fixture)).await
    }

    async fn load_from(&self, name: &str, path: &Path) -> Result<(), String> {
        let answer = self.target.load(name, path).await?;
        check(answer.status == 200, || format!("loading {name}: {} {}", answer.status, answer.body))
    }

    /// What a model answers to the one prompt that is used here.
    async fn text(&self, model: &str) -> Result<String, String> {
        let answer = self.target.complete(model, 16).await?;
        answer.text().ok_or_else(|| format!("completing with {model}: {} {}", answer.status, answer.body))
    }

    async fn bytes_decide(&self) -> Result<(), String> {
        for (name, fixture) in [("a", "r8-a"), ("copy", "r8-a-copy"), ("b", "r8-b")] {
            self.load(name, fixture).await?;
        }
        let (base, a, copy, b) = (
            self.text(crate::tiny::NAME).await?,
            self.text("a").await?,
            self.text("copy").await?,
            self.text("b").await?,
        );
        check(a == copy, || format!("the same bytes answered {a:?} and {copy:?}"))?;
        check(a != b && a != base && b != base, || format!("not all differ: {a:?}, {b:?}, {base:?}"))?;
        check(self.text("a").await? == a, || "the same question was answered in two ways".into())
    }

    async fn reloaded(&self) -> Result<(), String> {
        self.load("old", "r8-b").await?;
        let wanted = self.text("old").await?;
        self.load("a", "r8-a").await?;
        let before = self.text("a").await?;
        self.target.unload("a").await?;
        self.load("a", "r8-b").await?;
        let after = self.text("a").await?;
        check(before != after && after == wanted, || format!("{before:?}, then {after:?}, not {wanted:?}"))
    }

    async fn one_of_eight(&self) -> Result<(), String> {
        let loads: Vec<_> = (0..8).map(|_| self.spawn_load("same", "r8-a")).collect();
        let mut statuses = Vec::new();
        for load in loads {
            statuses.push(join(load).await?.status);
        }
        statuses.sort_unstable();
        check(statuses == [200, 400, 400, 400, 400, 400, 400, 400], || format!("{statuses:?}"))
    }

    async fn eight_names(&self) -> Result<(), String> {
        let loads: Vec<_> =
            ["a", "b", "c", "d", "e", "f", "g", "h"].map(|n| self.spawn_load(n, &format!("r8-{n}"))).into();
        for load in loads {
            let answer = join(load).await?;
            check(answer.status == 200, || format!("{} {}", answer.status, answer.body))?;
        }
        let listed = self.target.adapters().await?;
        check(listed.len() == 8, || format!("{listed:?}"))
    }

    /// Twice round eight adapters where memory has room for four: each is read again in between.
    async fn evicted(&self) -> Result<(), String> {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut texts = Vec::new();
        for name in names {
            self.load(name, &format!("r8-{name}")).await?;
            texts.push(self.text(name).await?);
        }
        for (name, text) in names.iter().zip(texts) {
            let again = self.text(name).await?;
            check(again == text, || format!("{name} answered {text:?}, then {again:?}"))?;
        }
        Ok(())
    }

    async fn unload_while_running(&self) -> Result<(), String> {
        self.load("a", "r8-a").await?;
        let text = self.text("a").await?;
        let running = self.spawn_completion("a", LONG);
        self.until("a request runs", |m| m.running > 0.0).await?;
        let unloaded = self.target.unload("a").await?;
        check(unloaded.status == 200, || format!("unloading: {} {}", unloaded.status, unloaded.body))?;
        let gone = self.target.complete("a", 1).await?;
        check(gone.status == 404, || format!("after the unload: {} {}", gone.status, gone.body))?;
        let finished = join(running).await?;
        let right = finished.text().is_some_and(|finished| finished.starts_with(text.trim_end_matches('\u{fffd}')));
        check(right, || format!("the running request: {} {}", finished.status, finished.body))
    }

    async fn third_waits(&self) -> Result<(), String> {
        for name in ["a", "b", "c"] {
            self.load(name, &format!("r8-{name}")).await?;
            // What is compiled at the first use would let the first answer end before the third begins.
            self.target.complete(name, 1).await?;
        }
        let running: Vec<_> = ["a", "b", "c"].map(|name| self.spawn_completion(name, LONG)).into();
        let newer = self.target.version == Version::V0_32_0;
        let waiting = |m: &Signals| m.running == 2.0 && m.waiting == 1.0 && (!newer || m.deferred == 1.0);
        let seen = self.until("two run and one waits", waiting).await;
        for request in running {
            let answer = join(request).await?;
            check(answer.status == 200, || format!("{} {}", answer.status, answer.body))?;
        }
        seen
    }

    async fn overwritten(&self) -> Result<(), String> {
        let dir = Temporary::new(&self.adapters, "overwritten")?;
        let write = |seed| adapters::write(&dir.0, &AdapterRecipe::seeded(seed)).map_err(|error| error.to_string());
        write(1)?;
        self.load_from("a", &dir.0).await?;
        let before = self.text("a").await?;
        write(2)?;
        let after = self.text("a").await?;
        check(before == after, || format!("{before:?}, then {after:?}"))
    }

    /// The configuration is a pipe: reading it lasts until the other end writes.
    async fn blocked(&self) -> Result<(), String> {
        self.load("other", "r8-b").await?;
        let pipe = Pipe::new(&self.adapters, "slow")?;
        let slow = self.spawn(&self.load_call("slow", &pipe.dir.0));
        let reading = pipe.until_read().await?;
        let base = self.spawn_completion(crate::tiny::NAME, 2);
        let second = self.spawn_load("second", "r8-c");
        // These answer while the engine reads.
        for path in ["/health", "/v1/models", "/metrics"] {
            let answer = self.target.send(Call::get(path)).await?;
            check(answer.status == 200, || format!("{path}: {}", answer.status))?;
        }
        let answer = self.target.unload("other").await?;
        check(answer.status == 200, || format!("unloading: {} {}", answer.status, answer.body))?;
        let waits = !base.is_finished() && !second.is_finished() && !slow.is_finished();
        reading.finish().await?;
        check(waits, || "something was answered while the engine was reading".into())?;
        for request in [slow, base, second] {
            let answer = join(request).await?;
            check(answer.status == 200, || format!("{} {}", answer.status, answer.body))?;
        }
        Ok(())
    }

    async fn given_up(&self) -> Result<(), String> {
        let pipe = Pipe::new(&self.adapters, "given-up")?;
        let slow = self.spawn(&self.load_call("slow", &pipe.dir.0));
        let reading = pipe.until_read().await?;
        slow.abort();
        // It was told to end, and its connection with it.
        let _ = slow.await;
        reading.finish().await?;
        let again = self.target.load("slow", &self.fixture("r8-a")).await?;
        check(again.status == 400, || format!("loaded again: {} {}", again.status, again.body))?;
        let listed = self.target.adapters().await?;
        let root = pipe.dir.0.display().to_string();
        check(listed == [("slow".to_owned(), root)], || format!("{listed:?}"))
    }

    async fn streamed(&self) -> Result<(), String> {
        self.load("a", "r8-a").await?;
        let whole = self.text("a").await?;
        let body = json!({
            "model": "a", "prompt": "hello world the adapter", "max_tokens": 16, "temperature": 0, "ignore_eos": true,
            "stream": true,
        });
        let answer = self.target.send(Call::post("/v1/completions", &body)).await?;
        let mut text = String::new();
        for line in answer.body.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let event: serde_json::Value =
                serde_json::from_str(&format!("{{{line}")).map_err(|error| error.to_string())?;
            text.push_str(event["choices"][0]["text"].as_str().unwrap_or_default());
        }
        check(text == whole, || format!("{text:?}, not {whole:?}"))
    }

    async fn not_poisoned(&self) -> Result<(), String> {
        self.load("a", "r8-a").await?;
        let before = (self.text("a").await?, self.text(crate::tiny::NAME).await?);
        for bad in ["wrong-base", "corrupt", "r64", "dora", "no-config", "wrong-base", "unknown-tensor"] {
            let answer = self.target.load("bad", &self.fixture(bad)).await?;
            check(answer.status >= 400, || format!("{bad}: {}", answer.status))?;
        }
        let after = (self.text("a").await?, self.text(crate::tiny::NAME).await?);
        check(before == after, || format!("{before:?}, then {after:?}"))
    }

    async fn named_in_metrics(&self) -> Result<(), String> {
        self.load("metric-a", "r8-a").await?;
        self.target.complete("metric-a", 4).await?;
        let named = |metrics: &str| {
            let labels = ["max_lora=\"2\"", "running_lora_adapters=\"metric-a\""];
            let series = metrics.lines().filter(|line| line.starts_with("vllm:lora_requests_info{"));
            series.into_iter().any(|line| labels.iter().all(|label| line.contains(label)))
        };
        self.until_metrics("a series with the adapter's name", named).await
    }

    fn load_call(&self, name: &str, path: &Path) -> Call {
        Call::post("/v1/load_lora_adapter", &json!({"lora_name": name, "lora_path": path}))
    }

    fn spawn(&self, call: &Call) -> Task {
        let (target, call) = (self.target.clone(), call.clone());
        tokio::spawn(async move { target.send(call).await })
    }

    fn spawn_load(&self, name: &str, fixture: &str) -> Task {
        self.spawn(&self.load_call(name, &self.fixture(fixture)))
    }

    fn spawn_completion(&self, model: &str, tokens: usize) -> Task {
        let (target, model) = (self.target.clone(), model.to_owned());
        tokio::spawn(async move { target.complete(&model, tokens).await })
    }

    /// Requests of [`LONG`] tokens last long enough to be seen.
    async fn until(&self, what: &str, so: impl Fn(&Signals) -> bool) -> Result<(), String> {
        self.until_metrics(what, |metrics| so(&Signals::of(metrics))).await
    }

    /// Looks at the metrics until they say so.
    async fn until_metrics(&self, what: &str, so: impl Fn(&str) -> bool) -> Result<(), String> {
        let look = async {
            loop {
                if so(&self.target.send(Call::get("/metrics")).await?.body) {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), look).await.map_err(|_| format!("never seen: {what}"))?
    }
}

type Task = tokio::task::JoinHandle<Result<Answer, String>>;

async fn join(task: Task) -> Result<Answer, String> {
    task.await.map_err(|error| error.to_string())?
}

struct Signals {
    running: f64,
    waiting: f64,
    deferred: f64,
}

impl Signals {
    fn of(metrics: &str) -> Self {
        let value = |name: &str, label: &str| {
            let line = metrics.lines().find(|l| l.starts_with(&format!("vllm:{name}{{")) && l.contains(label));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(-1.0)
        };
        Self {
            running: value("num_requests_running", ""),
            waiting: value("num_requests_waiting", ""),
            deferred: value("num_requests_waiting_by_reason", "deferred"),
        }
    }
}

/// A directory beside the fixtures, where the engine sees it, which goes with the value.
pub(super) struct Temporary(pub(super) PathBuf);

impl Temporary {
    pub(super) fn new(beside: &Path, name: &str) -> Result<Self, String> {
        let dir = beside.join(format!("{name}-{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
        }
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        Ok(Self(dir))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may be gone: a scenario that removes it is one of them.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An adapter whose configuration is a named pipe.
struct Pipe {
    dir: Temporary,
    config: Vec<u8>,
}

impl Pipe {
    fn new(beside: &Path, name: &str) -> Result<Self, String> {
        let dir = Temporary::new(beside, name)?;
        adapters::write(&dir.0, &AdapterRecipe::seeded(9)).map_err(|error| error.to_string())?;
        let path = dir.0.join(CONFIG);
        let config = fs::read(&path).map_err(|error| error.to_string())?;
        fs::remove_file(&path).map_err(|error| error.to_string())?;
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        check(made.is_ok_and(|status| status.success()), || "mkfifo does not work here".into())?;
        Ok(Self { dir, config })
    }

    /// Waits until the engine reads: only then can the other end be opened without waiting.
    async fn until_read(&self) -> Result<Reading<'_>, String> {
        let path = self.dir.0.join(CONFIG);
        let open = async {
            loop {
                match OpenOptions::new().open_sender(&path) {
                    Ok(sender) => return Reading { sender, config: &self.config },
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), open).await.map_err(|_| "the engine never read the pipe".into())
    }
}

/// The writing end of a pipe that the engine reads.
struct Reading<'a> {
    sender: Sender,
    config: &'a [u8],
}

impl Reading<'_> {
    /// Lets the engine go on.
    async fn finish(self) -> Result<(), String> {
        self.sender.writable().await.map_err(|error| error.to_string())?;
        let written = self.sender.try_write(self.config).map_err(|error| error.to_string())?;
        check(written == self.config.len(), || format!("{written} bytes went into the pipe"))
    }
}
