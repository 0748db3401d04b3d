//! Following a controller's fleet API.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use longshore_api::fleet;
use longshore_routing::Table;
use longshore_types::Namespace;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::http_client::{Controller, HttpClient, HttpError, Token};
use super::sse::{Parser, TooLong};
use super::state::{Change, NotUnderstood, State};
use super::status::{SourceStatus, Stream};
use crate::Missing;
use crate::identity::random;

/// The head of an answer must be there within this time; it costs the controller nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a report may take. Reports are hints, so a late one is worth nothing.
const REPORT_WITHIN: Duration = Duration::from_secs(2);
/// Reports that wait to be sent.
const MAX_REPORTS: usize = 256;
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
        Self {
            controller,
            token: None,
            namespaces: BTreeSet::new(),
            router: "router".to_owned(),
            silence: Duration::from_secs(40),
            max_pause: Duration::from_secs(5),
            max_event: 64 << 20,
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
        Self {
            client: HttpClient::new(config.controller.clone(), config.token.clone()),
            tables: watch::Sender::new(Arc::new(Table::default())),
            synced: watch::Sender::new(false),
            missing: mpsc::channel(MAX_REPORTS),
            status: SourceStatus::new(),
            config,
        }
    }

    /// The newest table. Empty until [`Self::synced`] is true.
    pub fn tables(&self) -> watch::Receiver<Arc<Table>> {
        self.tables.subscribe()
    }

    /// Whether both lists have been heard once: from then on what is not in the table is not there.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Where the proxy reports what an engine lacks; it is passed to the controller at once.
    pub fn missing(&self) -> mpsc::Sender<Missing> {
        self.missing.0.clone()
    }

    /// How it is doing.
    pub fn status(&self) -> SourceStatus {
        self.status.clone()
    }

    /// Follows the controller until `stop` is cancelled.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let (changes, changed) = mpsc::channel(MAX_CHANGES);
        let Self { config, client, tables, synced, missing: (_, missing), status } = self;
        let follow = |stream| {
            let follower = Follower { stream, config: &config, client: &client, changes: &changes, status: &status };
            follower.run()
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(Stream::Adapters) => {}
            () = follow(Stream::Engines) => {}
            () = keep_table(State::new(config.namespaces.clone()), changed, &tables, &synced) => {}
            () = report(&client, &config.router, missing) => {}
        }
        Ok(())
    }
}

/// Publishes a new table after each change, or after as many as have come meanwhile.
async fn keep_table(
    mut state: State,
    mut changes: mpsc::Receiver<Change>,
    tables: &watch::Sender<Arc<Table>>,
    synced: &watch::Sender<bool>,
) {
    while let Some(change) = changes.recv().await {
        state.apply(change);
        while let Ok(change) = changes.try_recv() {
            state.apply(change);
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

/// Passes on what engines lack, as many as have come together.
async fn report(client: &HttpClient, router: &str, mut missing: mpsc::Receiver<Missing>) {
    let mut batch = Vec::new();
    while missing.recv_many(&mut batch, MAX_REPORTS).await > 0 {
        let mut lacked: Vec<fleet::Missing> = Vec::new();
        for Missing { engine, name, .. } in batch.drain(..) {
            let (namespace, pod) = (engine.namespace.to_string(), engine.name.to_string());
            let one = fleet::Missing { namespace, name: name.to_string(), pod };
            if !lacked.contains(&one) {
                lacked.push(one);
            }
        }
        let demand = fleet::Demand { router: router.to_owned(), adapters: Vec::new(), missing: lacked };
        let body = serde_json::to_vec(&demand).expect("plain structs of texts and numbers serialize");
        let headers = [(header::CONTENT_TYPE, "application/json")];
        let sent = timeout(REPORT_WITHIN, client.send(Method::POST, "/v1/demand", &headers, Bytes::from(body))).await;
        match sent {
            Ok(Ok(response)) if response.status().is_success() => {}
            Ok(Ok(response)) => tracing::warn!(status = response.status().as_u16(), "The controller refused a report"),
            // The engine is not asked for a while, and the next request that meets it reports it again.
            Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "A report was lost"),
            Err(_) => tracing::debug!("A report was not answered in time"),
        }
    }
}

/// Follows one list.
struct Follower<'a> {
    stream: Stream,
    config: &'a FleetConfig,
    client: &'a HttpClient,
    changes: &'a mpsc::Sender<Change>,
    status: &'a SourceStatus,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the controller answers {0}")]
    Status(StatusCode),
    #[error("the controller answers with something other than a stream of events")]
    NotEvents,
    #[error("the controller did not answer in time")]
    NoAnswer,
    #[error("nothing has come for too long")]
    Silent,
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("the controller closed the connection")]
    Closed,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
}

