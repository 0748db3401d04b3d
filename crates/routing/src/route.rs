//! What the table holds: adapters, base models and the engines that answer for them.

use std::borrow::Cow;
use std::sync::Arc;

use longshore_types::{AdapterName, Address, BaseModel, Boot, Digest, EngineId, EngineKind, Namespace};

/// One engine that may be asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Which engine.
    pub engine: EngineId,
    /// The life that confirmed it.
    pub boot: Boot,
    /// Which software.
    pub kind: EngineKind,
    /// Where it answers.
    pub address: Address,
    /// The digest that it holds; absent for a base model and where the bytes are not known.
    pub digest: Option<Digest>,
    /// The base model that it serves, where known.
    pub base_model: Option<BaseModel>,
    /// Opaque; another value means that the same life has confirmed it anew. It is what ends the distrust of an engine
    /// that once answered that it lacks the adapter.
    pub confirmation: Arc<str>,
}

impl Endpoint {
    /// What `model` must say for this engine to answer with `adapter`, or nothing where that cannot be said.
    ///
    /// vLLM takes the adapter's own name. SGLang takes `<base>:<adapter>` and answers for a bare adapter name with the
    /// base model (read in the source of 0.5.23), so without a known base it is not asked at all (I1).
    pub fn name_for<'a>(&self, adapter: &'a AdapterName) -> Option<Cow<'a, str>> {
        match (self.kind, &self.base_model) {
            (EngineKind::Vllm | EngineKind::Simulated, _) => Some(Cow::Borrowed(adapter.as_str())),
            (EngineKind::Sglang, Some(base)) => Some(Cow::Owned(format!("{base}:{adapter}"))),
            (EngineKind::Sglang, None) => None,
        }
    }

    /// Whether `other` is the same confirmation by the same life of the same engine.
    pub fn same_confirmation(&self, other: &Self) -> bool {
        self.engine == other.engine && self.boot == other.boot && self.confirmation == other.confirmation
    }
}

/// One declared adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Namespace of the declaring object.
    pub namespace: Namespace,
    /// What clients put in `model`.
    pub name: AdapterName,
    /// Where it comes from, without userinfo and query: `root` in the list of models. Empty where that is not known.
    pub artifact_url: Arc<str>,
    /// The base model: `parent` in the list of models.
    pub base_model: Option<BaseModel>,
    /// Whether it can be asked for.
    pub state: RouteState,
}

impl Route {
    /// The engines that have it; none unless it is ready.
    pub fn endpoints(&self) -> &[Endpoint] {
        match &self.state {
            RouteState::Ready(endpoints) => endpoints,
            RouteState::Swapping | RouteState::NotReady(_) => &[],
        }
    }

    /// `<namespace>/<name>`, which means this adapter unless a base model has that very name.
    pub fn qualified(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What `x-longshore-adapter` says when `endpoint` has answered: `<name>@<first 12 hex digits>`, or the name alone
    /// where the bytes are not known.
    pub fn served_by(&self, endpoint: &Endpoint) -> String {
        match &endpoint.digest {
            Some(digest) => format!("{}@{}", self.name, digest.short()),
            None => self.name.to_string(),
        }
    }
}

/// Whether an adapter can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteState {
    /// These engines have it. Never empty in a table.
    Ready(Vec<Endpoint>),
    /// Its only holder is being changed over, which takes less than a second: requests wait instead of failing.
    Swapping,
    /// It is declared and no engine has it.
    NotReady(NotReady),
}

/// Why no engine has a declared adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotReady {
    /// How far it has come: `Pending`, `Loading`, ...
    pub phase: Arc<str>,
    /// CamelCase word; empty where none is known.
    pub reason: Arc<str>,
    /// The same in a sentence; empty where none is known.
    pub message: Arc<str>,
    /// Whether it may become ready without anybody changing anything.
    pub retryable: bool,
}

/// One base model in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRoute {
    /// Namespace of the engines.
    pub namespace: Namespace,
    /// The name that the engines serve it by.
    pub name: BaseModel,
    /// The ready engines. None means that engines of this base exist and none is ready: the name still belongs to the
    /// base model.
    pub endpoints: Vec<Endpoint>,
}
