//! Model name to engine: the routing table and the pick.
//!
//! A [`Table`] is an immutable snapshot of which engines have which adapter. A request's body is asked for its model
//! ([`ModelField`]), the table says what that name means ([`Table::resolve`]), and [`pick`] chooses one of the engines
//! that have it. What has no engine is never given another one: a name that is declared and not ready is
//! [`Resolution::NotReady`], whatever else the fleet serves (I1).
//!
//! This crate decides and does nothing else: no socket, no clock, no global randomness. Where tables come from and
//! what is done with a choice is in `longshore-proxy`.
//!
//! ```
//! use longshore_routing::{ModelField, Resolution, Route, Table};
//!
//! let body = br#"{"messages": [{"role": "user", "content": "{\"model\": \"other\"}"}], "model": "sql-v1"}"#;
//! let model = ModelField::in_json(body)?;
//! assert_eq!(model.name(), "sql-v1");
//!
//! // A fleet without adapters and engines.
//! let table = Table::new(Vec::<Route>::new(), []);
//! assert!(matches!(table.resolve(model.name()), Resolution::Unknown));
//! # Ok::<(), longshore_routing::ModelError>(())
//! ```

mod model;
mod multipart;
mod pick;
mod route;
mod table;

pub use model::{MAX_DEPTH, ModelError, ModelField};
pub use multipart::{Boundary, MAX_PARTS};
pub use pick::{Loads, pick};
pub use route::{BaseRoute, Endpoint, NotReady, Route, RouteState};
pub use table::{Model, Resolution, Table};
