//! What deletions could not undo in time (I4): remembered for one life of an engine, and settled when it answers or ends.

use std::collections::BTreeSet;

use longshore_types::{AdapterKey, EngineId, Root};

use super::Reconciler;
use crate::{Effect, Unfinished};

impl Reconciler {
    /// An earlier process has left these undone.
    pub(super) fn unfinished_noted(&mut self, noted: Vec<Unfinished>) {
        for entry in noted {
            self.remember(entry);
        }
    }

    fn remember(&mut self, entry: Unfinished) {
        self.dirty_engines.insert(entry.engine.clone());
        self.unfinished.entry(entry.engine.clone()).or_default().insert(entry);
    }

    /// Notes what engines may still hold of an adapter that is about to be forgotten.
    pub(super) fn note_unfinished(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let unknown = |id: &&EngineId| adapter.restored && self.engines.get(*id).is_some_and(|engine| !engine.known);
        let mut around = self.around(key);
        around.extend(self.engines_of(key.namespace()).filter(unknown));
        let entries: Vec<Unfinished> = around.into_iter().flat_map(|id| self.left_on(key, id)).collect();
        if let Some(object) = self.objects.get_mut(&key.object) {
            object.unfinished.extend(entries.iter().cloned());
        }
        for entry in entries {
            self.remember(entry);
        }
    }

    /// What one engine may still hold of an adapter: what is known of it, or all that it may have been given where it has
    /// not been heard in this life.
    fn left_on(&self, key: &AdapterKey, id: &EngineId) -> Vec<Unfinished> {
        let (Some(adapter), Some(engine)) = (self.adapters.get(key), self.engines.get(id)) else { return Vec::new() };
        // Without a life to name there is nothing to tell the next one from.
        let Some(boot) = engine.life().cloned() else { return Vec::new() };
        let (given, is_owner) = (adapter.roots(), self.has_its_name(key));
        let mut roots: BTreeSet<Root> = BTreeSet::new();
        let resident = engine.residents.get(key.name.as_str());
        roots
            .extend(resident.filter(|root| given.contains(root) || (is_owner && self.is_ours(key, id, root))).cloned());
        let leaving = engine.leaving.get(&key.name).filter(|leaving| leaving.owner.as_ref() == Some(key));
        roots.extend(leaving.map(|leaving| leaving.root.clone()));
        roots.extend(engine.loading.iter().filter(|op| op.adapter == *key).map(|op| op.root.clone()));
        let suspected = engine.suspected.iter().filter(|(name, root)| *name == key.name && given.contains(root));
        roots.extend(suspected.map(|(_, root)| root.clone()));
        if !engine.known {
            roots.extend(given.into_iter().filter(|root| adapter.is_ours(id, root)));
        }
        let entry = |root| Unfinished { engine: id.clone(), boot: boot.clone(), name: key.name.clone(), root };
        roots.into_iter().map(entry).collect()
    }

    /// Settles what is noted about an engine, as far as it is known by now; what is left counts as ours there.
    pub(super) fn step_unfinished(&mut self, id: &EngineId) {
        let Some(entries) = self.unfinished.get(id) else { return };
        let (settled, open): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|entry| self.is_settled(entry));
        if let Some(engine) = self.engines.get_mut(id) {
            let here = open.iter().filter(|entry| engine.boot.as_ref() == Some(&entry.boot));
            for entry in here.cloned().collect::<Vec<_>>() {
                let name = entry.name.clone();
                if engine.leftovers.insert((entry.name, entry.root)) {
                    engine.changed(name.as_str());
                }
            }
        }
        if open.is_empty() {
            self.unfinished.remove(id);
        } else if let Some(entries) = self.unfinished.get_mut(id) {
            *entries = open.into_iter().collect();
        }
        self.effects.extend(settled.into_iter().map(Effect::Finished));
    }

    /// Whether an entry is of no use any more: the engine does not hold that, or an object holds it rightly.
    fn is_settled(&self, entry: &Unfinished) -> bool {
        let Some(engine) = self.engines.get(&entry.engine) else { return self.synced };
        if engine.life().is_some_and(|boot| *boot != entry.boot) {
            return true;
        }
        let owner = self.owner_of(&entry.engine.namespace, &entry.name).and_then(|key| self.adapters.get(key));
        let taken_over = owner.is_some_and(|owner| !owner.deleting && owner.root() == Some(&entry.root));
        taken_over || (engine.known && !engine.may_hold(&entry.name, &entry.root))
    }

    /// Of what was left undone for an object, what is so still.
    pub(super) fn still_unfinished(&self, noted: Vec<Unfinished>) -> Vec<Unfinished> {
        let open = |entry: &Unfinished| self.unfinished.get(&entry.engine).is_some_and(|open| open.contains(entry));
        noted.into_iter().filter(open).collect()
    }
}
