//! The OpenAI-compatible data path, and where its table comes from.
//!
//! [`Proxy`] takes requests that name a model, asks the routing table which engines have it, and passes the request on to
//! one of them. Bodies and streams go through unbuffered but for the request's body, which is read whole to find `model`.
//! [`KubeSource`] follows the EndpointSlices of a cluster and keeps the table, [`FleetSource`] does by a controller's fleet
//! API alone; [`table_from_fleet`] makes one from listings that are at hand.
//!
//! What it deliberately may not do: ask an engine that is not in the table (I1); pass on a path that is not in its own
//! short list, however it is spelt; keep anything that a table could tell it (what an engine lacks is reported as
//! [`Missing`] and decided elsewhere).
//!
//! ```
//! use std::sync::Arc;
//! use longshore_proxy::{Proxy, ProxyConfig};
//! use longshore_routing::Table;
//! use tokio::sync::watch;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let (tables, table) = watch::channel(Arc::new(Table::default()));
//! let proxy = Proxy::new(ProxyConfig::default(), table, None);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let stop = tokio_util::sync::CancellationToken::new();
//! let serving = tokio::spawn(proxy.serve(listener, stop.clone(), std::time::Duration::from_secs(30)));
//! stop.cancel();
//! serving.await??;
//! # drop(tables);
//! # Ok(())
//! # }
//! ```

mod answer;
mod body;
mod config;
mod corrections;
mod forward;
mod headers;
mod identity;
mod inflight;
mod metrics;
mod models;
mod paths;
mod proxy;
mod server;
mod source;
mod upstream;

pub use config::ProxyConfig;
pub use corrections::Missing;
pub use inflight::InFlight;
pub use proxy::Proxy;
pub use source::{
    Controller, FleetConfig, FleetSource, InvalidController, KubeConfig, KubeSource, NoCluster, SourceStatus,
    TableSource, Token, connect, table_from_fleet,
};
// Of its own interface, for whoever depends on nothing below.
pub use longshore_types::{Namespace, ObjectName};
