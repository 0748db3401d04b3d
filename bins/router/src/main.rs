//! The router binary: arguments and wiring.

fn main() {}
