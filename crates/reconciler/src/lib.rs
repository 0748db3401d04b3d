//! The brain: facts in, effects out, no clock and no IO.

mod adapter;
mod config;
mod effect;
mod engine;
mod fact;
mod reconciler;
mod timers;

pub use config::Config;
pub use effect::{Effect, Endpoint, Event, Load, LogLine, Route, StatusWrite, Unload};
pub use fact::{EngineSeen, Fact, Listing, ObjectSeen, ResidentSeen, Resolved};
pub use reconciler::Reconciler;
