//! Shows status on objects: in order for each object, all objects side by side, behind routes.

mod counts;
mod queue;
mod show;
#[cfg(test)]
mod tests;
mod way;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_reconciler::StatusWrite;
use longshore_types::ObjectKey;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

pub(super) use counts::Counts;
pub(super) use way::Way;

use super::calls::{CallError, Calls};
use super::urgent::{Piece, Urgent};
use queue::{Failure, Job, Queue};
use show::Outcome;

/// Writes under way at once. One takes about 3 ms, of which the API server computes about one: more in flight would only
/// queue up there, before other people's requests.
const AT_ONCE: usize = 8;
/// The same while routes are being written.
const AT_ONCE_BESIDE_ROUTES: usize = 2;
/// How long statuses make way for routes before each start: a few times what a burst of two or three routes takes. When
/// routes change without end, a hundred statuses a second are still written.
const MAKE_WAY: Duration = Duration::from_millis(20);
/// A time to sleep until where nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// This status, or one after it, is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub object: ObjectKey,
    pub sequence: u64,
}

/// Writes statuses until it is dropped, or until this process leads no more.
pub(super) struct Statuses {
    shared: Arc<Shared>,
    _worker: AbortOnDropHandle<()>,
}

/// What others may know of the statuses that wait. Clones are about the same ones.
#[derive(Clone)]
pub(super) struct Pending(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Something was put in or forgotten.
    news: Notify,
    /// Counts up when everything of an object may have been shown.
    quiet: watch::Sender<u64>,
    /// Held while statuses are being written, or could be.
    urgent: Urgent,
    counts: Counts,
}

#[derive(Default)]
struct State {
    queue: Queue,
    piece: Option<Piece>,
    /// Objects whose last status was refused: said once, not at each further one.
    refused: BTreeSet<ObjectKey>,
    /// This process leads no more.
    over: bool,
}

impl Statuses {
    /// Writes statuses from now on, with `calls`, making way for `routes`. `answer` is told what is shown, of those that
    /// ask for it; what is dropped (the object is gone, or the API server refuses the status) is not answered.
    pub(super) fn start(calls: Calls, routes: Urgent, answer: impl Fn(Written) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            news: Notify::new(),
            quiet: watch::Sender::new(0),
            urgent: Urgent::new(),
            counts: Counts::default(),
        });
        let worker = Worker {
            shared: shared.clone(),
            calls,
            routes,
            answer: Box::new(answer),
            way: Way::new(MAKE_WAY),
            writes: JoinSet::new(),
            objects: HashMap::new(),
        };
        Self { shared, _worker: AbortOnDropHandle::new(tokio::spawn(worker.run())) }
    }

    /// Shows this status on the object that has this uid, after those that were given before. One that changes no phase
    /// is replaced by the next.
    pub(super) fn write(&self, write: StatusWrite, uid: String) {
        self.shared.change(|state| {
            if !state.over {
                state.queue.push(write, uid);
            }
        });
        self.shared.news.notify_one();
    }

    /// The object is gone: nothing of it is written any more.
    pub(super) fn forget(&self, object: &ObjectKey) {
        self.shared.change(|state| {
            state.queue.forget(object);
            state.refused.remove(object);
        });
        self.shared.news.notify_one();
        self.shared.say_quiet();
    }

    /// How many objects have a status that is not shown yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.look(|state| state.queue.len())
    }

    /// For those who come behind.
    pub(super) fn pending(&self) -> Pending {
        Pending(self.shared.clone())
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Pending {
    /// Whether every status of the object is shown.
    pub(super) fn is_quiet(&self, object: &ObjectKey) -> bool {
        self.0.look(|state| state.queue.is_quiet(object))
    }

    /// Changes when an object may have become quiet.
    pub(super) fn quiet(&self) -> watch::Receiver<u64> {
        self.0.quiet.subscribe()
    }

    /// Counts while statuses are being written.
    pub(super) fn urgent(&self) -> &Urgent {
        &self.0.urgent
    }
}

impl Shared {
    fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut state);
        if !state.queue.presses() {
            state.piece = None;
        } else if state.piece.is_none() {
            state.piece = Some(self.urgent.begin());
        }
        self.counts.skipped.inc_by(state.queue.take_skipped());
        self.counts.waiting.set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
        changed
    }

    fn say_quiet(&self) {
        self.quiet.send_modify(|count| *count = count.wrapping_add(1));
    }
}

