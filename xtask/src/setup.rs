//! `setup`: what the checks need of the machine beyond Rust itself, and how a Debian machine gets it.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::shell;

/// Install what the checks need of the machine: as root on Debian; elsewhere say what is missing.
#[derive(clap::Args)]
pub struct Args {
    /// Only say what is missing; install nothing
    #[arg(long)]
    print: bool,
}

/// One thing that the machine must have.
struct Need {
    /// What needs it.
    of: &'static [Of],
    what: &'static str,
    present: fn() -> bool,
    packages: &'static [&'static str],
}

/// What needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The tests on real engines. `tests/vllm/setup.sh` builds stub libraries for a CPU-only vLLM with the C compiler and
    /// reads symbols with binutils; PyTorch's wheel links libnuma; the locked requirements are for Python 3.11.
    Vllm,
    /// The tests on a cluster. `tests/kube/kit/build.sh` makes do with an old Go, with which it fetches a newer one, and
    /// the cluster makes links and enters namespaces.
    Cluster,
    /// The tests with other people's clients. `tests/clients/setup.sh` has lists of packages for Python 3.11.
    Clients,
}

const NEEDS: &[Need] = &[
    Need {
        of: &[Of::Vllm],
        what: "a C compiler",
        present: || shell::succeeds("cc", &["--version"]),
        packages: &["gcc", "libc6-dev"],
    },
    Need {
        of: &[Of::Vllm],
        what: "nm and objdump",
        present: || shell::succeeds("nm", &["--version"]) && shell::succeeds("objdump", &["--version"]),
        packages: &["binutils"],
    },
    Need { of: &[Of::Vllm], what: "libnuma.so.1", present: || has_library("libnuma.so.1"), packages: &["libnuma1"] },
    Need {
        of: &[Of::Vllm, Of::Clients],
        what: "Python 3.11 with venv",
        present: has_python,
        packages: &["python3.11", "python3.11-venv"],
    },
    Need {
        of: &[Of::Clients],
        what: "npm",
        present: || shell::succeeds("npm", &["--version"]),
        packages: &["nodejs", "npm"],
    },
    Need { of: &[Of::Cluster], what: "Go", present: || shell::succeeds("go", &["version"]), packages: &["golang-go"] },
    Need {
        of: &[Of::Cluster],
        what: "certificates of the web's authorities",
        present: || Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
        packages: &["ca-certificates"],
    },
    Need { of: &[Of::Cluster], what: "ip", present: || shell::succeeds("ip", &["-Version"]), packages: &["iproute2"] },
    Need {
        of: &[Of::Cluster],
        what: "nsenter",
        present: || shell::succeeds("nsenter", &["--version"]),
        packages: &["util-linux"],
    },
];

/// What the machine lacks; empty where nothing is missing.
pub struct Missing(Vec<&'static Need>);

impl Missing {
    /// Looks at the machine; starts a few short programs.
    pub fn find() -> Self {
        Self(NEEDS.iter().filter(|need| !(need.present)()).collect())
    }

    /// The same for what only these tests need.
    pub fn of(which: Of) -> Self {
        Self(NEEDS.iter().filter(|need| need.of.contains(&which) && !(need.present)()).collect())
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn packages(&self) -> Vec<&'static str> {
        self.0.iter().flat_map(|need| need.packages).copied().collect()
    }
}

/// What is missing, and the command that installs it on Debian.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what: Vec<_> = self.0.iter().map(|need| need.what).collect();
        let packages = self.packages().join(" ");
        write!(f, "missing: {}; on Debian: apt-get update && apt-get install -y {packages}", what.join(", "))
    }
}

/// Runs the task.
pub fn main(args: &Args) -> Result<()> {
    let missing = Missing::find();
    if missing.is_empty() {
        println!("nothing is missing");
        return Ok(());
    }
    if args.print || !is_root() || !shell::succeeds("apt-get", &["--version"]) {
        bail!("{missing}");
    }
    println!("{missing}");
    shell::run(apt().arg("update").arg("-q"))?;
    shell::run(apt().args(["install", "-y", "-q", "--no-install-recommends"]).args(missing.packages()))?;
    let still = Missing::find();
    if !still.is_empty() {
        bail!("after the installation, {still}");
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Whether this user may install packages and make namespaces.
pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Asks the loader's cache; `ldconfig` is not on every user's path.
fn has_library(name: &str) -> bool {
    ["/sbin/ldconfig", "/usr/sbin/ldconfig"].into_iter().filter(|path| Path::new(path).exists()).any(|path| {
        let output = Command::new(path).arg("-p").stdin(Stdio::null()).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains(name)))
    })
}

/// Debian splits venv off, and a version manager's `python3.11` may be a shim with nothing behind it: so it is tried.
fn has_python() -> bool {
    shell::succeeds("python3.11", &["-c", "import ensurepip, venv"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_the_command_that_installs_it() {
        let missing = Missing(NEEDS.iter().filter(|need| need.of.contains(&Of::Vllm)).collect());
        let text = missing.to_string();
        assert!(text.contains("libnuma.so.1"), "{text}");
        assert!(
            text.contains("apt-get install -y gcc libc6-dev binutils libnuma1 python3.11 python3.11-venv"),
            "{text}"
        );
    }

    #[test]
    fn a_library_that_nobody_has_is_missing() {
        assert!(!has_library("liblongshore-does-not-exist.so.7"));
    }
}
