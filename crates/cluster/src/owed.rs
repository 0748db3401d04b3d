//! The promise that every effect is answered.

use tokio::sync::mpsc;

/// An answer that is owed to the reconciler. Whatever becomes of the work, it is given exactly once: where the task ends
/// without one, by a panic or because it is stopped, the fallback is.
#[derive(Debug)]
pub(crate) struct Owed<T> {
    inbox: mpsc::UnboundedSender<T>,
    fallback: Option<T>,
}

impl<T> Owed<T> {
    pub(crate) fn new(inbox: mpsc::UnboundedSender<T>, fallback: T) -> Self {
        Self { inbox, fallback: Some(fallback) }
    }

    pub(crate) fn answer(mut self, input: T) {
        self.fallback = Some(input);
    }
}

impl<T> Drop for Owed<T> {
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
        Owed::new(inbox.clone(), "lost").answer("done");
        assert_eq!(inputs.try_recv(), Ok("done"));
        assert!(inputs.try_recv().is_err(), "exactly once");
        let owed = Owed::new(inbox.clone(), "lost");
        let panicked = tokio::spawn(async move {
            let _owed = owed;
            panic!("a bug");
        });
        assert!(panicked.await.is_err());
        assert_eq!(inputs.try_recv(), Ok("lost"));
        let owed = Owed::new(inbox, "lost");
        let stopped = tokio::spawn(async move {
            let _owed = owed;
            std::future::pending::<()>().await;
        });
        stopped.abort();
        assert!(stopped.await.is_err());
        assert_eq!(inputs.try_recv(), Ok("lost"));
    }
}
