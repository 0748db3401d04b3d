//! What engines say that they hold, and what follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AdapterKey, AdapterName, EngineId, Fault, Root, Timestamp};

use super::Reconciler;
use super::pins::Holder;
use crate::adapter::Hold;
use crate::engine::{Reach, Step, TIMEOUT};
use crate::{Effect, Listing};

impl Reconciler {
    pub(super) fn listed(&mut self, now: Timestamp, id: &EngineId, result: Result<Listing, Fault>) {
        let Some(engine) = self.engines.get_mut(id) else {
            if let Some(unanswered) = self.unanswered.get_mut(id) {
                unanswered.listing = false;
                self.forget_answered(id);
            }
            return;
        };
        if engine.listing.since.take().is_none() {
            return;
        }
        self.dirty_engines.insert(id.clone());
        if std::mem::take(&mut engine.listing.void) {
            engine.listing.due = now;
            return;
        }
        // A restart should not wait for a whole interval to be noticed, and one that is away has time to answer.
        let interval = if result.is_ok() { self.config.list_interval } else { self.config.list_interval / 4 };
        engine.listing.over(now, now + interval);
        let first = !engine.heard;
        engine.heard = true;
        match result {
            Ok(listing) => self.engine_answered(now, id, listing),
            Err(fault) => {
                let (times, answered) = match &engine.reach {
                    Reach::Answers => (1, true),
                    Reach::Fails { times, answered, .. } => (times.saturating_add(1), *answered),
                    Reach::Unknown => (1, false),
                };
                let news = !matches!(&engine.reach, Reach::Fails { fault: before, .. } if *before == fault);
                engine.reach = Reach::Fails { times, answered, fault };
                if news {
                    self.effects.push(Effect::EngineChanged(id.clone()));
                }
            }
        }
        if first {
            self.check_settled(now);
            // What waits for its answer, whatever that is.
            let matched = self.engines.get(id).map(|engine| &engine.matched);
            let waits = |key: &&AdapterKey| self.adapters.get(*key).is_some_and(|adapter| adapter.needs_placement);
            self.dirty_adapters.extend(matched.into_iter().flatten().filter(waits).cloned());
        }
    }

