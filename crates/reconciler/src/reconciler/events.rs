//! Events on objects: what happened, for people, within a budget.

use std::time::Duration;

use longshore_types::{AdapterKey, EngineId, ObjectKey, Timestamp};

use super::{Reconciler, Wake};
use crate::Event;

/// More events than this per object and window are counted in one.
const EVENTS_PER_WINDOW: u32 = 32;
const EVENT_WINDOW: Duration = Duration::from_secs(60);

/// How many events an object has had in the present window.
#[derive(Debug, Default)]
pub(super) struct Budget {
    since: Timestamp,
    count: u32,
    unsaid: u32,
}

impl Reconciler {
    pub(super) fn event(
        &mut self,
        now: Timestamp,
        key: &AdapterKey,
        warning: bool,
        reason: &'static str,
        message: String,
        related: Option<EngineId>,
    ) {
        self.object_event(now, &key.object, warning, reason, message, related);
    }

    pub(super) fn object_event(
        &mut self,
        now: Timestamp,
        key: &ObjectKey,
        warning: bool,
        reason: &'static str,
        message: String,
        related: Option<EngineId>,
    ) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let budget = &mut object.events;
        if now.since(budget.since) >= EVENT_WINDOW {
            *budget = Budget { since: now, ..Budget::default() };
        }
        budget.count += 1;
        if budget.count > EVENTS_PER_WINDOW {
            budget.unsaid += 1;
            self.timers.wake(Wake::Object(key.clone()), budget.since + EVENT_WINDOW);
            return;
        }
        self.events.push(Event { object: key.clone(), warning, reason, message, related });
    }

    /// Says at the end of a window how many events were left out.
    pub(super) fn say_unsaid(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let budget = &mut object.events;
        if budget.unsaid == 0 {
            return;
        }
        let end = budget.since + EVENT_WINDOW;
        if now < end {
            self.timers.wake(Wake::Object(key.clone()), end);
            return;
        }
        let message = format!("{} more events in the last minute are not shown", budget.unsaid);
        *budget = Budget { since: now, count: 1, unsaid: 0 };
        let object = key.clone();
        self.events.push(Event { object, warning: true, reason: "TooManyEvents", message, related: None });
    }
}
