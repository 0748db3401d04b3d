//! What is wrong with what the driver was given, as data, each said once.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_types::{EngineId, Timestamp};

use super::changes::Changes;

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A file or directory that was named, or something in it.
    File(PathBuf),
    /// An engine.
    Engine(EngineId),
    /// The store of adapter files.
    Store,
}

/// One thing that is wrong now. It goes away by itself when it is put right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// What it is about.
    pub about: About,
    /// The line in that file, counted from 1, where one is known.
    pub line: Option<usize>,
    /// The field in that file, where one is to blame.
    pub field: Option<String>,
    /// A CamelCase word.
    pub reason: String,
    /// What is wrong and what to do, in one sentence without secrets.
    pub message: String,
}

impl Problem {
    /// A problem with the whole of `path`.
    pub(super) fn file(path: &Path, reason: &str, message: impl Into<String>) -> Self {
        let about = About::File(path.to_owned());
        Self { about, line: None, field: None, reason: reason.to_owned(), message: message.into() }
    }

    /// The same at a line.
    pub(super) fn at(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    fn subject(&self) -> String {
        match (&self.about, self.line) {
            (About::File(path), Some(line)) => format!("{}:{line}", path.display()),
            (About::File(path), None) => path.display().to_string(),
            (About::Engine(engine), _) => engine.to_string(),
            (About::Store, _) => "store".to_owned(),
        }
    }

    fn text(&self) -> String {
        match &self.field {
            Some(field) if !self.message.starts_with(field.as_str()) => format!("{field}: {}", self.message),
            _ => self.message.clone(),
        }
    }
}

/// `<file>:<line>: <field>: <message>`, as compilers write it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject(), self.text())
    }
}

/// The problems there are now.
#[derive(Clone, Debug)]
pub(super) struct Problems {
    now: Arc<Mutex<BTreeMap<About, Vec<Problem>>>>,
    changes: Changes,
}

impl Problems {
    pub(super) fn new(changes: Changes) -> Self {
        Self { now: Arc::default(), changes }
    }

    pub(super) fn list(&self) -> Vec<Problem> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).values().flatten().cloned().collect()
    }

    /// These are all the problems that `about` has now. Those that it did not have before are told; and once it has
    /// none any more, that is told with `solved`.
    pub(super) fn set(&self, at: Timestamp, about: &About, problems: Vec<Problem>, solved: &str) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if problems.is_empty() { now.remove(about) } else { now.insert(about.clone(), problems.clone()) };
        drop(now);
        let before = before.unwrap_or_default();
        // The message may hold a count or an address that changes at every attempt: the reason says whether it is news.
        let known = |new: &Problem| {
            before.iter().any(|old| (&old.reason, &old.field, old.line) == (&new.reason, &new.field, new.line))
        };
        for new in problems.iter().filter(|new| !known(new)) {
            tracing::warn!(reason = new.reason, "{new}");
            self.changes.tell(at, true, new.subject(), new.text());
        }
        if let (Some(old), true) = (before.first(), problems.is_empty()) {
            tracing::info!("{}: {solved}", old.subject());
            self.changes.tell(at, false, Problem { line: None, ..old.clone() }.subject(), solved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(receiver: &mut tokio::sync::broadcast::Receiver<super::super::Change>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|change| change.to_string()).collect()
    }

    #[test]
    fn a_problem_is_said_once_and_so_is_its_end() {
        let changes = Changes::new();
        let mut told = changes.subscribe();
        let problems = Problems::new(changes);
        let path = PathBuf::from("/m/a.yaml");
        let about = About::File(path.clone());
        let bad = |attempt: u32| Problem::file(&path, "Syntax", format!("attempt {attempt}")).at(Some(3));
        for attempt in 0..3 {
            problems.set(Timestamp::ZERO, &about, vec![bad(attempt)], "read again");
        }
        assert_eq!(problems.list(), [bad(2)], "the latest words are shown");
        assert_eq!(lines(&mut told), ["/m/a.yaml:3: attempt 0"]);
        problems.set(Timestamp::ZERO, &about, vec![bad(3), bad(3).at(Some(9))], "read again");
        assert_eq!(lines(&mut told), ["/m/a.yaml:9: attempt 3"], "only what is new");
        for _ in 0..2 {
            problems.set(Timestamp::ZERO, &about, vec![], "read again");
        }
        assert_eq!(problems.list(), []);
        assert_eq!(lines(&mut told), ["/m/a.yaml: read again"]);
    }

    #[test]
    fn a_field_is_named_once() {
        let mut problem = Problem::file(Path::new("e.yaml"), "InvalidEngine", "url: no host").at(Some(2));
        problem.field = Some("url".into());
        assert_eq!(problem.to_string(), "e.yaml:2: url: no host");
        problem.message = "no host".into();
        assert_eq!(problem.to_string(), "e.yaml:2: url: no host");
    }
}
