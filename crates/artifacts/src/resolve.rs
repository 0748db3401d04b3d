//! From a reference to an entry of the store.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use longshore_types::{ArtifactUrl, Digest, Root};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::error::Error;
use crate::origin::Origin;
use crate::progress::Progress;
use crate::source::local::{Local, blocking};
use crate::source::{Fingerprint, Setup, Source};
use crate::store::Store;
use crate::store::holds::Hold;
use crate::verify::Verified;
use crate::verify::base::BaseShapes;

/// Adapters copied and hashed at once. Hashing one takes a core; more at once would only compete with the engine beside us.
/// Sources that hang hold a place each, so it is not one.
const AT_ONCE: usize = 16;
/// The longest that a source may take to say what a reference stands for. Ten pages of a listing take seconds.
const LOOK: Duration = Duration::from_secs(120);
/// References remembered. Beyond this all are forgotten and hashed once more, which costs time and nothing else.
const REMEMBERED: usize = 4096;

/// What an adapter has to be.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// The digest that it must have.
    pub pinned: Option<Digest>,
    /// The base model whose modules it must fit.
    pub base: Option<Arc<BaseShapes>>,
}

/// What to fetch, and what for.
#[derive(Clone, Debug)]
pub struct Order {
    /// From where.
    pub origin: Origin,
    /// What it has to be.
    pub expect: Expect,
    /// Shows how far it has come.
    pub progress: Progress,
}

impl Order {
    /// Whatever `url` stands for, without credentials.
    pub fn public(url: ArtifactUrl) -> Self {
        Self { origin: Origin::public(url), expect: Expect::default(), progress: Progress::default() }
    }
}

/// An adapter in the store. While this or a clone of it lives, the same process does not remove it to make room. Others may,
/// until it is [pinned](Store::pin).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What is known of it.
    pub verified: Verified,
    /// The directory, as this process sees it.
    pub path: PathBuf,
    pub(crate) hold: Hold,
}

impl Fetched {
    /// What engines are told to load.
    pub fn root(&self) -> Root {
        Root::Store(self.verified.digest)
    }
}

/// Fetches adapters into a store. Cheap to share behind an `Arc`. Fetching takes a tokio runtime that has its timers.
///
/// Fetches of one reference happen one after the other, also in several processes that share the store, and a later one finds
/// what the earlier one stored. A reference whose source proves that nothing has changed since it was last fetched is not read
/// again: since any process fetched it, or since this one did where the proof is by file times, which are only as good as the
/// process that took them. Whoever asks, and with whatever credentials: the source has to admit them first, each time.
pub struct Artifacts {
    store: Store,
    sources: Vec<Arc<dyn Source>>,
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    remembered: Mutex<HashMap<String, (Fingerprint, Digest)>>,
    places: Semaphore,
}

impl Artifacts {
    /// Fetches from this machine's directories into `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            sources: vec![Arc::new(Local)],
            turns: Mutex::default(),
            remembered: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Fetches from everywhere that there is a source for. A TLS provider must have been installed.
    ///
    /// # Errors
    /// [`Error::Source`] where a client cannot be made.
    pub fn from_everywhere(store: Store, setup: Setup) -> Result<Self, Error> {
        let mut all = Self::new(store);
        all.sources.extend(setup.sources()?);
        Ok(all)
    }

