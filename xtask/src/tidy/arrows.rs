//! Arrows: which crate may depend on which, as ARCHITECTURE.md draws them.

use std::collections::BTreeSet;

use super::finding::{Finding, Findings};
use super::manifest::Kind;
use super::purity::is_pure;
use super::tree::Tree;

/// What a crate may depend on.
enum Allowed {
    /// These crates of ours and no other.
    Only(&'static [&'static str]),
    /// Every crate of ours that is a library.
    Libraries,
    /// Every crate of ours.
    Anything,
}

use Allowed::{Anything, Libraries, Only};

/// The arrows. A crate that is not listed is refused until somebody decides where it belongs.
const ARROWS: &[(&str, Allowed)] = &[
    ("longshore-types", Only(&[])),
    ("longshore-scheduler", Only(&[])),
    ("longshore-runtime", Only(&[])),
    ("longshore-api", Only(&["longshore-types"])),
    ("longshore-artifacts", Only(&["longshore-types"])),
    ("longshore-engine", Only(&["longshore-types"])),
    ("longshore-routing", Only(&["longshore-types"])),
    ("longshore-reconciler", Only(&["longshore-types", "longshore-api", "longshore-scheduler"])),
    (
        "longshore-cluster",
        Only(&["longshore-types", "longshore-api", "longshore-reconciler", "longshore-engine", "longshore-artifacts"]),
    ),
    ("longshore-proxy", Only(&["longshore-types", "longshore-api", "longshore-routing"])),
    (
        "longshore-agent",
        Only(&[
            "longshore-types",
            "longshore-api",
            "longshore-reconciler",
            "longshore-engine",
            "longshore-artifacts",
            "longshore-cluster",
        ]),
    ),
    ("longshore-testkit", Libraries),
    ("longshore-controller", Only(&["longshore-cluster", "longshore-runtime"])),
    ("longshore-sidecar", Only(&["longshore-agent", "longshore-runtime"])),
    ("longshore-router", Only(&["longshore-proxy", "longshore-runtime"])),
    ("longshore", Anything),
    ("longshore-kube-tests", Libraries),
    ("xtask", Libraries),
];

/// Tests may use it in any crate but the pure ones.
const TESTKIT: &str = "longshore-testkit";

/// Reports arrows that are not drawn.
pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    let ours: BTreeSet<&str> = tree.crates.iter().map(|krate| krate.name.as_str()).collect();
    for krate in &tree.crates {
        let (name, manifest) = (krate.name.as_str(), &krate.manifest);
        let Some(allowed) = allowed(name) else {
            let message = format!("{name} has no place yet: draw its arrows in ARCHITECTURE.md and in tidy's list");
            findings.broken.push(Finding::new(&manifest.path, None, message));
            continue;
        };
        for dependency in &manifest.dependencies {
            let (package, kind) = (dependency.package.as_str(), dependency.kind);
            if !ours.contains(package) {
                // `types` is what every other crate is built on, so it is built on nothing.
                if name == "longshore-types" && kind != Kind::Dev {
                    let message = format!("{name} may not depend on {package}: it depends on nothing at all");
                    findings.broken.push(Finding::new(&manifest.path, dependency.line, message));
                }
                continue;
            }
            let fine = match kind {
                Kind::Normal | Kind::Build => may(allowed, package),
                Kind::Dev => below(name).contains(package) || (package == TESTKIT && !is_pure(name)),
            };
            if !fine {
                let in_tests = if kind == Kind::Dev { " even in its tests" } else { "" };
                let message =
                    format!("{name} may not depend on {package}{in_tests}: it may depend on {}", list(allowed));
                findings.broken.push(Finding::new(&manifest.path, dependency.line, message));
            }
        }
    }
}

fn allowed(name: &str) -> Option<&'static Allowed> {
    ARROWS.iter().find(|(from, _)| *from == name).map(|(_, allowed)| allowed)
}

fn may(allowed: &Allowed, package: &str) -> bool {
    match allowed {
        Only(list) => list.contains(&package),
        Libraries => is_library(package),
        Anything => true,
    }
}

/// Programs are not there to be depended on; every other crate of ours is a library.
fn is_library(package: &str) -> bool {
    !["longshore", "longshore-controller", "longshore-sidecar", "longshore-router", "xtask"].contains(&package)
}

/// Everything that arrows lead to from `name`, however many steps down.
fn below(name: &str) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name];
    while let Some(next) = open.pop() {
        let Some(allowed) = allowed(next) else { continue };
        for (to, _) in ARROWS.iter().filter(|(to, _)| may(allowed, to)) {
            if seen.insert(*to) {
                open.push(to);
            }
        }
    }
    seen
}

fn list(allowed: &Allowed) -> String {
    match allowed {
        Only([]) => "nothing of ours".into(),
        Only(list) => format!("{} alone", list.join(", ")),
        Libraries => "our libraries alone".into(),
        Anything => "anything".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_lead_downwards_only() {
        for (name, allowed) in ARROWS {
            if matches!(allowed, Only(_)) {
                assert!(!below(name).contains(name), "{name} is below itself");
            }
        }
    }

    #[test]
    fn every_crate_that_is_named_has_a_place() {
        for (name, allowed) in ARROWS {
            if let Only(list) = allowed {
                for to in *list {
                    assert!(self::allowed(to).is_some(), "{name} -> {to}");
                    assert!(is_library(to), "{name} -> {to}");
                }
            }
        }
    }
}
