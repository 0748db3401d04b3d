//! The time that drivers pass to the deciding crates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The wall clock taken once, and the monotonic time since.
///
/// So it never goes back and never jumps within a process, whatever is done to the wall clock, and can still be shown as
/// a date. It does not count the time in which the machine is suspended. It follows tokio's clock, so tests can pause it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Duration,
    started: Instant,
}

impl Clock {
    /// Takes the wall clock. Do it once per process and copy the result.
    pub fn start() -> Self {
        // A wall clock before 1970 is a machine whose clock was never set; counting from the epoch is as good.
        Self::starting_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// A clock that shows `wall` since the epoch now.
    pub fn starting_at(wall: Duration) -> Self {
        Self { wall, started: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_millis(&self) -> u64 {
        u64::try_from((self.wall + self.started.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }

    /// When this clock will show `millis`; now where it has done so already. For sleeping until a moment that deciding
    /// code has asked for.
    pub fn instant_at(&self, millis: u64) -> Instant {
        let wait = Duration::from_millis(millis.saturating_sub(self.now_millis()));
        let now = Instant::now();
        // Thirty years, as tokio itself uses for "far in the future": adding much more overflows on some systems.
        now + wait.min(Duration::from_secs(86_400 * 365 * 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_moves_with_monotonic_time() {
        let clock = Clock::starting_at(Duration::from_secs(1_700_000_000));
        assert_eq!(clock.now_millis(), 1_700_000_000_000);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now_millis(), 1_700_000_001_500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_found_again_on_the_monotonic_clock() {
        let clock = Clock::starting_at(Duration::from_secs(10));
        tokio::time::sleep_until(clock.instant_at(12_345)).await;
        assert_eq!(clock.now_millis(), 12_345);
        assert_eq!(clock.instant_at(3), Instant::now());
        assert!(clock.instant_at(u64::MAX) > Instant::now());
    }

    #[test]
    fn a_clock_begins_at_the_wall_clock() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let shown = u128::from(Clock::start().now_millis());
        assert!(shown >= before, "{shown} is before {before}");
    }
}
