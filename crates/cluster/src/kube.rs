//! Drives the reconciler for a Kubernetes cluster: objects and pods in, Services, EndpointSlices, status and events out.
//!
//! One task, the actor, owns the reconciler, as in the local driver: facts come to it, it decides, and each effect becomes
//! work of its own whose outcome comes back as a fact; so an engine that hangs, an object that is malformed or a write that
//! is refused delays nothing else (I11). What routers see is written first, status behind it in its order, events last.
//!
//! It acts only as long as its [`Fence`] allows: nothing is begun that could arrive when another process leads. A restart
//! builds everything from lists, and writes nothing where nothing differs (I10).

mod actor;
mod calls;
mod client;
mod connect;
mod events;
mod fence;
mod health;
mod lease;
mod object;
mod objects;
mod pods;
mod resolve;
mod routes;
mod secrets;
mod slices;
mod statuses;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod urgent;
mod watch;
mod watches;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kube::Client;
use longshore_api::fleet::Demand;
use longshore_reconciler::{Config, Fact, Reconciler};
use longshore_types::Namespace;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::brain::Brain;
use crate::clock::Clock;
use crate::fleet::FleetStore;
use crate::owed::Owed;
use actor::{Actor, Input, Shared};
use calls::{BOUND, Calls};
use connect::{Connect, ConnectPods};
use events::Events;
use health::{Health, Parts};
use objects::note::Notes;
use routes::{Answered, Routes};
use secrets::SecretReader;
use statuses::{Statuses, Written};
use urgent::Urgent;
use watches::{FirstLists, Watches};

pub use client::{Cluster, NoCluster, RateLimit};
pub use connect::EngineKeySecret;
pub use fence::Fence;
pub use health::Heartbeat;
pub use lease::{Election, InvalidLeaseTimes, Leadership, LeaseConfig, LeaseTimes, Term, pod_of};

/// Reports of routers that wait to be taken in.
const REPORTS: usize = 64;

/// Where reports of routers go until a driver takes them.
pub fn demand() -> (mpsc::Sender<Demand>, mpsc::Receiver<Demand>) {
    mpsc::channel(REPORTS)
}

