//! Engines that come, go, restart and fall silent.

use longshore_types::{AdapterKey, AdapterName, Boot, EngineId, Timestamp};

use super::pins::Holder;
use super::{Reconciler, Unanswered, Wake};
use crate::engine::{Engine, Reach, Step};
use crate::{Effect, EngineSeen};

impl Reconciler {
    pub(super) fn engine_seen(&mut self, now: Timestamp, seen: EngineSeen) {
        let id = seen.id.clone();
        let (mut rematch, mut moved) = (true, false);
        match self.engines.get_mut(&id) {
            Some(engine) if is_same(&engine.seen, &seen) => return,
            Some(engine) => {
                rematch = engine.seen.labels != seen.labels;
                moved = (&engine.seen.address, engine.seen.kind) != (&seen.address, seen.kind);
                if engine.base_models.is_empty() {
                    engine.base_models.extend(seen.base_model.clone());
                }
                if engine.seen.boot != seen.boot {
                    // What is under way was asked of the life before, whether or not that one was known.
                    engine.listing.make_void();
                    engine.probing.make_void();
                }
                // A life that begins under our eyes begins with nothing.
                engine.known |= engine.boot.is_none() && engine.seen.boot.is_none() && seen.boot.is_some();
                engine.seen = seen;
            }
            None => {
                let mut engine = Engine::new(seen, now);
                if let Some(unanswered) = self.unanswered.remove(&id) {
                    engine.listing.since = unanswered.listing.then_some(0);
                    engine.listing.make_void();
                    engine.probing.since = unanswered.probe.then_some(0);
                    engine.probing.make_void();
                }
                self.engines.insert(id.clone(), engine);
            }
        }
        let Some(engine) = self.engines.get_mut(&id) else { return };
        let ready_for = std::time::Duration::from_millis(engine.seen.ready_for.unwrap_or(0));
        if !engine.seen.ready {
            engine.ready_since = None;
        } else if engine.ready_since.is_none() {
            let back = u64::try_from(ready_for.as_millis()).unwrap_or(0);
            engine.ready_since = Some(Timestamp::from_millis(now.as_millis().saturating_sub(back)));
            engine.listing.due = now;
        }
        if engine.boot.is_none() {
            engine.boot.clone_from(&engine.seen.boot);
        }
        let other_life = engine.seen.boot.clone().filter(|boot| engine.boot.as_ref().is_some_and(|old| old != boot));
        if let Some(boot) = other_life {
            engine.reach = Reach::Unknown;
            engine.listing.due = now;
            self.new_boot(now, &id, boot);
        }
        if rematch {
            self.match_engine(&id);
        }
        if moved {
            self.dirty_holders(&id);
        }
        self.dirty_engines.insert(id.clone());
        self.effects.push(Effect::EngineChanged(id));
        self.check_settled(now);
    }

