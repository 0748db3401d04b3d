//! Drives the reconciler for a Kubernetes cluster: objects and pods in, Services, EndpointSlices, status and events out.

mod calls;
mod events;
mod lease;
mod objects;
mod pods;
mod routes;
mod secrets;
mod slices;
mod statuses;
mod watch;
