//! The agent: what is told comes in, and one engine is kept so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use longshore_api::fleet;
use longshore_api::sidecar::{Accepted, AdapterInForce, DesiredAdapter, DesiredSet, InForce};
use longshore_artifacts::{Artifacts, StoreView};
use longshore_cluster::fleet::{FleetStore, Update};
use longshore_cluster::local::{Connect, Declared, Driver, EngineConfig, Local, NoRouter};
use longshore_reconciler::Config;
use longshore_types::{AdapterName, ArtifactUrl, Digest, Namespace, Scheme, Secret};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::fence::{Fence, Verdict};
use crate::latch::{Latch, Wanted};
use crate::record::{Book, Kept, Record};

/// The most adapters of one set: ten times what any engine has been seen to hold.
const MOST: usize = 10_000;

/// What an agent is given.
pub struct Options {
    /// The engine beside it.
    pub engine: EngineConfig,
    /// Where adapters come from and lie.
    pub artifacts: Artifacts,
    /// How the engine is reached.
    pub connect: Arc<dyn Connect>,
    /// The file that keeps what is in force.
    pub record: PathBuf,
    /// How the brain behaves.
    pub reconciler: Config,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("engine", &self.engine).field("record", &self.record).finish_non_exhaustive()
    }
}

/// A running agent. Cheap to clone; it stops where it stands when the last clone is dropped, and unloads nothing.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    local: Local,
    view: StoreView,
    state: Mutex<State>,
    ready: watch::Receiver<Readiness>,
    following: JoinHandle<()>,
    keeping: OnceLock<JoinHandle<()>>,
}

/// Whether what was wanted at the start is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// It is, or has been waited for long enough.
    pub ready: bool,
    /// What is waited for, by name.
    pub waiting: Vec<String>,
}

/// What was told.
struct State {
    book: Book,
    fence: Fence,
    /// What the record says, until a leader speaks.
    restored: BTreeMap<AdapterName, Declared>,
    /// What the leader says.
    leader: BTreeMap<AdapterName, Declared>,
    /// What was asked for by one of the other systems' paths.
    callers: BTreeMap<AdapterName, Declared>,
    /// What was kept last of each adapter: what it is to be is not known at once, and until then it is what it was.
    kept: BTreeMap<AdapterName, Kept>,
}

impl Agent {
    /// Starts an agent, which goes on from its record. Needs a tokio runtime.
    pub fn start(options: Options) -> Self {
        let Options { engine, artifacts, connect, record, reconciler } = options;
        let view = artifacts.store().view().clone();
        let book = Book::new(record);
        let Record { stamp, adapters } = book.read();
        let kept: BTreeMap<_, _> = adapters.into_iter().map(|kept| (kept.name.clone(), kept)).collect();
        let restored = kept.iter().filter_map(|(name, kept)| Some((name.clone(), from_store(&view, kept)?)));
        let state = State {
            book,
            fence: Fence::restored(stamp),
            restored: restored.collect(),
            leader: BTreeMap::new(),
            callers: BTreeMap::new(),
            kept,
        };
        let driver = Driver::new(longshore_cluster::local::Options {
            reconciler,
            engines: vec![engine],
            engines_file: None,
            manifests: Vec::new(),
            artifacts,
            connect,
            router: Arc::new(NoRouter),
        });
        // Before it starts: what the engine holds of them is not to be taken for what nobody wants.
        driver.declare(state.in_force().map(|(declared, _)| declared.clone()).collect());
        let latch = Latch::new(Duration::ZERO, state.in_force().map(|(declared, _)| declared.name.as_str()));
        let (told, ready) = watch::channel(Readiness::default());
        let following = tokio::spawn(follow(latch, driver.fleet(), told));
        let fleet = driver.fleet();
        let local = driver.start();
        let (state, keeping) = (Mutex::new(state), OnceLock::new());
        let inner = Arc::new(Inner { local, view, state, ready, following, keeping });
        let keeping = tokio::spawn(Self::keep_up(Arc::downgrade(&inner), fleet));
        inner.keeping.get_or_init(|| keeping);
        Self(inner)
    }

