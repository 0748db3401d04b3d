//! The proxy against small engines in this process, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests too")]

#[path = "it/support.rs"]
mod support;

#[path = "it/api_server.rs"]
mod api_server;
#[path = "it/controller.rs"]
mod controller;

#[path = "it/connections.rs"]
mod connections;
#[path = "it/drains.rs"]
mod drains;
#[path = "it/errors.rs"]
mod errors;
#[path = "it/fleet_source.rs"]
mod fleet_source;
#[path = "it/holds.rs"]
mod holds;
#[path = "it/kube_router.rs"]
mod kube_router;
#[path = "it/kube_source.rs"]
mod kube_source;
#[path = "it/metrics.rs"]
mod metrics;
#[path = "it/models.rs"]
mod models;
#[path = "it/paths.rs"]
mod paths;
#[path = "it/retries.rs"]
mod retries;
#[path = "it/served_by.rs"]
mod served_by;
#[path = "it/streaming.rs"]
mod streaming;
