//! What goes before what: routes before status, status before events.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts work that other work makes way for. Clones share one count.
#[derive(Clone, Debug)]
pub(super) struct Urgent(watch::Sender<usize>);

/// One piece of that work, while it lives.
#[derive(Debug)]
pub(super) struct Piece(watch::Sender<usize>);

impl Urgent {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// There is one more piece until what is returned is dropped.
    pub(super) fn begin(&self) -> Piece {
        self.0.send_modify(|count| *count += 1);
        Piece(self.0.clone())
    }

    /// How much there is.
    pub(super) fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until there is none, but no longer than `bound`: nothing waits for ever.
    pub(super) async fn over(&self, bound: Duration) {
        let mut count = self.0.subscribe();
        // The sender lives as long as `self`.
        let _ = timeout(bound, count.wait_for(|count| *count == 0)).await;
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_makes_way_until_the_last_piece_is_done_but_not_for_ever() {
        let urgent = Urgent::new();
        let (first, second) = (urgent.begin(), urgent.begin());
        assert_eq!(urgent.count(), 2);
        let start = Instant::now();
        urgent.over(Duration::from_secs(1)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        drop(first);
        let waiting = tokio::spawn({
            let urgent = urgent.clone();
            async move { urgent.over(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
        assert_eq!(urgent.count(), 0);
    }
}
