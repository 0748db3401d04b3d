//! Which event is written next, and whether as a new one or as one more of a series. No clock and no client: times come
//! in, writes come out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use longshore_reconciler::Event;
use longshore_types::{EngineId, ObjectKey, Timestamp};
use tokio::time::Instant;

/// The same again within this time is counted on the event that there is: as long as the API server's own clients do.
const SERIES: Duration = Duration::from_secs(6 * 60);
/// Events that wait at most, of all objects: a minute of 128 objects that have as many events as they may. An event is
/// about half a KiB.
const MOST_WAITING: usize = 4096;
/// Series that are remembered at most. Beyond that they begin anew.
const MOST_SERIES: usize = 4096;
/// An event that cannot be written is tried so often in all.
const ATTEMPTS: u32 = 3;
/// An event is written after its object's status, but waits no longer than this for it.
const BEHIND_STATUS: Duration = Duration::from_secs(10);

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    /// Of the object.
    uid: String,
    warning: bool,
    reason: &'static str,
    note: String,
    related: Option<EngineId>,
}

/// One event that is to be written, as often as it has happened meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub event: Event,
    /// Of the object.
    pub uid: String,
    /// Of the pod that it is about.
    pub pod: Option<String>,
    /// When it first happened, in microseconds since the epoch. No two entries have the same.
    pub first: u64,
    /// When it last happened, likewise.
    pub last: u64,
    /// How often.
    pub count: u32,
    /// Random: two processes that say something in the same microsecond choose different names.
    pub salt: u16,
    told: Instant,
    attempts: u32,
    /// Whether an attempt was not answered, so that it may have been done.
    unsure: bool,
}

/// How it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// As an event of its own, of this name.
    New(String),
    /// As a further one of the event of this name, which then has happened so often.
    Series(String, u32),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Written,
    /// An event of this name exists.
    NameTaken,
    /// The event of the series is gone.
    SeriesGone,
    /// It may go through later. `silent`: nobody answered.
    Failed {
        silent: bool,
    },
    /// It never will.
    Refused,
}

#[derive(Debug)]
struct Known {
    name: String,
    count: u32,
    last: u64,
}

/// Events that wait to be written, in order for each object, objects in turn.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: BTreeMap<ObjectKey, VecDeque<Entry>>,
    turns: VecDeque<ObjectKey>,
    busy: BTreeSet<ObjectKey>,
    /// Those that wait, by [`Entry::first`]: what is dropped when there are too many.
    normal: BTreeMap<u64, ObjectKey>,
    warnings: BTreeMap<u64, ObjectKey>,
    known: BTreeMap<Identity, Known>,
    latest: u64,
    dropped: u64,
}

impl Queue {
    /// Something has happened to the object with this uid, and to the pod with that one.
    pub(super) fn push(
        &mut self,
        event: Event,
        uid: String,
        pod: Option<String>,
        now: Timestamp,
        told: Instant,
        salt: u16,
    ) {
        // Events are listed by name, and names by this: no two are the same, and it never goes back.
        let at = (now.as_millis().saturating_mul(1000)).max(self.latest + 1);
        self.latest = at;
        let object = event.object.clone();
        let entry = Entry { event, uid, pod, first: at, last: at, count: 1, salt, told, attempts: 0, unsure: false };
        let lane = self.lanes.entry(object.clone()).or_default();
        if let Some(same) = lane.iter_mut().find(|before| before.is_same(&entry)) {
            same.count = same.count.saturating_add(1);
            same.last = at;
            return;
        }
        if lane.is_empty() && !self.busy.contains(&object) {
            self.turns.push_back(object.clone());
        }
        self.by_time(entry.event.warning).insert(at, object.clone());
        self.lanes.entry(object).or_default().push_back(entry);
        if self.normal.len() + self.warnings.len() > MOST_WAITING {
            self.drop_oldest();
        }
    }

