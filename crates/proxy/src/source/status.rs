//! How the source of tables is doing.

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

/// One of the two lists that are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Adapters,
    Engines,
}

impl Stream {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Adapters => "adapters",
            Self::Engines => "engines",
        }
    }
}

/// Whether the controller is heard. A cheap handle.
#[derive(Clone)]
pub struct SourceStatus(Arc<Inner>);

struct Inner {
    streams: Mutex<[Heard; 2]>,
    reconnects: AtomicU64,
}

#[derive(Clone, Copy)]
struct Heard {
    connected: bool,
    last: Instant,
}

impl SourceStatus {
    pub(super) fn new() -> Self {
        let never = Heard { connected: false, last: Instant::now() };
        Self(Arc::new(Inner { streams: Mutex::new([never; 2]), reconnects: AtomicU64::new(0) }))
    }

    /// Whether both lists are being followed now. While they are not, the last known table is kept.
    pub fn is_connected(&self) -> bool {
        self.lock().iter().all(|heard| heard.connected)
    }

    /// Registers what it measures. Names have no prefix: give it a registry that has one (`longshore_router`).
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Bytes have come.
    pub(super) fn heard(&self, stream: Stream) {
        self.lock()[stream as usize] = Heard { connected: true, last: Instant::now() };
    }

    /// The connection has ended.
    pub(super) fn lost(&self, stream: Stream) {
        self.lock()[stream as usize].connected = false;
        self.0.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, [Heard; 2]> {
        // Plain values, written whole.
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SourceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceStatus").field("connected", &self.is_connected()).finish_non_exhaustive()
    }
}

impl Collector for SourceStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let heard = *self.lock();
        let help = "Whether the controller's list is being followed";
        let mut family = encoder.encode_descriptor("source_connected", help, None, MetricType::Gauge)?;
        for stream in [Stream::Adapters, Stream::Engines] {
            let connected = u64::from(heard[stream as usize].connected);
            ConstGauge::new(connected).encode(family.encode_family(&[("list", stream.as_str())])?)?;
        }
        let longest = heard.iter().map(|heard| heard.last.elapsed()).max().unwrap_or_default();
        gauge(
            &mut encoder,
            "source_silence_seconds",
            "Time since the controller was last heard on every list",
            rounded(longest),
        )?;
        let lost = self.0.reconnects.load(Ordering::Relaxed);
        gauge(&mut encoder, "source_lost_connections", "Connections to the controller that failed or ended", lost)
    }
}
