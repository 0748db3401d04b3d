//! One object's writes: one at a time, spaced, and with what is known of the object.

use std::sync::Arc;
use std::time::Duration;

use longshore_types::Fault;
use tokio::time::Instant;

use super::super::calls::{Backoff, CallError};
use super::super::slices::{ServiceSeen, SliceSeen};
use super::desk::Done;

/// An object that is repaired and changed again within this time is fought over, and repaired less and less often.
const CALM: Duration = Duration::from_secs(60);

/// A failure that may pass by itself is told only when it has lasted this long: longer than an API server takes to start
/// over behind a load balancer's other ones, shorter than anybody waits without wondering.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// An object as the API server shows it.
pub(super) trait Shown {
    fn uid(&self) -> &Arc<str>;
    fn version(&self) -> &Arc<str>;
}

impl Shown for SliceSeen {
    fn uid(&self) -> &Arc<str> {
        &self.uid
    }
    fn version(&self) -> &Arc<str> {
        &self.version
    }
}

impl Shown for ServiceSeen {
    fn uid(&self) -> &Arc<str> {
        &self.uid
    }
    fn version(&self) -> &Arc<str> {
        &self.version
    }
}

/// What a write does. Each is tried once on what is there: one that has not helped does not help a second time either, as
/// where something on the API server's side changes what we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write our fields.
    Apply,
    /// Take out others' fields.
    Strip,
    /// Look, or delete: leads to no state that could be wanted.
    Other,
}

/// The writes on one object of type `S`, which should be as a `W` says.
#[derive(Debug)]
pub(super) struct Lane<S, W> {
    seen: Option<S>,
    /// A life of the object that is over, of which late news may still come.
    buried: Option<Arc<str>>,
    under_way: Option<UnderWay<W>>,
    written: Option<Written<W>>,
    /// When the last call was begun.
    begun: Option<Instant>,
    /// No call before then, after a failure.
    held: Option<Instant>,
    backoff: Backoff,
    /// No repair before then.
    calm: Option<Instant>,
    repairs: Backoff,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct UnderWay<W> {
    what: Option<W>,
    steps: Steps,
    deletes: Option<Arc<str>>,
}

/// What we wrote last, and the version that this made.
#[derive(Debug)]
struct Written<W> {
    what: W,
    version: Arc<str>,
    steps: Steps,
}

#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    applied: bool,
    stripped: bool,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    fault: Fault,
    transient: bool,
    /// Whether nothing was heard from the API server.
    unheard: bool,
}

impl<S, W> Default for Lane<S, W> {
    fn default() -> Self {
        Self {
            seen: None,
            buried: None,
            under_way: None,
            written: None,
            begun: None,
            held: None,
            backoff: Backoff::default(),
            calm: None,
            repairs: Backoff::default(),
            failing: None,
        }
    }
}

impl<S: Shown, W: Clone + PartialEq> Lane<S, W> {
    /// What is there, as far as is known.
    pub(super) fn seen(&self) -> Option<&S> {
        self.seen.as_ref()
    }

