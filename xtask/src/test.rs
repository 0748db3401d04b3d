//! `test`: every check, in order, each with its time, and a table at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{Counts, Workspace, clients, e2e, kube, shell, tidy};

/// Run every check in order, then show what passed, failed or could not run.
///
/// A failing part does not stop the later ones. Cargo builds into CARGO_TARGET_DIR; where that is unset, into
/// longshore/target of the cache folder.
#[derive(clap::Args)]
pub struct Args {
    /// Run only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,

    /// A part that cannot run on this machine is a failure, as in CI; without it that is only said
    #[arg(long)]
    require_all: bool,
}

/// One part of the whole, in the order in which they run: cheap ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The source is formatted as rustfmt has it
    Fmt,
    /// The rules of the house: see `cargo xtask tidy`
    Tidy,
    /// Licenses, bans and sources of what we depend on, by cargo-deny where it is installed
    Deny,
    /// No warning from the compiler or clippy, tests and benches included
    Clippy,
    /// All tests and doctests
    Test,
    /// The API documentation builds without a warning
    Doc,
    /// The tests with the clients of other people's services: see `cargo xtask e2e clients`
    Clients,
    /// The tests against real vLLM servers: see `cargo xtask e2e vllm`
    Vllm,
    /// The tests on a Kubernetes control plane: see `cargo xtask e2e kube`
    Kube,
}

/// How a part ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed(String),
    Failed(String),
    NotRun(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "FAILED",
            Self::NotRun(_) => "not run",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Passed(detail) | Self::Failed(detail) | Self::NotRun(detail) => detail,
        }
    }
}

