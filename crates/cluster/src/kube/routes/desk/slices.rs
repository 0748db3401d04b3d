//! EndpointSlices: which there should be, and what is to be written on each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::labels::is_dns_1035_label;
use tokio::time::Instant;

use super::super::super::calls::CallError;
use super::super::super::slices::{Layout, Slice, SliceSeen, Subject, lay_out, name_of, sets};
use super::super::lane::{Lane, Step};
use super::queue::Class;
use super::{Desk, Done, Id, LaneId, SliceCall};

/// An addition waits until its slice was not written for this long: while many engines become ready one after the other,
/// each slice is written ten times a second and not once per engine. Every write goes to every node.
pub(in super::super) const TOGETHER: Duration = Duration::from_millis(100);

/// How often it is looked whether an object of another's that is in the way has gone. There is no watch of those.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How far numbers of slices are looked for that an earlier life of this process gave. A set of 25,600 endpoints has as
/// many; what is not found is written anew and the old slice deleted.
const FAR: u32 = 256;

/// One slice: what it should be and what it is.
#[derive(Default)]
pub(super) struct SliceLane {
    lane: Lane<SliceSeen, Slice>,
    /// Whose it should be or says that it is.
    home: Option<Subject>,
    wanted: Option<Slice>,
    /// Its number in its set, where it is wanted.
    number: Option<u32>,
    /// Nobody wants it: it goes.
    doomed: bool,
    /// Another's has this name: it is never touched, and another name is taken.
    foreign: bool,
}

enum Need {
    Look,
    Apply,
    Strip,
    Delete,
}

impl SliceLane {
    pub(super) fn listed(&mut self) {
        self.lane.listed();
    }

    pub(super) fn heard(&mut self) -> bool {
        self.lane.heard()
    }

    /// What is to be done, and how urgent it is.
    fn need(&self) -> Option<(Need, Class)> {
        if self.foreign {
            return Some((Need::Look, Class::Service));
        }
        match (&self.wanted, self.lane.seen()) {
            (None, Some(seen)) if self.doomed && !seen.deleting => Some((Need::Delete, Class::Withdrawal)),
            (None, _) => None,
            (Some(_), None) => Some((Need::Apply, Class::Addition)),
            (Some(wanted), Some(seen)) if seen.content.as_ref() == Some(wanted) || seen.deleting => None,
            (Some(wanted), Some(seen)) => {
                let class = if seen.loses(wanted) { Class::Withdrawal } else { Class::Addition };
                if !self.lane.is_tried(wanted, Step::Apply) {
                    Some((Need::Apply, class))
                } else if !seen.surplus(wanted).is_empty() && !self.lane.is_tried(wanted, Step::Strip) {
                    Some((Need::Strip, class))
                } else {
                    None
                }
            }
        }
    }

    fn earliest(&self, now: Instant, class: Class) -> Instant {
        let spacing = match class {
            _ if self.foreign => LOOK_AGAIN,
            Class::Withdrawal => Duration::ZERO,
            Class::Look | Class::Addition | Class::Service => TOGETHER,
        };
        self.lane.earliest(now, self.wanted.as_ref(), spacing)
    }

    /// Whether it is as it should be.
    pub(super) fn stands(&self) -> bool {
        let going = self.lane.seen().is_some_and(|seen| seen.deleting);
        !self.lane.is_under_way() && (self.foreign || (self.need().is_none() && !going))
    }

