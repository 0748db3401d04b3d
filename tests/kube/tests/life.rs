//! The life of an adapter, as somebody sees it who has manifests for AIBrix.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod life {
    mod keys;
    mod mask;
    mod replicas;
    mod seeds;
}
