//! Loads: one at a time per engine (I3), retried, given up, refused.

use std::cmp::Reverse;
use std::sync::Arc;

use longshore_types::{AdapterKey, AdapterName, Boot, EngineId, Fault, Root, Scope, Timestamp};

use super::pins::Holder;
use super::{Reconciler, Wake};
use crate::adapter::{Adapter, Hold, Replica};
use crate::engine::{LoadOp, Waiting};
use crate::{Effect, Load, LogLine};

impl Reconciler {
    /// Puts the adapter into the queue of each engine that should load it now, and out of the others.
    pub(super) fn step_queues(&mut self, now: Timestamp, key: &AdapterKey) {
        self.expire_holds(now, key);
        let in_trouble = self.in_trouble(now, key);
        let Some(adapter) = self.adapters.get(key) else { return };
        let waiting = Waiting {
            not_a_swap: adapter.swap_until.is_none(),
            priority: Reverse(adapter.spec.priority),
            adapter: key.clone(),
        };
        let wanted: Vec<EngineId> = match adapter.root() {
            Some(_) if !adapter.deleting && !in_trouble && adapter.gate.is_none() => {
                adapter.assigned.iter().filter(|id| self.should_load(key, id)).cloned().collect()
            }
            _ => Vec::new(),
        };
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let before = std::mem::take(&mut adapter.queued);
        for (id, entry) in &before {
            if (!wanted.contains(id) || *entry != waiting)
                && let Some(engine) = self.engines.get_mut(id)
            {
                engine.queue.remove(entry);
            }
        }
        for id in wanted {
            if let Some(engine) = self.engines.get_mut(&id) {
                engine.queue.insert(waiting.clone());
                self.dirty_engines.insert(id.clone());
            }
            adapter.queued.insert(id, waiting.clone());
        }
    }

    fn should_load(&self, key: &AdapterKey, id: &EngineId) -> bool {
        let (Some(adapter), Some(engine)) = (self.adapters.get(key), self.engines.get(id)) else { return false };
        let held = adapter.replicas.get(id).is_some_and(|replica| replica.hold.is_some());
        // Another root under the name has to leave first.
        let resident = engine.residents.contains_key(key.name.as_str());
        !held
            && adapter.matching.contains(id)
            && adapter.assigned.contains(id)
            && !resident
            && !engine.leaving.contains_key(&key.name)
            && !engine.is_loading(key)
            && self.blocked(key, id).is_none()
            // After a restart, routers may for a moment go by a route of the life before (I1).
            && !adapter.may_be_asked_for_other_bytes(id, adapter.root())
            && !self.routed_for_another(key, id)
    }

    /// Ends what has lasted long enough, and wakes when the next one does.
    fn expire_holds(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        for replica in adapter.replicas.values_mut() {
            let Some(until) = replica.hold.as_ref().and_then(Hold::until) else { continue };
            if until > now {
                self.timers.wake(Wake::Adapter(key.clone()), until);
                continue;
            }
            if !matches!(replica.hold, Some(Hold::BackingOff { .. })) {
                replica.failures = 0;
                adapter.needs_placement = true;
                // The choice was made before this step.
                self.dirty_adapters.insert(key.clone());
            }
            replica.hold = None;
        }
    }

    /// Takes the first adapter out of the engine's queue that is still to be loaded: what the engine holds may have
    /// become known since it was put there.
    fn next_load(&mut self, id: &EngineId) -> Option<AdapterKey> {
        loop {
            let key = self.engines.get_mut(id)?.queue.pop_first()?.adapter;
            if let Some(adapter) = self.adapters.get_mut(&key) {
                adapter.queued.remove(id);
            }
            self.dirty_adapters.insert(key.clone());
            if self.should_load(&key, id) {
                return Some(key);
            }
        }
    }

    /// Starts the next load where the slot is free.
    pub(super) fn start_load(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if let Some(op) = &engine.loading {
            let stalled = op.since + self.config.stalled_after;
            if stalled > now {
                self.timers.wake(Wake::Engine(id.clone()), stalled);
            }
            if op.unknown {
                self.settle_unknown_load(now, id);
            }
            return;
        }
        if !self.synced {
            return;
        }
        if !engine.is_usable() {
            if let Some(fault) = engine.refuses().cloned() {
                self.refuse_waiting(now, id, &fault);
            }
            return;
        }
        let Some(boot) = engine.boot.clone() else { return };
        // The next listing has the choice made again.
        if engine.is_full() {
            return;
        }
        let Some(key) = self.next_load(id) else { return };
        let (Some(adapter), Some(engine)) = (self.adapters.get(&key), self.engines.get_mut(id)) else { return };
        let Some(root) = adapter.root().cloned() else { return };
        let attempt = adapter.replicas.get(id).map_or(0, |replica| replica.failures) + 1;
        engine.loading = Some(LoadOp { adapter: key.clone(), root: root.clone(), since: now, unknown: false });
        engine.touched.insert(Arc::from(key.name.as_str()));
        engine.changed(key.name.as_str());
        let key_for_engine = adapter.spec.engine_key.clone();
        self.pin(&root, Holder::Loading(id.clone(), root.clone()));
        self.timers.wake(Wake::Engine(id.clone()), now + self.config.stalled_after);
        self.dirty_adapters.insert(key.clone());
        self.effects.push(Effect::Load(Load {
            adapter: key,
            engine: id.clone(),
            boot,
            root,
            key: key_for_engine,
            attempt,
        }));
    }

