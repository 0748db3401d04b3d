//! Which status is written next. No clock and no client: times come in, writes come out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use longshore_api::status::ModelAdapterStatus;
use longshore_reconciler::StatusWrite;
use longshore_types::ObjectKey;
use tokio::time::Instant;

use crate::kube::calls::Backoff;

/// While more objects than this wait, only the latest status of each is written: a crowd should see where it stands, and
/// five writes for each would take a thousand objects more than ten seconds.
const CROWD: usize = 50;

/// One status that is to be shown.
#[derive(Debug)]
pub(super) struct Job {
    pub object: ObjectKey,
    /// Of the object that it is about; another one of that name must not get it.
    pub uid: String,
    pub status: Box<ModelAdapterStatus>,
    phase_change: bool,
    /// The sequences that are answered once this is shown: its own, and those of statuses that it stands for.
    pub answers: Vec<u64>,
}

/// What became of a write that may be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Nobody answered, rather than somebody saying no.
    pub silent: bool,
    /// How long the API server asked to be left alone.
    pub asked: Option<Duration>,
}

/// The statuses of all objects that wait to be written, in order for each object.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// An object is here while something of it waits or is being written.
    lanes: BTreeMap<ObjectKey, Lane>,
    /// Objects whose next status may be written now, in the order in which they came.
    fresh: VecDeque<ObjectKey>,
    /// Objects whose last write failed, by when it is tried again.
    failed: BTreeSet<(Instant, ObjectKey)>,
    under_way: usize,
    /// Of those under way, the ones that failed before.
    retrying: usize,
    /// Statuses that were never written, since a later one was.
    skipped: u64,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Job>,
    state: State,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// In `fresh`, or nothing waits.
    #[default]
    Fresh,
    /// In `failed`, under this time.
    Failed { until: Instant, silent: bool },
    /// Being written.
    UnderWay {
        /// Whether it failed before.
        retry: bool,
        /// Whether nobody wants it any more: it is not tried again.
        void: bool,
    },
}

impl Queue {
    pub(super) fn push(&mut self, write: StatusWrite, uid: String) {
        let StatusWrite { object, sequence, status, phase_change, acknowledge } = write;
        let answers = acknowledge.then_some(sequence).into_iter().collect();
        let lane = self.lanes.entry(object.clone()).or_insert_with(|| {
            self.fresh.push_back(object.clone());
            Lane::default()
        });
        if lane.waiting.back().is_some_and(|before| before.uid != uid) {
            lane.waiting.clear();
        }
        lane.waiting.push_back(Job { object, uid, status, phase_change, answers });
        self.skipped += lane.merge();
    }

    /// The next status to write, where fewer than `limit` are being written.
    pub(super) fn pop(&mut self, now: Instant, limit: usize) -> Option<Job> {
        if self.under_way >= limit {
            return None;
        }
        let crowded = self.fresh.len() + self.failed.len() > CROWD;
        let due = self.failed.first().is_some_and(|(until, _)| *until <= now);
        let retry = due && self.retrying < most_retries(limit);
        let object = if retry { self.failed.pop_first().map(|(_, object)| object) } else { self.fresh.pop_front() }?;
        let lane = self.lanes.get_mut(&object)?;
        if crowded {
            self.skipped += lane.skip_to_last();
        }
        let job = lane.waiting.pop_front()?;
        lane.state = State::UnderWay { retry, void: false };
        self.under_way += 1;
        self.retrying += usize::from(retry);
        Some(job)
    }

    /// From when on [`Self::pop`] with this limit has something; none where that takes more than time.
    pub(super) fn due(&self, now: Instant, limit: usize) -> Option<Instant> {
        if self.under_way >= limit {
            None
        } else if !self.fresh.is_empty() {
            Some(now)
        } else if self.retrying < most_retries(limit) {
            self.failed.first().map(|(until, _)| *until)
        } else {
            None
        }
    }

    /// The write went through, or there is no use in trying it again. `answered`: the API server has said so.
    pub(super) fn done(&mut self, object: &ObjectKey, now: Instant, answered: bool) {
        self.ended(object, None);
        if answered {
            self.try_silent(now);
        }
    }

    /// The write is to be tried again, unless nobody wants it any more. Returns whether it is.
    pub(super) fn failed(&mut self, job: Job, now: Instant, failure: Failure) -> bool {
        let object = job.object.clone();
        self.ended(&object, Some((job, now, failure)))
    }

