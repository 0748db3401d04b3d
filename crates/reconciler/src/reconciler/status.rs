//! When status is written. What it says is derived (`conditions.rs`); what is kept is what was written last.

use std::time::Duration;

use longshore_api::status::{ModelAdapterStatus, Phase};
use longshore_types::{AdapterKey, ObjectKey, Timestamp};

use super::conditions::{Picture, set};
use super::{Reconciler, Wake};
use crate::adapter::Gate;
use crate::{Effect, StatusWrite};

/// How long a write that something waits for may take before it is asked for again: its answer is lost.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How long a process may take to find out that what one before it could not load cannot be loaded by it either.
const TRIED_AGAIN: Duration = Duration::from_secs(10);
/// The way up. `Failed` is beside it.
const WAY_UP: [Phase; 5] = [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running];

impl Reconciler {
    pub(super) fn step_object(&mut self, now: Timestamp, key: &ObjectKey) {
        self.say_unsaid(now, key);
        if self.release_object(key) {
            return;
        }
        let Some(object) = self.objects.get(key) else { return };
        if let Some(since) = object.deleting {
            // There is nothing to show it on where the object itself is gone.
            if !object.gone {
                self.show_deletion(now, key, since);
            }
            return;
        }
        self.step_retries(key);
        let Some(object) = self.objects.get(key) else { return };
        // One that the object does not name any more may still be on its way out.
        let wanted = |key: &&AdapterKey| self.adapters.get(*key).is_some_and(|adapter| !adapter.deleting);
        let Some(adapter) = object.adapters.iter().find(wanted).cloned() else {
            self.show_refusal(now, key);
            return;
        };
        let asks = self.asks(now, &adapter);
        if !asks && self.starts_still(now, key, &adapter) {
            return;
        }
        let standings = self.standings(&adapter);
        self.note_standings(now, &adapter, &standings);
        let Some(picture) = Picture::with(self, &adapter, standings) else { return };
        let (phase, wrong) = (picture.phase(), picture.complaint());
        // What would have to wait for its turn is not even put together.
        let early = self.turn(key, phase).filter(|turn| !asks && *turn > now);
        let status = early.is_none().then(|| picture.status());
        self.complain(now, key, wrong);
        let Some(status) = status else {
            early.into_iter().for_each(|turn| self.timers.wake(Wake::Object(key.clone()), turn));
            return;
        };
        // On the way up, every phase between the one shown and the present one is shown, in order.
        let from = self.objects.get(key).filter(|object| object.written).map(|object| object.shown.phase);
        let step = |phase| WAY_UP.iter().position(|step| *step == phase);
        let begin = from.map_or(Some(0), |from| Some(step(from)? + 1)).unwrap_or(usize::MAX);
        if let Some(end) = step(phase) {
            for between in WAY_UP.iter().take(end).skip(begin) {
                self.write(now, key, as_of(&status, *between), true, false);
            }
        }
        self.write(now, key, status, false, asks);
        if asks && let (Some(object), Some(adapter)) = (self.objects.get(key), self.adapters.get_mut(&adapter)) {
            adapter.gate = Some(Gate::Asked { sequence: object.sequence, at: now });
            self.timers.wake(Wake::Object(key.clone()), now + ASK_AGAIN);
        }
    }

    /// Whether something waits for the next status to be shown.
    fn asks(&mut self, now: Timestamp, key: &AdapterKey) -> bool {
        match self.adapters.get(key).and_then(|adapter| adapter.gate) {
            Some(Gate::Ask) => true,
            Some(Gate::Asked { at, .. }) if at + ASK_AGAIN <= now => true,
            Some(Gate::Asked { at, .. }) => {
                self.timers.wake(Wake::Object(key.object.clone()), at + ASK_AGAIN);
                false
            }
            None => false,
        }
    }

    /// Whether the status that a process before this one has written may still be true for all that is known: engines are
    /// being asked, the route that it tells of is being given out again, or what failed is being tried once more. A restart
    /// of ours is no news to anybody.
    fn starts_still(&mut self, now: Timestamp, key: &ObjectKey, adapter_key: &AdapterKey) -> bool {
        let (Some(object), Some(adapter)) = (self.objects.get(key), self.adapters.get(adapter_key)) else {
            return false;
        };
        if !object.is_untouched() {
            return false;
        }
        if !self.settled {
            return true;
        }
        let resolving = adapter.target.is_none() && adapter.resolving.is_some();
        let phase = || Picture::new(self, adapter_key).map(|picture| picture.phase());
        match object.shown.phase {
            Phase::Running => resolving || (adapter.publish_fault.is_none() && phase() == Some(Phase::Bound)),
            Phase::Failed if object.tries_again() => {
                let until = self.first_answer.map_or(now, |first| first + TRIED_AGAIN);
                let still = until > now && (resolving || phase() == Some(Phase::Loading));
                if still {
                    self.timers.wake(Wake::Object(key.clone()), until);
                }
                still
            }
            _ => false,
        }
    }