    /// Takes in what a leader wants.
    ///
    /// # Errors
    /// [`Error::StaleStamp`] and [`Error::StampReused`]; [`Error::Invalid`] for a set that makes no sense, of which nothing
    /// is taken in; [`Error::Record`] where it could not be kept: then it is not in force either.
    pub async fn desire(&self, set: DesiredSet) -> Result<Accepted, Error> {
        let wanted = parse(&set)?;
        let mut state = self.0.state.lock().await;
        let mut fence = state.fence.clone();
        let changed = match fence.judge(&set) {
            Verdict::Again => return Ok(Accepted { stamp: set.stamp, changed: false }),
            Verdict::Stale(last) => return Err(Error::StaleStamp { given: set.stamp, last }),
            Verdict::Reused => return Err(Error::StampReused { given: set.stamp }),
            Verdict::New => state.leader != wanted || !state.restored.is_empty(),
        };
        let (old_leader, old_restored) =
            (std::mem::replace(&mut state.leader, wanted), std::mem::take(&mut state.restored));
        let old_fence = std::mem::replace(&mut state.fence, fence);
        // The stamp is kept before it is answered for: a leader that was told yes must never be followed by an older one.
        if let Err(error) = self.keep(&mut state).await {
            (state.leader, state.restored, state.fence) = (old_leader, old_restored, old_fence);
            return Err(error);
        }
        self.declare(&state);
        Ok(Accepted { stamp: set.stamp, changed })
    }

    /// Takes in one adapter that a caller of one of the other systems' paths wants; whether that is anything new. None
    /// where a leader wants something else under that name, which stays.
    pub(crate) async fn ask(&self, declared: Declared) -> Option<bool> {
        let mut state = self.0.state.lock().await;
        if let Some(leader) = state.leader.get(&declared.name) {
            return (leader.artifact == declared.artifact).then_some(false);
        }
        let restored = state.restored.remove(&declared.name).is_some();
        let before = state.callers.insert(declared.name.clone(), declared.clone());
        self.declare(&state);
        Some(restored || before.as_ref() != Some(&declared))
    }

    /// Such a caller wants it no more; whether it was wanted by such a caller, or from before a restart.
    pub(crate) async fn forget(&self, name: &AdapterName) -> bool {
        let mut state = self.0.state.lock().await;
        let known = state.callers.remove(name).is_some() | state.restored.remove(name).is_some();
        if known {
            self.declare(&state);
        }
        known
    }

    /// What is in force.
    pub async fn in_force(&self) -> InForce {
        let state = self.0.state.lock().await;
        let adapter = |(declared, by): (&Declared, &str)| AdapterInForce {
            namespace: declared.namespace.to_string(),
            name: declared.name.to_string(),
            artifact_url: declared.artifact.to_string(),
            artifact_digest: declared.pinned.map(|digest| digest.to_string()),
            declared_by: by.to_owned(),
        };
        InForce { stamp: state.fence.last(), adapters: state.in_force().map(adapter).collect() }
    }

    /// Where the files of a digest are, or would be.
    pub(crate) fn path_of(&self, digest: &str) -> Option<String> {
        Some(self.0.view.path_of(&digest.parse().ok()?))
    }

    /// What there is, for whoever reads it: one engine, and every adapter that is wanted on it.
    pub fn fleet(&self) -> Arc<FleetStore> {
        self.0.local.fleet()
    }

    /// Where reports of missing adapters go.
    pub(crate) fn demand(&self) -> mpsc::Sender<fleet::Demand> {
        self.0.local.demand()
    }

    /// Whether what was wanted at the start, or at the start of the engine's present life, is there.
    pub(crate) fn readiness(&self) -> Readiness {
        self.0.ready.borrow().clone()
    }

