//! Adapters, sound and broken, through the public interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod adapter;
mod archives;
mod crash;
mod defects;
mod header;
mod hub;
mod net;
mod objects;
mod objects_elsewhere;
mod oci;
mod oci_access;
mod oci_archives;
mod sources;
mod store;
mod store_repair;
mod store_room;
mod store_shared;
mod store_shelf;
mod web;
