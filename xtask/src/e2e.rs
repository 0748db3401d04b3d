//! `e2e`: the tests that need the real thing.

use anyhow::{Context, Result, bail};
use cargo_metadata::TargetKind;

use crate::setup::{Missing, Of};
use crate::{Counts, Workspace, clients, kube, shell};

/// Run the tests that need a real engine, a real cluster or other people's clients.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(clap::Subcommand)]
enum Suite {
    /// Against real vLLM servers on the CPU, in both versions that the docs name
    ///
    /// Prepares them with tests/vllm/setup.sh (some gigabytes in the cache folder, once), then runs the test targets
    /// with LONGSHORE_VLLM=1, one test at a time: that variable is what turns these tests on.
    Vllm,
    /// On a Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager, with pods as processes
    ///
    /// Builds our programs, the tests and the cluster (tests/kube/kit, in Go: some minutes the first time, cached after
    /// that), then runs the tests with LONGSHORE_KUBE=1: that variable is what turns them on. One of them runs a real vLLM in
    /// a pod, where vLLM can run. After a run of all of them, their audit logs are held against what is granted, as by
    /// `cargo xtask rbac-audit`. Where KUBECONFIG names a cluster, the tests that can run on any are run there.
    Kube(kube::Tests),
    /// With the clients of other people's services: they have to get from our stand-ins what they get from the real ones
    ///
    /// Installs each with tests/clients/setup.sh (some MB in the cache folder, once), then runs the test targets that need
    /// it with LONGSHORE_CLIENTS set: that variable is what turns these tests on.
    Clients(clients::Args),
}

/// The vLLM versions that the tests run against, as the docs name them.
pub const VLLM_VERSIONS: &[&str] = &["0.11.0", "0.32.0"];

/// Turns the real-engine tests on; without it they say that they were not run.
pub const VLLM_VARIABLE: &str = "LONGSHORE_VLLM";

/// Package and test target. The first must be there; a later one is run where it is.
const VLLM_TARGETS: &[(&str, &str)] = &[("longshore-testkit", "real_vllm"), ("longshore", "up_vllm")];

const SETUP: &str = "tests/vllm/setup.sh";

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.suite {
        Suite::Vllm => {
            if let Some(reason) = vllm_cannot_run(workspace) {
                bail!("{reason}");
            }
            let mut counts = Counts::default();
            let outcome = vllm(workspace, &mut counts);
            println!("vllm: {counts}");
            outcome
        }
        Suite::Kube(args) => {
            if let Some(reason) = kube::cannot_run() {
                bail!("{reason}");
            }
            let mut counts = Counts::default();
            let outcome = kube::tests(workspace, args, &mut counts);
            println!("kube: {counts}");
            outcome
        }
        Suite::Clients(args) => {
            if let Some(reason) = clients::cannot_run() {
                bail!("{reason}");
            }
            let mut counts = Counts::default();
            let outcome = clients::tests(workspace, args, &mut counts);
            println!("clients: {counts}");
            outcome
        }
    }
}

/// Why the vLLM suite cannot run on this machine, if so.
pub fn vllm_cannot_run(workspace: &Workspace) -> Option<String> {
    if !workspace.root().join(SETUP).is_file() {
        return Some(format!("{SETUP} is not there"));
    }
    let missing = Missing::of(Of::Vllm);
    (!missing.is_empty()).then(|| missing.to_string())
}

/// Prepares every version, then runs every target; adds what the tests said to `counts`.
pub fn vllm(workspace: &Workspace, counts: &mut Counts) -> Result<()> {
    for version in VLLM_VERSIONS {
        let mut setup = std::process::Command::new("bash");
        setup.arg(SETUP).arg(version).current_dir(workspace.root());
        shell::run(&mut setup).with_context(|| format!("cannot prepare vLLM {version}"))?;
    }
    let mut failed = Vec::new();
    for (package, target) in targets(workspace)? {
        let mut tests = workspace.cargo("test");
        tests.args(["--package", package, "--test", target, "--", "--nocapture", "--test-threads=1"]);
        tests.env(VLLM_VARIABLE, "1");
        if let Err(error) = shell::run_tests(&mut tests, counts) {
            println!("{package} {target}: {error:#}");
            failed.push(target);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<(&'static str, &'static str)>> {
    let metadata = workspace.metadata()?;
    let exists = |package: &str, target: &str| {
        metadata
            .packages
            .iter()
            .filter(|candidate| candidate.name.as_str() == package)
            .flat_map(|candidate| &candidate.targets)
            .any(|candidate| candidate.name == target && candidate.kind.contains(&TargetKind::Test))
    };
    let (first_package, first_target) = VLLM_TARGETS[0];
    if !exists(first_package, first_target) {
        bail!("{first_package} has no test target {first_target}");
    }
    Ok(VLLM_TARGETS.iter().copied().filter(|(package, target)| exists(package, target)).collect())
}
