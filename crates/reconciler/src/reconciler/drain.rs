//! Off an engine again: withdraw, drain, unload (I5), and changing over from one root to another.

use std::sync::Arc;
use std::time::Duration;

use longshore_types::{AdapterKey, AdapterName, Boot, EngineId, Fault, LoadSignals, Root, Timestamp};

use super::{Reconciler, Wake};
use crate::adapter::Adapter;
use crate::engine::{Leaving, Step};
use crate::{Effect, Unload};

/// Before the same name is loaded with other bytes, a request that a router had sent off must have arrived: a loopback
/// or data-centre round trip takes far less.
const LEAST_SWAP_DRAIN: Duration = Duration::from_millis(20);
/// Between attempts to unload; it doubles up to the second figure.
const UNLOAD_RETRY: Duration = Duration::from_secs(1);
const LONGEST_UNLOAD_RETRY: Duration = Duration::from_secs(30);
/// How long requests are asked to wait for a swap beyond its drain. Routers have a bound of their own.
const SWAP_HOLD: Duration = Duration::from_secs(2);

/// An engine that holds the adapter, and from where.
type Held = (EngineId, Root);

impl Reconciler {
    /// Has engines let go of the adapter where it should not be, and changes over those that hold an old root.
    pub(super) fn step_update(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let wanted = !adapter.deleting && self.has_its_name(key);
        let chosen = !adapter.needs_placement && self.synced;
        let all_served = adapter.assigned.iter().all(|id| self.serves(key, id));
        let (unwanted, outdated) = self.misplaced(key, wanted);

        let mut leave = unwanted;
        // Nothing is taken away before the choice of engines has been made, and a replica that moves serves until its
        // successors do.
        let keeps_its_place = |id: &EngineId, root: &Root| {
            let superseded = adapter.target.is_some() && adapter.trouble.is_none();
            let serves = adapter.may_serve(id, root);
            !chosen || (adapter.matching.contains(id) && !(superseded && (all_served || !serves)))
        };
        leave.retain(|(id, root)| if wanted { !keeps_its_place(id, root) } else { self.synced });
        let waits: Vec<EngineId> = outdated.iter().map(|(id, _)| id.clone()).collect();
        if chosen && adapter.gate.is_none() {
            leave.extend(self.to_change_over(key, outdated));
        }
        let settled = wanted && chosen && all_served && !adapter.assigned.is_empty();
        let all_current = settled && adapter.has_history() && self.is_all_current(key);
        for id in waits {
            if let Some(engine) = self.engines.get_mut(&id).filter(|engine| engine.loading.is_some()) {
                engine.swaps.insert(key.clone());
            }
        }
        for (id, root) in leave {
            self.begin_leaving(now, Some(key), &id, &key.name, root);
        }
        if all_current {
            self.forget_previous(now, key);
        }
        self.drop_empty_surplus(key);
    }

    /// What engines hold of the adapter and should not: where it is not wanted, and where another root is.
    fn misplaced(&self, key: &AdapterKey, wanted: bool) -> (Vec<Held>, Vec<Held>) {
        let (mut unwanted, mut outdated) = (Vec::new(), Vec::new());
        let Some(adapter) = self.adapters.get(key) else { return (unwanted, outdated) };
        let wins = self.has_its_name(key);
        for (id, engine, root) in self.holders_of(key) {
            let busy = engine.leaving.contains_key(&key.name) || engine.is_loading_name(&key.name);
            if busy || self.routed_for_another(key, id) {
                continue;
            }
            // Another claim on the name decides about what it holds.
            let mine = wins || adapter.assigned.contains(id) || adapter.surplus.contains(id);
            if adapter.assigned.contains(id) && wanted {
                let replaced = adapter.root().is_some_and(|target| target != root);
                if replaced && self.blocked(key, id).is_none() {
                    outdated.push((id.clone(), root.clone()));
                }
            } else if mine && self.is_ours(key, id, root) {
                unwanted.push((id.clone(), root.clone()));
            }
        }
        (unwanted, outdated)
    }

    /// Of the engines that hold an old root, those whose turn has come: at most so many replicas may be away at once.
    fn to_change_over(&self, key: &AdapterKey, outdated: Vec<Held>) -> Vec<Held> {
        let Some(adapter) = self.adapters.get(key) else { return Vec::new() };
        // An engine that is down, or holds the name for somebody else, does not keep the others from being changed.
        let lost = |id: &EngineId| {
            self.engines.get(id).is_none_or(|engine| engine.given_up) || self.blocked(key, id).is_some()
        };
        let mut away = adapter.assigned.iter().filter(|id| !self.serves(key, id) && !lost(id)).count();
        let allowed = usize::try_from(adapter.spec.update.max_unavailable).unwrap_or(1).max(1);
        let mut turn = outdated;
        turn.retain(|(id, _)| {
            let free = self.engines.get(id).is_some_and(|engine| engine.is_usable() && engine.loading.is_none());
            if !free || !self.serves(key, id) {
                return free;
            }
            away += 1;
            away <= allowed
        });
        turn
    }

