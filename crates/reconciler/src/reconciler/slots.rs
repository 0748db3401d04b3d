//! What the scheduler is told about an engine, and who takes its slots (I6).

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_scheduler as scheduler;
use longshore_types::{AdapterKey, AdapterName, EngineId, Timestamp};

use super::placement::engine_id;
use super::{Reconciler, Wake};

impl Reconciler {
    /// Tells the scheduler what an engine is like now, and looks again at its adapters where that is news.
    pub(super) fn describe_engine(&mut self, now: Timestamp, id: &EngineId) {
        self.count_strangers(id);
        let Some(engine) = self.engines.get(id) else { return };
        let seen = &engine.seen;
        let ready_for = engine.ready_since.map(|since| now.since(since));
        let stable = seen.trusted || ready_for.is_some_and(|ready_for| ready_for >= self.config.stable_after);
        if let (false, Some(since)) = (stable, engine.ready_since) {
            self.timers.wake(Wake::Engine(id.clone()), since + self.config.stable_after);
        }
        let mut described = scheduler::Engine::new(engine_id(id));
        described.base_models = engine.base_models.iter().map(ToString::to_string).collect();
        // One that its pod says runs is tried like any other, and left after as many attempts.
        described.ready = engine.is_usable() || engine.refuses().is_some();
        described.stable = stable;
        described.draining = seen.terminating;
        described.stalled = self.is_stalled(now, id);
        described.max_loras = seen.max_loras.or(engine.signals.max_loras);
        described.max_adapters = seen.max_cpu_loras;
        described.max_rank = seen.max_lora_rank;
        described.memory = seen.adapter_memory;
        described.node.clone_from(&seen.address.node);
        described.zone.clone_from(&seen.address.zone);
        // What is not there as a replica, nor as one on its way out, takes a slot all the same (I6).
        described.foreign = u32::try_from(engine.strangers.len()).unwrap_or(u32::MAX);
        if self.scheduler.engine(&described.id) == Some(&described) {
            return;
        }
        self.ids.engines.insert(described.id.clone(), id.clone());
        self.scheduler.set_engine(described);
        for key in &engine.matched {
            if let Some(adapter) = self.adapters.get_mut(key) {
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// Looks again at the names about which something has changed: at all of them, each load would cost as much as there are
    /// adapters.
    fn count_strangers(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        for name in std::mem::take(&mut engine.uncounted) {
            let Some(engine) = self.engines.get(id) else { return };
            let stranger = engine.takes_slot(&name) && !self.is_placed(id, &name);
            let Some(engine) = self.engines.get_mut(id) else { return };
            if stranger {
                engine.strangers.insert(name);
            } else {
                engine.strangers.remove(&name);
            }
        }
        debug_assert_eq!(self.engines.get(id).map(|engine| &engine.strangers), self.strangers(id).as_ref(), "{id}");
    }

    /// The same, from scratch.
    fn strangers(&self, id: &EngineId) -> Option<BTreeSet<Arc<str>>> {
        let engine = self.engines.get(id)?;
        let loads = engine.loading.iter().map(|op| op.adapter.name.as_str());
        let loads = loads.chain(engine.suspected.iter().map(|(name, _)| name.as_str()));
        let names: BTreeSet<&str> = engine.residents.keys().map(|name| &**name).chain(loads).collect();
        Some(names.into_iter().filter(|name| !self.is_placed(id, name)).map(Arc::from).collect())
    }

    /// An adapter has come to an engine as a replica, or is none there any more.
    pub(super) fn place_changed(&mut self, key: &AdapterKey, id: &EngineId) {
        if let Some(engine) = self.engines.get_mut(id) {
            engine.changed(key.name.as_str());
        }
        self.dirty_engines.insert(id.clone());
    }

    /// Whether the scheduler counts what an engine holds under this name.
    fn is_placed(&self, id: &EngineId, name: &str) -> bool {
        let Ok(name) = AdapterName::new(name) else { return false };
        let claims = self.claims.get(&(id.namespace.clone(), name));
        let mut adapters = claims.into_iter().flatten().filter_map(|(_, key)| self.adapters.get(key));
        adapters.any(|adapter| adapter.assigned.contains(id) || adapter.surplus.contains(id))
    }

    /// Whether a load has been under way for so long that nothing new should be placed there.
    pub(super) fn is_stalled(&self, now: Timestamp, id: &EngineId) -> bool {
        let loading = self.engines.get(id).and_then(|engine| engine.loading.as_ref());
        loading.is_some_and(|op| now.since(op.since) >= self.config.stalled_after)
    }

    /// The scheduler forgets an engine; its adapters are placed again.
    pub(super) fn undescribe_engine(&mut self, id: &EngineId) {
        let scheduled = engine_id(id);
        self.ids.engines.remove(&scheduled);
        self.scheduler.remove_engine(&scheduled);
        self.capacity_freed = true;
    }
}
