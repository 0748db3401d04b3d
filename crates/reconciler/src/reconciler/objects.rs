//! Objects that declare adapters: their coming, changing and going, and the events on them.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_api::spec::AdapterSpec;
use longshore_api::status::ModelAdapterStatus;
use longshore_types::{AdapterKey, EngineId, Fault, ObjectKey, Root, Timestamp};

use super::{Reconciler, Wake};
use crate::adapter::Adapter;
use crate::{Effect, Event, ObjectSeen};

/// More events than this per object and window are counted in one.
const EVENTS_PER_WINDOW: u32 = 32;
const EVENT_WINDOW: Duration = Duration::from_secs(60);

/// One declaring object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) generation: i64,
    /// Since when its deletion has been asked for.
    pub(super) deleting: Option<Timestamp>,
    /// Why it declares nothing.
    pub(super) refused: Option<Fault>,
    pub(super) adapters: BTreeSet<AdapterKey>,
    /// The status as written last.
    pub(super) shown: ModelAdapterStatus,
    /// Whether this process, or the one before it, has written a status.
    pub(super) written: bool,
    pub(super) sequence: u64,
    pub(super) last_write: Option<Timestamp>,
    events: Budget,
}

/// How many events an object has had in the present window.
#[derive(Debug, Default)]
struct Budget {
    since: Timestamp,
    count: u32,
    unsaid: u32,
}

impl Reconciler {
    pub(super) fn object_applied(&mut self, now: Timestamp, seen: ObjectSeen) {
        let key = seen.key.clone();
        let new = !self.objects.contains_key(&key);
        let object = self.objects.entry(key.clone()).or_insert_with(|| Object {
            generation: seen.generation,
            deleting: None,
            refused: None,
            adapters: BTreeSet::new(),
            written: seen.shown.is_some(),
            shown: seen.shown.clone().unwrap_or_default(),
            sequence: 0,
            last_write: None,
            events: Budget::default(),
        });
        let changed = new || object.generation != seen.generation;
        // An older version of the object that arrives late says nothing new.
        if seen.generation < object.generation {
            return;
        }
        object.generation = seen.generation;
        object.deleting = seen.deleting.then(|| object.deleting.unwrap_or(now));
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
        if changed {
            for (reason, message) in seen.warnings {
                self.object_event(now, &key, true, reason, message, None);
            }
        }
        self.dirty_objects.insert(key);
    }

    fn adapter_declared(&mut self, spec: AdapterSpec, deleting: bool, shown: Option<&ModelAdapterStatus>) {
        let key = spec.key.clone();
        let known = self.adapters.contains_key(&key);
        let adapter = self.adapters.entry(key.clone()).or_insert_with(|| Adapter::new(spec.clone()));
        if !known {
            // Roots that status records are ours: a crash between a load and its status write loses nothing.
            let roots =
                shown.and_then(|shown| shown.artifact.as_ref()).into_iter().flat_map(|artifact| &artifact.roots);
            adapter.accepted = roots.map(|root| root_of(root)).collect();
            let claims = self.claims.entry((key.namespace().clone(), key.name.clone())).or_default();
            // Whoever has the name may lose it now.
            self.dirty_adapters.extend(claims.iter().map(|(_, claimant)| claimant.clone()));
            claims.insert((spec.created, key.clone()));
            self.match_adapter(&key);
            // Names that an engine holds may have been nobody's until now.
            self.look_at_holders(&key);
            return;
        }
        let revived = adapter.deleting && !deleting;
        if adapter.spec == spec && !revived {
            return;
        }
        let selector_changed = adapter.spec.selector != spec.selector;
        if adapter.spec.generation != spec.generation {
            // Tried again when the object changes.
            adapter.trouble = None;
            adapter.replicas.clear();
        }
        adapter.spec = spec;
        adapter.deleting = false;
        adapter.needs_placement = true;
        if selector_changed || revived {
            self.match_adapter(&key);
        }
    }

    pub(super) fn object_deleted(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        object.deleting.get_or_insert(now);
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
        let overdue = bound.is_some_and(|bound| bound <= now);
        let held = adapter.matching.union(&adapter.surplus).any(|id| {
            self.engines.get(id).is_some_and(|engine| {
                let ours = engine.residents.get(key.name.as_str()).is_some_and(|root| adapter.is_ours(root));
                let leaving = engine.leaving.get(&key.name).is_some_and(|leaving| leaving.owner.as_ref() == Some(key));
                (ours && self.has_its_name(key)) || leaving || engine.is_loading(key)
            })
        });
        if held && !overdue {
            if let Some(bound) = bound {
                self.timers.wake(Wake::Adapter(key.clone()), bound);
            }
            return;
        }
        self.forget_adapter(now, key);
    }

