//! What the two followed lists say, and the table that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::fleet;
use longshore_routing::{Route, Table};
use longshore_types::Namespace;
use serde_json::Value;

use super::fleet::{Engines, bases, engine_key, known, route};
use super::sse::Event;

/// A list that a controller shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Adapters,
    Engines,
}

impl List {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Adapters => "adapters",
            Self::Engines => "engines",
        }
    }
}

/// One change of one list.
#[derive(Debug)]
pub(super) enum Change {
    Adapters(Listed<fleet::Adapter>),
    Engines(Listed<fleet::Engine>),
}

/// What happened to a list.
#[derive(Debug)]
pub(super) enum Listed<T> {
    /// This is all of it.
    All(Vec<T>),
    /// This is there now, new or changed.
    Put(Box<T>),
    /// This is there no more.
    Gone(fleet::Gone),
}

/// An event that cannot be understood: the list is asked for from its beginning.
#[derive(Debug, thiserror::Error)]
#[error("a `{event}` of the list of {list} cannot be understood")]
pub(super) struct NotUnderstood {
    list: &'static str,
    event: String,
    source: serde_json::Error,
}

impl Change {
    /// What `event` of `list` says; nothing where it is of a kind that came later than this version.
    pub(super) fn read(list: List, event: &Event) -> Result<Option<Self>, NotUnderstood> {
        let read = match list {
            List::Adapters => listed(event, "adapters").map(|listed| listed.map(Self::Adapters)),
            List::Engines => listed(event, "engines").map(|listed| listed.map(Self::Engines)),
        };
        read.map_err(|source| NotUnderstood { list: list.as_str(), event: event.name.clone(), source })
    }
}

/// Reads an event of a list that is under `key` in its snapshot. One object that cannot be understood is left out, and
/// taken as gone where it was known before: one bad thing stays one bad thing (I11), and old routes are not kept for it.
fn listed<T: serde::de::DeserializeOwned>(event: &Event, key: &str) -> Result<Option<Listed<T>>, serde_json::Error> {
    Ok(Some(match event.name.as_str() {
        "snapshot" => {
            let mut list: BTreeMap<String, Value> = serde_json::from_str(&event.data)?;
            let objects: Vec<Value> = serde_json::from_value(list.remove(key).unwrap_or_default())?;
            let understood = objects.into_iter().filter_map(|object| match serde_json::from_value(object) {
                Ok(object) => Some(object),
                Err(error) => {
                    tracing::warn!(
                        list = key,
                        error = &error as &dyn std::error::Error,
                        "Left out what cannot be understood"
                    );
                    None
                }
            });
            Listed::All(understood.collect())
        }
        "upsert" => match serde_json::from_str(&event.data) {
            Ok(object) => Listed::Put(Box::new(object)),
            Err(error) => {
                tracing::warn!(
                    list = key,
                    error = &error as &dyn std::error::Error,
                    "Left out what cannot be understood"
                );
                Listed::Gone(named(&event.data)?)
            }
        },
        "delete" => Listed::Gone(serde_json::from_str(&event.data)?),
        _ => return Ok(None),
    }))
}

/// The namespace and name of an adapter or engine of which no more can be understood.
fn named(data: &str) -> Result<fleet::Gone, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(default)]
        namespace: String,
        #[serde(alias = "engine")]
        name: String,
    }
    let Named { namespace, name } = serde_json::from_str(data)?;
    Ok(fleet::Gone { namespace, name })
}

/// Both lists as they are known.
#[derive(Debug)]
pub(super) struct State {
    /// Only these namespaces, unless empty.
    namespaces: BTreeSet<Namespace>,
    adapters: Option<BTreeMap<(String, String), fleet::Adapter>>,
    engines: Option<Engines>,
    /// Made from `adapters` and `engines`; an adapter's own is made anew when it changes, all when an engine does.
    routes: BTreeMap<(String, String), Arc<Route>>,
}

impl State {
    pub(super) fn new(namespaces: BTreeSet<Namespace>) -> Self {
        Self { namespaces, adapters: None, engines: None, routes: BTreeMap::new() }
    }

    /// Takes a change.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Adapters(Listed::All(all)) => {
                let kept = all.into_iter().filter(|adapter| self.serves(&adapter.namespace));
                self.adapters = Some(kept.map(|adapter| (adapter_key(&adapter), adapter)).collect());
                self.make_routes();
            }
            Change::Adapters(Listed::Put(adapter)) => {
                let key = adapter_key(&adapter);
                if self.serves(&adapter.namespace)
                    && let Some(adapters) = &mut self.adapters
                {
                    adapters.insert(key.clone(), *adapter);
                    self.make_route(&key);
                }
            }
            Change::Adapters(Listed::Gone(gone)) => {
                let key = (gone.namespace, gone.name);
                self.routes.remove(&key);
                if let Some(adapters) = &mut self.adapters {
                    adapters.remove(&key);
                }
            }
            Change::Engines(Listed::All(all)) => {
                let kept = all.iter().filter(|engine| self.serves(&engine.namespace));
                let kept = kept.filter_map(|engine| Some((engine_key(engine), Arc::new(known(engine).ok()?))));
                self.engines = Some(kept.collect());
                self.make_routes();
            }
            Change::Engines(Listed::Put(engine)) => {
                if self.serves(&engine.namespace)
                    && let Some(engines) = &mut self.engines
                {
                    let key = engine_key(&engine);
                    let now = known(&engine).ok().map(Arc::new);
                    let before = match &now {
                        Some(now) => engines.insert(key, now.clone()),
                        None => engines.remove(&key),
                    };
                    // Most changes are of load and residents, which do not matter here.
                    if before != now {
                        self.make_routes();
                    }
                }
            }
            Change::Engines(Listed::Gone(gone)) => {
                if let Some(engines) = &mut self.engines {
                    engines.remove(&(gone.namespace, gone.name));
                    self.make_routes();
                }
            }
        }
    }

    /// The table; none before both lists have been heard once.
    pub(super) fn table(&self) -> Option<Table> {
        self.adapters.as_ref()?;
        Some(Table::new(self.routes.values().cloned(), bases(self.engines.as_ref()?)))
    }

    fn serves(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    fn make_routes(&mut self) {
        let keys: Vec<_> = self.adapters.iter().flat_map(BTreeMap::keys).cloned().collect();
        self.routes.clear();
        for key in keys {
            self.make_route(&key);
        }
    }

    fn make_route(&mut self, key: &(String, String)) {
        let (Some(adapters), Some(engines)) = (&self.adapters, &self.engines) else { return };
        match adapters.get(key).map(|adapter| route(adapter, engines)) {
            Some(Ok(route)) => drop(self.routes.insert(key.clone(), Arc::new(route))),
            Some(Err(error)) => {
                tracing::warn!(%error, "Left out an adapter");
                self.routes.remove(key);
            }
            None => drop(self.routes.remove(key)),
        }
    }
}

fn adapter_key(adapter: &fleet::Adapter) -> (String, String) {
    (adapter.namespace.clone(), adapter.name.clone())
}

#[cfg(test)]
mod tests;
