//! How the driver fares: whether its loop turns, whether its watches do, and what it writes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_types::Namespace;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use tokio::time::Instant;

use super::events::Events;
use super::routes::Routes;
use super::statuses::Statuses;
use super::watch::WatchHealth;

/// When the driver's loop came round last. Clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Mutex<Instant>>);

impl Heartbeat {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was. The loop comes round every few seconds even when nothing happens.
    pub fn age(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// How each watch fares. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Arc<Mutex<Vec<WatchHealth>>>);

impl Health {
    /// A watch of `kind`, in one namespace or in all.
    pub(super) fn watch(&self, kind: &str, scope: Option<&Namespace>) -> WatchHealth {
        let name = scope.map_or_else(|| kind.to_owned(), |namespace| format!("{kind} in {namespace}"));
        let health = WatchHealth::new(name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(health.clone());
        health
    }

    /// The watches that have not listed everything yet.
    pub(super) fn unlisted(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|watch| !watch.state().listed).map(|watch| watch.kind().to_owned()).collect()
    }
}

/// What a driver is made of, for those who look at it.
#[derive(Clone)]
pub(super) struct Parts {
    pub health: Health,
    pub heartbeat: Heartbeat,
    pub routes: Arc<Routes>,
    pub statuses: Arc<Statuses>,
    pub events: Arc<Events>,
}

impl Parts {
    /// Adds counts of what is written and how the watches fare.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.routes.metrics().register(registry);
        self.statuses.counts().register(registry);
        self.events.counts().register(registry);
        registry.register_collector(Box::new(WatchMetrics(self.health.clone())));
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("health", &self.health)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

/// How watches fare, read when somebody asks.
#[derive(Debug)]
struct WatchMetrics(Health);

impl Collector for WatchMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let watches = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let states: Vec<_> = watches.iter().map(|watch| (watch.kind().to_owned(), watch.state())).collect();
        let help = "How long a watch has been failing, 0 while it goes well";
        let mut failing = encoder.encode_descriptor("watch_failing", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (kind, state) in &states {
            let seconds = state.failing.as_ref().map_or(0.0, |failing| failing.since.elapsed().as_secs_f64());
            let labels = [("kind", kind.as_str())];
            ConstGauge::new(seconds).encode(failing.encode_family(&labels)?)?;
        }
        let help = "Complete lists read";
        let mut lists = encoder.encode_descriptor("watch_lists", help, None, MetricType::Counter)?;
        for (kind, state) in &states {
            let labels = [("kind", kind.as_str())];
            ConstCounter::new(state.lists).encode(lists.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
