//! Whether the work goes on.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use longshore_cluster::kube::Heartbeat;

/// A loop that has not come round for this long does not come round again: it waits for nothing, and one turn takes
/// milliseconds.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The heart of the driver, once there is one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<OnceLock<Heartbeat>>);

impl Pulse {
    /// From now on it is felt.
    pub fn feel(&self, heartbeat: Heartbeat) {
        // There is one driver in a process.
        let _ = self.0.set(heartbeat);
    }

    /// What is wrong, where something is that only a new process puts right.
    pub fn check(&self) -> Result<(), String> {
        self.0.get().map_or(Ok(()), |heartbeat| judge(heartbeat.age()))
    }
}

fn judge(age: Duration) -> Result<(), String> {
    if age < STUCK_AFTER {
        return Ok(());
    }
    Err(format!("the driver's loop has not come round for {} s", age.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_turns_lives_and_so_does_a_replica_that_has_none() {
        assert_eq!(Pulse::default().check(), Ok(()));
        assert_eq!(judge(Duration::from_secs(59)), Ok(()));
        assert_eq!(judge(Duration::from_secs(90)), Err("the driver's loop has not come round for 90 s".to_owned()));
    }
}
