//! What the slices say, what the controller adds, and the table that follows from both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::fleet;
use longshore_routing::{BaseRoute, Endpoint, Route, RouteState, Table};
use longshore_types::{AdapterName, BaseModel, Boot, EngineId, Namespace};

use super::declared::Declared;
use super::read::{Slice, SliceKey, Whose};
use super::watch::Seen;
use crate::source::follower::Followed;
use crate::source::state::{Change, Listed};

/// Where slices are watched: in one namespace, or in all.
pub(super) type Scope = Option<Namespace>;

type AdapterKey = (Namespace, AdapterName);
type BaseKey = (Namespace, BaseModel);

/// Everything that is known.
///
/// Routes come from slices alone. Each change makes anew only what it concerns, in a table that is copied when it is
/// published: the copy shares every route.
#[derive(Debug)]
pub(super) struct State {
    /// Only these namespaces, unless empty.
    namespaces: BTreeSet<Namespace>,
    /// What has not been listed yet.
    unlisted: BTreeSet<Scope>,
    slices: BTreeMap<SliceKey, Slice>,
    adapters: BTreeMap<AdapterKey, Adapter>,
    bases: BTreeMap<BaseKey, BTreeSet<SliceKey>>,
    /// Whether the controller is being followed.
    heard: bool,
    /// Told of the last endpoint that came.
    arrivals: u64,
    left_out: u64,
    table: Table,
    changed: bool,
}

/// One adapter.
#[derive(Debug, Default)]
struct Adapter {
    slices: BTreeSet<SliceKey>,
    declared: Option<Declared>,
    /// The engines in its slices, and which arrival that was. One that goes and comes back has arrived anew, which ends the
    /// distrust of an engine that answered that it lacks the adapter.
    arrived: BTreeMap<(EngineId, Boot), u64>,
}

impl State {
    /// Nothing is known yet; only these namespaces are served, unless there are none.
    pub(super) fn new(namespaces: BTreeSet<Namespace>) -> Self {
        Self {
            unlisted: scopes(&namespaces).collect(),
            namespaces,
            slices: BTreeMap::new(),
            adapters: BTreeMap::new(),
            bases: BTreeMap::new(),
            heard: false,
            arrivals: 0,
            left_out: 0,
            table: Table::new(Vec::<Route>::new(), []),
            changed: true,
        }
    }

