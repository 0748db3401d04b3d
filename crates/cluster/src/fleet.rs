//! The fleet API: what is loaded where, for routers, dashboards and people.
//!
//! A driver keeps a [`FleetStore`] up to date; [`router`] answers HTTP from it and from nothing else. The store never
//! waits for its readers: one that is too slow to follow the changes is given a snapshot again.

mod api;
mod error;
mod guard;
mod query;
mod store;
mod watch;

pub use api::{FleetApi, router};
pub use store::{FleetStore, Item, Snapshot};
pub use watch::{Subscription, Update};

/// The OpenAPI document that `GET /openapi.json` answers with.
pub const OPENAPI: &str = include_str!("fleet/openapi.json");
