//! Engines over real sockets: small servers answer as two versions of vLLM did.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy sees no test in a helper of an integration test")]

mod bad_adapters;
mod behaviour;
mod faults;
mod secrets;
mod server;
