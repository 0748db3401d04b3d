//! What is known about one engine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::spec::EngineKey;
use longshore_types::{AdapterKey, AdapterName, BaseModel, Boot, Fault, LoadSignals, Root, Scope, Timestamp};

use crate::EngineSeen;

/// The reason of a fault where an engine did not answer in time: it may be only slow.
pub(crate) const TIMEOUT: &str = "Timeout";

/// One engine as it is now, as far as it is known.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) seen: EngineSeen,
    /// Since when it is Ready by what its pod tells.
    pub(crate) ready_since: Option<Timestamp>,
    /// Whether it answers.
    pub(crate) reach: Reach,
    /// Since when it cannot take requests; `None` while it can.
    pub(crate) away_since: Option<Timestamp>,
    pub(crate) boot: Option<Boot>,
    /// As it reports them; the configured one until it has.
    pub(crate) base_models: Vec<BaseModel>,
    /// What it holds in its present life: as listed last, corrected by loads and unloads since.
    pub(crate) residents: BTreeMap<Arc<str>, Root>,
    pub(crate) signals: LoadSignals,
    pub(crate) listing: Call,
    pub(crate) probing: Call,
    /// The load that has its load slot (I3).
    pub(crate) loading: Option<LoadOp>,
    /// Loads that were given up without knowing how they went: it may hold them until a listing tells.
    pub(crate) suspected: BTreeSet<(AdapterName, Root)>,
    /// What it may hold of adapters that were forgotten before it could be asked to let go, where the root alone does not
    /// tell that it is ours.
    pub(crate) leftovers: BTreeSet<(AdapterName, Root)>,
    /// Loads that wait for the slot: changed-over adapters first, then by priority.
    pub(crate) queue: BTreeSet<Waiting>,
    /// Names on their way out.
    pub(crate) leaving: BTreeMap<AdapterName, Leaving>,
    /// Names that a load or an unload of ours has changed since the listing that is under way was asked for: it is not
    /// believed about them.
    pub(crate) touched: BTreeSet<Arc<str>>,
    /// Counts drains begun, so that a probe can be told from what began after it was asked for.
    pub(crate) drains: u64,
    /// Names about which something has changed since it was last looked through for what should not be there.
    pub(crate) unswept: BTreeSet<Arc<str>>,
    /// Names about which something has changed since strangers were counted.
    pub(crate) uncounted: BTreeSet<Arc<str>>,
    /// Names that take a slot, or may, without being there as a replica or as one on its way out.
    pub(crate) strangers: BTreeSet<Arc<str>>,
    /// Adapters that wait for its slot to be changed over: they are not in the queue.
    pub(crate) swaps: BTreeSet<AdapterKey>,
    /// Whether it has been away for longer than its adapters wait.
    pub(crate) given_up: bool,
    /// Adapters whose selector matches it.
    pub(crate) matched: BTreeSet<AdapterKey>,
    /// Whether it is known what it holds in its present life: it has been listed since, or began under our eyes.
    pub(crate) known: bool,
    /// Whether it has answered, or failed to answer, since this process knows it.
    pub(crate) heard: bool,
}

/// Whether an engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It has not been asked.
    Unknown,
    /// Its last listing was answered.
    Answers,
    /// Its last listings failed.
    Fails {
        /// How often in a row.
        times: u32,
        /// Whether it answered before, so that one slow answer takes nothing away.
        answered: bool,
        /// The last failure.
        fault: Fault,
    },
}

/// A kind of call of which there is never more than one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// Whether one is under way, and how many drains had begun when it was asked for.
    pub(crate) since: Option<u64>,
    /// When the last one was asked for.
    pub(crate) asked: Timestamp,
    /// Whether the answer to the one under way is about a life that is over.
    pub(crate) void: bool,
    /// When the next one is due.
    pub(crate) due: Timestamp,
    /// Whether something has happened since the one under way was asked for, so that its answer may be too old.
    pub(crate) again: bool,
}

