//! The book is held against the program: its commands parse, its reasons exist, its links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::args::Args;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page that people read, by its path below the root.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = vec![root().join("README.md"), root().join("samples/README.md"), root().join("ARCHITECTURE.md")];
    let docs = fs::read_dir(root().join("docs")).unwrap();
    pages
        .extend(docs.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md")));
    pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The commands behind a `$` that run the program, with lines that are continued put together.
fn commands(page: &str) -> Vec<String> {
    let page = page.replace("\\\n", " ");
    let lines = page.lines().filter_map(|line| line.trim_start().strip_prefix("$ "));
    lines.filter(|line| line.starts_with("longshore ")).map(|line| line.trim_end_matches('&').to_owned()).collect()
}

#[test]
fn every_command_in_the_book_is_one_that_the_program_understands() {
    let mut count = 0;
    for (path, page) in pages() {
        for command in commands(&page) {
            let parsed = Args::try_parse_from(command.split_whitespace());
            assert!(parsed.is_ok(), "{}: {command}\n{}", path.display(), parsed.unwrap_err());
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} commands were found");
}

#[test]
fn every_reason_and_event_in_the_book_is_one_that_the_code_knows() {
    let mut code = String::new();
    for part in ["api", "artifacts", "cluster", "engine", "reconciler"] {
        read_below(&root().join("crates").join(part).join("src"), &mut code);
    }
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let mut words = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        // The first column names them; of a condition, the second column does.
        let cells: Vec<&str> = row.split(" | ").collect();
        let named = if cells.len() == 2 { row } else { cells[0] };
        let quoted = named.split('`').skip(1).step_by(2);
        words.extend(quoted.filter(|word| word.chars().all(char::is_alphanumeric)).map(str::to_owned));
    }
    assert!(words.len() > 70, "{words:?}");
    let invented: Vec<&String> = words.iter().filter(|word| !code.contains(&format!("\"{word}\""))).collect();
    assert!(invented.is_empty(), "nothing in the code says {invented:?}");
}

#[test]
fn every_defect_of_an_adapter_that_the_code_knows_is_in_the_book() {
    let code = fs::read_to_string(root().join("crates/artifacts/src/verify/defect.rs")).unwrap()
        + &fs::read_to_string(root().join("crates/engine/src/error/refusal.rs")).unwrap();
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    // They need the base model's own config.json, which is not looked at outside a cluster.
    let later = ["LayerMissing", "ModuleMissing", "ShapeMismatch", "BaseInvalid"];
    let reasons = code.lines().filter(|line| line.contains("=> \"")).filter_map(|line| line.split('"').nth(1));
    let reasons: Vec<&str> = reasons.filter(|reason| reason.chars().all(char::is_alphanumeric)).collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    let missing: Vec<&&str> =
        reasons.iter().filter(|reason| !later.contains(reason) && !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "{missing:?} are not explained");
}

#[test]
fn every_refusal_of_an_adapter_is_explained_and_none_is_made_up() {
    let mut code = String::new();
    read_below(&root().join("crates/artifacts/src"), &mut code);
    let page = fs::read_to_string(root().join("docs/artifacts.md")).unwrap();
    let (_, page) = page.split_once("## Why it is refused").unwrap();
    let is_reason = |word: &&str| word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphabetic);
    let first_cells = page.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    let explained: BTreeSet<&str> = first_cells.flat_map(|cell| cell.split('`')).filter(is_reason).collect();
    // `reason()` has one line for each, or gives on what another place says.
    let files = ["error.rs", "verify/defect.rs"].map(|file| root().join("crates/artifacts/src").join(file));
    let reasons = files.map(|path| fs::read_to_string(path).unwrap()).join("\n");
    let reasons: BTreeSet<&str> =
        reasons.lines().filter_map(|line| line.split("=> \"").nth(1)?.split('"').next()).collect();
    let reasons: BTreeSet<&str> = reasons.into_iter().filter(is_reason).collect();
    assert!(reasons.len() > 30, "{reasons:?}");
    let missing: Vec<&&str> = reasons.difference(&explained).collect();
    assert!(missing.is_empty(), "{missing:?} are not explained");
    let invented: Vec<&&str> = explained.iter().filter(|word| !code.contains(&format!("\"{word}\""))).collect();
    assert!(invented.is_empty(), "nothing in the code says {invented:?}");
}

#[test]
fn every_link_in_the_book_leads_to_a_file() {
    for (path, page) in pages() {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let there = file.is_empty() || file.contains("://") || path.with_file_name(file).exists();
            assert!(there, "{}: {link}", path.display());
        }
    }
}

fn read_below(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, text);
        } else {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
