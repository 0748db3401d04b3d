//! What the driver asks of the store and its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use longshore_artifacts::{Fingerprint, Order, Origin, StoreView};
use longshore_types::{Digest, EngineId, Fault, Scope};

/// Where adapter files come from and lie.
#[async_trait]
pub(crate) trait Depot: Send + Sync + 'static {
    /// The store, as we see it.
    fn view(&self) -> &StoreView;

    /// The digest whose directory we call `path`, or did before.
    fn digest_of(&self, path: &str) -> Option<Digest>;

    /// Fetches, checks and stores what is ordered.
    async fn fetch(&self, order: &Order) -> Result<Stored, Fault>;

    /// A value that changes with the files at `origin`, where that can be told cheaply.
    async fn fingerprint(&self, origin: &Origin) -> Option<Fingerprint>;

    /// Whether the files of a digest are there.
    async fn contains(&self, digest: Digest) -> bool;

    /// What the store holds, and for how long it has held it.
    async fn entries(&self) -> Result<Vec<(Digest, Duration)>, String>;

    /// Takes the files of a digest out of the store; whether it did. It does not where it cannot be the only user.
    async fn remove(&self, digest: Digest) -> Result<bool, String>;
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub digest: Digest,
    pub bytes: u64,
    pub rank: Option<u32>,
    pub warnings: Vec<(&'static str, String)>,
}

/// Which files must stay (I5).
#[derive(Debug, Default)]
struct Kept {
    /// What the reconciler has pinned.
    pinned: BTreeSet<Digest>,
    /// What was fetched a moment ago, and the reconciler has not heard of yet.
    held: BTreeMap<Digest, usize>,
    /// What engines list, whether anybody declares it or not.
    resident: BTreeMap<EngineId, BTreeSet<Digest>>,
}

/// The depot, and who needs which of its files.
#[derive(Clone)]
pub(super) struct Files {
    pub depot: Arc<dyn Depot>,
    kept: Arc<Mutex<Kept>>,
    /// Held while files are taken out and while what was fetched is entered as held, so that nothing is taken out that
    /// somebody has just been told is there. Never held while anything is fetched.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Files {
    pub(super) fn new(depot: Arc<dyn Depot>) -> Self {
        Self { depot, kept: Arc::default(), gate: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pin(&self, digest: Digest) {
        self.kept().pinned.insert(digest);
    }

    pub(super) fn unpin(&self, digest: Digest) {
        self.kept().pinned.remove(&digest);
    }

    /// What `engine` lists from the store.
    pub(super) fn resident(&self, engine: &EngineId, digests: BTreeSet<Digest>) {
        self.kept().resident.insert(engine.clone(), digests);
    }

    /// Fetches, and keeps what was fetched from being taken out until the [`Hold`] is dropped.
    pub(super) async fn fetch(&self, order: &Order) -> Result<(Stored, Hold), Fault> {
        // Twice in a row is more bad luck than anybody has: then the store is not what it says.
        for _ in 0..3 {
            let stored = self.depot.fetch(order).await?;
            let gate = self.gate.lock().await;
            let hold = Hold::new(self.kept.clone(), stored.digest);
            drop(gate);
            // It may have been found in the store just before it was taken out of it.
            if self.depot.contains(stored.digest).await {
                return Ok((stored, hold));
            }
        }
        let message = format!(
            "{} was fetched, but its files are not in the store: does something else clean it up?",
            order.origin.url
        );
        Err(Fault::new(Scope::Transient, "StoreFailed", message))
    }

    /// Takes the files of `digest` out of the store unless somebody needs them; whether it did.
    pub(super) async fn remove(&self, digest: Digest) -> Result<bool, String> {
        let _gate = self.gate.lock().await;
        if self.kept().needs(digest) {
            return Ok(false);
        }
        self.depot.remove(digest).await
    }

    /// Takes everything out of the store that nobody needs and that has lain there for `age`; how many entries.
    pub(super) async fn sweep(&self, age: Duration) -> Result<usize, String> {
        let mut removed = 0;
        for (digest, _) in self.depot.entries().await?.into_iter().filter(|(_, lain)| *lain >= age) {
            removed += usize::from(self.remove(digest).await?);
        }
        Ok(removed)
    }
}

impl Kept {
    fn needs(&self, digest: Digest) -> bool {
        self.pinned.contains(&digest)
            || self.held.contains_key(&digest)
            || self.resident.values().any(|digests| digests.contains(&digest))
    }
}

/// Keeps the files of one digest in the store.
#[derive(Debug)]
pub(super) struct Hold {
    kept: Arc<Mutex<Kept>>,
    digest: Digest,
}

impl Hold {
    fn new(kept: Arc<Mutex<Kept>>, digest: Digest) -> Self {
        *kept.lock().unwrap_or_else(PoisonError::into_inner).held.entry(digest).or_insert(0) += 1;
        Self { kept, digest }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = kept.held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                kept.held.remove(&self.digest);
            }
        }
    }
}

