//! A cluster for a person or a script: see `cargo xtask kube`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use longshore_kube_tests::{Kit, images};

/// A Kubernetes cluster on this machine, as long as a command runs in it.
#[derive(Parser)]
#[command(name = "kube-kit", max_term_width = 110)]
enum Args {
    /// Build the kit where it is not built yet, and print the folder with its main program
    Build,
    /// Start a cluster, run a command in it with KUBECONFIG set and kubectl on its PATH, and end all of it
    Run(Run),
}

#[derive(clap::Args)]
struct Run {
    /// Keep the cluster's files here: logs/, pods/, kubeconfig; without it they go when the command ends
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Apply this folder with kubectl first, and wait until its Deployments are rolled out
    #[arg(long, value_name = "FOLDER")]
    deploy: Option<PathBuf>,

    /// Folder with the programs that stand for our images; this program's own where it is left out
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,

    /// Flags of the kit itself, such as --kit=--status-delay=1s
    #[arg(long = "kit", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,

    /// What to run; your shell where it is left out
    #[arg(last = true)]
    command: Vec<String>,
}

/// `$1` is the folder to apply; the rest is the command.
const DEPLOY: &str = r#"kubectl apply --server-side -k "$1" &&
    kubectl rollout status --timeout=120s -n longshore-system deployment >&2 || exit
shift
exec "$@""#;

fn main() -> Result<ExitCode> {
    match Args::parse() {
        Args::Build => {
            println_path(&Kit::find()?.program());
            Ok(ExitCode::SUCCESS)
        }
        Args::Run(args) => run(args),
    }
}

fn run(args: Run) -> Result<ExitCode> {
    let kit = Kit::find()?;
    let (_temporary, dir) = match args.dir {
        Some(dir) => (None, dir),
        None => {
            let folder = tempfile::Builder::new().prefix("longshore-kube-").tempdir()?;
            let path = folder.path().to_owned();
            (Some(folder), path)
        }
    };
    let mut command = kit
        .run(&dir, &images::Table { programs: args.programs, ..images::Table::default() })
        .context("the cluster's folder")?;
    command.arg("--eager-probes").args(&args.flags).arg("--");
    if let Some(folder) = args.deploy {
        command.args(["sh", "-c", DEPLOY, "sh"]).arg(std::path::absolute(folder)?);
    }
    if args.command.is_empty() {
        command.arg(std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "sh".into()));
    } else {
        command.args(args.command);
    }
    let status = command.status().context("the kit")?;
    // A signal's end has no code; the kit itself says 128 and more for what it runs.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

#[allow(clippy::print_stdout, reason = "it is the command's answer")]
fn println_path(path: &std::path::Path) {
    println!("{}", path.display());
}
