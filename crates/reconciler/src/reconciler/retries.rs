//! Where an object's loads fail now, for those who look at the object.

use std::collections::BTreeMap;

use longshore_types::{EngineId, ObjectKey};

use super::Reconciler;
use crate::{Effect, Retry};

impl Reconciler {
    /// Says on which engines loads fail now, where that has changed.
    pub(super) fn step_retries(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.get(key) else { return };
        let mut failing: BTreeMap<&EngineId, Retry> = BTreeMap::new();
        for adapter in object.adapters.iter().filter_map(|key| self.adapters.get(key)) {
            for (id, replica) in &adapter.replicas {
                // Between two attempts nothing is held back, and it fails all the same.
                let concerned = replica.hold.is_some() || adapter.assigned.contains(id);
                if replica.failures == 0 || adapter.deleting || !concerned {
                    continue;
                }
                let entry = failing.entry(id).or_insert(Retry { engine: id.clone(), count: 0, last: replica.last });
                entry.count = entry.count.max(replica.failures);
                entry.last = entry.last.max(replica.last);
            }
        }
        if object.retries.iter().flatten().eq(failing.values()) && object.retries.is_some() {
            return;
        }
        let entries: Vec<Retry> = failing.into_values().collect();
        if let Some(object) = self.objects.get_mut(key) {
            object.retries = Some(entries.clone());
        }
        self.effects.push(Effect::Retries { object: key.clone(), entries });
    }
}
