//! What is wanted of one adapter, and how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::spec::AdapterSpec;
use longshore_scheduler::Unplaced;
use longshore_types::{Boot, EngineId, Fault, Root, Timestamp};

use crate::engine::Waiting;
use crate::{Endpoint, Resolved, Route};

/// One declared adapter.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) spec: AdapterSpec,
    /// Whether it is wanted no more.
    pub(crate) deleting: bool,
    /// Engines that its selector matches.
    pub(crate) matching: BTreeSet<EngineId>,
    /// What it should be loaded from, once that is known, and the generation that said so.
    pub(crate) target: Option<Target>,
    /// What was served before, by this process or, as status records it, by the one before: where a change that fails goes
    /// back to.
    pub(crate) previous: Option<Resolved>,
    /// Roots that it has been served from and may be served from until each engine is changed over.
    pub(crate) accepted: BTreeSet<Root>,
    /// Engines on which AIBrix had loaded it, as the status that it left behind says.
    pub(crate) aibrix: BTreeSet<String>,
    /// The generation that is being resolved.
    pub(crate) resolving: Option<i64>,
    /// A generation that failed to resolve, or whose bytes engines refused, and when it is tried again; never, where only a
    /// change of the object helps.
    pub(crate) resolve_wait: Option<(i64, Option<Timestamp>)>,
    /// How often resolving has failed in a row.
    pub(crate) resolve_failures: u32,
    /// Why it cannot be served at all as declared, and when that is looked at again.
    pub(crate) trouble: Option<Trouble>,
    /// Why the last change of its artifact did not go through; the one before is served.
    pub(crate) update_failed: Option<Fault>,
    /// The status write that must be shown before anything is changed over.
    pub(crate) gate: Option<Gate>,
    /// Engines that should hold it.
    pub(crate) assigned: BTreeSet<EngineId>,
    /// Engines that hold it and should not for long: they serve until enough of the others do.
    pub(crate) surplus: BTreeSet<EngineId>,
    /// Where a load of it waits for the engine's slot.
    pub(crate) queued: BTreeMap<EngineId, Waiting>,
    /// What happened on each engine.
    pub(crate) replicas: BTreeMap<EngineId, Replica>,
    pub(crate) unplaced: Option<Unplaced>,
    pub(crate) candidates: u32,
    /// Whether the choice of engines has to be looked at.
    pub(crate) needs_placement: bool,
    /// The route as last sent out.
    pub(crate) route: Option<Route>,
    /// Every route that a router may go by: the one that was confirmed last, and those sent out since.
    pub(crate) abroad: BTreeMap<u64, Vec<Endpoint>>,
    /// Whether an earlier process has had it, and may have given it to engines that have not been asked since.
    pub(crate) restored: bool,
    /// Whether routers may still go by a route that an earlier process has given them.
    pub(crate) inherited: bool,
    /// The endpoints of the route that was confirmed last.
    pub(crate) published: BTreeSet<(EngineId, Boot)>,
    /// The sequence number of the route sent out last.
    pub(crate) sequence: u64,
    /// Why a route could not be published, and which; `None` once a later attempt went through.
    pub(crate) publish_fault: Option<(u64, Fault)>,
    /// What is wrong beside the route, and which route that was said of last.
    pub(crate) notice: (u64, Option<Fault>),
    /// Until when requests wait because the only holder is being changed over.
    pub(crate) swap_until: Option<Timestamp>,
    /// Since when each engine has been in the state that status shows, RFC 3339.
    pub(crate) shown: BTreeMap<EngineId, (&'static str, Arc<str>)>,
    /// The generation whose warnings have been said.
    pub(crate) warned: Option<i64>,
}

/// What an adapter should be loaded from.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resolved: Resolved,
    /// The generation that asked for it; none where it stands in for what the present one asks for.
    pub(crate) generation: Option<i64>,
}

/// A fault that keeps an adapter from being served at all.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) retry_at: Timestamp,
}

/// What happened to one adapter on one engine in the engine's present life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    /// Failures in a row.
    pub(crate) failures: u32,
    /// When the last one was.
    pub(crate) last: Timestamp,
    /// Why nothing is tried there now.
    pub(crate) hold: Option<Hold>,
}

/// Why nothing is tried on an engine.
#[derive(Clone, Debug)]
pub(crate) enum Hold {
    /// A transient failure: the same engine is tried again then.
    BackingOff { until: Timestamp, fault: Fault },
    /// Too many of them: another engine is chosen, this one may come back then.
    CoolingDown { until: Timestamp, fault: Fault },
    /// It refused: until then, or until the engine or the object changes.
    Refused { until: Option<Timestamp>, fault: Fault },
}

impl Hold {
    pub(crate) fn fault(&self) -> &Fault {
        match self {
            Self::BackingOff { fault, .. } | Self::CoolingDown { fault, .. } | Self::Refused { fault, .. } => fault,
        }
    }

    /// When it ends by itself.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::BackingOff { until, .. } | Self::CoolingDown { until, .. } => Some(*until),
            Self::Refused { until, .. } => *until,
        }
    }
}

