//! Contending for a Lease: the thin part.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, Client};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::fence::Fence;
use super::step::{Action, State, step};
use super::view::{Entry, LeaseView, created};
use super::{Leadership, LeaseConfig, Term, identity};

/// How long a follower leaves an API server alone that asked for it, at most.
const LONGEST_ASKED: Duration = Duration::from_secs(10);

/// What is written when the Lease is given up: others need not wait.
const RELEASED: Duration = Duration::from_secs(1);

/// A process that contends for a Lease. Dropping it ends that and closes the fence, and leaves the Lease to expire.
#[derive(Debug)]
pub struct Election {
    leadership: watch::Receiver<Leadership>,
    contender: Option<(JoinHandle<()>, CancellationToken)>,
    /// Of one without rivals, whose leadership nobody else could tell of.
    _alone: Option<watch::Sender<Leadership>>,
}

impl Election {
    /// Contends for the Lease that `config` names, until it is dropped or released. Needs a tokio runtime.
    pub fn start(client: Client, config: LeaseConfig) -> Self {
        let (sender, leadership) = watch::channel(Leadership::Following { holder: None });
        let stop = CancellationToken::new();
        let contender = Contender::new(client, config, sender);
        let running = tokio::spawn(contender.run(stop.clone()));
        Self { leadership, contender: Some((running, stop)), _alone: None }
    }

    /// Leads at once and for ever, for `pod` that has no rival. Its term begins now, so that it is later than that of
    /// any process that led before.
    pub fn alone(pod: &str) -> Self {
        let term = Term { created: Timestamp::now(), transitions: 0, identity: identity(pod) };
        let (alone, leadership) = watch::channel(Leadership::Leading { term, fence: Fence::open() });
        Self { leadership, contender: None, _alone: Some(alone) }
    }

    /// Who leads. What follows [`Leadership::Over`] is nothing.
    pub fn watch(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Gives the Lease up, so that another need not wait for its end. To be called when nothing acts any more. Closes the
    /// fence, and takes as long as two calls to the API server at most.
    pub async fn release(mut self) {
        if let Leadership::Leading { fence, .. } = &*self.leadership.borrow() {
            fence.close();
        }
        let Some((running, stop)) = self.contender.take() else { return };
        stop.cancel();
        let _ = running.await;
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        if let Some((running, _)) = &self.contender {
            if let Leadership::Leading { fence, .. } = &*self.leadership.borrow() {
                fence.close();
            }
            running.abort();
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {} s", .0.as_secs_f64())]
    Hung(Duration),
    #[error("{} ({})", .0.message, .0.code)]
    Refused(Box<Status>),
    #[error("{0}")]
    Unreachable(Box<kube::Error>),
}

impl Failure {
    fn is(&self, code: u16) -> bool {
        matches!(self, Self::Refused(status) if status.code == code)
    }

    fn asked_for(&self) -> Duration {
        let Self::Refused(status) = self else { return Duration::ZERO };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Duration::from_secs(seconds.into()).min(LONGEST_ASKED)
    }
}

/// Monotonic time as a date, for what is shown in the Lease.
struct Wall {
    date: Timestamp,
    at: Instant,
}

impl Wall {
    fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.at.elapsed()).unwrap_or(SignedDuration::MAX);
        self.date.checked_add(since).unwrap_or(Timestamp::MAX)
    }
}

async fn within<T>(bound: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match timeout(bound, call).await {
        Err(_) => Err(Failure::Hung(bound)),
        Ok(Ok(done)) => Ok(done),
        Ok(Err(kube::Error::Api(status))) => Err(Failure::Refused(status)),
        Ok(Err(other)) => Err(Failure::Unreachable(Box::new(other))),
    }
}

struct Contender {
    api: Api<Lease>,
    config: LeaseConfig,
    state: State,
    wall: Wall,
    /// The Lease as it was after our last write, where nothing is known to have happened to it since.
    cached: Option<Lease>,
    /// Whether a write of ours may have been granted.
    wrote: bool,
    failures: u32,
    fence: Option<Fence>,
    leadership: watch::Sender<Leadership>,
}

/// What comes after a turn.
enum Next {
    Wait(Duration),
    End,
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.close();
    }
}

