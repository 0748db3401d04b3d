//! What is wrong with a document.

use std::fmt;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// In which field, such as `spec.podSelector.matchExpressions[0].operator`; empty where the text is no YAML at all.
    pub field: String,
    /// What is wrong and what to do. Values are not repeated: they may be secrets (I8).
    pub message: String,
}

/// A document that cannot be used, with everything that is wrong with it. Shown as one line per problem:
/// `file:line:column: field: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, as the caller named it.
    pub file: String,
    /// The document's first line.
    pub line: usize,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ManifestError {
    /// `InvalidManifest`, whatever is wrong.
    pub fn reason(&self) -> &'static str {
        "InvalidManifest"
    }

    /// Never: the same text fails the same way.
    pub fn is_transient(&self) -> bool {
        false
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, field, message }) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}:{}: ", self.file, place.line, place.column)?;
            if !field.is_empty() {
                write!(f, "{field}: ")?;
            }
            f.write_str(message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}