    fn forget_adapter(&mut self, now: Timestamp, key: &AdapterKey) {
        self.release_roots(now, key);
        self.forget_placement(key);
        let Some(adapter) = self.adapters.remove(key) else { return };
        for id in adapter.matching.iter().chain(&adapter.surplus) {
            let Some(engine) = self.engines.get_mut(id) else { continue };
            engine.matched.remove(key);
            if let Some(waiting) = adapter.queued.get(id) {
                engine.queue.remove(waiting);
            }
            // What an engine has not let go of yet is unloaded when it answers again, for nobody in particular.
            if let Some(leaving) = engine.leaving.get_mut(&key.name) {
                leaving.owner = None;
            }
            engine.unswept = true;
            self.dirty_engines.insert(id.clone());
        }
        let name = (key.namespace().clone(), key.name.clone());
        if let Some(claims) = self.claims.get_mut(&name) {
            claims.retain(|(_, claimant)| claimant != key);
            match claims.first() {
                // The next in line has the name now.
                Some((_, heir)) => {
                    if let Some(adapter) = self.adapters.get_mut(heir) {
                        adapter.needs_placement = true;
                    }
                    self.dirty_adapters.insert(heir.clone());
                }
                None => {
                    self.claims.remove(&name);
                }
            }
        }
        if let Some(object) = self.objects.get_mut(&key.object) {
            object.adapters.remove(key);
            self.dirty_objects.insert(key.object.clone());
        }
        self.effects.push(Effect::AdapterChanged(key.clone()));
    }

    /// Whether nothing is left of an object that is being deleted; forgets it then.
    pub(super) fn release_object(&mut self, key: &ObjectKey) -> bool {
        let done = self.objects.get(key).is_some_and(|object| object.deleting.is_some() && object.adapters.is_empty());
        if done {
            self.objects.remove(key);
            self.effects.push(Effect::Release(key.clone()));
        }
        done
    }

    /// Engines that hold a name look again at whose it is.
    fn look_at_holders(&mut self, key: &AdapterKey) {
        let holders = self.holders.get(&(key.namespace().clone(), key.name.to_string()));
        self.dirty_engines.extend(holders.into_iter().flatten().cloned());
    }

    pub(super) fn event(
        &mut self,
        now: Timestamp,
        key: &AdapterKey,
        warning: bool,
        reason: &'static str,
        message: String,
        related: Option<EngineId>,
    ) {
        self.object_event(now, &key.object, warning, reason, message, related);
    }

    fn object_event(
        &mut self,
        now: Timestamp,
        key: &ObjectKey,
        warning: bool,
        reason: &'static str,
        message: String,
        related: Option<EngineId>,
    ) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let budget = &mut object.events;
        if now.since(budget.since) >= EVENT_WINDOW {
            *budget = Budget { since: now, ..Budget::default() };
        }
        budget.count += 1;
        if budget.count > EVENTS_PER_WINDOW {
            budget.unsaid += 1;
            self.timers.wake(Wake::Object(key.clone()), budget.since + EVENT_WINDOW);
            return;
        }
        let object = key.clone();
        self.effects.push(Effect::Event(Event { object, warning, reason, message, related }));
    }

    /// Says at the end of a window how many events were left out.
    pub(super) fn say_unsaid(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let budget = &mut object.events;
        if budget.unsaid == 0 {
            return;
        }
        let end = budget.since + EVENT_WINDOW;
        if now < end {
            self.timers.wake(Wake::Object(key.clone()), end);
            return;
        }
        let message = format!("{} more events in the last minute are not shown", budget.unsaid);
        *budget = Budget { since: now, count: 1, unsaid: 0 };
        let object = key.clone();
        self.effects.push(Effect::Event(Event {
            object,
            warning: true,
            reason: "TooManyEvents",
            message,
            related: None,
        }));
    }
}

/// A root as status records it.
fn root_of(text: &str) -> Root {
    text.parse().map_or_else(|_| Root::Other(text.into()), Root::Store)
}
