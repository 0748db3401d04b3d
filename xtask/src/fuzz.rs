//! `fuzz`: runs the fuzz targets, and says how much of it was done.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use cargo_metadata::Package;

use crate::workspace::members;
use crate::{Workspace, shell};

/// The toolchain that cargo-fuzz needs.
const TOOLCHAIN: &str = "nightly";
/// Inputs that take longer than this many seconds are findings.
const TIMEOUT: u32 = 10;
/// Inputs that take more than this many MiB of memory are findings.
const MEMORY: u32 = 1024;

/// Run the fuzz targets in fuzz/, one after the other: every parser and unpacker
///
/// Needs a nightly toolchain and cargo-fuzz (`cargo +nightly install cargo-fuzz`). Each target starts from its seeds in
/// fuzz/seeds and from what earlier runs on this machine found worth keeping. An input that fails is kept in
/// fuzz/artifacts.
#[derive(clap::Args)]
pub struct Args {
    /// Which targets [default: all]
    targets: Vec<String>,

    /// Executions of each target; 0 only runs what is known already
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    runs: u64,

    /// End each target after this time, whatever it has done
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    seconds: u64,

    /// The sanitizer that watches: `address` also sees what code in C does wrong, and is six times slower. Our own code has
    /// no unsafe part
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = ["none", "address"])]
    sanitizer: String,

    /// Say what targets there are; run nothing
    #[arg(long)]
    list: bool,

    /// Write the seeds anew, as fuzz/generate says; run nothing
    #[arg(long)]
    write_seeds: bool,
}

/// What one target has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats {
    executions: u64,
    /// On average.
    per_second: u64,
    /// MiB.
    memory: u64,
}

impl Stats {
    /// Reads a line of libFuzzer's final statistics.
    fn read(&mut self, line: &str) {
        let Some((name, number)) = line.trim().strip_prefix("stat::").and_then(|line| line.split_once(':')) else {
            return;
        };
        let Ok(number) = number.trim().parse() else { return };
        match name {
            "number_of_executed_units" => self.executions = number,
            "average_exec_per_sec" => self.per_second = number,
            "peak_rss_mb" => self.memory = number,
            _ => {}
        }
    }
}

/// `10000000 executions, 21000 a second, 420 MiB`.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} executions, {} a second, {} MiB", self.executions, self.per_second, self.memory)
    }
}

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    let folder = workspace.root().join("fuzz");
    if args.write_seeds {
        let mut command = workspace.cargo("run");
        return shell::run(command.args(["--quiet", "--package", "longshore-fuzz-seeds"]).current_dir(&folder));
    }
    let known = targets(&folder)?;
    if args.list {
        println!("{}", known.join("\n"));
        return Ok(());
    }
    if let Some(unknown) = args.targets.iter().find(|target| !known.contains(target)) {
        bail!("no target is called {unknown}; there is: {}", known.join(", "));
    }
    if !shell::quiet(fuzz(workspace).arg("--version")) {
        bail!(
            "cargo-fuzz cannot be run: rustup toolchain install {TOOLCHAIN} && cargo +{TOOLCHAIN} install cargo-fuzz"
        );
    }
    let mut outcomes = Vec::new();
    for target in if args.targets.is_empty() { &known } else { &args.targets } {
        let outcome = run(workspace, &folder, target, args).with_context(|| format!("{target} failed"));
        outcomes.push((target, outcome));
    }
    let width = known.iter().map(String::len).max().unwrap_or_default();
    for (target, outcome) in &outcomes {
        match outcome {
            Ok(stats) => println!("{target:width$}  {stats}"),
            Err(error) => println!("{target:width$}  {error:#}"),
        }
    }
    match outcomes.iter().filter(|(_, outcome)| outcome.is_err()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} targets failed", outcomes.len()),
    }
}

/// Runs one target to its end.
fn run(workspace: &Workspace, folder: &Path, target: &str, args: &Args) -> Result<Stats> {
    let (seeds, found) = (folder.join("seeds").join(target), corpus(workspace, target));
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let mut command = fuzz(workspace);
    command.args(["run", "--fuzz-dir"]).arg(folder).args(["--sanitizer", &args.sanitizer, target]).arg(found);
    // libFuzzer adds what it finds to the first folder only.
    command.args(seeds.is_dir().then_some(seeds)).arg("--");
    command.args([format!("-runs={}", args.runs), format!("-timeout={TIMEOUT}"), format!("-rss_limit_mb={MEMORY}")]);
    command.args((args.seconds > 0).then(|| format!("-max_total_time={}", args.seconds)));
    command.arg("-print_final_stats=1");
    println!("== {target}");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
    let stderr = child.stderr.take().expect("stderr is piped two lines above");
    let mut stats = Stats::default();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("cannot read what the target says")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        stats.read(&line);
    }
    let status = child.wait().context("cannot wait for the target")?;
    if !status.success() {
        bail!("{status} after {stats}; the input is in {}", folder.join("artifacts").join(target).display());
    }
    Ok(stats)
}

/// Where what a target finds is kept: outside the source tree.
fn corpus(workspace: &Workspace, target: &str) -> PathBuf {
    workspace.target().join("fuzz-corpus").join(target)
}

/// `cargo fuzz`, under the toolchain that it needs, whatever this program was built with.
fn fuzz(workspace: &Workspace) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", TOOLCHAIN, "cargo", "fuzz"]).current_dir(workspace.root());
    // Its builds have other flags than all others, and would drive them out.
    command.env("CARGO_TARGET_DIR", workspace.target().join("fuzz"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"].contains(&&*name) || name.starts_with("CARGO_PKG_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// The targets of the workspace in `folder`, by name.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let fuzzed = |package: &&Package| package.metadata.get("cargo-fuzz").is_some();
    let metadata = members(folder)?;
    let targets = metadata.packages.iter().filter(fuzzed).flat_map(|package| &package.targets);
    let mut names: Vec<_> = targets.filter(|target| target.is_bin()).map(|target| target.name.clone()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_has_done_is_read_from_its_last_words() {
        let mut stats = Stats::default();
        for line in [
            "Done 1000 runs in 2 second(s)",
            "stat::number_of_executed_units: 1000",
            "stat::average_exec_per_sec:     500",
            "stat::new_units_added:          3",
            "stat::peak_rss_mb:              41",
        ] {
            stats.read(line);
        }
        assert_eq!(stats, Stats { executions: 1000, per_second: 500, memory: 41 });
        assert_eq!(stats.to_string(), "1000 executions, 500 a second, 41 MiB");
    }

    #[test]
    fn every_target_has_seeds_and_a_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let targets = targets(&folder).unwrap();
        assert!(targets.len() >= 11, "{targets:?}");
        for target in targets {
            assert!(folder.join("targets").join(&target).with_extension("rs").is_file(), "{target}");
            assert!(fs::read_dir(folder.join("seeds").join(&target)).is_ok_and(|seeds| seeds.count() > 0), "{target}");
        }
    }
}
