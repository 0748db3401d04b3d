//! What is measured about statuses.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::show::Outcome;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum How {
    Shown,
    Gone,
    Refused,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: How,
}

/// Counters of status writes. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(in crate::kube) struct Counts {
    writes: Family<ByOutcome, Counter>,
    pub(super) skipped: Counter,
    pub(super) waiting: Gauge,
}

impl Counts {
    pub(in crate::kube) fn register(&self, registry: &mut Registry) {
        registry.register("status_writes", "Writes of an object's status, by outcome", self.writes.clone());
        registry.register("status_skipped", "Statuses that a later one was written instead of", self.skipped.clone());
        registry.register("status_waiting", "Objects with a status that is not shown yet", self.waiting.clone());
    }

    pub(super) fn ended(&self, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Shown => How::Shown,
            Outcome::Gone => How::Gone,
            Outcome::Refused(_) => How::Refused,
            Outcome::Failed(_) => How::Failed,
        };
        self.writes.get_or_create(&ByOutcome { outcome }).inc();
    }
}
