//! What is under way on which engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_routing::Loads;
use longshore_types::{AdapterName, EngineId};
use tokio::sync::watch;

/// Requests under way by engine, and by engine and adapter. A cheap handle: clones share the counts.
///
/// A request is counted before it is sent and before the table is looked at for the last time. So when a table without an
/// endpoint has been published and this shows nothing under way there, nothing will be (I5).
#[derive(Clone)]
pub struct InFlight(Arc<Shared>);

struct Shared {
    engines: Mutex<BTreeMap<EngineId, Counts>>,
    /// Tells those who wait that something has ended.
    ended: watch::Sender<()>,
}

#[derive(Default)]
struct Counts {
    total: u64,
    adapters: BTreeMap<AdapterName, u64>,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { engines: Mutex::default(), ended: watch::Sender::new(()) }))
    }

    /// Requests for `adapter` under way on `engine`.
    pub fn of_adapter(&self, engine: &EngineId, adapter: &AdapterName) -> u64 {
        self.lock().get(engine).and_then(|counts| counts.adapters.get(adapter)).copied().unwrap_or(0)
    }

    /// The adapters that requests under way on `engine` are for.
    pub fn active_on(&self, engine: &EngineId) -> BTreeSet<AdapterName> {
        self.lock().get(engine).map(|counts| counts.adapters.keys().cloned().collect()).unwrap_or_default()
    }

    /// Returns when no request for `adapter` is under way on `engine`. Take the engine out of the table first.
    pub async fn drained(&self, engine: &EngineId, adapter: &AdapterName) {
        let mut ended = self.0.ended.subscribe();
        while self.of_adapter(engine, adapter) > 0 {
            // The sender lives as long as `self`.
            let _ = ended.changed().await;
        }
    }

    /// Requests under way for each adapter, over all engines, by namespace and name.
    pub(crate) fn by_adapter(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (engine, counts) in self.lock().iter() {
            for (adapter, count) in &counts.adapters {
                *sums.entry(format!("{}/{adapter}", engine.namespace)).or_default() += count;
            }
        }
        sums
    }

    /// Requests under way in all.
    pub(crate) fn total(&self) -> u64 {
        self.lock().values().map(|counts| counts.total).sum()
    }

    /// Counts one request until the guard is dropped.
    pub(crate) fn begin(&self, engine: EngineId, adapter: Option<AdapterName>) -> Guard {
        let mut engines = self.lock();
        let counts = engines.entry(engine.clone()).or_default();
        counts.total += 1;
        if let Some(adapter) = &adapter {
            *counts.adapters.entry(adapter.clone()).or_default() += 1;
        }
        drop(engines);
        Guard { in_flight: self.clone(), engine, adapter }
    }

    fn end(&self, engine: &EngineId, adapter: Option<&AdapterName>) {
        let mut engines = self.lock();
        let Some(counts) = engines.get_mut(engine) else { return };
        counts.total -= 1;
        if let Some(adapter) = adapter
            && let Some(count) = counts.adapters.get_mut(adapter)
        {
            *count -= 1;
            if *count == 0 {
                counts.adapters.remove(adapter);
            }
        }
        if counts.total == 0 {
            engines.remove(engine);
        }
        drop(engines);
        self.0.ended.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EngineId, Counts>> {
        // The counts are right at every moment at which a panic could have let go of the lock.
        self.0.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loads for InFlight {
    fn in_flight(&self, engine: &EngineId) -> u64 {
        self.lock().get(engine).map_or(0, |counts| counts.total)
    }
}

/// By engine: how many requests, and for which adapters.
impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.lock().iter().map(|(engine, counts)| (engine, (counts.total, &counts.adapters))))
            .finish()
    }
}

/// One request under way.
#[derive(Debug)]
pub(crate) struct Guard {
    in_flight: InFlight,
    engine: EngineId,
    adapter: Option<AdapterName>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.in_flight.end(&self.engine, self.adapter.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Namespace;

    use super::*;

    fn engine(name: &str) -> EngineId {
        EngineId::new(Namespace::default_namespace(), name)
    }

    fn adapter(name: &str) -> AdapterName {
        name.parse().unwrap()
    }

    #[test]
    fn a_request_counts_until_its_guard_is_dropped() {
        let in_flight = InFlight::new();
        let first = in_flight.begin(engine("e"), Some(adapter("a")));
        let second = in_flight.begin(engine("e"), Some(adapter("a")));
        let base = in_flight.begin(engine("e"), None);
        assert_eq!(in_flight.of_adapter(&engine("e"), &adapter("a")), 2);
        assert_eq!(Loads::in_flight(&in_flight, &engine("e")), 3);
        assert_eq!(in_flight.active_on(&engine("e")), BTreeSet::from([adapter("a")]));
        assert_eq!(in_flight.by_adapter(), BTreeMap::from([("default/a".to_owned(), 2)]));
        drop((first, second));
        assert_eq!(in_flight.active_on(&engine("e")), BTreeSet::new());
        assert_eq!(in_flight.total(), 1);
        drop(base);
        assert_eq!(format!("{in_flight:?}"), "{}");
    }

    #[tokio::test]
    async fn i5_a_drain_ends_with_the_last_request_of_that_adapter() {
        let in_flight = InFlight::new();
        let (one, other) =
            (in_flight.begin(engine("e"), Some(adapter("a"))), in_flight.begin(engine("e"), Some(adapter("b"))));
        let drain = tokio::spawn({
            let in_flight = in_flight.clone();
            async move { in_flight.drained(&engine("e"), &adapter("a")).await }
        });
        tokio::task::yield_now().await;
        drop(other);
        tokio::task::yield_now().await;
        assert!(!drain.is_finished());
        drop(one);
        drain.await.unwrap();
    }
}
