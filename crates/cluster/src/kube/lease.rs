//! Who leads: a Lease, and the time until which this process may act.
//!
//! Of all replicas one leads: the one that the Lease names. It renews the Lease; where it does not, another takes the Lease
//! after the Lease's duration. Nobody compares clocks: a follower counts, by its own monotonic clock, from when it last saw
//! the Lease change, and the leader counts from before it sent the renewal that was granted. So, whatever any wall clock
//! says, the leader's time ends first, by the difference of duration and renew deadline.
//!
//! What is decided is in `step`, without a client; what is done is in `election`.

mod election;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use longshore_types::{Namespace, ObjectName};
use rand::Rng as _;

use super::calls::REACH;
use super::fence::Fence;

pub use election::Election;

/// How long a Lease holds, and how often it is renewed. The defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Times by which nobody could lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLeaseTimes {
    /// A Lease is written in whole seconds.
    #[error("the lease duration must be between 1 s and an hour")]
    Duration,
    /// The leader would still act when another takes the Lease.
    #[error("the renew deadline must be shorter than the lease duration")]
    Deadline,
    /// Nothing would ever be begun: what is begun must arrive before the deadline.
    #[error("the renew deadline must be longer than the retry period and {} s on top", REACH.as_secs())]
    Retry,
    /// That would be a loop without rest.
    #[error("the retry period must be 10 ms or more")]
    Period,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTimes {
    /// A Lease that others may take `duration` after it was last renewed, a leader that gives up `renew_deadline` after that,
    /// and a try every `retry_period`.
    ///
    /// # Errors
    /// [`InvalidLeaseTimes`], where that does not leave a leader time to act.
    pub fn new(
        duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, InvalidLeaseTimes> {
        if !(Duration::from_secs(1)..=view::LONGEST).contains(&duration) {
            return Err(InvalidLeaseTimes::Duration);
        }
        if renew_deadline >= duration {
            return Err(InvalidLeaseTimes::Deadline);
        }
        if retry_period < Duration::from_millis(10) {
            return Err(InvalidLeaseTimes::Period);
        }
        if renew_deadline <= retry_period.saturating_add(REACH) {
            return Err(InvalidLeaseTimes::Retry);
        }
        Ok(Self { duration, renew_deadline, retry_period })
    }

    /// How long one call may take: a server that hangs must leave room for another try before the deadline.
    fn call_timeout(&self) -> Duration {
        self.renew_deadline / 4
    }
}

/// Which Lease is contended for, and by whom.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Where it is.
    pub namespace: Namespace,
    /// Its name.
    pub name: ObjectName,
    /// What others find this process by: the name of its pod.
    pub pod: String,
    /// Its times.
    pub times: LeaseTimes,
}

/// One time of leading. Of two terms of one Lease the later one is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// When the Lease was created, by the API server's clock. A Lease that was deleted and made anew begins later.
    pub created: Timestamp,
    /// How often the Lease has changed hands.
    pub transitions: u32,
    /// Who leads: the pod's name, `_`, and what is new at each start of the process.
    pub identity: String,
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug)]
pub enum Leadership {
    /// Another does, or nobody does that is known of.
    Following {
        /// The Lease's holder: see [`pod_of`].
        holder: Option<String>,
    },
    /// This process does, as long as the fence lets it.
    Leading {
        /// Its time of leading.
        term: Term,
        /// Until when it may act.
        fence: Fence,
    },
    /// This process led and leads no more, for good: it must end. Its fence is closed.
    Over {
        /// In a sentence.
        why: String,
    },
}

impl Leadership {
    /// Who holds the Lease, where it is another.
    pub fn leader(&self) -> Option<&str> {
        match self {
            Self::Following { holder } => holder.as_deref(),
            Self::Leading { .. } | Self::Over { .. } => None,
        }
    }
}

/// The pod that an identity begins with. No pod's name has a `_`.
pub fn pod_of(identity: &str) -> Option<&str> {
    let (pod, _) = identity.rsplit_once('_')?;
    (!pod.is_empty()).then_some(pod)
}

/// New at each start of a process, so that each start is a term of its own: a container that is restarted has the same pod,
/// and knows nothing of what its predecessor has begun.
fn identity(pod: &str) -> String {
    format!("{pod}_{:016x}", rand::rng().random::<u64>())
}
