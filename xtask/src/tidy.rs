//! `tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! [`check`] reads the workspace's manifests, its lock file and every text file, and returns what it found; a test of
//! this crate runs it over the workspace itself. Each rule is a module here and says in its front line what it holds.

mod arrows;
mod finding;
mod invariants;
mod links;
mod lock;
mod manifest;
mod prose;
mod purity;
mod source;
mod style;
mod tokens;
mod tree;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use finding::{Finding, Findings};
pub use invariants::{INVARIANTS, Naming};

use crate::Workspace;
use tree::Tree;

/// Check the rules of the house: arrows between crates, purity, manifests, lock file, style, prose and links.
#[derive(clap::Args)]
pub struct Args {
    /// Fail also where an invariant of ARCHITECTURE.md is named by no test
    #[arg(long)]
    invariants: bool,
}

/// What to do about the invariants that no test names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariants {
    /// Show the table of invariants and tests.
    Shown,
    /// Show it, and fail where an invariant has no test.
    Required,
}

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    let summary = run(workspace, if args.invariants { Invariants::Required } else { Invariants::Shown })?;
    println!("{summary}");
    Ok(())
}

/// Checks the workspace and prints what is found; the text says what was checked. An error where a rule is broken.
pub fn run(workspace: &Workspace, invariants: Invariants) -> Result<String> {
    let mut findings = check(workspace.root())?;
    let table = naming(workspace.root())?;
    print!("{table}");
    if invariants == Invariants::Required {
        findings.broken.extend(table.missing());
    }
    for note in &findings.notes {
        println!("note: {note}");
    }
    for broken in &findings.broken {
        println!("{broken}");
    }
    if !findings.broken.is_empty() {
        bail!("{} broken", plural(findings.broken.len(), "rule"));
    }
    Ok(format!("{} crates, {} files", findings.crates, findings.files))
}

/// Checks every rule but the invariants' in the workspace at `root`.
pub fn check(root: &Path) -> Result<Findings> {
    Ok(check_timed(root)?.0)
}

/// [`check`], with the time that each rule took.
pub(crate) fn check_timed(root: &Path) -> Result<(Findings, Vec<(&'static str, Duration)>)> {
    let mut times = Vec::new();
    let mut clock = Instant::now();
    let mut lap = |name| {
        times.push((name, clock.elapsed()));
        clock = Instant::now();
    };
    let tree = Tree::read(root)?;
    lap("read");
    let mut findings = Findings { crates: tree.crates.len(), files: tree.files.len(), ..Findings::default() };
    arrows::check(&tree, &mut findings);
    manifest::check(&tree, &mut findings);
    lap("manifests");
    // Before the lock file, which `cargo tree` writes where there is none.
    purity::check_dependencies(&tree, &mut findings)?;
    lap("pure dependencies");
    lock::check(&tree, &mut findings)?;
    lap("lock file");
    purity::check_source(&tree, &mut findings);
    style::check(&tree, &mut findings);
    lap("source");
    prose::check(&tree, &mut findings);
    links::check(&tree, &mut findings);
    lap("prose");
    findings.broken.sort();
    findings.broken.dedup();
    Ok((findings, times))
}

/// Which tests name which invariant, in the workspace at `root`.
pub fn naming(root: &Path) -> Result<Naming> {
    Ok(Naming::of(&Tree::read(root)?))
}

/// `1 rule`, `2 rules`.
fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
