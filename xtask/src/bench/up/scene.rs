//! What is measured: engines, `longshore up` and the files that it is told of, all below one temporary folder.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Client};
use crate::bench::{Options, Process, build_release};

/// How many engines there are.
pub(super) const ENGINES: usize = 3;
/// How many adapters there are, each on every engine.
pub(super) const ADAPTERS: usize = 20;
/// Adapters that an engine holds: those, one that is added and changed, and as many again that are on their way out.
const SLOTS: &str = "64";
/// The base model of the engines and of the adapters that Longshore makes as samples.
const BASE: &str = "tiny-base";
/// For anything that is waited for. Only a failure takes that long.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, and a folder that goes with this value.
pub(super) struct Scene {
    folder: TempDir,
    program: PathBuf,
    /// A sample adapter that others are made from: its configuration and weights.
    sample: (Vec<u8>, Vec<u8>),
    started: Cell<u32>,
}

impl Scene {
    /// Builds the program where none is named, and has it make its sample adapters.
    pub(super) fn new(options: &Options) -> Result<Self> {
        let program = match &options.program {
            Some(program) => program.canonicalize().with_context(|| program.display().to_string())?,
            None => build_release(&options.workspace, "longshore")?,
        };
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mut scene = Self { folder, program, sample: Default::default(), started: Cell::new(0) };
        let data = scene.path("data");
        let mut command = scene.command();
        command.env("XDG_DATA_HOME", &data).args(["up", "--simulate", "1"]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        Process::spawn(&mut command, scene.log("samples"))?.wait_for_log("requests on http://", PATIENCE)?;
        let sample = data.join("longshore/samples/adapters/sql-lora");
        let read = |name| fs::read(sample.join(name)).with_context(|| format!("no {name} in {}", sample.display()));
        scene.sample = (read("adapter_config.json")?, read("adapter_model.safetensors")?);
        Ok(scene)
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder in the folder, there from now on.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Makes an adapter whose bytes no other number has: the sample with another last weight.
    pub(super) fn adapter(&self, number: u16) -> Result<PathBuf> {
        let path = self.folder(&format!("adapters/{number}"))?;
        let (config, mut weights) = self.sample.clone();
        let last = weights.len().checked_sub(4).context("the sample adapter has no weights")?;
        weights[last..].copy_from_slice(&f32::from(number).to_le_bytes());
        fs::write(path.join("adapter_config.json"), config)?;
        fs::write(path.join("adapter_model.safetensors"), weights)?;
        Ok(path)
    }

    /// Declares [`ADAPTERS`] adapters in a new folder of manifests, and returns that.
    pub(super) fn manifests(&self, folder: &str) -> Result<PathBuf> {
        let folder = self.folder(folder)?;
        for (name, artifact) in self.adapters()? {
            declare(&folder, &name, &artifact)?;
        }
        Ok(folder)
    }

    /// The names of those, and where each lies.
    pub(super) fn adapters(&self) -> Result<Vec<(String, PathBuf)>> {
        (0..ADAPTERS).map(|number| Ok((format!("lora-{number}"), self.adapter(u16::try_from(number)?)?))).collect()
    }

    /// Starts that many engines.
    pub(super) fn engines(&self, count: usize) -> Result<Vec<Engine>> {
        let one = |_| {
            let mut command = self.command();
            command.args(["sim-engine", "--port", "0", "--served-model-name", BASE]);
            command.args(["--max-loras", SLOTS, "--token-delay", "0"]);
            let mut process = Process::spawn(&mut command, self.log("engine"))?;
            let line = process.wait_for_log("simulated engine on http://", PATIENCE)?;
            let (_, address) = line.rsplit_once("http://").context("an engine does not say where it is")?;
            Ok(Engine { _process: process, address: address.trim().to_owned() })
        };
        (0..count).map(one).collect()
    }

    /// Starts `longshore up` for the engines at these addresses, with an empty store, and returns as soon as it says
    /// where it answers.
    pub(super) fn up<'a>(&self, engines: impl IntoIterator<Item = &'a str>, manifests: &Path) -> Result<Up> {
        let store = self.log("store").with_extension("");
        let mut command = self.command();
        command.args(["up", "--plain", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.arg("--store").arg(store).arg("-f").arg(manifests);
        for engine in engines {
            command.args(["--engine", &format!("http://{engine},max-cpu-loras={SLOTS}")]);
        }
        let mut process = Process::spawn(&mut command, self.log("up"))?;
        let head = process.wait_for_log("requests on http://", PATIENCE)?;
        let after = |mark| {
            let (_, rest) = head.split_once(mark).with_context(|| format!("no {mark:?} in {head:?}"))?;
            Client::new(rest.split([',', ' ']).next().unwrap_or_default())
        };
        let (router, admin) = (after("requests on http://")?, after("fleet API on http://")?);
        Ok(Up { process, router, admin })
    }

    /// Nothing of the user's own settings reaches what is measured.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGSHORE_") || name == "VLLM_API_KEY" {
                command.env_remove(name);
            }
        }
        command.env_remove("VLLM_ALLOW_RUNTIME_LORA_UPDATING");
        command
    }

    /// A new name for what one process writes.
    fn log(&self, what: &str) -> PathBuf {
        self.started.set(self.started.get() + 1);
        self.path(&format!("{what}-{}.log", self.started.get()))
    }
}

/// A simulated engine, a process of its own.
pub(super) struct Engine {
    _process: Process,
    pub address: String,
}

impl Engine {
    /// From now on it accepts calls and never answers them.
    pub(super) fn hang(&self) -> Result<()> {
        let answer = Client::new(&self.address)?.post("/sim/faults", &json!({"faults": {"hang_all": true}}))?;
        if answer.status >= 300 {
            bail!("the engine does not take the fault: {}", answer.status);
        }
        Ok(())
    }
}