impl Adapter {
    pub(crate) fn new(spec: AdapterSpec) -> Self {
        Self {
            spec,
            deleting: false,
            matching: BTreeSet::new(),
            target: None,
            previous: None,
            accepted: BTreeSet::new(),
            aibrix: BTreeSet::new(),
            resolving: None,
            resolve_wait: None,
            resolve_failures: 0,
            trouble: None,
            update_failed: None,
            gate: None,
            assigned: BTreeSet::new(),
            surplus: BTreeSet::new(),
            replicas: BTreeMap::new(),
            unplaced: None,
            candidates: 0,
            needs_placement: true,
            route: None,
            abroad: BTreeMap::new(),
            restored: false,
            inherited: false,
            published: BTreeSet::new(),
            sequence: 0,
            queued: BTreeMap::new(),
            publish_fault: None,
            notice: (0, None),
            swap_until: None,
            shown: BTreeMap::new(),
            warned: None,
        }
    }

    /// Whether a router may still send requests there, for other bytes than those of `root`.
    pub(crate) fn may_be_asked_for_other_bytes(&self, engine: &EngineId, root: Option<&Root>) -> bool {
        // Nobody tells what an earlier process has given out.
        if self.inherited {
            return true;
        }
        let digest = root.and_then(Root::digest);
        let mut abroad = self.abroad.values().flatten();
        // Without a digest nobody knows whether the bytes are the same.
        abroad.any(|endpoint| endpoint.engine == *engine && (digest.is_none() || endpoint.digest != digest))
    }

    /// The root that engines should hold.
    pub(crate) fn root(&self) -> Option<&Root> {
        self.target.as_ref().map(|target| &target.resolved.root)
    }

    /// Whether requests may be answered from `root` on this engine: the target, or what was served before it.
    pub(crate) fn may_serve(&self, engine: &EngineId, root: &Root) -> bool {
        self.root() == Some(root) || (self.target.is_some() && self.was_served(engine, root))
    }

    /// Whether `root` is ours to unload from this engine: from our store, one that we gave out or that status records, or
    /// AIBrix's where its status lists the engine.
    pub(crate) fn is_ours(&self, engine: &EngineId, root: &Root) -> bool {
        matches!(root, Root::Store(_)) || self.root() == Some(root) || self.was_served(engine, root)
    }

    fn was_served(&self, engine: &EngineId, root: &Root) -> bool {
        self.accepted.contains(root) || (self.aibrix.contains(&*engine.name) && *root == self.aibrix_root())
    }

    /// Where AIBrix's runtime puts an adapter.
    pub(crate) fn aibrix_root(&self) -> Root {
        Root::Other(format!("/tmp/aibrix/adapters/{}", self.spec.key.name).into())
    }

    /// What AIBrix's sidecar has fetched, where its controller left the adapter loaded: it goes on being served, also where
    /// nobody could fetch it again.
    pub(crate) fn left_by_aibrix(&self) -> Option<Resolved> {
        let root = (!self.aibrix.is_empty()).then(|| self.aibrix_root())?;
        Some(Resolved { root, bytes: None, rank: None, warnings: Vec::new() })
    }

    /// Every root by which an engine may hold it, the wanted one first: what status records.
    pub(crate) fn roots(&self) -> Vec<Root> {
        let mut roots: Vec<Root> = Vec::new();
        let previous = self.previous.iter().map(|previous| &previous.root);
        for root in self.root().into_iter().chain(previous).chain(&self.accepted) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        roots.extend(Some(self.aibrix_root()).filter(|root| !self.aibrix.is_empty() && !roots.contains(root)));
        roots
    }

    /// Whether it may be held from another root than the wanted one, or may once have been.
    pub(crate) fn has_history(&self) -> bool {
        self.restored || self.previous.is_some() || !self.accepted.is_empty() || !self.aibrix.is_empty()
    }

    /// The object has changed, or another one of its name has come: what went wrong says nothing any more.
    pub(crate) fn start_over(&mut self) {
        self.trouble = None;
        self.replicas.clear();
        self.resolve_failures = 0;
    }

    /// Whether resolving the present generation is to be begun.
    pub(crate) fn needs_resolving(&self, now: Timestamp) -> bool {
        let generation = self.spec.generation;
        let done = self.target.as_ref().is_some_and(|target| target.generation == Some(generation));
        let waits =
            self.resolve_wait.is_some_and(|(of, until)| of == generation && until.is_none_or(|until| now < until));
        !done && !waits && self.resolving != Some(generation)
    }
}

/// The status write that must be shown before anything is changed over: asked for, then awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// The next status is the one.
    Ask,
    /// It was sent off.
    Asked { sequence: u64, at: Timestamp },
}

impl Gate {
    /// Whether the write with this number shows what is waited for.
    pub(crate) fn is_met_by(self, written: u64) -> bool {
        matches!(self, Self::Asked { sequence, .. } if sequence <= written)
    }
}