    pub(super) fn engine_gone(&mut self, now: Timestamp, id: &EngineId) {
        if !self.engines.contains_key(id) {
            return;
        }
        self.empty_engine(now, id, "is gone");
        let Some(engine) = self.engines.remove(id) else { return };
        let unanswered = Unanswered { listing: engine.listing.since.is_some(), probe: engine.probing.since.is_some() };
        if unanswered.listing || unanswered.probe {
            self.unanswered.insert(id.clone(), unanswered);
        }
        self.undescribe_engine(id);
        for key in engine.matched {
            if let Some(adapter) = self.adapters.get_mut(&key) {
                adapter.matching.remove(id);
                adapter.assigned.remove(id);
                adapter.surplus.remove(id);
                adapter.replicas.remove(id);
                adapter.queued.remove(id);
                adapter.shown.remove(id);
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key);
            }
        }
        self.effects.push(Effect::EngineChanged(id.clone()));
        // What was left undone there is over.
        self.dirty_engines.insert(id.clone());
        self.check_settled(now);
    }

    /// A new life: it holds nothing, and what went wrong before says nothing about it.
    pub(super) fn new_boot(&mut self, now: Timestamp, id: &EngineId, boot: Boot) {
        self.empty_engine(now, id, "has restarted");
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.boot = Some(boot);
        engine.known = true;
        engine.signals = longshore_types::LoadSignals::default();
        // What is under way was asked of the life before.
        engine.listing.make_void();
        engine.probing.make_void();
        for key in &engine.matched {
            if let Some(adapter) = self.adapters.get_mut(key) {
                adapter.replicas.remove(id);
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
        self.dirty_engines.insert(id.clone());
    }

    /// Forgets what an engine held, loaded and unloaded.
    fn empty_engine(&mut self, now: Timestamp, id: &EngineId, why: &str) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let loading = engine.loading.take();
        engine.touched.clear();
        engine.leftovers.clear();
        for names in [&mut engine.unswept, &mut engine.uncounted, &mut engine.strangers] {
            names.clear();
        }
        let suspected = std::mem::take(&mut engine.suspected);
        let residents = std::mem::take(&mut engine.residents);
        let leaving = std::mem::take(&mut engine.leaving);
        self.dirty_adapters.extend(loading.iter().map(|op| op.adapter.clone()));
        let suspected = suspected.into_iter().map(|(_, root)| root);
        for root in loading.map(|op| op.root).into_iter().chain(suspected) {
            self.unpin(now, &root, &Holder::Loading(id.clone(), root.clone()));
        }
        for (name, root) in &residents {
            self.unpin(now, root, &Holder::Engine(id.clone(), name.to_string()));
            self.forget_holder(id, name);
            let parsed = AdapterName::new(name).ok();
            let owner = parsed.as_ref().and_then(|name| self.owner_of(&id.namespace, name).cloned());
            if let Some(key) = owner.filter(|_| !parsed.as_ref().is_some_and(|name| leaving.contains_key(name))) {
                self.event(now, &key, true, "EngineLost", format!("{id} {why}"), Some(id.clone()));
                self.dirty_adapters.insert(key);
            }
        }
        for key in leaving.into_values().filter_map(|leaving| leaving.owner) {
            self.left(&key, id);
        }
    }

    /// The engine no longer holds the adapter after it was to leave.
    pub(super) fn left(&mut self, key: &AdapterKey, id: &EngineId) {
        let Some(adapter) = self.adapters.get_mut(key) else {
            self.capacity_freed = true;
            return;
        };
        adapter.surplus.remove(id);
        if !adapter.assigned.contains(id) {
            self.free_slot(key, id);
        }
        self.dirty_adapters.insert(key.clone());
    }

    pub(super) fn forget_holder(&mut self, id: &EngineId, name: &str) {
        let key = (id.namespace.clone(), name.to_owned());
        if let Some(holders) = self.holders.get_mut(&key) {
            holders.remove(id);
            if holders.is_empty() {
                self.holders.remove(&key);
            }
        }
    }

    /// A router was told by the engine that it lacks the adapter: it is asked at once.
    pub(super) fn missing(&mut self, now: Timestamp, id: &EngineId, name: &AdapterName) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if engine.residents.contains_key(name.as_str()) {
            engine.listing.ask_soon(now);
            self.dirty_engines.insert(id.clone());
        }
    }

    pub(super) fn step_engine(&mut self, now: Timestamp, id: &EngineId) {
        self.step_away(now, id);
        self.describe_engine(now, id);
        self.step_unfinished(id);
        self.sweep(now, id);
        self.step_leaving(now, id);
        self.start_load(now, id);
        self.step_calls(now, id);
    }

    /// Notices that an engine has fallen silent or is back, and when that has lasted too long.
    fn step_away(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let usable = engine.is_usable();
        let changed = usable == engine.away_since.is_some();
        if usable {
            engine.away_since = None;
            engine.given_up = false;
        } else {
            let since = *engine.away_since.get_or_insert(now);
            let until = since + self.config.not_ready_grace;
            if until > now {
                self.timers.wake(Wake::Engine(id.clone()), until);
            } else if !engine.given_up {
                engine.given_up = true;
                self.place_matched(id);
            }
        }
        if changed {
            self.dirty_holders(id);
            self.effects.push(Effect::EngineChanged(id.clone()));
        }
    }

    fn place_matched(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get(id) else { return };
        for key in &engine.matched {
            if let Some(adapter) = self.adapters.get_mut(key) {
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// Whether an engine has not said yet which base models it serves.
    pub(super) fn is_silent(&self, id: &EngineId) -> bool {
        self.engines.get(id).is_some_and(|engine| engine.base_models.is_empty())
    }

    /// Looks again at every adapter that the engine concerns.
    fn dirty_holders(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get(id) else { return };
        let owners = engine.residents.keys().filter_map(|name| {
            let name = AdapterName::new(name).ok()?;
            self.owner_of(&id.namespace, &name).cloned()
        });
        let keys: Vec<AdapterKey> = owners.chain(engine.matched.iter().cloned()).collect();
        self.dirty_adapters.extend(keys);
    }

    /// Asks for the listing or probe that is due.
    fn step_calls(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if engine.seen.ready && engine.listing.since.is_none() {
            if engine.listing.due <= now {
                engine.listing.begin(now, engine.drains);
                engine.touched.clear();
                self.effects.push(Effect::List { engine: id.clone() });
            } else {
                self.timers.wake(Wake::Engine(id.clone()), engine.listing.due);
            }
        }
        let draining = engine.leaving.values().any(|leaving| matches!(leaving.step, Step::Draining { .. }));
        if draining && engine.answers() && engine.probing.since.is_none() {
            if engine.probing.due <= now {
                engine.probing.begin(now, engine.drains);
                self.effects.push(Effect::Probe { engine: id.clone() });
            } else {
                self.timers.wake(Wake::Engine(id.clone()), engine.probing.due);
            }
        }
    }
}

/// Whether nothing is told anew: how long it has been Ready only passes.
fn is_same(known: &EngineSeen, seen: &EngineSeen) -> bool {
    *known == EngineSeen { ready_for: known.ready_for, ..seen.clone() }
}
