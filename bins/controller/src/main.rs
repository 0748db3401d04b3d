//! The controller binary: arguments and wiring, nothing else. What it does is in `longshore-cluster`.

fn main() {}
