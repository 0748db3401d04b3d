//! Adapters' Services.

use std::sync::Arc;
use std::time::Duration;

use longshore_api::labels::is_dns_1035_label;
use tokio::time::Instant;

use super::super::super::calls::CallError;
use super::super::super::slices::{Fix, ServiceSeen, ServiceWanted, Subject, port_for};
use super::super::lane::{Lane, Step};
use super::queue::Class;
use super::slices::{LOOK_AGAIN, TOGETHER};
use super::{AdapterKey, Desk, Done, Fault, Id, LaneId, ObjectKey, ServiceCall};

/// The Service of one name: who wants it and what it is.
#[derive(Default)]
pub(super) struct ServiceLane {
    lane: Lane<ServiceSeen, ServiceWanted>,
    /// The adapter that has the name, once it had an endpoint.
    wanter: Option<AdapterKey>,
    /// An object that needs it no more: it goes where that object owns it.
    leaving: Option<ObjectKey>,
    /// It is not known yet whether there is one.
    look: bool,
    /// The uid of one that was found to be ours: it stays so when somebody takes its owner off.
    ours: Option<Arc<str>>,
    /// Whether a call about it has ended.
    tried: bool,
}

enum Need {
    Look,
    Create(ServiceWanted),
    Fix(Fix, ServiceWanted),
    Delete,
}

impl ServiceLane {
    pub(super) fn listed(&mut self) {
        self.lane.listed();
    }

    pub(super) fn heard(&mut self) -> bool {
        self.lane.heard()
    }

    /// Whether what is there is of another adapter or of an earlier life of this one's object, and on its way out.
    fn is_outdated(&self, seen: &ServiceSeen, object: &ObjectKey) -> bool {
        seen.is_owned_by_any(object) || self.leaving.as_ref().is_some_and(|leaving| seen.is_owned_by_any(leaving))
    }

    /// Whether what is there is neither the adapter's nor was.
    fn is_foreign(&self, key: &AdapterKey, owner: Option<&str>) -> bool {
        self.lane.seen().is_some_and(|seen| {
            let owned = owner.is_some_and(|uid| seen.is_owned_by(uid)) || self.ours.as_ref() == Some(&seen.uid);
            !owned && !self.is_outdated(seen, &key.object)
        })
    }

    /// Whether it need not be remembered: nobody wants it, nobody waits for its end, and what the watch shows of it is not
    /// needed or will be shown again.
    fn is_idle(&self) -> bool {
        let waits = match (self.lane.seen(), &self.leaving) {
            (None, _) => !self.lane.is_idle(),
            (Some(seen), Some(leaving)) => seen.is_labelled() || seen.is_owned_by_any(leaving),
            (Some(_), None) => true,
        };
        self.wanter.is_none() && !self.look && !self.lane.is_under_way() && !waits
    }
}

impl Desk {
    /// An adapter will perhaps have a Service.
    pub(in super::super) fn expect(&mut self, now: Instant, key: &AdapterKey) {
        let id = Id::service(key);
        if is_dns_1035_label(key.name.as_str()) && !self.services.contains_key(&id) {
            self.services.entry(id.clone()).or_default().look = true;
            self.consider_service(now, &id);
        }
    }

    /// The adapter has, or had, an endpoint. `another_life`: its object is not the one that it was.
    pub(super) fn want_service(&mut self, key: &AdapterKey, another_life: bool) {
        if is_dns_1035_label(key.name.as_str()) {
            let lane = self.services.entry(Id::service(key)).or_default();
            lane.wanter = Some(key.clone());
            if another_life {
                lane.ours = None;
            }
            lane.leaving.take_if(|object| *object == key.object);
        }
    }

    /// The adapter needs its Service no more.
    pub(super) fn leave_service(&mut self, now: Instant, key: &AdapterKey) {
        let id = Id::service(key);
        // Before the watch has shown them all there may be one that is not known of.
        if !self.services_listed {
            self.services.entry(id.clone()).or_default();
        }
        if let Some(lane) = self.services.get_mut(&id) {
            lane.wanter.take_if(|wanter| wanter == key);
            lane.look &= lane.lane.is_under_way();
            lane.ours = None;
            lane.leaving = Some(key.object.clone());
            self.consider_service(now, &id);
        }
    }

