//! The reconciler against a small world of fake engines, in virtual time.

mod adapters;
mod engines;
mod faults;
mod random;
mod status;
mod updates;
mod world;