    /// The same, to be followed.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.0.ready.clone()
    }

    /// Whether what was wanted at the start, or at the start of the engine's present life, is there.
    pub fn is_ready(&self) -> bool {
        self.0.ready.borrow().ready
    }

    /// Comes back when the driver has ended, which only a bug can make it do.
    pub async fn ended(&self) {
        self.0.local.ended().await;
    }

    fn declare(&self, state: &State) {
        self.0.local.declare(state.in_force().map(|(declared, _)| declared.clone()).collect());
    }

    /// Keeps what is in force, as far as its bytes are known.
    async fn keep(&self, state: &mut State) -> Result<(), Error> {
        let record = state.record(&self.fleet());
        let (book, written) = (state.book.clone(), record.clone());
        tokio::task::spawn_blocking(move || book.write(&written)).await.unwrap_or(Ok(()))?;
        state.kept = record.adapters.into_iter().map(|kept| (kept.name.clone(), kept)).collect();
        Ok(())
    }

    /// Keeps it again where digests have become known.
    async fn keep_up(weak: Weak<Inner>, fleet: Arc<FleetStore>) {
        let mut watch = fleet.watch_adapters(None, |_| true);
        while watch.next().await.is_some() {
            let Some(agent) = weak.upgrade().map(Self) else { return };
            let mut state = agent.0.state.lock().await;
            let new: Vec<Kept> = state.record(&fleet).adapters;
            if !new.iter().eq(state.kept.values()) {
                // It is tried again with the next change; until then a restart costs a wait for the leader.
                if let Err(error) = agent.keep(&mut state).await {
                    tracing::warn!(%error, "cannot keep what is in force");
                }
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.following.abort();
        self.keeping.get().into_iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("local", &self.0.local).field("store", &self.0.view).finish_non_exhaustive()
    }
}

impl State {
    /// Everything that is wanted, each name once, and who says so.
    fn in_force(&self) -> impl Iterator<Item = (&Declared, &'static str)> {
        let callers = self.callers.values().filter(|declared| !self.leader.contains_key(&declared.name));
        let restored = self.restored.values();
        let restored = restored
            .filter(|declared| !self.leader.contains_key(&declared.name) && !self.callers.contains_key(&declared.name));
        let leader = self.leader.values().map(|declared| (declared, "leader"));
        leader.chain(callers.map(|declared| (declared, "caller"))).chain(restored.map(|declared| (declared, "record")))
    }

    fn record(&self, fleet: &FleetStore) -> Record {
        let known: BTreeMap<(String, String), Digest> = fleet
            .adapters()
            .items
            .iter()
            .filter_map(|adapter| {
                let digest = adapter.digest.as_deref()?.parse().ok()?;
                Some(((adapter.namespace.clone(), adapter.name.clone()), digest))
            })
            .collect();
        let kept = |declared: &Declared| {
            let (namespace, name) = (declared.namespace.clone(), declared.name.clone());
            let now = known.get(&(namespace.to_string(), name.to_string())).copied();
            let digest = now.or_else(|| self.kept.get(&name).map(|kept| kept.digest))?;
            Some(Kept { namespace, name, digest })
        };
        let mut adapters: Vec<Kept> = self.in_force().filter_map(|(declared, _)| kept(declared)).collect();
        adapters.sort_by(|a, b| a.name.cmp(&b.name));
        Record { stamp: self.fence.last(), adapters }
    }
}

/// An adapter out of the store alone.
fn from_store(view: &StoreView, kept: &Kept) -> Option<Declared> {
    Some(Declared {
        namespace: kept.namespace.clone(),
        name: kept.name.clone(),
        artifact: ArtifactUrl::new(view.path_of(&kept.digest)).ok()?,
        pinned: Some(kept.digest),
        credentials: BTreeMap::new(),
        engine_key: None,
        adopt: false,
    })
}

fn parse(set: &DesiredSet) -> Result<BTreeMap<AdapterName, Declared>, Error> {
    let invalid = |field: String, problem: String| Error::Invalid { field, problem };
    let namespace = Namespace::new(&set.namespace).map_err(|error| invalid("namespace".into(), error.to_string()))?;
    if set.adapters.len() > MOST {
        return Err(invalid("adapters".into(), format!("{} of them, {MOST} are allowed", set.adapters.len())));
    }
    let mut wanted = BTreeMap::new();
    for (index, adapter) in set.adapters.iter().enumerate() {
        let at = |field: &str| format!("adapters[{index}].{field}");
        let DesiredAdapter { name, artifact_url, artifact_digest, credentials, engine_api_key, adopt } = adapter;
        let name = AdapterName::new(name).map_err(|error| invalid(at("name"), error.to_string()))?;
        let artifact = ArtifactUrl::new(artifact_url);
        // The rule alone: the text may hold a secret.
        let artifact = artifact.map_err(|_| invalid(at("artifactURL"), "is no reference to an adapter".into()))?;
        if artifact.scheme() == Scheme::Relative {
            return Err(invalid(
                at("artifactURL"),
                "must be absolute: there is no manifest that it is relative to".into(),
            ));
        }
        let pinned = artifact_digest.as_deref().map(str::parse).transpose();
        let pinned = pinned.map_err(|_| invalid(at("artifactDigest"), "is not sha256: and 64 hex digits".into()))?;
        let declared = Declared {
            namespace: namespace.clone(),
            name: name.clone(),
            artifact,
            pinned,
            credentials: credentials.iter().map(|(name, value)| (name.clone(), Secret::new(value))).collect(),
            engine_key: engine_api_key.as_deref().map(Secret::new),
            adopt: *adopt,
        };
        if wanted.insert(name, declared).is_some() {
            return Err(invalid(at("name"), "is there twice".into()));
        }
    }
    Ok(wanted)
}

/// Keeps the latch up to date.
async fn follow(mut latch: Latch, fleet: Arc<FleetStore>, told: watch::Sender<Readiness>) {
    let begun = Instant::now();
    let mut adapters = fleet.watch_adapters(None, |_| true);
    let mut engines = fleet.watch_engines(None, |_| true);
    loop {
        let now = begun.elapsed();
        // Before the engine was first listed nothing is known of it.
        if fleet.is_open() {
            let (boot, wanted) = (boot(&fleet), fleet.adapters().items);
            let wanted = wanted.iter().map(|adapter| Wanted { name: &adapter.name, settled: is_settled(adapter) });
            latch.observe(now, boot.as_deref(), wanted);
        } else {
            latch.observe(now, None, []);
        }
        let waiting = latch.waiting().map(str::to_owned).collect();
        told.send_if_modified(|readiness| {
            let new = Readiness { ready: latch.is_ready(), waiting };
            let changed = *readiness != new;
            *readiness = new;
            changed
        });
        let wake = latch.wake_at().map_or_else(|| Instant::now() + Duration::from_secs(3600), |at| begun + at);
        let more: Option<()> = tokio::select! {
            update = adapters.next() => update.map(drop::<Update<fleet::Adapter>>),
            update = engines.next() => update.map(drop::<Update<fleet::Engine>>),
            () = sleep_until(wake) => Some(()),
        };
        if more.is_none() {
            return;
        }
    }
}

fn boot(fleet: &FleetStore) -> Option<String> {
    let engines: BTreeSet<String> = fleet.engines().items.iter().filter_map(|engine| engine.boot.clone()).collect();
    engines.into_iter().next()
}

/// Whether nothing more comes of waiting for it: it is loaded, or refused, or cannot be had.
fn is_settled(adapter: &fleet::Adapter) -> bool {
    let on_engine = |state: &str| matches!(state, "loaded" | "refused");
    adapter.phase == "Failed" || adapter.engines.iter().any(|engine| on_engine(&engine.state))
}
