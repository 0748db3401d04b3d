//! Fixtures and a stand-in for the real engine.
//!
//! - [`SimEngine`] answers over HTTP as vLLM does, in the words of two of its versions, and can be made to fail.
//! - [`adapters`] makes tiny LoRA adapters, valid and broken, without Python.
//! - [`clients`] installs other people's clients, for tests that hold our stand-ins to what they do.
//! - [`contract`] is one suite of probes for the simulated engine and for real ones: where they differ, it finds it.
//! - [`hub`] answers as Hugging Face's hub does, with faults to order.
//! - [`real`] starts a real vLLM by the scripts in `tests/vllm`.
//! - [`registry`] is an OCI registry that can be made to misbehave.
//! - [`s3`] is an object store that speaks S3, checks credentials, and fails to order.
//! - [`tiny`] is the base model that they are made for.
//! - [`web`] is a file server over HTTP that misbehaves as it is told.
//!
//! This crate deliberately decides nothing and is never part of a deployment; only `longshore up --simulate` and tests
//! use it.
//!
//! ```
//! use longshore_testkit::{SimConfig, SimEngine};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let engine = SimEngine::start(SimConfig::default()).await?;
//! assert!(engine.url().starts_with("http://127.0.0.1:"));
//! engine.stop().await;
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

pub mod adapters;
pub mod clients;
pub mod contract;
pub mod hub;
pub mod real;
pub mod registry;
pub mod s3;
mod sim;
pub mod tiny;
pub mod web;

pub use sim::{Answer, Control, FaultRequest, Faults, LogEntry, SimConfig, SimEngine, Timing, Version, What, digest};
