//! How a source of tables is doing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::metrics::{gauge, rounded};

/// Whether what a source follows is heard. A cheap handle.
#[derive(Clone)]
pub struct SourceStatus(Arc<Inner>);

struct Inner {
    lists: Mutex<Vec<Heard>>,
    lost: AtomicU64,
    left_out: AtomicU64,
}

/// One list that is followed.
#[derive(Clone)]
struct Heard {
    list: Arc<str>,
    last: Instant,
    /// Since when it is not followed; from the beginning on until it is.
    failing: Option<Instant>,
}

impl SourceStatus {
    /// Of a source that follows these lists, none of them yet.
    pub(super) fn new(lists: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let now = Instant::now();
        let never = |list| Heard { list, last: now, failing: Some(now) };
        let lists = lists.into_iter().map(|list| never(Arc::from(list.as_ref()))).collect();
        Self(Arc::new(Inner { lists: Mutex::new(lists), lost: AtomicU64::new(0), left_out: AtomicU64::new(0) }))
    }

    /// Whether every list is being followed now. Where one is not, what was last known of it is kept.
    pub fn is_connected(&self) -> bool {
        self.lock().iter().all(|heard| heard.failing.is_none())
    }

    /// Registers what it measures. Names have no prefix: give it a registry that has one (`longshore_router`).
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// What the list called `list` is told by.
    pub(super) fn list(&self, list: &str) -> ListStatus {
        ListStatus { of: self.clone(), list: Arc::from(list) }
    }

    /// So many things in what is known now could not be understood or must not be used.
    pub(super) fn left_out(&self, count: u64) {
        self.0.left_out.store(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        // Plain values, written whole.
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one list is doing.
#[derive(Clone, Debug)]
pub(super) struct ListStatus {
    of: SourceStatus,
    list: Arc<str>,
}

impl ListStatus {
    pub(super) fn name(&self) -> &str {
        &self.list
    }

    /// Something has come, or the list is followed though nothing has.
    pub(super) fn heard(&self) {
        self.set(|heard| (heard.last, heard.failing) = (Instant::now(), None));
    }

    /// It is not followed any more.
    pub(super) fn lost(&self) {
        self.set(|heard| heard.failing = heard.failing.or_else(|| Some(Instant::now())));
        self.of.0.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, set: impl FnOnce(&mut Heard)) {
        if let Some(heard) = self.of.lock().iter_mut().find(|heard| heard.list == self.list) {
            set(heard);
        }
    }
}

impl fmt::Debug for SourceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceStatus").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}

impl Collector for SourceStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lists = self.lock().clone();
        let mut by_list = |name, help, of: &dyn Fn(&Heard) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            lists.iter().try_for_each(|heard| {
                ConstGauge::new(of(heard)).encode(family.encode_family(&[("list", heard.list.as_ref())])?)
            })
        };
        by_list("source_connected", "Whether the list is being followed", &|heard| heard.failing.is_none().into())?;
        by_list("source_failing_seconds", "Time since when the list is not followed, 0 while it is", &|heard| {
            heard.failing.map_or(0, |since| rounded(since.elapsed()))
        })?;
        let longest = lists.iter().map(|heard| heard.last.elapsed()).max().unwrap_or_default();
        gauge(
            &mut encoder,
            "source_silence_seconds",
            "Time since something was last heard on every list",
            rounded(longest),
        )?;
        let lost = self.0.lost.load(Ordering::Relaxed);
        gauge(&mut encoder, "source_lost_connections", "Connections that failed or broke", lost)?;
        let left_out = self.0.left_out.load(Ordering::Relaxed);
        gauge(&mut encoder, "source_left_out", "What is known and cannot be understood or must not be used", left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_since_when_a_list_is_not_followed() {
        let status = SourceStatus::new(["adapters", "slices"]);
        let (adapters, slices) = (status.list("adapters"), status.list("slices"));
        assert!(!status.is_connected());
        adapters.heard();
        slices.heard();
        assert!(status.is_connected());
        slices.lost();
        tokio::time::advance(Duration::from_secs(7)).await;
        slices.lost();
        let (mut registry, mut text) = (Registry::default(), String::new());
        status.left_out(3);
        status.register_metrics(&mut registry);
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"source_connected{list="adapters"} 1"#,
            r#"source_connected{list="slices"} 0"#,
            r#"source_failing_seconds{list="adapters"} 0"#,
            r#"source_failing_seconds{list="slices"} 7"#,
            "source_lost_connections 2",
            "source_left_out 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
