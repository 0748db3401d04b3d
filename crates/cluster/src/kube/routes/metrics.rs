//! What writing routes costs.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::super::calls::CallError;

/// Counts of calls. Clones share them.
#[derive(Clone, Debug, Default)]
pub(in crate::kube) struct Metrics {
    calls: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    object: Object,
    verb: Verb,
    outcome: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Object {
    Slice,
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Verb {
    Get,
    Create,
    Patch,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Ending {
    Ok,
    Conflict,
    Missing,
    Refused,
    Unanswered,
    NotLeading,
}

impl Metrics {
    /// Shows them as `route_calls_total`.
    pub(in crate::kube) fn register(&self, registry: &mut Registry) {
        let help = "Calls to the API server about EndpointSlices and Services of routes";
        registry.register("route_calls", help, self.calls.clone());
    }

    pub(super) fn count<T>(&self, object: Object, verb: Verb, result: &Result<T, CallError>) {
        let outcome = match result {
            Ok(_) => Ending::Ok,
            Err(CallError::NotLeading) => Ending::NotLeading,
            Err(CallError::Timeout | CallError::Unreachable(_)) => Ending::Unanswered,
            Err(error) if error.is_conflict() => Ending::Conflict,
            Err(error) if error.is_not_found() => Ending::Missing,
            Err(CallError::Refused(_)) => Ending::Refused,
        };
        self.calls.get_or_create(&Labels { object, verb, outcome }).inc();
    }
}
