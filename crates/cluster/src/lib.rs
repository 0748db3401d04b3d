//! Where facts come from and effects go: the local driver and the fleet API.

pub mod fleet;
pub mod local;
