//! Where tables come from.

mod controllers;
mod fleet;
mod fleet_source;
mod follower;
mod http_client;
mod pause;
mod report;
mod slices;
mod sse;
mod state;
mod status;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use longshore_routing::Table;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::Missing;
pub use fleet::table_from_fleet;
pub use fleet_source::{FleetConfig, FleetSource};
pub use http_client::{Controller, InvalidController, Token};
pub use slices::{KubeConfig, KubeSource, NoCluster, connect};
pub use status::SourceStatus;

/// Something that keeps a routing table.
pub trait TableSource {
    /// The newest table. Empty until [`Self::synced`] is true.
    fn tables(&self) -> watch::Receiver<Arc<Table>>;
    /// Whether there has been a first whole table: from then on what is not in it is not there.
    fn synced(&self) -> watch::Receiver<bool>;
    /// Where the proxy reports what an engine lacks; it is passed to the controller at once.
    fn missing(&self) -> mpsc::Sender<Missing>;
    /// How it is doing.
    fn status(&self) -> SourceStatus;
    /// Keeps the table until `stop` is cancelled. Never fails.
    fn run(self, stop: CancellationToken) -> impl Future<Output = Result<(), Infallible>> + Send;
}