    /// Whether it will be written as soon as its turn comes.
    pub(super) fn is_busy(&self) -> bool {
        let due = !self.foreign && self.need().is_some() && !self.lane.is_failing();
        self.lane.is_under_way() || due
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    pub(super) fn lane(&self) -> &Lane<SliceSeen, Slice> {
        &self.lane
    }
}

impl Desk {
    /// Says which slices `subject` should have: the same as before where that is possible.
    pub(super) fn lay_out(&mut self, subject: &Subject) {
        let joined = self.is_joined(subject);
        let Some(wanted) = self.wanted.get_mut(subject) else { return };
        wanted.dirty = false;
        let owner = wanted.owner.clone();
        let (sets, refused) = sets(subject, &wanted.endpoints, &wanted.pods);
        wanted.refused = refused;
        let ids = self.of.get(subject).cloned().unwrap_or_default();
        let mut after = BTreeMap::new();
        for (set, targets) in sets {
            let id_of = |number| Id {
                namespace: subject.namespace().clone(),
                name: name_of(subject, owner.as_deref(), &set, number),
            };
            let mut before = Layout::new();
            let mut unnumbered = Vec::new();
            for id in &ids {
                let Some(lane) = self.slices.get(id).filter(|lane| !lane.foreign && !lane.doomed) else { continue };
                match (&lane.wanted, lane.number) {
                    (Some(slice), Some(number)) if slice.set == set && slice.owner == owner => {
                        before.insert(number, slice.targets.clone());
                    }
                    (Some(_), _) => {}
                    (None, _) => unnumbered.push(id),
                }
            }
            // From an earlier life of this process.
            let mut number = 0;
            while !unnumbered.is_empty() && number < FAR {
                let name = id_of(number).name;
                if let Some(at) = unnumbered.iter().position(|id| id.name == name) {
                    let seen = self.slices.get(unnumbered.swap_remove(at)).and_then(|lane| lane.lane.seen());
                    let content = seen.and_then(|seen| seen.content.as_ref());
                    before.insert(number, content.map(|slice| slice.targets.clone()).unwrap_or_default());
                }
                number += 1;
            }
            let free = |number| {
                let lane = self.slices.get(&id_of(number));
                lane.is_none_or(|lane| !lane.foreign && lane.home.as_ref().is_none_or(|home| home == subject))
            };
            for (number, targets) in lay_out(&before, &targets, free) {
                let id = id_of(number);
                let (name, owner) = (id.name.clone(), owner.clone());
                let slice = Slice { name, subject: subject.clone(), owner, joined, set: set.clone(), targets };
                after.insert(id, (number, slice));
            }
        }
        for id in ids.iter().filter(|id| !after.contains_key(id)) {
            if let Some(lane) = self.slices.get_mut(id).filter(|lane| !lane.foreign) {
                (lane.wanted, lane.number, lane.doomed) = (None, None, true);
            }
        }
        for (id, (number, slice)) in after {
            let lane = self.slices.entry(id.clone()).or_default();
            (lane.wanted, lane.number, lane.doomed) = (Some(slice), Some(number), false);
            lane.home = Some(subject.clone());
            self.of.entry(subject.clone()).or_default().insert(id);
        }
    }

    /// Whether slices say that they are the Service's: only where that is ours, or about to be.
    fn is_joined(&self, subject: &Subject) -> bool {
        let Subject::Adapter(key) = subject else { return false };
        is_dns_1035_label(key.name.as_str()) && !self.has_foreign_service(key)
    }

    /// Nobody wants any slice of `subject`.
    pub(super) fn abandon(&mut self, now: Instant, subject: &Subject) {
        for id in self.of.get(subject).cloned().unwrap_or_default() {
            let Some(lane) = self.slices.get_mut(&id) else { continue };
            if lane.foreign {
                self.slices.remove(&id);
                self.leave(subject, &id);
            } else {
                (lane.wanted, lane.number, lane.doomed) = (None, None, true);
                self.consider_slice(now, &id);
            }
        }
    }

    pub(super) fn slice_shown(&mut self, now: Instant, seen: SliceSeen) {
        let id = Id { namespace: seen.namespace.clone(), name: seen.name.clone() };
        let subject = seen.subject.clone();
        let lane = self.slices.entry(id.clone()).or_default();
        // Its label says that it is ours, or the watch would not have shown it.
        lane.foreign &= !seen.managed;
        lane.lane.put(seen);
        if lane.wanted.is_none() && lane.home != subject {
            self.rehome(&id, subject);
        }
        self.slice_changed(now, &id);
    }

    pub(super) fn slice_gone(&mut self, now: Instant, id: &Id, uid: Option<&str>) {
        if let Some(lane) = self.slices.get_mut(id) {
            lane.lane.gone(uid);
            self.slice_changed(now, id);
        }
    }

    pub(super) fn slice_done(&mut self, now: Instant, id: &Id, result: Result<Done<SliceSeen>, CallError>) {
        let Some(lane) = self.slices.get_mut(id) else { return };
        lane.lane.done(now, result);
        let foreign = match (&lane.wanted, lane.lane.seen()) {
            (Some(wanted), Some(seen)) => !seen.is_ours(wanted),
            (None, Some(seen)) => lane.foreign && !seen.managed,
            (_, None) => false,
        };
        let home = lane.home.clone();
        if foreign && !lane.foreign {
            tracing::warn!(namespace = %id.namespace, slice = &*id.name, "an EndpointSlice of another's has the name of one of ours");
            (lane.wanted, lane.number) = (None, None);
        }
        if foreign != lane.foreign
            && let Some(wanted) = home.as_ref().and_then(|home| self.wanted.get_mut(home))
        {
            wanted.dirty = true;
        }
        lane.foreign = foreign;
        self.slice_changed(now, id);
    }

