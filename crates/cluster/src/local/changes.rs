//! What happened, in lines for people: one per phase change, event and problem.

use std::fmt;

use longshore_types::Timestamp;
use tokio::sync::broadcast;

/// Lines kept for a reader that is slower than the fleet; one that is later than that misses the oldest.
const KEPT: usize = 1024;

/// One line for the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Whether somebody should look at it.
    pub warning: bool,
    /// What it is about: an adapter as `namespace/name`, an engine, a file with its line.
    pub subject: String,
    /// What happened, in a few words.
    pub text: String,
}

/// `<subject>: <text>`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.subject, self.text) }
    }
}

/// Where changes are told. Nobody has to listen, and nobody who does is waited for.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    sender: broadcast::Sender<Change>,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(KEPT) }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.sender.subscribe()
    }

    pub(super) fn tell(&self, at: Timestamp, warning: bool, subject: impl Into<String>, text: impl Into<String>) {
        let change = Change { at, warning, subject: subject.into(), text: text.into() };
        // An error means that nobody listens.
        let _ = self.sender.send(change);
    }
}
