//! The driver with the real reconciler, in paused time: fake engines, a fake depot, real manifest files.

use std::fs;
use std::sync::Mutex;

use async_trait::async_trait;
use longshore_api::fleet::{self, Adapter, Missing};
use longshore_engine::{FakeCall, FakeEngine, FakeOperation, Models, Signals};
use longshore_types::{AdapterName, EngineId, Namespace, Secret};
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
async fn i11_an_engine_that_hangs_delays_no_other() {
    let mut world = World::new();
    let good = world.fake_engine("h:1");
    let hung = world.fake_engine("h:2");
    for operation in [FakeOperation::Models, FakeOperation::Signals, FakeOperation::Load, FakeOperation::Unload] {
        hung.hang(operation);
    }
    world.adapter("sql", 1);
    let begin = Instant::now();
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(4), "in paused time this is exact: {:?}", begin.elapsed());
    assert_eq!(held(&good), ["sql"]);
    let problems = local.problems();
    assert_eq!(problems.len(), 1);
    assert!(matches!(&problems[0].about, About::Engine(engine) if &*engine.name == "h:2"), "{problems:?}");
}

#[tokio::test(start_paused = true)]
async fn i11_an_engine_that_never_answers_does_not_keep_the_fleet_from_being_shown() {
    let mut world = World::new();
    world.engine("h:2", Arc::new(Mute));
    let local = world.driver().start();
    let begin = Instant::now();
    while !local.fleet().is_open() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
    }
}

/// Answers nothing, ever.
struct Mute;

#[async_trait]
impl Engine for Mute {
    async fn models(&self) -> Result<Models, Fault> {
        std::future::pending().await
    }
    async fn signals(&self) -> Result<Signals, Fault> {
        std::future::pending().await
    }
    async fn load(&self, _: &AdapterName, _: &str, _: Option<&Secret>) -> Result<(), Fault> {
        std::future::pending().await
    }
    async fn unload(&self, _: &AdapterName, _: Option<&Secret>) -> Result<(), Fault> {
        std::future::pending().await
    }
}

/// Has a bug in its first load and its first listing.
struct Buggy {
    engine: FakeEngine,
    bugs: Mutex<Vec<&'static str>>,
}

impl Buggy {
    fn trip(&self, what: &'static str) {
        let mut bugs = self.bugs.lock().unwrap();
        if let Some(place) = bugs.iter().position(|bug| *bug == what) {
            bugs.remove(place);
            drop(bugs);
            panic!("a bug in {what}");
        }
    }
}

#[async_trait]
impl Engine for Buggy {
    async fn models(&self) -> Result<Models, Fault> {
        self.trip("models");
        self.engine.models().await
    }
    async fn signals(&self) -> Result<Signals, Fault> {
        self.engine.signals().await
    }
    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault> {
        self.trip("load");
        self.engine.load(name, path, key).await
    }
    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault> {
        self.engine.unload(name, key).await
    }
}

#[tokio::test(start_paused = true)]
async fn i12_work_that_panics_is_answered_for_and_done_again() {
    let mut world = World::new();
    let engine = Arc::new(Buggy { engine: FakeEngine::new("tiny"), bugs: Mutex::new(vec!["models", "load"]) });
    world.engine("h:1", engine.clone());
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert_eq!(*engine.bugs.lock().unwrap(), [""; 0]);
    assert_eq!(held(&engine.engine), ["sql"]);
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
async fn i11_a_manifest_that_is_wrong_is_a_problem_with_its_place_and_nothing_else_stops() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    world.manifest("wrong.yaml", &manifest("wrong", "  replicas: -1\n"));
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    let problems = local.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let (field, line) = (problems[0].field.as_deref(), problems[0].line);
    assert_eq!((field, line), (Some("spec.replicas"), Some(7)), "{}", problems[0]);
    let mut changes = local.changes();
    world.adapter("wrong", 2);
    served(&local, "wrong", 1).await;
    assert_eq!(local.problems(), []);
    assert_eq!(held(&engine), ["sql", "wrong"]);
    let lines: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.to_string()).collect();
    assert!(lines.iter().any(|line| line.ends_with("wrong.yaml: is fine now")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_cannot_be_had_says_why_and_comes_up_when_it_can() {
    let mut world = World::new();
    world.fake_engine("h:1");
    world.manifest("sql.yaml", &manifest("sql", ""));
    let local = world.driver().start();
    until(&local, "sql", |adapter| {
        adapter.is_some_and(|adapter| adapter.phase == "Failed" && adapter.reason == "ArtifactNotFound")
    })
    .await;
    // Long before the failure would be tried again by itself.
    let begin = Instant::now();
    world.depot.put("/srv/sql", Ok(digest(1)));
    world.depot.fingerprints.lock().unwrap().insert("/srv/sql".into(), "there".into());
    served(&local, "sql", 1).await;
    assert!(begin.elapsed() < Duration::from_secs(10), "in paused time this is exact");
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
    fs::write(&list, "- {url: 'h:2', name: second, colour: red}\n").unwrap();
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

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_is_said_once_and_served_from_as_soon_as_it_is_up() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    let refused = Fault::new(Scope::Transient, "ConnectionRefused", "h:1 refuses connections: is it running?");
    engine.fail(FakeOperation::Models, refused.clone());
    engine.fail(FakeOperation::Signals, refused);
    world.adapter("sql", 1);
    let driver = world.driver();
    let mut changes = driver.changes();
    let local = driver.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let about = |lines: &[String]| lines.iter().filter(|line| line.starts_with("h:1: ")).cloned().collect::<Vec<_>>();
    let mut lines = || std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.to_string()).collect::<Vec<_>>();
    assert_eq!(about(&lines()), ["h:1: h:1 refuses connections: is it running?"]);
    engine.heal();
    served(&local, "sql", 1).await;
    assert_eq!(about(&lines()), ["h:1: answers"]);
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_an_engine_lacks_is_noticed_at_once_when_a_router_says_so() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.reconciler.list_interval = Duration::from_secs(1000);
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    engine.take("sql");
    engine.take_calls();
    let missing = |name: &str, pod: &str| Missing { namespace: "default".into(), name: name.into(), pod: pod.into() };
    let demand = Demand { missing: vec![missing("sql", "none"), missing("sql", "h:1")], ..Demand::default() };
    local.demand().send(demand).await.unwrap();
    let begin = Instant::now();
    while !engine.calls().iter().any(|call| matches!(call, FakeCall::Load { .. })) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(begin.elapsed() < Duration::from_secs(100), "in paused time this is exact");
    }
    served(&local, "sql", 1).await;
}

