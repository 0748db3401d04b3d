//! The real clients of other people's services, installed by `tests/clients/setup.sh`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Turns the tests that need them on.
const VARIABLE: &str = "LONGSHORE_CLIENTS";

/// Why tests with the real clients are not to be run, unless `LONGSHORE_CLIENTS` is `1` or names this one.
pub fn not_asked_for(tool: &str) -> Option<String> {
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    let run = asked == "1" || asked.split(',').any(|part| part == tool);
    (!run).then(|| format!("NOT RUN: the real {tool} client is started only with {VARIABLE}=1 or {VARIABLE}={tool}"))
}

/// The folder with the lists of packages and the programs.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Installs `tool` where it is not installed yet, and says where its virtual environment is.
///
/// # Errors
/// Where the script fails, with what it said.
pub fn install(tool: &str) -> io::Result<PathBuf> {
    let setup = Command::new(folder().join("setup.sh")).arg(tool).stdin(Stdio::null()).output()?;
    if !setup.status.success() {
        return Err(io::Error::other(format!("setup.sh {tool}: {}", String::from_utf8_lossy(&setup.stderr))));
    }
    let said = String::from_utf8_lossy(&setup.stdout);
    said.lines().last().map(PathBuf::from).ok_or_else(|| io::Error::other("setup.sh named no directory"))
}