    /// Forgets what waits for the object; what is being written is not tried again.
    pub(super) fn forget(&mut self, object: &ObjectKey) {
        let Some(lane) = self.lanes.get_mut(object) else { return };
        lane.waiting.clear();
        match &mut lane.state {
            State::UnderWay { void, .. } => *void = true,
            State::Fresh | State::Failed { .. } => {
                self.lanes.remove(object);
                self.fresh.retain(|other| other != object);
                self.failed.retain(|(_, other)| other != object);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self { skipped: self.skipped, ..Self::default() };
    }

    /// Objects with a status that is not shown yet.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether every status of the object is shown.
    pub(super) fn is_quiet(&self, object: &ObjectKey) -> bool {
        !self.lanes.contains_key(object)
    }

    /// Whether something is being written, or could be at once: other work makes way for that.
    pub(super) fn presses(&self) -> bool {
        self.under_way > 0 || !self.fresh.is_empty()
    }

    /// How many statuses were passed over since this was last asked.
    pub(super) fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    fn ended(&mut self, object: &ObjectKey, again: Option<(Job, Instant, Failure)>) -> bool {
        let Some(lane) = self.lanes.get_mut(object) else { return false };
        let State::UnderWay { retry, void } = lane.state else { return false };
        self.under_way -= 1;
        self.retrying -= usize::from(retry);
        // Another object of that name has come: its statuses are not behind those of the one before.
        let again = again.filter(|(job, ..)| !void && lane.waiting.front().is_none_or(|next| next.uid == job.uid));
        if let Some((job, now, failure)) = again {
            lane.waiting.push_front(job);
            let until = now + lane.backoff.next(failure.asked);
            lane.state = State::Failed { until, silent: failure.silent };
            self.skipped += lane.merge();
            self.failed.insert((until, object.clone()));
            return true;
        }
        if lane.waiting.is_empty() {
            self.lanes.remove(object);
        } else {
            lane.state = State::Fresh;
            lane.backoff.reset();
            self.fresh.push_back(object.clone());
        }
        false
    }

    /// The API server answers again: what it was silent about is tried now, and not at the end of waits that grew while
    /// it was away. That there are never more than a few writes at once keeps this from being a storm.
    fn try_silent(&mut self, now: Instant) {
        let silent = |object: &ObjectKey| {
            matches!(self.lanes.get(object).map(|lane| lane.state), Some(State::Failed { silent: true, .. }))
        };
        let waiting: Vec<_> =
            self.failed.iter().filter(|(until, object)| *until > now && silent(object)).cloned().collect();
        for (until, object) in waiting {
            self.failed.remove(&(until, object.clone()));
            if let Some(lane) = self.lanes.get_mut(&object) {
                // Once each: when it fails again its wait is longer than before.
                lane.state = State::Failed { until: now, silent: false };
            }
            self.failed.insert((now, object));
        }
    }
}

impl Lane {
    /// Lets each waiting status that need not be seen be replaced by the one behind it. Returns how many were.
    fn merge(&mut self) -> u64 {
        let mut merged = 0;
        let mut kept: VecDeque<Job> = VecDeque::with_capacity(self.waiting.len());
        for mut job in self.waiting.drain(..) {
            if let Some(before) = kept.pop_back_if(|before| before.may_be_replaced_by(&job)) {
                job.stand_for(before);
                merged += 1;
            }
            kept.push_back(job);
        }
        self.waiting = kept;
        merged
    }

    /// Leaves only the last. Returns how many there were before it.
    fn skip_to_last(&mut self) -> u64 {
        let Some(mut last) = self.waiting.pop_back() else { return 0 };
        let mut skipped = 0;
        for before in self.waiting.drain(..).rev() {
            last.stand_for(before);
            skipped += 1;
        }
        self.waiting.push_back(last);
        skipped
    }
}

impl Job {
    /// A change of phase is seen by whoever watches. The later status shows it as well where it has the same phase.
    fn may_be_replaced_by(&self, later: &Self) -> bool {
        !self.phase_change || (!later.phase_change && self.status.phase == later.status.phase)
    }

    fn stand_for(&mut self, before: Self) {
        self.phase_change |= before.phase_change;
        self.answers.extend(before.answers);
    }
}

/// Retries take at most half of the writes that may be under way, so that objects that cannot be written on do not hold up
/// the others.
fn most_retries(limit: usize) -> usize {
    (limit / 2).max(1)
}

#[cfg(test)]
mod tests;
