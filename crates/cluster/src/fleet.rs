//! The fleet API: what is loaded where, for routers, dashboards and people.
//!
//! A driver keeps a [`FleetStore`] up to date; [`router`] answers HTTP from it and from nothing else. The store never
//! waits for its readers: one that is too slow to follow the changes is given a snapshot again.
//!
//! Of several replicas one knows the fleet. [`Front`] answers on each of them, and passes on to that one; [`find_leader`]
//! tells it where that is. A [`Guard`] says who may ask.

mod api;
mod error;
mod forward;
mod front;
mod guard;
mod leader;
mod query;
mod store;
mod watch;

pub use api::{FleetApi, router};
pub use front::{Front, Where};
pub use guard::{AUDIENCE, Accounts, Guard, TokenFile, guarded};
pub use leader::find_leader;
pub use longshore_api::fleet::Demand;
pub use store::{FleetStore, Item, Snapshot};
pub use watch::{Subscription, Update};

/// The OpenAPI document that `GET /openapi.json` answers with.
pub const OPENAPI: &str = include_str!("fleet/openapi.json");
