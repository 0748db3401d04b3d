//! Objects that make no sense: each is told what is wrong and what to do, and none holds up the others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod refused {
    mod neighbours;
    mod sense;
    mod size;
}
