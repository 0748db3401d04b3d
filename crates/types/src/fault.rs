//! Why something could not be done, and whose fault it is.

use std::fmt;

/// How far a fault reaches, which says who should try what again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// It may pass by itself: try the same engine or source again, later.
    Transient,
    /// This engine refuses, others may not: rank limit, LoRA off, a key that it does not take.
    Engine,
    /// This engine does not find the path among its own files: others are tried, this one again after a while.
    EngineFiles,
    /// The adapter itself is wrong: no engine is tried until the object changes, or a while has passed.
    Artifact,
    /// Whether it was done is not known; only a listing can tell.
    Unknown,
}

/// A failure as conditions, events and metrics show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How far it reaches.
    pub scope: Scope,
    /// A CamelCase word from a closed set: condition reason, event reason and metric label.
    pub reason: &'static str,
    /// One sentence for a person, without secrets: what is wrong and, where known, what to do.
    pub message: String,
}

impl Fault {
    /// A fault with this scope, reason and message. The message is cut to 512 characters.
    pub fn new(scope: Scope, reason: &'static str, message: impl Into<String>) -> Self {
        // Kubernetes allows 32 KiB for a condition's message; people read one line.
        const LONGEST: usize = 512;
        let mut message: String = message.into();
        if let Some((cut, _)) = message.char_indices().nth(LONGEST) {
            message.truncate(cut);
            message.push('…');
        }
        Self { scope, reason, message }
    }

    /// Whether trying the same thing again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self.scope, Scope::Transient | Scope::Unknown)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
