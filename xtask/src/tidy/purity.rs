//! Purity: the crates that decide have no runtime below them, and no async, clock, IO or global randomness in them.
//!
//! A clock or a client in a pure crate would make the simulator's seeds worthless, and nobody would notice.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::finding::{Finding, Findings};
use super::source::Source;
use super::tokens::{Token, starts_with};
use super::tree::Tree;
use crate::workspace::cargo;

/// The crates that only decide.
const PURE: &[&str] =
    &["longshore-types", "longshore-api", "longshore-scheduler", "longshore-reconciler", "longshore-routing"];

/// Runtimes and clients, which may not even be indirect dependencies of a pure crate.
const RUNTIMES: &[&str] = &["tokio", "reqwest", "hyper"];

/// Modules of the standard library that touch the world.
const WORLD: &[&str] = &["env", "fs", "net", "process", "thread"];

/// What of `std::net` is a plain value.
const NET_VALUES: &[&str] =
    &["AddrParseError", "IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Types whose `now` reads a clock: the standard library's, jiff's and chrono's.
const CLOCKS: &[&str] = &["Instant", "SystemTime", "Timestamp", "Zoned", "Utc", "Local"];

/// Names of rand that take their seed from the machine. `rand::rng` is matched by its path.
const RANDOM: &[&str] = &["thread_rng", "from_os_rng", "from_entropy", "OsRng", "ThreadRng"];

/// Whether a crate of ours only decides.
pub(super) fn is_pure(name: &str) -> bool {
    PURE.contains(&name)
}

/// Reports runtimes among the direct and indirect dependencies of pure crates, with the way that leads to them.
pub(super) fn check_dependencies(tree: &Tree, findings: &mut Findings) -> Result<()> {
    for krate in tree.crates.iter().filter(|krate| is_pure(&krate.name)) {
        // Asked for one crate at a time: features that other crates of the workspace turn on are not this one's. What
        // macros use while compiling is not linked, so it is left out.
        let output = Command::new(cargo())
            .args(["tree", "--package", &krate.name, "--edges", "normal,no-proc-macro", "--prefix", "depth"])
            .args(["--format", " {p}", "--manifest-path"])
            .arg(tree.root.join("Cargo.toml"))
            .output()
            .context("cannot start cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree fails for {}: {}", krate.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        let manifest = &krate.manifest;
        for way in ways_to_runtimes(&String::from_utf8_lossy(&output.stdout)) {
            let first = way.get(1).map(String::as_str).unwrap_or_default();
            let dependency = manifest.dependencies.iter().find(|dependency| dependency.package == first);
            let message = format!("{} is pure and may not have {} below it", krate.name, way.join(" -> "));
            findings.broken.push(Finding::new(&manifest.path, dependency.map(|dependency| dependency.line), message));
        }
    }
    Ok(())
}

/// Reads `cargo tree --prefix depth`, whose lines are as in `2 tokio v1.0.0`; a repeated package is shown without its
/// dependencies, which its first showing has.
fn ways_to_runtimes(tree: &str) -> Vec<Vec<String>> {
    let mut way: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for line in tree.lines() {
        let Some((depth, package)) = line.split_once(' ') else { continue };
        let (Ok(depth), Some(name)) = (depth.parse::<usize>(), package.split_whitespace().next()) else { continue };
        way.truncate(depth);
        way.push(name.to_owned());
        if RUNTIMES.contains(&name) && !way[..way.len() - 1].iter().any(|above| RUNTIMES.contains(&above.as_str())) {
            found.push(way.clone());
        }
    }
    found
}

/// Reports async, clocks, IO and global randomness in the source of pure crates, tests excepted.
pub(super) fn check_source(tree: &Tree, findings: &mut Findings) {
    for source in tree.sources.iter().filter(|source| source.krate.as_deref().is_some_and(is_pure)) {
        for (line, what) in impurities(source) {
            let message = format!("{} is pure: {what}", source.krate());
            findings.broken.push(Finding::new(&source.path, line, message));
        }
    }
}

fn impurities(source: &Source) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for (at, token) in source.shipped_tokens() {
        if let Some(what) = impurity(&source.tokens[at..]) {
            found.insert((token.line, what));
        }
    }
    for import in source.imports.iter().filter(|import| source.shipped && !import.in_test) {
        let path: Vec<&str> = import.path.iter().map(String::as_str).collect();
        if let Some(what) = impure_path(&path) {
            found.insert((import.line, what));
        }
        if let (Some(last), Some(alias)) = (path.last(), &import.alias)
            && CLOCKS.contains(last)
        {
            found.insert((import.line, format!("`{last} as {alias}` would hide a clock from this check")));
        }
    }
    found
}

/// What is impure in the first few of these tokens.
fn impurity(tokens: &[Token]) -> Option<String> {
    let texts: Vec<&str> = tokens.iter().take(6).map(|token| token.text.as_str()).collect();
    match texts.as_slice() {
        ["async", ..] => Some("`async` belongs in a driver".into()),
        [".", "await", ..] => Some("`.await` belongs in a driver".into()),
        [".", "elapsed", "(", ")", ..] => Some("`.elapsed()` reads a clock; take `now` as an argument".into()),
        [clock, "::", name @ ("now" | "elapsed"), ..] if CLOCKS.contains(clock) => {
            Some(format!("`{clock}::{name}` reads a clock; take `now` as an argument"))
        }
        ["std" | "core", "::", module, "::", item, ..] if *item != "{" => impure_path(&["std", module, item]),
        ["std" | "core", "::", module, ..] if !starts_with(&tokens[3..], &["::"]) => impure_path(&["std", module]),
        ["rand", "::", function, ..] => impure_path(&["rand", function]),
        [name, ..] if RANDOM.contains(name) => Some(format!("`{name}` is seeded by the machine; take the generator")),
        _ => None,
    }
}

fn impure_path(path: &[&str]) -> Option<String> {
    match path {
        ["std" | "core", "net", item, ..] if NET_VALUES.contains(item) => None,
        ["std" | "core", module, ..] if WORLD.contains(module) => Some(format!("`std::{module}` touches the world")),
        ["rand", function @ ("rng" | "random" | "random_range" | "random_bool"), ..] => {
            Some(format!("`rand::{function}` is seeded by the machine; take the generator as an argument"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::tokens;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tokens = tokens::parse(text).unwrap();
        let source = Source {
            path: PathBuf::from("lib.rs"),
            krate: Some("longshore-types".into()),
            shipped: true,
            imports: tokens::imports(&tokens),
            tokens,
            unreadable: None,
        };
        impurities(&source).into_iter().map(|(line, what)| format!("{line}: {what}")).collect()
    }

    #[test]
    fn every_way_to_reach_the_world_is_found() {
        for text in [
            "async fn f() {}",
            "fn f() { async move { 1 }; }",
            "fn f() { g().await; }",
            "fn f() { Instant::now(); }",
            "fn f() { let g = std::time::SystemTime::now; }",
            "fn f() { jiff::Timestamp::now(); }",
            "fn f(i: Instant) { i.elapsed(); }",
            "use std::time::Instant as Moment;",
            "use std::fs;",
            "use std::{collections::BTreeMap, env};",
            "use std::net::{IpAddr, TcpStream};",
            "fn f() { std::fs::read(p); }",
            "fn f() { core::net::TcpStream::connect(a); }",
            "fn f() { std::thread::sleep(d); }",
            "fn f() { rand::rng(); }",
            "use rand::{Rng, rng};",
            "fn f() { SmallRng::from_os_rng(); }",
        ] {
            assert_eq!(found(text).len(), 1, "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn plain_values_words_and_tests_are_fine() {
        let text = r#"
            //! No async here, and no Instant::now().
            use std::net::{IpAddr, Ipv4Addr};
            use std::time::{Duration, Instant};
            use std::{fmt, collections::BTreeMap};
            fn f(now: Instant, rng: &mut rand::rngs::SmallRng) -> &'static str { "async Instant::now() std::fs" }
            fn g() { let r#async = std::net::IpAddr::from([1, 2, 3, 4]); }
            #[cfg(test)]
            mod tests { use std::fs; fn h() { std::time::Instant::now(); } }
        "#;
        assert_eq!(found(text), Vec::<String>::new());
    }

    #[test]
    fn the_way_to_a_runtime_is_shown_and_not_what_lies_below_it() {
        let tree = "0 a v1\n1 b v1\n2 tokio v1\n3 hyper v1\n1 c v1\n2 tokio v1 (*)\n1 d v1 (*)\n";
        assert_eq!(ways_to_runtimes(tree), [vec!["a", "b", "tokio"], vec!["a", "c", "tokio"]]);
    }
}
