//! What is measured about events.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::queue::{Ended, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum How {
    Created,
    Counted,
    Failed,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: How,
}

/// Counters of events. A cheap handle.
#[derive(Clone, Debug, Default)]
pub(in crate::kube) struct Counts {
    writes: Family<ByOutcome, Counter>,
    pub(super) dropped: Counter,
}

impl Counts {
    pub(in crate::kube) fn register(&self, registry: &mut Registry) {
        registry.register("event_writes", "Writes of events, by outcome", self.writes.clone());
        registry.register("events_dropped", "Events that were never written", self.dropped.clone());
    }

    pub(super) fn ended(&self, target: &Target, ended: Ended) {
        let outcome = match (ended, target) {
            (Ended::Written, Target::New(_)) => How::Created,
            (Ended::Written, Target::Series(..)) => How::Counted,
            (Ended::Refused, _) => How::Refused,
            (Ended::NameTaken | Ended::SeriesGone | Ended::Failed { .. }, _) => How::Failed,
        };
        self.writes.get_or_create(&ByOutcome { outcome }).inc();
    }
}