impl Contender {
    fn new(client: Client, config: LeaseConfig, leadership: watch::Sender<Leadership>) -> Self {
        let state = State::new(identity(&config.pod), config.times);
        Self {
            api: Api::namespaced(client, config.namespace.as_str()),
            config,
            state,
            wall: Wall { date: Timestamp::now(), at: Instant::now() },
            cached: None,
            wrote: false,
            failures: 0,
            fence: None,
            leadership,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        tracing::info!(
            identity = self.state.identity,
            lease = self.config.name.as_str(),
            namespace = self.config.namespace.as_str(),
            "Contending for the Lease"
        );
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = self.turn() => next,
            };
            match next {
                Next::Wait(wait) => tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = sleep(wait) => {}
                },
                // Whoever started this ends the process, and may then still release what is ours by the letter.
                Next::End => {
                    stop.cancelled().await;
                    break;
                }
            }
        }
        self.close();
        if self.wrote {
            self.release().await;
        }
        self.tell(Leadership::Over { why: "this process is ending".to_owned() });
    }

    /// One look, and one write where it is due.
    async fn turn(&mut self) -> Next {
        // Told without looking, since the server may not let us look.
        if let Some(why) = self.state.overdue(Instant::now()) {
            return self.over(why.to_string());
        }
        // A leader knows what it wrote last; whoever has written since makes its next write a conflict.
        let seen = match self.cached.take() {
            Some(lease) if self.state.leads() => Some(lease),
            _ => match self.get().await {
                Ok(seen) => seen,
                Err(failure) => return self.failed(&failure),
            },
        };
        let now = Instant::now();
        let view = seen.as_ref().map(LeaseView::of);
        self.state.observe(now, view.as_ref());
        let action = step(now, view.as_ref(), &self.state);
        let sent = Instant::now();
        let written = match action {
            Action::Over(why) => return self.over(why.to_string()),
            Action::Wait { until } => {
                self.failures = 0;
                self.follow(view.and_then(|view| view.holder));
                return Next::Wait(self.period().min(until.saturating_duration_since(now)));
            }
            Action::Create { transitions } => self.create(transitions).await,
            Action::Take { transitions } => self.replace(seen.unwrap_or_default(), Some(transitions)).await,
            Action::Renew => self.replace(seen.unwrap_or_default(), None).await,
        };
        match written {
            Ok(lease) => self.granted(sent, lease),
            Err(failure) => self.failed(&failure),
        }
    }

    async fn create(&mut self, transitions: u32) -> Result<Lease, Failure> {
        self.wrote = true;
        let entry = self.entry(transitions, true);
        let lease = entry.create(self.config.namespace.as_str(), self.config.name.as_str());
        self.call(self.api.create(&PostParams::default(), &lease)).await
    }

    /// Writes over `lease` as it was read: to take it, where it changes hands, else to renew it.
    async fn replace(&mut self, lease: Lease, taken: Option<u32>) -> Result<Lease, Failure> {
        self.wrote = true;
        let transitions = taken.unwrap_or_else(|| LeaseView::of(&lease).transitions);
        let lease = self.entry(transitions, taken.is_some()).write_into(lease);
        self.call(self.api.replace(self.config.name.as_str(), &PostParams::default(), &lease)).await
    }

    fn entry(&self, transitions: u32, acquired: bool) -> Entry<'_> {
        let renewed = self.wall.now();
        Entry {
            holder: &self.state.identity,
            duration: self.config.times.duration,
            transitions,
            acquired: acquired.then_some(renewed),
            renewed,
        }
    }

    async fn get(&self) -> Result<Option<Lease>, Failure> {
        self.call(self.api.get_opt(self.config.name.as_str())).await
    }

    /// Makes one call; while leading, it ends with the leadership.
    async fn call<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
        let bound = self.config.times.call_timeout();
        let left = self.state.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        within(left.map_or(bound, |left| bound.min(left)), call).await
    }

    fn granted(&mut self, sent: Instant, lease: Lease) -> Next {
        self.failures = 0;
        self.state.observe(Instant::now(), Some(&LeaseView::of(&lease)));
        self.state.granted(sent);
        let deadline = sent + self.config.times.renew_deadline;
        if let Some(fence) = &self.fence {
            fence.extend(deadline);
        } else {
            let term = Term {
                created: created(&lease).unwrap_or_else(|| self.wall.now()),
                transitions: LeaseView::of(&lease).transitions,
                identity: self.state.identity.clone(),
            };
            tracing::info!(identity = term.identity, transitions = term.transitions, "Leading");
            let fence = Fence::until(deadline);
            self.fence = Some(fence.clone());
            self.tell(Leadership::Leading { term, fence });
        }
        self.cached = Some(lease);
        Next::Wait(self.period())
    }

    fn failed(&mut self, failure: &Failure) -> Next {
        self.cached = None;
        self.failures = self.failures.saturating_add(1);
        let leading = self.state.leads();
        // Who has written is told by looking, at once.
        if failure.is(409) && self.failures == 1 {
            return Next::Wait(Duration::ZERO);
        }
        if leading || self.failures == 1 {
            tracing::warn!(%failure, leading, "The Lease cannot be read or written");
        }
        let wait = match self.state.deadline() {
            // Half a period: a leader's time runs out.
            Some(deadline) => (self.period() / 2).min(deadline.saturating_duration_since(Instant::now())),
            None => self.period().max(failure.asked_for()),
        };
        Next::Wait(wait)
    }

    fn follow(&self, holder: Option<String>) {
        if self.leadership.borrow().leader() != holder.as_deref() {
            tracing::info!(leader = holder.as_deref().unwrap_or("nobody"), "Following");
            self.tell(Leadership::Following { holder });
        }
    }

    fn over(&mut self, why: String) -> Next {
        self.close();
        tracing::error!(why, "Leading no more");
        self.tell(Leadership::Over { why });
        Next::End
    }

    fn tell(&self, leadership: Leadership) {
        self.leadership.send_replace(leadership);
    }

    fn close(&self) {
        if let Some(fence) = &self.fence {
            fence.close();
        }
    }

    /// The time between two tries, a little different each time, so that those who wait for one moment do not meet again
    /// and again.
    fn period(&self) -> Duration {
        self.config.times.retry_period.mul_f64(rand::rng().random_range(0.8..1.0))
    }

    /// Gives up what is ours. What cannot be given up in time expires.
    async fn release(&mut self) {
        let bound = self.config.times.call_timeout() * 2;
        match timeout(bound, self.try_release(bound)).await {
            Ok(Ok(true)) => tracing::info!("Gave the Lease up"),
            Ok(Ok(false)) => {}
            Ok(Err(failure)) => tracing::warn!(%failure, "The Lease could not be given up: it has to expire"),
            Err(_) => tracing::warn!(failure = "no answer", "The Lease could not be given up: it has to expire"),
        }
    }

    /// Whether there was anything to give up.
    async fn try_release(&mut self, bound: Duration) -> Result<bool, Failure> {
        let name = self.config.name.as_str();
        loop {
            let lease = match self.cached.take() {
                Some(lease) => Some(lease),
                None => within(bound, self.api.get_opt(name)).await?,
            };
            let Some(lease) = lease else { return Ok(false) };
            let view = LeaseView::of(&lease);
            if view.holder.as_deref() != Some(self.state.identity.as_str()) {
                return Ok(false);
            }
            let entry = Entry { holder: "", duration: RELEASED, ..self.entry(view.transitions, true) };
            let lease = entry.write_into(lease);
            match within(bound, self.api.replace(name, &PostParams::default(), &lease)).await {
                Ok(_) => return Ok(true),
                // Written since we looked, perhaps by our own last renewal, which we have not heard of: look again.
                Err(failure) if failure.is(409) => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}
