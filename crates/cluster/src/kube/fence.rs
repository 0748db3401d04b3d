//! Until when this process may act.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whether this process may still act on engines and objects, and for how long. Clones share one answer.
///
/// A lease by itself fences nothing: an effect that is begun in time may arrive late. So nothing is begun that could still
/// be on its way when the time is over. The time is monotonic and judged at the moment of asking, so that a process that
/// was stopped for a minute knows, when it goes on, that its time is over.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Mutex<Until>>);

#[derive(Clone, Copy, Debug)]
enum Until {
    Ever,
    Then(Instant),
    Never,
}

impl Fence {
    /// For a process that nobody competes with.
    pub fn open() -> Self {
        Self(Arc::new(Mutex::new(Until::Ever)))
    }

    /// For a process that leads until then.
    pub fn until(deadline: Instant) -> Self {
        Self(Arc::new(Mutex::new(Until::Then(deadline))))
    }

    /// The lease was renewed. Nothing opens a fence that was closed.
    pub fn extend(&self, deadline: Instant) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Until::Then(before) = *until {
            *until = Until::Then(before.max(deadline));
        }
    }

    /// This process acts no more, for good.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Until::Never;
    }

    /// Whether something may be begun that has reached its target `reach` from now at the latest.
    pub fn allows(&self, reach: Duration) -> bool {
        self.left().is_some_and(|left| left >= reach)
    }

    /// How long something that is begun now may take to reach its target; none where nothing may be begun.
    pub(super) fn left(&self) -> Option<Duration> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Until::Ever => Some(Duration::MAX),
            Until::Then(deadline) => deadline.checked_duration_since(Instant::now()),
            Until::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_that_could_arrive_after_the_deadline() {
        let fence = Fence::until(Instant::now() + SECOND * 10);
        assert!(fence.allows(SECOND * 10));
        assert!(!fence.allows(SECOND * 11));
        advance(SECOND * 9).await;
        assert!(fence.allows(SECOND));
        assert!(!fence.allows(SECOND * 2));
        fence.extend(Instant::now() + SECOND * 10);
        assert!(fence.allows(SECOND * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fence_that_was_closed_stays_closed() {
        for fence in [Fence::open(), Fence::until(Instant::now() + SECOND)] {
            let clone = fence.clone();
            fence.close();
            clone.extend(Instant::now() + SECOND * 60);
            assert!(!clone.allows(Duration::ZERO));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_that_is_heard_of_late_takes_nothing_back() {
        let fence = Fence::until(Instant::now() + SECOND * 10);
        fence.extend(Instant::now() + SECOND);
        assert!(fence.allows(SECOND * 10));
    }
}
