//! Writes Services and EndpointSlices: what routers go by. [`desk`] decides, this does it.
//!
//! Nothing here waits for anything but the API server, and no route waits for another. What is there is known from two
//! sides: from watches, and sooner from the answers to our own writes. A difference between that and what is wanted is
//! written, whatever it came from; where there is none, nothing is.

mod desk;
mod lane;
mod metrics;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;

use longshore_types::{AdapterKey, Fault};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::calls::{CallError, Calls};
use super::slices::{BaseWrite, RouteWrite, ServiceSeen, SliceSeen};
use super::urgent::Urgent;
use desk::{Desk, LaneId, Outcome};
use metrics::Metrics;

/// How a route was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// Whose.
    pub adapter: AdapterKey,
    /// The route's own number.
    pub sequence: u64,
    /// Whether routers have been given exactly its endpoints.
    pub result: Result<(), Fault>,
    /// What is wrong beside the endpoints, such as a Service of that name that is not ours.
    pub notice: Option<Fault>,
}

/// What a watch shows.
#[derive(Clone, Debug)]
pub(super) enum Change<T> {
    /// It is there, like this.
    Put(T),
    /// It is gone; which life of it, where that is known.
    Gone { namespace: String, name: String, uid: Option<String> },
    /// Everything that is there has been shown.
    Listed,
}

/// The writer. It ends when it is dropped, after what is on its way.
pub(super) struct Routes {
    inputs: mpsc::UnboundedSender<Input>,
    task: JoinHandle<()>,
    metrics: Metrics,
}

enum Input {
    Expect(AdapterKey),
    Publish(Box<RouteWrite>),
    Retract(AdapterKey),
    Base(Box<BaseWrite>),
    Slice(Box<Change<SliceSeen>>),
    Service(Box<Change<ServiceSeen>>),
    Settled,
}

impl Routes {
    /// Starts. Nothing is written before both watches have been [`Change::Listed`]. `answer` is called once for each route
    /// that was published, with the outcome of it or of a later one that took its place, and again under the same number
    /// when that changes.
    pub(super) fn start(calls: Calls, urgent: Urgent, answer: impl Fn(Answered) + Send + Sync + 'static) -> Self {
        let (inputs, taken) = mpsc::unbounded_channel();
        let metrics = Metrics::default();
        let actor = Actor {
            desk: Desk::new(urgent),
            calls,
            metrics: metrics.clone(),
            answer: Box::new(answer),
            tasks: JoinSet::new(),
            lanes: HashMap::new(),
        };
        Self { inputs, task: tokio::spawn(actor.run(taken)), metrics }
    }

    /// There is such an adapter: it is looked early whether its Service's name is free, so that the first write of its
    /// slices can go by that. Costs one read where nothing is known of such a Service.
    pub(super) fn expect(&self, adapter: AdapterKey) {
        self.tell(Input::Expect(adapter));
    }

    /// Routers are to be given exactly this. A later one replaces it.
    pub(super) fn publish(&self, write: RouteWrite) {
        self.tell(Input::Publish(Box::new(write)));
    }

    /// The adapter is declared no more: its slices go, and its Service.
    pub(super) fn retract(&self, adapter: AdapterKey) {
        self.tell(Input::Retract(adapter));
    }

    /// A base model has exactly these engines. Not answered.
    pub(super) fn base(&self, write: BaseWrite) {
        self.tell(Input::Base(Box::new(write)));
    }

    /// What the watch of slices with our label shows.
    pub(super) fn slice(&self, change: Change<SliceSeen>) {
        self.tell(Input::Slice(Box::new(change)));
    }

    /// What the watch of Services with the label of adapters' Services shows.
    pub(super) fn service(&self, change: Change<ServiceSeen>) {
        self.tell(Input::Service(Box::new(change)));
    }

    /// Every route that exists has been told: slices of ours that belong to none of them are left over from before.
    pub(super) fn settled(&self) {
        self.tell(Input::Settled);
    }

    /// Counts of what is written.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Begins nothing more and waits for what is on its way.
    pub(super) async fn stop(self) {
        let Self { inputs, task, .. } = self;
        drop(inputs);
        // An error means that it has ended already.
        let _ = task.await;
    }

    fn tell(&self, input: Input) {
        // An error means that the writer has ended, and with it everybody who could be told.
        let _ = self.inputs.send(input);
    }
}

struct Actor {
    desk: Desk,
    calls: Calls,
    metrics: Metrics,
    answer: Box<dyn Fn(Answered) + Send + Sync>,
    tasks: JoinSet<Outcome>,
    /// What each task writes on.
    lanes: HashMap<Id, LaneId>,
}

impl Actor {
    /// Inputs that are taken in before anything is begun: a burst for one adapter becomes one write.
    const BATCH: usize = 256;

    async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        let mut batch = Vec::new();
        loop {
            let wake = self.desk.wake_at();
            tokio::select! {
                count = inputs.recv_many(&mut batch, Self::BATCH) => {
                    if count == 0 {
                        break;
                    }
                    for input in batch.drain(..) {
                        self.take(input);
                    }
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, outcome),
                        Err(error) => {
                            tracing::error!(%error, "a write has failed; it is tried again");
                            (error.id(), Outcome::Lost(CallError::Timeout))
                        }
                    };
                    if let Some(lane) = self.lanes.remove(&id) {
                        self.desk.done(Instant::now(), &lane, outcome);
                    }
                }
                () = async { match wake { Some(wake) => sleep_until(wake).await, None => std::future::pending().await } } => {}
            }
            self.go_on();
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn take(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Expect(adapter) => self.desk.expect(now, &adapter),
            Input::Publish(write) => self.desk.publish(now, *write),
            Input::Retract(adapter) => self.desk.retract(now, &adapter),
            Input::Base(write) => self.desk.base(now, *write),
            Input::Slice(change) => self.desk.slice(now, *change),
            Input::Service(change) => self.desk.service(now, *change),
            Input::Settled => self.desk.settled(now),
        }
    }

    /// Begins what is due and gives the answers.
    fn go_on(&mut self) {
        let now = Instant::now();
        self.desk.fire(now);
        while let Some(job) = self.desk.next(now) {
            let (calls, metrics) = (self.calls.clone(), self.metrics.clone());
            let lane = job.lane.clone();
            let task = self.tasks.spawn(async move { write::perform(&calls, &metrics, job).await });
            self.lanes.insert(task.id(), lane);
        }
        for answered in self.desk.answers() {
            (self.answer)(answered);
        }
    }
}
