//! The command line: up, get, explain, sim-engine.

fn main() {}
