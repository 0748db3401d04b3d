//! How work makes way for other work that is more urgent, without waiting for ever.

use std::time::Duration;

use tokio::time::Instant;

/// Holds work back while there is something more urgent, a bounded time for each start.
#[derive(Debug)]
pub(in crate::kube) struct Way {
    bound: Duration,
    until: Option<Instant>,
}

impl Way {
    /// At most one batch is started in each `bound` while something is more urgent.
    pub(in crate::kube) fn new(bound: Duration) -> Self {
        Self { bound, until: None }
    }

    /// Whether work may be started now. `busy`: there is something more urgent.
    pub(in crate::kube) fn is_free(&mut self, now: Instant, busy: bool) -> bool {
        if !busy {
            self.until = None;
            return true;
        }
        now >= *self.until.get_or_insert(now + self.bound)
    }

    /// Something was started: the next has to make way anew.
    pub(in crate::kube) fn used(&mut self) {
        self.until = None;
    }

    /// How long work is held back from now on at most; none where it is not.
    pub(in crate::kube) fn held(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|held| !held.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_held_back_a_bounded_time_before_each_start() {
        let (start, bound) = (Instant::now(), Duration::from_millis(20));
        let mut way = Way::new(bound);
        assert!(way.is_free(start, false));
        assert_eq!(way.held(start), None);
        assert!(!way.is_free(start, true));
        assert_eq!(way.held(start), Some(bound));
        assert!(!way.is_free(start + bound / 2, true));
        assert!(way.is_free(start + bound, true));
        way.used();
        assert!(!way.is_free(start + bound, true));
        assert!(way.is_free(start + bound, false));
        assert_eq!(way.held(start + bound), None);
    }
}
