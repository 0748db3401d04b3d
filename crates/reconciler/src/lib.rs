//! The brain: facts in, effects out, no clock and no IO.

mod effect;
mod fact;

pub use effect::{Config, Effect, Endpoint, Event, Load, LogLine, Route, StatusWrite, Unload};
pub use fact::{EngineSeen, Fact, Listing, ObjectSeen, ResidentSeen, Resolved};