struct Worker {
    shared: Arc<Shared>,
    calls: Calls,
    routes: Urgent,
    answer: Box<dyn Fn(Written) + Send + Sync>,
    way: Way,
    writes: JoinSet<(Job, Outcome)>,
    /// Whose status each task writes.
    objects: HashMap<Id, ObjectKey>,
}

impl Worker {
    async fn run(mut self) {
        while !self.shared.look(|state| state.over) {
            let wake = self.start();
            let held = self.way.held(Instant::now());
            tokio::select! {
                () = self.shared.news.notified() => {}
                Some(ended) = self.writes.join_next_with_id() => self.ended(ended),
                () = self.routes.over(held.unwrap_or_default()), if held.is_some() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Sets going what may be written now. Returns when to look again though nothing has happened.
    fn start(&mut self) -> Instant {
        let now = Instant::now();
        let busy = self.routes.count() > 0;
        let limit = if busy { AT_ONCE_BESIDE_ROUTES } else { AT_ONCE };
        let due = self.shared.look(|state| state.queue.due(now, limit));
        match due {
            Some(due) if due <= now => {}
            _ => return due.unwrap_or(now + LONG),
        }
        if !self.way.is_free(now, busy) {
            return now + self.way.held(now).unwrap_or_default();
        }
        while let Some(job) = self.shared.change(|state| state.queue.pop(now, limit)) {
            self.way.used();
            let (calls, object) = (self.calls.clone(), job.object.clone());
            let task = self.writes.spawn(async move {
                let outcome = show::show(&calls, &job.object, &job.uid, &job.status).await;
                (job, outcome)
            });
            self.objects.insert(task.id(), object);
        }
        self.shared.look(|state| state.queue.due(now, limit)).unwrap_or(now + LONG)
    }

    fn ended(&mut self, ended: Result<(Id, (Job, Outcome)), JoinError>) {
        let now = Instant::now();
        let (mut job, outcome) = match ended {
            Ok((id, done)) => {
                self.objects.remove(&id);
                done
            }
            Err(error) => {
                if let Some(object) = self.objects.remove(&error.id()) {
                    tracing::error!(%object, %error, "a task that wrote status has failed; the status is dropped");
                    self.shared.change(|state| state.queue.done(&object, now, false));
                    self.shared.say_quiet();
                }
                return;
            }
        };
        self.shared.counts.ended(&outcome);
        match outcome {
            Outcome::Shown => {
                self.shared.change(|state| {
                    state.refused.remove(&job.object);
                    state.queue.done(&job.object, now, true);
                });
                job.answers.sort_unstable();
                for sequence in job.answers {
                    (self.answer)(Written { object: job.object.clone(), sequence });
                }
            }
            Outcome::Gone => self.shared.change(|state| {
                state.refused.remove(&job.object);
                state.queue.done(&job.object, now, true);
            }),
            Outcome::Refused(error) => {
                let first = self.shared.change(|state| {
                    state.queue.done(&job.object, now, true);
                    state.refused.insert(job.object.clone())
                });
                if first {
                    tracing::warn!(object = %job.object, %error, "the API server refuses the object's status; it is not shown");
                }
            }
            Outcome::Failed(CallError::NotLeading) => self.shared.change(|state| {
                state.over = true;
                state.queue.clear();
            }),
            Outcome::Failed(error) => {
                tracing::debug!(object = %job.object, %error, "status is not written yet");
                let silent = matches!(error, CallError::Timeout | CallError::Unreachable(_));
                let failure = Failure { silent, asked: error.retry_after() };
                self.shared.change(|state| state.queue.failed(job, now, failure));
            }
        }
        self.shared.say_quiet();
    }
}
