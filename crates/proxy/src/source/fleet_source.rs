//! Following a controller's fleet API.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use longshore_routing::Table;
use longshore_types::Namespace;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::TableSource;
use super::controllers::Controllers;
use super::follower::{Followed, Follower, Limits};
use super::http_client::{Controller, HttpClient, Token};
use super::report::{MAX_REPORTS, report};
use super::state::{List, State};
use super::status::SourceStatus;
use crate::Missing;

/// Changes that wait to be put into the table.
const MAX_CHANGES: usize = 1024;

/// How a controller is followed.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where it is.
    pub controller: Controller,
    /// What to show it, where it asks for that.
    pub token: Option<Token>,
    /// The namespaces to serve; all that it shows where this is empty.
    pub namespaces: BTreeSet<Namespace>,
    /// What this router calls itself in its reports.
    pub router: String,
    /// A connection on which nothing at all has come for so long is dead. The controller sends something every 15 s.
    pub silence: Duration,
    /// The longest pause before the next attempt to connect. The first is a hundredth of it, each further one up to
    /// twice as long as the one before.
    pub max_pause: Duration,
    /// The longest event in bytes. A snapshot of 10,000 adapters on three engines each is about 15 MiB.
    pub max_event: usize,
}

impl FleetConfig {
    /// Follows `controller` with the contract's defaults.
    pub fn new(controller: Controller) -> Self {
        let Limits { silence, max_pause, max_event } = Limits::default();
        Self {
            controller,
            token: None,
            namespaces: BTreeSet::new(),
            router: "router".to_owned(),
            silence,
            max_pause,
            max_event,
        }
    }
}

/// Keeps a routing table as a controller's fleet API shows it.
///
/// While the controller is away the last known table stays: its engines are still there, and what they have lost they
/// answer themselves.
#[derive(Debug)]
pub struct FleetSource {
    config: FleetConfig,
    client: HttpClient,
    tables: watch::Sender<Arc<Table>>,
    synced: watch::Sender<bool>,
    missing: (mpsc::Sender<Missing>, mpsc::Receiver<Missing>),
    status: SourceStatus,
}

impl FleetSource {
    /// A source that follows nothing until it is run.
    pub fn new(config: FleetConfig) -> Self {
        let status = SourceStatus::new([List::Adapters.as_str(), List::Engines.as_str()]);
        Self {
            client: HttpClient::new(config.token.clone()),
            tables: watch::Sender::new(Arc::new(Table::default())),
            synced: watch::Sender::new(false),
            missing: mpsc::channel(MAX_REPORTS),
            status,
            config,
        }
    }
}

impl TableSource for FleetSource {
    fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.tables.subscribe()
    }

    fn synced(&self) -> watch::Receiver<bool> {
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
        let controllers = Controllers::fixed(config.controller.clone());
        let limits = Limits { silence: config.silence, max_pause: config.max_pause, max_event: config.max_event };
        let follow = |list: List| {
            let (changes, status) = (changes.clone(), status.list(list.as_str()));
            Follower { list, limits, client: &client, controllers: &controllers, changes, status }.run()
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(List::Adapters) => {}
            () = follow(List::Engines) => {}
            () = keep_table(State::new(config.namespaces.clone()), changed, &tables, &synced) => {}
            () = report(&client, &controllers, &config.router, missing) => {}
        }
        Ok(())
    }
}

/// Publishes a new table after each change, or after as many as have come meanwhile.
async fn keep_table(
    mut state: State,
    mut changes: mpsc::Receiver<Followed>,
    tables: &watch::Sender<Arc<Table>>,
    synced: &watch::Sender<bool>,
) {
    let take = |state: &mut State, followed| match followed {
        Followed::Changed(change) => state.apply(change),
        // Whoever does not hear of changes goes on by what is known.
        Followed::Connected | Followed::Lost => {}
    };
    while let Some(followed) = changes.recv().await {
        take(&mut state, followed);
        while let Ok(followed) = changes.try_recv() {
            take(&mut state, followed);
        }
        let Some(table) = state.table() else { continue };
        tables.send_if_modified(|current| {
            let changed = **current != table;
            if changed {
                *current = Arc::new(table);
            }
            changed
        });
        synced.send_if_modified(|synced| !std::mem::replace(synced, true));
    }
}
