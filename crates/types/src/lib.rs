//! The plain values that Longshore's crates speak of: names, keys, digests, times and faults.
//!
//! Each value is parsed once, at the border, and is valid from then on. This crate deliberately depends on nothing at
//! all: no serde, no clock, no runtime. What needs a wire form gets it in `longshore-api`.
//!
//! ```
//! use longshore_types::{AdapterName, Digest};
//!
//! let name: AdapterName = "sql-v1".parse()?;
//! assert_eq!(name.as_str(), "sql-v1");
//! assert!("../outside".parse::<AdapterName>().is_err());
//!
//! let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse()?;
//! assert_eq!(digest.short(), "abababababab");
//! # Ok::<(), longshore_types::Invalid>(())
//! ```

mod digest;
mod engine;
mod fault;
mod key;
mod name;
mod secret;
mod time;
mod url;

pub use digest::Digest;
pub use engine::{Address, Boot, EngineId, EngineKind, LoadSignals, Root};
pub use fault::{Fault, Scope};
pub use key::{AdapterKey, ObjectKey, OwnerKind};
pub use name::{AdapterName, BaseModel, Invalid, Namespace, ObjectName};
pub use secret::Secret;
pub use time::Timestamp;
pub use url::{ArtifactUrl, Scheme};