    /// Whether the Service of the adapter's name is known to be another's.
    pub(super) fn has_foreign_service(&self, key: &AdapterKey) -> bool {
        let owner = self.wanted.get(&Subject::Adapter(key.clone())).and_then(|wanted| wanted.owner.as_deref());
        self.services.get(&Id::service(key)).is_some_and(|lane| lane.is_foreign(key, owner))
    }

    /// Whether the first attempt at the adapter's Service is not over yet.
    pub(super) fn is_service_to_come(&self, key: &AdapterKey) -> bool {
        let id = Id::service(key);
        self.services.get(&id).is_some_and(|lane| {
            let busy = lane.lane.is_under_way() || self.queue.is_queued(&LaneId::Service(id));
            lane.wanter.as_ref() == Some(key) && !lane.tried && busy
        })
    }

    /// Why the adapter's Service is not as it should be, where that is worth telling.
    pub(super) fn service_fault(&self, now: Instant, key: &AdapterKey) -> Option<Fault> {
        let lane = self.services.get(&Id::service(key)).filter(|lane| lane.wanter.as_ref() == Some(key))?;
        lane.lane.fault(now).cloned()
    }

    pub(super) fn service_shown(&mut self, now: Instant, seen: ServiceSeen) {
        let id = Id { namespace: seen.namespace.clone(), name: seen.name.clone() };
        let lane = self.services.entry(id.clone()).or_default();
        lane.lane.put(seen);
        lane.look = false;
        self.service_changed(now, &id);
    }

    pub(super) fn service_gone(&mut self, now: Instant, id: &Id, uid: Option<&str>) {
        if let Some(lane) = self.services.get_mut(id) {
            lane.lane.gone(uid);
            self.service_changed(now, id);
        }
    }

    pub(super) fn service_done(&mut self, now: Instant, id: &Id, result: Result<Done<ServiceSeen>, CallError>) {
        let Some(lane) = self.services.get_mut(id) else { return };
        lane.look &= result.is_err();
        lane.tried |= lane.wanter.is_some();
        lane.lane.done(now, result);
        self.service_changed(now, id);
    }

    fn service_changed(&mut self, now: Instant, id: &Id) {
        let Some(key) = self.services.get(id).and_then(|lane| lane.wanter.clone()) else {
            return self.consider_service(now, id);
        };
        let subject = Subject::Adapter(key.clone());
        let owner = self.wanted.get(&subject).and_then(|wanted| wanted.owner.clone());
        if let Some(lane) = self.services.get_mut(id)
            && let Some(seen) = lane.lane.seen()
            && owner.is_some_and(|owner| seen.is_owned_by(&owner))
        {
            lane.ours = Some(seen.uid.clone());
        }
        // Slices say whether they belong to it.
        if let Some(wanted) = self.wanted.get_mut(&subject) {
            wanted.dirty = true;
        }
        self.review(now, &subject);
    }

    fn service_wanted(&self, lane: &ServiceLane) -> Option<ServiceWanted> {
        let key = lane.wanter.clone()?;
        let wanted = self.wanted.get(&Subject::Adapter(key.clone()))?;
        // After a restart the Service itself knows best which of several it was.
        let before = if wanted.endpoints.is_empty() { None } else { lane.lane.seen().and_then(ServiceSeen::port) };
        let port = port_for(&wanted.endpoints, before.or(wanted.port))?;
        Some(ServiceWanted { key, owner: wanted.owner.clone()?, port })
    }

