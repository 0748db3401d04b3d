//! The custom resources, their validation, and the one internal form that every dialect lowers to.
//!
//! A user writes a `ModelAdapter`, in a cluster or in a file; everything behind this crate speaks of
//! [`spec::AdapterSpec`]. In between lie [`manifest`], which reads text and says in which line what is wrong, and
//! [`lower`], which checks each field and turns the object into the internal form. [`crd`] is the resource's definition for
//! a cluster, [`status`] what is shown of an adapter there, [`fleet`] what the fleet API says, and [`labels`] every name that
//! other programs know us by.
//!
//! This crate decides nothing and touches nothing: no file, no socket, no clock, no `async`. It does not know which
//! policies or engines exist, and it never reads a Secret, only its name.
//!
//! ```
//! use std::path::Path;
//!
//! use longshore_api::manifest::{Manifest, parse};
//! use longshore_api::{RelativePaths, lower};
//!
//! let text = "
//! apiVersion: model.aibrix.ai/v1alpha1
//! kind: ModelAdapter
//! metadata: {name: sql-lora}
//! spec:
//!   podSelector: {matchLabels: {model.aibrix.ai/name: tiny-base}}
//!   artifactURL: ./adapters/sql-lora
//! ";
//! let Manifest::Adapter(document) = parse("sql.yaml", text).remove(0)? else { unreachable!("it is a ModelAdapter") };
//! assert_eq!(document.key.to_string(), "default/sql-lora");
//!
//! let adapters = lower(&document.object, RelativePaths::From(Path::new("/srv/manifests")))?;
//! assert_eq!(adapters[0].artifact.as_written(), "/srv/manifests/adapters/sql-lora");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod fleet;
pub mod labels;
mod lower;
pub mod manifest;
mod model_adapter;
pub mod sidecar;
pub mod spec;
pub mod status;
mod text;

pub use lower::{
    INSECURE_API_KEY, INVALID_SPEC, RelativePaths, UNKNOWN_CONFIG, Violation, lower, object_key, violations, warnings,
};
pub use model_adapter::{
    ModelAdapter, ModelAdapterSpec, PreemptionPolicy, SecretKeyRef, SecretRef, UpdateStrategySpec, crd,
};
