//! The routing table: an immutable snapshot of what each name means.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AdapterName, BaseModel, Namespace};

use crate::{BaseRoute, Endpoint, NotReady, Route, RouteState};

/// What every name means at one moment. Once published it is never changed: a new one, or a changed copy, takes its place
/// whole. A copy shares every route, so a change costs the copy of the names and not of what they lead to.
///
/// A name is looked for in this order, and the first that matches decides:
/// 1. a base model, by its bare name. So an adapter never answers for a base model's name (I1), in whichever namespace
///    it is declared and however few engines of that base are ready;
/// 2. an adapter, by its bare name;
/// 3. `<namespace>/<name>`, up to the first slash: a base model of that namespace, then an adapter of it.
///
/// A bare name that several namespaces have is [`Resolution::Ambiguous`], even when only one of them is ready:
/// otherwise an engine's restart in one namespace would hand its requests to another.
///
/// The default is the table of somebody who has heard nothing yet: there every name is [`Resolution::NotKnownYet`], which
/// is not the same as [`Resolution::Unknown`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    known: bool,
    adapters: BTreeMap<AdapterName, BTreeMap<Namespace, Arc<Route>>>,
    bases: BTreeMap<BaseModel, BTreeMap<Namespace, Arc<BaseRoute>>>,
}

/// What one name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// An adapter that engines have.
    Adapter {
        /// Which adapter.
        route: &'a Arc<Route>,
        /// The engines that have it; at least one.
        endpoints: &'a [Endpoint],
    },
    /// A base model; its engines may all be away.
    Base(&'a Arc<BaseRoute>),
    /// A declared adapter that no engine has.
    NotReady {
        /// Which adapter.
        route: &'a Arc<Route>,
        /// Why.
        why: &'a NotReady,
    },
    /// An adapter whose only holder is being changed over: worth a short wait.
    Swapping(&'a Arc<Route>),
    /// Nothing is known by that name.
    Unknown,
    /// Nothing is known at all yet.
    NotKnownYet,
    /// Several namespaces have the name.
    Ambiguous(Vec<&'a Namespace>),
}

/// One entry of the list of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model<'a> {
    /// What to put in `model`: the bare name where it means this one, else `<namespace>/<name>`.
    pub id: Cow<'a, str>,
    /// Where an adapter comes from, where known; a base model has none.
    pub root: Option<&'a str>,
    /// The base model of an adapter, where known.
    pub parent: Option<&'a str>,
}

impl Table {
    /// The table of these adapters and base models.
    ///
    /// An adapter that is ready with no endpoints becomes not ready. Where two routes claim one name in one namespace,
    /// a ready one goes before one that is not, and the earlier before the later: the two may be different bytes, so
    /// they are never mixed. Endpoints of one base model in one namespace are joined.
    pub fn new(
        adapters: impl IntoIterator<Item = impl Into<Arc<Route>>>,
        bases: impl IntoIterator<Item = BaseRoute>,
    ) -> Self {
        let mut table = Self { known: true, ..Self::default() };
        for route in adapters {
            let route = with_endpoints_or_not_ready(route.into());
            let by_namespace = table.adapters.entry(route.name.clone()).or_default();
            match by_namespace.get(&route.namespace) {
                Some(kept) if rank(kept) <= rank(&route) => {}
                _ => {
                    by_namespace.insert(route.namespace.clone(), route);
                }
            }
        }
        let mut joined: BTreeMap<(BaseModel, Namespace), BaseRoute> = BTreeMap::new();
        for base in bases {
            match joined.entry((base.name.clone(), base.namespace.clone())) {
                std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(base)),
                std::collections::btree_map::Entry::Occupied(mut slot) => {
                    slot.get_mut().endpoints.extend(base.endpoints)
                }
            }
        }
        for ((name, namespace), base) in joined {
            table.bases.entry(name).or_default().insert(namespace, Arc::new(base));
        }
        table
    }

    /// Puts `route` in the place of the one that its namespace has by its name. Says whether that changed anything.
    ///
    /// As in [`Self::new`], one that is ready with no endpoints becomes not ready.
    pub fn put(&mut self, route: impl Into<Arc<Route>>) -> bool {
        let route = with_endpoints_or_not_ready(route.into());
        let by_namespace = self.adapters.entry(route.name.clone()).or_default();
        if by_namespace.get(&route.namespace) == Some(&route) {
            return false;
        }
        by_namespace.insert(route.namespace.clone(), route);
        true
    }

    /// Takes out the adapter `name` of `namespace`. Says whether there was one.
    pub fn remove(&mut self, namespace: &Namespace, name: &AdapterName) -> bool {
        take_out(&mut self.adapters, name, namespace)
    }

    /// Puts `base` in the place of the base model that its namespace has by its name. Says whether that changed anything.
    pub fn put_base(&mut self, base: impl Into<Arc<BaseRoute>>) -> bool {
        let base = base.into();
        let by_namespace = self.bases.entry(base.name.clone()).or_default();
        if by_namespace.get(&base.namespace) == Some(&base) {
            return false;
        }
        by_namespace.insert(base.namespace.clone(), base);
        true
    }

    /// Takes out the base model `name` of `namespace`. Says whether there was one.
    pub fn remove_base(&mut self, namespace: &Namespace, name: &BaseModel) -> bool {
        take_out(&mut self.bases, name, namespace)
    }

    /// Whether anything has been heard yet.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// What `model` means.
    pub fn resolve(&self, model: &str) -> Resolution<'_> {
        if !self.known {
            return Resolution::NotKnownYet;
        }
        if let Some(by_namespace) = self.bases.get(model) {
            return match only(by_namespace) {
                Ok(base) => Resolution::Base(base),
                Err(namespaces) => Resolution::Ambiguous(namespaces),
            };
        }
        if let Some(by_namespace) = self.adapters.get(model) {
            return match only(by_namespace) {
                Ok(route) => adapter(route),
                Err(namespaces) => Resolution::Ambiguous(namespaces),
            };
        }
        let Some((namespace, name)) = model.split_once('/') else { return Resolution::Unknown };
        if let Some(base) = self.bases.get(name).and_then(|by_namespace| by_namespace.get(namespace)) {
            return Resolution::Base(base);
        }
        match self.adapters.get(name).and_then(|by_namespace| by_namespace.get(namespace)) {
            Some(route) => adapter(route),
            None => Resolution::Unknown,
        }
    }

    /// The adapter `name` of `namespace`, whatever names it can be reached by.
    pub fn adapter(&self, namespace: &str, name: &str) -> Option<&Arc<Route>> {
        self.adapters.get(name)?.get(namespace)
    }

    /// Every declared adapter, by name and then namespace.
    pub fn adapters(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.adapters.values().flat_map(BTreeMap::values)
    }

    /// Every base model, by name and then namespace.
    pub fn bases(&self) -> impl Iterator<Item = &Arc<BaseRoute>> {
        self.bases.values().flat_map(BTreeMap::values)
    }

    /// What can be asked for now: base models and adapters that an engine has, each by a name that means it.
    pub fn models(&self) -> impl Iterator<Item = Model<'_>> {
        let bases = self.bases().filter_map(|base| {
            let id = self.id_of(
                base.name.as_str(),
                &base.namespace,
                |r| matches!(r, Resolution::Base(b) if Arc::ptr_eq(b, base)),
            )?;
            (!base.endpoints.is_empty()).then_some(Model { id, root: None, parent: None })
        });
        let adapters = self.adapters().filter_map(|route| {
            let means_it =
                |r: &Resolution<'_>| matches!(r, Resolution::Adapter { route: found, .. } if Arc::ptr_eq(found, route));
            let id = self.id_of(route.name.as_str(), &route.namespace, means_it)?;
            Some(adapter_model(id, route))
        });
        bases.chain(adapters)
    }

    /// The entry of the list of models that a request for `id` would reach now.
    pub fn model<'a>(&'a self, id: &'a str) -> Option<Model<'a>> {
        match self.resolve(id) {
            Resolution::Adapter { route, .. } => Some(adapter_model(Cow::Borrowed(id), route)),
            Resolution::Base(base) if !base.endpoints.is_empty() => {
                Some(Model { id: Cow::Borrowed(id), root: None, parent: None })
            }
            _ => None,
        }
    }

    /// The shortest name that means what `means_it` recognises, if any does.
    fn id_of<'a>(
        &'a self,
        name: &'a str,
        namespace: &Namespace,
        means_it: impl Fn(&Resolution<'a>) -> bool,
    ) -> Option<Cow<'a, str>> {
        if means_it(&self.resolve(name)) {
            return Some(Cow::Borrowed(name));
        }
        let qualified = format!("{namespace}/{name}");
        means_it(&self.resolve(&qualified)).then_some(Cow::Owned(qualified))
    }
}

