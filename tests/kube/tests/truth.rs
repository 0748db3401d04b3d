//! What is shown and routed to is what engines really hold: pods that go, restart, flap or lie, adapters that change, move
//! and are deleted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod truth {
    mod change;
    mod deletion;
    mod pods;
    mod spread;
}
