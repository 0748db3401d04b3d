//! The local driver: engines named on a command line or in a file, manifests in files, a store on this machine.
//!
//! One task, the actor, owns the reconciler. Facts come to it, it decides, and each effect becomes a task of its own that
//! brings its outcome back as a fact; so nothing that hangs delays anything else (I11). Everything that people and
//! routers see is read from the [`FleetStore`], from the statuses and problems kept here, and from the stream of changes.

mod actor;
mod changes;
mod declared;
pub(crate) mod depot;
mod engine_config;
mod inbox;
pub(crate) mod link;
mod manifests;
mod problems;
mod resolve;
mod scan;
mod secrets;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use longshore_api::fleet::Demand;
use longshore_api::status::ModelAdapterStatus;
use longshore_artifacts::Artifacts;
use longshore_engine::{BaseUrl, Engine, Vllm, VllmConfig};
use longshore_reconciler::{Config, Reconciler};
use longshore_types::{EngineKind, Fault, ObjectKey, Scope, Secret};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::brain::Brain;
use crate::clock::Clock;
use crate::fleet::FleetStore;
use actor::{Actor, Shared, Statuses};
use changes::Changes;
use depot::{Depot, Files};
use inbox::Input;
use problems::Problems;
use scan::Scanner;
use secrets::SecretBook;

pub use crate::link::{NoRouter, Router};
pub use changes::Change;
pub use declared::Declared;
pub use engine_config::{EngineConfig, InvalidEngine, read_key_file};
pub use inbox::Left;
pub use problems::{About, Problem};

/// How often files and directories are looked through.
const LOOK: Duration = Duration::from_millis(250);

/// Reports of routers that wait to be taken in.
const REPORTS: usize = 64;

/// Makes the connection to an engine.
pub trait Connect: Send + Sync + 'static {
    /// The engine that `config` names. Does not reach out to it.
    ///
    /// # Errors
    /// A [`Fault`] where there can be no such engine.
    fn connect(&self, config: &EngineConfig) -> Result<Arc<dyn Engine>, Fault>;
}

/// Connects to engines that speak vLLM's protocol, all through one client.
#[derive(Clone, Debug)]
pub struct ConnectVllm {
    client: reqwest::Client,
    key: Option<Secret>,
}

impl ConnectVllm {
    /// With a client of its own.
    ///
    /// # Errors
    /// As [`longshore_engine::http_client`]: where the process has installed no TLS provider, or the system gives no
    /// certificates.
    pub fn new() -> Result<Self, longshore_engine::Error> {
        Ok(Self { client: longshore_engine::http_client()?, key: None })
    }

    /// The bearer token of engines that have none of their own.
    #[must_use]
    pub fn with_key(self, key: Secret) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl Connect for ConnectVllm {
    fn connect(&self, config: &EngineConfig) -> Result<Arc<dyn Engine>, Fault> {
        if config.kind == EngineKind::Sglang {
            let message = format!("{} is SGLang, which is not spoken yet: take it out", config.name);
            return Err(Fault::new(Scope::Engine, "UnsupportedEngine", message));
        }
        let wrong = |error: longshore_engine::Error| Fault::new(Scope::Engine, error.reason(), error.to_string());
        let base_url: BaseUrl = config.url().parse().map_err(wrong)?;
        let api_key = config.api_key.clone().or_else(|| self.key.clone());
        Ok(Arc::new(Vllm::new(self.client.clone(), VllmConfig { api_key, ..VllmConfig::new(base_url) })))
    }
}

/// What a local driver is given.
pub struct Options {
    /// How the reconciler behaves.
    pub reconciler: Config,
    /// Engines that are looked after for good.
    pub engines: Vec<EngineConfig>,
    /// A file that lists further engines: see [`EngineConfig`]. It is watched for changes.
    pub engines_file: Option<PathBuf>,
    /// Files, and directories with files `*.yaml`, `*.yml` and `*.json` at any depth, that declare adapters. They are
    /// watched for changes.
    pub manifests: Vec<PathBuf>,
    /// Where adapters come from and lie.
    pub artifacts: Artifacts,
    /// How engines are reached.
    pub connect: Arc<dyn Connect>,
    /// Who knows of requests under way.
    pub router: Arc<dyn Router>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("reconciler", &self.reconciler)
            .field("engines", &self.engines)
            .field("engines_file", &self.engines_file)
            .field("manifests", &self.manifests)
            .finish_non_exhaustive()
    }
}

/// A driver that is ready to start. Until then nothing happens, so whoever subscribes now misses nothing.
pub struct Driver {
    shared: Shared,
    inputs: mpsc::UnboundedReceiver<Input>,
    demand: (mpsc::Sender<Demand>, mpsc::Receiver<Demand>),
    engines: Vec<EngineConfig>,
    scanner: Scanner,
    reconciler: Config,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("engines", &self.engines).field("scanner", &self.scanner).finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver of what `options` name.
    pub fn new(options: Options) -> Self {
        let Options { reconciler, engines, engines_file, manifests, artifacts, connect, router } = options;
        let depot = Arc::new(store::ArtifactDepot::new(artifacts));
        let scanner = Scanner::new(&manifests, engines_file.as_deref());
        Self::assemble(reconciler, engines, scanner, depot, connect, router)
    }