    /// Whether an engine may yet turn out to hold the adapter from another root than the wanted one, whether or not it is
    /// still selected: a load was given up there, or an earlier process of ours may have had one and it has not been asked
    /// since.
    fn may_turn_up_elsewhere(&self, adapter: &Adapter) -> bool {
        let (name, target) = (&adapter.spec.key.name, adapter.root());
        self.engines_of(adapter.spec.key.namespace()).filter_map(|id| self.engines.get(id)).any(|engine| {
            let other = |of: &AdapterName, root: &Root| of == name && Some(root) != target;
            (adapter.restored && !engine.known)
                || engine.loading.as_ref().is_some_and(|op| other(&op.adapter.name, &op.root))
                || engine.suspected.iter().any(|(of, root)| other(of, root))
        })
    }

    /// Whether no engine holds the adapter from a root of ours that it should not be held from, nor may hold it so.
    fn is_all_current(&self, key: &AdapterKey) -> bool {
        let Some(adapter) = self.adapters.get(key) else { return false };
        let target = adapter.root();
        !self.may_turn_up_elsewhere(adapter)
            && self.holders_of(key).all(|(id, _, root)| target == Some(root) || !self.is_ours(key, id, root))
    }

    /// Whether routers may still send requests there for another object that had the name until now: it withdraws first.
    pub(super) fn routed_for_another(&self, key: &AdapterKey, id: &EngineId) -> bool {
        let claims = self.claims.get(&(key.namespace().clone(), key.name.clone()));
        claims.into_iter().flatten().filter(|(_, other)| other != key).any(|(_, other)| {
            self.adapters.get(other).is_some_and(|other| other.may_be_asked_for_other_bytes(id, None))
        })
    }

    /// Whether an engine answers requests for the adapter now, from whatever root it may be served from.
    pub(super) fn serves(&self, key: &AdapterKey, id: &EngineId) -> bool {
        let (Some(adapter), Some(engine)) = (self.adapters.get(key), self.engines.get(id)) else { return false };
        let root = engine.residents.get(key.name.as_str());
        engine.is_usable()
            && !engine.leaving.contains_key(&key.name)
            && root.is_some_and(|root| adapter.may_serve(id, root))
    }

    /// Engines that were to let go and hold nothing.
    fn drop_empty_surplus(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let empty: Vec<EngineId> = adapter
            .surplus
            .iter()
            .filter(|id| self.engines.get(id).is_none_or(|engine| !engine.has_to_do_with(key)))
            .cloned()
            .collect();
        for id in empty {
            if let Some(adapter) = self.adapters.get_mut(key) {
                adapter.surplus.remove(&id);
            }
            self.free_slot(key, &id);
        }
    }

    pub(super) fn begin_leaving(
        &mut self,
        now: Timestamp,
        owner: Option<&AdapterKey>,
        id: &EngineId,
        name: &AdapterName,
        root: Root,
    ) {
        if let Some(key) = owner {
            self.place_as_leaving(key, id);
        }
        let adapter = owner.and_then(|key| self.adapters.get(key));
        let swap = adapter.is_some_and(|adapter| !adapter.deleting && adapter.assigned.contains(id));
        let others = owner.is_some_and(|key| self.endpoints(key).iter().any(|endpoint| endpoint.engine != *id));
        let served = owner.is_some_and(|key| self.serves(key, id));
        let bound = adapter.and_then(|adapter| adapter.spec.update.drain).unwrap_or(self.config.drain);
        let alone = swap && served && !others;
        let drain_bound = if alone { bound.min(self.config.swap_drain) } else { bound };
        let engine_key = adapter.and_then(|adapter| adapter.spec.engine_key.clone());
        let Some(engine) = self.engines.get_mut(id) else { return };
        let step = Step::Withdrawing(None);
        let owner = owner.cloned();
        let leaving =
            Leaving { root, owner: owner.clone(), key: engine_key, swap, step, drain_bound, failures: 0, fault: None };
        engine.leaving.insert(name.clone(), leaving);
        self.dirty_engines.insert(id.clone());
        self.effects.push(Effect::EngineChanged(id.clone()));
        match owner {
            Some(key) => {
                if let (true, Some(adapter)) = (alone, self.adapters.get_mut(&key)) {
                    adapter.swap_until = Some(now + drain_bound + SWAP_HOLD);
                }
                self.dirty_adapters.insert(key);
            }
            None => self.begin_drain(now, id, name),
        }
    }

