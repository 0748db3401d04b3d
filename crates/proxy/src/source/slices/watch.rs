//! A list of EndpointSlices, followed.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{ListParams, WatchParams};
use kube::core::{Status, WatchEvent};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::read::{Guarded, SliceKey};
use crate::identity::random;
use crate::source::pause::pause;
use crate::source::status::ListStatus;

/// Objects per page: about a megabyte of slices of ten endpoints.
const PAGE: u32 = 500;
/// A page must have come within this time. The server itself gives a request a minute, and may let it queue for 15 s.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
/// A watch must have begun within this time. It has nothing to prepare but may queue.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// How much later than it was told to a server may end a watch.
const LATE: Duration = Duration::from_secs(5);
/// A watch that the server ends so soon and without a word has failed; otherwise asking again at once could go on for ever.
const TOO_SHORT: Duration = Duration::from_secs(1);
/// After so many failures in a row the list is read anew, whatever the reason was.
const RELIST_AFTER: u32 = 5;

/// What has been seen.
#[derive(Debug)]
pub(super) enum Seen<T> {
    /// This is all of it.
    All(Vec<(SliceKey, T)>),
    /// This is there now, new or changed.
    Put(SliceKey, T),
    /// This is there no more.
    Gone(SliceKey),
}

/// How it is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long one watch lasts; the server ends it then and the next one goes on where it ended. A server that is silent
    /// for longer hangs, or the connection to it is dead.
    pub(super) watch: Duration,
    /// The longest pause before the next attempt.
    pub(super) max_pause: Duration,
}

/// A list to follow. Only what `read` makes of an object is kept.
pub(super) struct Watch<T, C> {
    pub(super) api: Api<Guarded>,
    pub(super) selector: String,
    pub(super) pace: Pace,
    pub(super) status: ListStatus,
    pub(super) read: fn(&Guarded) -> T,
    pub(super) changes: mpsc::Sender<C>,
    /// Makes a change of what is seen.
    pub(super) wrap: Box<dyn Fn(Seen<T>) -> C + Send + Sync>,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the API server answers {} {}: {}", .0.code, .0.reason, .0.message)]
    Refused(Box<Status>),
    #[error("the API server cannot be asked")]
    Client(#[source] kube::Error),
    #[error("the API server did not answer in time")]
    NoAnswer,
    #[error("the API server has been silent for too long")]
    Silent,
    #[error("the API server ended the watch as soon as it had begun")]
    TooShort,
    #[error("the API server's list has no version")]
    NoVersion,
}

impl From<kube::Error> for Lost {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Client(other),
        }
    }
}

impl Lost {
    /// Whether what comes next cannot be told from where the list was, so that it must be read anew. 410: that version is
    /// too old. 504, and 400 where the server does not know the form: it is newer than what that server has.
    fn is_of_version(&self) -> bool {
        matches!(self, Self::Refused(status) if matches!(status.code, 400 | 410 | 504))
            || matches!(self, Self::Client(kube::Error::SerdeError(_)))
    }
}

impl<T, C> Watch<T, C> {
    /// Lists, watches, and goes on where it was lost, for ever. While it is lost nothing is said, so that what was last
    /// known is kept, and a list that is read anew is told whole, so that what vanished meanwhile is gone.
    pub(super) async fn run(self) {
        let mut version: Option<String> = None;
        let mut failures = 0_u32;
        loop {
            let ended = match &mut version {
                None => match self.list().await {
                    Ok((all, at)) => {
                        self.status.heard();
                        version = Some(at);
                        self.tell(Seen::All(all)).await;
                        continue;
                    }
                    Err(lost) => Err(lost),
                },
                Some(version) => {
                    let mut heard = false;
                    let ended = self.watch(version, &mut heard).await;
                    if heard {
                        failures = 0;
                    }
                    ended
                }
            };
            let Err(lost) = ended else { continue };
            self.status.lost();
            failures = failures.saturating_add(1);
            if lost.is_of_version() || failures >= RELIST_AFTER {
                version = None;
            }
            let pause = pause(failures - 1, self.pace.max_pause, random());
            let list = self.status.name();
            tracing::warn!(
                list,
                ?pause,
                relist = version.is_none(),
                error = &lost as &dyn std::error::Error,
                "Lost the API server; routing goes on by what is known"
            );
            sleep(pause).await;
        }
    }

    async fn tell(&self, seen: Seen<T>) {
        // Only at the end of the process is nobody there to take it, and then this is not run any more.
        let _ = self.changes.send((self.wrap)(seen)).await;
    }

    /// All there is, page by page, and its version.
    async fn list(&self) -> Result<(Vec<(SliceKey, T)>, String), Lost> {
        // With no version asked for it is the newest: an older one could bring back what is gone.
        let mut page = ListParams::default().labels(&self.selector).limit(PAGE);
        let mut all = Vec::new();
        loop {
            let list = timeout(PAGE_WITHIN, self.api.list(&page)).await.map_err(|_| Lost::NoAnswer)??;
            all.extend(list.items.iter().map(|object| (SliceKey::of(object), (self.read)(object))));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => {
                    let version = list.metadata.resource_version.filter(|version| !version.is_empty());
                    return Ok((all, version.ok_or(Lost::NoVersion)?));
                }
            }
        }
    }

    /// Follows one watch from `version` to its end and moves that along.
    async fn watch(&self, version: &mut String, heard: &mut bool) -> Result<(), Lost> {
        let seconds = u32::try_from(self.pace.watch.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default().labels(&self.selector).timeout(seconds);
        let events = timeout(OPEN_WITHIN, self.api.watch(&params, version)).await.map_err(|_| Lost::NoAnswer)??;
        let mut events = events.boxed();
        let begun = Instant::now();
        self.status.heard();
        let silence = self.pace.watch + LATE;
        while let Some(event) = timeout(silence, events.try_next()).await.map_err(|_| Lost::Silent)?? {
            let object = match event {
                WatchEvent::Error(status) => return Err(Lost::Refused(status)),
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    self.status.heard();
                    *heard = true;
                    continue;
                }
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.tell(Seen::Put(SliceKey::of(&object), (self.read)(&object))).await;
                    object
                }
                WatchEvent::Deleted(object) => {
                    self.tell(Seen::Gone(SliceKey::of(&object))).await;
                    object
                }
            };
            // Only what has been taken need not be sent again.
            if let Some(at) = kube::ResourceExt::resource_version(&object) {
                *version = at;
            }
            self.status.heard();
            *heard = true;
        }
        let lasted = begun.elapsed() >= TOO_SHORT;
        *heard |= lasted;
        if *heard { Ok(()) } else { Err(Lost::TooShort) }
    }
}
