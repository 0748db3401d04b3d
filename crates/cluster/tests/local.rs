//! The local driver as a process has it: a real store, simulated engines over HTTP, manifests in files, the fleet API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use longshore_artifacts::{Artifacts, Store};
use longshore_cluster::fleet::{FleetApi, Update, router};
use longshore_cluster::local::{ConnectVllm, Driver, EngineConfig, Local, NoRouter, Options};
use longshore_reconciler::Config;
use longshore_testkit::adapters::{AdapterRecipe, Flaw, write};
use longshore_testkit::{SimConfig, SimEngine, What};
use longshore_types::{ArtifactUrl, Digest, Secret};
use tower::ServiceExt;

/// So long that only a test that would never end reaches it.
const FAR: Duration = Duration::from_secs(120);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("manifests")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes an adapter's files beside the manifests.
    fn files(&self, name: &str, recipe: &AdapterRecipe) {
        fs::create_dir_all(self.path(name)).unwrap();
        write(&self.path(name), recipe).unwrap();
    }

    fn manifest(&self, name: &str) {
        let text = format!(
            "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {{name: {name}}}\nspec:\n  \
             artifactURL: ../{name}\n  podSelector: {{matchLabels: {{app: vllm}}}}\n"
        );
        fs::write(self.path("manifests").join(format!("{name}.yaml")), text).unwrap();
    }

    fn start(&self, engines: Vec<EngineConfig>) -> Local {
        rustls::crypto::ring::default_provider().install_default().ok();
        let options = Options {
            reconciler: Config { list_interval: Duration::from_millis(100), ..Config::default() },
            engines,
            engines_file: None,
            manifests: vec![self.path("manifests")],
            artifacts: Artifacts::new(Store::open(self.path("store")).unwrap()),
            connect: Arc::new(ConnectVllm::new().unwrap()),
            router: Arc::new(NoRouter),
        };
        Driver::new(options).start()
    }
}

fn engine(sim: &SimEngine) -> EngineConfig {
    let mut config: EngineConfig = sim.url().parse().unwrap();
    config.labels.insert("app".into(), "vllm".into());
    config
}

