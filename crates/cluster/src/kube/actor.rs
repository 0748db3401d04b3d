//! The one task that owns the reconciler. It takes facts in, asks what is to be done, and sets it going; it never waits
//! for any of it.

mod bases;
mod engines;
mod hold;
mod note;
mod objects;
mod perform;
mod retries;
mod secrets;

use crate::asking::Answer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::fleet::Demand;
use longshore_reconciler::{Fact, Listing};
use longshore_types::{AdapterName, EngineId, Fault, Namespace, ObjectKey, Timestamp};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::calls::Calls;
use super::connect::{Connect, EngineKeySecret};
use super::events::Events;
use super::health::Heartbeat;
use super::object::ObjectFacts;
use super::objects::Objects as ObjectWrites;
use super::objects::note::{NoteEntry, Notes};
use super::pods::PodFacts;
use super::routes::Routes;
use super::secrets::{SecretName, SecretReader};
use super::statuses::Statuses;
use super::watch::Change;
use crate::brain::Brain;
use crate::clock::Clock;
use crate::fleet::FleetStore;
use bases::Bases;
use engines::Engines;
use objects::Objects;

/// Inputs that are taken in before it is decided what to do: enough that a burst is decided on at once.
const BATCH: usize = 256;

/// How often what was answered on the spot is decided on before anything else is listened to: a reference is resolved, then
/// its adapter placed.
const ROUNDS: usize = 8;

/// The longest sleep: whoever looks at the heartbeat learns that the loop still turns.
const TURN: Duration = Duration::from_secs(5);

/// How long the fleet is kept back after everything was listed, for engines that have not answered a first listing, and
/// how long once one of them has: see the local driver, which does likewise.
const OPEN_AFTER: Duration = Duration::from_secs(3);
const OPEN_AFTER_ONE: Duration = Duration::from_millis(100);

/// One thing for the actor to take in.
#[derive(Debug)]
pub(super) enum Input {
    /// An answer that is passed on as it is.
    Fact(Box<Fact>),
    /// An engine was listed, or was not.
    Listed(EngineId, Box<Result<Listing, Fault>>),
    /// What the watch of objects number `usize` shows.
    Object(usize, Change<Box<ObjectFacts>>),
    /// What the watch of pods number `usize` shows.
    Pod(usize, Change<Box<PodFacts>>),
    /// Our finalizer is on an object, or why it cannot be.
    Held(ObjectKey, String, Result<(), Fault>),
    /// The retry annotations of an object were written, or given up.
    RetriesWritten(ObjectKey, String),
    /// The zone of a node.
    Zone(Arc<str>, Option<Arc<str>>),
    /// What earlier processes have left undone.
    Note(Vec<NoteEntry>),
    /// A Secret that is in use has another value than before.
    SecretChanged(SecretName),
    /// Stop here.
    Stop,
}

impl Answer for Input {
    fn fact(fact: Fact) -> Self {
        Self::Fact(Box::new(fact))
    }
    fn listed(engine: EngineId, result: Result<Listing, Fault>) -> Self {
        Self::Listed(engine, Box::new(result))
    }
}

/// What the actor shares with its tasks.
#[derive(Clone)]
pub(super) struct Shared {
    pub clock: Clock,
    pub calls: Calls,
    pub fleet: Arc<FleetStore>,
    pub secrets: Arc<SecretReader>,
    pub connect: Arc<dyn Connect>,
    pub routes: Arc<Routes>,
    pub statuses: Arc<Statuses>,
    pub events: Arc<Events>,
    pub objects: ObjectWrites,
    pub notes: Notes,
    /// Where the key of engines is whose pods name none.
    pub engine_key: Option<EngineKeySecret>,
    /// Whether nodes may be read.
    pub sees_nodes: bool,
    pub heartbeat: Heartbeat,
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
    objects: Objects,
    engines: Engines,
    bases: Bases,
    /// Facts that effects were answered with on the spot.
    answers: VecDeque<Fact>,
    /// Watches that have not listed everything yet, by kind and number, and whether the notes are read.
    unlisted: BTreeSet<(Kind, usize)>,
    /// When everything had been listed.
    listed_at: Option<Instant>,
    /// When the first engine answered, or failed to.
    heard_at: Option<Instant>,
    /// Whether the fleet is shown.
    open: bool,
    /// Whether routes that nobody has told of may be taken away.
    settled: bool,
    /// Whether objects or engines name other Secrets than before, perhaps.
    secrets_changed: bool,
}

