//! The state, and how facts go in and effects come out.

mod complaints;
mod conditions;
mod deletion;
mod drain;
mod engines;
mod events;
mod listing;
mod loads;
mod objects;
mod pins;
mod placement;
mod publish;
mod resolve;
mod retries;
mod slots;
mod status;
mod unfinished;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use longshore_scheduler::Scheduler;
use longshore_types::{AdapterKey, AdapterName, Digest, EngineId, Namespace, ObjectKey, Timestamp};

use crate::adapter::Adapter;
use crate::engine::Engine;
use crate::timers::Timers;
use crate::{Config, Effect, Event, Fact, Unfinished};
use objects::Object;
use pins::Pins;
use placement::Ids;

/// What a wake-up is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Adapter(AdapterKey),
    Engine(EngineId),
    Object(ObjectKey),
    Unpin(Digest),
    Republish(AdapterKey),
    Settled,
}

/// The state machine that decides everything. See the crate's front page.
#[derive(Debug)]
pub struct Reconciler {
    config: Config,
    /// Since when everything that exists has been told; nothing is placed or unloaded before.
    synced: bool,
    /// When the first engine answered, and whether the wait for the others is over.
    first_answer: Option<Timestamp>,
    settled: bool,
    objects: BTreeMap<ObjectKey, Object>,
    adapters: BTreeMap<AdapterKey, Adapter>,
    /// The adapters of each namespace: an engine concerns those of its own only (I7).
    by_namespace: BTreeMap<Namespace, BTreeSet<AdapterKey>>,
    engines: BTreeMap<EngineId, Engine>,
    /// Who claims each served name, the oldest first: that one has it.
    claims: BTreeMap<(Namespace, AdapterName), BTreeSet<(Timestamp, AdapterKey)>>,
    /// Engines that hold each name, whosever it is.
    holders: BTreeMap<(Namespace, String), BTreeSet<EngineId>>,
    scheduler: Scheduler,
    ids: Ids,
    /// Whether a slot has come free, so that adapters that wait for one are looked at.
    capacity_freed: bool,
    pins: Pins,
    /// What deletions could not undo, by engine.
    unfinished: BTreeMap<EngineId, BTreeSet<Unfinished>>,
    /// Calls to engines that are gone and have not been answered yet: a new engine of that name is told apart from them.
    unanswered: BTreeMap<EngineId, Unanswered>,
    dirty_adapters: BTreeSet<AdapterKey>,
    dirty_engines: BTreeSet<EngineId>,
    dirty_objects: BTreeSet<ObjectKey>,
    timers: Timers<Wake>,
    routes_sent: u64,
    effects: Vec<Effect>,
    /// Events of this turn: they come behind everything else.
    events: Vec<Event>,
}

/// What a gone engine was asked and has not answered.
#[derive(Clone, Copy, Debug, Default)]
struct Unanswered {
    listing: bool,
    probe: bool,
}

impl Reconciler {
    /// A reconciler that knows nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            synced: false,
            first_answer: None,
            settled: false,
            objects: BTreeMap::new(),
            adapters: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            engines: BTreeMap::new(),
            claims: BTreeMap::new(),
            holders: BTreeMap::new(),
            scheduler: Scheduler::new(),
            ids: Ids::default(),
            capacity_freed: false,
            pins: Pins::default(),
            unfinished: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            dirty_adapters: BTreeSet::new(),
            dirty_engines: BTreeSet::new(),
            dirty_objects: BTreeSet::new(),
            timers: Timers::new(),
            routes_sent: 0,
            effects: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes in one fact. What follows from it comes with the next [`Reconciler::decide`].
    pub fn observe(&mut self, now: Timestamp, fact: Fact) {
        match fact {
            Fact::Applied(object) => self.object_applied(now, *object),
            Fact::Deleted(object) => self.object_deleted(now, &object),
            Fact::Engine(engine) => self.engine_seen(now, *engine),
            Fact::EngineGone(engine) => self.engine_gone(now, &engine),
            Fact::Unfinished(noted) => self.unfinished_noted(noted),
            Fact::Synced => self.synced(now),
            Fact::Resolved { adapter, generation, result } => self.resolved(now, &adapter, generation, result),
            Fact::Listed { engine, result } => self.listed(now, &engine, result),
            Fact::Probed { engine, result } => self.probed(now, &engine, result),
            Fact::Loaded { engine, boot, name, root, result } => {
                self.load_finished(now, &engine, &boot, &name, &root, result);
            }
            Fact::Unloaded { engine, boot, name, result } => self.unload_finished(now, &engine, &boot, &name, result),
            Fact::Published { adapter, sequence, result, notice } => {
                self.route_published(now, &adapter, sequence, result, notice);
            }
            Fact::StatusWritten { object, sequence } => self.status_written(&object, sequence),
            Fact::TryAgain(object) => self.try_again(&object),
            Fact::Missing { engine, name } => self.missing(now, &engine, &name),
        }
    }