/// The least time between two listings of one engine that are asked for out of turn: routers that insist on what the engine
/// denies must not have it asked without a pause.
const LEAST_APART: Duration = Duration::from_millis(50);

impl Call {
    /// One is asked for now.
    pub(crate) fn begin(&mut self, now: Timestamp, drains: u64) {
        self.since = Some(drains);
        self.asked = now;
        self.again = false;
    }

    /// One that is asked for from now on is wanted out of turn.
    pub(crate) fn ask_soon(&mut self, now: Timestamp) {
        self.due = self.due.min(now.max(self.asked + LEAST_APART));
        self.again = self.since.is_some();
    }

    /// The one under way is over: the next is due then, or at once where its answer is too old.
    pub(crate) fn over(&mut self, now: Timestamp, due: Timestamp) {
        self.due = due;
        if std::mem::take(&mut self.again) {
            self.ask_soon(now);
        }
    }

    /// The answer to the one that is under way will be about another life.
    pub(crate) fn make_void(&mut self) {
        self.void = self.since.is_some();
    }
}

/// A load under way.
#[derive(Clone, Debug)]
pub(crate) struct LoadOp {
    pub(crate) adapter: AdapterKey,
    pub(crate) root: Root,
    pub(crate) since: Timestamp,
    /// Whether its call is over and only a listing, a new boot or the bound can settle it.
    pub(crate) unknown: bool,
}

/// A load that waits for the engine's slot. The order of the fields is the order of service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiting {
    pub(crate) not_a_swap: bool,
    pub(crate) priority: Reverse<i32>,
    pub(crate) adapter: AdapterKey,
}

/// A name on its way out of an engine.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub(crate) root: Root,
    /// Whose it was, for events; none for a leftover of an earlier life of ours.
    pub(crate) owner: Option<AdapterKey>,
    pub(crate) key: Option<EngineKey>,
    /// Whether the same name is loaded again right after, from another root.
    pub(crate) swap: bool,
    pub(crate) step: Step,
    /// Upper bound of the drain.
    pub(crate) drain_bound: Duration,
    pub(crate) failures: u32,
    pub(crate) fault: Option<Fault>,
}

/// How far a name on its way out has come (I5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Routers are to be told, or are being told: the sequence number of the route that leaves it out.
    Withdrawing(Option<u64>),
    /// Requests that are under way are waited for.
    Draining {
        /// Which drain of the engine this is.
        number: u64,
        /// Not before.
        from: Timestamp,
        /// Not after.
        until: Timestamp,
    },
    /// The next attempt to unload is due then.
    Unload { at: Timestamp },
    /// An unload is under way.
    Unloading,
}

impl Engine {
    pub(crate) fn new(seen: EngineSeen, now: Timestamp) -> Self {
        let base_models = seen.base_model.iter().cloned().collect();
        Self {
            ready_since: None,
            reach: Reach::Unknown,
            away_since: Some(now),
            boot: seen.boot.clone(),
            base_models,
            residents: BTreeMap::new(),
            signals: LoadSignals::default(),
            listing: Call { due: now, ..Call::default() },
            probing: Call { due: now, ..Call::default() },
            loading: None,
            suspected: BTreeSet::new(),
            leftovers: BTreeSet::new(),
            queue: BTreeSet::new(),
            leaving: BTreeMap::new(),
            touched: BTreeSet::new(),
            drains: 0,
            unswept: BTreeSet::new(),
            uncounted: BTreeSet::new(),
            strangers: BTreeSet::new(),
            swaps: BTreeSet::new(),
            given_up: false,
            matched: BTreeSet::new(),
            known: false,
            heard: false,
            seen,
        }
    }

    /// Whether requests and loads may be sent to it.
    pub(crate) fn is_usable(&self) -> bool {
        self.answers() && self.seen.ready && !self.seen.terminating
    }

