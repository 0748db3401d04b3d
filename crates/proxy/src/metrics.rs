//! What the proxy measures.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use longshore_routing::{RouteState, Table};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::InFlight;

/// How many adapters get series of their own; the rest share [`OTHER`].
const MAX_ADAPTERS: usize = 1000;
/// No adapter's name can begin with an underscore, so these labels mean nothing else.
const OTHER: &str = "_other";
/// Requests for a base model.
pub(crate) const BASE: &str = "_base";
/// Requests that were refused before it was known whom they are for.
const NONE: &str = "_none";

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Class {
    /// Answered with 1xx, 2xx or 3xx.
    Ok,
    /// Answered with 4xx.
    ClientError,
    /// Answered with 5xx.
    ServerError,
    /// The engine broke off in the middle of its answer.
    Broken,
    /// The client went away before the answer was complete.
    Gone,
}

impl Class {
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            4 => Self::ClientError,
            5 => Self::ServerError,
            _ => Self::Ok,
        }
    }
}

/// Why a request was sent to another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Retry {
    /// The engine could not be connected to.
    Connect,
    /// The engine answered 502 or 503.
    Status,
    /// The engine answered that it lacks the adapter.
    Missing,
}

/// How a wait for a change-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Hold {
    /// The table said in time what is to be done.
    Released,
    /// It did not.
    Expired,
    /// The client did not wait for it.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAdapter {
    adapter: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    adapter: Arc<str>,
    class: Class,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    adapter: Arc<str>,
    reason: Retry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    adapter: Arc<str>,
    outcome: Hold,
}

/// The metrics of one proxy. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: Family<ByClass, Counter>,
    first_byte: Family<ByAdapter, Histogram, fn() -> Histogram>,
    duration: Family<ByAdapter, Histogram, fn() -> Histogram>,
    retries: Family<ByReason, Counter>,
    holds: Family<ByOutcome, Counter>,
    /// Requests that wait now.
    waiting: AtomicU64,
    adapters: Mutex<BTreeSet<Arc<str>>>,
    table_changed: Mutex<Instant>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            requests: Family::default(),
            first_byte: Family::new_with_constructor(seconds),
            duration: Family::new_with_constructor(seconds),
            retries: Family::default(),
            holds: Family::default(),
            waiting: AtomicU64::new(0),
            adapters: Mutex::default(),
            table_changed: Mutex::new(Instant::now()),
        }))
    }

    pub(crate) fn register(&self, registry: &mut Registry, in_flight: &InFlight, tables: &watch::Receiver<Arc<Table>>) {
        let inner = &self.0;
        registry.register("requests", "Requests by how they ended", inner.requests.clone());
        registry.register(
            "time_to_first_byte_seconds",
            "From the request's head to the head of the engine's answer",
            inner.first_byte.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "From the request's head to the end of the answer",
            inner.duration.clone(),
        );
        registry.register("retries", "Requests sent to another engine, by why", inner.retries.clone());
        registry.register("holds", "Requests that waited for an adapter to be changed over", inner.holds.clone());
        let (metrics, in_flight, tables) = (self.clone(), in_flight.clone(), tables.clone());
        registry.register_collector(Box::new(Scraped { metrics, in_flight, tables }));
    }

    /// The label of the adapter `qualified` (`<namespace>/<name>`).
    fn label(&self, qualified: &str) -> Arc<str> {
        let mut adapters = self.0.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = adapters.get(qualified) {
            return label.clone();
        }
        if adapters.len() >= MAX_ADAPTERS {
            return Arc::from(OTHER);
        }
        let label: Arc<str> = Arc::from(qualified);
        adapters.insert(label.clone());
        label
    }

    pub(crate) fn retried(&self, adapter: &Arc<str>, reason: Retry) {
        self.0.retries.get_or_create(&ByReason { adapter: adapter.clone(), reason }).inc();
    }

    /// A new table is there: series of adapters that it does not have make room for others.
    pub(crate) fn table_changed(&self, table: &Table) {
        *self.0.table_changed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut adapters = self.0.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        adapters.retain(|label| {
            let declared =
                label.split_once('/').is_some_and(|(namespace, name)| table.adapter(namespace, name).is_some());
            if !declared {
                self.forget(label);
            }
            declared
        });
    }

    fn forget(&self, adapter: &Arc<str>) {
        let by_adapter = ByAdapter { adapter: adapter.clone() };
        self.0.first_byte.remove(&by_adapter);
        self.0.duration.remove(&by_adapter);
        for class in [Class::Ok, Class::ClientError, Class::ServerError, Class::Broken, Class::Gone] {
            self.0.requests.remove(&ByClass { adapter: adapter.clone(), class });
        }
        for reason in [Retry::Connect, Retry::Status, Retry::Missing] {
            self.0.retries.remove(&ByReason { adapter: adapter.clone(), reason });
        }
        for outcome in [Hold::Released, Hold::Expired, Hold::Gone] {
            self.0.holds.remove(&ByOutcome { adapter: adapter.clone(), outcome });
        }
    }
}

/// From 5 ms, a cached embedding, to 10 minutes, the longest that an engine may take by default.
fn seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0])
}

/// One request from its head to the end of its answer. It is counted when this is dropped, as whatever it was last said
/// to be: as given up by the client, unless something else was said.
pub(crate) struct Observation {
    metrics: Metrics,
    started: Instant,
    adapter: Arc<str>,
    class: Class,
}

