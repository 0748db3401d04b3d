//! Objects that declare adapters: their coming, changing and going.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_api::spec::AdapterSpec;
use longshore_api::status::ModelAdapterStatus;
use longshore_types::{AdapterKey, EngineId, Fault, ObjectKey, Root, Timestamp};

use super::complaints::Complaint;
use super::deletion::Awaited;
use super::events::Budget;
use super::pins::Holder;
use super::view::Standing;
use super::{Reconciler, Wake};
use crate::adapter::Adapter;
use crate::engine::Reach;
use crate::{Effect, ObjectSeen, Resolved, Retry, Unfinished};

/// One declaring object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) generation: i64,
    /// Since when its deletion has been asked for.
    pub(super) deleting: Option<Timestamp>,
    /// Whether it is gone from the source of truth: one of its name that comes now is another object.
    pub(super) gone: bool,
    /// Why it declares nothing.
    pub(super) refused: Option<Fault>,
    pub(super) adapters: BTreeSet<AdapterKey>,
    /// The status as written last.
    pub(super) shown: ModelAdapterStatus,
    /// Whether this process, or the one before it, has written a status.
    pub(super) written: bool,
    pub(super) sequence: u64,
    pub(super) last_write: Option<Timestamp>,
    pub(super) events: Budget,
    /// What is wrong with it, for an event.
    pub(super) complaint: Option<Complaint>,
    /// What engines may still hold of adapters of it that were forgotten.
    pub(super) unfinished: Vec<Unfinished>,
    /// Where loads fail, as said last; none where an earlier process may have said something.
    pub(super) retries: Option<Vec<Retry>>,
}

impl Reconciler {
    pub(super) fn object_applied(&mut self, now: Timestamp, seen: ObjectSeen) {
        let key = seen.key.clone();
        let new = !self.objects.contains_key(&key);
        let object = self.objects.entry(key.clone()).or_insert_with(|| Object {
            generation: seen.generation,
            deleting: None,
            gone: false,
            refused: None,
            adapters: BTreeSet::new(),
            written: seen.shown.is_some(),
            shown: seen.shown.clone().unwrap_or_default(),
            sequence: 0,
            last_write: None,
            events: Budget::default(),
            complaint: None,
            unfinished: Vec::new(),
            retries: seen.shown.is_none().then(Vec::new),
        });
        let changed = new || object.generation != seen.generation;
        if object.gone {
            object.gone = false;
            object.deleting = None;
            object.written = seen.shown.is_some();
            object.shown = seen.shown.clone().unwrap_or_default();
        } else if seen.generation < object.generation {
            // An older version of the object that arrives late says nothing new.
            return;
        }
        object.generation = seen.generation;
        // A deletion that has been asked for cannot be taken back.
        if seen.deleting {
            object.deleting.get_or_insert(now);
        }
        let deleting = object.deleting.is_some();
        let mut gone = BTreeSet::new();
        match seen.lowered {
            Ok(specs) => {
                object.refused = None;
                let named: BTreeSet<_> = specs.iter().map(|spec| spec.key.clone()).collect();
                gone = object.adapters.difference(&named).cloned().collect();
                object.adapters.extend(named);
                for spec in specs {
                    self.adapter_declared(spec, deleting, seen.shown.as_ref());
                }
            }
            // What it declared before goes on being served; status says what is wrong.
            Err(fault) => object.refused = Some(fault),
        }
        let affected: Vec<_> =
            self.objects.get(&key).map(|object| object.adapters.clone()).into_iter().flatten().collect();
        for adapter in affected {
            if deleting || gone.contains(&adapter) {
                self.adapter_unwanted(&adapter);
            }
            self.dirty_adapters.insert(adapter);
        }
        // A process before this one has said them where it has shown this generation.
        let said = new && seen.shown.as_ref().is_some_and(|shown| shown.observed_generation == Some(seen.generation));
        if changed && !said {
            for (reason, message) in seen.warnings {
                self.object_event(now, &key, true, reason, message, None);
            }
        }
        self.dirty_objects.insert(key);
    }

    fn adapter_declared(&mut self, spec: AdapterSpec, deleting: bool, shown: Option<&ModelAdapterStatus>) {
        if self.adapters.contains_key(&spec.key) {
            self.adapter_changed(spec, deleting);
        } else {
            self.adapter_found(spec, shown);
        }
    }

