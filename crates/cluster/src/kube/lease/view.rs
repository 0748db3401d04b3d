//! What a Lease says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// The longest duration that is believed. A longer one is nobody's flag but an edit by hand, and would keep everybody out.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

/// What a Lease says, with what makes no sense left out. Two that are equal are the same renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaseView {
    /// Who holds it, where anybody does.
    pub holder: Option<String>,
    /// How long it holds after a renewal.
    pub duration: Option<Duration>,
    /// How often it has changed hands.
    pub transitions: u32,
    /// When it was acquired and renewed, by the holder's clock: only to see that it changed.
    times: [Option<Timestamp>; 2],
    created: Option<Timestamp>,
}

impl LeaseView {
    pub(super) fn of(lease: &Lease) -> Self {
        let none = LeaseSpec::default();
        let spec = lease.spec.as_ref().unwrap_or(&none);
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            holder: spec.holder_identity.clone().filter(|holder| !holder.is_empty()),
            duration: seconds
                .map(Duration::from_secs)
                .filter(|duration| !duration.is_zero())
                .map(|duration| duration.min(LONGEST)),
            transitions: spec.lease_transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            times: [&spec.acquire_time, &spec.renew_time].map(|time| time.as_ref().map(|time| time.0)),
            created: created(lease),
        }
    }
}

/// When the API server made it.
pub(super) fn created(lease: &Lease) -> Option<Timestamp> {
    lease.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// What is written into a Lease.
pub(super) struct Entry<'a> {
    /// Nobody, to give it up.
    pub holder: &'a str,
    pub duration: Duration,
    pub transitions: u32,
    /// When it was acquired; as before where nothing is given.
    pub acquired: Option<Timestamp>,
    pub renewed: Timestamp,
}

impl Entry<'_> {
    /// A new Lease.
    pub(super) fn create(&self, namespace: &str, name: &str) -> Lease {
        let metadata =
            ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() };
        self.write_into(Lease { metadata, spec: None })
    }

    /// `lease` with this in it. All else stays as it was, its version too, so that it is written only over what was read.
    pub(super) fn write_into(&self, mut lease: Lease) -> Lease {
        let mut spec = lease.spec.unwrap_or_default();
        spec.holder_identity = Some(self.holder.to_owned());
        // Whole seconds, and never less than was meant: others would take it too early.
        let seconds = self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0);
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.lease_transitions = Some(i32::try_from(self.transitions).unwrap_or(i32::MAX));
        spec.acquire_time = self.acquired.map(MicroTime).or(spec.acquire_time);
        spec.renew_time = Some(MicroTime(self.renewed));
        lease.spec = Some(spec);
        lease
    }
}
