//! `longshore`: serve LoRA adapters on engines without a cluster, look at what is served, fetch and check adapters.

mod args;
mod artifact;
#[cfg(test)]
mod docs;
mod explain;
mod fleet;
mod get;
mod pull;
mod sim_engine;
mod table;
mod up;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use longshore_runtime::{crypto, telemetry};

use args::{Args, Command};

/// For work on files that is under way at the end. Removing some gigabytes takes a second or two.
const LEAVE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    crypto::install();
    let args = Args::parse();
    let logs = args.log.is_some();
    let runtime = telemetry::init(args.log_format, &args.filter())
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return code(Err(error)),
    };
    let mut scratch = None;
    let code = runtime.block_on(async {
        match args.command {
            Command::Up(args) => code(up::run(*args, logs).await),
            Command::Get(args) => code(get::run(args).await),
            Command::Explain(args) => code(explain::run(args).await),
            Command::Pull(args) => ExitCode::from(pull::run(*args).await as u8),
            Command::Verify(args) => {
                let (end, used) = verify::run(*args).await;
                scratch = used;
                ExitCode::from(end as u8)
            }
            Command::SimEngine(args) => code(sim_engine::run(args).await),
        }
    });
    // What was given up is removed by whoever writes it; a file system that hangs keeps nobody here.
    runtime.shutdown_timeout(LEAVE);
    drop(scratch);
    code
}

fn code(outcome: anyhow::Result<()>) -> ExitCode {
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
