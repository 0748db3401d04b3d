//! Tidy over miniature workspaces: a clean one passes, and each rule that is broken is named with crate, file and line.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use xtask::tidy;

/// A workspace in a temporary folder.
struct Mini {
    folder: TempDir,
}

impl Mini {
    /// Three crates of ours, and a stand-in for tokio that needs no registry.
    fn clean() -> Self {
        let mini = Self { folder: tempfile::tempdir().unwrap() };
        mini.write(
            "Cargo.toml",
            r#"
[workspace]
resolver = "3"
members = ["crates/*"]
exclude = ["vendor"]

[workspace.package]
version = "0.1.0"
edition = "2024"
rust-version = "1.85"
license = "Apache-2.0"
publish = false

[workspace.lints.rust]
unsafe_code = "forbid"

[workspace.dependencies]
longshore-types = { path = "crates/types" }
longshore-scheduler = { path = "crates/scheduler" }
longshore-engine = { path = "crates/engine" }
middle = { path = "vendor/middle" }
plain = { path = "vendor/plain" }
tokio = { path = "vendor/tokio" }
"#,
        );
        mini.member("types", "");
        mini.member("scheduler", "");
        mini.member("engine", "[dependencies]\nlongshore-types.workspace = true\ntokio.workspace = true\n");
        for (name, dependencies) in [("tokio", ""), ("plain", ""), ("middle", "tokio = { path = \"../tokio\" }\n")] {
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[dependencies]\n{dependencies}"
            );
            mini.write(&format!("vendor/{name}/Cargo.toml"), &manifest);
            mini.write(&format!("vendor/{name}/src/lib.rs"), "//! A stand-in.\n");
        }
        mini
    }

    fn member(&self, name: &str, tables: &str) {
        let manifest = format!(
            "[package]\nname = \"longshore-{name}\"\nversion.workspace = true\nedition.workspace = true\n\
             rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n\
             [lints]\nworkspace = true\n\n{tables}"
        );
        self.write(&format!("crates/{name}/Cargo.toml"), &manifest);
        self.write(&format!("crates/{name}/src/lib.rs"), "//! What this crate is.\n");
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn broken(&self) -> Vec<String> {
        tidy::check(self.folder.path()).unwrap().broken.iter().map(ToString::to_string).collect()
    }
}

#[track_caller]
fn assert_one(broken: &[String], expected: &str) {
    assert!(broken.len() == 1 && broken[0].starts_with(expected), "expected {expected}...\nfound {broken:#?}");
}

#[test]
fn a_clean_workspace_passes() {
    let mini = Mini::clean();
    // Words in comments and strings, values of std::net, and tests that read a clock are all fine.
    mini.write(
        "crates/scheduler/src/lib.rs",
        "//! No async, no Instant::now().\n\nuse std::net::IpAddr;\n\n/// Not async.\npub fn f(_: IpAddr) -> &'static str {\n    \
         \"async std::fs .await\"\n}\n\n#[cfg(test)]\nmod tests;\n",
    );
    mini.write("crates/scheduler/src/tests.rs", "fn now() -> std::time::Instant {\n    std::time::Instant::now()\n}\n");
    mini.write("README.md", "# One\n[here](docs/a.md#two)\n");
    mini.write("docs/a.md", "# Two\n[back](../README.md)\n");
    assert_eq!(mini.broken(), Vec::<String>::new());
}

#[test]
fn a_forbidden_arrow_is_named() {
    let mini = Mini::clean();
    mini.member("scheduler", "[dependencies]\nlongshore-types.workspace = true\n");
    assert_one(
        &mini.broken(),
        "crates/scheduler/Cargo.toml:13: longshore-scheduler may not depend on longshore-types: it may depend on nothing",
    );
}

#[test]
fn a_forbidden_arrow_for_tests_alone_is_named() {
    let mini = Mini::clean();
    mini.member("types", "[dev-dependencies]\nlongshore-scheduler.workspace = true\n");
    assert_one(
        &mini.broken(),
        "crates/types/Cargo.toml:13: longshore-types may not depend on longshore-scheduler even in its tests",
    );
}

#[test]
fn the_plain_types_depend_on_nothing_at_all() {
    let mini = Mini::clean();
    mini.member("types", "[build-dependencies]\nplain.workspace = true\n");
    assert_one(
        &mini.broken(),
        "crates/types/Cargo.toml:13: longshore-types may not depend on plain: it depends on nothing",
    );
}

#[test]
fn a_crate_without_a_place_is_named() {
    let mini = Mini::clean();
    mini.member("extra", "");
    assert_one(&mini.broken(), "crates/extra/Cargo.toml: longshore-extra has no place yet");
}

#[test]
fn a_runtime_below_a_pure_crate_is_named_with_the_way_to_it() {
    let mini = Mini::clean();
    mini.member("scheduler", "[dependencies]\nmiddle.workspace = true\n");
    assert_one(
        &mini.broken(),
        "crates/scheduler/Cargo.toml:13: longshore-scheduler is pure and may not have longshore-scheduler -> middle -> tokio",
    );
}

#[test]
fn an_async_in_a_pure_crate_is_named() {
    let mini = Mini::clean();
    mini.write("crates/scheduler/src/lib.rs", "//! Front page.\n\nmod policy;\n");
    mini.write("crates/scheduler/src/policy.rs", "/// Waits.\npub async fn wait() {}\n");
    assert_one(&mini.broken(), "crates/scheduler/src/policy.rs:2: longshore-scheduler is pure: `async`");
}

