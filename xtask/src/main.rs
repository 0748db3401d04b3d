//! Development tasks: tidy, test, e2e, bench.

fn main() {}