/// What is listed before anything is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Objects,
    Pods,
    Note,
}

impl<B: Brain> Actor<B> {
    /// `watches` is the number of watches of each kind: one, or one per namespace.
    pub(super) fn new(
        brain: B,
        shared: Shared,
        inputs: mpsc::UnboundedReceiver<Input>,
        demand: mpsc::Receiver<Demand>,
        watches: usize,
    ) -> Self {
        let lists = (0..watches).flat_map(|number| [(Kind::Objects, number), (Kind::Pods, number)]);
        Self {
            brain,
            shared,
            inputs,
            demand,
            tasks: JoinSet::new(),
            objects: Objects::default(),
            engines: Engines::default(),
            bases: Bases::default(),
            answers: VecDeque::new(),
            unlisted: lists.chain([(Kind::Note, 0)]).collect(),
            listed_at: None,
            heard_at: None,
            open: false,
            settled: false,
            secrets_changed: false,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            self.shared.heartbeat.beat();
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
            // What was answered on the spot need not wait for a timer, whose ticks are a millisecond.
            for _ in 0..ROUNDS {
                if self.answers.is_empty() {
                    break;
                }
                while let Some(fact) = self.answers.pop_front() {
                    self.observe(fact);
                }
                self.settle();
            }
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
        let open = self.open_at().filter(|_| !self.open);
        decide.into_iter().chain(open).min().unwrap_or(now + TURN).min(now + TURN)
    }

    fn observe(&mut self, fact: Fact) {
        let now = self.now();
        self.brain.observe(now, fact);
    }

    /// Asks what is to be done and sets it going.
    fn settle(&mut self) {
        self.check_synced();
        self.use_secrets();
        let now = self.now();
        let effects = self.brain.decide(now);
        self.perform(effects);
        if self.listed_at.is_none() || !self.answers.is_empty() {
            return;
        }
        if !self.open {
            if self.engines.any_heard() {
                self.heard_at.get_or_insert_with(Instant::now);
            }
            if self.engines.all_heard() || self.open_at().is_some_and(|at| at <= Instant::now()) {
                self.open = true;
                self.shared.fleet.open();
            }
        }
        // What a process before this one has published stands until it is known what takes its place.
        if !self.settled && self.brain.has_settled() {
            self.settled = true;
            self.publish_bases();
            self.shared.routes.settled();
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Fact(fact) => self.observe(*fact),
            Input::Listed(engine, result) => self.listed(engine, *result),
            Input::Object(number, change) => self.object_changed(number, change),
            Input::Pod(number, change) => self.pod_changed(number, change),
            Input::Held(key, uid, result) => self.held(&key, &uid, result),
            Input::RetriesWritten(key, uid) => self.retries_written(&key, &uid),
            Input::Zone(node, zone) => self.zone_known(node, zone),
            Input::Note(entries) => self.note_read(entries),
            Input::SecretChanged(secret) => self.secret_changed(&secret),
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
            if self.engines.has(&engine) {
                self.observe(Fact::Missing { engine, name });
            }
        }
    }

    /// When the fleet is shown even if an engine has not been heard of.
    fn open_at(&self) -> Option<Instant> {
        let listed = self.listed_at?;
        let after_one = self.heard_at.map(|heard| heard.max(listed) + OPEN_AFTER_ONE);
        Some(after_one.into_iter().fold(listed + OPEN_AFTER, Instant::min))
    }

    fn listed_all(&mut self, kind: Kind, number: usize) {
        self.unlisted.remove(&(kind, number));
    }

    /// Everything that exists has been told once it was listed and every zone that was asked for is known.
    fn check_synced(&mut self) {
        if self.listed_at.is_none() && self.unlisted.is_empty() && !self.engines.waits_for_zones() {
            self.listed_at = Some(Instant::now());
            self.forget_lost_pods();
            self.observe(Fact::Synced);
        }
    }
}

/// Something that is kept per node, object or engine while it is asked for.
type Known<K, V> = BTreeMap<K, V>;