    fn adapter_found(&mut self, spec: AdapterSpec, shown: Option<&ModelAdapterStatus>) {
        let (key, created) = (spec.key.clone(), spec.created);
        let mut adapter = Adapter::new(spec);
        if let Some(artifact) = shown.and_then(|shown| shown.artifact.as_ref()) {
            // Roots that status records are ours: a crash between a load and its status write loses nothing.
            adapter.accepted = artifact.roots.iter().map(|root| root_of(root)).collect();
            adapter.previous = artifact.roots.first().map(|root| Resolved {
                root: root_of(root),
                bytes: artifact.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
                rank: artifact.rank.and_then(|rank| u32::try_from(rank).ok()),
                warnings: Vec::new(),
            });
        }
        if let Some(shown) = shown {
            (adapter.restored, adapter.inherited) = (true, true);
            adapter.warned = shown.observed_generation.filter(|_| shown.artifact.is_some());
            let since = shown.engines.iter().filter_map(|engine| {
                let id = EngineId::new(key.namespace().clone(), &engine.pod);
                Some((id, (Standing::state_named(&engine.state)?, engine.since.as_str().into())))
            });
            adapter.shown = since.collect();
        }
        // AIBrix tells no generation; what we have shown ourselves records every root.
        let theirs = shown.filter(|shown| shown.observed_generation.is_none());
        adapter.aibrix = theirs.into_iter().flat_map(|shown| shown.instances.iter().cloned()).collect();
        if let Some(previous) = &adapter.previous {
            self.pin(&previous.root, Holder::Adapter(key.clone()));
        }
        self.adapters.insert(key.clone(), adapter);
        self.by_namespace.entry(key.namespace().clone()).or_default().insert(key.clone());
        let claims = self.claims.entry((key.namespace().clone(), key.name.clone())).or_default();
        claims.insert((created, key.clone()));
        // Whoever has the name may lose it now.
        self.look_at_claims(&key);
        self.match_adapter(&key);
        // Names that an engine holds may have been nobody's until now.
        self.look_at_holders(&key);
    }

    fn adapter_changed(&mut self, spec: AdapterSpec, deleting: bool) {
        let key = spec.key.clone();
        let Some(adapter) = self.adapters.get_mut(&key) else { return };
        let revived = adapter.deleting && !deleting;
        if deleting || (adapter.spec == spec && !revived) {
            return;
        }
        let selector_changed = adapter.spec.selector != spec.selector;
        if revived {
            // Another object of the same name: its generations count from the start.
            adapter.start_over();
            adapter.resolve_wait = None;
            adapter.update_failed = None;
            adapter.warned = None;
            if let Some(target) = &mut adapter.target {
                target.generation = None;
            }
        } else if adapter.spec.generation != spec.generation {
            // Tried again when the object changes.
            adapter.start_over();
        }
        let (created, before) = (spec.created, adapter.spec.created);
        adapter.spec = spec;
        adapter.deleting = false;
        adapter.needs_placement = true;
        if selector_changed || revived {
            self.match_adapter(&key);
        }
        if created != before
            && let Some(claims) = self.claims.get_mut(&(key.namespace().clone(), key.name.clone()))
        {
            claims.remove(&(before, key.clone()));
            claims.insert((created, key.clone()));
            self.look_at_claims(&key);
        }
    }

    pub(super) fn try_again(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get(key) else { return };
        for key in object.adapters.clone() {
            let Some(adapter) = self.adapters.get_mut(&key).filter(|adapter| !adapter.deleting) else { continue };
            adapter.start_over();
            adapter.resolve_wait = None;
            adapter.needs_placement = true;
            self.dirty_adapters.insert(key);
        }
    }

    pub(super) fn object_deleted(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        object.deleting.get_or_insert(now);
        object.gone = true;
        for adapter in object.adapters.clone() {
            self.adapter_unwanted(&adapter);
        }
        self.dirty_objects.insert(key.clone());
    }

    fn adapter_unwanted(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if adapter.deleting {
            return;
        }
        adapter.deleting = true;
        adapter.needs_placement = true;
        // What it resolves to is not asked for any more.
        adapter.resolving = None;
        self.dirty_adapters.insert(key.clone());
        self.effects.push(Effect::Retract(key.clone()));
    }

