//! What the world looks like, to tests and to a person who looks at a failure.

use std::collections::BTreeSet;

use super::*;

impl World {
    /// I1: whatever routers believe, no engine that they would ask answers with other bytes than the route says.
    pub(super) fn check(&self) {
        for route in self.routes.values() {
            for endpoint in &route.endpoints {
                let Some(engine) = self.engines.get(&endpoint.engine).filter(|engine| engine.alive) else { continue };
                let held = engine.residents.get(route.adapter.name.as_str());
                let by = self.routed_by.get(&route.adapter).copied().unwrap_or(0);
                let promise = (by, route.adapter.clone(), route.sequence, engine.id.clone());
                let promised = self.promised.get(&promise);
                let kept =
                    held.is_none_or(|root| promised.is_none_or(|promised| promised == root) || *root == theirs());
                if !kept {
                    self.show(route.adapter.name.as_str());
                    panic!("I1: {} on {}: {held:?} instead of {promised:?}, {route:?}", route.adapter, engine.id);
                }
                // What somebody else loads behind our back is theirs to answer for.
                if let Some(root) = held.filter(|root| root.digest() != endpoint.digest && **root != theirs()) {
                    self.show(route.adapter.name.as_str());
                    panic!("I1: {} on {} in life {}: {root:?}, {route:?}", route.adapter, engine.id, engine.boot);
                }
            }
        }
    }

    /// Prints what happened around a name, for a person who looks at a failure.
    pub fn show(&self, name: &str) {
        let about: Vec<_> = self.trace.iter().filter(|(_, effect)| effect.contains(name)).collect();
        for (at, effect) in &about[about.len().saturating_sub(30)..] {
            println!("{at:>8} {}", effect.chars().take(420).collect::<String>());
        }
    }

    pub fn phases(&self, name: &str) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self.statuses.get(&object(name)).into_iter().flatten().map(|s| s.phase).collect();
        phases.dedup();
        phases
    }

    pub fn status(&self, name: &str) -> &ModelAdapterStatus {
        self.statuses.get(&object(name)).and_then(|s| s.last()).expect("a status was written")
    }

    pub fn condition(&self, name: &str, type_: &str) -> (String, String, String) {
        let conditions = &self.status(name).conditions;
        let found = conditions.iter().find(|condition| condition.type_ == type_);
        found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())).unwrap_or_default()
    }

    /// Where requests for the adapter go now, as engine names.
    pub fn routed(&self, name: &str) -> Vec<String> {
        let route = self.routes.get(&adapter(name));
        route.into_iter().flat_map(|route| &route.endpoints).map(|endpoint| endpoint.engine.to_string()).collect()
    }

    pub fn served(&self, name: &str) -> BTreeSet<Digest> {
        let route = self.routes.get(&adapter(name));
        route.into_iter().flat_map(|route| &route.endpoints).filter_map(|endpoint| endpoint.digest).collect()
    }

    pub fn holders(&self, name: &str) -> Vec<String> {
        let holds = |engine: &&FakeEngine| engine.alive && engine.residents.contains_key(name);
        self.engines.values().filter(holds).map(|engine| engine.id.to_string()).collect()
    }

    pub fn count(&self, effect: &str) -> usize {
        self.counts.get(effect).copied().unwrap_or(0)
    }

    pub fn event_reasons(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.reason).collect()
    }
}
