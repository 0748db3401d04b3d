//! Events about declarations that make no sense as they stand: a condition says so at once, an event once it has lasted.

use std::time::Duration;

use longshore_api::status::Phase;
use longshore_types::{EngineId, Fault, ObjectKey, Timestamp};

use super::objects::Object;
use super::{Reconciler, Wake};

/// How long something must be wrong before an event says so: objects and engines that are applied together come up in any
/// order, and what passes by itself within a moment is no news.
const SAID_AFTER: Duration = Duration::from_secs(1);

/// What is wrong with an object.
#[derive(Debug)]
pub(super) struct Complaint {
    reason: &'static str,
    since: Timestamp,
    said: bool,
}

impl Object {
    /// Whether a process before this one has shown the object with this condition: it has said so in an event too.
    pub(super) fn inherited(&self, type_: &str, status: &str, reason: &str) -> bool {
        let same = |c: &longshore_api::status::Condition| c.type_ == type_ && c.status == status && c.reason == reason;
        self.is_untouched() && self.shown.conditions.iter().any(same)
    }

    /// Whether a process before this one has shown that this engine refuses it for this reason, and said so in an event.
    pub(super) fn inherited_refusal(&self, id: &EngineId, reason: &str) -> bool {
        let pod = id.to_string();
        let shown = self.shown.engines.iter().filter(|engine| engine.pod == pod && engine.state == "refused");
        self.inherited("Ready", "False", reason)
            || (self.is_untouched() && shown.into_iter().any(|engine| engine.reason.as_deref() == Some(reason)))
    }

    /// Whether a process before this one could not have it served as it is declared, and this one is finding that out.
    pub(super) fn tries_again(&self) -> bool {
        let same = self.shown.observed_generation == Some(self.generation);
        self.is_untouched() && same && self.shown.phase == Phase::Failed
    }

    /// Whether it still shows what a process before this one has written.
    pub(super) fn is_untouched(&self) -> bool {
        self.written && self.sequence == 0
    }
}

impl Reconciler {
    /// Takes in what is wrong with an object now, and says so in an event when it has lasted; once per kind of trouble.
    pub(super) fn complain(&mut self, now: Timestamp, key: &ObjectKey, wrong: Option<(&'static str, String)>) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let Some((reason, message)) = wrong else {
            object.complaint = None;
            return;
        };
        let said = object.inherited("Ready", "False", reason);
        let known = object.complaint.take().filter(|complaint| complaint.reason == reason);
        let mut complaint = known.unwrap_or(Complaint { reason, since: now, said });
        let due = complaint.since + SAID_AFTER;
        let say = !complaint.said && due <= now;
        if !complaint.said && !say {
            self.timers.wake(Wake::Object(key.clone()), due);
        }
        complaint.said |= say;
        object.complaint = Some(complaint);
        if say {
            self.object_event(now, key, true, reason, message, None);
        }
    }

    /// Says what is wrong beside a route, where an earlier process has not.
    pub(super) fn say_notice(&mut self, now: Timestamp, key: &ObjectKey, notice: Fault) {
        let said =
            self.objects.get(key).is_some_and(|object| object.inherited("ResourceCreated", "False", notice.reason));
        if !said {
            self.object_event(now, key, true, notice.reason, notice.message, None);
        }
    }
}