    /// Whether a call is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_idle(&self) -> bool {
        self.seen.is_none() && self.buried.is_none() && self.under_way.is_none()
    }

    /// A watch shows it. Our own answers come sooner, so what is older than them is dropped.
    pub(super) fn put(&mut self, shown: S) {
        if self.buried.as_ref() != Some(shown.uid()) && self.seen.as_ref().is_none_or(|seen| is_later(&shown, seen)) {
            self.seen = Some(shown);
        }
    }

    /// A watch shows that it, or a certain life of it, is gone.
    pub(super) fn gone(&mut self, uid: Option<&str>) {
        let buried = self.buried.as_deref();
        if buried.is_some() && (uid.is_none() || uid == buried) {
            self.buried = None;
            if uid.is_some() {
                return;
            }
        }
        if self.seen.as_ref().is_some_and(|seen| uid.is_none_or(|uid| uid == &**seen.uid())) {
            self.seen = None;
        }
        // The answer to what is on its way may still speak of it.
        if self.under_way.is_some() {
            self.buried = uid.map(Into::into);
        }
    }

    /// A watch has shown all that there is: nothing that came late is to be expected any more.
    pub(super) fn listed(&mut self) {
        if self.under_way.is_none() {
            self.buried = None;
        }
    }

    /// Whether `step` was tried for `what` on exactly what is there.
    pub(super) fn is_tried(&self, what: &W, step: Step) -> bool {
        self.last_on_this(what).is_some_and(|steps| match step {
            Step::Apply => steps.applied,
            Step::Strip => steps.stripped,
            Step::Other => false,
        })
    }

    fn last_on_this(&self, what: &W) -> Option<Steps> {
        let (written, seen) = (self.written.as_ref()?, self.seen.as_ref()?);
        (written.what == *what && written.version == *seen.version()).then_some(written.steps)
    }

    /// The earliest time for a call about `what`; `spacing` after the one before.
    pub(super) fn earliest(&self, now: Instant, what: Option<&W>, spacing: Duration) -> Instant {
        let spaced = self.begun.map(|begun| begun + spacing);
        let repair = what.is_some_and(|what| self.is_repair(what));
        let calm = self.calm.filter(|_| repair);
        [spaced, self.held, calm].into_iter().flatten().fold(now, Instant::max)
    }

    /// Whether we wrote the same before, and somebody else has changed it since.
    fn is_repair(&self, what: &W) -> bool {
        self.written.as_ref().is_some_and(|written| written.what == *what) && self.last_on_this(what).is_none()
    }

    /// A call is begun. One that strips is made on exactly the version that is known, so what was tried on that counts on.
    pub(super) fn begin(&mut self, now: Instant, what: Option<W>, step: Step) {
        let before = what.as_ref().and_then(|what| self.last_on_this(what)).filter(|_| step == Step::Strip);
        let mut steps = before.unwrap_or_default();
        if let Some(what) = &what {
            if self.begun.is_none_or(|begun| begun + CALM < now) || !self.is_repair(what) {
                self.repairs.reset();
            }
            if self.is_repair(what) {
                self.calm = Some(now + self.repairs.next(None));
            }
        }
        steps.applied |= step == Step::Apply;
        steps.stripped |= step == Step::Strip;
        self.begun = Some(now);
        self.under_way = Some(UnderWay { what, steps, deletes: None });
    }

    /// The call that was begun deletes what is there.
    pub(super) fn deletes(&mut self) {
        let uid = self.seen.as_ref().map(|seen| seen.uid().clone());
        if let Some(under_way) = &mut self.under_way {
            under_way.deletes = uid;
        }
    }

    /// The call has ended.
    pub(super) fn done(&mut self, now: Instant, result: Result<Done<S>, CallError>) {
        let Some(UnderWay { what, steps, deletes }) = self.under_way.take() else { return };
        let Done { seen, conflicted } = match result {
            Ok(done) => done,
            Err(error) => {
                self.held = Some(now + self.backoff.next(error.retry_after()));
                let since = self.failing.as_ref().map_or(now, |failing| failing.since);
                let unheard = matches!(error, CallError::Timeout | CallError::Unreachable(_));
                let (fault, transient) = (error.fault(), error.is_transient());
                self.failing = Some(Failing { since, fault, transient, unheard });
                return;
            }
        };
        self.failing = None;
        if conflicted {
            self.held = Some(now + self.backoff.next(None));
        } else {
            self.backoff.reset();
            self.held = None;
        }
        let buried = self.buried.take_if(|_| deletes.is_none());
        match seen {
            Some(seen) if buried.as_ref() == Some(seen.uid()) => {}
            Some(seen) => {
                if let Some(what) = what.filter(|_| !conflicted) {
                    self.written = Some(Written { what, version: seen.version().clone(), steps });
                }
                if self.seen.as_ref().is_none_or(|known| is_later(&seen, known)) {
                    self.seen = Some(seen);
                }
            }
            None => {
                // The watch tells of the deletion yet, unless it has done so already.
                let known = self.seen.take().map(|seen| seen.uid().clone());
                if deletes.is_some() {
                    self.buried = known.filter(|uid| Some(uid) == deletes.as_ref());
                    // Made anew it is no repair of what somebody did.
                    self.written = None;
                }
            }
        }
    }

    /// Why it cannot be written, where that has lasted long enough or will not pass.
    pub(super) fn fault(&self, now: Instant) -> Option<&Fault> {
        let failing = self.failing.as_ref()?;
        (!failing.transient || failing.since + TOLD_AFTER <= now).then_some(&failing.fault)
    }

    /// Whether the last call has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// The API server is heard again: there is nothing left to wait for. Whether that changes anything.
    pub(super) fn heard(&mut self) -> bool {
        let waits = self.failing.as_ref().is_some_and(|failing| failing.unheard) && self.held.take().is_some();
        if waits {
            self.backoff.reset();
        }
        waits
    }
}

/// Whether `new` is later than `old`. Versions of one kind of object are numbers that count up, in every API server that
/// there is; where one is none, what came last is taken.
fn is_later<S: Shown>(new: &S, old: &S) -> bool {
    match (new.version().parse::<u64>(), old.version().parse::<u64>()) {
        (Ok(new), Ok(old)) => new >= old,
        _ => true,
    }
}