    /// Also fetches from `source`.
    #[must_use]
    pub fn with_source(mut self, source: Arc<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Brings what `url` stands for into the store, without credentials. `pinned` is the digest that it must have.
    ///
    /// Dropping the future gives up: what was copied so far is removed.
    ///
    /// # Errors
    /// As [`Artifacts::fulfil`].
    pub async fn fetch(&self, url: &ArtifactUrl, pinned: Option<&Digest>) -> Result<Fetched, Error> {
        let mut order = Order::public(url.clone());
        order.expect.pinned = pinned.copied();
        self.fulfil(&order).await
    }

    /// Brings what is ordered into the store. What is there already is given out without being read again, once the source
    /// has admitted the credentials.
    ///
    /// Dropping the future gives up: what was copied so far is removed.
    ///
    /// # Errors
    /// [`Error::UnsupportedScheme`], why the source cannot be read, what is wrong with the adapter, or with the store.
    pub async fn fulfil(&self, order: &Order) -> Result<Fetched, Error> {
        let Order { origin, expect, .. } = order;
        let source = self.source(&origin.url)?;
        // Each asks by itself, and before anybody waits: this is how the source admits the credentials.
        let before = look(source, origin).await?;
        if let Some(fetched) = self.recall(&origin.url, &before, expect).await? {
            return Ok(fetched);
        }
        // By what it stands for to whoever asks, too: one URL may be two places, and nobody waits for another's.
        let key = before.key(&origin.url);
        let (turn, has_waited) = self.turn(&key).await;
        let flight = self.store.flight(&key).await;
        // What others fetched meanwhile may be what we were admitted to. If it is not, ours is old by now.
        if let Some(fetched) = self.recall(&origin.url, &before, expect).await? {
            return Ok(fetched);
        }
        let before = if has_waited || flight.has_waited() { look(source, origin).await? } else { before };
        let fetched = flight.during(self.bring(source, order, before)).await;
        drop(turn);
        fetched
    }

    /// Fetches what is ordered, which stood for what `before` holds.
    async fn bring(&self, source: &Arc<dyn Source>, order: &Order, before: Fingerprint) -> Result<Fetched, Error> {
        let Order { origin, expect, progress } = order;
        // Closed only with the semaphore, which lives as long as we do.
        let _place = self.places.acquire().await.map_err(|_| Error::Abandoned)?;
        let (store, base) = (self.store.clone(), expect.base.clone());
        let mut staging = blocking(move || store.stage(base)).await?;
        staging.show_progress(progress.clone());
        let abandon = AbandonOnDrop(staging.abandon_handle());
        let staging = source.fetch(origin, staging).await?;
        // Each file was watched while it was copied; this also sees files that came, went or changed places.
        let after = look(source, origin).await?;
        // What it stood for meanwhile may yet be another thing than before and after.
        if before.differs(&after) || staging.stands_for().is_some_and(|found| before.differs(found)) {
            return Err(Error::Changed { what: origin.url.to_string() });
        }
        let (store, expected, url) = (self.store.clone(), expect.clone(), origin.url.clone());
        let (fetched, before) = blocking(move || {
            let fetched = store.commit(staging, &expected)?;
            store.learn(&url, &before, &fetched.verified.digest);
            Ok((fetched, before))
        })
        .await?;
        drop(abandon);
        self.remember(&origin.url, before, fetched.verified.digest);
        Ok(fetched)
    }

    /// What `origin` stands for now, cheaply. Where an earlier one does not [prove](Fingerprint::proves_same) that this is
    /// the same, fetch again: that is how an edit under an unchanged reference is noticed.
    ///
    /// # Errors
    /// As [`Artifacts::fulfil`], where there is nothing to be read.
    pub async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        look(self.source(&origin.url)?, origin).await
    }

    fn source(&self, url: &ArtifactUrl) -> Result<&Arc<dyn Source>, Error> {
        let taken = self.sources.iter().find(|source| source.schemes().contains(&url.scheme()));
        taken.ok_or_else(|| {
            let supported: Vec<&str> = self.sources.iter().map(|source| source.takes()).collect();
            Error::UnsupportedScheme { url: url.clone(), supported: supported.join(", ") }
        })
    }

    /// Waits until nobody else in this process fetches the same, and says whether it had to.
    async fn turn(&self, key: &str) -> (OwnedMutexGuard<()>, bool) {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        match turn.clone().try_lock_owned() {
            Ok(ours) => (ours, false),
            Err(_) => (turn.lock_owned().await, true),
        }
    }

    /// What was fetched from `url` before, by anybody, if that is still it.
    async fn recall(&self, url: &ArtifactUrl, now: &Fingerprint, expect: &Expect) -> Result<Option<Fetched>, Error> {
        let remembered = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.get(&now.key(url)).filter(|(then, _)| then.proves_same(now)).map(|(_, digest)| *digest)
        };
        let (store, url, now, expect) = (self.store.clone(), url.clone(), now.clone(), expect.clone());
        blocking(move || {
            let Some(digest) = remembered.or_else(|| store.known(&url, &now)) else { return Ok(None) };
            if let Some(expected) = expect.pinned.filter(|pinned| *pinned != digest) {
                return Err(Error::DigestMismatch { expected, found: digest });
            }
            store.hand_out(&digest, expect.base)
        })
        .await
    }

    fn remember(&self, url: &ArtifactUrl, fingerprint: Fingerprint, digest: Digest) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(fingerprint.key(url), (fingerprint, digest));
    }
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifacts").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What a reference stands for now, within a bound: a listing may come a name at a time.
async fn look(source: &Arc<dyn Source>, origin: &Origin) -> Result<Fingerprint, Error> {
    tokio::time::timeout(LOOK, source.fingerprint(origin)).await.unwrap_or_else(|_| {
        let problem = format!("it has not said within {} s what is there", LOOK.as_secs());
        Err(Error::Source { what: origin.url.to_string(), source: io::Error::new(io::ErrorKind::TimedOut, problem) })
    })
}

/// Work that blocks does not end with the future that waits for it; it looks at this instead.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
