//! What every Longshore process needs besides its work: logs, an admin server, a readiness latch, an orderly end.
//!
//! A binary parses its arguments, wires its parts together with what is here, and waits:
//!
//! 1. [`crypto::install`] and [`telemetry::init`], first of all.
//! 2. A [`Readiness`] with one [`Condition`] for each thing that must have happened before traffic may come.
//! 3. A [`Shutdown`] that turns SIGTERM into "not ready", then a cancelled token, then the end.
//! 4. An [`AdminServer`] with `/livez`, `/readyz` and `/metrics`.
//! 5. [`Tasks`], which end the process when one that it cannot do without ends.
//!
//! This crate deliberately knows nothing of adapters, engines or Kubernetes, depends on no crate of ours, and reads no
//! environment variable: what a binary takes from there it passes in.
//!
//! ```
//! use std::time::Duration;
//! use longshore_runtime::{AdminServer, Readiness, Registry, Shutdown, Tasks};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let readiness = Readiness::new();
//! let listed = readiness.condition("objects listed");
//! let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO);
//! let mut tasks = Tasks::new(&shutdown);
//!
//! let admin = AdminServer::new(readiness.clone(), Registry::default());
//! let admin = admin.bind(&"127.0.0.1:0".parse()?, "--admin").await?;
//! tasks.last("admin server", |stop| admin.serve(stop));
//! tasks.essential("work", |stop| async move {
//!     listed.set();
//!     stop.cancelled().await;
//!     Ok::<_, std::convert::Infallible>(())
//! });
//!
//! readiness.wait().await;
//! shutdown.request("the example is over");
//! tasks.run(Duration::from_secs(5)).await
//! # }).unwrap();
//! # Ok::<(), longshore_runtime::Error>(())
//! ```

pub mod crypto;
pub mod telemetry;

mod admin;
mod clock;
mod error;
mod listen;
mod metrics;
mod process;
mod readiness;
mod seconds;
mod shutdown;
mod tasks;

pub use admin::{AdminServer, BoundAdmin};
pub use clock::Clock;
pub use error::Error;
pub use listen::Listen;
pub use metrics::Metrics;
pub use prometheus_client::registry::Registry;
pub use readiness::{Condition, Readiness, State};
pub use seconds::seconds;
pub use shutdown::{Next, Shutdown};
pub use tasks::Tasks;
pub use tokio_util::sync::CancellationToken;