/// One line of the table.
struct Row {
    part: Part,
    outcome: Outcome,
    time: Duration,
}

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    let parts = if args.parts.is_empty() { Part::value_variants() } else { &args.parts };
    println!("building into {}", workspace.target().display());
    let mut counts = Counts::default();
    let mut rows = Vec::new();
    for &part in parts {
        println!("\n==> {}", part.title());
        let start = Instant::now();
        let outcome = judge(part, args.require_all, part.run(workspace, &mut counts));
        let time = start.elapsed();
        let line = format!("<== {}: {}, {}  {}", part.title(), outcome.word(), shell::seconds(time), outcome.detail());
        println!("{}", line.trim_end());
        rows.push(Row { part, outcome, time });
    }
    print!("\n{}", table(&rows));
    if counts != Counts::default() {
        println!("\ntests: {counts}");
    }
    let failed: Vec<_> =
        rows.iter().filter(|row| matches!(row.outcome, Outcome::Failed(_))).map(|row| row.part.title()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// An error is a failure; so is a part that could not run, where every part must.
fn judge(part: Part, require_all: bool, result: Result<Outcome>) -> Outcome {
    match result {
        Ok(Outcome::NotRun(reason)) if require_all && !part.is_optional() => {
            Outcome::Failed(format!("could not run: {reason}"))
        }
        Ok(outcome) => outcome,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn table(rows: &[Row]) -> String {
    let width = |text: fn(&Row) -> String| rows.iter().map(|row| text(row).len()).max().unwrap_or(0);
    let title = width(|row| row.part.title().into());
    let time = width(|row| shell::seconds(row.time));
    let mut text = String::new();
    for row in rows {
        let line = format!(
            "{:title$}  {:7}  {:>time$}  {}",
            row.part.title(),
            row.outcome.word(),
            shell::seconds(row.time),
            row.outcome.detail(),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Deny => "deny",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Doc => "doc",
            Self::Clients => "e2e clients",
            Self::Vllm => "e2e vllm",
            Self::Kube => "e2e kube",
        }
    }

    /// A part that even `--require-all` does without. cargo-deny takes minutes to build, and tidy itself reads the lock
    /// file for the crates and sources that must never get in.
    fn is_optional(self) -> bool {
        self == Self::Deny
    }

    fn run(self, workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
        let passed = || Outcome::Passed(String::new());
        match self {
            Self::Fmt => shell::run(workspace.cargo("fmt").args(["--all", "--check"])).map(|()| passed()),
            Self::Tidy => tidy::run(workspace, tidy::Invariants::Shown).map(Outcome::Passed),
            Self::Deny => deny(workspace),
            Self::Clippy => {
                let mut clippy = workspace.cargo("clippy");
                shell::run(clippy.args(["--workspace", "--all-targets", "--", "-D", "warnings"])).map(|()| passed())
            }
            Self::Test => {
                let own = shell::run_tests(workspace.cargo("test").args(["--workspace", "--no-fail-fast"]), counts)?;
                Ok(Outcome::Passed(own.to_string()))
            }
            Self::Doc => {
                let mut doc = workspace.cargo("doc");
                doc.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
                shell::run(&mut doc).map(|()| passed())
            }
            Self::Clients => clients(workspace, counts),
            Self::Vllm => vllm(workspace, counts),
            Self::Kube => kube(workspace, counts),
        }
    }
}

/// Advisories are left out: their database is not part of a build, and a new entry must not fail an old commit.
fn deny(workspace: &Workspace) -> Result<Outcome> {
    if !shell::quiet(workspace.cargo("deny").arg("--version")) {
        return Ok(Outcome::NotRun("cargo-deny is not installed; tidy has read the lock file".into()));
    }
    shell::run(workspace.cargo("deny").args(["check", "licenses", "bans", "sources"]))?;
    Ok(Outcome::Passed(String::new()))
}

fn clients(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    if let Some(reason) = clients::cannot_run() {
        return Ok(Outcome::NotRun(reason));
    }
    let mut own = Counts::default();
    let outcome = clients::tests(workspace, &clients::Args::default(), &mut own);
    *counts += own;
    outcome.map(|()| Outcome::Passed(own.to_string()))
}

fn vllm(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    if let Some(reason) = e2e::vllm_cannot_run(workspace) {
        return Ok(Outcome::NotRun(reason));
    }
    let mut own = Counts::default();
    let outcome = e2e::vllm(workspace, &mut own);
    *counts += own;
    outcome.map(|()| Outcome::Passed(own.to_string()))
}

fn kube(workspace: &Workspace, counts: &mut Counts) -> Result<Outcome> {
    if let Some(reason) = kube::cannot_run() {
        return Ok(Outcome::NotRun(reason));
    }
    let mut own = Counts::default();
    let outcome = kube::tests(workspace, &kube::Tests::default(), &mut own);
    *counts += own;
    outcome.map(|()| Outcome::Passed(own.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_run() -> Result<Outcome> {
        Ok(Outcome::NotRun("no python3.11".into()))
    }

    #[test]
    fn a_part_that_cannot_run_is_said_and_fails_only_where_all_are_required() {
        assert_eq!(judge(Part::Vllm, false, not_run()), Outcome::NotRun("no python3.11".into()));
        assert_eq!(judge(Part::Vllm, true, not_run()), Outcome::Failed("could not run: no python3.11".into()));
        assert_eq!(judge(Part::Deny, true, not_run()), Outcome::NotRun("no python3.11".into()));
    }

    #[test]
    fn an_error_is_a_failure_that_keeps_its_text() {
        let error = Err(anyhow::anyhow!("two warnings").context("cargo clippy fails"));
        assert_eq!(judge(Part::Clippy, false, error), Outcome::Failed("cargo clippy fails: two warnings".into()));
    }

    #[test]
    fn the_table_lines_up() {
        let row = |part, outcome, millis| Row { part, outcome, time: Duration::from_millis(millis) };
        let rows = [
            row(Part::Fmt, Outcome::Passed(String::new()), 900),
            row(Part::Test, Outcome::Passed("7 passed, 0 failed, 0 skipped".into()), 75_000),
            row(Part::Vllm, Outcome::NotRun("no python3.11".into()), 0),
        ];
        let expected = "\
fmt       passed        0.9 s
test      passed   1 min 15 s  7 passed, 0 failed, 0 skipped
e2e vllm  not run       0.0 s  no python3.11
";
        assert_eq!(table(&rows), expected);
    }
}
