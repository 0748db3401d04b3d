//! Development tasks: everything that a contributor or CI runs, as one program.
//!
//! `cargo xtask help` lists the tasks; each is a module here. [`tidy`] holds the rules of the house that neither the
//! compiler nor clippy knows, [`mod@test`] runs every check in order, [`e2e`] runs the tests that need a real engine, a
//! cluster or other people's [`clients`], [`kube`] starts a cluster, [`mod@bench`] measures, [`fuzz`] looks for input that
//! breaks a parser, [`crds`] and [`deploy`] write what is generated, and [`setup`]
//! installs what a bare machine lacks.
//!
//! This crate deliberately reads no credentials, talks to no cluster itself and writes nothing into the source tree but the
//! files that say they are generated.
//!
//! ```
//! use xtask::bench::Report;
//!
//! let mut report = Report::new("sort");
//! report.row("stable", 20.0, "ms")?;
//! report.row_against("unstable", 10.0, "ms", "stable")?;
//! assert_eq!(report.rows()[1].ratio, Some(0.5));
//! # Ok::<(), anyhow::Error>(())
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a task prints is its purpose")]

pub mod bench;
pub mod clients;
pub mod crds;
pub mod deploy;
pub mod e2e;
pub mod fuzz;
pub mod kube;
pub mod setup;
pub mod shell;
pub mod test;
pub mod tidy;
pub mod workspace;

pub use shell::Counts;
pub use workspace::Workspace;