    fn assemble(
        reconciler: Config,
        engines: Vec<EngineConfig>,
        scanner: Scanner,
        depot: Arc<dyn Depot>,
        connect: Arc<dyn Connect>,
        router: Arc<dyn Router>,
    ) -> Self {
        let (inbox, inputs) = mpsc::unbounded_channel();
        let changes = Changes::new();
        let shared = Shared {
            clock: Clock::start(),
            fleet: Arc::new(FleetStore::new()),
            statuses: Statuses::default(),
            resolved: Arc::default(),
            problems: Problems::new(changes.clone()),
            changes,
            files: Files::new(depot),
            secrets: SecretBook::default(),
            connect,
            router,
            inbox,
        };
        Self { shared, inputs, demand: mpsc::channel(REPORTS), engines, scanner, reconciler }
    }

    /// What there is, for the fleet API and for a router in this process.
    pub fn fleet(&self) -> Arc<FleetStore> {
        self.shared.fleet.clone()
    }

    /// Where routers' reports go.
    pub fn demand(&self) -> mpsc::Sender<Demand> {
        self.demand.0.clone()
    }

    /// Everything that happens from now on, in lines for people. A reader that is too slow misses the oldest.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Declares these adapters, beside what files say, before anything is decided on: what an engine holds of them is not
    /// taken for what nobody wants.
    pub fn declare(&self, declared: Vec<Declared>) {
        let _ = self.shared.inbox.send(Input::Declared(declared, None));
    }

    /// Starts it. Needs a tokio runtime.
    pub fn start(self) -> Local {
        let reconciler = Reconciler::new(self.reconciler.clone());
        self.start_with(reconciler)
    }

    fn start_with(self, brain: impl Brain) -> Local {
        let Self { shared, inputs, demand, engines, scanner, .. } = self;
        let (alive, ended) = watch::channel(());
        let looking = tokio::spawn(look(scanner, shared.clone()));
        let mut actor = Actor::new(brain, shared.clone(), inputs, demand.1);
        tokio::spawn(async move {
            let _alive = alive;
            actor.name_engines(engines);
            actor.run().await;
        });
        Local { shared, demand: demand.0, looking, ended }
    }
}

/// Looks through the files again and again. A look that hangs holds up the next one and nothing else.
async fn look(mut scanner: Scanner, shared: Shared) {
    let mut first = true;
    loop {
        let now = shared.clock.now();
        let looked = tokio::task::spawn_blocking(move || {
            let scan = scanner.look(now);
            (scanner, scan)
        });
        let Ok((back, scan)) = looked.await else { return };
        scanner = back;
        // The first one says that everything was read, even where there was nothing.
        if (first || !scan.is_empty()) && shared.inbox.send(Input::Scanned(Box::new(scan))).is_err() {
            return;
        }
        first = false;
        tokio::time::sleep(LOOK).await;
    }
}

/// A running local driver. Dropping it stops it where it stands: nothing is unloaded and no file is removed.
pub struct Local {
    shared: Shared,
    demand: mpsc::Sender<Demand>,
    looking: tokio::task::JoinHandle<()>,
    ended: watch::Receiver<()>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("problems", &self.problems()).finish_non_exhaustive()
    }
}

impl Local {
    /// What there is, for the fleet API and for a router in this process.
    pub fn fleet(&self) -> Arc<FleetStore> {
        self.shared.fleet.clone()
    }

    /// Where routers' reports go.
    pub fn demand(&self) -> mpsc::Sender<Demand> {
        self.demand.clone()
    }

    /// Everything that happens from now on, in lines for people. A reader that is too slow misses the oldest.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// What is wrong now with files, engines and the store.
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.problems.list()
    }

    /// The latest status of every object.
    pub fn statuses(&self) -> BTreeMap<ObjectKey, ModelAdapterStatus> {
        self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Declares these adapters and no others, beside what files say. What was declared before and is not among them is
    /// withdrawn and unloaded.
    ///
    /// Returns the generation that each object has by it, once that is known: none for one whose predecessor of the same name
    /// has not gone yet, and none at all where the driver has ended.
    pub fn declare(&self, declared: Vec<Declared>) -> impl Future<Output = BTreeMap<ObjectKey, i64>> + Send + use<> {
        let (answer, asked) = oneshot::channel();
        let _ = self.shared.inbox.send(Input::Declared(declared, Some(answer)));
        async move { asked.await.unwrap_or_default() }
    }

    /// The latest status of one object; none where there is none.
    pub fn status(&self, key: &ObjectKey) -> Option<ModelAdapterStatus> {
        self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The generation of an object whose artifact was last resolved, or could not be.
    pub fn resolved(&self, key: &ObjectKey) -> Option<i64> {
        self.shared.resolved.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Comes back when the driver has ended, which before a shutdown only a bug can make it do: without it nothing is
    /// looked after, so the process should end too.
    pub async fn ended(&self) {
        // The other side never sends: a change is its end.
        let _ = self.ended.clone().changed().await;
    }

    /// Stops. With `unload`, first withdraws every route, waits for requests under way as far as the drain's bound
    /// allows, and unloads everything from every engine, all within `bound`; then comes back with what is still loaded
    /// as far as is known. No file is removed, since what is loaded may be used until the engine is stopped too.
    pub async fn shutdown(self, unload: bool, bound: Duration) -> Vec<Left> {
        let mut left = Vec::new();
        if unload {
            let (done, withdrawn) = oneshot::channel();
            let _ = self.shared.inbox.send(Input::Withdraw(done));
            let in_time = timeout(bound, withdrawn).await.is_ok();
            tracing::debug!(in_time, "withdrew every adapter");
            let (answer, asked) = oneshot::channel();
            let _ = self.shared.inbox.send(Input::Left(answer));
            left = asked.await.unwrap_or_default();
        }
        let _ = self.shared.inbox.send(Input::Stop);
        self.ended().await;
        left
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.looking.abort();
        let _ = self.shared.inbox.send(Input::Stop);
    }
}
