//! What the reconciler asks for.

use std::sync::Arc;

use longshore_api::spec::{AdapterSpec, EngineKey};
use longshore_api::status::ModelAdapterStatus;
use longshore_types::{
    AdapterKey, AdapterName, Address, BaseModel, Boot, Digest, EngineId, EngineKind, ObjectKey, Root, Timestamp,
};

use crate::Unfinished;

/// One thing for a driver to do. Every effect that says so is answered by exactly one fact, whatever happens: a driver
/// puts a deadline on everything.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Find out what the adapter's artifact is, fetch and verify it where that is the driver's to do. Answered by
    /// `Fact::Resolved`. A later one for the same adapter replaces it.
    Resolve(Box<AdapterSpec>),
    /// List what the engine holds. Answered by `Fact::Listed`. Never two at once for one engine.
    List {
        /// Which engine.
        engine: EngineId,
    },
    /// Ask how busy the engine is, while something drains. Answered by `Fact::Probed`. Never two at once for one engine.
    Probe {
        /// Which engine.
        engine: EngineId,
    },
    /// Load. Answered by `Fact::Loaded`. Never two at once for one engine (I3).
    Load(Load),
    /// Unload. Answered by `Fact::Unloaded`. Never at once with a load of the same name (I3).
    Unload(Unload),
    /// Give routers exactly these endpoints for the adapter. Answered by `Fact::Published`. A later one replaces it. One
    /// without endpoints withdraws: nothing is to be created for it, and nothing said of what would stand in the way. After
    /// a start it is sent for every object that shows a status, since nobody tells which routes the process before has left.
    Publish(Route),
    /// The adapter is declared no more: routers forget it. Not answered.
    Retract(AdapterKey),
    /// Write the object's status. Phase changes are written in order and never skipped; others, latest wins.
    WriteStatus(StatusWrite),
    /// Record an event on the object, behind endpoints and status. Not answered.
    Event(Event),
    /// The object's deletion is over: note what it could not undo, and only then take the finalizer off and forget the
    /// object. Not answered.
    Release {
        /// Which object.
        object: ObjectKey,
        /// What engines may still hold, since the time for the deletion was over before they let go. Engines that it names
        /// must be told of for as long as they exist: one that no object selects any more would else never be asked.
        unfinished: Vec<Unfinished>,
    },
    /// What the note says of this engine is settled: unloaded, not there, or its life is over. Take it out of the note,
    /// which need not have it. Not answered.
    Finished(Unfinished),
    /// Which engines the object's loads fail on now: the whole set, the latest one wins. Sent when it changes, and once
    /// for an object on which an earlier process may have left some. Not answered.
    Retries {
        /// Of which object.
        object: ObjectKey,
        /// By engine; empty when nothing fails any more.
        entries: Vec<Retry>,
    },
    /// Files of this digest must stay from now on. Not answered.
    Pin(Digest),
    /// No engine needs files of this digest any more. Not answered.
    Unpin(Digest),
    /// What `Reconciler::adapter` says about this one has changed. Not answered.
    AdapterChanged(AdapterKey),
    /// What `Reconciler::engine` says about this one has changed. Not answered.
    EngineChanged(EngineId),
    /// For the log. Not answered.
    Log(LogLine),
}

/// How loading goes on an engine where it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Which engine.
    pub engine: EngineId,
    /// Failures in a row.
    pub count: u32,
    /// When the last one was.
    pub last: Timestamp,
}

/// Load one adapter on one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Which adapter.
    pub adapter: AdapterKey,
    /// On which engine.
    pub engine: EngineId,
    /// In which life; a driver that knows of another one answers with a transient fault.
    pub boot: Boot,
    /// From where.
    pub root: Root,
    /// The bearer token for it, where the object names one.
    pub key: Option<EngineKey>,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// Unload one name on one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unload {
    /// On which engine.
    pub engine: EngineId,
    /// In which life.
    pub boot: Boot,
    /// Which name.
    pub name: AdapterName,
    /// The bearer token for it, where the object names one.
    pub key: Option<EngineKey>,
}

/// Where requests for one adapter may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which adapter.
    pub adapter: AdapterKey,
    /// Counts up with each change of any route: of two for one adapter, the higher is the later.
    pub sequence: u64,
    /// Engines whose present life has confirmed it and that take requests.
    pub endpoints: Vec<Endpoint>,
    /// Whether its only holder is being changed over: requests wait a moment instead of failing.
    pub swapping: bool,
}

/// One engine that has one adapter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Which engine.
    pub engine: EngineId,
    /// In which life.
    pub boot: Boot,
    /// Which software.
    pub kind: EngineKind,
    /// Where it answers.
    pub address: Address,
    /// The digest that it holds, where the bytes are known.
    pub digest: Option<Digest>,
    /// The base model that it serves.
    pub base_model: Option<BaseModel>,
}

/// A status to be shown.
#[derive(Clone, Debug)]
pub struct StatusWrite {
    /// Of which object.
    pub object: ObjectKey,
    /// Counts up per object.
    pub sequence: u64,
    /// The whole status.
    pub status: Box<ModelAdapterStatus>,
    /// Whether the phase differs from the write before: such a write is never skipped.
    pub phase_change: bool,
    /// Whether `Fact::StatusWritten` is waited for.
    pub acknowledge: bool,
}

/// An event on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// On which object.
    pub object: ObjectKey,
    /// Whether it is a Warning.
    pub warning: bool,
    /// CamelCase word.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
    /// The engine that it is about.
    pub related: Option<EngineId>,
}

/// A line that people search the log for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The text, constant per kind of line.
    pub message: &'static str,
    /// The adapter that it is about.
    pub adapter: AdapterKey,
    /// The engine or engines that it is about.
    pub engines: Vec<EngineId>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
}
