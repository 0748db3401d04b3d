//! `kube`: a Kubernetes cluster on this machine, for a person and for the tests.
//!
//! What starts it is a program of the package with the tests; this crate only builds and calls it, since it would take
//! minutes to compile with a client for Kubernetes in it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Missing, Of};
use crate::{Counts, Workspace, deploy, e2e, shell};

/// Run a command, or your shell, in a Kubernetes cluster on this machine that is gone when it ends.
///
/// The cluster is etcd, kube-apiserver and kube-controller-manager in namespaces of their own, with pods as processes. The
/// programs of this workspace stand for their images. KUBECONFIG is set, and kubectl is on the PATH.
#[derive(clap::Args)]
pub struct Args {
    /// Apply deploy/ first, and wait until the controller and the router run
    #[arg(long)]
    deploy: bool,

    /// Keep the cluster's files here, logs among them; without it they go when the command ends
    #[arg(long)]
    dir: Option<PathBuf>,

    /// What to run; your shell where it is left out
    #[arg(last = true)]
    command: Vec<String>,
}

/// Which of the tests on a cluster are run.
#[derive(clap::Args, Default)]
pub struct Tests {
    /// Only test targets of this name; all of them where it is left out
    #[arg(long = "test", value_name = "NAME")]
    targets: Vec<String>,

    /// Only tests whose names have this in them
    filter: Option<String>,
}

/// Turns the tests on a cluster on; without it they say that they were not run.
pub const VARIABLE: &str = "LONGSHORE_KUBE";

/// A folder in which tests that pass leave their audit logs.
const AUDIT: &str = "LONGSHORE_KUBE_AUDIT";

/// Names a cluster that somebody else runs.
const KUBECONFIG: &str = "KUBECONFIG";

/// The package with the tests, and with the program that starts a cluster.
pub(crate) const PACKAGE: &str = "longshore-kube-tests";

/// The controller: its package and its program.
pub(crate) const CONTROLLER: &str = "longshore-controller";

/// The programs that run in the cluster.
const PROGRAMS: &[&str] = &["longshore", CONTROLLER, "longshore-router"];

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Some(reason) = cannot_start() {
        bail!("{reason}");
    }
    let mut command = Command::new(build(workspace)?);
    command.arg("run");
    if args.deploy {
        command.arg("--deploy").arg(workspace.root().join("deploy"));
    }
    if let Some(dir) = &args.dir {
        command.arg("--dir").arg(dir);
    }
    command.arg("--").args(&args.command);
    let status = command.status().context("cannot start the cluster")?;
    if !status.success() {
        bail!("the command ended with {status}");
    }
    Ok(())
}

/// Why the tests cannot run on this machine, if so: no cluster can be started, and `KUBECONFIG` names none.
pub fn cannot_run() -> Option<String> {
    if has_kubeconfig() { None } else { cannot_start() }
}

/// Why no cluster can be started on this machine, if so.
pub(crate) fn cannot_start() -> Option<String> {
    let missing = Missing::of(Of::Cluster);
    if !missing.is_empty() {
        return Some(missing.to_string());
    }
    (!setup::is_root()).then(|| "a cluster needs root, to make namespaces and mounts".to_owned())
}

fn has_kubeconfig() -> bool {
    env::var_os(KUBECONFIG).is_some_and(|value| !value.is_empty())
}

/// Builds what the tests need, then runs them; adds what they said to `counts`.
pub fn tests(workspace: &Workspace, args: &Tests, counts: &mut Counts) -> Result<()> {
    let starter = build(workspace)?;
    if !has_kubeconfig() {
        // Now, where its output is seen; a test would build it in silence.
        let begun = Instant::now();
        shell::run(Command::new(starter).arg("build")).context("cannot build the cluster")?;
        println!("the cluster is built: {}", shell::seconds(begun.elapsed()));
    }
    let mut tests = workspace.cargo("test");
    tests.args(["--package", PACKAGE, "--no-fail-fast"]);
    if args.targets.is_empty() {
        tests.args(["--test", "*"]);
    }
    for target in &args.targets {
        tests.args(["--test", target]);
    }
    let logs = tempfile::tempdir()?;
    tests.args(&args.filter).env(VARIABLE, "1").env(AUDIT, logs.path());
    if e2e::vllm_cannot_run(workspace).is_none() {
        // One of them runs a real engine in a pod.
        tests.env(e2e::VLLM_VARIABLE, "1");
    }
    shell::run_tests(&mut tests, counts)?;
    // Some tests alone do not use all that is granted.
    if args.targets.is_empty() && args.filter.is_none() && !has_kubeconfig() {
        let entries: Vec<_> = fs::read_dir(logs.path())?.collect::<Result<_, _>>()?;
        let audited = deploy::audit_of(&entries.iter().map(fs::DirEntry::path).collect::<Vec<_>>());
        if let Err(error) = audited {
            let kept = logs.keep();
            return Err(error.context(format!("the audit logs of all tests, kept in {}", kept.display())));
        }
    }
    Ok(())
}

/// Builds the programs that run in a cluster and the one that starts it, whose path this is.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo("build");
    for package in PROGRAMS {
        build.args(["--package", package]);
    }
    shell::run(build.args(["--package", PACKAGE, "--bins"]))?;
    Ok(workspace.target().join("debug/kube-kit"))
}
