//! `bench`: measures, and says against what.
//!
//! A bench is a module with a `run` function that is listed in [`BENCHES`]. It measures its baseline in the same run, on
//! the same machine, because only the ratio of two such numbers means anything elsewhere.

mod kube;
pub mod process;
pub mod report;
pub mod stats;
mod tidy;
mod up;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

pub use process::{Process, build_release};
pub use report::{Report, Row};
pub use stats::{median, percentile};

use crate::Workspace;

/// Measure something; without a name, list what can be measured.
#[derive(clap::Args)]
pub struct Args {
    /// Which bench
    name: Option<String>,

    /// Print one JSON object instead of a table: {"bench", "rows": [{"name", "value", "unit", "against", "ratio"}]}
    #[arg(long)]
    json: bool,

    /// How often to measure; a bench may need more than that
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Seconds that it is watched idle; less than a minute is scaled to one, and the rows say so
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    idle: u64,

    /// The program to measure, built already [default: one that is built with the release profile]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What a bench is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workspace whose programs are measured.
    pub workspace: Workspace,
    /// How often to measure: at least 1.
    pub runs: u32,
    /// How long a program that has nothing to do is watched.
    pub idle: Duration,
    /// The program to measure, instead of one that is built for it.
    pub program: Option<PathBuf>,
}

/// One thing that can be measured.
pub struct Bench {
    /// What it is called on the command line and in its report.
    pub name: &'static str,
    /// One line that says what it measures.
    pub about: &'static str,
    /// Measures. Progress goes to standard error: standard output is the report's.
    pub run: fn(&Options) -> Result<Report>,
}

/// Every bench there is.
pub const BENCHES: &[Bench] = &[
    Bench { name: "tidy", about: "how long each rule of `cargo xtask tidy` takes on this tree", run: tidy::run },
    Bench {
        name: "up",
        about: "what `longshore up` costs at rest, and how soon what it is told takes effect",
        run: up::run,
    },
    Bench {
        name: "kube",
        about: "what the controller costs in a cluster, and how soon what happens there takes effect",
        run: kube::run,
    },
];

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    let Some(name) = &args.name else {
        for bench in BENCHES {
            println!("{:12} {}", bench.name, bench.about);
        }
        return Ok(());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == name) else {
        let known: Vec<_> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no bench is called {name}; there is: {}", known.join(", "));
    };
    let report = (bench.run)(&Options {
        workspace: workspace.clone(),
        runs: args.runs,
        idle: Duration::from_secs(args.idle),
        program: args.program.clone(),
    })?;
    if args.json {
        println!("{}", report.to_json()?)
    } else {
        print!("{report}")
    }
    Ok(())
}
