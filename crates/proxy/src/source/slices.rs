//! Following the EndpointSlices of a cluster.

mod connect;
mod declared;
mod read;
#[cfg(test)]
mod samples;
mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use kube::{Api, Client};
use longshore_api::labels::{MANAGED_BY, MANAGER, SERVICE_NAME};
use longshore_routing::Table;
use longshore_types::{Namespace, ObjectName};
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::TableSource;
use super::controllers::Controllers;
use super::follower::{Followed, Follower, Limits};
use super::http_client::{Controller, HttpClient, Token};
use super::report::{MAX_REPORTS, report};
use super::state::List;
use super::status::SourceStatus;
use crate::Missing;
pub use connect::{NoCluster, connect};
use read::{Slice, SliceKey, replicas};
use state::{Scope, State, scopes};
use watch::{Pace, Seen, Watch};

/// Changes that wait to be put into the table.
const MAX_CHANGES: usize = 1024;
/// Changes that are put into one table at most, so that a flood of them does not keep the table back.
const MAX_AT_ONCE: usize = 4096;
/// What the list of the controller's replicas is called in logs and metrics.
const REPLICAS: &str = "controllers";

/// How a cluster is followed.
#[derive(Clone, Debug)]
pub struct KubeConfig {
    /// The namespaces to serve, with a watch each; all of them, with one watch, where this is empty.
    pub namespaces: BTreeSet<Namespace>,
    /// The Service of the controller, whose pods are found by its EndpointSlices.
    pub controller_service: ObjectName,
    /// The namespace of that Service.
    pub controller_namespace: Namespace,
    /// What to show the controller.
    pub token: Option<Token>,
    /// What this router calls itself in its reports.
    pub router: String,
    /// How long one watch lasts before it is renewed. A server that hangs, or a connection that died without a word, is
    /// noticed 5 s later. With the 30 s of the default a router that has nothing to do asks the API server four times a
    /// minute; until it notices, an engine's own 404 and refused connections lead past what has gone.
    pub watch: Duration,
    /// The longest pause before the API server or the controller is asked again. The first is a hundredth of it, each
    /// further one up to twice as long as the one before.
    pub max_pause: Duration,
    /// A table is published at once, and the next one not before this time has passed: what comes meanwhile goes into one.
    /// It bounds what a burst costs: a table of 1,000 adapters takes about a tenth of a millisecond. It is short because
    /// what a name stands for changes several times within milliseconds while an adapter comes up, and the last time
    /// counts.
    pub settle: Duration,
}

impl KubeConfig {
    /// Follows the controller of this namespace with the contract's defaults.
    pub fn new(controller_namespace: Namespace) -> Self {
        Self {
            namespaces: BTreeSet::new(),
            controller_service: MANAGER.parse().expect("a DNS label"),
            controller_namespace,
            token: None,
            router: "router".to_owned(),
            watch: Duration::from_secs(30),
            max_pause: Duration::from_secs(5),
            settle: Duration::from_millis(2),
        }
    }
}

/// Keeps a routing table as the EndpointSlices of a cluster say.
///
/// The controller's fleet API is followed as well, for the names that are declared and not ready and why. Routes come from
/// slices alone. While the API server or the controller is away the last known table stays.
pub struct KubeSource {
    config: KubeConfig,
    client: Client,
    tables: channel::Sender<Arc<Table>>,
    synced: channel::Sender<bool>,
    missing: (mpsc::Sender<Missing>, mpsc::Receiver<Missing>),
    status: SourceStatus,
}

impl fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeSource").field("config", &self.config).field("status", &self.status).finish_non_exhaustive()
    }
}

/// What the table is kept by.
enum Change {
    Slices(Scope, Seen<Slice>),
    Replicas(Seen<Vec<Controller>>),
    Followed(Followed),
}

impl From<Followed> for Change {
    fn from(followed: Followed) -> Self {
        Self::Followed(followed)
    }
}

impl KubeSource {
    /// A source that follows nothing until it is run.
    pub fn new(client: Client, config: KubeConfig) -> Self {
        let own = [REPLICAS.to_owned(), List::Adapters.as_str().to_owned()];
        let status = SourceStatus::new(scopes(&config.namespaces).map(|scope| list_name(&scope)).chain(own));
        Self {
            config,
            client,
            tables: channel::Sender::new(Arc::new(Table::default())),
            synced: channel::Sender::new(false),
            missing: mpsc::channel(MAX_REPORTS),
            status,
        }
    }
}

impl TableSource for KubeSource {
    fn tables(&self) -> channel::Receiver<Arc<Table>> {
        self.tables.subscribe()
    }

