//! Which engines answer for each base model.

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::fleet;
use longshore_reconciler::Endpoint;
use longshore_types::{Address, BaseModel, Boot, EngineId, EngineKind, Namespace};

/// A base model in a namespace.
pub(super) type BaseKey = (Namespace, BaseModel);

/// The engines of each base model, read off what the reconciler shows of each engine.
#[derive(Debug, Default)]
pub(super) struct Bases {
    sets: BTreeMap<BaseKey, BTreeMap<EngineId, Endpoint>>,
    of: BTreeMap<EngineId, BaseKey>,
    changed: BTreeSet<BaseKey>,
}

impl Bases {
    /// What the reconciler shows of `id` now.
    pub(super) fn shown(&mut self, id: &EngineId, shown: Option<(&fleet::Engine, EngineKind, Address)>) {
        let place = shown.filter(|(engine, ..)| engine.ready).and_then(|(engine, kind, address)| {
            let base = BaseModel::new(engine.base_model.as_deref()?).ok()?;
            let boot = Boot::new(engine.boot.as_deref()?);
            let base_model = Some(base.clone());
            Some((
                (id.namespace.clone(), base),
                Endpoint { engine: id.clone(), boot, kind, address, digest: None, base_model },
            ))
        });
        let before = self.of.get(id).cloned();
        if let Some(before) = before.filter(|before| place.as_ref().is_none_or(|(key, _)| key != before)) {
            self.of.remove(id);
            if let Some(set) = self.sets.get_mut(&before) {
                set.remove(id);
            }
            self.changed.insert(before);
        }
        if let Some((key, endpoint)) = place {
            let set = self.sets.entry(key.clone()).or_default();
            if set.get(id) != Some(&endpoint) {
                set.insert(id.clone(), endpoint);
                self.of.insert(id.clone(), key.clone());
                self.changed.insert(key);
            }
        }
    }

    /// The sets that have changed since this was asked last. An empty one is the last of its base model.
    pub(super) fn take_changed(&mut self) -> Vec<(BaseKey, Vec<Endpoint>)> {
        let changed = std::mem::take(&mut self.changed);
        let now = |key: BaseKey| {
            let set: Vec<_> = self.sets.get(&key).into_iter().flat_map(|set| set.values().cloned()).collect();
            if set.is_empty() {
                self.sets.remove(&key);
            }
            (key, set)
        };
        changed.into_iter().map(now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> EngineId {
        EngineId::new(Namespace::default_namespace(), name)
    }

    fn engine(base: Option<&str>, ready: bool) -> fleet::Engine {
        fleet::Engine { base_model: base.map(Into::into), boot: Some("1".into()), ready, ..fleet::Engine::default() }
    }

    fn tell(bases: &mut Bases, name: &str, engine: &fleet::Engine) -> Vec<(String, usize)> {
        bases.shown(&id(name), Some((engine, EngineKind::Vllm, Address::new("10.0.0.1", 8000))));
        changed(bases)
    }

    fn changed(bases: &mut Bases) -> Vec<(String, usize)> {
        bases.take_changed().into_iter().map(|((_, base), set)| (base.to_string(), set.len())).collect()
    }

    #[test]
    fn a_set_follows_the_engines_that_are_ready() {
        let mut bases = Bases::default();
        assert_eq!(tell(&mut bases, "a", &engine(None, true)), []);
        assert_eq!(tell(&mut bases, "a", &engine(Some("tiny"), false)), []);
        assert_eq!(tell(&mut bases, "a", &engine(Some("tiny"), true)), [("tiny".to_owned(), 1)]);
        assert_eq!(tell(&mut bases, "a", &engine(Some("tiny"), true)), [], "nothing is told twice");
        assert_eq!(tell(&mut bases, "b", &engine(Some("tiny"), true)), [("tiny".to_owned(), 2)]);
        assert_eq!(
            tell(&mut bases, "b", &engine(Some("other"), true)),
            [("other".to_owned(), 1), ("tiny".to_owned(), 1)]
        );
        assert_eq!(tell(&mut bases, "a", &engine(Some("tiny"), false)), [("tiny".to_owned(), 0)]);
        bases.shown(&id("b"), None);
        assert_eq!(changed(&mut bases), [("other".to_owned(), 0)]);
        assert!(bases.sets.is_empty() && bases.of.is_empty());
    }
}