    /// What waits for an engine that refuses connections counts as tried: asking it once more for each of them would tell
    /// nothing else. An answered listing ends the waits that follow from it.
    fn refuse_waiting(&mut self, now: Timestamp, id: &EngineId, fault: &Fault) {
        while let Some(key) = self.next_load(id) {
            let root = self.adapters.get(&key).and_then(Adapter::root).cloned();
            if let Some(root) = root {
                self.load_failed(now, id, &LoadOp { adapter: key, root, since: now, unknown: false }, fault.clone());
            }
        }
    }

    pub(super) fn load_finished(
        &mut self,
        now: Timestamp,
        id: &EngineId,
        boot: &Boot,
        name: &AdapterName,
        root: &Root,
        result: Result<(), Fault>,
    ) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let ours = |op: &LoadOp| op.adapter.name == *name && op.root == *root;
        if engine.boot.as_ref() != Some(boot) || !engine.loading.as_ref().is_some_and(ours) {
            return;
        }
        engine.touched.insert(Arc::from(name.as_str()));
        self.dirty_engines.insert(id.clone());
        match result {
            Err(fault) if fault.scope == Scope::Unknown => {
                // The engine may yet have done it. The slot stays taken until a listing or a bound tells.
                if let Some(op) = &mut engine.loading {
                    op.unknown = true;
                    self.dirty_adapters.insert(op.adapter.clone());
                }
                engine.listing.ask_soon(now);
            }
            result => {
                if let Some(op) = engine.loading.take() {
                    self.load_settled(now, id, &op, result);
                }
            }
        }
    }

    /// A listing tells how a load went whose call did not; so does a bound.
    pub(super) fn settle_unknown_load(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let Some(op) = engine.loading.clone().filter(|op| op.unknown) else { return };
        let bound = op.since + self.config.load_bound;
        if bound <= now {
            engine.loading = None;
            engine.suspected.insert((op.adapter.name.clone(), op.root.clone()));
            let message = format!("{id} has not finished loading within {} s", self.config.load_bound.as_secs());
            self.load_settled(now, id, &op, Err(Fault::new(Scope::Transient, "LoadTimeout", message)));
        } else {
            self.timers.wake(Wake::Engine(id.clone()), bound);
        }
    }

    /// An engine lists what a load of unknown outcome was to bring.
    pub(super) fn unknown_load_shown(&mut self, now: Timestamp, id: &EngineId, listed: Option<&Root>) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let Some(op) = engine.loading.clone().filter(|op| op.unknown && listed == Some(&op.root)) else { return };
        engine.loading = None;
        self.load_settled(now, id, &op, Ok(()));
    }

    fn load_settled(&mut self, now: Timestamp, id: &EngineId, op: &LoadOp, result: Result<(), Fault>) {
        let key = op.adapter.clone();
        self.dirty_engines.insert(id.clone());
        if let Some(engine) = self.engines.get_mut(id) {
            engine.changed(key.name.as_str());
            // What waits for the slot to be changed over is not in the queue.
            self.dirty_adapters.append(&mut engine.swaps);
        }
        // Whoever has the name may have waited for this.
        self.dirty_adapters.extend(self.owner_of(key.namespace(), &key.name).cloned());
        // It may be in use until a listing tells.
        let suspected = self.engines.get(id).is_some_and(|e| e.suspected.iter().any(|(_, root)| *root == op.root));
        if !suspected {
            self.unpin(now, &op.root, &Holder::Loading(id.clone(), op.root.clone()));
        }
        match result {
            Ok(()) => {
                self.gained_resident(id, &Arc::from(key.name.as_str()), op.root.clone());
                self.effects.push(Effect::EngineChanged(id.clone()));
                // It is ours whatever is wanted by now.
                if let Some(engine) = self.engines.get_mut(id) {
                    engine.leftovers.insert((key.name.clone(), op.root.clone()));
                }
                let Some(adapter) = self.adapters.get_mut(&key) else { return };
                adapter.replicas.remove(id);
                self.log("Successfully loaded adapter on pod", &key, id, None);
                let message = format!("Successfully loaded adapter on pod {id}");
                self.event(now, &key, false, "Loaded", message, Some(id.clone()));
            }
            Err(fault) => self.load_failed(now, id, op, fault),
        }
        self.dirty_adapters.insert(key);
    }

    fn load_failed(&mut self, now: Timestamp, id: &EngineId, op: &LoadOp, fault: Fault) {
        let key = op.adapter.clone();
        let Some(adapter) = self.adapters.get_mut(&key) else { return };
        // What became of bytes that are not wanted any more does not matter.
        if adapter.root() != Some(&op.root) || adapter.deleting || !adapter.matching.contains(id) {
            return;
        }
        let message = format!("{id}: {fault}");
        // A process before this one has tried, and said the same.
        let said = self.objects.get(&key.object).is_some_and(|object| object.inherited_refusal(id, fault.reason));
        let replica: &mut Replica = adapter.replicas.entry(id.clone()).or_default();
        match fault.scope {
            Scope::Transient | Scope::Unknown => {
                replica.failures += 1;
                replica.last = now;
                let failures = replica.failures;
                if failures > self.config.max_retries {
                    let until = now + self.config.cool_down;
                    replica.hold = Some(Hold::CoolingDown { until, fault: fault.clone() });
                    adapter.needs_placement = true;
                    let message = format!("Max retries exceeded for pod {id}: {fault}");
                    self.event(now, &key, true, "MaxRetriesExceeded", message, Some(id.clone()));
                } else {
                    let wait = self.config.retry_base * 2_u32.pow((failures - 1).min(16));
                    replica.hold = Some(Hold::BackingOff { until: now + wait, fault: fault.clone() });
                    if failures == 1 {
                        self.event(now, &key, true, "LoadFailed", message, Some(id.clone()));
                    }
                }
                self.log("Retriable error loading adapter", &key, id, Some(&fault));
            }
            Scope::Engine | Scope::EngineFiles => {
                // A path missing among its files may be put there, and a name that is taken may be free again before any
                // listing has shown it; anything else takes a new life or another object.
                let passes = fault.scope == Scope::EngineFiles || fault.reason == NAME_TAKEN;
                let until = passes.then(|| now + self.config.refusal_retry);
                self.hold(&key, id, Hold::Refused { until, fault: fault.clone() });
                if fault.reason == NAME_TAKEN
                    && let Some(engine) = self.engines.get_mut(id)
                {
                    // It holds something under the name that was not known: a listing says what.
                    engine.listing.ask_soon(now);
                }
                if !said {
                    self.event(now, &key, true, "LoadFailed", message, Some(id.clone()));
                }
                self.log("Error loading adapter", &key, id, Some(&fault));
            }
            // Another engine holds these very bytes, so they cannot be what is wrong.
            Scope::Artifact if self.is_held(&key, &op.root) => {
                let until = Some(now + self.config.refusal_retry);
                self.hold(&key, id, Hold::Refused { until, fault: fault.clone() });
                if !said {
                    self.event(now, &key, true, "LoadFailed", message, Some(id.clone()));
                }
                self.log("Error loading adapter", &key, id, Some(&fault));
            }
            Scope::Artifact => {
                if !said {
                    self.event(now, &key, true, "LoadFailed", message, Some(id.clone()));
                }
                self.log("Error loading adapter", &key, id, Some(&fault));
                self.artifact_refused(now, &key, fault);
            }
        }
    }

    /// The name is free again: what was refused because it was taken may be tried.
    pub(super) fn name_freed(&mut self, key: &AdapterKey, id: &EngineId) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let Some(replica) = adapter.replicas.get_mut(id) else { return };
        if replica.hold.as_ref().is_some_and(|hold| hold.fault().reason == NAME_TAKEN) {
            replica.hold = None;
            adapter.needs_placement = true;
        }
    }

    /// Whether any engine holds the adapter from this root.
    fn is_held(&self, key: &AdapterKey, root: &Root) -> bool {
        self.holders_of(key).any(|(_, _, held)| held == root)
    }

    fn hold(&mut self, key: &AdapterKey, id: &EngineId, hold: Hold) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        adapter.replicas.entry(id.clone()).or_default().hold = Some(hold);
        adapter.needs_placement = true;
    }

    fn log(&mut self, message: &'static str, key: &AdapterKey, id: &EngineId, fault: Option<&Fault>) {
        let error = fault.map(|fault| Arc::from(fault.message.as_str()));
        self.effects.push(Effect::Log(LogLine { message, adapter: key.clone(), engines: vec![id.clone()], error }));
    }
}

/// The reason of an engine's refusal where it holds the name from another root.
const NAME_TAKEN: &str = "NameTaken";