    /// The next event of an object that has no other one under way, and whose status is shown (`quiet`) or is taking too
    /// long.
    pub(super) fn pop(&mut self, now: Instant, quiet: impl Fn(&ObjectKey) -> bool) -> Option<(Entry, Target)> {
        for _ in 0..self.turns.len() {
            let object = self.turns.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&object) else { continue };
            let Some(next) = lane.front() else { continue };
            if now < next.told + BEHIND_STATUS && !quiet(&object) {
                self.turns.push_back(object);
                continue;
            }
            let entry = lane.pop_front()?;
            self.by_time(entry.event.warning).remove(&entry.first);
            self.busy.insert(object);
            let target = self.target(&entry);
            return Some((entry, target));
        }
        None
    }

    /// The write that [`Self::pop`] returned has ended so.
    pub(super) fn ended(&mut self, mut entry: Entry, target: Target, ended: Ended, salt: u16) {
        let written = match ended {
            // Nobody else takes the name that a first attempt has chosen.
            Ended::NameTaken => entry.unsure,
            Ended::Written => true,
            _ => false,
        };
        if written {
            self.remember(&entry, target);
            self.free(&entry.event.object);
            return;
        }
        match ended {
            Ended::NameTaken => entry.salt = salt,
            Ended::SeriesGone => {
                self.known.remove(&entry.identity());
            }
            Ended::Failed { silent } => entry.unsure |= silent,
            Ended::Refused | Ended::Written => entry.attempts = ATTEMPTS,
        }
        entry.attempts += 1;
        let object = entry.event.object.clone();
        if entry.attempts < ATTEMPTS {
            self.by_time(entry.event.warning).insert(entry.first, object.clone());
            self.lanes.entry(object.clone()).or_default().push_front(entry);
        } else {
            self.dropped += 1;
        }
        self.free(&object);
    }

    /// From when on an event does not wait for its object's status any more, for the one that waits longest.
    pub(super) fn due(&self) -> Option<Instant> {
        let fronts = self.turns.iter().filter_map(|object| self.lanes.get(object)?.front());
        fronts.map(|entry| entry.told + BEHIND_STATUS).min()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.normal.len() + self.warnings.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self { dropped: self.dropped, latest: self.latest, ..Self::default() };
    }

    /// How many were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn by_time(&mut self, warning: bool) -> &mut BTreeMap<u64, ObjectKey> {
        if warning { &mut self.warnings } else { &mut self.normal }
    }

    /// The object's next event may be written.
    fn free(&mut self, object: &ObjectKey) {
        self.busy.remove(object);
        if self.lanes.get(object).is_some_and(|lane| !lane.is_empty()) {
            self.turns.push_back(object.clone());
        } else {
            self.lanes.remove(object);
        }
    }

    fn drop_oldest(&mut self) {
        let Some((first, object)) = self.normal.pop_first().or_else(|| self.warnings.pop_first()) else { return };
        self.dropped += 1;
        let Some(lane) = self.lanes.get_mut(&object) else { return };
        lane.retain(|entry| entry.first != first);
        if lane.is_empty() {
            self.lanes.remove(&object);
            self.turns.retain(|other| *other != object);
        }
    }

    fn target(&self, entry: &Entry) -> Target {
        let recent = |known: &&Known| entry.first.saturating_sub(known.last) <= micros(SERIES);
        match self.known.get(&entry.identity()).filter(recent) {
            Some(known) => Target::Series(known.name.clone(), known.count.saturating_add(entry.count)),
            None => Target::New(entry.name()),
        }
    }

    fn remember(&mut self, entry: &Entry, target: Target) {
        let (name, count) = match target {
            Target::New(name) => (name, entry.count),
            Target::Series(name, count) => (name, count),
        };
        self.known.insert(entry.identity(), Known { name, count, last: entry.last });
        if self.known.len() > MOST_SERIES {
            let latest = self.latest;
            self.known.retain(|_, known| latest.saturating_sub(known.last) <= micros(SERIES));
        }
        if self.known.len() > MOST_SERIES {
            self.known.clear();
        }
    }
}

impl Entry {
    /// `OBJECT.HEX`: 13 digits of time, enough until the year 2112, and 3 that are random. Names say the order, since
    /// `kubectl describe` lists events by name where they have no `lastTimestamp`, which this API does not allow.
    fn name(&self) -> String {
        // 253 characters are allowed; a name's part may not end in `-`, and a part may not be empty.
        let object: String = self.event.object.name.as_str().chars().take(253 - 17).collect();
        format!("{}.{:013x}{:03x}", object.trim_end_matches(['-', '.']), self.first, self.salt & 0xfff)
    }

    fn identity(&self) -> Identity {
        Identity {
            uid: self.uid.clone(),
            warning: self.event.warning,
            reason: self.event.reason,
            note: self.event.message.clone(),
            related: self.event.related.clone(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.event == other.event
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