#[test]
fn a_clock_in_a_pure_crate_is_named() {
    let mini = Mini::clean();
    let text = "//! Front page.\n\nuse std::time::Instant;\n\n/// Reads a clock.\npub fn f() -> Instant {\n    Instant::now()\n}\n";
    mini.write("crates/types/src/lib.rs", text);
    assert_one(&mini.broken(), "crates/types/src/lib.rs:7: longshore-types is pure: `Instant::now` reads a clock");
}

#[test]
fn a_driver_may_have_both() {
    let mini = Mini::clean();
    let text =
        "//! Front page.\n\n/// Drives.\npub async fn f() -> std::time::Instant {\n    std::time::Instant::now()\n}\n";
    mini.write("crates/engine/src/lib.rs", text);
    assert_eq!(mini.broken(), Vec::<String>::new());
}

#[test]
fn a_manifest_that_goes_its_own_way_is_named() {
    let mini = Mini::clean();
    mini.write(
        "crates/engine/Cargo.toml",
        "[package]\nname = \"longshore-engine\"\nversion.workspace = true\nedition = \"2021\"\nrust-version.workspace = true\n\
         license.workspace = true\npublish.workspace = true\n\n[dependencies]\ntokio = { path = \"../../vendor/tokio\" }\n",
    );
    let broken = mini.broken();
    let expected = [
        "crates/engine/Cargo.toml: longshore-engine does not inherit `edition`",
        "crates/engine/Cargo.toml: longshore-engine does not inherit `lints`",
        "crates/engine/Cargo.toml:10: longshore-engine has its own entry for tokio",
    ];
    assert_eq!(broken.len(), expected.len(), "{broken:#?}");
    for (broken, expected) in broken.iter().zip(expected) {
        assert!(broken.starts_with(expected), "{broken}");
    }
}

#[test]
fn style_prose_and_links_are_checked_with_file_and_line() {
    let mini = Mini::clean();
    mini.write("crates/engine/src/lib.rs", "mod a;\n");
    mini.write("crates/engine/src/a/mod.rs", "fn f() {\n    dbg!(1);\n}\n\n#[test]\n#[ignore]\nfn g() {}\n");
    mini.write("docs/a.md", &format!("# A\n\n[b](b.md), [c](#c) and [a](#a)\n{}: more\n", concat!("TO", "DO")));
    let broken = mini.broken();
    let expected = [
        "crates/engine/src/a/mod.rs: longshore-engine: no mod.rs",
        "crates/engine/src/a/mod.rs:2: longshore-engine: `dbg!`",
        "crates/engine/src/a/mod.rs:6: longshore-engine: `#[ignore]` without a reason",
        "crates/engine/src/lib.rs:1: longshore-engine: lib.rs is a front page",
        "docs/a.md:3: the link `#c` names a heading that is not there",
        "docs/a.md:3: the link `b.md` leads nowhere",
        concat!("docs/a.md:4: `TO", "DO` is unwanted"),
    ];
    assert_eq!(broken.len(), expected.len(), "{broken:#?}");
    for (broken, expected) in broken.iter().zip(expected) {
        assert!(broken.starts_with(expected), "{broken}");
    }
}

#[test]
fn tests_that_name_an_invariant_are_found_and_the_rest_is_missing() {
    let mini = Mini::clean();
    mini.write(
        "crates/engine/src/lib.rs",
        "//! Front page.\n\nfn i1_is_no_test() {}\n\n#[cfg(test)]\nmod tests {\n    #[tokio::test(start_paused = true)]\n    \
         async fn i4_nothing_is_left() {}\n\n    #[test]\n    #[ignore = \"slow\"]\n    fn i5_is_not_run() {}\n}\n",
    );
    mini.write("crates/engine/tests/a.rs", "proptest! {\n    #[test]\n    fn i6_is_kept(a in 0..9) {}\n}\n");
    let naming = tidy::naming(mini.folder.path()).unwrap();
    let missing: Vec<_> = naming.missing().iter().map(ToString::to_string).collect();
    assert_eq!(missing.len(), 10, "{missing:#?}");
    assert!(missing[0].contains("I1 is named by no test"), "{}", missing[0]);
    let engine = |name: &str| vec![("longshore-engine".to_owned(), name.to_owned())];
    assert_eq!(naming.tests.get(&4), Some(&engine("i4_nothing_is_left")));
    assert_eq!(naming.tests.get(&6), Some(&engine("i6_is_kept")));
    let table = naming.to_string();
    assert!(table.contains("I4   longshore-engine  i4_nothing_is_left"), "{table}");
    assert!(table.contains("I5   no test"), "{table}");
}

#[test]
fn the_program_fails_and_says_where() {
    let mini = Mini::clean();
    let tidy = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output =
            command.arg("tidy").current_dir(mini.folder.path()).env_remove("CARGO_MANIFEST_DIR").output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (passes, text) = tidy();
    assert!(passes && text.contains("3 crates, "), "{text}");
    mini.member("scheduler", "[dependencies]\nlongshore-types.workspace = true\n");
    mini.write("crates/scheduler/src/lib.rs", "//! Front page.\n\n/// Waits.\npub async fn wait() {}\n");
    mini.write("crates/types/src/lib.rs", "//! Front page.\n\nfn f() {\n    std::time::SystemTime::now();\n}\n");
    let (passes, text) = tidy();
    assert!(!passes, "{text}");
    for place in [
        "crates/scheduler/Cargo.toml:13: longshore-scheduler",
        "crates/scheduler/src/lib.rs:4: longshore-scheduler",
        "crates/types/src/lib.rs:4: longshore-types",
    ] {
        assert!(text.contains(place), "{text}");
    }
}

#[test]
fn a_folder_that_is_no_workspace_is_an_error() {
    assert!(tidy::check(Path::new("/nonexistent")).is_err());
}
