//! Which files must stay (I5): those of every target, and those that an engine holds or held a moment ago.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::{AdapterKey, Digest, EngineId, Root, Timestamp};

use super::{Reconciler, Wake};
use crate::Effect;

/// Who needs the files of a digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Adapter(AdapterKey),
    Engine(EngineId, String),
    /// A load under way there, or given up without knowing how it went.
    Loading(EngineId, Root),
}

/// Holders by digest. A digest without holders stays pinned for a while.
#[derive(Debug, Default)]
pub(super) struct Pins {
    holders: BTreeMap<Digest, BTreeSet<Holder>>,
    /// Digests without a holder, and since when.
    loose: BTreeMap<Digest, Timestamp>,
}

impl Reconciler {
    pub(super) fn pin(&mut self, root: &Root, holder: Holder) {
        let Some(digest) = root.digest() else { return };
        let holders = self.pins.holders.entry(digest).or_default();
        let first = holders.is_empty();
        holders.insert(holder);
        // A loose digest is still pinned.
        if first && self.pins.loose.remove(&digest).is_none() {
            self.effects.push(Effect::Pin(digest));
        }
    }

    pub(super) fn unpin(&mut self, now: Timestamp, root: &Root, holder: &Holder) {
        let Some(digest) = root.digest() else { return };
        let Some(holders) = self.pins.holders.get_mut(&digest) else { return };
        if holders.remove(holder) && holders.is_empty() {
            self.pins.holders.remove(&digest);
            self.pins.loose.insert(digest, now);
            self.timers.wake(Wake::Unpin(digest), now + self.config.unpin_after);
        }
    }

    pub(super) fn unpin_due(&mut self, now: Timestamp, digest: Digest) {
        let Some(&since) = self.pins.loose.get(&digest) else { return };
        let due = since + self.config.unpin_after;
        // After a start, an engine that has not been listed yet may hold anything that is in the store.
        if due <= now && self.engines.values().any(|engine| !engine.known) {
            self.timers.wake(Wake::Unpin(digest), now + self.config.unpin_after);
        } else if due <= now {
            self.pins.loose.remove(&digest);
            self.effects.push(Effect::Unpin(digest));
        } else {
            self.timers.wake(Wake::Unpin(digest), due);
        }
    }
}
