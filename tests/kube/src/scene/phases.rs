//! What somebody sees who watches adapters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt as _};
use longshore_api::labels::{GROUP, KIND, VERSION};

use crate::Cluster;

/// Between two watches.
const PAUSE: Duration = Duration::from_millis(10);

/// Every phase that a watch has shown of the adapters of a namespace, from its start to when this is dropped.
#[derive(Debug)]
pub struct Phases {
    seen: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Phases {
    /// Begins to watch; whatever happens from its return on is seen.
    pub async fn watch(cluster: &Cluster, namespace: &str) -> Self {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, KIND), "modeladapters");
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client().clone(), namespace, &resource);
        let list = api.list(&ListParams::default()).await.unwrap_or_else(|error| panic!("modeladapters: {error}"));
        let version = list.metadata.resource_version.unwrap_or_default();
        let seen = Arc::default();
        let task = tokio::spawn(follow(api, version, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// The phases of an adapter in the order in which they were shown. One that several writes in a row have shown is
    /// there once; one that came back is there again.
    pub fn of(&self, name: &str) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(api: Api<DynamicObject>, mut version: String, seen: Arc<Mutex<BTreeMap<String, Vec<String>>>>) {
    loop {
        // A watch that the server ends or refuses goes on from where it was.
        tokio::time::sleep(PAUSE).await;
        let Ok(events) = api.watch(&WatchParams::default(), &version).await else { continue };
        let mut events = std::pin::pin!(events);
        while let Ok(Some(event)) = events.try_next().await {
            let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
            version = object.resource_version().unwrap_or_default();
            let Some(phase) = object.data["status"]["phase"].as_str().filter(|phase| !phase.is_empty()) else {
                continue;
            };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let phases = seen.entry(object.name_any()).or_default();
            if phases.last().is_none_or(|last| last != phase) {
                phases.push(phase.to_owned());
            }
        }
    }
}