/// What a driver is given.
#[derive(Clone)]
pub struct Options {
    /// The API server. Its reads must have no timeout of their own, since watches last.
    pub client: Client,
    /// Until when the driver may act.
    pub fence: Fence,
    /// The namespaces that are looked after; all of them where there is none. Then no right of the cluster is needed.
    pub namespaces: Vec<Namespace>,
    /// How the reconciler behaves.
    pub reconciler: Config,
    /// The placement policy of objects that name none.
    pub policy: Option<String>,
    /// Where the key of engines is whose pods name none.
    pub engine_key: Option<EngineKeySecret>,
    /// What events are reported by: the name of this pod.
    pub instance: String,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("namespaces", &self.namespaces)
            .field("reconciler", &self.reconciler)
            .field("policy", &self.policy)
            .field("engine_key", &self.engine_key)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// A running driver. Dropping it stops it where it stands: nothing is unloaded, and what is written stays.
#[derive(Debug)]
pub struct Driver {
    inbox: mpsc::UnboundedSender<Input>,
    actor: AbortOnDropHandle<()>,
    parts: Parts,
    fence: Fence,
    /// Watches, and what goes on beside the actor. Dropping it stops all of it.
    beside: JoinSet<()>,
}

impl Driver {
    /// Starts it. `fleet` is opened once what is loaded where is known. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`longshore_engine::http_client`]: where the process has installed no TLS provider, or the system gives no
    /// certificates.
    pub fn start(
        options: Options,
        fleet: Arc<FleetStore>,
        demand: mpsc::Receiver<Demand>,
    ) -> Result<Self, longshore_engine::Error> {
        let brain = Reconciler::new(options.reconciler.clone());
        let http = longshore_engine::http_client()?;
        let (fence, key) = (options.fence.clone(), options.engine_key.clone());
        Ok(Self::start_with(options, fleet, demand, brain, |secrets| {
            Arc::new(ConnectPods::new(http, secrets.clone(), fence, key))
        }))
    }
}

impl Driver {
    fn start_with(
        options: Options,
        fleet: Arc<FleetStore>,
        demand: mpsc::Receiver<Demand>,
        brain: impl Brain,
        connect: impl FnOnce(&Arc<SecretReader>) -> Arc<dyn Connect>,
    ) -> Self {
        let Options { client, fence, namespaces, policy, engine_key, instance, .. } = options;
        // Two watches of one namespace would tell everything twice.
        let namespaces: Vec<Namespace> = BTreeSet::from_iter(namespaces).into_iter().collect();
        let (inbox, inputs) = mpsc::unbounded_channel();
        let calls = Calls::new(client.clone(), fence.clone());
        let urgent = Urgent::new();
        let tell = |inbox: &mpsc::UnboundedSender<Input>| {
            let inbox = inbox.clone();
            move |input| drop(inbox.send(input))
        };
        let routes = {
            let tell = tell(&inbox);
            Routes::start(calls.clone(), urgent.clone(), move |answered| {
                let Answered { adapter, sequence, result, notice } = answered;
                tell(Input::Fact(Box::new(Fact::Published { adapter, sequence, result, notice })));
            })
        };
        let statuses = {
            let tell = tell(&inbox);
            Statuses::start(calls.clone(), urgent.clone(), move |Written { object, sequence }| {
                tell(Input::Fact(Box::new(Fact::StatusWritten { object, sequence })));
            })
        };
        let events = Events::start(calls.clone(), urgent, statuses.pending(), &instance);
        let secrets = {
            let tell = tell(&inbox);
            Arc::new(SecretReader::new(client.clone(), move |secret| tell(Input::SecretChanged(secret.clone()))))
        };
        let heartbeat = Heartbeat::start();
        let health = Health::default();
        let shared = Shared {
            clock: Clock::start(),
            connect: connect(&secrets),
            fleet,
            secrets: secrets.clone(),
            routes: Arc::new(routes),
            statuses: Arc::new(statuses),
            events: Arc::new(events),
            objects: objects::Objects::new(calls.clone()),
            notes: Notes::new(calls.clone()),
            engine_key,
            sees_nodes: namespaces.is_empty(),
            heartbeat: heartbeat.clone(),
            inbox: inbox.clone(),
            calls,
        };
        let mut beside = JoinSet::new();
        beside.spawn(async move {
            secrets.watch_used().await;
        });
        beside.spawn(read_notes(shared.notes.clone(), namespaces.clone(), inbox.clone()));
        let policy: Option<Arc<str>> = policy.map(Into::into);
        let scopes: Vec<Option<Namespace>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.into_iter().map(Some).collect() };
        let (slices, services) = (FirstLists::of(scopes.len()), FirstLists::of(scopes.len()));
        for (number, scope) in scopes.iter().enumerate() {
            Watches {
                client: &client,
                scope: scope.as_ref(),
                number,
                health: &health,
                slices: &slices,
                services: &services,
            }
            .begin(&mut beside, &shared.routes, &inbox, policy.clone());
        }
        let parts = Parts {
            health: health.clone(),
            heartbeat,
            routes: shared.routes.clone(),
            statuses: shared.statuses.clone(),
            events: shared.events.clone(),
        };
        let actor = Actor::new(brain, shared, inputs, demand, scopes.len());
        let actor = AbortOnDropHandle::new(tokio::spawn(actor.run()));
        Self { inbox, actor, parts, fence, beside }
    }

    /// Comes back when the driver has ended, which before [`Self::stop`] only a bug can make it do.
    pub async fn ended(&mut self) {
        let _ = (&mut self.actor).await;
    }

    /// When its loop came round last.
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.parts.heartbeat
    }

    /// The watches that have not listed everything yet; none once it acts.
    pub fn unlisted(&self) -> Vec<String> {
        self.parts.health.unlisted()
    }

    /// Adds what it counts to `registry`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.parts.register(registry);
    }

    /// Stops: nothing more is begun, and what engines and the API server are being asked for is given up. Nothing is
    /// unloaded and nothing that was written is taken back, so whoever leads next goes on from here. Closes the fence.
    pub async fn stop(mut self) {
        // What waits for its turn anywhere finds it closed.
        self.fence.close();
        let _ = self.inbox.send(Input::Stop);
        self.ended().await;
        let Self { parts, mut beside, .. } = self;
        beside.shutdown().await;
        let Parts { routes, statuses, events, .. } = parts;
        drop((statuses, events));
        // Nothing may be on its way any more when another takes over.
        if let Ok(routes) = Arc::try_unwrap(routes) {
            let _ = timeout(BOUND, routes.stop()).await;
        }
    }
}

/// What earlier processes have left undone.
async fn read_notes(notes: Notes, namespaces: Vec<Namespace>, inbox: mpsc::UnboundedSender<Input>) {
    let owed = Owed::new(inbox, Input::Note(Vec::new()));
    let scope = Some(namespaces.as_slice()).filter(|namespaces| !namespaces.is_empty());
    match notes.read_all(scope).await {
        Ok(entries) => owed.answer(Input::Note(entries)),
        // What it tells is of engines that may not even be there any more; everything else goes on.
        Err(error) => tracing::error!(%error, "cannot read what could not be unloaded earlier"),
    }
}
