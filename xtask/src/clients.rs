//! `e2e clients`: the tests that need other people's clients and servers, each installed into a directory of its own.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{Missing, Of};
use crate::{Counts, Workspace, shell};

/// Which of them are run.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only those that need this tool, as its list in tests/clients is called; all of them where it is left out
    tool: Option<String>,
}

/// Turns these tests on; without it they say that they were not run.
const VARIABLE: &str = "LONGSHORE_CLIENTS";

/// A tool, as its list or script in tests/clients is called, and the tests that need it.
struct Client {
    tool: &'static str,
    /// How it is installed.
    setup: Setup,
    package: &'static str,
    target: &'static str,
    /// Only tests whose names have this in them.
    filter: Option<&'static str>,
}

/// How a tool is installed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// Python packages, by the list that is called as the tool.
    Python,
    /// A script of its own, called as the tool.
    Own,
}

const CLIENTS: &[Client] = &[
    Client {
        tool: "huggingface",
        setup: Setup::Python,
        package: "longshore-testkit",
        target: "huggingface_client",
        filter: None,
    },
    elsewhere("moto", Setup::Python),
    elsewhere("gcs", Setup::Python),
    elsewhere("azure", Setup::Own),
];

/// A server that our source of objects is held against.
const fn elsewhere(tool: &'static str, setup: Setup) -> Client {
    Client { tool, setup, package: "longshore-artifacts", target: "it", filter: Some("objects_elsewhere") }
}

impl Client {
    fn setup(&self) -> Command {
        let mut bash = Command::new("bash");
        match self.setup {
            Setup::Python => bash.args(["tests/clients/setup.sh", self.tool]),
            Setup::Own => bash.arg(format!("tests/clients/{}.sh", self.tool)),
        };
        bash
    }
}

/// Why these tests cannot run on this machine, if so.
pub fn cannot_run() -> Option<String> {
    let missing = Missing::of(Of::Clients);
    (!missing.is_empty()).then(|| missing.to_string())
}

/// Installs each tool, then runs the tests that need it; adds what they said to `counts`.
pub fn tests(workspace: &Workspace, args: &Args, counts: &mut Counts) -> Result<()> {
    let asked: Vec<_> =
        CLIENTS.iter().filter(|client| args.tool.as_deref().is_none_or(|tool| tool == client.tool)).collect();
    if asked.is_empty() {
        let known: Vec<_> = CLIENTS.iter().map(|client| client.tool).collect();
        bail!("there are no tests for this tool; known: {}", known.join(", "));
    }
    let mut failed = Vec::new();
    for client in asked {
        // Now, where its output is seen; a test would install it in silence.
        shell::run(client.setup().current_dir(workspace.root()))
            .with_context(|| format!("cannot install {}", client.tool))?;
        let mut tests = workspace.cargo("test");
        tests.args(["--package", client.package, "--test", client.target]).args(client.filter);
        tests.args(["--", "--nocapture"]).env(VARIABLE, client.tool);
        if let Err(error) = shell::run_tests(&mut tests, counts) {
            println!("{}: {error:#}", client.tool);
            failed.push(client.tool);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_list_of_packages_with_their_versions() {
        let workspace = Workspace::find().expect("the test runs in it");
        for Client { tool, .. } in CLIENTS.iter().filter(|client| client.setup == Setup::Python) {
            let path = workspace.root().join("tests/clients").join(format!("{tool}.txt"));
            let list = std::fs::read_to_string(&path).expect("it is there");
            assert!(!list.is_empty() && list.lines().all(|line| line.contains("==")), "{}", path.display());
        }
    }

    #[test]
    fn a_tool_without_tests_is_refused() {
        let workspace = Workspace::find().expect("the test runs in it");
        let args = Args { tool: Some("nobody".into()) };
        let error = tests(&workspace, &args, &mut Counts::default()).expect_err("there is no such tool");
        assert!(error.to_string().contains("known: huggingface"), "{error}");
    }
}
