//! Tidy over this workspace: `cargo test` fails where a rule of the house is broken.

use xtask::{Workspace, tidy};

#[test]
fn the_workspace_is_tidy() {
    let findings = tidy::check(Workspace::find().unwrap().root()).unwrap();
    let broken: Vec<_> = findings.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_invariant_is_named_by_a_test() {
    let missing = tidy::naming(Workspace::find().unwrap().root()).unwrap().missing();
    let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}
