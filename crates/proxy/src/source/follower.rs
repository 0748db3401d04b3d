//! Following one list of a controller's fleet API.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::controllers::Controllers;
use super::http_client::{Controller, HttpClient, HttpError};
use super::pause::pause;
use super::sse::{Parser, TooLong};
use super::state::{Change, List, NotUnderstood};
use super::status::ListStatus;
use crate::identity::random;

/// The head of an answer must be there within this time; it costs the controller nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What comes of following a list.
#[derive(Debug)]
pub(super) enum Followed {
    /// This has changed.
    Changed(Change),
    /// From now on every change is heard.
    Connected,
    /// From now on none is.
    Lost,
}

/// Follows one list.
pub(super) struct Follower<'a, C> {
    pub(super) list: List,
    pub(super) limits: Limits,
    pub(super) client: &'a HttpClient,
    pub(super) controllers: &'a Controllers,
    pub(super) changes: mpsc::Sender<C>,
    pub(super) status: ListStatus,
}

/// How a controller is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A connection on which nothing at all has come for so long is dead.
    pub(super) silence: Duration,
    /// The longest pause before the next attempt to connect.
    pub(super) max_pause: Duration,
    /// The longest event in bytes.
    pub(super) max_event: usize,
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
    #[error("this replica of the controller takes no requests any more")]
    Left,
    #[error(transparent)]
    TooLong(#[from] TooLong),
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
}

impl Default for Limits {
    /// The controller sends something every 15 s. A snapshot of 10,000 adapters on three engines each is about 15 MiB.
    fn default() -> Self {
        Self { silence: Duration::from_secs(40), max_pause: Duration::from_secs(5), max_event: 64 << 20 }
    }
}

impl<C: From<Followed>> Follower<'_, C> {
    /// Connects, follows, and connects again, for ever; to the next replica each time.
    pub(super) async fn run(self) {
        let mut last_id = None;
        let mut failures = 0_u32;
        loop {
            let controller = self.controllers.any().await;
            let mut heard = false;
            let lost = tokio::select! {
                Err(lost) = self.follow(&controller, &mut last_id, &mut heard) => lost,
                () = self.controllers.left(&controller) => Lost::Left,
            };
            self.status.lost();
            self.tell(Followed::Lost).await;
            if matches!(lost, Lost::TooLong(_) | Lost::NotUnderstood(_)) {
                // What came after the last id would only be sent again.
                last_id = None;
                heard = false;
            }
            failures = if heard { 0 } else { failures.saturating_add(1) };
            self.controllers.failed(&controller);
            // The pause grows only once every replica has failed.
            let replicas = u32::try_from(self.controllers.count().max(1)).unwrap_or(u32::MAX);
            let pause = pause(failures / replicas, self.limits.max_pause, random());
            tracing::warn!(list = self.list.as_str(), %controller, ?pause, error = &lost as &dyn std::error::Error, "Lost the controller; routing goes on by what is known");
            tokio::select! {
                () = sleep(pause) => {}
                () = self.controllers.changed() => {}
            }
        }
    }

    /// Follows one connection to its end.
    async fn follow(
        &self,
        controller: &Controller,
        last_id: &mut Option<String>,
        heard: &mut bool,
    ) -> Result<Infallible, Lost> {
        let path = format!("/v1/{}?watch=1", self.list.as_str());
        let mut headers = vec![(header::ACCEPT, "text/event-stream")];
        if let Some(id) = last_id.as_deref() {
            headers.push((header::HeaderName::from_static("last-event-id"), id));
        }
        let sent = timeout(ANSWER_WITHIN, self.client.send(controller, Method::GET, &path, &headers, Bytes::new()));
        let response = sent.await.map_err(|_| Lost::NoAnswer)??;
        if response.status() != StatusCode::OK {
            return Err(Lost::Status(response.status()));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
        if !content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"text/event-stream")) {
            return Err(Lost::NotEvents);
        }
        self.status.heard();
        self.tell(Followed::Connected).await;
        let mut body = response.into_body();
        let mut parser = Parser::new(self.limits.max_event);
        loop {
            let frame = timeout(self.limits.silence, body.frame()).await.map_err(|_| Lost::Silent)?;
            let frame = frame.ok_or(Lost::Closed)??;
            self.status.heard();
            let Some(bytes) = frame.data_ref() else { continue };
            for event in parser.push(bytes)? {
                if let Some(change) = Change::read(self.list, &event)? {
                    self.tell(Followed::Changed(change)).await;
                    *heard = true;
                }
                // Only what has been taken need not be sent again.
                if event.id.is_some() {
                    *last_id = event.id;
                }
            }
        }
    }

    async fn tell(&self, followed: Followed) {
        // Only at the end of the process is nobody there to take it, and then this is not run any more.
        let _ = self.changes.send(followed.into()).await;
    }
}
