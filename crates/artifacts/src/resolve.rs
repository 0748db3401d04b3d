//! From a reference to an entry of the store.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use longshore_types::{ArtifactUrl, Digest, Root};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::error::Error;
use crate::origin::Origin;
use crate::progress::Progress;
use crate::source::local::{Local, blocking};
use crate::source::{Fingerprint, Setup, Source};
use crate::store::Store;
use crate::verify::Verified;
use crate::verify::base::BaseShapes;

/// Adapters copied and hashed at once. Hashing one takes a core; more at once would only compete with the engine beside us.
/// Sources that hang hold a place each, so it is not one.
const AT_ONCE: usize = 16;
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

/// An adapter in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What is known of it.
    pub verified: Verified,
    /// The directory, as this process sees it.
    pub path: PathBuf,
}

impl Fetched {
    /// What engines are told to load.
    pub fn root(&self) -> Root {
        Root::Store(self.verified.digest)
    }
}

/// Fetches adapters into a store. Cheap to share behind an `Arc`.
///
/// Fetches of one reference happen one after the other, and a later one finds what the earlier one stored. A reference whose
/// source proves that nothing has changed since this process last fetched it is not read again; what is remembered is
/// forgotten with the process, since a proof by file times is only as good as the process that took it.
pub struct Artifacts {
    store: Store,
    sources: Vec<Arc<dyn Source>>,
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    remembered: Mutex<HashMap<String, (Fingerprint, Digest)>>,
    places: Semaphore,
}

impl Artifacts {
    /// Fetches from this machine's directories into `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            sources: vec![Arc::new(Local)],
            flights: Mutex::default(),
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
        let Order { origin, expect, progress } = order;
        let source = self.source(&origin.url)?;
        let _flight = self.flight(&origin.url).await;
        let before = source.fingerprint(origin).await?;
        if let Some(fetched) = self.recall(&origin.url, &before, expect).await? {
            return Ok(fetched);
        }
        // Closed only with the semaphore, which lives as long as we do.
        let _place = self.places.acquire().await.map_err(|_| Error::Abandoned)?;
        let (store, base) = (self.store.clone(), expect.base.clone());
        let mut staging = blocking(move || store.stage(base)).await?;
        staging.show_progress(progress.clone());
        let abandon = AbandonOnDrop(staging.abandon_handle());
        let staging = source.fetch(origin, staging).await?;
        // Each file was watched while it was copied; this also sees files that came, went or changed places.
        let after = source.fingerprint(origin).await?;
        // What it stood for meanwhile may yet be another thing than before and after.
        if before.differs(&after) || staging.stands_for().is_some_and(|found| before.differs(found)) {
            return Err(Error::Changed { what: origin.url.to_string() });
        }
        let (store, expected) = (self.store.clone(), expect.clone());
        let fetched = blocking(move || store.commit(staging, &expected)).await?;
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
        self.source(&origin.url)?.fingerprint(origin).await
    }

    fn source(&self, url: &ArtifactUrl) -> Result<&Arc<dyn Source>, Error> {
        let taken = self.sources.iter().find(|source| source.schemes().contains(&url.scheme()));
        taken.ok_or_else(|| {
            let supported: Vec<&str> = self.sources.iter().map(|source| source.takes()).collect();
            Error::UnsupportedScheme { url: url.clone(), supported: supported.join(", ") }
        })
    }

    /// Waits until nobody else fetches `url`.
    async fn flight(&self, url: &ArtifactUrl) -> OwnedMutexGuard<()> {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.strong_count() > 0);
            let known = flights.get(url.as_written()).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let flight = Arc::default();
                flights.insert(url.as_written().to_owned(), Arc::downgrade(&flight));
                flight
            })
        };
        flight.lock_owned().await
    }

    /// What was fetched from `url` before, if that is still it.
    async fn recall(&self, url: &ArtifactUrl, now: &Fingerprint, expect: &Expect) -> Result<Option<Fetched>, Error> {
        let digest = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            match remembered.get(url.as_written()) {
                Some((then, digest)) if then.proves_same(now) => *digest,
                _ => return Ok(None),
            }
        };
        if let Some(expected) = expect.pinned.filter(|pinned| *pinned != digest) {
            return Err(Error::DigestMismatch { expected, found: digest });
        }
        let (store, base) = (self.store.clone(), expect.base.clone());
        let verified = blocking(move || store.entry(&digest, base)).await?;
        Ok(verified.map(|verified| Fetched { verified, path: self.store.path_of(&digest) }))
    }

    fn remember(&self, url: &ArtifactUrl, fingerprint: Fingerprint, digest: Digest) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(url.as_written().to_owned(), (fingerprint, digest));
    }
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifacts").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Work that blocks does not end with the future that waits for it; it looks at this instead.
struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
