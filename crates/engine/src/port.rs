//! The port: what Longshore asks of any engine.

use async_trait::async_trait;
use longshore_types::{AdapterName, Boot, Fault, LoadSignals, Secret};

/// One engine process, whatever software it is.
///
/// Every call has a deadline of its own and comes back. A failure is a [`Fault`] whose scope says who should try what
/// again; [`longshore_types::Scope::Unknown`] means that the engine may yet do, or have done, what was asked.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The models that it serves now.
    async fn models(&self) -> Result<Models, Fault>;

    /// Its life and how busy it is.
    async fn signals(&self) -> Result<Signals, Fault>;

    /// Loads the adapter `name` from `path`, as the engine sees paths. `Ok` also where it holds exactly that already.
    /// `key` takes the place of the engine's own bearer token for this call.
    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault>;

    /// Unloads `name`. `Ok` also where the engine does not have it.
    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault>;
}

/// What `GET /v1/models` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    /// Models without a parent.
    pub base: Vec<Model>,
    /// Models with one: adapters.
    pub adapters: Vec<Model>,
}

/// One listed model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The name that clients use: any text at all.
    pub id: String,
    /// The path or repository that it was loaded from, as the engine sees it.
    pub root: String,
}

/// What `GET /metrics` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Signals {
    /// The engine's present life: its process start time.
    pub boot: Boot,
    /// How busy it is.
    pub load: LoadSignals,
}
