//! Records events on objects, for people: behind routes and status, and never in anybody's way.

mod counts;
mod queue;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::events::v1;
use kube::Api;
use kube::api::{Patch, PostParams};
use longshore_reconciler::Event;
use longshore_types::{ObjectKey, Timestamp};
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

pub(super) use counts::Counts;

use super::calls::{Backoff, CallError, Calls};
use super::objects::{access, is_namespace_ending};
use super::statuses::{Pending, Way};
use super::urgent::Urgent;
use queue::{Ended, Entry, Queue, Target};

/// Writes under way at once: events are the least of what the API server is asked for.
const AT_ONCE: usize = 2;
/// How long events make way for routes and statuses before each start. When those change without end, two events a second
/// are still written.
const MAKE_WAY: Duration = Duration::from_secs(1);
/// A time to sleep until where nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// Writes events until it is dropped, or until this process leads no more.
pub(super) struct Events {
    shared: Arc<Shared>,
    _worker: AbortOnDropHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    news: Notify,
    counts: Counts,
}

#[derive(Default)]
struct State {
    queue: Queue,
    over: bool,
}

impl Events {
    /// Writes events from now on, with `calls`, behind `routes` and `statuses`. `instance` is the name of this process's
    /// pod.
    pub(super) fn start(calls: Calls, routes: Urgent, statuses: Pending, instance: &str) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), news: Notify::new(), counts: Counts::default() });
        let worker = Worker {
            shared: shared.clone(),
            calls,
            routes,
            statuses,
            instance: Arc::from(instance),
            way: Way::new(MAKE_WAY),
            writes: JoinSet::new(),
            entries: HashMap::new(),
            backoff: Backoff::default(),
            paused: None,
            forbidden: false,
        };
        Self { shared, _worker: AbortOnDropHandle::new(tokio::spawn(worker.run())) }
    }

    /// Records this on the object that has this uid. `pod` is the uid of the pod that it is about, where that is known.
    /// The same again is counted on the event that there is.
    pub(super) fn tell(&self, event: Event, uid: String, pod: Option<String>, now: Timestamp) {
        self.shared.change(|state| {
            if !state.over {
                state.queue.push(event, uid, pod, now, Instant::now(), salt());
            }
        });
        self.shared.news.notify_one();
    }

    /// How many events wait to be written.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.look(|state| state.queue.len())
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Shared {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut state);
        self.counts.dropped.inc_by(state.queue.take_dropped());
        changed
    }
}

fn salt() -> u16 {
    rand::rng().random()
}

/// A write that has ended.
type Done = (Entry, Target, Result<(), CallError>);

