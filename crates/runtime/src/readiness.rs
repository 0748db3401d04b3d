//! Whether traffic may come.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// The latch behind `/readyz`: named conditions, ready when every one is set, not ready for good once the process stops.
///
/// Register every condition before the admin server starts to listen: with none registered it is ready.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    conditions: Vec<(String, bool)>,
    stopping: bool,
}

/// One thing that must have happened. It begins unset; dropping it changes nothing, so what died unset stays missing.
#[derive(Clone, Debug)]
pub struct Condition {
    readiness: Readiness,
    index: usize,
}

/// What `/readyz` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Every condition is set.
    Ready,
    /// These are not, in the order in which they were registered.
    Waiting(Vec<String>),
    /// The process is on its way out.
    Stopping,
}

impl Readiness {
    /// A latch without conditions.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Inner::default())))
    }

    /// Adds a condition. `name` completes "waiting for": `first listing of engines`.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let mut index = 0;
        self.0.send_modify(|inner| {
            index = inner.conditions.len();
            inner.conditions.push((name.into(), false));
        });
        Condition { readiness: self.clone(), index }
    }

    /// Not ready from now on, whatever the conditions say.
    pub fn stop(&self) {
        self.0.send_modify(|inner| inner.stopping = true);
    }

    /// What holds now.
    pub fn state(&self) -> State {
        self.0.borrow().state()
    }

    /// Whether traffic may come now.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Returns when it is ready. Never, if it never is.
    pub async fn wait(&self) {
        // The sender is held by `self`, so the channel cannot close under the receiver.
        let _ = self.0.subscribe().wait_for(|inner| inner.state() == State::Ready).await;
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn state(&self) -> State {
        if self.stopping {
            return State::Stopping;
        }
        let missing: Vec<String> =
            self.conditions.iter().filter(|(_, set)| !set).map(|(name, _)| name.clone()).collect();
        if missing.is_empty() { State::Ready } else { State::Waiting(missing) }
    }
}

impl Condition {
    /// It has happened.
    pub fn set(&self) {
        self.put(true);
    }

    /// It must happen again: for a latch that is armed anew, as a sidecar's is when its engine restarts.
    pub fn clear(&self) {
        self.put(false);
    }

    fn put(&self, to: bool) {
        self.readiness.0.send_if_modified(|inner| {
            let set = &mut inner.conditions[self.index].1;
            std::mem::replace(set, to) != to
        });
    }
}

/// The body of `/readyz`: `ready`, or what is missing, one a line.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready\n"),
            Self::Stopping => f.write_str("not ready: stopping\n"),
            Self::Waiting(missing) => {
                f.write_str("not ready\n")?;
                missing.iter().try_for_each(|name| writeln!(f, "waiting for {name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_every_condition_is_set() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.condition("a"), readiness.condition("b"));
        assert_eq!(readiness.state(), State::Waiting(vec!["a".into(), "b".into()]));
        b.set();
        assert_eq!(readiness.state().to_string(), "not ready\nwaiting for a\n");
        a.set();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_condition_may_be_armed_again() {
        let readiness = Readiness::new();
        let condition = readiness.condition("adapters of this boot");
        condition.set();
        condition.clear();
        assert!(!readiness.is_ready());
        condition.set();
        assert!(readiness.is_ready());
    }

    #[test]
    fn what_died_before_it_was_set_stays_missing() {
        let readiness = Readiness::new();
        drop(readiness.condition("a"));
        assert!(!readiness.is_ready());
    }

    #[test]
    fn a_process_that_stops_is_never_ready_again() {
        let readiness = Readiness::new();
        let condition = readiness.condition("a");
        condition.set();
        readiness.stop();
        condition.set();
        assert_eq!(readiness.state(), State::Stopping);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_condition() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.condition("a"), readiness.condition("b"));
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait().await }
        });
        a.set();
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        b.set();
        waiter.await.unwrap();
    }
}