    pub(super) fn status_written(&mut self, key: &ObjectKey, sequence: u64) {
        let Some(object) = self.objects.get(key) else { return };
        for key in &object.adapters {
            if let Some(adapter) = self.adapters.get_mut(key)
                && adapter.gate.is_some_and(|gate| gate.is_met_by(sequence))
            {
                adapter.gate = None;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// When a status of this phase may be written: at any time where there is none for this phase yet.
    fn turn(&self, key: &ObjectKey, phase: Phase) -> Option<Timestamp> {
        let object = self.objects.get(key).filter(|object| object.written && object.shown.phase == phase)?;
        Some(object.last_write? + self.config.status_interval)
    }

    /// Writes a status that differs from the one shown. One that differs in counts only waits for its turn.
    pub(super) fn write(
        &mut self,
        now: Timestamp,
        key: &ObjectKey,
        mut status: ModelAdapterStatus,
        always: bool,
        ask: bool,
    ) {
        let Some(object) = self.objects.get_mut(key) else { return };
        keep_transition_times(now, &mut status, &object.shown);
        if object.written && status == object.shown && !ask {
            return;
        }
        let phase_change = !object.written || status.phase != object.shown.phase;
        if let Some(turn) = self.turn(key, status.phase).filter(|turn| !always && !ask && *turn > now) {
            self.timers.wake(Wake::Object(key.clone()), turn);
            return;
        }
        let Some(object) = self.objects.get_mut(key) else { return };
        object.sequence += 1;
        object.written = true;
        object.last_write = Some(now);
        object.shown = status.clone();
        self.effects.push(Effect::WriteStatus(StatusWrite {
            object: key.clone(),
            sequence: object.sequence,
            status: Box::new(status),
            phase_change,
            acknowledge: ask,
        }));
    }

    /// An object that declares nothing, since it cannot be understood.
    fn show_refusal(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get(key) else { return };
        let Some(fault) = object.refused.clone() else { return };
        let generation = object.generation;
        self.complain(now, key, Some((fault.reason, fault.message.clone())));
        let mut status = ModelAdapterStatus {
            phase: Phase::Failed,
            observed_generation: Some(generation),
            ..ModelAdapterStatus::default()
        };
        set(&mut status, "Ready", "False", fault.reason, fault.message);
        self.write(now, key, status, false, false);
    }
}

/// The status as it was when `phase` was reached, on the way to the present one: later conditions are left out.
fn as_of(status: &ModelAdapterStatus, phase: Phase) -> ModelAdapterStatus {
    let mut earlier = status.clone();
    earlier.phase = phase;
    earlier.ready_replicas = 0;
    earlier.instances.clear();
    earlier.engines.clear();
    earlier.conditions.retain(|condition| match condition.type_.as_str() {
        "Initialized" => true,
        "Scheduled" => phase >= Phase::Scheduled,
        "Loading" => phase >= Phase::Loading,
        "Bound" => phase >= Phase::Bound,
        _ => false,
    });
    for condition in &mut earlier.conditions {
        match (condition.type_.as_str(), phase) {
            ("Initialized", Phase::Pending) => condition.status = "Unknown".to_owned(),
            ("Loading", Phase::Loading) if condition.status != "True" => {
                condition.status = "True".to_owned();
                condition.reason = "Loading".to_owned();
                condition.message = "fetching and loading".to_owned();
            }
            _ => {}
        }
    }
    earlier
}

/// A condition's transition time is when its status last changed.
fn keep_transition_times(now: Timestamp, status: &mut ModelAdapterStatus, shown: &ModelAdapterStatus) {
    for condition in &mut status.conditions {
        let before = shown.conditions.iter().find(|before| before.type_ == condition.type_);
        condition.last_transition_time = match before {
            Some(before) if before.status == condition.status => before.last_transition_time.clone(),
            _ => now.to_string(),
        };
    }
}
