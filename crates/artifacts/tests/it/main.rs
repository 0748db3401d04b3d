//! Adapters, sound and broken, through the public interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod adapter;
mod crash;
mod defects;
mod header;
mod sources;
mod store;
mod store_repair;
mod store_room;
mod store_shared;
mod store_shelf;