    pub(super) fn begin_drain(&mut self, now: Timestamp, id: &EngineId, name: &AdapterName) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let Some(leaving) = engine.leaving.get_mut(name) else { return };
        engine.drains += 1;
        let least = if leaving.swap { LEAST_SWAP_DRAIN } else { Duration::ZERO };
        let from = now + least;
        leaving.step = Step::Draining { number: engine.drains, from, until: now + leaving.drain_bound.max(least) };
        engine.probing.due = engine.probing.due.min(from);
        self.timers.wake(Wake::Engine(id.clone()), from);
        self.timers.wake(Wake::Engine(id.clone()), now + leaving.drain_bound);
        self.dirty_engines.insert(id.clone());
    }

    pub(super) fn probed(&mut self, now: Timestamp, id: &EngineId, result: Result<LoadSignals, Fault>) {
        let Some(engine) = self.engines.get_mut(id) else {
            if let Some(unanswered) = self.unanswered.get_mut(id) {
                unanswered.probe = false;
                self.forget_answered(id);
            }
            return;
        };
        let Some(asked_at) = engine.probing.since.take() else { return };
        if std::mem::take(&mut engine.probing.void) {
            return;
        }
        engine.probing.due = now + self.config.probe_interval;
        self.dirty_engines.insert(id.clone());
        let Ok(signals) = result else { return };
        for (name, leaving) in &mut engine.leaving {
            if let Step::Draining { number, from, .. } = leaving.step
                && number <= asked_at
                && !signals.active.contains(name.as_str())
            {
                leaving.step = Step::Unload { at: from.max(now) };
            }
        }
        engine.signals = signals;
    }

    /// Moves each name that is on its way out a step on.
    pub(super) fn step_leaving(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        // One that is not Ready, or is being stopped, may still be asked to let go: a deletion need not wait for it.
        let answers = engine.answers();
        let Some(boot) = engine.boot.clone() else { return };
        let loading = engine.loading.as_ref().map(|op| op.adapter.name.clone());
        for (name, leaving) in &mut engine.leaving {
            if let Step::Draining { until, .. } = leaving.step {
                if until <= now {
                    leaving.step = Step::Unload { at: now };
                } else {
                    self.timers.wake(Wake::Engine(id.clone()), until);
                }
            }
            let Step::Unload { at } = leaving.step else { continue };
            if at > now {
                self.timers.wake(Wake::Engine(id.clone()), at);
            } else if answers && loading.as_ref() != Some(name) {
                leaving.step = Step::Unloading;
                engine.touched.insert(Arc::from(name.as_str()));
                self.effects.push(Effect::Unload(Unload {
                    engine: id.clone(),
                    boot: boot.clone(),
                    name: name.clone(),
                    key: leaving.key.clone(),
                }));
                self.dirty_objects.extend(leaving.owner.as_ref().map(|key| key.object.clone()));
            }
        }
    }

    pub(super) fn unload_finished(
        &mut self,
        now: Timestamp,
        id: &EngineId,
        boot: &Boot,
        name: &AdapterName,
        result: Result<(), Fault>,
    ) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if engine.boot.as_ref() != Some(boot) {
            return;
        }
        let Some(leaving) = engine.leaving.get_mut(name).filter(|leaving| leaving.step == Step::Unloading) else {
            return;
        };
        engine.touched.insert(Arc::from(name.as_str()));
        self.dirty_engines.insert(id.clone());
        match result {
            Ok(()) => {
                let (root, owner) = (leaving.root.clone(), leaving.owner.clone());
                self.lost_resident(now, id, &Arc::from(name.as_str()), &root);
                self.effects.push(Effect::EngineChanged(id.clone()));
                if let Some(key) = owner {
                    let message = format!("Unloaded adapter from pod {id}");
                    self.event(now, &key, false, "Unloaded", message, Some(id.clone()));
                }
            }
            Err(fault) => {
                let wait = (UNLOAD_RETRY * 2_u32.pow(leaving.failures.min(8))).min(LONGEST_UNLOAD_RETRY);
                leaving.failures += 1;
                leaving.fault = Some(fault);
                leaving.step = Step::Unload { at: now + wait };
                self.dirty_adapters.extend(leaving.owner.clone());
            }
        }
    }
}
