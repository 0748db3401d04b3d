//! Where facts come from and effects go.
//!
//! - [`local`] drives the reconciler for engines that are named on a command line or in a file, with manifests in files
//!   and a store on this machine.
//! - [`fleet`] answers "what is loaded where" over HTTP, from a store that a driver keeps up to date, and follows changes.
//!
//! A driver knows nothing of policy. It tells the reconciler what it sees, does what the reconciler asks for, and says how
//! that went: each effect becomes a task with a deadline whose outcome comes back as a fact, whatever happens to it. So
//! this crate deliberately never decides which adapter goes where, when something is tried again, or what status says;
//! it never waits for one engine, source or file before it attends to another; and it takes no file out of the store that
//! an engine, or another process, may still read.
//!
//! ```
//! use longshore_api::fleet::Adapter;
//! use longshore_cluster::fleet::{FleetStore, Update};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = FleetStore::new();
//! let sql = |phase: &str| Adapter { name: "sql".into(), phase: phase.into(), ..Adapter::default() };
//! let mut watch = store.watch_adapters(None, |adapter| adapter.phase == "Running");
//! assert!(matches!(watch.next().await, Some(Update::Snapshot(snapshot)) if snapshot.items.is_empty()));
//!
//! store.put_adapter(sql("Loading"));
//! store.put_adapter(sql("Running"));
//! assert!(matches!(watch.next().await, Some(Update::Upsert { item, .. }) if item.name == "sql"));
//!
//! store.put_adapter(sql("Failed"));
//! assert!(matches!(watch.next().await, Some(Update::Delete { gone, .. }) if gone.name == "sql"));
//! # }
//! ```

mod asking;
mod brain;
mod clock;
pub mod fleet;
pub mod kube;
mod link;
pub mod local;
mod log_line;
mod owed;

pub use fleet::{FleetApi, FleetStore};
pub use local::{Driver, EngineConfig, Local, Options};
pub use longshore_reconciler::{Config, policies};
pub use longshore_types::{Namespace, ObjectName};