struct Worker {
    shared: Arc<Shared>,
    calls: Calls,
    routes: Urgent,
    statuses: Pending,
    instance: Arc<str>,
    way: Way,
    writes: JoinSet<Done>,
    /// What each task writes.
    entries: HashMap<Id, (Entry, Target)>,
    /// Of all events: what fails for one by the API server's fault fails for all.
    backoff: Backoff,
    /// Until when nothing is begun.
    paused: Option<Instant>,
    /// Whether it was said that we have no right to write events.
    forbidden: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut quiet = self.statuses.quiet();
        let statuses = self.statuses.urgent().clone();
        while !self.shared.look(|state| state.over) {
            let wake = self.start();
            let held = self.way.held(Instant::now());
            let way = async {
                let bound = held.unwrap_or_default();
                self.routes.over(bound).await;
                statuses.over(bound).await;
            };
            tokio::select! {
                () = self.shared.news.notified() => {}
                Some(ended) = self.writes.join_next_with_id() => self.ended(ended),
                _ = quiet.changed() => {}
                () = way, if held.is_some() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Sets going what may be written now. Returns when to look again though nothing has happened.
    fn start(&mut self) -> Instant {
        let now = Instant::now();
        if self.writes.len() >= AT_ONCE || self.shared.look(|state| state.queue.len() == 0) {
            return now + LONG;
        }
        if let Some(until) = self.paused.filter(|until| *until > now) {
            return until;
        }
        let busy = self.routes.count() > 0 || self.statuses.urgent().count() > 0;
        if !self.way.is_free(now, busy) {
            return now + self.way.held(now).unwrap_or_default();
        }
        while self.writes.len() < AT_ONCE {
            let next = self.shared.change(|state| state.queue.pop(now, |object| self.statuses.is_quiet(object)));
            let Some((entry, target)) = next else { break };
            self.way.used();
            self.spawn(entry, target);
        }
        if self.writes.len() >= AT_ONCE {
            return now + LONG;
        }
        self.shared.look(|state| state.queue.due()).unwrap_or(now + LONG)
    }

    fn spawn(&mut self, entry: Entry, target: Target) {
        let (calls, instance) = (self.calls.clone(), self.instance.clone());
        let kept = (entry.clone(), target.clone());
        let task = self.writes.spawn(async move {
            let result = write(&calls, &entry, &target, &instance).await;
            (entry, target, result)
        });
        self.entries.insert(task.id(), kept);
    }

    fn ended(&mut self, ended: Result<(Id, Done), JoinError>) {
        let (entry, target, result) = match ended {
            Ok((id, done)) => {
                self.entries.remove(&id);
                done
            }
            Err(error) => {
                if let Some((entry, target)) = self.entries.remove(&error.id()) {
                    tracing::error!(object = %entry.event.object, %error, "a task that wrote an event has failed");
                    self.shared.change(|state| state.queue.ended(entry, target, Ended::Refused, salt()));
                }
                return;
            }
        };
        if matches!(result, Err(CallError::NotLeading)) {
            self.shared.change(|state| {
                state.over = true;
                state.queue.clear();
            });
            return;
        }
        let ended = self.judge(&entry.event.object, &target, result);
        self.shared.counts.ended(&target, ended);
        self.shared.change(|state| state.queue.ended(entry, target, ended, salt()));
    }

    fn judge(&mut self, object: &ObjectKey, target: &Target, result: Result<(), CallError>) -> Ended {
        let error = match result {
            Ok(()) => {
                self.backoff.reset();
                return Ended::Written;
            }
            Err(error) => error,
        };
        if error.is_transient() {
            self.paused = Some(Instant::now() + self.backoff.next(error.retry_after()));
            tracing::debug!(%object, %error, "an event is not written yet");
            return Ended::Failed { silent: matches!(error, CallError::Timeout | CallError::Unreachable(_)) };
        }
        self.backoff.reset();
        match (&error, target) {
            (CallError::Refused(status), Target::New(_)) if status.code == 409 => return Ended::NameTaken,
            (CallError::Refused(status), Target::Series(..)) if status.code == 404 => return Ended::SeriesGone,
            (CallError::Refused(status), _) if status.code == 409 => return Ended::Failed { silent: false },
            _ => {}
        }
        let ending = error.is_not_found() || is_namespace_ending(&error);
        let said = !ending && matches!(&error, CallError::Refused(status) if status.code == 403);
        if ending || (said && std::mem::replace(&mut self.forbidden, true)) {
            tracing::debug!(%object, %error, "an event is dropped");
        } else {
            tracing::warn!(%object, %error, "the API server refuses an event; it is dropped");
        }
        Ended::Refused
    }
}

async fn write(calls: &Calls, entry: &Entry, target: &Target, instance: &str) -> Result<(), CallError> {
    let api: Api<v1::Event> = Api::namespaced(calls.client(), entry.event.object.namespace.as_str());
    match target {
        Target::New(name) => {
            let event = wire::event(entry, name, instance);
            let params = PostParams { field_manager: access::ours().field_manager, ..PostParams::default() };
            calls.once(api.create(&params, &event)).await.map(drop)
        }
        Target::Series(name, count) => {
            let patch = Patch::Merge(wire::series(entry, *count));
            calls.once(api.patch(name, &access::ours(), &patch)).await.map(drop)
        }
    }
}
