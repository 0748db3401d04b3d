//! What holds what: two indexes of the same facts, and the sums that decisions need, kept as they change.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::{Adapter, AdapterId, Candidate, Engine, EngineId, Unplaced};

/// How an engine holds an adapter. Either way it takes a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// It is a replica.
    Assigned,
    /// It is on its way out.
    Leaving,
}

/// One engine and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct EngineEntry {
    pub(crate) engine: Engine,
    pub(crate) holds: BTreeMap<AdapterId, Holding>,
    /// Sum over `holds`. Wide enough for any number of adapters of any size.
    memory: u128,
}

impl EngineEntry {
    /// Slots in use, foreign ones too.
    pub(crate) fn taken(&self) -> u32 {
        let ours = u32::try_from(self.holds.len()).unwrap_or(u32::MAX);
        ours.saturating_add(self.engine.foreign)
    }
}

/// One adapter and where it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdapterEntry {
    pub(crate) on: BTreeMap<EngineId, Holding>,
    /// Whether it has been scheduled and not removed since.
    declared: bool,
    priority: i32,
    memory: u64,
    pub(crate) unplaced: Option<Unplaced>,
}

/// Everything that a scheduler remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    engines: BTreeMap<EngineId, EngineEntry>,
    adapters: BTreeMap<AdapterId, AdapterEntry>,
    waiting: BTreeSet<(Reverse<i32>, AdapterId)>,
}

impl State {
    pub(crate) fn engine(&self, id: &EngineId) -> Option<&EngineEntry> {
        self.engines.get(id)
    }

    pub(crate) fn adapter(&self, id: &AdapterId) -> Option<&AdapterEntry> {
        self.adapters.get(id)
    }

    /// By priority, then id.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &AdapterId> {
        self.waiting.iter().map(|(_, id)| id)
    }

    /// Adds the engine, or takes what is told now in the place of what was told before.
    pub(crate) fn set_engine(&mut self, engine: Engine) {
        match self.engines.entry(engine.id.clone()) {
            Entry::Occupied(mut entry) => entry.get_mut().engine = engine,
            Entry::Vacant(entry) => {
                entry.insert(EngineEntry { engine, holds: BTreeMap::new(), memory: 0 });
            }
        }
    }

    /// Forgets the engine; what it held, and how.
    pub(crate) fn remove_engine(&mut self, id: &EngineId) -> BTreeMap<AdapterId, Holding> {
        let held = self.engines.remove(id).map(|entry| entry.holds).unwrap_or_default();
        for adapter in held.keys() {
            if let Some(entry) = self.adapters.get_mut(adapter) {
                entry.on.remove(id);
            }
            self.tidy(adapter);
        }
        held
    }

    /// How the engine holds the adapter, if at all.
    pub(crate) fn holding(&self, adapter: &AdapterId, engine: &EngineId) -> Option<Holding> {
        self.adapters.get(adapter)?.on.get(engine).copied()
    }

    /// Makes it so that the engine holds the adapter in this way. Without effect where the engine is not known.
    pub(crate) fn hold(&mut self, adapter: &AdapterId, engine: &EngineId, holding: Holding) {
        let Some(on) = self.engines.get_mut(engine) else { return };
        let entry = self.adapters.entry(adapter.clone()).or_default();
        if on.holds.insert(adapter.clone(), holding).is_none() {
            on.memory += u128::from(entry.memory);
        }
        entry.on.insert(engine.clone(), holding);
    }

    /// Makes it so that the engine does not hold the adapter.
    pub(crate) fn drop(&mut self, adapter: &AdapterId, engine: &EngineId) {
        let Some(entry) = self.adapters.get_mut(adapter) else { return };
        if entry.on.remove(engine).is_none() {
            return;
        }
        if let Some(on) = self.engines.get_mut(engine) {
            on.holds.remove(adapter);
            on.memory -= u128::from(entry.memory);
        }
        self.tidy(adapter);
    }

    /// Notes what a wish says that later decisions about others need.
    pub(crate) fn declare(&mut self, adapter: &Adapter) {
        let entry = self.adapters.entry(adapter.id.clone()).or_default();
        let memory = adapter.memory.unwrap_or_default();
        if memory != entry.memory {
            for engine in entry.on.keys() {
                if let Some(on) = self.engines.get_mut(engine) {
                    on.memory = on.memory - u128::from(entry.memory) + u128::from(memory);
                }
            }
            entry.memory = memory;
        }
        if entry.priority != adapter.priority {
            self.waiting.remove(&(Reverse(entry.priority), adapter.id.clone()));
            entry.priority = adapter.priority;
        }
        entry.declared = true;
    }

    /// Notes how a wish came out.
    pub(crate) fn conclude(&mut self, id: &AdapterId, unplaced: Option<Unplaced>, waits: bool) {
        let Some(entry) = self.adapters.get_mut(id) else { return };
        entry.unplaced = unplaced;
        let key = (Reverse(entry.priority), id.clone());
        if waits {
            self.waiting.insert(key);
        } else {
            self.waiting.remove(&key);
        }
    }

    /// Forgets the wish; the engines that still hold the adapter.
    pub(crate) fn retract(&mut self, id: &AdapterId) -> Vec<EngineId> {
        let Some(entry) = self.adapters.get_mut(id) else { return Vec::new() };
        entry.declared = false;
        let held: Vec<_> = entry.on.keys().cloned().collect();
        self.conclude(id, None, false);
        for engine in &held {
            self.hold(id, engine, Holding::Leaving);
        }
        self.tidy(id);
        held
    }

    /// The adapter and the engine as rules and policies see them.
    pub(crate) fn candidate<'a>(&'a self, adapter: &'a Adapter, engine: &EngineId) -> Option<Candidate<'a>> {
        let on = self.engines.get(engine)?;
        let own = self.adapters.get(&adapter.id).filter(|entry| entry.on.contains_key(engine));
        let (slot, memory) = own.map_or((0, 0), |entry| (1, u128::from(entry.memory)));
        Some(Candidate::new(adapter, &on.engine, on.taken().saturating_sub(slot), on.memory - memory))
    }

    /// Drops the entry of an adapter that nobody wants and nobody holds.
    fn tidy(&mut self, id: &AdapterId) {
        if self.adapters.get(id).is_some_and(|entry| !entry.declared && entry.on.is_empty()) {
            self.adapters.remove(id);
        }
    }
}
