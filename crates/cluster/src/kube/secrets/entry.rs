//! What is known of one Secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_types::{Fault, Secret};
use tokio::time::Instant;

use super::{FAILURE_KEPT, FRESH, lock};

/// The values of a Secret by key. `None` is one that is no bearer token.
pub(super) type Values = BTreeMap<String, Option<Secret>>;

/// One Secret, read or about to be.
#[derive(Default)]
pub(super) struct Entry {
    /// Held by who reads it.
    pub(super) flight: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the API server said last: its values, or why there are none for us.
    told: Option<(Instant, Result<Arc<Values>, Fault>)>,
    /// A read since then that told nothing.
    failed: Option<(Instant, Fault)>,
    /// When somebody last asked.
    asked: Option<Instant>,
}

impl Entry {
    /// The answer for who asks now, where there is one without reading.
    pub(super) fn answer(&self, now: Instant) -> Option<Result<Arc<Values>, Fault>> {
        let mut state = lock(&self.state);
        state.asked = Some(now);
        match (&state.told, &state.failed) {
            (Some((at, Ok(values))), _) if now - *at < FRESH => Some(Ok(values.clone())),
            (Some((_, Ok(values))), Some((at, _))) if now - *at < FAILURE_KEPT => Some(Ok(values.clone())),
            (Some((at, Err(fault))), None) if now - *at < FAILURE_KEPT => Some(Err(fault.clone())),
            (_, Some((at, fault))) if now - *at < FAILURE_KEPT => Some(Err(fault.clone())),
            _ => None,
        }
    }

    /// The values as they were told last, however long ago.
    pub(super) fn spare(&self) -> Option<Arc<Values>> {
        lock(&self.state).told.as_ref().and_then(|(_, told)| told.as_ref().ok().cloned())
    }

    /// Takes what a read gave; whether the Secret is another than it was said to be before.
    pub(super) fn record(&self, now: Instant, read: Result<Values, Fault>) -> bool {
        let mut state = lock(&self.state);
        match read {
            Err(fault) if fault.is_transient() => {
                state.failed = Some((now, fault));
                false
            }
            told => {
                let told = told.map(Arc::new);
                state.failed = None;
                let before = state.told.replace((now, told.clone()));
                before.is_some_and(|(_, before)| before != told)
            }
        }
    }

    /// Whether it is time to read it again, for one that is in use.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        if state.failed.as_ref().is_some_and(|(at, _)| now - *at < FAILURE_KEPT) {
            return false;
        }
        state.told.as_ref().map_or(state.failed.is_some(), |(at, _)| now - *at >= FRESH)
    }

    /// How long nobody has asked for it.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        lock(&self.state).asked.map_or(Duration::ZERO, |asked| now - asked)
    }
}
