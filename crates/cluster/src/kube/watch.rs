//! One watch of one kind: trimmed, paged, guarded.
//!
//! This is a loop of its own and not kube's `watcher`, because of what that leaves out: a bound on lists and on the
//! beginning of a watch, without which one call that hangs stops it for ever; the bookmarks, which tell whether a silent
//! connection is alive; and what went while nobody looked.

mod backoff;
mod health;
mod known;
mod quiet;

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, WatchParams};
use kube::core::{DeserializeGuard, ObjectList, Request, WatchEvent};
use kube::{Api, Client, Resource};
use rand::Rng as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(super) use health::{Trouble, WatchHealth};

use backoff::Backoff;
use health::Failure;
use known::{Known, Lost, Seen};
pub(super) use quiet::request;
use quiet::wording;

/// Objects in one page of a list, as Kubernetes' own clients have it: what a page holds is in memory untrimmed.
const PAGE: u32 = 500;
/// How long a page may take. 500 pods are some 5 MB.
const PAGE_BOUND: Duration = Duration::from_secs(30);
/// How long a watch may take to begin. An API server answers as soon as it has understood the request.
const START_BOUND: Duration = Duration::from_secs(10);
/// A watch that has lasted this long began well: from then on failures are new ones.
const SETTLED: Duration = Duration::from_secs(10);
/// For how many seconds a watch is asked for; drawn, so that what began at once does not end at once. An idle one costs a
/// request every four to five minutes.
const ASKED: std::ops::RangeInclusive<u32> = 240..=300;
/// An API server sends a bookmark every minute to whoever asks, also where nothing happens (seen on 1.35: after 59 to
/// 61 s; the first one of a watch after up to 120 s). So one that has sent any and then nothing for one and a half times
/// that is taken for dead, and the watch begun anew where it was, which costs no list.
const QUIET: Duration = Duration::from_secs(90);
/// The same before the first bookmark of a watch.
const QUIET_AT_FIRST: Duration = Duration::from_secs(150);
/// How much longer than asked for a watch may last where nobody sends bookmarks.
const OVERTIME: Duration = Duration::from_secs(10);

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change<T> {
    /// It is there, or has changed.
    Put(T),
    /// It is there and cannot be read. What was told of it before may be over.
    Broken {
        /// Its namespace; empty where its kind has none.
        namespace: String,
        /// Its name.
        name: String,
        /// Why not, without anything that it holds.
        error: String,
    },
    /// It is no longer there. Told once for each that was there, also where it went while nobody looked, and before
    /// another takes its name.
    Gone {
        /// Its namespace; empty where its kind has none.
        namespace: String,
        /// Its name.
        name: String,
        /// Which one it was.
        uid: Option<String>,
    },
    /// All that is there has been told, and all that went. Once after each complete list: the first one ends the start,
    /// the others follow an interruption.
    Listed,
}

/// Which objects are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// A label selector, such as `app=x,tier!=y`.
    pub(super) labels: Option<String>,
    /// A field selector, such as `metadata.name=x`.
    pub(super) fields: Option<String>,
}

/// Tells `send` of every change to the objects of `api`, in order and for ever.
///
/// Each object is trimmed as soon as it comes; nothing of it is kept here but its version. One that cannot be read, or that
/// `trim` refuses with words that may be shown, is [`Change::Broken`] and stops nothing. An object that a later list shows unchanged is not told again.
/// Lists are the newest there are, so that none goes back behind what has been told.
pub(super) async fn follow<K, T>(
    api: Api<DeserializeGuard<K>>,
    selection: Selection,
    health: WatchHealth,
    trim: impl Fn(K) -> Result<T, String>,
    send: impl FnMut(Change<T>),
) -> Infallible
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let mut follower = Follower {
        client: api.clone().into_client(),
        api,
        selection,
        health,
        trim,
        send,
        known: Known::default(),
        backoff: Backoff::default(),
        paged: true,
        bookmarks: true,
    };
    let mut version = None;
    loop {
        let outcome = match version.take() {
            None => follower.list().await.map(|listed| version = Some(listed)),
            Some(mut from) => {
                let outcome = follower.watch(&mut from).await;
                version = Some(from).filter(|_| !matches!(&outcome, Err(failure) if failure.trouble.needs_list()));
                outcome
            }
        };
        if let Err(failure) = outcome {
            follower.health.failed(&failure);
            sleep(follower.backoff.next(failure.trouble.is_answer(), failure.asked)).await;
        }
    }
}

struct Follower<K, F, S> {
    client: Client,
    api: Api<DeserializeGuard<K>>,
    selection: Selection,
    health: WatchHealth,
    trim: F,
    send: S,
    known: Known,
    backoff: Backoff,
    /// Whether the next list comes in pages. Not after one whose pages were forgotten before it was through.
    paged: bool,
    /// Whether the API server is held to send bookmarks, as all have since 1.17.
    bookmarks: bool,
}

