//! Drives the reconciler for a Kubernetes cluster: objects and pods in, Services, EndpointSlices, status and events out.

#![allow(dead_code, reason = "its parts are put together next")]

mod calls;
mod events;
mod fence;
mod lease;
mod objects;
mod pods;
mod routes;
mod secrets;
mod slices;
mod statuses;
mod urgent;
mod watch;

pub use fence::Fence;
pub use lease::{Election, InvalidLeaseTimes, Leadership, LeaseConfig, LeaseTimes, Term, pod_of};
