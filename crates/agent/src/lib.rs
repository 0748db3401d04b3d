//! What one engine should hold, and kept so, beside the engine.
//!
//! - An [`Agent`] is told the whole set of adapters by a leader, each telling with a [stamp](longshore_api::sidecar::Stamp);
//!   one that is older than the last is refused, which is the real fence between two leaders.
//! - It fetches, checks, loads, lists, loads again after a restart of the engine, drains and unloads by the same brain and
//!   the same driver as `longshore up`: an agent is a fleet of one. So nobody has to be there for an engine that restarts.
//! - What is in force, and under which digest, is kept in a file beside the store, without any credential. After a restart
//!   of its own the agent goes on from there, out of the store alone, until a leader speaks again.
//! - Its readiness is a [`Latch`]: it says when what was wanted at the start is there, and what is wanted later never takes
//!   it back.
//!
//! This crate deliberately publishes no endpoint and decides nothing about which engine holds what: that is the leader's.

mod agent;
mod api;
mod callers;
mod error;
mod fence;
mod flags;
mod latch;
mod record;

pub use agent::{Agent, Options, Readiness};
pub use api::{Api, router};
pub use callers::{Callers, callers};
pub use error::Error;
pub use flags::SourceFlags;
pub use latch::Latch;

// What whoever wires an agent up has to name.
pub use longshore_artifacts::{Artifacts, Setup, Store};
pub use longshore_cluster::fleet::{Guard, TokenFile};
pub use longshore_cluster::local::{Connect, ConnectVllm, EngineConfig, read_key_file};
pub use longshore_reconciler::Config;
pub use longshore_types::{Namespace, Secret};
