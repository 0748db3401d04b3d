//! The driver with the real reconciler, in paused time: fake engines, a fake depot, real manifest files.

mod declared;
mod ending;
mod trouble;

use std::fs;
use std::sync::Mutex;

use async_trait::async_trait;
use longshore_api::fleet::{self, Adapter, Missing};
use longshore_engine::{FakeCall, FakeEngine, FakeOperation, Models, Signals};
use longshore_types::{AdapterName, EngineId, Namespace};
use tokio::time::Instant;

use super::depot::tests::{FakeDepot, digest};
use super::*;
use crate::fleet::Update;

/// Engines by name.
#[derive(Default)]
struct FakeConnect(Mutex<BTreeMap<String, Arc<dyn Engine>>>);

impl Connect for FakeConnect {
    fn connect(&self, config: &EngineConfig) -> Result<Arc<dyn Engine>, Fault> {
        let engines = self.0.lock().unwrap();
        let missing = || Fault::new(Scope::Engine, "NoSuchEngine", "the test has no such engine");
        engines.get(&config.name).cloned().ok_or_else(missing)
    }
}

/// A driver that is about to start, and everything around it.
struct World {
    directory: tempfile::TempDir,
    depot: Arc<FakeDepot>,
    connect: Arc<FakeConnect>,
    engines: Vec<EngineConfig>,
    reconciler: Config,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("m")).unwrap();
        fs::write(directory.path().join("engines.yaml"), "").unwrap();
        let (depot, connect) = (FakeDepot::new(), Arc::default());
        Self { directory, depot, connect, engines: Vec::new(), reconciler: Config::default() }
    }

    /// Adds an engine that is named on the command line.
    fn engine(&mut self, url: &str, engine: Arc<dyn Engine>) {
        let config = EngineConfig::new(url).unwrap();
        self.connect.0.lock().unwrap().insert(config.name.clone(), engine);
        self.engines.push(config);
    }

    fn fake_engine(&mut self, url: &str) -> Arc<FakeEngine> {
        let engine = Arc::new(FakeEngine::new("tiny"));
        self.engine(url, engine.clone());
        engine
    }

    /// Writes the manifest of an adapter whose files are in `/srv/<name>` and have this digest.
    fn adapter(&self, name: &str, byte: u8) {
        self.depot.put(&format!("/srv/{name}"), Ok(digest(byte)));
        self.manifest(&format!("{name}.yaml"), &manifest(name, ""));
    }

    fn manifest(&self, file: &str, text: &str) {
        fs::write(self.directory.path().join("m").join(file), text).unwrap();
    }

    fn driver(&self) -> Driver {
        let named = [self.directory.path().join("m")];
        let scanner = Scanner::new(&named, Some(&self.directory.path().join("engines.yaml")));
        let (depot, connect) = (self.depot.clone(), self.connect.clone());
        let reconciler = self.reconciler.clone();
        Driver::assemble(reconciler, self.engines.clone(), scanner, depot, connect, Arc::new(NoRouter))
    }
}

fn manifest(name: &str, more: &str) -> String {
    format!(
        "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {{name: {name}}}\nspec:\n  artifactURL: \
         /srv/{name}\n  podSelector: {{matchLabels: {{model.aibrix.ai/name: tiny}}}}\n{more}"
    )
}

/// Waits until the adapter is as `is` says, or gone where that takes nothing. Paused time makes the bound free.
async fn until(local: &Local, name: &str, is: impl Fn(Option<&Adapter>) -> bool + Send + 'static) {
    let wanted = name.to_owned();
    let fleet = local.fleet();
    let seen = async {
        let mut watch = fleet.watch_adapters(None, move |adapter| adapter.name == wanted);
        while let Some(update) = watch.next().await {
            let now = match update {
                Update::Snapshot(snapshot) => snapshot.items.first().cloned(),
                Update::Upsert { item, .. } => Some(item),
                Update::Delete { .. } => None,
            };
            if is(now.as_deref()) {
                return;
            }
        }
    };
    let waited = timeout(Duration::from_secs(3600), seen).await;
    assert!(waited.is_ok(), "{name}: {:?}; {:?}", local.fleet().adapter("default", name), local.problems());
}

/// Waits until so many engines serve the adapter.
async fn served(local: &Local, name: &str, engines: usize) {
    until(local, name, move |adapter| {
        adapter.is_some_and(|adapter| adapter.phase == "Running" && adapter.endpoints.len() == engines)
    })
    .await;
}

fn endpoint(local: &Local, name: &str) -> fleet::Placement {
    local.fleet().adapter("default", name).unwrap().endpoints[0].clone()
}

