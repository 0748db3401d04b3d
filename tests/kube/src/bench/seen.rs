//! What somebody sees who watches a namespace: endpoints in slices, phases and counts of adapters. With times.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use longshore_api::labels::{GROUP, KIND, MANAGED_BY, MANAGER, SLICE_ADAPTER, VERSION};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SOON;
use crate::Cluster;

/// An adapter's name and an engine's address.
pub(super) type Place = (String, String);

/// What is there, as far as the watches have shown it.
#[derive(Debug)]
pub(super) struct State {
    /// When the last event came.
    pub at: Instant,
    /// By slice: whose it is, and the addresses that are ready.
    slices: BTreeMap<String, (String, BTreeSet<String>)>,
    /// When an address was last seen not to be ready any more.
    pub left: BTreeMap<Place, Instant>,
    /// By name.
    pub objects: BTreeMap<String, Object>,
}

/// An adapter.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// The phases, in the order in which they were shown; one that several writes in a row have shown is there once.
    pub phases: Vec<String>,
    /// How many engines hold it, as its status says.
    pub ready: u64,
    /// How many are to hold it.
    pub desired: u64,
}

impl State {
    /// Whether an engine is ready for an adapter.
    pub(super) fn has(&self, adapter: &str, address: &str) -> bool {
        self.slices.values().any(|(name, ready)| name == adapter && ready.contains(address))
    }

    /// In a few words.
    fn summary(&self) -> String {
        let phases = self.objects.values().map(|object| object.phases.last().map_or("none", String::as_str));
        let mut by_phase: BTreeMap<&str, usize> = BTreeMap::new();
        phases.for_each(|phase| *by_phase.entry(phase).or_default() += 1);
        format!("{} endpoints in {} slices, and adapters by phase: {by_phase:?}", self.count(), self.slices.len())
    }

    /// How many endpoints are ready, of all adapters.
    pub(super) fn count(&self) -> usize {
        self.slices.values().map(|(_, ready)| ready.len()).sum()
    }

    /// Whether nothing is left of an adapter.
    pub(super) fn is_gone(&self, adapter: &str) -> bool {
        !self.objects.contains_key(adapter) && !self.slices.values().any(|(name, _)| name == adapter)
    }

    /// Whether its status says that so many engines of so many hold it.
    pub(super) fn is_final(&self, adapter: &str, engines: u64) -> bool {
        self.objects.get(adapter).is_some_and(|object| {
            object.phases.last().is_some_and(|phase| phase == "Running")
                && object.ready == engines
                && object.desired == engines
        })
    }

    fn slice(&mut self, event: WatchEvent<EndpointSlice>) {
        let (slice, gone) = match event {
            WatchEvent::Added(slice) | WatchEvent::Modified(slice) => (slice, false),
            WatchEvent::Deleted(slice) => (slice, true),
            _ => return,
        };
        let Some(adapter) = slice.annotations().get(SLICE_ADAPTER).cloned() else { return };
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        let ready: BTreeSet<String> = match gone {
            true => BTreeSet::new(),
            false => ready.flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect(),
        };
        self.at = Instant::now();
        let name = slice.name_any();
        if let Some((_, before)) = self.slices.get(&name) {
            for address in before.difference(&ready) {
                self.left.insert((adapter.clone(), address.clone()), self.at);
            }
        }
        if gone {
            self.slices.remove(&name);
        } else {
            self.slices.insert(name, (adapter, ready));
        }
    }

    fn object(&mut self, event: WatchEvent<DynamicObject>) {
        let (object, gone) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
            WatchEvent::Deleted(object) => (object, true),
            _ => return,
        };
        self.at = Instant::now();
        let name = object.name_any();
        if gone {
            self.objects.remove(&name);
            return;
        }
        let status = &object.data["status"];
        let shown = self.objects.entry(name).or_default();
        shown.ready = status["readyReplicas"].as_u64().unwrap_or_default();
        shown.desired = status["desiredReplicas"].as_u64().unwrap_or_default();
        if let Some(phase) = status["phase"].as_str()
            && shown.phases.last().is_none_or(|last| last != phase)
        {
            shown.phases.push(phase.to_owned());
        }
    }
}

/// Watches of a namespace, which end with this.
pub(super) struct Seen {
    state: watch::Receiver<State>,
    tasks: [JoinHandle<()>; 2],
}

impl Seen {
    /// Begins to watch a namespace that has neither adapters nor slices yet.
    pub(super) async fn of(cluster: &Cluster, namespace: &str) -> Self {
        let state =
            State { at: Instant::now(), slices: BTreeMap::new(), left: BTreeMap::new(), objects: BTreeMap::new() };
        let (changes, state) = watch::channel(state);
        let slices: Api<EndpointSlice> = cluster.api(namespace);
        let ours = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
        let objects: Api<DynamicObject> = Api::namespaced_with(cluster.client().clone(), namespace, &resource);
        let tasks = [
            follow(slices, ours, changes.clone(), State::slice).await,
            follow(objects, ListParams::default(), changes, State::object).await,
        ];
        Self { state, tasks }
    }

    /// When it was first so: the time of the event that made it so.
    ///
    /// # Panics
    /// Where it is not so for long.
    pub(super) async fn until(&self, what: &str, so: impl FnMut(&State) -> bool) -> Instant {
        let mut state = self.state.clone();
        match timeout(SOON, state.wait_for(so)).await {
            Ok(Ok(state)) => state.at,
            Ok(Err(_)) => panic!("{what}: the watches have ended"),
            Err(_) => panic!("{what}: not within {} s; now there are {}", SOON.as_secs(), self.look(State::summary)),
        }
    }

    /// Looks at what is there now.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.borrow())
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn follow<K>(
    api: Api<K>,
    params: ListParams,
    changes: watch::Sender<State>,
    take: fn(&mut State, WatchEvent<K>),
) -> JoinHandle<()>
where
    K: Clone + Debug + DeserializeOwned + kube::Resource + Send + 'static,
{
    let list = api.list(&params).await.unwrap_or_else(|error| panic!("a list to begin with: {error}"));
    let mut version = list.metadata.resource_version.unwrap_or_default();
    let labels = params.label_selector;
    tokio::spawn(async move {
        loop {
            let params = WatchParams { label_selector: labels.clone(), ..WatchParams::default() };
            // A watch that the server ends goes on from where it was.
            let Ok(events) = api.watch(&params, &version).await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let mut events = std::pin::pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                if let WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) = &event {
                    version = object.resource_version().unwrap_or_default();
                }
                changes.send_modify(|state| take(state, event));
            }
        }
    })
}
