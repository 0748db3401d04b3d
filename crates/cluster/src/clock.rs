//! The time that the reconciler is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_types::Timestamp;
use tokio::time::Instant;

/// The wall clock taken once, and the monotonic time since: it never goes back. It follows tokio's clock, so tests can
/// pause it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // A wall clock before 1970 is a machine whose clock was never set; counting from the epoch is as good.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp::ZERO + wall, started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall + self.started.elapsed()
    }

    /// When this clock shows `time`, but at least a millisecond from now: what is due already is done at the next turn,
    /// and a reconciler that asked for the past again and again must not take the processor for itself.
    pub(crate) fn instant_at(&self, time: Timestamp) -> Instant {
        Instant::now() + time.since(self.now()).max(Duration::from_millis(1))
    }
}