impl<K, T, F, S> Follower<K, F, S>
where
    K: Resource + Clone + Debug + DeserializeOwned,
    F: Fn(K) -> Result<T, String>,
    S: FnMut(Change<T>),
{
    /// Tells of all that there is and of what went; the version from which to go on.
    async fn list(&mut self) -> Result<String, Failure> {
        self.known.begin();
        let mut params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            limit: self.paged.then_some(PAGE),
            ..ListParams::default()
        };
        loop {
            let page = self.page(&params).await.inspect_err(|failure| {
                if failure.trouble == Trouble::Expired {
                    self.paged = false;
                }
            })?;
            self.health.heard();
            for object in page.items {
                self.put(object);
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| Failure::new(Trouble::Unreadable, "a list without a version"))?;
            for lost in self.known.end() {
                self.gone(lost);
            }
            self.paged = true;
            self.health.listed();
            (self.send)(Change::Listed);
            return Ok(version);
        }
    }

    async fn page(&self, params: &ListParams) -> Result<ObjectList<DeserializeGuard<K>>, Failure> {
        let request = Request::new(self.api.resource_url()).list(params).map_err(kube::Error::BuildRequest)?;
        match timeout(PAGE_BOUND, quiet::request(&self.client, request)).await {
            Ok(page) => page.map_err(Failure::from),
            Err(_) => Err(silent("a list", PAGE_BOUND)),
        }
    }

    /// Tells of what changes after `version`, and moves it on, until the watch ends. It ends well where it lasted.
    async fn watch(&mut self, version: &mut String) -> Result<(), Failure> {
        let seconds = rand::rng().random_range(ASKED);
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: false,
        };
        let api = self.api.clone();
        let begun = timeout(START_BOUND, api.watch(&params, version)).await;
        let mut events = pin!(begun.map_err(|_| silent("a watch", START_BOUND))??);
        self.health.watching();

        let (start, mut heard) = (Instant::now(), Instant::now());
        let (mut settled, mut bookmarked) = (false, false);
        loop {
            let quiet = match (bookmarked, self.bookmarks) {
                (true, _) => QUIET,
                (false, true) => QUIET_AT_FIRST,
                (false, false) => Duration::from_secs(seconds.into()) + OVERTIME,
            };
            let until = if settled { heard + quiet } else { start + SETTLED };
            let event = match timeout_at(until, events.next()).await {
                Ok(event) => event,
                Err(_) if !settled => {
                    settled = true;
                    self.backoff.reset();
                    self.health.settled();
                    continue;
                }
                Err(_) => {
                    // Or it has stopped sending them: then the next watch is not held to it.
                    self.bookmarks = false;
                    return Err(silent("a watch", quiet));
                }
            };
            let Some(event) = event else {
                return if settled {
                    Ok(())
                } else {
                    Err(Failure::new(Trouble::CutOff, "the watch ended as soon as it had begun"))
                };
            };
            heard = Instant::now();
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    move_on(version, object.meta().resource_version.as_ref());
                    self.put(object);
                }
                Ok(WatchEvent::Deleted(object)) => {
                    move_on(version, object.meta().resource_version.as_ref());
                    if let Some(lost) = self.known.lose(object.meta()) {
                        self.gone(lost);
                    }
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    move_on(version, Some(&bookmark.metadata.resource_version));
                    (self.bookmarks, bookmarked) = (true, true);
                }
                Ok(WatchEvent::Error(status)) => return Err(Failure::of_status(&status)),
                // Not even its name can be read; those behind it can. kube takes some of these for a status without a code.
                Err(kube::Error::SerdeError(error)) => self.health.unreadable(&wording(&error.to_string())),
                Err(kube::Error::Api(status)) if status.code == 0 => {
                    self.health.unreadable("an event of no known form")
                }
                Err(error) => return Err(error.into()),
            }
            self.health.heard();
        }
    }

    fn put(&mut self, object: DeserializeGuard<K>) {
        match self.known.see(object.meta()) {
            Seen::Equal => return,
            Seen::Differs => {}
            Seen::Replaces(lost) => self.gone(lost),
        }
        let (namespace, name) = names(object.meta());
        let trimmed = match object.0 {
            Ok(object) => (self.trim)(object),
            Err(invalid) => Err(wording(&invalid.error)),
        };
        let change = match trimmed {
            Ok(trimmed) => Change::Put(trimmed),
            Err(error) => {
                self.health.unreadable(&format!("{namespace}/{name}: {error}"));
                Change::Broken { namespace, name, error }
            }
        };
        (self.send)(change);
    }

    fn gone(&mut self, lost: Lost) {
        let Lost { namespace, name, uid } = lost;
        (self.send)(Change::Gone { namespace, name, uid });
    }
}

fn move_on(version: &mut String, to: Option<&String>) {
    if let Some(to) = to.filter(|to| !to.is_empty()) {
        version.clone_from(to);
    }
}

fn names(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn silent(what: &str, bound: Duration) -> Failure {
    let message = format!("the API server has said nothing to {what} for {} s", bound.as_secs());
    Failure::new(Trouble::Silent, message)
}

#[cfg(test)]
pub(super) mod tests;