/// How one engine's paths relate to the store.
#[derive(Clone)]
pub(crate) struct Paths {
    depot: Arc<dyn Depot>,
    /// The store, as the engine sees it.
    view: StoreView,
}

impl Paths {
    /// For an engine that sees the store at `alias`, or where we do.
    pub(crate) fn new(depot: Arc<dyn Depot>, alias: Option<StoreView>) -> Self {
        let view = alias.unwrap_or_else(|| depot.view().clone());
        Self { depot, view }
    }

    /// The directory of `digest`, as the engine sees it.
    pub(super) fn of(&self, digest: Digest) -> String {
        self.view.path_of(&digest)
    }

    /// The digest whose directory the engine calls `path`. One that calls the store by our name is understood too: it
    /// may have been loaded before the engine was given another.
    pub(super) fn digest(&self, path: &str) -> Option<Digest> {
        self.view.digest_of(path).or_else(|| self.depot.digest_of(path))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use longshore_types::Namespace;
    use tokio::sync::Notify;

    use super::*;

    pub(crate) fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    /// A depot on a real directory, so that what is there can be seen; its "sources" are a table.
    pub(crate) struct FakeDepot {
        _directory: tempfile::TempDir,
        view: StoreView,
        pub sources: Mutex<BTreeMap<String, Result<Digest, Fault>>>,
        pub fingerprints: Mutex<BTreeMap<String, String>>,
        pub fetches: AtomicUsize,
        /// While set, a fetch waits for it after it has looked.
        pub stall: Mutex<Option<Arc<Notify>>>,
        /// For how long every entry has lain there.
        pub age: Mutex<Duration>,
    }

    impl FakeDepot {
        pub(crate) fn new() -> Arc<Self> {
            let directory = tempfile::tempdir().unwrap();
            Arc::new(Self {
                view: StoreView::new(directory.path().to_str().unwrap()).unwrap(),
                _directory: directory,
                sources: Mutex::default(),
                fingerprints: Mutex::default(),
                fetches: AtomicUsize::new(0),
                stall: Mutex::default(),
                age: Mutex::new(Duration::from_secs(60)),
            })
        }

        /// From now on `url` leads to this.
        pub(crate) fn put(&self, url: &str, source: Result<Digest, Fault>) {
            self.sources.lock().unwrap().insert(url.to_owned(), source);
        }

        pub(crate) fn has(&self, digest: Digest) -> bool {
            self.path(digest).exists()
        }

        pub(crate) fn path(&self, digest: Digest) -> PathBuf {
            self.view.path_of(&digest).into()
        }
    }

    #[async_trait]
    impl Depot for FakeDepot {
        fn view(&self) -> &StoreView {
            &self.view
        }

        fn digest_of(&self, path: &str) -> Option<Digest> {
            self.view.digest_of(path)
        }

        async fn fetch(&self, order: &Order) -> Result<Stored, Fault> {
            let (url, pinned) = (&order.origin.url, order.expect.pinned);
            order.progress.expect(10);
            order.progress.add(4);
            self.fetches.fetch_add(1, Ordering::Relaxed);
            let missing = || Err(Fault::new(Scope::Artifact, "ArtifactNotFound", format!("{url} does not exist")));
            let found = self.sources.lock().unwrap().get(url.as_written()).cloned().unwrap_or_else(missing)?;
            if pinned.is_some_and(|pinned| pinned != found) {
                return Err(Fault::new(Scope::Artifact, "DigestMismatch", "another one"));
            }
            std::fs::create_dir_all(self.path(found)).unwrap();
            let stall = self.stall.lock().unwrap().clone();
            if let Some(stall) = stall {
                stall.notified().await;
            }
            Ok(Stored { digest: found, bytes: 10, rank: Some(8), warnings: vec![] })
        }

        async fn fingerprint(&self, origin: &Origin) -> Option<Fingerprint> {
            self.fingerprints.lock().unwrap().get(origin.url.as_written()).map(|text| Fingerprint::new(text, true))
        }

        async fn contains(&self, digest: Digest) -> bool {
            self.has(digest)
        }

        async fn entries(&self) -> Result<Vec<(Digest, Duration)>, String> {
            let paths = std::fs::read_dir(self.view.prefix()).unwrap().map(|entry| entry.unwrap().path());
            let digest = |path: PathBuf| self.digest_of(path.to_str().unwrap()).unwrap();
            let age = *self.age.lock().unwrap();
            Ok(paths.map(|path| (digest(path), age)).collect())
        }

        async fn remove(&self, digest: Digest) -> Result<bool, String> {
            std::fs::remove_dir(self.path(digest)).map(|()| true).map_err(|error| error.to_string())
        }
    }

    fn order() -> Order {
        Order::public("/srv/a".parse().unwrap())
    }

    fn engine() -> EngineId {
        EngineId::new(Namespace::default_namespace(), "h:1")
    }

    #[test]
    fn paths_are_translated_both_ways() {
        let depot = FakeDepot::new();
        let ours = depot.view().path_of(&digest(1));
        let plain = Paths::new(depot.clone(), None);
        assert_eq!(plain.of(digest(1)), ours);
        assert_eq!(plain.digest(&ours), Some(digest(1)));
        let alias = StoreView::new("/mnt/store").unwrap();
        let seen = alias.path_of(&digest(1));
        assert_eq!(plain.digest(&seen), None);
        let elsewhere = Paths::new(depot, Some(alias));
        assert_eq!(elsewhere.of(digest(1)), seen);
        assert_eq!(elsewhere.digest(&seen), Some(digest(1)));
        assert_eq!(elsewhere.digest(&ours), Some(digest(1)), "loaded before it was given the other name");
        for foreign in ["/mnt/store", "/mnt/store/x", "org/name", ""] {
            assert_eq!(elsewhere.digest(foreign), None, "{foreign}");
        }
    }

    #[tokio::test]
    async fn i5_files_that_somebody_needs_are_not_taken_out() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        let files = Files::new(depot.clone());
        let (stored, hold) = files.fetch(&order()).await.unwrap();
        assert_eq!(stored.digest, digest(1));
        assert_eq!(files.remove(digest(1)).await, Ok(false), "just fetched");
        files.pin(digest(1));
        drop(hold);
        assert_eq!(files.remove(digest(1)).await, Ok(false), "pinned");
        files.unpin(digest(1));
        files.resident(&engine(), [digest(1)].into());
        assert_eq!(files.remove(digest(1)).await, Ok(false), "listed by an engine");
        files.resident(&engine(), BTreeSet::new());
        assert!(depot.has(digest(1)));
        assert_eq!(files.remove(digest(1)).await, Ok(true));
        assert!(!depot.has(digest(1)));
    }

