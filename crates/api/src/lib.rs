//! Custom resources, their validation, and the one internal form that every dialect lowers to.

pub mod fleet;
pub mod spec;
pub mod status;