impl Follower<'_> {
    /// Connects, follows, and connects again, for ever.
    async fn run(self) {
        let mut last_id = None;
        let mut failures = 0_u32;
        loop {
            let mut heard = false;
            let Err(lost) = self.follow(&mut last_id, &mut heard).await;
            self.status.lost(self.stream);
            if matches!(lost, Lost::TooLong(_) | Lost::NotUnderstood(_)) {
                // What came after the last id would only be sent again.
                last_id = None;
                heard = false;
            }
            failures = if heard { 0 } else { failures.saturating_add(1) };
            let pause = pause(failures, self.config.max_pause, random());
            tracing::warn!(list = self.stream.as_str(), controller = %self.config.controller, ?pause, error = &lost as &dyn std::error::Error, "Lost the controller; routing goes on by the last known table");
            sleep(pause).await;
        }
    }

    /// Follows one connection to its end.
    async fn follow(&self, last_id: &mut Option<String>, heard: &mut bool) -> Result<Infallible, Lost> {
        let path = format!("/v1/{}?watch=1", self.stream.as_str());
        let mut headers = vec![(header::ACCEPT, "text/event-stream")];
        if let Some(id) = last_id.as_deref() {
            headers.push((header::HeaderName::from_static("last-event-id"), id));
        }
        let sent = timeout(ANSWER_WITHIN, self.client.send(Method::GET, &path, &headers, Bytes::new()));
        let response = sent.await.map_err(|_| Lost::NoAnswer)??;
        if response.status() != StatusCode::OK {
            return Err(Lost::Status(response.status()));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
        if !content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"text/event-stream")) {
            return Err(Lost::NotEvents);
        }
        let mut body = response.into_body();
        let mut parser = Parser::new(self.config.max_event);
        loop {
            let frame = timeout(self.config.silence, body.frame()).await.map_err(|_| Lost::Silent)?;
            let frame = frame.ok_or(Lost::Closed)??;
            self.status.heard(self.stream);
            let Some(bytes) = frame.data_ref() else { continue };
            for event in parser.push(bytes)? {
                if let Some(change) = Change::read(self.stream, &event)? {
                    // Only at the end of the process is nobody there to take it, and then this is not run any more.
                    let _ = self.changes.send(change).await;
                    *heard = true;
                }
                // Only what has been taken need not be sent again.
                if event.id.is_some() {
                    *last_id = event.id;
                }
            }
        }
    }
}

/// How long to wait after so many failures in a row: doubling from a hundredth of `longest` up to it, and of that a random
/// part between a half and all, so that the routers of a fleet do not all come back at once.
fn pause(failures: u32, longest: Duration, random: u64) -> Duration {
    let doubled = (longest / 100).saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(longest);
    // 1024 steps are fine enough for spreading.
    let part = u32::try_from(random % 1024).expect("below 1024");
    doubled / 2 + doubled / 2 * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let longest = Duration::from_secs(5);
        let range = |failures| (pause(failures, longest, 0), pause(failures, longest, 1023));
        assert_eq!(range(0).0, Duration::from_millis(25));
        assert_eq!(range(1).0, Duration::from_millis(50));
        for failures in [10, 20, 1000, u32::MAX] {
            let (least, most) = range(failures);
            assert_eq!(least, Duration::from_millis(2500));
            assert!(most > Duration::from_millis(4990) && most <= longest);
        }
    }
}
