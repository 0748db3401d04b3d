//! What `deploy/` holds that is written by programs, and what an API server's audit log says of it.
//!
//! [`mod@rbac`] is the one table of what the controller and the router may do; the roles of `deploy/` and the table of
//! `docs/install.md` are written from it. [`mod@audit`] compares the table with what was really asked.

pub mod audit;
mod generated;
pub mod rbac;

pub use generated::Generated;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::Workspace;

/// Write the roles of deploy/ and the table of docs/install.md from the table in the code
#[derive(clap::Args)]
pub struct RbacArgs {
    /// Write nothing; fail where a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Compare audit logs of an API server with what the controller and the router are granted
///
/// Fails where a granted verb was never used and where a request of theirs was refused.
#[derive(clap::Args)]
pub struct AuditArgs {
    /// Files of audit.k8s.io/v1 events, one JSON object a line
    #[arg(required = true, value_name = "AUDIT_LOG")]
    logs: Vec<PathBuf>,
}

/// Runs `rbac`.
pub fn rbac(workspace: &Workspace, args: &RbacArgs) -> Result<()> {
    generated::settle(workspace, &rbac::files(workspace)?, args.check)
}

/// Runs `rbac-audit`.
pub fn audit(args: &AuditArgs) -> Result<()> {
    audit_of(&args.logs)
}

/// The same of these files.
pub fn audit_of(logs: &[PathBuf]) -> Result<()> {
    let mut audit = audit::Audit::default();
    for path in logs {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            audit.read(line).with_context(|| format!("{}:{}", path.display(), number + 1))?;
        }
        audit.end();
    }
    let report = audit.report();
    print!("{report}");
    if !report.is_clean() {
        bail!("what is granted and what is used differ");
    }
    Ok(())
}

pub(crate) use generated::settle;
