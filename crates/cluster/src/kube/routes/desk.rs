//! Decides what is written when. It does nothing itself: inputs go in with the time, jobs and answers come out.

mod answers;
mod queue;
mod services;
mod slices;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_reconciler::Endpoint;
use longshore_types::{AdapterKey, EngineId, Fault, Namespace, ObjectKey, Scope};
use tokio::time::Instant;

use super::super::calls::CallError;
use super::super::slices::{BaseWrite, RouteWrite, ServiceSeen, ServiceWanted, Slice, SliceSeen, Subject, port_for};
use super::super::urgent::{Piece, Urgent};
use super::{Answered, Change};
use queue::Queue;
use services::ServiceLane;
use slices::SliceLane;

/// Which object of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub namespace: Namespace,
    pub name: Arc<str>,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LaneId {
    Slice(Id),
    Service(Id),
}

/// One thing to do now.
#[derive(Debug)]
pub(super) struct Job {
    pub lane: LaneId,
    pub work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Slice(SliceCall),
    Service(ServiceCall),
}

#[derive(Debug)]
pub(super) enum SliceCall {
    /// Say what is there.
    Look,
    /// Write it; onto the life of it with this uid where one is there.
    Apply { slice: Slice, uid: Option<Arc<str>> },
    /// Take these labels and annotations off, if it is in this version still.
    Strip { keys: Vec<&'static str>, uid: Arc<str>, version: Arc<str> },
    /// Delete this life of it.
    Delete { uid: Arc<str> },
}

#[derive(Debug)]
pub(super) enum ServiceCall {
    /// Say what is there.
    Look,
    /// Make it, if there is none.
    Create(ServiceWanted),
    /// Write our fields. `adopt`: AIBrix's controller made it, and its slice goes first.
    Apply { wanted: ServiceWanted, uid: Arc<str>, adopt: bool },
    /// Take others' fields out, if it is in this version still. `adopt` as above.
    Strip { wanted: ServiceWanted, uid: Arc<str>, version: Arc<str>, adopt: bool },
    /// Delete this life of it.
    Delete { uid: Arc<str> },
}

/// What a job has found to be there, after it.
#[derive(Debug)]
pub(super) struct Done<S> {
    pub seen: Option<S>,
    /// Whether what was there was not what we knew of, so that nothing was written.
    pub conflicted: bool,
}

impl<S> Done<S> {
    pub(super) fn and_then<T>(self, read: impl FnOnce(&S) -> Option<T>) -> Done<T> {
        Done { seen: self.seen.as_ref().and_then(read), conflicted: self.conflicted }
    }
}

#[derive(Debug)]
pub(super) enum Outcome {
    Slice(Result<Done<SliceSeen>, CallError>),
    Service(Result<Done<ServiceSeen>, CallError>),
    /// The job has ended without an outcome.
    Lost(CallError),
}

/// What is wanted for an adapter or a base model.
struct Wanted {
    owner: Option<Arc<str>>,
    endpoints: Vec<Endpoint>,
    pods: BTreeMap<EngineId, Arc<str>>,
    /// Whether its slices have to be laid out anew.
    dirty: bool,
    /// What is wrong with endpoints that cannot be written.
    refused: Vec<String>,
    /// The Service's port, once there was an endpoint.
    port: Option<u16>,
    /// Its publishing; base models are not answered.
    answers: Option<answers::Answers>,
    /// While it waits or is written, other work makes way.
    piece: Option<Piece>,
}

/// All routes, all slices and Services of them, and what is under way.
pub(super) struct Desk {
    urgent: Urgent,
    wanted: BTreeMap<Subject, Wanted>,
    slices: BTreeMap<Id, SliceLane>,
    /// The slices of each subject: those that it should have, and those that say that they are its.
    of: BTreeMap<Subject, BTreeSet<Id>>,
    services: BTreeMap<Id, ServiceLane>,
    queue: Queue,
    slices_listed: bool,
    services_listed: bool,
    settled: bool,
    /// Why nothing is begun any more.
    over: Option<Fault>,
    /// Whether the last call was not answered.
    unheard: bool,
    answers: Vec<Answered>,
}

impl Desk {
    pub(super) fn new(urgent: Urgent) -> Self {
        Self {
            urgent,
            wanted: BTreeMap::new(),
            slices: BTreeMap::new(),
            of: BTreeMap::new(),
            services: BTreeMap::new(),
            queue: Queue::default(),
            slices_listed: false,
            services_listed: false,
            settled: false,
            over: None,
            unheard: false,
            answers: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, now: Instant, write: RouteWrite) {
        let RouteWrite { route, uid, pods } = write;
        let subject = Subject::Adapter(route.adapter.clone());
        let wanted =
            self.wanted.entry(subject.clone()).or_insert_with(|| Wanted::new(Some(answers::Answers::default())));
        let Some(answers) = &mut wanted.answers else { return };
        if answers.owe(route.sequence) {
            let another_life = wanted.owner.as_ref() != Some(&uid);
            wanted.owner = Some(uid);
            wanted.port = port_for(&route.endpoints, wanted.port);
            wanted.endpoints = route.endpoints;
            wanted.pods = pods;
            wanted.dirty = true;
            // A Service comes with the first endpoint, and stays when there is none for a while.
            if wanted.port.is_some() {
                self.want_service(&route.adapter, another_life);
            }
        }
        self.review(now, &subject);
    }

    pub(super) fn retract(&mut self, now: Instant, key: &AdapterKey) {
        let subject = Subject::Adapter(key.clone());
        if let Some(answers) = self.wanted.remove(&subject).and_then(|wanted| wanted.answers) {
            let fault = Fault::new(Scope::Transient, "Retracted", format!("{key} is declared no more"));
            self.answers.extend(answers.give_up(key, &fault));
        }
        self.abandon(now, &subject);
        self.leave_service(now, key);
    }

    pub(super) fn base(&mut self, now: Instant, write: BaseWrite) {
        let BaseWrite { namespace, base_model, endpoints, pods } = write;
        let subject = Subject::Base(namespace, base_model);
        if endpoints.is_empty() {
            self.wanted.remove(&subject);
            self.abandon(now, &subject);
            return;
        }
        let wanted = self.wanted.entry(subject.clone()).or_insert_with(|| Wanted::new(None));
        wanted.endpoints = endpoints;
        wanted.pods = pods;
        wanted.dirty = true;
        self.review(now, &subject);
    }

    pub(super) fn slice(&mut self, now: Instant, change: Change<SliceSeen>) {
        match change {
            Change::Put(seen) => self.slice_shown(now, seen),
            Change::Gone { namespace, name, uid } => {
                if let Some(id) = Id::new(&namespace, &name) {
                    self.slice_gone(now, &id, uid.as_deref());
                }
            }
            Change::Listed => {
                self.slices_listed = true;
                self.slices.values_mut().for_each(SliceLane::listed);
                self.review_all(now);
            }
        }
    }

    pub(super) fn service(&mut self, now: Instant, change: Change<ServiceSeen>) {
        match change {
            Change::Put(seen) => self.service_shown(now, seen),
            Change::Gone { namespace, name, uid } => {
                if let Some(id) = Id::new(&namespace, &name) {
                    self.service_gone(now, &id, uid.as_deref());
                }
            }
            Change::Listed => {
                self.services_listed = true;
                self.services.values_mut().for_each(ServiceLane::listed);
                self.review_all(now);
            }
        }
    }

    pub(super) fn settled(&mut self, now: Instant) {
        self.settled = true;
        self.review_all(now);
    }

    /// A job has ended.
    pub(super) fn done(&mut self, now: Instant, lane: &LaneId, outcome: Outcome) {
        self.queue.ended();
        let error = match &outcome {
            Outcome::Slice(result) => result.as_ref().err(),
            Outcome::Service(result) => result.as_ref().err(),
            Outcome::Lost(error) => Some(error),
        };
        if let Some(error @ CallError::NotLeading) = error {
            self.over.get_or_insert(error.fault());
        }
        let heard = !matches!(error, Some(CallError::Timeout | CallError::Unreachable(_)));
        let back = heard && std::mem::replace(&mut self.unheard, !heard);
        match (lane, outcome) {
            (LaneId::Slice(id), Outcome::Slice(result)) => self.slice_done(now, id, result),
            (LaneId::Slice(id), Outcome::Lost(error)) => self.slice_done(now, id, Err(error)),
            (LaneId::Service(id), Outcome::Service(result)) => self.service_done(now, id, result),
            (LaneId::Service(id), Outcome::Lost(error)) => self.service_done(now, id, Err(error)),
            // A job is answered in its own kind.
            (LaneId::Slice(_), Outcome::Service(_)) | (LaneId::Service(_), Outcome::Slice(_)) => {}
        }
        if self.over.is_some() {
            self.review_all(now);
        } else if back {
            self.heard_again(now);
        }
    }

    /// Takes up what the time has come for.
    pub(super) fn fire(&mut self, now: Instant) {
        for lane in self.queue.due(now) {
            self.consider(now, &lane);
        }
    }

    /// When something is due that is not yet.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.queue.wake_at()
    }