    fn service_need(&self, lane: &ServiceLane) -> Option<Need> {
        if lane.look {
            return Some(Need::Look);
        }
        let (wanted, seen) = (self.service_wanted(lane), lane.lane.seen());
        let Some(wanted) = wanted else {
            let seen = seen.filter(|seen| !seen.deleting)?;
            return lane.leaving.as_ref().is_some_and(|object| seen.is_owned_by_any(object)).then_some(Need::Delete);
        };
        let Some(seen) = seen else { return Some(Need::Create(wanted)) };
        if seen.deleting {
            return None;
        }
        if lane.is_foreign(&wanted.key, Some(&wanted.owner)) {
            return Some(Need::Look);
        }
        if !seen.is_owned_by(&wanted.owner) && lane.ours.as_ref() != Some(&seen.uid) {
            return Some(Need::Delete);
        }
        // What another controller made is taken over once our own slices stand.
        if !seen.written && !self.has_endpoints_standing(&Subject::Adapter(wanted.key.clone())) {
            return None;
        }
        let tried = |step| lane.lane.is_tried(&wanted, step);
        match seen.fix(&wanted)? {
            Fix::Replace => Some(Need::Delete),
            Fix::Strip if !tried(Step::Strip) => Some(Need::Fix(Fix::Strip, wanted)),
            Fix::Apply if !tried(Step::Apply) => Some(Need::Fix(Fix::Apply, wanted)),
            Fix::Strip | Fix::Apply => None,
        }
    }

    fn service_spacing(&self, lane: &ServiceLane, need: &Need) -> Duration {
        match need {
            // For one of another's that is in the way. A first look follows nothing.
            Need::Look if lane.lane.seen().is_some() => LOOK_AGAIN,
            Need::Look | Need::Create(_) | Need::Delete => Duration::ZERO,
            Need::Fix(..) => TOGETHER,
        }
    }

    pub(super) fn consider_service(&mut self, now: Instant, id: &Id) {
        let Some(lane) = self.services.get(id) else { return };
        if self.services_listed && lane.is_idle() {
            self.services.remove(id);
            return;
        }
        if !self.is_ready() || lane.lane.is_under_way() {
            return;
        }
        if let Some(need) = self.service_need(lane) {
            let spacing = self.service_spacing(lane, &need);
            let what = self.service_wanted(lane);
            let class = if lane.look { Class::Look } else { Class::Service };
            let (at, id) = (lane.lane.earliest(now, what.as_ref(), spacing), LaneId::Service(id.clone()));
            if at <= now {
                self.queue.push(&id, class);
            } else {
                self.queue.at(at, &id);
            }
        }
    }

    pub(super) fn begin_service(&mut self, now: Instant, id: &Id) -> Option<ServiceCall> {
        let lane = self.services.get(id)?;
        let need = self.service_need(lane)?;
        let (spacing, what) = (self.service_spacing(lane, &need), self.service_wanted(lane));
        if lane.lane.is_under_way() || lane.lane.earliest(now, what.as_ref(), spacing) > now {
            return None;
        }
        let seen = lane.lane.seen().map(|seen| (seen.uid.clone(), seen.version.clone(), !seen.written));
        let lane = &mut self.services.get_mut(id)?.lane;
        match (need, seen) {
            (Need::Look, _) => {
                lane.begin(now, None, Step::Other);
                Some(ServiceCall::Look)
            }
            (Need::Create(wanted), _) => {
                lane.begin(now, Some(wanted.clone()), Step::Apply);
                Some(ServiceCall::Create(wanted))
            }
            (Need::Delete, Some((uid, ..))) => {
                lane.begin(now, None, Step::Other);
                lane.deletes();
                Some(ServiceCall::Delete { uid })
            }
            (Need::Fix(Fix::Strip, wanted), Some((uid, version, adopt))) => {
                lane.begin(now, Some(wanted.clone()), Step::Strip);
                Some(ServiceCall::Strip { wanted, uid, version, adopt })
            }
            (Need::Fix(_, wanted), Some((uid, _, adopt))) => {
                lane.begin(now, Some(wanted.clone()), Step::Apply);
                Some(ServiceCall::Apply { wanted, uid, adopt })
            }
            // What is to be deleted or mended is there.
            (Need::Delete | Need::Fix(..), None) => None,
        }
    }
}
