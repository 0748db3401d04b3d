//! Which engines should hold an adapter: the bridge to the scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::labels;
use longshore_api::spec::{Preemption, Replicas};
use longshore_scheduler as scheduler;
use longshore_types::{AdapterKey, AdapterName, EngineId, Namespace, Root, Timestamp};

use super::objects::Object;
use super::{Reconciler, Wake};
use crate::adapter::Hold;
use crate::engine::Engine;
use crate::{Effect, LogLine};

/// The scheduler's own names for adapters and engines: it knows nothing of ours.
#[derive(Debug, Default)]
pub(super) struct Ids {
    adapters: BTreeMap<scheduler::AdapterId, AdapterKey>,
    pub(super) engines: BTreeMap<scheduler::EngineId, EngineId>,
}

/// A space cannot occur in any part, so different keys have different ids.
pub(super) fn adapter_id(key: &AdapterKey) -> scheduler::AdapterId {
    let object = &key.object;
    scheduler::AdapterId::from(format!("{} {} {} {}", object.namespace, object.kind, object.name, key.name))
}

pub(super) fn engine_id(id: &EngineId) -> scheduler::EngineId {
    scheduler::EngineId::from(format!("{} {}", id.namespace, id.name))
}

/// How long the first answer of an engine is waited for: a listing takes milliseconds, and on a busy machine those of a
/// hundred engines at once some tenths of a second. Whoever takes longer is not worth waiting for.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

impl Reconciler {
    /// Whether the adapter is the oldest that claims its name.
    pub(super) fn has_its_name(&self, key: &AdapterKey) -> bool {
        self.owner_of(key.namespace(), &key.name) == Some(key)
    }

    /// Who has a name: the oldest that claims it.
    pub(super) fn owner_of(&self, namespace: &Namespace, name: &AdapterName) -> Option<&AdapterKey> {
        self.claims.get(&(namespace.clone(), name.clone()))?.first().map(|(_, key)| key)
    }

