//! Adapters, sound and broken, through the public interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod adapter;
mod defects;
mod header;
mod objects;
mod objects_elsewhere;
mod sources;
mod store;