    fn slice_changed(&mut self, now: Instant, id: &Id) {
        match self.slices.get(id).and_then(|lane| lane.home.clone()) {
            Some(home) if self.wanted.contains_key(&home) => {
                self.review(now, &home);
                // It may be one that is nobody's by now.
                self.forget_slice(id);
            }
            _ => self.consider_slice(now, id),
        }
    }

    fn rehome(&mut self, id: &Id, subject: Option<Subject>) {
        let Some(lane) = self.slices.get_mut(id) else { return };
        let before = std::mem::replace(&mut lane.home, subject.clone());
        // The one that has it now decides anew whether it goes.
        lane.doomed = false;
        if let Some(before) = before {
            self.leave(&before, id);
        }
        if let Some(subject) = subject {
            if let Some(wanted) = self.wanted.get_mut(&subject) {
                wanted.dirty = true;
            }
            self.of.entry(subject).or_default().insert(id.clone());
        }
    }

    fn leave(&mut self, subject: &Subject, id: &Id) {
        if let Some(ids) = self.of.get_mut(subject) {
            ids.remove(id);
            if ids.is_empty() {
                self.of.remove(subject);
            }
        }
    }

    fn forget_slice(&mut self, id: &Id) {
        let idle =
            self.slices.get(id).is_some_and(|lane| lane.wanted.is_none() && !lane.foreign && lane.lane.is_idle());
        if idle
            && let Some(lane) = self.slices.remove(id)
            && let Some(home) = lane.home
        {
            self.leave(&home, id);
        }
    }

    pub(super) fn consider_slice(&mut self, now: Instant, id: &Id) {
        self.forget_slice(id);
        if !self.is_ready() {
            return;
        }
        let Some(lane) = self.slices.get_mut(id) else { return };
        if self.settled && lane.wanted.is_none() && !lane.doomed {
            let owned = lane.home.as_ref().is_some_and(|home| self.wanted.contains_key(home));
            lane.doomed = !owned && lane.lane.seen().is_some_and(SliceSeen::was_ours);
        }
        if lane.lane.is_under_way() {
            return;
        }
        if let Some((_, class)) = lane.need() {
            let (at, id) = (lane.earliest(now, class), LaneId::Slice(id.clone()));
            if at <= now {
                self.queue.push(&id, class);
            } else {
                self.queue.at(at, &id);
            }
        }
    }

    pub(super) fn begin_slice(&mut self, now: Instant, id: &Id) -> Option<SliceCall> {
        let lane = self.slices.get_mut(id)?;
        let (need, class) = lane.need()?;
        if lane.lane.is_under_way() || lane.earliest(now, class) > now {
            return None;
        }
        let (uid, version) = lane.lane.seen().map(|seen| (seen.uid.clone(), seen.version.clone())).unzip();
        let wanted = lane.wanted.clone();
        match (need, wanted, uid, version) {
            (Need::Look, ..) => {
                lane.lane.begin(now, None, Step::Other);
                Some(SliceCall::Look)
            }
            (Need::Delete, _, Some(uid), _) => {
                lane.lane.begin(now, None, Step::Other);
                lane.lane.deletes();
                Some(SliceCall::Delete { uid })
            }
            (Need::Apply, Some(slice), uid, _) => {
                lane.lane.begin(now, Some(slice.clone()), Step::Apply);
                Some(SliceCall::Apply { slice, uid })
            }
            (Need::Strip, Some(slice), Some(uid), Some(version)) => {
                let keys = lane.lane.seen().map(|seen| seen.surplus(&slice)).unwrap_or_default();
                lane.lane.begin(now, Some(slice), Step::Strip);
                Some(SliceCall::Strip { keys, uid, version })
            }
            // What is to be deleted or stripped is there, what is to be written is wanted.
            (Need::Delete | Need::Strip | Need::Apply, ..) => None,
        }
    }
}

/// The names of slices of another's that are in the way of `subject`'s.
pub(super) fn taken_names(desk: &Desk, subject: &Subject) -> Vec<Arc<str>> {
    let ids = desk.of.get(subject).into_iter().flatten();
    ids.filter(|id| desk.slices.get(id).is_some_and(SliceLane::is_foreign)).map(|id| id.name.clone()).collect()
}
