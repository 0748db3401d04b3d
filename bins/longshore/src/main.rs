//! `longshore`: serve LoRA adapters on engines without a cluster, and look at what is served.

mod args;
#[cfg(test)]
mod docs;
mod explain;
mod fleet;
mod get;
mod sim_engine;
mod table;
mod up;

use std::process::ExitCode;

use clap::Parser;
use longshore_runtime::{crypto, telemetry};

use args::{Args, Command};

fn main() -> ExitCode {
    crypto::install();
    let args = Args::parse();
    let logs = args.log.is_some();
    let outcome = telemetry::init(args.log_format, &args.filter())
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?))
        .and_then(|runtime| {
            runtime.block_on(async {
                match args.command {
                    Command::Up(args) => up::run(*args, logs).await,
                    Command::Get(args) => get::run(args).await,
                    Command::Explain(args) => explain::run(args).await,
                    Command::SimEngine(args) => sim_engine::run(args).await,
                }
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for the person at the terminal. A reader that has gone away is no reason to fail.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line for the person at the terminal that is not part of the answer.
pub(crate) fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
