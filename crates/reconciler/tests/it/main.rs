//! The reconciler against a small world of fake engines, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod adapters;
mod cluster;
mod engines;
mod faults;
mod notes;
mod random;
mod restarts;
mod said;
mod shown;
mod status;
mod updates;
mod world;
