//! From a reference to a directory that an engine can load: fetch, verify, store.
//!
//! - A [`Source`] is one kind of place that adapters come from. It puts an adapter's files into a [`Staging`].
//! - The staging area checks and hashes every byte on its way to disk (a [`Verifier`]), so that what is stored is what
//!   was checked. Nearly everything that an engine would answer with a bare 500, and what it would load and answer
//!   wrongly from, is found here, before an engine hears of it.
//! - The [`Store`] holds whole adapters under the digest of their bytes, in directories that never change.
//! - [`Artifacts`] puts the three together.
//!
//! This crate deliberately loads nothing into an engine, decides nothing about where an adapter goes, deletes nothing by
//! itself (an engine may still read a file that nobody seems to use), and executes or deserialises nothing that it
//! fetched: a pickle is refused unread.
//!
//! ```
//! use longshore_artifacts::{Artifacts, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let artifacts = Artifacts::new(Store::open(dir.path().join("store"))?);
//! let error = artifacts.fetch(&"/srv/adapters/none".parse()?, None).await.unwrap_err();
//! assert_eq!(error.reason(), "ArtifactNotFound");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod archive;
mod digest;
mod error;
mod http;
mod intake;
mod origin;
mod progress;
mod resolve;
mod source;
mod store;
mod verify;

pub use digest::{FileKind, KeptFile, digest_of};
pub use error::{Defect, Error};
pub use http::reach::Reach;
pub use origin::{Credentials, Origin};
pub use progress::Progress;
pub use resolve::{Artifacts, Expect, Fetched, Order};
pub use source::local::Local;
pub use source::{Fingerprint, Setup, Source};
pub use store::Store;
pub use store::account::Usage;
pub use store::options::StoreOptions;
pub use store::pins::{Holder, Pin};
pub use store::repair::{Damaged, Repaired};
pub use store::staging::{Limits, StagedFile, Staging};
pub use store::view::StoreView;
pub use verify::base::BaseShapes;
pub use verify::config::AdapterConfig;
pub use verify::header::{Dtype, Header, Tensor};
pub use verify::{FileVerifier, Verified, Verifier, verify_dir};
