//! Measures the controller in a cluster on this machine: see `cargo xtask bench kube`, which builds this and that.
//!
//! One line of JSON per figure goes to standard output; what is being done, to standard error.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use longshore_kube_tests::bench::{Options, PARTS, Row, run};
use longshore_kube_tests::{Kit, images};

/// Measures the controller in a Kubernetes cluster on this machine.
#[derive(Parser)]
#[command(name = "kube-bench", max_term_width = 110)]
struct Args {
    /// How often what takes milliseconds is done
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Seconds that it is watched at rest
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    idle: u64,

    /// Only this part; may be given more than once
    #[arg(long, value_name = "PART", value_parser = PARTS.to_vec())]
    only: Vec<String>,

    /// A further flag of the controller, such as --controller=--log=debug
    #[arg(long = "controller", value_name = "FLAG", allow_hyphen_values = true)]
    flags: Vec<String>,

    /// Keep the cluster's files here: logs, the audit log among them; without it they go at the end
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Folder with the programs that are measured; this program's own where it is left out
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,

    /// Measure in the cluster in which this program was started
    #[arg(long, hide = true)]
    inside: bool,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.inside { inside(&args) } else { outside(args) }
}

/// Starts a cluster, and this program with the same arguments in it.
fn outside(args: Args) -> Result<ExitCode> {
    let kit = Kit::find()?;
    let (_temporary, dir) = match args.dir {
        Some(dir) => (None, dir),
        None => {
            let folder = tempfile::Builder::new().prefix("longshore-bench-").tempdir()?;
            let path = folder.path().to_owned();
            (Some(folder), path)
        }
    };
    let images = images::Table { programs: args.programs, ..images::Table::default() };
    let mut command = kit.run(&dir, &images).context("the cluster's folder")?;
    command.arg("--eager-probes").arg("--").arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    let status = command.arg("--inside").status().context("the kit")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn inside(args: &Args) -> Result<ExitCode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options {
        runs: args.runs as usize,
        idle: Duration::from_secs(args.idle),
        flags: args.flags.clone(),
        only: args.only.clone(),
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(&options, print));
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "it is the program's answer")]
fn print(row: &Row) {
    // A row is plain text and numbers; one that could not be shown would have no reader.
    println!("{}", serde_json::to_string(row).unwrap_or_default());
}