    /// What is to be done now. Work is proportional to what has changed since the last call.
    pub fn decide(&mut self, now: Timestamp) -> Vec<Effect> {
        while let Some(wake) = self.timers.pop_due(now) {
            self.woken(now, wake);
        }
        // Each step may make work for the ones before it: an unload frees a slot, a slot starts a load. All of it ends,
        // since every step moves something forward or waits for a fact.
        loop {
            if let Some(engine) = self.dirty_engines.pop_first() {
                self.step_engine(now, &engine);
            } else if let Some(adapter) = self.dirty_adapters.pop_first() {
                self.step_adapter(now, &adapter);
            } else if self.capacity_freed {
                self.capacity_freed = false;
                self.retry_waiting();
            } else {
                break;
            }
        }
        while let Some(object) = self.dirty_objects.pop_first() {
            self.step_object(now, &object);
        }
        self.effects.extend(self.events.drain(..).map(Effect::Event));
        std::mem::take(&mut self.effects)
    }

    /// Whether every route that a process before this one has left is decided on anew: from the next [`Reconciler::decide`]
    /// on, those that nobody has told of belong to nobody.
    pub fn has_settled(&self) -> bool {
        self.settled
    }

    /// When to call [`Reconciler::decide`] again if no fact comes before.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    fn woken(&mut self, now: Timestamp, wake: Wake) {
        match wake {
            Wake::Adapter(key) => {
                self.dirty_adapters.insert(key);
            }
            Wake::Engine(id) => {
                self.dirty_engines.insert(id);
            }
            Wake::Object(key) => {
                self.dirty_objects.insert(key);
            }
            Wake::Unpin(digest) => self.unpin_due(now, digest),
            Wake::Republish(key) => self.republish_due(&key),
            Wake::Settled => self.settle(),
        }
    }

    fn synced(&mut self, now: Timestamp) {
        if std::mem::replace(&mut self.synced, true) {
            return;
        }
        self.check_settled(now);
        self.place_everything();
        self.dirty_engines.extend(self.engines.keys().chain(self.unfinished.keys()).cloned());
    }

    fn place_everything(&mut self) {
        for (key, adapter) in &mut self.adapters {
            adapter.needs_placement = true;
            self.dirty_adapters.insert(key.clone());
        }
    }

    /// Ends the wait for engines that have not answered their first listing once all have, or some time after the first.
    /// One that is not Ready is not asked, and so not waited for.
    fn check_settled(&mut self, now: Timestamp) {
        if self.settled || !self.synced {
            return;
        }
        if self.engines.values().all(|engine| engine.heard || !engine.seen.ready) {
            self.settle();
        } else if let Some(first) = self.first_answer {
            self.timers.wake(Wake::Settled, (first + self.config.settle).max(now));
        }
    }

    fn settle(&mut self) {
        self.settled = true;
        self.place_everything();
    }

    /// One adapter, from what is wanted to what is asked for.
    fn step_adapter(&mut self, now: Timestamp, key: &AdapterKey) {
        if !self.adapters.contains_key(key) {
            return;
        }
        self.step_resolve(now, key);
        self.step_placement(now, key);
        self.step_update(now, key);
        self.step_queues(now, key);
        self.step_route(now, key);
        self.step_gone(now, key);
        self.dirty_objects.insert(key.object.clone());
        self.effects.push(Effect::AdapterChanged(key.clone()));
    }
}
