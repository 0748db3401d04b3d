//! How the reconciler behaves.

use std::time::Duration;

/// How the reconciler behaves. Every duration has the contract's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between two listings of one engine.
    pub list_interval: Duration,
    /// How long an engine must have been Ready before a choice falls on it, unless it is trusted.
    pub stable_after: Duration,
    /// How long an engine may be away before its adapters are placed elsewhere.
    pub not_ready_grace: Duration,
    /// The first wait after a transient failure; it doubles each time.
    pub retry_base: Duration,
    /// Retries per engine before another one is chosen: after 5, 10, 20, 40 and 80 s by default.
    pub max_retries: u32,
    /// How long an engine that used up its attempts is left alone for that adapter.
    pub cool_down: Duration,
    /// How long a refusal holds before it is tried again.
    pub refusal_retry: Duration,
    /// Upper bound of a drain.
    pub drain: Duration,
    /// Upper bound of a drain where the only holder is changed over.
    pub swap_drain: Duration,
    /// How long a load whose outcome is unknown keeps the engine's slot.
    pub load_bound: Duration,
    /// After how long a load under way makes the engine count as stalled: nothing new is placed there.
    pub stalled_after: Duration,
    /// How long unloaded files stay pinned: an engine may still read them for a request that it had accepted.
    pub unpin_after: Duration,
    /// How long a deleted object waits for engines that do not answer, on top of the drain. With the drain's own default a
    /// deletion is over within 10 s, the writes around it included, and an engine has been asked three times by then.
    pub delete_bound: Duration,
    /// After a start, how long the choice of engines waits for the ones that have not answered their first listing,
    /// counted from the first answer: an adapter goes back to the engine that still holds it.
    pub settle: Duration,
    /// Between two probes of an engine on which something drains.
    pub probe_interval: Duration,
    /// How long a deletion may take before status says what it waits for.
    pub deleting_shown_after: Duration,
    /// Least time between two status writes of one object that differ in counts only.
    pub status_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            list_interval: Duration::from_secs(2),
            stable_after: Duration::from_secs(5),
            not_ready_grace: Duration::from_secs(30),
            retry_base: Duration::from_secs(5),
            max_retries: 5,
            cool_down: Duration::from_secs(300),
            refusal_retry: Duration::from_secs(300),
            drain: Duration::from_secs(3),
            swap_drain: Duration::from_millis(500),
            load_bound: Duration::from_secs(600),
            stalled_after: Duration::from_secs(30),
            unpin_after: Duration::from_secs(600),
            delete_bound: Duration::from_secs(6),
            settle: Duration::from_millis(100),
            probe_interval: Duration::from_millis(50),
            deleting_shown_after: Duration::from_secs(1),
            status_interval: Duration::from_secs(1),
        }
    }
}