/// Waits until the adapter is in this phase, and has this digest where one is asked for.
async fn until(local: &Local, name: &str, phase: &str, digest: Option<Digest>) {
    let (wanted, digest) = (name.to_owned(), digest.map(|digest| digest.to_string()));
    let seen = async {
        let mut watch = local.fleet().watch_adapters(None, move |adapter| adapter.name == wanted);
        while let Some(update) = watch.next().await {
            let now = match update {
                Update::Snapshot(snapshot) => snapshot.items.first().cloned(),
                Update::Upsert { item, .. } => Some(item),
                Update::Delete { .. } => None,
            };
            let Some(now) = now else { continue };
            let served = || now.endpoints.iter().any(|endpoint| endpoint.digest == digest);
            if now.phase == phase && (digest.is_none() || served()) {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(FAR, seen).await;
    assert!(in_time.is_ok(), "{:?}; {:?}", local.fleet().adapter("default", name), local.problems());
}

/// The digest of a directory's adapter, found out by another store.
async fn digest_of(path: &Path) -> Digest {
    let store = tempfile::tempdir().unwrap();
    let url = ArtifactUrl::new(path.to_str().unwrap()).unwrap();
    Artifacts::new(Store::open(store.path()).unwrap()).fetch(&url, None).await.unwrap().verified.digest
}

/// Names and paths that the engine was asked to load, in order.
fn loads(sim: &SimEngine) -> Vec<(String, String)> {
    let log = sim.control().log().into_iter();
    log.filter(|entry| entry.what == What::Load && entry.status == 200).map(|entry| (entry.name, entry.path)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_an_adapter_is_served_from_its_digest_and_so_is_its_next_version() {
    let place = Place::new();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    place.files("sql", &AdapterRecipe::seeded(1));
    place.manifest("sql");
    let local = place.start(vec![engine(&sim)]);
    let first = digest_of(&place.path("sql")).await;
    until(&local, "sql", "Running", Some(first)).await;

    place.files("sql", &AdapterRecipe::seeded(2));
    let second = digest_of(&place.path("sql")).await;
    assert_ne!(first, second);
    until(&local, "sql", "Running", Some(second)).await;

    let paths: Vec<_> = loads(&sim).into_iter().map(|(_, path)| path).collect();
    let store = fs::canonicalize(place.path("store")).unwrap();
    let entry = |digest: Digest| store.join(format!("sha256-{}", digest.hex())).display().to_string();
    assert_eq!(paths, [entry(first), entry(second)]);
    assert!(Path::new(&entry(first)).exists(), "an engine may yet read it for a request that it has accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_elsewhere_is_told_its_own_path_and_asked_with_its_key() {
    let place = Place::new();
    let key = Secret::new("hunter2");
    let sim = SimEngine::start(SimConfig { api_key: Some(key.clone()), ..SimConfig::default() }).await.unwrap();
    place.files("sql", &AdapterRecipe::seeded(1));
    place.manifest("sql");
    // The same directory by another name, as a container has it.
    fs::create_dir(place.path("store")).unwrap();
    std::os::unix::fs::symlink(place.path("store"), place.path("mounted")).unwrap();
    fs::write(place.path("key"), "hunter2\n").unwrap();
    let (store, file) = (place.path("mounted"), place.path("key"));
    let text = format!("{},label.app=vllm,store={},api-key-file={}", sim.url(), store.display(), file.display());
    let local = place.start(vec![text.parse().unwrap()]);
    let digest = digest_of(&place.path("sql")).await;
    until(&local, "sql", "Running", Some(digest)).await;
    let [(_, path)] = &loads(&sim)[..] else { panic!("{:?}", loads(&sim)) };
    assert_eq!(Path::new(path), store.join(format!("sha256-{}", digest.hex())));
}

#[tokio::test(flavor = "multi_thread")]
async fn i11_a_broken_adapter_is_refused_before_an_engine_hears_of_it() {
    let place = Place::new();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    place.files("bad", &AdapterRecipe::seeded(1).with(Flaw::Nan));
    place.manifest("bad");
    place.files("good", &AdapterRecipe::seeded(2));
    place.manifest("good");
    let local = place.start(vec![engine(&sim)]);
    until(&local, "bad", "Failed", None).await;
    until(&local, "good", "Running", None).await;
    assert!(sim.control().log().iter().all(|entry| entry.name != "bad"));
    // Put right, it comes up by itself.
    place.files("bad", &AdapterRecipe::seeded(1));
    until(&local, "bad", "Running", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_after_a_shutdown_engines_hold_nothing_of_ours_and_the_store_is_whole() {
    let place = Place::new();
    let sims =
        [SimEngine::start(SimConfig::default()).await.unwrap(), SimEngine::start(SimConfig::default()).await.unwrap()];
    place.files("sql", &AdapterRecipe::seeded(1));
    place.manifest("sql");
    let local = place.start(sims.iter().map(engine).collect());
    let digest = digest_of(&place.path("sql")).await;
    until(&local, "sql", "Running", Some(digest)).await;
    assert_eq!(local.shutdown(true, FAR).await, []);
    for sim in &sims {
        let log = sim.control().log();
        let count = |what| log.iter().filter(|entry| entry.what == what && entry.status == 200).count();
        assert_eq!(count(What::Load), count(What::Unload));
    }
    assert!(Store::open(place.path("store")).unwrap().contains(&digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_engine_that_is_killed_and_comes_back_gets_its_adapters_back() {
    let place = Place::new();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    place.files("sql", &AdapterRecipe::seeded(1));
    place.manifest("sql");
    let local = place.start(vec![engine(&sim)]);
    until(&local, "sql", "Running", None).await;
    let before = local.fleet().adapter("default", "sql").unwrap().endpoints[0].boot.clone();
    sim.kill().await;
    let withdrawn = async {
        let mut watch = local.fleet().watch_adapters(None, |adapter| adapter.endpoints.is_empty());
        while !matches!(watch.next().await, Some(Update::Upsert { .. })) {}
    };
    tokio::time::timeout(FAR, withdrawn).await.unwrap();
    sim.restart().await.unwrap();
    until(&local, "sql", "Running", None).await;
    assert_ne!(local.fleet().adapter("default", "sql").unwrap().endpoints[0].boot, before);
    assert_eq!(loads(&sim).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_api_shows_what_the_driver_does() {
    let place = Place::new();
    let sim = SimEngine::start(SimConfig::default()).await.unwrap();
    place.files("sql", &AdapterRecipe::seeded(1));
    place.manifest("sql");
    let local = place.start(vec![engine(&sim)]);
    until(&local, "sql", "Running", None).await;
    let api = router(FleetApi::new(local.fleet(), local.demand()));
    let get = async |path: &str| {
        let response = api.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    let pods = get("/v1/adapters/sql/pods").await;
    assert_eq!(pods["pods"][0]["address"], "127.0.0.1");
    assert_eq!(pods["pods"][0]["port"], sim.addr().port());
    let engines = get("/v1/engines").await;
    assert_eq!(engines["engines"][0]["labels"]["app"], "vllm");
    assert_eq!(engines["engines"][0]["labels"]["model.aibrix.ai/name"], engines["engines"][0]["baseModel"]);
    assert_eq!(engines["engines"][0]["ready"], true);
}
