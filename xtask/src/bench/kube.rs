//! `bench kube`: what the controller costs in a cluster, and how soon what happens there takes effect.
//!
//! The cluster, the engines and the measuring are a program of the package with the tests on a cluster, since this crate has
//! no client for Kubernetes; it is built here with the release profile, like the controller. Its rows are passed on.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Options, Report};
use crate::{Workspace, kube};

/// How often what takes milliseconds is done, per run that was asked for: a median of 50 with the five runs that are the
/// default.
const TIMES: u32 = 10;

/// A row as the program prints it.
#[derive(Deserialize)]
struct Line {
    name: String,
    value: f64,
    unit: String,
    against: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<Report> {
    if let Some(reason) = kube::cannot_start() {
        bail!("{reason}");
    }
    let program = build(&options.workspace)?;
    let mut command = Command::new(&program);
    command.args(["--runs", &(options.runs * TIMES).to_string(), "--idle", &options.idle.as_secs().to_string()]);
    if let Some(controller) = &options.program {
        let folder = controller.parent().filter(|_| controller.ends_with(kube::CONTROLLER));
        let folder = folder.with_context(|| format!("{} is not called {}", controller.display(), kube::CONTROLLER))?;
        command.arg("--programs").arg(std::path::absolute(folder)?);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the bench")?;
    let lines = BufReader::new(child.stdout.take().context("the bench has an output")?).lines();
    let report = read(lines.map(|line| line.context("the bench's output")));
    let status = child.wait().context("cannot wait for the bench")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    report
}

/// What the lines say, each of them a row.
fn read(lines: impl Iterator<Item = Result<String>>) -> Result<Report> {
    let mut report = Report::new("kube");
    for line in lines {
        let line = line?;
        let row: Line = serde_json::from_str(&line).with_context(|| format!("no row of the bench: {line}"))?;
        match &row.against {
            Some(against) => report.row_against(&row.name, row.value, &row.unit, against)?,
            None => report.row(&row.name, row.value, &row.unit)?,
        }
    }
    Ok(report)
}

/// Builds the controller and what measures it, in one folder, and the cluster; the path of what measures.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo("build");
    build.args(["--release", "--package", kube::CONTROLLER, "--package", kube::PACKAGE, "--bins"]);
    quietly(&mut build)?;
    let programs = workspace.target().join("release");
    // The cluster itself, here where its output is seen; it takes minutes the first time.
    quietly(Command::new(programs.join("kube-kit")).arg("build"))?;
    Ok(programs.join("kube-bench"))
}

/// Runs a command that may say what it does only on standard error: standard output is the report's.
fn quietly(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(lines: &[&str]) -> Result<Report> {
        read(lines.iter().map(|line| Ok((*line).to_owned())))
    }

    #[test]
    fn the_rows_of_the_program_become_a_report() {
        let report = read_all(&[
            r#"{"name":"bare","value":5.0,"unit":"ms","against":null}"#,
            r#"{"name":"ours","value":10.0,"unit":"ms","against":"bare"}"#,
        ]);
        let report = report.unwrap();
        assert_eq!(report.rows()[0].ratio, None);
        assert_eq!((report.rows()[1].against.as_deref(), report.rows()[1].ratio), (Some("bare"), Some(2.0)));
    }

    #[test]
    fn what_is_no_row_is_an_error_and_not_left_out() {
        assert!(read_all(&["thread 'main' panicked"]).is_err());
    }
}
