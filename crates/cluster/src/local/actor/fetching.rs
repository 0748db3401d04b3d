//! Fetches under way, as they are shown.

use std::time::Duration;

use longshore_api::fleet;
use longshore_artifacts::Progress;
use longshore_types::AdapterKey;
use tokio::time::Instant;

use super::{Actor, Brain};

/// How often it is looked how far fetches have come, and so how often that is told.
const LOOK: Duration = Duration::from_secs(1);

/// One fetch.
pub(super) struct Fetching {
    progress: Progress,
    looked: Instant,
    bytes: u64,
    /// What is shown; nothing at first, since most are done before anybody could see it.
    shown: Option<fleet::Fetching>,
}

impl Fetching {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, looked: Instant::now(), bytes: 0, shown: None }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// When it is next looked at.
    fn due(&self) -> Instant {
        self.looked + LOOK
    }

    /// Looks how far it has come; whether that is something new to show.
    fn look(&mut self, now: Instant) -> bool {
        let (bytes, passed) = (self.progress.bytes(), now - self.looked);
        // One that began anew has fewer than before.
        let came = bytes.saturating_sub(self.bytes);
        let rate = if passed.is_zero() { 0.0 } else { came as f64 / passed.as_secs_f64() };
        let shown = fleet::Fetching { bytes, total: self.progress.total(), bytes_per_second: rate.round() as u64 };
        (self.looked, self.bytes) = (now, bytes);
        let is_new = self.shown.as_ref() != Some(&shown);
        self.shown = Some(shown);
        is_new
    }
}

impl<B: Brain> Actor<B> {
    /// When a fetch is next looked at; nothing while there is none.
    pub(super) fn look_at_fetches(&self) -> Option<Instant> {
        self.resolving.values().filter_map(|resolving| resolving.fetching.as_ref()).map(Fetching::due).min()
    }

    /// Shows how far fetches have come.
    pub(super) fn show_fetches(&mut self) {
        let now = Instant::now();
        let due = self.resolving.iter_mut().filter_map(|(key, resolving)| Some((key, resolving.fetching.as_mut()?)));
        let new: Vec<AdapterKey> = due
            .filter(|(_, fetching)| fetching.due() <= now)
            .filter_map(|(key, fetching)| fetching.look(now).then(|| key.clone()))
            .collect();
        for key in &new {
            self.refresh_adapter(key);
        }
    }

    /// What is shown of the fetch for an adapter.
    pub(super) fn fetching(&self, key: &AdapterKey) -> Option<fleet::Fetching> {
        self.resolving.get(key)?.fetching.as_ref()?.shown.clone()
    }
}
