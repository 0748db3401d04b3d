//! What the reconciler is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::spec::AdapterSpec;
use longshore_api::status::ModelAdapterStatus;
use longshore_types::{
    AdapterKey, AdapterName, Address, BaseModel, Boot, Digest, EngineId, EngineKind, Fault, LoadSignals, ObjectKey,
    Root,
};

use crate::Unfinished;

/// One thing that a driver has seen. Facts may be lost, repeated or reordered: the next one heals it.
#[derive(Clone, Debug)]
pub enum Fact {
    /// An object exists with this content.
    Applied(Box<ObjectSeen>),
    /// An object is gone from the source of truth. Where there is a finalizer, `ObjectSeen::deleting` comes first.
    Deleted(ObjectKey),
    /// An engine exists with these properties.
    Engine(Box<EngineSeen>),
    /// An engine is gone for good.
    EngineGone(EngineId),
    /// What an earlier process has noted as left undone ([`crate::Effect::Release`]). Told before `Synced`, since an engine
    /// that is not known then is taken for gone.
    Unfinished(Vec<Unfinished>),
    /// Every object and engine that exists has been told once. Nothing is unloaded before this.
    Synced,
    /// Answer to [`crate::Effect::Resolve`].
    Resolved {
        /// Which adapter.
        adapter: AdapterKey,
        /// The generation that was resolved.
        generation: i64,
        /// What it resolved to.
        result: Result<Resolved, Fault>,
    },
    /// Answer to [`crate::Effect::List`].
    Listed {
        /// Which engine.
        engine: EngineId,
        /// What it said, or why not.
        result: Result<Listing, Fault>,
    },
    /// Answer to [`crate::Effect::Probe`].
    Probed {
        /// Which engine.
        engine: EngineId,
        /// How busy it is, or why that is not known.
        result: Result<LoadSignals, Fault>,
    },
    /// Answer to [`crate::Effect::Load`].
    Loaded {
        /// Which engine, in which life.
        engine: EngineId,
        /// The boot that the effect named.
        boot: Boot,
        /// Which adapter.
        name: AdapterName,
        /// From where.
        root: Root,
        /// How it went. [`longshore_types::Scope::Unknown`] keeps the engine's load slot until a listing tells.
        result: Result<(), Fault>,
    },
    /// Answer to [`crate::Effect::Unload`]. `Ok` also when the engine did not have it.
    Unloaded {
        /// Which engine, in which life.
        engine: EngineId,
        /// The boot that the effect named.
        boot: Boot,
        /// Which adapter.
        name: AdapterName,
        /// How it went.
        result: Result<(), Fault>,
    },
    /// Answer to [`crate::Effect::Publish`]: routers have been given these endpoints, or why not. May be told again for
    /// the route that stands, when the notice has changed.
    Published {
        /// Which adapter.
        adapter: AdapterKey,
        /// The sequence number of the effect.
        sequence: u64,
        /// How it went.
        result: Result<(), Fault>,
        /// What is wrong beside the route, which is out all the same: a Service of that name that is not ours.
        notice: Option<Fault>,
    },
    /// Answer to a [`crate::Effect::WriteStatus`] that asked for one.
    StatusWritten {
        /// Which object.
        object: ObjectKey,
        /// The sequence number of the effect.
        sequence: u64,
    },
    /// Something that the object's adapters depend on has changed, such as a Secret: what was refused is tried again.
    TryAgain(ObjectKey),
    /// A router met an engine that answers that it lacks the adapter. The engine is listed again, nothing is believed.
    Missing {
        /// Which engine.
        engine: EngineId,
        /// Which adapter.
        name: AdapterName,
    },
}

/// A declaring object as it is now.
#[derive(Clone, Debug)]
pub struct ObjectSeen {
    /// Which object.
    pub key: ObjectKey,
    /// Its generation.
    pub generation: i64,
    /// Whether its deletion has been asked for and our finalizer holds it.
    pub deleting: bool,
    /// The adapters that it lowers to, or why it lowers to none.
    pub lowered: Result<Vec<AdapterSpec>, Fault>,
    /// The status that it shows now: where a restart goes on from.
    pub shown: Option<ModelAdapterStatus>,
    /// Warnings about it that an event should carry, as (reason, message).
    pub warnings: Vec<(&'static str, String)>,
}

/// An engine as its pod or the command line describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSeen {
    /// Which engine.
    pub id: EngineId,
    /// Which software.
    pub kind: EngineKind,
    /// Where it answers.
    pub address: Address,
    /// Labels that selectors are held against.
    pub labels: BTreeMap<String, String>,
    /// Base model as configured; what the engine reports takes its place.
    pub base_model: Option<BaseModel>,
    /// Its present life, where something other than the engine tells it (the container's id). Where absent, listings tell.
    pub boot: Option<Boot>,
    /// Whether it is Ready as far as its pod tells. Whether it answers is found out by listing.
    pub ready: bool,
    /// How long it has been Ready in milliseconds, where something tells it.
    pub ready_for: Option<u64>,
    /// Whether it is on its way out.
    pub terminating: bool,
    /// Whether it is new to us but needs no proof of stability (named on a command line).
    pub trusted: bool,
    /// Adapters per batch.
    pub max_loras: Option<u32>,
    /// Adapters held in host memory; a hard number.
    pub max_cpu_loras: Option<u32>,
    /// Largest rank that it takes.
    pub max_lora_rank: Option<u32>,
    /// Memory for adapters in bytes.
    pub adapter_memory: Option<u64>,
}

/// What an artifact reference turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What engines will be told to load.
    pub root: Root,
    /// Size of the kept files in bytes, where known.
    pub bytes: Option<u64>,
    /// LoRA rank, where known.
    pub rank: Option<u32>,
    /// Things that are odd but not wrong, as (reason, message).
    pub warnings: Vec<(&'static str, String)>,
}

impl Resolved {
    /// The digest, where the bytes are known.
    pub fn digest(&self) -> Option<Digest> {
        self.root.digest()
    }
}

/// What one engine said in one listing.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The life that it was in, the same before and after.
    pub boot: Boot,
    /// Every model that it lists and that is not a base model.
    pub residents: Vec<ResidentSeen>,
    /// The base models that it serves.
    pub base_models: Vec<BaseModel>,
    /// How busy it is.
    pub load: LoadSignals,
}

/// One adapter in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidentSeen {
    /// As the engine names it: any text at all.
    pub name: Arc<str>,
    /// From where it is held.
    pub root: Root,
}