    /// Holds every selector of the namespace (I7) against one engine.
    pub(super) fn match_engine(&mut self, id: &EngineId) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        let labels = &engine.seen.labels;
        for key in self.by_namespace.get(&id.namespace).into_iter().flatten() {
            let Some(adapter) = self.adapters.get_mut(key) else { continue };
            let matches = opted_in(labels) && adapter.spec.selector.matches(labels);
            let changed = if matches {
                engine.matched.insert(key.clone());
                adapter.matching.insert(id.clone())
            } else {
                engine.matched.remove(key);
                adapter.replicas.remove(id);
                adapter.matching.remove(id)
            };
            if changed {
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// Holds one selector against every engine of its namespace (I7).
    pub(super) fn match_adapter(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let first = EngineId::new(key.namespace().clone(), "");
        let engines = self.engines.range_mut(first..).take_while(|(id, _)| id.namespace == *key.namespace());
        for (id, engine) in engines {
            let labels = &engine.seen.labels;
            if opted_in(labels) && adapter.spec.selector.matches(labels) {
                adapter.matching.insert(id.clone());
                engine.matched.insert(key.clone());
            } else {
                adapter.matching.remove(id);
                adapter.replicas.remove(id);
                engine.matched.remove(key);
            }
        }
        adapter.needs_placement = true;
    }

    /// The engines of a namespace.
    pub(super) fn engines_of(&self, namespace: &Namespace) -> impl Iterator<Item = &EngineId> {
        let first = EngineId::new(namespace.clone(), "");
        self.engines.range(first..).map(|(id, _)| id).take_while(move |id| id.namespace == *namespace)
    }

    /// The engines that hold the adapter's name, and from where.
    pub(super) fn holders_of(&self, key: &AdapterKey) -> impl Iterator<Item = (&EngineId, &Engine, &Root)> {
        let name: Arc<str> = key.name.as_str().into();
        let holders = self.holders.get(&(key.namespace().clone(), key.name.to_string())).into_iter().flatten();
        holders.filter_map(move |id| {
            let engine = self.engines.get(id)?;
            Some((id, engine, engine.residents.get(&name)?))
        })
    }

    /// Looks again at every adapter that waits for a place, the most important first.
    pub(super) fn retry_waiting(&mut self) {
        for id in self.scheduler.waiting() {
            let Some(key) = self.ids.adapters.get(id) else { continue };
            if let Some(adapter) = self.adapters.get_mut(key) {
                adapter.needs_placement = true;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    pub(super) fn step_placement(&mut self, now: Timestamp, key: &AdapterKey) {
        let wins = self.has_its_name(key);
        let in_trouble = self.in_trouble(now, key);
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if adapter.deleting || !wins || (in_trouble && adapter.needs_placement) {
            adapter.needs_placement = false;
            self.want_nowhere(key);
            return;
        }
        let all = adapter.spec.replicas == Replicas::All;
        if !adapter.needs_placement || !self.synced || !(all || self.settled) {
            return;
        }
        if let Some(until) = self.others_are_coming(now, key) {
            self.timers.wake(Wake::Adapter(key.clone()), until);
            return;
        }
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        adapter.needs_placement = false;
        let wanted = self.describe_adapter(now, key);
        self.ids.adapters.insert(wanted.id.clone(), key.clone());
        self.take_over(key);
        let decision = self.scheduler.schedule_adapter(&wanted);
        let to_ours = |ids: &mut dyn Iterator<Item = &scheduler::EngineId>| -> BTreeSet<EngineId> {
            ids.filter_map(|id| self.ids.engines.get(id).cloned()).collect()
        };
        let assigned = to_ours(&mut decision.assigned.iter());
        let overcommitted = to_ours(&mut decision.overcommitted.iter());
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let before = std::mem::replace(&mut adapter.assigned, assigned.clone());
        let moved: Vec<EngineId> = before.symmetric_difference(&assigned).cloned().collect();
        adapter.surplus.extend(before.difference(&assigned).cloned());
        adapter.surplus.retain(|engine| !assigned.contains(engine));
        adapter.candidates = decision.candidates;
        adapter.unplaced = decision.unplaced;
        for engine in &moved {
            self.place_changed(key, engine);
        }
        if !assigned.is_subset(&before) {
            self.announce_choice(now, key, &before);
        }
        self.announce_overcommitted(now, key, &overcommitted);
    }

    /// One event for all of them: a thousand adapters on as many engines would else be a million.
    fn announce_overcommitted(&mut self, now: Timestamp, key: &AdapterKey, engines: &BTreeSet<EngineId>) {
        // A restart of ours is no news: what was held then has been said.
        if self.objects.get(&key.object).is_some_and(Object::tries_again) {
            return;
        }
        let shown = self.objects.get(&key.object).filter(|object| object.is_untouched()).map(|object| &object.shown);
        let is_new = |id: &&EngineId| shown.is_none_or(|shown| !shown.instances.iter().any(|held| *held == *id.name));
        let engines: BTreeSet<EngineId> = engines.iter().filter(is_new).cloned().collect();
        let Some(first) = engines.first() else { return };
        let (verb, about) = if engines.len() == 1 { ("has", Some(first.clone())) } else { ("have", None) };
        let message = format!(
            "{} now {verb} more adapters than fit into one batch, as far as is known, so they take turns: \
             raise --max-loras and --max-cpu-loras there, say so to Longshore where the engine does not \
             (max-cpu-loras=N), or add engines",
            shortened(engines.iter())
        );
        self.event(now, key, true, "Overcommitted", message, about);
    }

    /// Until when the first choice of engines for an adapter waits for those that come up side by side with the first one
    /// that may be chosen. A Deployment's pods are Ready one after the other, and whatever had waited for them would all go to
    /// the one that is first by a moment. Once engines have been there for a while, nothing waits for a new one.
    fn others_are_coming(&self, now: Timestamp, key: &AdapterKey) -> Option<Timestamp> {
        let adapter = self.adapters.get(key)?;
        if adapter.spec.replicas == Replicas::All || !adapter.assigned.is_empty() || !adapter.surplus.is_empty() {
            return None;
        }
        if let Some(until) = self.unheard_until(now, key) {
            return Some(until);
        }
        let engines = adapter.matching.iter().filter_map(|id| self.engines.get(id));
        let (mut first, mut next) = (None, None);
        for engine in engines.filter(|engine| engine.is_usable()) {
            if engine.residents.contains_key(key.name.as_str()) {
                return None;
            }
            let stable = match engine.ready_since {
                Some(since) if !engine.seen.trusted => since + self.config.stable_after,
                _ => Timestamp::ZERO,
            };
            let earliest = if stable <= now { &mut first } else { &mut next };
            *earliest = Some(earliest.map_or(stable, |before: Timestamp| before.min(stable)));
        }
        let lately = first.is_some_and(|first| now < first + self.config.stable_after);
        next.filter(|_| lately)
    }

    /// Until when a first choice waits for engines that have been Ready for long and of which nothing has been heard yet, since
    /// they are looked after only now that something selects them. Whoever answers first would else get everything.
    fn unheard_until(&self, now: Timestamp, key: &AdapterKey) -> Option<Timestamp> {
        let engines = self.adapters.get(key)?.matching.iter().filter_map(|id| self.engines.get(id));
        let to_come = engines.filter(|engine| {
            let ready_for = engine.ready_since.map(|since| now.since(since));
            let stable = engine.seen.trusted || ready_for.is_some_and(|for_| for_ >= self.config.stable_after);
            engine.seen.ready && !engine.seen.terminating && !engine.heard && stable
        });
        to_come.filter_map(|engine| Some(engine.away_since? + HEARD_WITHIN)).filter(|until| *until > now).min()
    }

    fn announce_choice(&mut self, now: Timestamp, key: &AdapterKey, before: &BTreeSet<EngineId>) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let engines: Vec<EngineId> = adapter.assigned.iter().cloned().collect();
        let selected = format!("has selected {} pods for scheduling: [{}]", engines.len(), shortened(engines.iter()));
        // A restart of ours is no news.
        let scheduled = |object: &Object| {
            let shown = object.shown.conditions.iter().find(|condition| condition.type_ == "Scheduled");
            let same = || shown.is_some_and(|shown| shown.message.contains(&selected));
            object.tries_again() || (object.is_untouched() && same())
        };
        if self.objects.get(&key.object).is_some_and(scheduled) {
            return;
        }
        let message = format!("{} {selected}", key.object.kind);
        let gave_up = before.iter().any(|id| {
            adapter.replicas.get(id).is_some_and(|replica| matches!(replica.hold, Some(Hold::CoolingDown { .. })))
        });
        let line = if gave_up { "Switching to another pod" } else { "Selected pods for adapter scheduling" };
        self.effects.push(Effect::Log(LogLine { message: line, adapter: key.clone(), engines, error: None }));
        self.event(now, key, false, "Scheduled", message, None);
    }

    /// What the scheduler is told about an adapter.
    fn describe_adapter(&mut self, now: Timestamp, key: &AdapterKey) -> scheduler::Adapter {
        let mut wanted = scheduler::Adapter::new(adapter_id(key));
        let Some(adapter) = self.adapters.get(key) else { return wanted };
        let spec = &adapter.spec;
        wanted.base_model = spec.base_model.as_ref().map(ToString::to_string);
        wanted.replicas = match spec.replicas {
            Replicas::All => scheduler::Replicas::All,
            Replicas::Count(count) => scheduler::Replicas::Count(count),
        };
        wanted.rank = adapter.target.as_ref().and_then(|target| target.resolved.rank);
        wanted.memory = spec.memory;
        wanted.priority = spec.priority;
        wanted.preemption = match spec.preemption {
            Preemption::LowerPriority => scheduler::Preemption::LowerPriority,
            Preemption::Never => scheduler::Preemption::Never,
        };
        wanted.policy.clone_from(&spec.policy);
        wanted.engines = adapter.matching.iter().map(engine_id).collect();
        wanted.avoid = adapter.matching.iter().filter(|id| self.is_avoided(now, key, id)).map(engine_id).collect();
        wanted
    }

    /// Whether an engine is left alone by an adapter for now.
    fn is_avoided(&self, now: Timestamp, key: &AdapterKey, id: &EngineId) -> bool {
        let (Some(adapter), Some(engine)) = (self.adapters.get(key), self.engines.get(id)) else { return true };
        let replica = adapter.replicas.get(id);
        // Where connections are refused, the attempts tell when to leave.
        let is_tried = engine.refuses().is_some() && replica.is_some_and(|replica| replica.failures > 0);
        let away = engine.away_since.is_some_and(|since| now.since(since) >= self.config.not_ready_grace) && !is_tried;
        let held = match replica.and_then(|replica| replica.hold.as_ref()) {
            Some(Hold::CoolingDown { until, .. }) => *until > now,
            Some(Hold::Refused { until, .. }) => until.is_none_or(|until| until > now),
            Some(Hold::BackingOff { .. }) | None => false,
        };
        let resident = engine.residents.get(key.name.as_str());
        // One replica is changed over by way of a spare engine, where there is one.
        let outdated = adapter.spec.replicas == Replicas::Count(1)
            && resident.is_some_and(|root| adapter.root() != Some(root) && adapter.may_serve(id, root));
        let stalled = resident.is_none() && self.is_stalled(now, id);
        // A new choice falls on one that answers, where there is any.
        let refuses = engine.refuses().is_some() && !adapter.assigned.contains(id);
        let answered = || adapter.matching.iter().any(|id| self.engines.get(id).is_some_and(Engine::is_usable));
        away || held || (refuses && answered()) || outdated || stalled || self.blocked(key, id).is_some()
    }

    /// Why an engine cannot take the adapter for as long as it holds what it holds: the name stands for something else.
    pub(super) fn blocked(&self, key: &AdapterKey, id: &EngineId) -> Option<(&'static str, String)> {
        let (adapter, engine) = (self.adapters.get(key)?, self.engines.get(id)?);
        if engine.base_models.iter().any(|base| base.as_str() == key.name.as_str()) {
            let message = format!("it serves a base model named {}: choose another name for the adapter", key.name);
            return Some(("NameTaken", message));
        }
        let root = engine.residents.get(key.name.as_str())?;
        if self.is_ours(key, id, root) || adapter.spec.adopt || adapter.target.is_none() {
            return None;
        }
        let message = format!(
            "it already holds an adapter named {} from {root}, which Longshore did not load: unload it there, \
             or let Longshore replace it with the annotation {}: \"true\"",
            key.name,
            labels::ADOPT
        );
        Some(("ForeignAdapter", message))
    }

    /// Whether `root` is what an engine holds by our doing.
    pub(super) fn is_ours(&self, key: &AdapterKey, id: &EngineId, root: &Root) -> bool {
        let left_over = || {
            let engine = self.engines.get(id);
            engine.is_some_and(|engine| engine.leftovers.contains(&(key.name.clone(), root.clone())))
        };
        self.adapters.get(key).is_some_and(|adapter| adapter.is_ours(id, root)) || left_over()
    }

    /// What an engine holds already is a replica, before any new one is chosen: a restart loads nothing needlessly.
    fn take_over(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let found = self.holders_of(key).filter(|(id, engine, root)| {
            adapter.matching.contains(*id)
                && !adapter.assigned.contains(*id)
                && !adapter.surplus.contains(*id)
                && adapter.may_serve(id, root)
                && !engine.leaving.contains_key(&key.name)
        });
        let found: Vec<_> = found.map(|(id, _, _)| engine_id(id)).collect();
        for id in found {
            self.scheduler.assign(&adapter_id(key), &id);
        }
    }

    /// The adapter is wanted on no engine any more, or not for now.
    fn want_nowhere(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let id = adapter_id(key);
        for engine in std::mem::take(&mut adapter.assigned) {
            self.scheduler.release(&id, &engine_id(&engine));
            self.dirty_engines.insert(engine.clone());
            adapter.surplus.insert(engine);
        }
        // None is looked for: what there was when somebody last looked says nothing, and a restart of ours would not know it.
        adapter.candidates = 0;
        adapter.unplaced = None;
    }

    /// The adapter is to leave an engine on which nobody had placed it: it takes a slot until it has.
    pub(super) fn place_as_leaving(&mut self, key: &AdapterKey, id: &EngineId) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if !adapter.assigned.contains(id) && adapter.surplus.insert(id.clone()) {
            self.scheduler.assign(&adapter_id(key), &engine_id(id));
            self.scheduler.release(&adapter_id(key), &engine_id(id));
            self.place_changed(key, id);
        }
    }

    /// The adapter holds nothing on this engine any more: its slot is free.
    pub(super) fn free_slot(&mut self, key: &AdapterKey, id: &EngineId) {
        self.scheduler.unassign(&adapter_id(key), &engine_id(id));
        // A load that was given up there may yet take it: the engine is described anew before anybody gets the slot.
        self.place_changed(key, id);
        self.capacity_freed = true;
    }

    /// The scheduler forgets an adapter that is gone.
    pub(super) fn forget_placement(&mut self, key: &AdapterKey) {
        let id = adapter_id(key);
        self.ids.adapters.remove(&id);
        // What is still held there is counted as nobody's from now on.
        for engine in self.scheduler.remove_adapter(&id) {
            self.scheduler.unassign(&id, &engine);
        }
        self.capacity_freed = true;
    }
}

/// Engines opt out by carrying the label with any value but `true`.
fn opted_in(labels: &BTreeMap<String, String>) -> bool {
    labels.get(labels::ENABLED).is_none_or(|value| value == "true")
}

/// At most 16 names, so that a message stays readable with a thousand engines.
pub(super) fn shortened<'a>(names: impl ExactSizeIterator<Item = &'a EngineId>) -> String {
    const MOST: usize = 16;
    let all = names.len();
    let shown: Vec<String> = names.take(MOST).map(ToString::to_string).collect();
    let more = if all > MOST { format!(" and {} more", all - MOST) } else { String::new() };
    format!("{}{more}", shown.join(" "))
}