    fn engine_answered(&mut self, now: Timestamp, id: &EngineId, listing: Listing) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        // The pod's word on which life it is comes before the engine's own.
        let boot = engine.seen.boot.clone().unwrap_or(listing.boot);
        // One that was only slow was up all the while.
        let was_away = matches!(&engine.reach, Reach::Fails { fault, .. } if fault.reason != TIMEOUT);
        let asked = engine.listing.asked;
        engine.reach = Reach::Answers;
        self.first_answer.get_or_insert(now);
        match &engine.boot {
            Some(old) if *old != boot => self.new_boot(now, id, boot),
            Some(_) => {}
            None => engine.boot = Some(boot),
        }
        let first = self.engines.get_mut(id).is_some_and(|engine| !std::mem::replace(&mut engine.known, true));
        if first {
            // It was the one that may have held something.
            let adapters = self.by_namespace.get(&id.namespace).into_iter().flatten();
            let restored = adapters.filter(|key| self.adapters.get(*key).is_some_and(|adapter| adapter.restored));
            self.dirty_adapters.extend(restored.cloned());
        }
        if was_away {
            self.end_back_off(id);
        }
        let Some(engine) = self.engines.get_mut(id) else { return };
        let mut news = engine.signals != listing.load;
        engine.signals = listing.load;
        if !listing.base_models.is_empty() && engine.base_models != listing.base_models {
            engine.base_models = listing.base_models;
            news = true;
        }
        // An answer to what was asked before the load began may be about what was there before.
        let loading = engine.loading.as_ref().filter(|op| op.since < asked).map(|op| op.adapter.name.clone());
        let shown = loading.and_then(|name| listing.residents.iter().find(|r| *r.name == *name.as_str()));
        self.unknown_load_shown(now, id, shown.map(|resident| &resident.root));
        news |= self.take_residents(now, id, listing.residents.into_iter().map(|r| (r.name, r.root)).collect());
        if news {
            self.effects.push(Effect::EngineChanged(id.clone()));
        }
        self.choose_again(id);
        self.clear_suspects(now, id);
        self.settle_unknown_load(now, id);
    }

    /// What an engine turns out to hold may take slots that had been given away before that was known (I6).
    fn choose_again(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get(id) else { return };
        let Some(max) = engine.seen.max_cpu_loras.and_then(|max| usize::try_from(max).ok()) else { return };
        if engine.queue.is_empty() && engine.residents.len() <= max {
            return;
        }
        let given = |key: &&AdapterKey| {
            let assigned = self.adapters.get(*key).is_some_and(|adapter| adapter.assigned.contains(id));
            assigned && !engine.has_to_do_with(key)
        };
        let given: Vec<AdapterKey> = engine.matched.iter().filter(given).cloned().collect();
        if engine.residents.len() + given.len() <= max {
            return;
        }
        for key in given {
            if let Some(adapter) = self.adapters.get_mut(&key) {
                adapter.assigned.remove(id);
                adapter.needs_placement = true;
            }
            self.dirty_adapters.insert(key.clone());
            self.free_slot(&key, id);
        }
    }

    /// What was given up without knowing is listed by now, and pinned as such, or is not there.
    fn clear_suspects(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let loading = engine.loading.as_ref().map(|op| op.root.clone());
        let kept = |name: &AdapterName| engine.residents.contains_key(name.as_str()) || engine.is_loading_name(name);
        let gone: Vec<_> = engine.leftovers.iter().filter(|(name, _)| !kept(name)).cloned().collect();
        for leftover in gone {
            engine.leftovers.remove(&leftover);
        }
        let suspected = std::mem::take(&mut engine.suspected);
        for (name, _) in &suspected {
            engine.changed(name.as_str());
        }
        for (name, root) in suspected {
            let claims = self.claims.get(&(id.namespace.clone(), name)).into_iter().flatten();
            self.dirty_adapters.extend(claims.map(|(_, key)| key.clone()));
            if loading.as_ref() != Some(&root) {
                self.unpin(now, &root, &Holder::Loading(id.clone(), root.clone()));
            }
        }
    }

    /// It refused while it started and answers now: nothing waits any longer, and nothing counts against it.
    fn end_back_off(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get(id) else { return };
        for key in &engine.matched {
            let Some(adapter) = self.adapters.get_mut(key) else { continue };
            let Some(replica) = adapter.replicas.get_mut(id) else { continue };
            replica.failures = 0;
            if matches!(replica.hold, Some(Hold::BackingOff { .. } | Hold::CoolingDown { .. })) {
                replica.hold = None;
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// Corrects what the engine is known to hold. Returns whether that was news.
    fn take_residents(&mut self, now: Timestamp, id: &EngineId, listed: BTreeMap<Arc<str>, Root>) -> bool {
        let Some(engine) = self.engines.get(id) else { return false };
        // What a load or unload of ours is changing, or has changed since this listing was asked for, is known better.
        let known_better = |name: &Arc<str>| {
            let Ok(parsed) = AdapterName::new(name) else { return false };
            let unloading = engine.leaving.get(&parsed).is_some_and(|leaving| leaving.step == Step::Unloading);
            let loading = engine.loading.as_ref().is_some_and(|op| op.adapter.name == parsed);
            engine.touched.contains(name) || unloading || loading
        };
        let gone: Vec<(Arc<str>, Root)> = engine
            .residents
            .iter()
            .filter(|(name, root)| listed.get(*name) != Some(root) && !known_better(name))
            .map(|(name, root)| (name.clone(), root.clone()))
            .collect();
        let new: Vec<(Arc<str>, Root)> = listed
            .into_iter()
            .filter(|(name, root)| engine.residents.get(name) != Some(root) && !known_better(name))
            .collect();
        if gone.is_empty() && new.is_empty() {
            return false;
        }
        for (name, root) in gone {
            self.lost_resident(now, id, &name, &root);
        }
        for (name, root) in new {
            self.gained_resident(id, &name, root);
        }
        true
    }

    /// The engine does not hold `name` any more, whoever did that.
    pub(super) fn lost_resident(&mut self, now: Timestamp, id: &EngineId, name: &Arc<str>, root: &Root) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.residents.remove(name);
        engine.changed(name);
        let parsed = AdapterName::new(name).ok();
        let leaving = parsed.as_ref().and_then(|name| engine.leaving.remove(name));
        self.forget_holder(id, name);
        self.unpin(now, root, &Holder::Engine(id.clone(), name.to_string()));
        if let Some(owner) = leaving.and_then(|leaving| leaving.owner) {
            self.left(&owner, id);
        }
        if let Some(owner) = parsed.and_then(|name| self.owner_of(&id.namespace, &name).cloned()) {
            self.name_freed(&owner, id);
            self.dirty_adapters.insert(owner);
        }
        self.dirty_engines.insert(id.clone());
    }

    /// The engine holds `name` from `root`, whoever did that.
    pub(super) fn gained_resident(&mut self, id: &EngineId, name: &Arc<str>, root: Root) {
        self.pin(&root, Holder::Engine(id.clone(), name.to_string()));
        let Some(engine) = self.engines.get_mut(id) else { return };
        engine.residents.insert(name.clone(), root);
        engine.changed(name);
        self.holders.entry((id.namespace.clone(), name.to_string())).or_default().insert(id.clone());
        let owner = AdapterName::new(name).ok().and_then(|name| self.owner_of(&id.namespace, &name).cloned());
        if let Some(owner) = owner {
            // It may be a replica that nobody asked for yet, or one in the way.
            if let Some(adapter) = self.adapters.get_mut(&owner) {
                adapter.needs_placement = true;
            }
            self.dirty_adapters.insert(owner);
        }
        self.dirty_engines.insert(id.clone());
    }

    /// Every call to an engine that is gone has been answered.
    pub(super) fn forget_answered(&mut self, id: &EngineId) {
        if self.unanswered.get(id).is_some_and(|left| !left.listing && !left.probe) {
            self.unanswered.remove(id);
        }
    }

    /// Unloads what is in our store and declared by nobody: a leftover of an earlier life of ours (I4). A name that an
    /// object declares is that adapter's business.
    pub(super) fn sweep(&mut self, now: Timestamp, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id).filter(|engine| self.synced && !engine.unswept.is_empty()) else {
            return;
        };
        let names = std::mem::take(&mut engine.unswept);
        let Some(engine) = self.engines.get(id) else { return };
        let orphans: Vec<(AdapterName, Root)> = names
            .iter()
            .filter_map(|name| Some((AdapterName::new(name).ok()?, engine.residents.get(name)?.clone())))
            .filter(|leftover| leftover.1.digest().is_some() || engine.leftovers.contains(leftover))
            .filter(|(name, _)| !engine.leaving.contains_key(name) && self.owner_of(&id.namespace, name).is_none())
            .collect();
        for (name, root) in orphans {
            self.begin_leaving(now, None, id, &name, root);
        }
    }
}