    fn deletion_bound(&self) -> Duration {
        self.config.delete_bound + self.config.drain
    }

    /// Forgets an adapter that is wanted no more and held nowhere, or whose engines have had their time.
    pub(super) fn step_gone(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        if !adapter.deleting {
            return;
        }
        let since = self.objects.get(&key.object).and_then(|object| object.deleting);
        let bound = since.map(|since| since + self.deletion_bound());
        let (mut held, mut withdrawing) = (false, false);
        for (_, awaited) in self.awaited(key) {
            held = true;
            withdrawing |= awaited == Awaited::Routers;
        }
        // The bound is for engines that do not answer. Routers are waited for: what they may still ask for stays (I5).
        let overdue = bound.is_some_and(|bound| bound <= now) && !withdrawing;
        if !self.synced || (held && !overdue) {
            if let Some(bound) = bound.filter(|bound| *bound > now) {
                self.timers.wake(Wake::Adapter(key.clone()), bound);
            }
            return;
        }
        self.forget_adapter(now, key);
    }

    fn forget_adapter(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let around: Vec<EngineId> = self.around(key).into_iter().cloned().collect();
        let opaque: Vec<Root> = adapter.roots().into_iter().filter(|root| root.digest().is_none()).collect();
        self.note_unfinished(key);
        self.release_roots(now, key);
        self.forget_placement(key);
        let Some(adapter) = self.adapters.remove(key) else { return };
        if let Some(declared) = self.by_namespace.get_mut(key.namespace()) {
            declared.remove(key);
            if declared.is_empty() {
                self.by_namespace.remove(key.namespace());
            }
        }
        for id in &around {
            let Some(engine) = self.engines.get_mut(id) else { continue };
            engine.matched.remove(key);
            if engine.has_to_do_with(key) || engine.reach != Reach::Answers {
                engine.leftovers.extend(opaque.iter().map(|root| (key.name.clone(), root.clone())));
            }
            if let Some(waiting) = adapter.queued.get(id) {
                engine.queue.remove(waiting);
            }
            // What an engine has not let go of yet is unloaded when it answers again, for nobody in particular.
            if let Some(leaving) = engine.leaving.get_mut(&key.name) {
                // Another object of that name may be the one that withdraws it.
                leaving.owner.take_if(|owner| owner == key);
            }
            engine.changed(key.name.as_str());
            self.dirty_engines.insert(id.clone());
        }
        let name = (key.namespace().clone(), key.name.clone());
        if let Some(claims) = self.claims.get_mut(&name) {
            claims.remove(&(adapter.spec.created, key.clone()));
            if claims.is_empty() {
                self.claims.remove(&name);
            }
        }
        // The next in line has the name now.
        self.look_at_claims(key);
        if let Some(object) = self.objects.get_mut(&key.object) {
            object.adapters.remove(key);
            self.dirty_objects.insert(key.object.clone());
        }
        self.effects.push(Effect::AdapterChanged(key.clone()));
    }

    /// Whether nothing is left of an object that is being deleted; forgets it then.
    pub(super) fn release_object(&mut self, key: &ObjectKey) -> bool {
        let done = self.objects.get(key).is_some_and(|object| object.deleting.is_some() && object.adapters.is_empty());
        if done && let Some(object) = self.objects.remove(key) {
            let unfinished = self.still_unfinished(object.unfinished);
            self.effects.push(Effect::Release { object: key.clone(), unfinished });
        }
        done
    }

    /// Whoever claims the name looks again at who has it.
    fn look_at_claims(&mut self, key: &AdapterKey) {
        let claims = self.claims.get(&(key.namespace().clone(), key.name.clone()));
        for (_, claimant) in claims.into_iter().flatten() {
            if let Some(adapter) = self.adapters.get_mut(claimant) {
                adapter.needs_placement = true;
            }
            self.dirty_adapters.insert(claimant.clone());
        }
    }

    /// Engines that hold a name look again at whose it is.
    fn look_at_holders(&mut self, key: &AdapterKey) {
        let holders = self.holders.get(&(key.namespace().clone(), key.name.to_string()));
        self.dirty_engines.extend(holders.into_iter().flatten().cloned());
    }
}

/// A root as status records it.
fn root_of(text: &str) -> Root {
    text.parse().map_or_else(|_| Root::Other(text.into()), Root::Store)
}