impl Observation {
    pub(crate) fn begin(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), started: Instant::now(), adapter: Arc::from(NONE), class: Class::Gone }
    }

    /// It is for the adapter `qualified` (`<namespace>/<name>`).
    pub(crate) fn adapter(&mut self, qualified: &str) {
        if *self.adapter != *qualified {
            self.adapter = self.metrics.label(qualified);
        }
    }

    /// It is for a base model.
    pub(crate) fn base(&mut self) {
        self.adapter = Arc::from(BASE);
    }

    /// The label that its counts go under.
    pub(crate) fn label(&self) -> &Arc<str> {
        &self.adapter
    }

    /// This is how it ends, as far as is known.
    pub(crate) fn class(&mut self, class: Class) {
        self.class = class;
    }

    /// The head of an engine's answer is there.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.class = Class::of(status);
        let seconds = self.started.elapsed().as_secs_f64();
        self.metrics.0.first_byte.get_or_create(&ByAdapter { adapter: self.adapter.clone() }).observe(seconds);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let (inner, adapter) = (&self.metrics.0, self.adapter.clone());
        inner.requests.get_or_create(&ByClass { adapter: adapter.clone(), class: self.class }).inc();
        inner.duration.get_or_create(&ByAdapter { adapter }).observe(self.started.elapsed().as_secs_f64());
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation")
            .field("adapter", &self.adapter)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

/// One request that waits for a change-over. It is counted when this is dropped: as given up by the client, unless
/// something else was said.
#[derive(Debug)]
pub(crate) struct Held {
    metrics: Metrics,
    adapter: Arc<str>,
    outcome: Hold,
}

impl Held {
    pub(crate) fn begin(metrics: &Metrics, adapter: &Arc<str>) -> Self {
        metrics.0.waiting.fetch_add(1, Ordering::Relaxed);
        Self { metrics: metrics.clone(), adapter: adapter.clone(), outcome: Hold::Gone }
    }

    /// The wait has ended like this.
    pub(crate) fn ended(mut self, outcome: Hold) {
        self.outcome = outcome;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let by = ByOutcome { adapter: self.adapter.clone(), outcome: self.outcome };
        self.metrics.0.holds.get_or_create(&by).inc();
        self.metrics.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is looked up when it is asked for.
#[derive(Debug)]
struct Scraped {
    metrics: Metrics,
    in_flight: InFlight,
    tables: watch::Receiver<Arc<Table>>,
}

impl Collector for Scraped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let table = self.tables.borrow().clone();
        let (mut ready, mut swapping, mut not_ready) = (0_u64, 0_u64, 0_u64);
        for route in table.adapters() {
            match route.state {
                RouteState::Ready(_) => ready += 1,
                RouteState::Swapping => swapping += 1,
                RouteState::NotReady(_) => not_ready += 1,
            }
        }
        let help = "Adapters in the routing table, by state";
        let mut family =
            encoder.encode_descriptor("table_adapters", help, None, prometheus_client::metrics::MetricType::Gauge)?;
        for (state, count) in [("Ready", ready), ("Swapping", swapping), ("NotReady", not_ready)] {
            ConstGauge::new(count).encode(family.encode_family(&[("state", state)])?)?;
        }
        let age = self.metrics.0.table_changed.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        gauge(&mut encoder, "table_base_models", "Base models in the routing table", table.bases().count() as u64)?;
        gauge(&mut encoder, "table_age_seconds", "Time since the routing table last changed", rounded(age))?;
        let waiting = self.metrics.0.waiting.load(Ordering::Relaxed);
        gauge(&mut encoder, "requests_waiting", "Requests that wait for an adapter to be changed over", waiting)?;
        gauge(&mut encoder, "requests_in_flight", "Requests under way", self.in_flight.total())?;
        let mut family = encoder.encode_descriptor(
            "adapter_requests_in_flight",
            "Requests under way, by adapter",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        let known = self.metrics.0.adapters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut other = 0;
        for (adapter, count) in self.in_flight.by_adapter() {
            if known.contains(adapter.as_str()) {
                ConstGauge::new(count).encode(family.encode_family(&[("adapter", adapter.as_str())])?)?;
            } else {
                other += count;
            }
        }
        ConstGauge::new(other).encode(family.encode_family(&[("adapter", OTHER)])?)
    }
}

/// Encodes a gauge without labels.
pub(crate) fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// Whole seconds.
pub(crate) fn rounded(duration: Duration) -> u64 {
    duration.as_secs()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn shown(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        let (_sender, tables) = watch::channel(Arc::new(Table::default()));
        metrics.register(&mut registry, &InFlight::new(), &tables);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_request_that_nobody_finished_was_given_up_by_the_client() {
        let metrics = Metrics::new();
        let mut observation = Observation::begin(&metrics);
        observation.adapter("default/a");
        drop(observation);
        assert!(
            shown(&metrics).contains(r#"requests_total{adapter="default/a",class="Gone"} 1"#),
            "{}",
            shown(&metrics)
        );
    }

    #[test]
    fn adapters_beyond_the_cap_share_one_series_until_others_go() {
        let metrics = Metrics::new();
        let of = |name: &str| {
            let mut observation = Observation::begin(&metrics);
            observation.adapter(name);
            observation.label().clone()
        };
        for n in 0..MAX_ADAPTERS {
            assert_eq!(&*of(&format!("default/a{n}")), format!("default/a{n}"));
        }
        assert_eq!(&*of("default/late"), OTHER);
        assert_eq!(&*of("default/a0"), "default/a0");
        metrics.table_changed(&Table::default());
        assert!(!shown(&metrics).contains("default/a0"));
        assert_eq!(&*of("default/late"), "default/late");
    }
}
