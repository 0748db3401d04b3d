//! Talk to inference engines: list, load, unload, read their load.

mod port;

pub use port::{Engine, Model, Models, Signals};
