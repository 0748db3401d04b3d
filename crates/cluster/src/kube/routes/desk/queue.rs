//! What goes before what, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use super::LaneId;

/// How many calls may be on their way where withdrawals wait. The API server shares a few tens of seats among all of a
/// priority level's clients; a write takes it about 3 ms, so this many make 5,000 a second, which is more than it does.
const IN_FLIGHT: usize = 16;

/// The same where none do. A write takes about 3 ms, of which the API server computes most: this many keep four of its
/// processors busy, with more than a thousand writes in a second. What waits here meanwhile becomes one write where it is
/// about one slice; what waited at the API server would be one each, and would delay other people's requests.
const IN_FLIGHT_OF_OTHERS: usize = 4;

/// How many first looks may be on their way beside those. One costs the API server a quarter of a write, and a slice that is
/// written before it would claim to be another's Service's for a moment.
const IN_FLIGHT_WITH_LOOKS: usize = 8;

/// Withdrawals go before additions, since requests fail where one is late; Services come last, since routers do not read
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Withdrawal,
    /// The first look whether the name of a Service is free, which slices go by.
    Look,
    Addition,
    Service,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: [VecDeque<LaneId>; 4],
    queued: BTreeMap<LaneId, Class>,
    timers: BTreeSet<(Instant, LaneId)>,
    set: BTreeMap<LaneId, Instant>,
    in_flight: usize,
}

impl Queue {
    /// It is due. Of two classes for one lane the more urgent counts.
    pub(super) fn push(&mut self, lane: &LaneId, class: Class) {
        self.forget_timer(lane);
        if self.queued.get(lane).is_none_or(|before| class < *before) {
            self.queued.insert(lane.clone(), class);
            self.waiting[class as usize].push_back(lane.clone());
        }
    }

    /// It is due then.
    pub(super) fn at(&mut self, time: Instant, lane: &LaneId) {
        self.forget_timer(lane);
        self.set.insert(lane.clone(), time);
        self.timers.insert((time, lane.clone()));
    }

    pub(super) fn is_queued(&self, lane: &LaneId) -> bool {
        self.queued.contains_key(lane)
    }

    fn forget_timer(&mut self, lane: &LaneId) {
        if let Some(time) = self.set.remove(lane) {
            self.timers.remove(&(time, lane.clone()));
        }
    }

    /// The next one, where there is room.
    pub(super) fn pop(&mut self) -> Option<LaneId> {
        let limits = [
            (Class::Withdrawal, IN_FLIGHT),
            (Class::Look, IN_FLIGHT_WITH_LOOKS),
            (Class::Addition, IN_FLIGHT_OF_OTHERS),
            (Class::Service, IN_FLIGHT_OF_OTHERS),
        ];
        for (class, limit) in limits {
            if self.in_flight >= limit {
                return None;
            }
            while let Some(lane) = self.waiting[class as usize].pop_front() {
                // It may have been put into a more urgent class since.
                if self.queued.get(&lane) == Some(&class) {
                    self.queued.remove(&lane);
                    return Some(lane);
                }
            }
        }
        None
    }

    pub(super) fn began(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Those whose time has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<LaneId> {
        let mut due = Vec::new();
        while let Some((time, _)) = self.timers.first()
            && *time <= now
            && let Some((_, lane)) = self.timers.pop_first()
        {
            self.set.remove(&lane);
            due.push(lane);
        }
        due
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.timers.first().map(|(time, _)| *time)
    }
}
