//! Adapters, sound and broken, through the public interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

mod adapter;
mod archives;
mod defects;
mod header;
mod hub;
mod net;
mod oci;
mod oci_access;
mod oci_archives;
mod sources;
mod store;
mod web;
