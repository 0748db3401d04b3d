//! What comes to the actor, and the promise that every effect is answered.

use longshore_reconciler::{Fact, Listing};
use longshore_types::{AdapterKey, Digest, EngineId, Fault};
use tokio::sync::{mpsc, oneshot};

use super::depot::Hold;
use super::scan::Scan;

/// One thing for the actor to take in. There are few at a time: an answer per call under way, a scan per interval.
#[derive(Debug)]
pub(super) enum Input {
    /// An answer that is passed on as it is.
    Fact(Box<Fact>),
    /// An engine was listed, or was not.
    Listed(EngineId, Box<Result<Listing, Fault>>),
    /// An artifact was fetched, or was not.
    Resolved(Box<Answer>),
    /// The files behind an unchanged reference have changed. Counts only while `ticket` is the adapter's latest.
    FilesChanged { adapter: AdapterKey, ticket: u64 },
    /// The named files and directories were looked through.
    Scanned(Box<Scan>),
    /// Files that nobody needed were taken out of the store, or not.
    Removed(Result<(), String>, Option<Digest>),
    /// Stop, or withdraw and unload everything first and say when that is done.
    Stop,
    /// Withdraw and unload everything, and say when that is done.
    Withdraw(oneshot::Sender<()>),
    /// Which adapters of ours engines still hold.
    Left(oneshot::Sender<Vec<Left>>),
}

/// How resolving went. Counts only while `ticket` is the adapter's latest.
#[derive(Debug)]
pub(super) struct Answer {
    pub adapter: AdapterKey,
    pub ticket: u64,
    pub fact: Fact,
    /// Keeps what was fetched until the reconciler has pinned it.
    pub hold: Option<Hold>,
}

/// An adapter that could not be unloaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The engine that holds it, as far as is known.
    pub engine: EngineId,
    /// The adapter's name.
    pub adapter: String,
    /// What the engine said last, or why it was not asked.
    pub why: String,
}

/// An answer that is owed to the reconciler. Whatever becomes of the work, it is given exactly once: where the task ends
/// without one, by a panic or because it is stopped, the fallback is.
#[derive(Debug)]
pub(super) struct Owed {
    inbox: mpsc::UnboundedSender<Input>,
    fallback: Option<Input>,
}

impl Owed {
    pub(super) fn new(inbox: mpsc::UnboundedSender<Input>, fallback: Input) -> Self {
        Self { inbox, fallback: Some(fallback) }
    }

    pub(super) fn answer(mut self, input: Input) {
        self.fallback = Some(input);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(input) = self.fallback.take() {
            // An error means that the actor has ended, and with it everybody who could be owed an answer.
            let _ = self.inbox.send(input);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ends_without_an_answer_is_answered_for() {
        let (inbox, mut inputs) = mpsc::unbounded_channel();
        Owed::new(inbox.clone(), Input::Stop).answer(Input::Removed(Ok(()), None));
        assert!(matches!(inputs.try_recv(), Ok(Input::Removed(..))));
        assert!(inputs.try_recv().is_err(), "exactly once");
        let owed = Owed::new(inbox.clone(), Input::Stop);
        let panicked = tokio::spawn(async move {
            let _owed = owed;
            panic!("a bug");
        });
        assert!(panicked.await.is_err());
        assert!(matches!(inputs.try_recv(), Ok(Input::Stop)));
        let owed = Owed::new(inbox, Input::Stop);
        let stopped = tokio::spawn(async move {
            let _owed = owed;
            std::future::pending::<()>().await;
        });
        stopped.abort();
        assert!(stopped.await.is_err());
        assert!(matches!(inputs.try_recv(), Ok(Input::Stop)));
    }
}
