//! How a store is set up.

use std::time::Duration;

use super::staging::Limits;

/// How a process uses a store. Processes that share one should agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes on disk that entries and fetches under way may take together; none for as many as there is room for. To make
    /// room, entries are removed that nobody has pinned and that were not used for longest. So where there is a quota,
    /// whoever lets an engine load from the store has to [pin](super::Store::pin) what it holds.
    pub quota: Option<u64>,
    /// How long a pin outlasts the last word from its holder. An engine outlives a sidecar that is killed, and goes on reading
    /// the files, so this is as long as an engine may be left alone.
    pub pin_ttl: Duration,
    /// How large one adapter may be.
    pub limits: Limits,
    /// Whether opening removes damaged entries that nobody has pinned. Otherwise they stay until the same adapter is fetched
    /// again, which puts the whole one in their place. The same goes for pins as with a quota.
    pub remove_damaged: bool,
}

impl Default for StoreOptions {
    /// No quota, nothing is removed, and pins outlast their holders by a day: a node's repair takes hours, and a pin that
    /// stays too long only costs room.
    fn default() -> Self {
        Self {
            quota: None,
            pin_ttl: Duration::from_secs(24 * 60 * 60),
            limits: Limits::default(),
            remove_damaged: false,
        }
    }
}
