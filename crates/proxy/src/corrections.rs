//! Engines that have answered that they lack an adapter which the table says they have.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_routing::{Endpoint, Route};
use longshore_types::{AdapterName, Boot, EngineId, Namespace};
use tokio::time::Instant;

/// An engine has answered that it lacks an adapter. Nothing follows from it by itself: whoever is told lists the engine
/// anew and publishes what it then knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which engine.
    pub engine: EngineId,
    /// The life of it that was believed to have the adapter.
    pub boot: Boot,
    /// Which adapter, of the engine's own namespace.
    pub name: AdapterName,
}

/// What is not believed for a while: one endpoint for one adapter each.
#[derive(Debug)]
pub(crate) struct Corrections {
    distrust: Duration,
    entries: Mutex<BTreeMap<Key, Entry>>,
}

type Key = (Namespace, AdapterName, EngineId);

#[derive(Debug)]
struct Entry {
    endpoint: Endpoint,
    until: Instant,
}

impl Corrections {
    pub(crate) fn new(distrust: Duration) -> Self {
        Self { distrust, entries: Mutex::default() }
    }

    /// `endpoint` has just answered that it lacks the adapter of `route`.
    pub(crate) fn record(&self, route: &Route, endpoint: &Endpoint) {
        let now = Instant::now();
        let mut entries = self.lock();
        // What has run out is dropped here, so there are never more than answers within one period of distrust.
        entries.retain(|_, entry| entry.until > now);
        entries.insert(key(route, endpoint), Entry { endpoint: endpoint.clone(), until: now + self.distrust });
    }

    /// Whether `endpoint` is not to be asked for the adapter of `route`: it has said that it lacks it, and neither has it
    /// been confirmed anew nor has the time run out.
    pub(crate) fn distrusts(&self, route: &Route, endpoint: &Endpoint) -> bool {
        let entries = self.lock();
        if entries.is_empty() {
            return false;
        }
        entries
            .get(&key(route, endpoint))
            .is_some_and(|entry| entry.until > Instant::now() && entry.endpoint.same_confirmation(endpoint))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // Single insertions and removals: nothing can be half done when a panic lets go of the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(route: &Route, endpoint: &Endpoint) -> Key {
    (route.namespace.clone(), route.name.clone(), endpoint.engine.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_routing::RouteState;
    use longshore_types::{Address, EngineKind};

    use super::*;

    fn endpoint(boot: &str, confirmation: &str) -> Endpoint {
        Endpoint {
            engine: EngineId::new(Namespace::default_namespace(), "e"),
            boot: Boot::new(boot),
            kind: EngineKind::Vllm,
            address: Address::new("127.0.0.1", 8000),
            digest: None,
            base_model: None,
            confirmation: Arc::from(confirmation),
        }
    }

    fn route(name: &str) -> Route {
        Route {
            namespace: Namespace::default_namespace(),
            name: name.parse().unwrap(),
            artifact_url: Arc::from("s3://b/a"),
            base_model: None,
            state: RouteState::Ready(vec![endpoint("1", "a")]),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_lacks_an_adapter_is_distrusted_for_it_alone() {
        let corrections = Corrections::new(Duration::from_secs(30));
        corrections.record(&route("a"), &endpoint("1", "a"));
        assert!(corrections.distrusts(&route("a"), &endpoint("1", "a")));
        assert!(!corrections.distrusts(&route("b"), &endpoint("1", "a")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_boot_or_a_new_confirmation_is_believed() {
        let corrections = Corrections::new(Duration::from_secs(30));
        corrections.record(&route("a"), &endpoint("1", "a"));
        assert!(!corrections.distrusts(&route("a"), &endpoint("2", "a")));
        assert!(!corrections.distrusts(&route("a"), &endpoint("1", "b")));
    }

    #[tokio::test(start_paused = true)]
    async fn distrust_ends_and_leaves_nothing_behind() {
        let corrections = Corrections::new(Duration::from_secs(30));
        corrections.record(&route("a"), &endpoint("1", "a"));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(!corrections.distrusts(&route("a"), &endpoint("1", "a")));
        corrections.record(&route("b"), &endpoint("1", "a"));
        assert_eq!(corrections.lock().len(), 1);
    }
}