fn held(engine: &FakeEngine) -> Vec<String> {
    engine.adapters().into_iter().map(|model| model.id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_manifest_declares_is_fetched_loaded_published_and_shown() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    let driver = world.driver();
    let mut changes = driver.changes();
    let local = driver.start();
    served(&local, "sql", 1).await;
    assert_eq!(engine.adapters()[0].root, world.depot.view().path_of(&digest(1)));
    let adapter = local.fleet().adapter("default", "sql").unwrap();
    assert_eq!(adapter.digest.as_deref(), Some(digest(1).to_string().as_str()));
    let endpoint = &adapter.endpoints[0];
    assert_eq!((endpoint.address.as_str(), endpoint.port, endpoint.state.as_str()), ("h", 1, "loaded"));
    assert_eq!(endpoint.boot, engine.boot().to_string());
    assert!(local.fleet().is_open());
    let status = local.statuses().into_values().next().unwrap();
    assert_eq!(status.phase.as_str(), "Running");
    let mut lines = Vec::new();
    while let Ok(change) = changes.try_recv() {
        lines.push(change.to_string());
    }
    let place = |text: &str| lines.iter().position(|line| line == text).unwrap_or_else(|| panic!("{text}: {lines:?}"));
    assert!(place("default/sql: Scheduled") < place("default/sql: Loading"));
    assert!(place("default/sql: Bound") < place("default/sql: Running"));
    assert_eq!(local.problems(), []);
}

#[tokio::test(start_paused = true)]
async fn i10_nothing_is_asked_or_told_once_all_is_well_but_one_listing_per_interval() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    // Long enough for the counts, which are written behind the phases.
    tokio::time::sleep(Duration::from_secs(10)).await;
    engine.take_calls();
    let (revision, mut changes) = (local.fleet().adapters().revision, local.changes());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let calls = engine.take_calls();
    let count = |operation| calls.iter().filter(|call| call.operation() == operation).count();
    assert!((29..=31).contains(&count(FakeOperation::Models)), "one per two seconds: {}", count(FakeOperation::Models));
    assert!(count(FakeOperation::Signals) <= 31);
    assert_eq!(count(FakeOperation::Load) + count(FakeOperation::Unload), 0);
    assert_eq!(local.fleet().adapters().revision, revision);
    assert!(changes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn i4_a_manifest_that_is_deleted_leaves_nothing_behind() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.reconciler.unpin_after = Duration::from_secs(60);
    world.adapter("sql", 1);
    world.adapter("code", 2);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    served(&local, "code", 1).await;
    let mut changes = local.changes();
    fs::remove_file(world.directory.path().join("m/sql.yaml")).unwrap();
    until(&local, "sql", |adapter| adapter.is_none()).await;
    while changes.recv().await.unwrap().to_string() != "default/sql: Deleted" {}
    assert_eq!(held(&engine), ["code"]);
    assert_eq!(local.statuses().len(), 1);
    assert!(world.depot.has(digest(1)), "an engine may yet read it for a request that it has accepted");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(!world.depot.has(digest(1)) && world.depot.has(digest(2)));
}

#[tokio::test(start_paused = true)]
async fn i1_an_engine_that_restarts_is_withdrawn_and_gets_its_adapters_back() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    let before = endpoint(&local, "sql").boot;
    engine.restart();
    let old = before.clone();
    until(&local, "sql", move |adapter| {
        adapter.is_some_and(|adapter| adapter.endpoints.iter().any(|endpoint| endpoint.boot != old))
    })
    .await;
    assert_ne!(engine.boot().to_string(), before);
    assert_eq!(held(&engine), ["sql"]);
}

#[tokio::test(start_paused = true)]
async fn i2_files_that_change_behind_their_reference_are_served_from_their_new_digest() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    world.depot.fingerprints.lock().unwrap().insert("/srv/sql".into(), "one".into());
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    world.depot.put("/srv/sql", Ok(digest(2)));
    world.depot.fingerprints.lock().unwrap().insert("/srv/sql".into(), "two".into());
    let new = digest(2).to_string();
    until(&local, "sql", move |adapter| {
        adapter.is_some_and(|adapter| adapter.endpoints.iter().any(|one| one.digest.as_ref() == Some(&new)))
    })
    .await;
    assert_eq!(engine.adapters()[0].root, world.depot.view().path_of(&digest(2)));
    assert_eq!(local.fleet().adapter("default", "sql").unwrap().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn engines_come_and_go_with_the_engines_file() {
    let mut world = World::new();
    world.fake_engine("h:1");
    let second = Arc::new(FakeEngine::new("tiny"));
    world.connect.0.lock().unwrap().insert("second".into(), second.clone());
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    let list = world.directory.path().join("engines.yaml");
    fs::write(&list, "- {url: 'h:2', name: second}\n").unwrap();
    served(&local, "sql", 2).await;
    assert_eq!(held(&second), ["sql"]);
    fs::write(&list, "- {url: 'h:2', name: second, kind: tgi}\n").unwrap();
    let mut changes = local.changes();
    while !changes.recv().await.unwrap().warning {}
    assert_eq!(local.problems()[0].line, Some(1), "{:?}", local.problems());
    assert_eq!(endpoints(&local), 2, "a list that is wrong takes nobody away");
    fs::write(&list, "- {url: 'h:1'}\n").unwrap();
    served(&local, "sql", 1).await;
    let problem = local.problems().remove(0).to_string();
    assert!(problem.ends_with("h:1 is named on the command line already, which keeps it"), "{problem}");
    let id = EngineId::new(Namespace::default_namespace(), "second");
    assert!(local.fleet().engine("default", &id.name).is_none());
}

fn endpoints(local: &Local) -> usize {
    local.fleet().adapter("default", "sql").unwrap().endpoints.len()
}
