//! A simulated engine, adapters in directories, and an agent that is about to start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_agent::{Agent, Options};
use longshore_api::sidecar::{DesiredAdapter, DesiredSet, Stamp};
use longshore_artifacts::{Artifacts, Store};
use longshore_cluster::local::{Connect, ConnectVllm, EngineConfig};
use longshore_reconciler::Config;
use longshore_testkit::adapters::{AdapterRecipe, write};
use longshore_testkit::{SimConfig, SimEngine, What};

/// A bound that only a hang reaches.
const FAR: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) sim: SimEngine,
}

impl Place {
    pub(crate) async fn new() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        Self { dir: tempfile::tempdir().unwrap(), sim: SimEngine::start(SimConfig::default()).await.unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn engine(&self) -> EngineConfig {
        self.sim.url().parse().unwrap()
    }

    /// An adapter in a directory of its own.
    pub(crate) fn files(&self, name: &str, seed: u64) -> DesiredAdapter {
        let path = self.path(name);
        let _ = std::fs::remove_dir_all(&path);
        write(&path, &AdapterRecipe::seeded(seed)).unwrap();
        DesiredAdapter {
            name: name.to_owned(),
            artifact_url: path.to_str().unwrap().to_owned(),
            ..DesiredAdapter::default()
        }
    }

    pub(crate) async fn start(&self) -> Agent {
        let started = async {
            loop {
                match self.try_start() {
                    Ok(agent) => return agent,
                    // One that was dropped a moment ago may still have its record.
                    Err(error) => assert_eq!(error.reason(), "RecordFailed"),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(FAR, started).await.unwrap()
    }

    pub(crate) fn try_start(&self) -> Result<Agent, longshore_agent::Error> {
        Agent::start(Options {
            engine: self.engine(),
            artifacts: Artifacts::new(Store::open(self.path("store")).unwrap()),
            connect: Arc::new(ConnectVllm::new().unwrap()),
            record: self.path("record.json"),
            reconciler: Config::default(),
        })
    }

    /// What the engine itself says that it lists now.
    pub(crate) async fn listed(&self) -> Vec<String> {
        self.models().await.into_iter().map(|model| model.id).collect()
    }

    /// From where it has it.
    pub(crate) async fn roots(&self) -> Vec<String> {
        self.models().await.into_iter().map(|model| model.root).collect()
    }

    async fn models(&self) -> Vec<longshore_engine::Model> {
        let engine = ConnectVllm::new().unwrap().connect(&self.engine()).unwrap();
        engine.models().await.unwrap().adapters
    }

    /// How often the engine was asked to load something.
    pub(crate) fn loads(&self) -> usize {
        self.sim.control().log().into_iter().filter(|entry| entry.what == What::Load).count()
    }
}

pub(crate) fn set(transitions: u64, revision: u64, adapters: &[DesiredAdapter]) -> DesiredSet {
    let stamp = Stamp { lease_created: 1, transitions, revision };
    DesiredSet { stamp, namespace: "default".into(), adapters: adapters.to_vec() }
}

pub(crate) async fn until(agent: &Agent, what: &str, mut is: impl FnMut(&Agent) -> bool) {
    let waiting = async {
        while !is(agent) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(FAR, waiting).await;
    assert!(in_time.is_ok(), "{what}: {:?}", agent.fleet().adapters().items);
}

/// What the engine lists.
pub(crate) fn held(agent: &Agent) -> Vec<String> {
    let engines = agent.fleet().engines().items;
    engines.iter().flat_map(|engine| engine.resident.iter().map(|resident| resident.name.clone())).collect()
}

pub(crate) fn runs(agent: &Agent, name: &str) -> bool {
    agent.fleet().adapter("default", name).is_some_and(|adapter| adapter.phase == "Running")
}
