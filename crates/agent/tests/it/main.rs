//! The agent beside a simulated engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod agent;
mod callers;
mod place;