    fn synced(&self) -> channel::Receiver<bool> {
        self.synced.subscribe()
    }

    fn missing(&self) -> mpsc::Sender<Missing> {
        self.missing.0.clone()
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (changes, changed) = mpsc::channel(MAX_CHANGES);
        let Self { config, client, tables, synced, missing: (_, missing), status } = self;
        let controllers = Controllers::none();
        let http = HttpClient::new(config.token.clone());
        let watches = scopes(&config.namespaces).map(|scope| watch_slices(&client, &config, &status, scope, &changes));
        let follower = Follower {
            list: List::Adapters,
            limits: Limits { max_pause: config.max_pause, ..Limits::default() },
            client: &http,
            controllers: &controllers,
            changes: changes.clone(),
            status: status.list(List::Adapters.as_str()),
        };
        let keeper = Keeper {
            state: State::new(config.namespaces.clone()),
            replicas: BTreeMap::new(),
            controllers: &controllers,
            tables: &tables,
            synced: &synced,
            status: &status,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = select_all(watches) => {}
            () = watch_replicas(&client, &config, &status, &changes) => {}
            () = follower.run() => {}
            () = keeper.run(changed, config.settle) => {}
            () = report(&http, &controllers, &config.router, missing) => {}
        }
        Ok(())
    }
}

/// What the list of the slices in `scope` is called in logs and metrics.
fn list_name(scope: &Scope) -> String {
    scope.as_ref().map_or_else(|| "slices".to_owned(), |namespace| format!("slices/{namespace}"))
}

fn watch_slices(
    client: &Client,
    config: &KubeConfig,
    status: &SourceStatus,
    scope: Scope,
    changes: &mpsc::Sender<Change>,
) -> BoxFuture<'static, ()> {
    let api = match &scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace.as_str()),
        None => Api::all(client.clone()),
    };
    let selector = format!("{MANAGED_BY}={MANAGER}");
    let status = status.list(&list_name(&scope));
    let wrap = Box::new(move |seen| Change::Slices(scope.clone(), seen));
    Box::pin(
        Watch { api, selector, pace: pace(config), status, read: Slice::read, changes: changes.clone(), wrap }.run(),
    )
}

fn watch_replicas(
    client: &Client,
    config: &KubeConfig,
    status: &SourceStatus,
    changes: &mpsc::Sender<Change>,
) -> BoxFuture<'static, ()> {
    let api = Api::namespaced(client.clone(), config.controller_namespace.as_str());
    let selector = format!("{SERVICE_NAME}={}", config.controller_service);
    let (status, wrap) = (status.list(REPLICAS), Box::new(Change::Replicas));
    Box::pin(Watch { api, selector, pace: pace(config), status, read: replicas, changes: changes.clone(), wrap }.run())
}

fn pace(config: &KubeConfig) -> Pace {
    Pace { watch: config.watch, max_pause: config.max_pause }
}

/// Keeps the table and the list of the controller's replicas.
struct Keeper<'a> {
    state: State,
    replicas: BTreeMap<SliceKey, Vec<Controller>>,
    controllers: &'a Controllers,
    tables: &'a channel::Sender<Arc<Table>>,
    synced: &'a channel::Sender<bool>,
    status: &'a SourceStatus,
}

impl Keeper<'_> {
    /// Publishes a new table after a change at once, and after more of them that follow within `settle` once.
    async fn run(mut self, mut changes: mpsc::Receiver<Change>, settle: Duration) {
        let mut settled = Instant::now();
        while let Some(change) = changes.recv().await {
            self.take(change);
            for _ in 0..MAX_AT_ONCE {
                // Where that time has come already, this takes what is waiting and waits for nothing.
                let Ok(Some(change)) = timeout_at(settled, changes.recv()).await else { break };
                self.take(change);
            }
            if self.publish() {
                settled = Instant::now() + settle;
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Slices(scope, seen) => self.state.slices(&scope, seen),
            Change::Followed(followed) => self.state.followed(followed),
            Change::Replicas(seen) => {
                match seen {
                    Seen::All(all) => self.replicas = all.into_iter().collect(),
                    Seen::Put(key, replicas) => drop(self.replicas.insert(key, replicas)),
                    Seen::Gone(key) => drop(self.replicas.remove(&key)),
                }
                self.controllers.set(self.replicas.values().flatten().cloned().collect());
            }
        }
    }

    /// Says whether there was anything to publish.
    fn publish(&mut self) -> bool {
        self.status.left_out(self.state.left_out());
        let Some(table) = self.state.changed_table() else { return false };
        self.tables.send_replace(Arc::new(table));
        self.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        true
    }
}
