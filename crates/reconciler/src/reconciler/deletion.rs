//! An object that is being deleted: what it still waits for, and what status says when that takes long.

use std::collections::BTreeSet;

use longshore_api::status::ModelAdapterStatus;
use longshore_types::{AdapterKey, EngineId, ObjectKey, Timestamp};

use super::conditions::set;
use super::{Reconciler, Wake};
use crate::engine::{Engine, Step};

/// Engines that a message names; the others are counted.
const NAMED: usize = 3;

/// What an adapter that is wanted no more waits for on one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// What it holds is not known before it has been asked.
    Listing,
    /// Routers may still send requests there.
    Routers,
    /// Requests are still running there.
    Requests,
    /// It holds the adapter, or may yet.
    Unload,
}

impl Reconciler {
    /// What has to happen before an adapter that is wanted no more can be forgotten, by engine.
    pub(super) fn awaited(&self, key: &AdapterKey) -> impl Iterator<Item = (&EngineId, Awaited)> {
        self.around(key).into_iter().filter_map(|id| Some((id, self.awaited_on(key, id)?)))
    }

    /// Engines that an adapter has to do with: selected, on their way out, or such that take a slot for its name.
    pub(super) fn around(&self, key: &AdapterKey) -> BTreeSet<&EngineId> {
        let adapter = self.adapters.get(key);
        let selected = adapter.into_iter().flat_map(|adapter| adapter.matching.union(&adapter.surplus));
        let takes_slot = |id: &&EngineId| self.engines.get(*id).is_some_and(|e| e.takes_slot(key.name.as_str()));
        selected.chain(self.engines_of(key.namespace()).filter(takes_slot)).collect()
    }

    fn awaited_on(&self, key: &AdapterKey, id: &EngineId) -> Option<Awaited> {
        let engine = self.engines.get(id)?;
        if let Some(leaving) = engine.leaving.get(&key.name).filter(|leaving| leaving.owner.as_ref() == Some(key)) {
            return Some(match leaving.step {
                Step::Withdrawing(_) => Awaited::Routers,
                Step::Draining { .. } => Awaited::Requests,
                Step::Unload { .. } | Step::Unloading => Awaited::Unload,
            });
        }
        let ours = engine.residents.get(key.name.as_str()).is_some_and(|root| self.is_ours(key, id, root));
        if engine.is_loading(key) || (ours && self.has_its_name(key)) {
            Some(Awaited::Unload)
        } else if engine.seen.ready && !engine.heard {
            Some(Awaited::Listing)
        } else {
            None
        }
    }

    /// Says in the status of an object what its deletion waits for, once that has taken a while. A quick one is over
    /// before anybody could read it.
    pub(super) fn show_deletion(&mut self, now: Timestamp, key: &ObjectKey, since: Timestamp) {
        let due = since + self.config.deleting_shown_after;
        if now < due {
            self.timers.wake(Wake::Object(key.clone()), due);
            return;
        }
        let Some(object) = self.objects.get(key) else { return };
        let awaited = object.adapters.iter().flat_map(|key| self.awaited(key).map(move |(id, what)| (key, id, what)));
        let awaited: Vec<_> = awaited.collect();
        if awaited.is_empty() {
            return;
        }
        let engines = awaited.len();
        let named = awaited.iter().take(NAMED).filter_map(|(key, id, what)| {
            let engine = self.engines.get(*id)?;
            Some(format!("{id}: {}", why(engine, key, *what)))
        });
        let mut named: Vec<String> = named.collect();
        if engines > NAMED {
            named.push(format!("and {} more", engines - NAMED));
        }
        let plural = if engines == 1 { "" } else { "s" };
        let message = format!("waiting for {engines} engine{plural} to unload: {}", named.join("; "));
        let mut instances: Vec<String> = awaited.iter().map(|(_, id, _)| id.to_string()).collect();
        instances.dedup();
        let mut status = ModelAdapterStatus {
            ready_replicas: 0,
            instances,
            observed_generation: Some(object.generation),
            engines: Vec::new(),
            ..object.shown.clone()
        };
        // What else was said of it is history.
        status.conditions.retain(|condition| condition.type_ == "Initialized");
        set(&mut status, "Ready", "False", "Deleting", message);
        self.write(now, key, status, false, false);
    }
}

/// Why an engine has not let go yet, for a person.
fn why(engine: &Engine, key: &AdapterKey, what: Awaited) -> String {
    let fault = engine.leaving.get(&key.name).and_then(|leaving| leaving.fault.as_ref());
    if let Some(fault) = fault {
        return fault.message.clone();
    }
    if let Some((_, message)) = engine.reason().filter(|_| !engine.answers()) {
        return message;
    }
    match what {
        Awaited::Listing => "it has not said yet what it holds",
        Awaited::Routers => "routers have not been told yet",
        Awaited::Requests => "requests are still running",
        Awaited::Unload if engine.is_loading(key) => "a load is under way",
        Awaited::Unload => "it is being unloaded",
    }
    .to_owned()
}