fn adapter(route: &Arc<Route>) -> Resolution<'_> {
    match &route.state {
        RouteState::Ready(endpoints) => Resolution::Adapter { route, endpoints },
        RouteState::Swapping => Resolution::Swapping(route),
        RouteState::NotReady(why) => Resolution::NotReady { route, why },
    }
}

fn adapter_model<'a>(id: Cow<'a, str>, route: &'a Route) -> Model<'a> {
    let root = Some(&*route.artifact_url).filter(|url| !url.is_empty());
    Model { id, root, parent: route.base_model.as_ref().map(BaseModel::as_str) }
}

/// The only value, or every namespace that has one.
fn only<T>(by_namespace: &BTreeMap<Namespace, T>) -> Result<&T, Vec<&Namespace>> {
    let mut values = by_namespace.values();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(by_namespace.keys().collect()),
    }
}

/// Takes one value out, and its name with the last one.
fn take_out<N: Ord, T>(of: &mut BTreeMap<N, BTreeMap<Namespace, T>>, name: &N, namespace: &Namespace) -> bool {
    let Some(by_namespace) = of.get_mut(name) else { return false };
    let removed = by_namespace.remove(namespace).is_some();
    if by_namespace.is_empty() {
        of.remove(name);
    }
    removed
}

/// Lower goes before higher where two routes claim one name.
fn rank(route: &Route) -> u8 {
    match route.state {
        RouteState::Ready(_) => 0,
        RouteState::Swapping => 1,
        RouteState::NotReady(_) => 2,
    }
}

fn with_endpoints_or_not_ready(mut route: Arc<Route>) -> Arc<Route> {
    if matches!(&route.state, RouteState::Ready(endpoints) if endpoints.is_empty()) {
        Arc::make_mut(&mut route).state = RouteState::NotReady(NotReady {
            phase: Arc::from(""),
            reason: Arc::from("NoEndpoints"),
            message: Arc::from("no engine that has it takes requests now"),
            retryable: true,
        });
    }
    route
}

#[cfg(test)]
mod tests;