    /// Takes what was seen of the slices in `scope`.
    pub(super) fn slices(&mut self, scope: &Scope, seen: Seen<Slice>) {
        let mut touched = BTreeSet::new();
        match seen {
            Seen::All(all) => {
                let all: BTreeMap<SliceKey, Slice> = all.into_iter().collect();
                let within =
                    |key: &&SliceKey| scope.as_ref().is_none_or(|namespace| *key.namespace == *namespace.as_str());
                let gone = self.slices.keys().filter(within).filter(|key| !all.contains_key(*key));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.put(key, None, &mut touched);
                }
                for (key, slice) in all {
                    self.put(key, Some(slice), &mut touched);
                }
                // The first table is worth publishing however little is in it.
                self.changed |= self.unlisted.remove(scope);
            }
            Seen::Put(key, slice) => self.put(key, Some(slice), &mut touched),
            Seen::Gone(key) => self.put(key, None, &mut touched),
        }
        for whose in touched {
            self.refresh(&whose);
        }
    }

    /// Takes what comes of following the controller's list of adapters.
    pub(super) fn followed(&mut self, followed: Followed) {
        match followed {
            Followed::Changed(Change::Adapters(Listed::All(all))) => {
                let mut unheard: BTreeSet<AdapterKey> =
                    self.adapters.iter().filter(|(_, of)| of.declared.is_some()).map(|(key, _)| key.clone()).collect();
                for adapter in &all {
                    if let Some(key) = self.declare(adapter) {
                        unheard.remove(&key);
                    }
                }
                for key in unheard {
                    self.withdraw(&key);
                }
            }
            Followed::Changed(Change::Adapters(Listed::Put(adapter))) => drop(self.declare(&adapter)),
            Followed::Changed(Change::Adapters(Listed::Gone(gone))) => {
                if let (Ok(namespace), Ok(name)) = (gone.namespace.parse(), gone.name.parse()) {
                    self.withdraw(&(namespace, name));
                }
            }
            // Not followed: what the slices say of engines is all that is needed.
            Followed::Changed(Change::Engines(_)) => {}
            Followed::Connected => self.hear(true),
            Followed::Lost => self.hear(false),
        }
    }

    /// Whether all slices have been listed once: from then on what is not in the table is not there.
    pub(super) fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// How much could not be understood.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The table, where it has changed since this was last asked; none before all slices have been listed.
    pub(super) fn changed_table(&mut self) -> Option<Table> {
        (self.is_listed() && std::mem::take(&mut self.changed)).then(|| self.table.clone())
    }

    /// Puts a slice in the place of what was known of it, and notes whom that touches.
    fn put(&mut self, key: SliceKey, slice: Option<Slice>, touched: &mut BTreeSet<Whose>) {
        let before = self.slices.get(&key);
        if before == slice.as_ref() {
            return;
        }
        if let Some(before) = before {
            self.left_out -= before.left_out;
            if let Some(whose) = before.whose.clone() {
                self.slices_of(&whose).remove(&key);
                touched.insert(whose);
            }
        }
        let Some(slice) = slice else {
            self.slices.remove(&key);
            return;
        };
        self.left_out += slice.left_out;
        if let Some(whose) = slice.whose.clone() {
            self.slices_of(&whose).insert(key.clone());
            touched.insert(whose);
        }
        self.slices.insert(key, slice);
    }

    fn slices_of(&mut self, whose: &Whose) -> &mut BTreeSet<SliceKey> {
        match whose {
            Whose::Adapter(namespace, name) => {
                &mut self.adapters.entry((namespace.clone(), name.clone())).or_default().slices
            }
            Whose::Base(namespace, name) => self.bases.entry((namespace.clone(), name.clone())).or_default(),
        }
    }

    fn declare(&mut self, adapter: &fleet::Adapter) -> Option<AdapterKey> {
        let (namespace, name) = (adapter.namespace.parse::<Namespace>(), adapter.name.parse::<AdapterName>());
        let (Ok(namespace), Ok(name)) = (namespace, name) else {
            tracing::warn!(namespace = ?adapter.namespace, name = ?adapter.name, "Left out an adapter of no valid name");
            return None;
        };
        if !self.namespaces.is_empty() && !self.namespaces.contains(&namespace) {
            return None;
        }
        let key = (namespace, name);
        let of = self.adapters.entry(key.clone()).or_default();
        let declared = Declared::read(adapter, of.declared.as_ref());
        if of.declared.as_ref() != Some(&declared) {
            of.declared = Some(declared);
            self.refresh_adapter(&key);
        }
        Some(key)
    }

    fn withdraw(&mut self, key: &AdapterKey) {
        if self.adapters.get_mut(key).is_some_and(|of| of.declared.take().is_some()) {
            self.refresh_adapter(key);
        }
    }

    fn hear(&mut self, heard: bool) {
        if std::mem::replace(&mut self.heard, heard) == heard {
            return;
        }
        let depends = |of: &Adapter| of.declared.as_ref().is_some_and(Declared::depends_on_hearing);
        let keys: Vec<_> = self
            .adapters
            .iter()
            .filter(|(_, of)| depends(of) && of.arrived.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.refresh_adapter(&key);
        }
    }

    fn refresh(&mut self, whose: &Whose) {
        match whose {
            Whose::Adapter(namespace, name) => self.refresh_adapter(&(namespace.clone(), name.clone())),
            Whose::Base(namespace, name) => self.refresh_base(&(namespace.clone(), name.clone())),
        }
    }

    /// Makes the route of one adapter anew.
    fn refresh_adapter(&mut self, key: &AdapterKey) {
        let Some(of) = self.adapters.get_mut(key) else { return };
        let (namespace, name) = key;
        if of.slices.is_empty() && of.declared.is_none() {
            self.adapters.remove(key);
            self.changed |= self.table.remove(namespace, name);
            return;
        }
        let mut endpoints = joined(of.slices.iter().filter_map(|key| self.slices.get(key)));
        of.arrived.retain(|engine, _| endpoints.contains_key(engine));
        let declared = of.declared.as_ref();
        for (engine, endpoint) in &mut endpoints {
            let arrival = of.arrived.entry(engine.clone()).or_insert_with(|| {
                self.arrivals += 1;
                self.arrivals
            });
            let confirmed = declared.map_or("", |declared| declared.confirmed(&engine.0.name));
            endpoint.confirmation = Arc::from(format!("{arrival}/{confirmed}"));
        }
        let base_model = endpoints.values().find_map(|endpoint| endpoint.base_model.clone());
        let state = match declared {
            Some(declared) if endpoints.is_empty() => declared.state(self.heard),
            _ => RouteState::Ready(endpoints.into_values().collect()),
        };
        self.changed |= self.table.put(Route {
            namespace: namespace.clone(),
            name: name.clone(),
            artifact_url: declared.map_or_else(|| Arc::from(""), |declared| declared.artifact_url.clone()),
            base_model: base_model.or_else(|| declared?.base_model.clone()),
            state,
        });
    }

    /// Makes one base model's route anew. While it has a slice, its name is its own, however few of its engines are ready.
    fn refresh_base(&mut self, key: &BaseKey) {
        let Some(slices) = self.bases.get(key) else { return };
        let (namespace, name) = key;
        if slices.is_empty() {
            self.bases.remove(key);
            self.changed |= self.table.remove_base(namespace, name);
            return;
        }
        let endpoints = joined(slices.iter().filter_map(|key| self.slices.get(key))).into_values().collect();
        let base = BaseRoute { namespace: namespace.clone(), name: name.clone(), endpoints };
        self.changed |= self.table.put_base(base);
    }
}

/// What is watched in order to serve these namespaces, or all where there are none.
pub(super) fn scopes(namespaces: &BTreeSet<Namespace>) -> impl Iterator<Item = Scope> {
    let all = namespaces.is_empty().then_some(None);
    all.into_iter().chain(namespaces.iter().cloned().map(Some))
}

/// The engines of several slices of one adapter or base model, each once.
///
/// One that has an address of either family is asked by IPv4. One that two slices say different bytes of has one of the
/// two, so nothing is claimed of which.
fn joined<'a>(slices: impl Iterator<Item = &'a Slice>) -> BTreeMap<(EngineId, Boot), Endpoint> {
    let mut joined: BTreeMap<(EngineId, Boot), Endpoint> = BTreeMap::new();
    for endpoint in slices.flat_map(|slice| &slice.endpoints) {
        match joined.entry((endpoint.engine.clone(), endpoint.boot.clone())) {
            std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(endpoint.clone())),
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let kept = slot.get_mut();
                if kept.digest != endpoint.digest {
                    kept.digest = None;
                }
                if kept.address.host.contains(':') && !endpoint.address.host.contains(':') {
                    kept.address = endpoint.address.clone();
                }
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests;
