//! The scheduler: what it is told, what it answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::state::{Holding, State};
use crate::{Adapter, AdapterId, AdapterStatus, Decision, Engine, EngineId, Policy, Reason, pipeline, policy};

/// Places adapters on engines and remembers where. See the [crate's page](crate).
///
/// A clone is a world of its own: ask it "what if" and drop it.
#[derive(Clone)]
pub struct Scheduler {
    state: State,
    policies: BTreeMap<Arc<str>, Arc<dyn Policy>>,
}

impl Scheduler {
    /// A scheduler that knows the built-in policies and nothing else.
    pub fn new() -> Self {
        let named = policy::built_in().map(|policy| (Arc::from(policy.name()), policy));
        Self { state: State::default(), policies: named.into() }
    }

    /// The names of the built-in policies.
    pub fn policies() -> &'static [&'static str] {
        policy::BUILT_IN
    }

    /// Adds a policy, in place of the one that has its name.
    pub fn add_policy(&mut self, policy: impl Policy + 'static) {
        self.policies.insert(Arc::from(policy.name()), Arc::new(policy));
    }

    /// Tells what an engine is like now; what it holds stays as it is. Engines that were told of before are replaced.
    pub fn set_engine(&mut self, engine: Engine) {
        self.state.set_engine(engine.sane());
    }

    /// Forgets an engine and all that it held. Answers which adapters lost a replica, by id: they are to be scheduled
    /// again.
    pub fn remove_engine(&mut self, engine: &EngineId) -> Vec<AdapterId> {
        let held = self.state.remove_engine(engine);
        held.into_iter().filter(|(_, holding)| *holding == Holding::Assigned).map(|(id, _)| id).collect()
    }

    /// The engine as last told, with numbers read as [`Engine`] says.
    pub fn engine(&self, engine: &EngineId) -> Option<&Engine> {
        self.state.engine(engine).map(|entry| &entry.engine)
    }

    /// Makes the world fit the wish as far as it goes, and reserves: keeps what is assigned where the permanent rules
    /// (selector, base model, rank) still allow it, adds what is missing, lets go what is too much.
    ///
    /// An adapter whose policy is not known is left as it is, with [`Reason::UnknownPolicy`].
    pub fn schedule_adapter(&mut self, adapter: &Adapter) -> Decision {
        self.state.declare(adapter);
        let plan = match self.policies.get(adapter.policy.as_str()) {
            Some(policy) => pipeline::plan(&self.state, adapter, &**policy),
            None => pipeline::refuse(&self.state, adapter, self.unknown_policy(adapter)),
        };
        for engine in &plan.removed {
            self.state.hold(&adapter.id, engine, Holding::Leaving);
        }
        for engine in &plan.added {
            self.state.hold(&adapter.id, engine, Holding::Assigned);
        }
        self.state.conclude(&adapter.id, plan.unplaced.clone(), plan.waits);
        Decision {
            assigned: pipeline::assigned(&self.state, adapter).cloned().collect(),
            overcommitted: plan.added.iter().filter(|id| self.is_overcommitted(id)).cloned().collect(),
            added: plan.added,
            removed: plan.removed,
            candidates: plan.candidates,
            considered: u32::try_from(adapter.engines.len()).unwrap_or(u32::MAX),
            unplaced: plan.unplaced,
        }
    }

    /// Forgets the wish for an adapter. Answers which engines still hold it, by id, leaving ones too: it is to be unloaded
    /// there, and takes its slot until [`Scheduler::unassign`] or [`Scheduler::remove_engine`].
    pub fn remove_adapter(&mut self, adapter: &AdapterId) -> Vec<EngineId> {
        self.state.retract(adapter)
    }

    /// Takes over what is already so: the engine holds the adapter, also beyond its capacity and before the adapter's
    /// wish is known. Answers whether the engine is known; if not, nothing is noted.
    pub fn assign(&mut self, adapter: &AdapterId, engine: &EngineId) -> bool {
        self.state.hold(adapter, engine, Holding::Assigned);
        self.state.engine(engine).is_some()
    }

    /// The adapter is on its way out of the engine: no replica any more, but it takes its slot. Without effect where it is
    /// not assigned.
    pub fn release(&mut self, adapter: &AdapterId, engine: &EngineId) {
        if self.state.holding(adapter, engine).is_some() {
            self.state.hold(adapter, engine, Holding::Leaving);
        }
    }

    /// The engine does not hold the adapter any more: its slot is free. Without effect where it did not.
    pub fn unassign(&mut self, adapter: &AdapterId, engine: &EngineId) {
        self.state.drop(adapter, engine);
    }

    /// Where the adapter is, and what was missing when it was last scheduled. `None` when it was never heard of, or is
    /// removed and gone from every engine.
    pub fn adapter_status(&self, adapter: &AdapterId) -> Option<AdapterStatus> {
        let entry = self.state.adapter(adapter)?;
        let mut status = AdapterStatus { unplaced: entry.unplaced.clone(), ..AdapterStatus::default() };
        for (engine, holding) in &entry.on {
            match holding {
                Holding::Assigned => status.assigned.insert(engine.clone()),
                Holding::Leaving => status.leaving.insert(engine.clone()),
            };
        }
        Some(status)
    }

    /// The adapters that are assigned to the engine, by id; without those that are leaving.
    pub fn engine_adapters(&self, engine: &EngineId) -> Vec<AdapterId> {
        let holds = self.state.engine(engine).into_iter().flat_map(|entry| &entry.holds);
        holds.filter(|(_, holding)| **holding == Holding::Assigned).map(|(id, _)| id.clone()).collect()
    }

    /// Adapters that the engine could still take: 0 where it holds too many. `None` where it has no hard limit or is not
    /// known.
    pub fn free_slots(&self, engine: &EngineId) -> Option<u32> {
        let entry = self.state.engine(engine)?;
        entry.engine.max_adapters.map(|max| max.saturating_sub(entry.taken()))
    }

    /// Adapters that may fare better when a slot frees or an engine appears or recovers, highest priority first, then by
    /// id: those whose last decision left replicas missing, and those that it left on a draining or avoided engine for want
    /// of another. It is an index, kept as decisions are made: asking costs only what is taken from it.
    pub fn waiting(&self) -> impl Iterator<Item = &AdapterId> {
        self.state.waiting()
    }

    fn unknown_policy(&self, adapter: &Adapter) -> Reason {
        Reason::UnknownPolicy { policy: adapter.policy.clone(), known: self.policies.keys().cloned().collect() }
    }

    /// Whether the engine holds more than it has slots for; where it has a hard limit, nothing is added beyond it.
    fn is_overcommitted(&self, engine: &EngineId) -> bool {
        self.state.engine(engine).is_some_and(|entry| entry.taken() > entry.engine.slots())
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies: Vec<_> = self.policies.keys().collect();
        f.debug_struct("Scheduler").field("policies", &policies).field("state", &self.state).finish()
    }
}
