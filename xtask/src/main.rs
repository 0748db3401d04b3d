//! `cargo xtask`: arguments and nothing else; each task is a module of the library beside this file.

#![allow(clippy::print_stderr, reason = "errors go there")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{Workspace, bench, crds, deploy, e2e, fuzz, kube, setup, test, tidy};

/// Longshore's development tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Setup(setup::Args),
    Tidy(tidy::Args),
    Test(test::Args),
    E2e(e2e::Args),
    Kube(kube::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    Crds(crds::Args),
    Rbac(deploy::RbacArgs),
    #[command(hide = true)]
    RbacAudit(deploy::AuditArgs),
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match &args.task {
        Task::Setup(args) => setup::main(args),
        Task::Tidy(args) => tidy::main(&workspace, args),
        Task::Test(args) => test::main(&workspace, args),
        Task::E2e(args) => e2e::main(&workspace, args),
        Task::Kube(args) => kube::main(&workspace, args),
        Task::Bench(args) => bench::main(&workspace, args),
        Task::Fuzz(args) => fuzz::main(&workspace, args),
        Task::Crds(args) => crds::main(&workspace, args),
        Task::Rbac(args) => deploy::rbac(&workspace, args),
        Task::RbacAudit(args) => deploy::audit(args),
    }
}