#[tokio::test(start_paused = true)]
async fn i4_a_shutdown_unloads_everything_and_removes_no_file() {
    let mut world = World::new();
    let engines = [world.fake_engine("h:1"), world.fake_engine("h:2")];
    for engine in &engines {
        engine.put("by-hand", "/models/by-hand");
    }
    world.adapter("sql", 1);
    world.adapter("code", 2);
    let local = world.driver().start();
    served(&local, "sql", 2).await;
    served(&local, "code", 2).await;
    let fleet = local.fleet();
    assert_eq!(local.shutdown(true, Duration::from_secs(30)).await, []);
    for engine in &engines {
        assert_eq!(held(engine), ["by-hand"], "what is not ours stays");
    }
    assert_eq!(fleet.adapters().items, []);
    assert!(world.depot.has(digest(1)) && world.depot.has(digest(2)));
}

#[tokio::test(start_paused = true)]
async fn i11_a_shutdown_ends_within_its_bound_and_says_what_is_still_loaded() {
    let mut world = World::new();
    let good = world.fake_engine("h:1");
    let hung = world.fake_engine("h:2");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 2).await;
    hung.hang(FakeOperation::Unload);
    let begin = Instant::now();
    let left = local.shutdown(true, Duration::from_secs(8)).await;
    assert!(begin.elapsed() <= Duration::from_millis(8100), "in paused time this is exact");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((&*left[0].engine.name, left[0].adapter.as_str()), ("h:2", "sql"));
    assert_eq!(held(&good), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_stopped_without_unloading_leaves_everything_as_it_is() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.adapter("sql", 1);
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert_eq!(local.shutdown(false, Duration::from_secs(8)).await, []);
    assert_eq!(held(&engine), ["sql"]);
    engine.take_calls();
    // The next one finds what is there and loads nothing.
    let local = world.driver().start();
    served(&local, "sql", 1).await;
    assert!(!engine.calls().iter().any(|call| matches!(call, FakeCall::Load { .. } | FakeCall::Unload { .. })));
    drop(local);
}

#[tokio::test(start_paused = true)]
async fn i5_nothing_is_swept_from_the_store_as_long_as_an_engine_has_not_said_what_it_holds() {
    let mut world = World::new();
    world.fake_engine("h:1");
    let down = world.fake_engine("h:2");
    let refused = Fault::new(Scope::Transient, "ConnectionRefused", "not yet");
    down.fail(FakeOperation::Signals, refused);
    *world.depot.age.lock().unwrap() = Duration::from_secs(25 * 3600);
    for byte in [7, 8] {
        fs::create_dir_all(world.depot.path(digest(byte))).unwrap();
    }
    down.put("by-hand", &world.depot.view().path_of(&digest(8)));
    let local = world.driver().start();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(world.depot.has(digest(7)));
    down.heal();
    while world.depot.has(digest(7)) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(world.depot.has(digest(8)), "an engine holds it");
    drop(local);
}

#[tokio::test(start_paused = true)]
async fn i8_no_secret_is_told_or_shown() {
    let mut world = World::new();
    let engine = world.fake_engine("h:1");
    world.depot.put("/srv/sql", Ok(digest(1)));
    world.manifest("sql.yaml", &manifest("sql", "  additionalConfig: {api-key: hunter2}\n"));
    let driver = world.driver();
    let mut changes = driver.changes();
    let local = driver.start();
    served(&local, "sql", 1).await;
    let sent = |call: &FakeCall| matches!(call, FakeCall::Load { key: Some(key), .. } if key.expose() == "hunter2");
    assert!(engine.calls().iter().any(sent), "it is used");
    let mut shown = format!("{:?} {:?}", local.problems(), local.statuses());
    shown += &serde_json::to_string(&*local.fleet().adapter("default", "sql").unwrap()).unwrap();
    while let Ok(change) = changes.try_recv() {
        shown += &format!("{change} {change:?}");
    }
    assert!(shown.contains("InsecureApiKey"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
