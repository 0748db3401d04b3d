//! What tidy reports.

use std::fmt;
use std::path::PathBuf;

/// One place where a rule is broken, or worth a look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, relative to the root of the workspace.
    pub file: PathBuf,
    /// The line, counted from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong, and with which crate.
    pub message: String,
}

impl Finding {
    pub(super) fn new(file: impl Into<PathBuf>, line: impl Into<Option<usize>>, message: impl Into<String>) -> Self {
        Self { file: file.into(), line: line.into(), message: message.into() }
    }
}

/// `crates/api/src/lib.rs:12: ...`, which editors and terminals know as a place to go to.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that one run found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Broken rules, sorted by place.
    pub broken: Vec<Finding>,
    /// What deserves a look, but breaks no rule.
    pub notes: Vec<Finding>,
    /// How many crates of ours were looked at.
    pub crates: usize,
    /// How many text files were looked at.
    pub files: usize,
}