    #[tokio::test]
    async fn i5_files_that_are_taken_out_while_they_are_fetched_are_fetched_again() {
        let depot = FakeDepot::new();
        depot.put("/srv/a", Ok(digest(1)));
        let stall = Arc::new(Notify::new());
        *depot.stall.lock().unwrap() = Some(stall.clone());
        let files = Files::new(depot.clone());
        let fetching = tokio::spawn({
            let files = files.clone();
            async move { files.fetch(&order()).await }
        });
        while depot.fetches.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(files.remove(digest(1)).await, Ok(true));
        *depot.stall.lock().unwrap() = None;
        stall.notify_one();
        let (_, _hold) = fetching.await.unwrap().unwrap();
        assert_eq!(depot.fetches.load(Ordering::Relaxed), 2);
        assert!(depot.has(digest(1)));
    }

    #[tokio::test]
    async fn sweeping_takes_out_what_is_old_and_needed_by_nobody() {
        let depot = FakeDepot::new();
        let files = Files::new(depot.clone());
        for byte in 1..=3 {
            std::fs::create_dir_all(depot.path(digest(byte))).unwrap();
        }
        files.pin(digest(1));
        files.resident(&engine(), [digest(2)].into());
        assert_eq!(files.sweep(Duration::from_secs(61)).await, Ok(0), "too young");
        assert_eq!(files.sweep(Duration::from_secs(60)).await, Ok(1));
        assert!(depot.has(digest(1)) && depot.has(digest(2)) && !depot.has(digest(3)));
    }
}