    /// Whether it answers as far as is known, wanted or not: it may be asked to let go of something.
    pub(crate) fn answers(&self) -> bool {
        let answers = match &self.reach {
            Reach::Answers => true,
            // One listing that is late proves nothing: it is taken for away at the second, or when it refuses.
            Reach::Fails { times: 1, answered: true, fault } => fault.reason == TIMEOUT,
            Reach::Fails { .. } | Reach::Unknown => false,
        };
        answers && self.boot.is_some()
    }

    /// Why loads there are bound to fail now: its pod says that it runs, and it has just refused a listing. Where nothing
    /// but the engine tells of its life, one that refuses may as well not be there yet.
    pub(crate) fn refuses(&self) -> Option<&Fault> {
        let Reach::Fails { fault, .. } = &self.reach else { return None };
        let runs = self.seen.boot.is_some() && self.seen.ready && !self.seen.terminating && self.boot.is_some();
        Some(fault).filter(|fault| runs && fault.scope == Scope::Transient && fault.reason != TIMEOUT)
    }

    /// Its present life, as far as anything tells: the pod's word comes first.
    pub(crate) fn life(&self) -> Option<&Boot> {
        self.seen.boot.as_ref().or(self.boot.as_ref())
    }

    /// Something has changed about a name there: what holds it, or whose it is.
    pub(crate) fn changed(&mut self, name: &str) {
        let name: Arc<str> = name.into();
        self.unswept.insert(name.clone());
        self.uncounted.insert(name);
    }

    /// Whether the name takes a slot there, or may.
    pub(crate) fn takes_slot(&self, name: &str) -> bool {
        self.residents.contains_key(name)
            || self.loading.as_ref().is_some_and(|op| op.adapter.name.as_str() == name)
            || self.suspected.iter().any(|(suspected, _)| suspected.as_str() == name)
    }

    /// Whether it holds as many adapters as it may, whosever they are.
    pub(crate) fn is_full(&self) -> bool {
        let suspected = self.suspected.iter().filter(|(name, _)| !self.residents.contains_key(name.as_str())).count();
        let max = self.seen.max_cpu_loras.and_then(|max| usize::try_from(max).ok());
        max.is_some_and(|max| self.residents.len() + suspected >= max)
    }

    /// Whether it holds the name from this root, or may yet.
    pub(crate) fn may_hold(&self, name: &AdapterName, root: &Root) -> bool {
        self.residents.get(name.as_str()) == Some(root)
            || self.leaving.get(name).is_some_and(|leaving| leaving.root == *root)
            || self.loading.as_ref().is_some_and(|op| op.adapter.name == *name && op.root == *root)
            || self.suspected.contains(&(name.clone(), root.clone()))
    }

    /// Whether a load of this adapter is under way.
    pub(crate) fn is_loading(&self, adapter: &AdapterKey) -> bool {
        self.loading.as_ref().is_some_and(|op| op.adapter == *adapter)
    }

    /// Whether it was ever asked for the adapter's name by `key`: held, loading, or on its way out.
    pub(crate) fn has_to_do_with(&self, key: &AdapterKey) -> bool {
        self.residents.contains_key(key.name.as_str()) || self.leaving.contains_key(&key.name) || self.is_loading(key)
    }

    /// Whether a load of this name, by whomever, is under way.
    pub(crate) fn is_loading_name(&self, name: &AdapterName) -> bool {
        self.loading.as_ref().is_some_and(|op| op.adapter.name == *name)
    }

    /// Why it cannot take requests, for people.
    pub(crate) fn reason(&self) -> Option<(&'static str, String)> {
        if self.seen.terminating {
            return Some(("Terminating", "the engine is being stopped".into()));
        }
        if !self.seen.ready {
            return Some(("NotReady", "its pod is not Ready".into()));
        }
        match &self.reach {
            Reach::Unknown => Some(("NotListed", "it has not answered yet".into())),
            Reach::Fails { fault, .. } if !self.is_usable() => Some((fault.reason, fault.message.clone())),
            _ => None,
        }
    }
}