    /// The next thing to do now, if there is room for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Job> {
        if self.over.is_some() {
            return None;
        }
        while let Some(lane) = self.queue.pop() {
            let work = match &lane {
                LaneId::Slice(id) => self.begin_slice(now, id).map(Work::Slice),
                LaneId::Service(id) => self.begin_service(now, id).map(Work::Service),
            };
            match work {
                Some(work) => {
                    self.queue.began();
                    return Some(Job { lane, work });
                }
                // It has come to stand otherwise, or waits again.
                None => self.consider(now, &lane),
            }
        }
        None
    }

    /// What is to be answered since the last time.
    pub(super) fn answers(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answers)
    }

    /// Whether all that is there is known, and we may write.
    fn is_ready(&self) -> bool {
        self.slices_listed && self.services_listed && self.over.is_none()
    }

    fn consider(&mut self, now: Instant, lane: &LaneId) {
        match lane {
            LaneId::Slice(id) => self.consider_slice(now, id),
            LaneId::Service(id) => self.consider_service(now, id),
        }
    }

    /// Looks at all of one adapter or base model: what it should have, what is to be written, what can be answered.
    fn review(&mut self, now: Instant, subject: &Subject) {
        if self.is_ready() {
            if self.wanted.get(subject).is_some_and(|wanted| wanted.dirty) {
                self.lay_out(subject);
            }
            for id in self.of.get(subject).cloned().unwrap_or_default() {
                self.consider_slice(now, &id);
            }
            if let Subject::Adapter(key) = subject {
                self.consider_service(now, &Id::service(key));
            }
        }
        self.answer(now, subject);
    }

    fn review_all(&mut self, now: Instant) {
        for subject in self.wanted.keys().cloned().collect::<Vec<_>>() {
            self.review(now, &subject);
        }
        if self.is_ready() {
            // What belongs to nobody.
            for id in self.slices.keys().cloned().collect::<Vec<_>>() {
                self.consider_slice(now, &id);
            }
            for id in self.services.keys().cloned().collect::<Vec<_>>() {
                self.consider_service(now, &id);
            }
        }
    }

    /// The API server answers again after it did not. What waits for nothing else is tried at once, a few at a time: a
    /// withdrawal must not wait for the end of a long back-off.
    fn heard_again(&mut self, now: Instant) {
        let slices = self.slices.iter_mut().filter_map(|(id, lane)| lane.heard().then(|| LaneId::Slice(id.clone())));
        let services =
            self.services.iter_mut().filter_map(|(id, lane)| lane.heard().then(|| LaneId::Service(id.clone())));
        for lane in slices.chain(services).collect::<Vec<_>>() {
            self.consider(now, &lane);
        }
    }
}

impl Id {
    fn new(namespace: &str, name: &str) -> Option<Self> {
        Some(Self { namespace: Namespace::new(namespace).ok()?, name: name.into() })
    }

    /// An adapter's Service has its name.
    fn service(key: &AdapterKey) -> Self {
        Self { namespace: key.namespace().clone(), name: key.name.as_str().into() }
    }
}

impl Wanted {
    fn new(answers: Option<answers::Answers>) -> Self {
        Self {
            owner: None,
            endpoints: Vec::new(),
            pods: BTreeMap::new(),
            dirty: true,
            refused: Vec::new(),
            port: None,
            answers,
            piece: None,
        }
    }
}
