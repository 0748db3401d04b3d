//! Where tables come from.

mod fleet;
mod follow;
mod http_client;
mod sse;
mod state;
mod status;

pub use fleet::table_from_fleet;
pub use follow::{FleetConfig, FleetSource};
pub use http_client::{Controller, InvalidController, Token};
pub use status::SourceStatus;
