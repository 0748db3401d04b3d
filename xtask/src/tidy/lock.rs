//! The lock file: one TLS stack (rustls with ring), once, and nothing from outside the registry.

use std::fs;

use anyhow::{Context, Result};
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Findings};
use super::tree::Tree;

/// Second TLS stacks. With two providers compiled in, rustls picks none and panics at the first connection; the C
/// libraries also need build tools that a bare machine lacks. `openssl-probe` is absent: it only finds root certificates.
const FORBIDDEN: &[&str] = &[
    "aws-lc-fips-sys",
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "hyper-tls",
    "native-tls",
    "openssl",
    "openssl-macros",
    "openssl-src",
    "openssl-sys",
    "tokio-native-tls",
];

const FILE: &str = "Cargo.lock";

/// Reports forbidden packages, a second rustls, and sources that are not a registry.
pub(super) fn check(tree: &Tree, findings: &mut Findings) -> Result<()> {
    let text = fs::read_to_string(tree.root.join(FILE)).context("cannot read Cargo.lock")?;
    findings.broken.extend(broken(&text)?);
    Ok(())
}

fn broken(text: &str) -> Result<Vec<Finding>> {
    let document = DeTable::parse(text).context("Cargo.lock is not TOML")?;
    let packages = match document.get_ref().get("package").map(|packages| packages.get_ref()) {
        Some(DeValue::Array(packages)) => Some(packages),
        _ => None,
    };
    let mut broken = Vec::new();
    let mut rustls = 0;
    for package in packages.into_iter().flat_map(|packages| packages.iter()) {
        let line = text[..package.span().start].matches('\n').count() + 1;
        let DeValue::Table(package) = package.get_ref() else { continue };
        let field = |key: &str| match package.get(key).map(|value| value.get_ref()) {
            Some(DeValue::String(text)) => text.as_ref(),
            _ => "",
        };
        let (name, version) = (field("name"), field("version"));
        let mut report = |message| broken.push(Finding::new(FILE, line, message));
        if FORBIDDEN.contains(&name) {
            report(format!(
                "{name} {version} is forbidden: rustls with ring is the one TLS stack (`cargo tree -i {name}`)"
            ));
        }
        if field("source").starts_with("git+") {
            report(format!("{name} {version} comes from a git repository: only the registry is allowed"));
        }
        if name == "rustls" {
            rustls += 1;
            if rustls > 1 {
                report(format!("rustls {version} is a second version of rustls"));
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, source: &str) -> String {
        format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n\n")
    }

    #[test]
    fn another_tls_stack_a_second_rustls_and_a_git_source_are_refused() {
        let text = [
            package("openssl-probe", "0.2.0", "registry+x"),
            package("rustls", "0.22.0", "registry+x"),
            package("rustls", "0.23.0", "registry+x"),
            package("aws-lc-rs", "1.0.0", "registry+x"),
            package("tower", "0.5.0", "git+x"),
        ]
        .concat();
        let seen: Vec<_> = broken(&text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(seen.len(), 3, "{seen:#?}");
        assert!(seen[0].starts_with("Cargo.lock:11: rustls 0.23.0 is a second version"), "{}", seen[0]);
        assert!(seen[1].starts_with("Cargo.lock:16: aws-lc-rs 1.0.0 is forbidden"), "{}", seen[1]);
        assert!(seen[2].starts_with("Cargo.lock:21: tower 0.5.0 comes from a git repository"), "{}", seen[2]);
    }
}
