//! The one task that owns the reconciler. It takes facts in, asks what is to be done, and sets it going; it never waits
//! for any of it.

mod engines;
mod fetching;
mod perform;
mod sources;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_api::fleet::Demand;
use longshore_api::status::ModelAdapterStatus;
use longshore_reconciler::Fact;
use longshore_types::{AdapterKey, AdapterName, EngineId, Namespace, ObjectKey, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::changes::Changes;
use super::depot::{Files, Hold};
use super::inbox::{Input, Left};
use super::manifests::Manifests;
use super::problems::{Problem, Problems};
use super::secrets::SecretBook;
use super::{Connect, Router};
use crate::brain::Brain;
use crate::clock::Clock;
use crate::fleet::FleetStore;
use engines::Known;
use fetching::Fetching;

/// Inputs that are taken in before it is decided what to do: enough that a burst is decided on at once.
const BATCH: usize = 256;

/// How long the fleet is kept back after the manifests were read, for engines that have not answered a first listing:
/// what they hold may be all that routers have.
const OPEN_AFTER: Duration = Duration::from_secs(3);

/// The same once one engine has answered: the others take about as long, unless something is wrong with them, and that
/// must not hide what is served (I11).
const OPEN_AFTER_ONE: Duration = Duration::from_millis(100);

/// A time to sleep until where nothing is due: any input wakes the actor.
const LONG: Duration = Duration::from_secs(3600);

/// The latest status of each object.
pub(super) type Statuses = Arc<Mutex<BTreeMap<ObjectKey, ModelAdapterStatus>>>;

/// What the actor shares with its handle and its tasks.
#[derive(Clone)]
pub(super) struct Shared {
    pub clock: Clock,
    pub fleet: Arc<FleetStore>,
    pub statuses: Statuses,
    /// The generation of each object whose artifact was last resolved, or was not.
    pub resolved: Arc<Mutex<BTreeMap<ObjectKey, i64>>>,
    pub changes: Changes,
    pub problems: Problems,
    pub files: Files,
    pub secrets: SecretBook,
    pub connect: Arc<dyn Connect>,
    pub router: Arc<dyn Router>,
    pub inbox: mpsc::UnboundedSender<Input>,
}

/// The actor.
pub(super) struct Actor<B> {
    brain: B,
    shared: Shared,
    inputs: mpsc::UnboundedReceiver<Input>,
    demand: mpsc::Receiver<Demand>,
    /// Everything that is under way. Dropping it stops all of it.
    tasks: JoinSet<()>,
    engines: BTreeMap<EngineId, Known>,
    /// Those of the command line, which the engines file cannot take away.
    named: BTreeSet<EngineId>,
    manifests: Manifests,
    /// What is wrong with the files and directories that were named.
    roots: BTreeMap<PathBuf, Vec<Problem>>,
    /// Fetches under way and watches of what was fetched, by adapter.
    resolving: BTreeMap<AdapterKey, Resolving>,
    tickets: u64,
    /// Facts that effects were answered with on the spot.
    answers: VecDeque<Fact>,
    /// Fetched files that the reconciler pins when it next decides.
    holds: Vec<Hold>,
    /// When the manifests were first read.
    read_at: Option<Instant>,
    /// When the first engine answered, or failed to.
    heard_at: Option<Instant>,
    synced: bool,
    swept: bool,
    withdrawing: Option<Withdrawing>,
}

struct Resolving {
    ticket: u64,
    task: AbortHandle,
    /// Until it is answered.
    fetching: Option<Fetching>,
}

struct Withdrawing {
    /// What was served when it began.
    names: BTreeSet<(Namespace, AdapterName)>,
    done: Option<oneshot::Sender<()>>,
}

impl<B: Brain> Actor<B> {
    pub(super) fn new(
        brain: B,
        shared: Shared,
        inputs: mpsc::UnboundedReceiver<Input>,
        demand: mpsc::Receiver<Demand>,
    ) -> Self {
        Self {
            brain,
            shared,
            inputs,
            demand,
            tasks: JoinSet::new(),
            engines: BTreeMap::new(),
            named: BTreeSet::new(),
            manifests: Manifests::default(),
            roots: BTreeMap::new(),
            resolving: BTreeMap::new(),
            tickets: 0,
            answers: VecDeque::new(),
            holds: Vec::new(),
            read_at: None,
            heard_at: None,
            synced: false,
            swept: false,
            withdrawing: None,
        }
    }

    /// Runs until it is told to stop, or until nobody is left who could tell it anything.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let wake = self.wake_at();
            tokio::select! {
                count = self.inputs.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                Some(demand) = self.demand.recv() => self.demanded(demand),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a task of the driver has failed; what it owed was answered for it");
                    }
                    continue;
                }
                () = sleep_until(wake) => {}
            }
            // What came with the last turn's effects counts as having come now.
            while let Some(fact) = self.answers.pop_front() {
                self.observe(fact);
            }
            for input in batch.drain(..) {
                if matches!(input, Input::Stop) {
                    return;
                }
                self.take(input);
            }
            self.settle();
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn wake_at(&self) -> Instant {
        let now = Instant::now();
        if !self.answers.is_empty() {
            return now;
        }
        let decide = self.brain.wake_at().map(|time| self.shared.clock.instant_at(time));
        let open = self.open_at().filter(|_| !self.shared.fleet.is_open());
        decide.into_iter().chain(open).chain(self.look_at_fetches()).min().unwrap_or(now + LONG)
    }

    fn observe(&mut self, fact: Fact) {
        let now = self.now();
        self.brain.observe(now, fact);
    }

    /// Asks what is to be done and sets it going.
    fn settle(&mut self) {
        self.check_synced();
        let now = self.now();
        let effects = self.brain.decide(now);
        self.perform(effects);
        self.show_fetches();
        // By now the reconciler has pinned what it was told of.
        self.holds.clear();
        if self.engines.values().any(Known::is_heard) {
            self.heard_at.get_or_insert_with(Instant::now);
        }
        let all_heard = self.synced && self.answers.is_empty() && self.engines.values().all(Known::is_heard);
        if all_heard || self.open_at().is_some_and(|at| at <= Instant::now()) {
            self.shared.fleet.open();
        }
        if let Some(withdrawing) = &mut self.withdrawing
            && self.manifests.objects().next().is_none()
            && let Some(done) = withdrawing.done.take()
        {
            let _ = done.send(());
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Fact(fact) => self.observe(*fact),
            Input::Listed(engine, result) => self.listed(engine, *result),
            Input::Resolved(answer) => {
                // An earlier one for the same adapter was replaced, and is not waited for.
                if let Some(latest) =
                    self.resolving.get_mut(&answer.adapter).filter(|latest| latest.ticket == answer.ticket)
                {
                    let was_shown = latest.fetching.take().is_some_and(|fetching| fetching.is_shown());
                    self.holds.extend(answer.hold);
                    if let Fact::Resolved { generation, .. } = &answer.fact {
                        let mut resolved = self.shared.resolved.lock().unwrap_or_else(PoisonError::into_inner);
                        resolved.insert(answer.adapter.object.clone(), *generation);
                    }
                    self.observe(answer.fact);
                    if was_shown {
                        self.refresh_adapter(&answer.adapter);
                    }
                }
            }
            Input::FilesChanged { adapter, ticket } => self.files_changed(&adapter, ticket),
            Input::Scanned(scan) => self.scanned(*scan),
            Input::Declared(declared, answer) => self.declared(declared, answer),
            Input::Removed(result, digest) => self.removed(result, digest),
            Input::Withdraw(done) => self.withdraw(done),
            Input::Left(answer) => {
                let _ = answer.send(self.left());
            }
            // The loop ends on it.
            Input::Stop => {}
        }
    }

    /// Routers met engines that lack an adapter. Only what could be true is passed on.
    fn demanded(&mut self, demand: Demand) {
        for missing in demand.missing {
            let (Ok(namespace), Ok(name)) = (Namespace::new(&missing.namespace), AdapterName::new(&missing.name))
            else {
                continue;
            };
            let engine = EngineId::new(namespace, &missing.pod);
            if self.engines.contains_key(&engine) {
                self.observe(Fact::Missing { engine, name });
            }
        }
    }

    /// When the fleet is shown even if an engine has not been heard of.
    fn open_at(&self) -> Option<Instant> {
        let read = self.read_at?;
        let after_one = self.heard_at.map(|heard| heard.max(read) + OPEN_AFTER_ONE);
        Some(after_one.into_iter().fold(read + OPEN_AFTER, Instant::min))
    }

    /// Everything that exists has been told once the manifests were read: engines are told before that. Which of them
    /// still hold what, the reconciler waits for as long as it makes sense.
    fn check_synced(&mut self) {
        if !self.synced && self.read_at.is_some() {
            self.synced = true;
            self.observe(Fact::Synced);
        }
    }

    fn withdraw(&mut self, done: oneshot::Sender<()>) {
        let names = self.shared.fleet.adapters().items;
        let names = names.iter().filter_map(|adapter| {
            Some((Namespace::new(&adapter.namespace).ok()?, AdapterName::new(&adapter.name).ok()?))
        });
        self.withdrawing = Some(Withdrawing { names: names.collect(), done: Some(done) });
        for object in self.manifests.withdraw() {
            self.observe(Fact::Applied(Box::new(object)));
        }
    }

    /// Adapters that were served when the withdrawal began, and that engines still hold as far as is known.
    fn left(&self) -> Vec<Left> {
        let Some(Withdrawing { names, .. }) = &self.withdrawing else { return Vec::new() };
        let mut left = Vec::new();
        for id in self.engines.keys() {
            let Some(engine) = self.brain.engine(id) else { continue };
            let why = if engine.message.is_empty() { "the time was over".to_owned() } else { engine.message };
            let ours = engine.resident.into_iter().filter(|resident| resident.ours || resident.digest.is_some());
            left.extend(
                ours.filter(|resident| {
                    AdapterName::new(&resident.name).is_ok_and(|name| names.contains(&(id.namespace.clone(), name)))
                })
                .map(|resident| Left { engine: id.clone(), adapter: resident.name, why: why.clone() }),
            );
        }
        left
    }

    fn show_status(&self, key: &ObjectKey, status: Option<ModelAdapterStatus>) {
        let mut statuses = self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            Some(status) => statuses.insert(key.clone(), status),
            None => {
                self.shared.resolved.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
                statuses.remove(key)
            }
        };
    }
}