/// The engine that is told what to do by hand: the baseline of everything that Longshore does with engines.
pub(super) struct Hand(Client);

impl Hand {
    pub(super) fn on(engine: &Engine) -> Result<Self> {
        Client::new(&engine.address).map(Self)
    }

    pub(super) fn load(&mut self, name: &str, path: &Path) -> Result<()> {
        self.change("load", &json!({"lora_name": name, "lora_path": path}))
    }

    pub(super) fn unload(&mut self, name: &str) -> Result<()> {
        self.change("unload", &json!({"lora_name": name}))
    }

    /// Lists what the engine holds, and fails where the adapter is not in that.
    pub(super) fn see(&mut self, name: &str) -> Result<()> {
        if self.lists(name)? { Ok(()) } else { bail!("the engine does not list {name}") }
    }

    /// The same where it must not be.
    pub(super) fn miss(&mut self, name: &str) -> Result<()> {
        if self.lists(name)? { bail!("the engine still lists {name}") } else { Ok(()) }
    }

    fn lists(&mut self, name: &str) -> Result<bool> {
        let models = self.0.get("/v1/models")?.json()?;
        Ok(models["data"].as_array().into_iter().flatten().any(|model| model["id"] == name))
    }

    fn change(&mut self, what: &str, body: &Value) -> Result<()> {
        let answer = self.0.post(&format!("/v1/{what}_lora_adapter"), body)?;
        if answer.status != 200 {
            bail!("{what} of {body}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(())
    }
}

/// `longshore up`.
pub(super) struct Up {
    pub process: Process,
    router: Client,
    admin: Client,
}

impl Up {
    /// A completion of one token.
    pub(super) fn ask(&mut self, model: &str) -> Result<Answer> {
        ask(&mut self.router, model)
    }

    /// The same, and which digest has answered; `None` where there is no answer but an error.
    pub(super) fn served_by(&mut self, name: &str) -> Result<Option<String>> {
        let answer = self.ask(name)?;
        if answer.status != 200 {
            return Ok(None);
        }
        let by = answer.headers.get("x-longshore-adapter").and_then(|by| by.split_once('@'));
        match by {
            Some((served, digest)) if served == name => Ok(Some(digest.to_owned())),
            by => bail!("asked for {name}, was answered by {by:?}"),
        }
    }

    /// Every adapter, as the fleet API shows it; none before it knows them.
    pub(super) fn adapters(&mut self) -> Result<Vec<Value>> {
        let answer = self.admin.get("/v1/adapters")?;
        if answer.status == 503 {
            return Ok(Vec::new());
        }
        match answer.json()?["adapters"].take() {
            Value::Array(adapters) => Ok(adapters),
            other => bail!("the fleet API lists {other}"),
        }
    }

    /// Waits until there are so many adapters, each on so many engines.
    pub(super) fn until_ready(&mut self, adapters: usize, engines: usize) -> Result<()> {
        until(&format!("{adapters} adapters on {engines} engines"), Duration::from_millis(10), || {
            let all = self.adapters()?;
            let ready = all.iter().filter(|adapter| adapter["readyReplicas"] == engines).count();
            Ok((all.len() == adapters && ready == adapters).then_some(()))
        })
    }

    /// Waits until it says itself that it is ready.
    pub(super) fn until_up(&mut self) -> Result<()> {
        until("/readyz", Duration::from_millis(10), || Ok((self.admin.get("/readyz")?.status == 200).then_some(())))
    }
}

/// A completion of one token by `model`, from a router or from an engine.
pub(super) fn ask(server: &mut Client, model: &str) -> Result<Answer> {
    let body = json!({"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0});
    server.post("/v1/completions", &body)
}

/// Writes the manifest of an adapter for every engine aside, and puts it in its place, as editors do. Returns the moment
/// at which it was there.
pub(super) fn declare(folder: &Path, name: &str, artifact: &Path) -> Result<Instant> {
    let text = format!(
        "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata:\n  name: {name}\nspec:\n  podSelector:\n    \
         matchLabels:\n      model.aibrix.ai/name: {BASE}\n  artifactURL: {}\n",
        artifact.display()
    );
    let (aside, place) = (folder.join(format!(".{name}.tmp")), manifest(folder, name));
    fs::write(&aside, text).with_context(|| format!("cannot write {}", aside.display()))?;
    let now = Instant::now();
    fs::rename(&aside, &place).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(now)
}

/// Where the manifest of an adapter is.
pub(super) fn manifest(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.yaml"))
}

/// Asks again and again, with pauses, until there is an answer.
pub(super) fn until<T>(what: &str, pause: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().with_context(|| format!("while waiting for {what}"))? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {PATIENCE:?} for {what}");
        }
        thread::sleep(pause);
    }
}

/// How long something took, in milliseconds.
pub(super) fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_not_waited_for_after_an_error() {
        let error = until::<()>("a ship", Duration::ZERO, || bail!("no harbour")).unwrap_err();
        assert_eq!(format!("{error:#}"), "while waiting for a ship: no harbour");
        let mut left = 3;
        let counted = until("three", Duration::ZERO, || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(counted.unwrap(), "done");
    }

    #[test]
    fn a_manifest_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        declare(folder.path(), "sql", Path::new("/srv/sql")).unwrap();
        let text = fs::read_to_string(manifest(folder.path(), "sql")).unwrap();
        assert!(text.contains("\n  name: sql\n") && text.ends_with("artifactURL: /srv/sql\n"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
