//! Whole-system tests on a real Kubernetes control plane, and what runs one on this machine.
//!
//! The kit (`kit/`, in Go) is a cluster in namespaces of its own: etcd, kube-apiserver, kube-controller-manager and a small
//! kubelet that runs pods as processes. [`inside`] runs the body of a test in a fresh one:
//!
//! ```no_run
//! use longshore_kube_tests::{Options, inside};
//!
//! // #[test]
//! fn a_namespace_is_made() {
//!     inside(Options::default(), async |cluster| {
//!         cluster.kubectl(&["create", "namespace", "a"]).await.expect_success();
//!     });
//! }
//! ```
//!
//! - [`Cluster`] is what the body gets: a client, kubectl, the logs, the audit log, signals to containers and outages of
//!   the API server.
//! - [`ManualPod`] is a pod whose status the test writes; [`Engine`] is one with a simulated engine behind it that lives in
//!   the test's process; [`manifests`] has engines that are processes of their own.
//! - [`scene`] installs the product, and has what clients and watchers see of it.
//! - [`images`] says which program stands for which container image.
//! - [`mod@bench`] measures the controller in such a cluster.
//! - [`Kit`] builds and starts the kit for anything else.
//!
//! These tests run only with `LONGSHORE_KUBE=1`: see `cargo xtask e2e kube`. What goes wrong in here is a test that fails, so
//! most of it panics with what it saw.

#![allow(clippy::panic, reason = "a failure in here is the failure of a test")]

mod audit;
pub mod bench;
mod cluster;
mod engine;
pub mod images;
mod inside;
mod kit;
pub mod manifests;
mod pod;
pub mod scene;

pub use audit::AuditEntry;
pub use cluster::{Cluster, Outage, Said};
pub use engine::{Engine, SimControl};
pub use inside::{Options, inside, kit_for};
pub use kit::{Kit, NoKit};
pub use pod::ManualPod;
pub use rustix::process::Signal;
