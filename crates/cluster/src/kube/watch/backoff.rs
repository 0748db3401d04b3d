//! How long to wait before the next try.

use std::time::Duration;

use rand::Rng as _;

/// The bound of the first wait. It doubles with each failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait, where the API server answers that something is wrong.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest wait where nothing answers: a try then costs nobody anything, and it is what tells that the API server is
/// back, before which no endpoint that went is seen to go.
const LONGEST_UNANSWERED: Duration = Duration::from_secs(5);

/// Waits that grow. Each is drawn from between nothing and its bound, so that thousands of watches that broke at once do
/// not come back at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure, and at least what the API server asked for.
    pub(super) fn next(&mut self, answered: bool, asked: Option<Duration>) -> Duration {
        let longest = if answered { LONGEST } else { LONGEST_UNANSWERED };
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let drawn = bound.mul_f64(rand::rng().random());
        asked.map_or(drawn, |asked| asked.min(LONGEST) + drawn)
    }

    /// It has gone well for long enough.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_start_over() {
        for (answered, longest) in [(true, LONGEST), (false, LONGEST_UNANSWERED)] {
            let mut backoff = Backoff::default();
            for failures in 0..100_u32 {
                let bound = FIRST.saturating_mul(1 << failures.min(16)).min(longest);
                assert!(backoff.next(answered, None) <= bound);
            }
            let waits: Vec<_> = (0..100).map(|_| backoff.next(answered, None)).collect();
            let mean = waits.iter().sum::<Duration>() / 100;
            assert!(mean > longest / 4 && mean < longest * 3 / 4, "{mean:?}");
            backoff.reset();
            assert!(backoff.next(answered, None) <= FIRST);
        }
    }

    #[test]
    fn what_the_api_server_asks_for_is_kept_to() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(true, Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        assert!(backoff.next(true, Some(Duration::from_secs(7000))) <= LONGEST * 2);
    }
}
