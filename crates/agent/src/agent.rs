//! The agent: what is told comes in, and one engine is kept so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use longshore_api::fleet;
use longshore_api::sidecar::{Accepted, AdapterInForce, DesiredAdapter, DesiredSet, InForce};
use longshore_artifacts::{Artifacts, StoreView};
use longshore_cluster::fleet::{FleetStore, Update};
use longshore_cluster::local::{Connect, Declared, Driver, EngineConfig, Local, NoRouter};
use longshore_reconciler::Config;
use longshore_types::{AdapterName, ArtifactUrl, Digest, Namespace, ObjectKey, Scheme, Secret};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Error;
use crate::fence::{Fence, Verdict};
use crate::latch::{Latch, Wanted};
use crate::record::{Book, By, Kept, Record};

/// Changes within this time are kept at once.
const BURST: Duration = Duration::from_millis(200);

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
    /// The engine's, and so that of everything here.
    namespace: Namespace,
    book: Book,
    state: Mutex<State>,
    ready: watch::Receiver<Readiness>,
    following: JoinHandle<()>,
    keeping: OnceLock<JoinHandle<()>>,
    /// Nobody else keeps this record.
    _lock: File,
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
#[derive(Clone, Default)]
struct State {
    fence: Fence,
    /// What a leader wanted before a restart, until one speaks.
    restored: BTreeMap<AdapterName, Declared>,
    /// What the leader says.
    leader: BTreeMap<AdapterName, Declared>,
    /// What was asked for by one of the other systems' paths.
    callers: BTreeMap<AdapterName, Declared>,
    /// What was kept last of each adapter: what it is to be is not known at once, and until then it is what it was.
    kept: BTreeMap<AdapterName, Kept>,
}

/// What came of a caller's wish.
pub(crate) struct Asked {
    /// The generation that it has by it; none where an earlier adapter of its name has to go first.
    pub(crate) generation: Option<i64>,
    /// What was wanted under its name before, where it is something new.
    pub(crate) before: Option<Option<Declared>>,
}

impl Agent {
    /// Starts an agent, which goes on from its record. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Record`] where its record cannot be read, or is another's.
    pub fn start(options: Options) -> Result<Self, Error> {
        let Options { engine, artifacts, connect, record, reconciler } = options;
        let (view, namespace) = (artifacts.store().view().clone(), engine.namespace.clone());
        let book = Book::new(record);
        let lock = book.lock()?;
        let state = State::restored(book.read()?, &view, &namespace);
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
        driver.declare(state.declared());
        let latch = Latch::new(Duration::ZERO, state.in_force().map(|(declared, _)| declared.name.as_str()));
        let (told, ready) = watch::channel(Readiness::default());
        let following = tokio::spawn(follow(latch, driver.fleet(), told));
        let fleet = driver.fleet();
        let local = driver.start();
        let (state, keeping) = (Mutex::new(state), OnceLock::new());
        let inner = Inner { local, view, namespace, book, state, ready, following, keeping, _lock: lock };
        let inner = Arc::new(inner);
        let keeping = tokio::spawn(Self::keep_up(Arc::downgrade(&inner), fleet));
        inner.keeping.get_or_init(|| keeping);
        Ok(Self(inner))
    }

    /// The namespace of the engine.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// Takes in what a leader wants. What callers want under other names stays.
    ///
    /// # Errors
    /// [`Error::StaleStamp`] and [`Error::StampReused`]; [`Error::Invalid`] for a set that makes no sense, of which nothing
    /// is taken in; [`Error::Record`] where it could not be kept: then it is not in force either.
    pub async fn desire(&self, set: DesiredSet) -> Result<Accepted, Error> {
        let wanted = parse(&set, &self.0.namespace)?;
        let stamp = set.stamp;
        let change = self.change(move |state| {
            let changed = match state.fence.judge(&set) {
                Verdict::Again => return Ok(Change::Nothing(false)),
                Verdict::Stale(last) => return Err(Error::StaleStamp { given: set.stamp, last }),
                Verdict::Reused => return Err(Error::StampReused { given: set.stamp }),
                Verdict::New => state.leader != wanted || !state.restored.is_empty(),
            };
            // A leader's word for a name is the last: what a caller wanted by it does not come back later.
            state.callers.retain(|name, _| !wanted.contains_key(name));
            state.leader = wanted;
            state.restored.clear();
            Ok(Change::This(changed))
        });
        let (changed, _) = change.await?;
        Ok(Accepted { stamp, changed })
    }

    /// Takes in one adapter that a caller of one of the other systems' paths wants.
    ///
    /// # Errors
    /// [`Error::WantedByController`] where a leader wants something else by that name; [`Error::Record`].
    pub(crate) async fn ask(&self, declared: Declared) -> Result<Asked, Error> {
        let key = declared.key();
        let change = self.change(move |state| {
            let name = declared.name.clone();
            match state.leader.get(&name).or_else(|| state.restored.get(&name)) {
                Some(leader) if leader.artifact == declared.artifact => return Ok(Change::Nothing(None)),
                Some(_) => return Err(Error::WantedByController { name }),
                None => {}
            }
            if state.callers.get(&name) == Some(&declared) {
                return Ok(Change::Nothing(None));
            }
            Ok(Change::This(Some(state.callers.insert(name, declared))))
        });
        let (before, generations) = change.await?;
        Ok(Asked { generation: generations.get(&key).copied(), before })
    }

    /// A wish that came to nothing is taken back, and what was wanted before is wanted again, unless somebody has spoken
    /// since.
    pub(crate) async fn take_back(&self, mine: Declared, before: Option<Declared>) {
        let change = self.change(move |state| {
            if state.callers.get(&mine.name) != Some(&mine) {
                return Ok(Change::Nothing(()));
            }
            match before {
                Some(before) => state.callers.insert(before.name.clone(), before),
                None => state.callers.remove(&mine.name),
            };
            Ok(Change::This(()))
        });
        if let Err(error) = change.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "Cannot take back what could not be had");
        }
    }

    /// A caller wants it no more; whether one did.
    ///
    /// # Errors
    /// [`Error::WantedByController`] where a leader wants it; [`Error::Record`].
    pub(crate) async fn forget(&self, name: &AdapterName) -> Result<bool, Error> {
        let name = name.clone();
        let change = self.change(move |state| {
            if state.leader.contains_key(&name) || state.restored.contains_key(&name) {
                return Err(Error::WantedByController { name });
            }
            let known = state.callers.remove(&name).is_some();
            Ok(if known { Change::This(true) } else { Change::Nothing(false) })
        });
        Ok(change.await?.0)
    }

    /// Changes what is wanted: kept first, then in force, or neither. In a task of its own, so that whoever asked may go away
    /// in the middle of it. Returns the generation that each object has by it too.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<Change<T>, Error> + Send + 'static,
    ) -> Result<(T, BTreeMap<ObjectKey, i64>), Error> {
        let agent = self.clone();
        let changing = tokio::spawn(async move {
            let mut state = agent.0.state.lock().await;
            let mut new = state.clone();
            let outcome = match work(&mut new)? {
                Change::Nothing(outcome) => outcome,
                Change::This(outcome) => {
                    // A leader that was told yes must never be followed by an older one, nor what was unloaded come back.
                    agent.keep(&mut new).await?;
                    *state = new;
                    outcome
                }
            };
            Ok((outcome, agent.0.local.declare(state.declared()).await))
        });
        changing.await.unwrap_or_else(|error| Err(self.unkept(io::Error::other(error))))
    }

    fn unkept(&self, source: io::Error) -> Error {
        Error::Record { doing: "keep", path: self.0.book.path().to_owned(), source }
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

    /// The driver.
    pub(crate) fn local(&self) -> &Local {
        &self.0.local
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

    /// Keeps what is in force, as far as its bytes are known.
    async fn keep(&self, state: &mut State) -> Result<(), Error> {
        let record = state.record(&self.fleet());
        let (book, written) = (self.0.book.clone(), record.clone());
        let wrote = tokio::task::spawn_blocking(move || book.write(&written)).await;
        wrote.unwrap_or_else(|error| Err(self.unkept(io::Error::other(error))))?;
        state.kept = record.adapters.into_iter().map(|kept| (kept.name.clone(), kept)).collect();
        Ok(())
    }

    /// Keeps it again where digests have become known.
    async fn keep_up(weak: Weak<Inner>, fleet: Arc<FleetStore>) {
        let mut watch = fleet.watch_adapters(None, |_| true);
        while watch.next().await.is_some() {
            while watch.next().now_or_never().flatten().is_some() {}
            let Some(agent) = weak.upgrade().map(Self) else { return };
            let mut state = agent.0.state.lock().await;
            let new: BTreeMap<AdapterName, Kept> =
                state.record(&fleet).adapters.into_iter().map(|kept| (kept.name.clone(), kept)).collect();
            if new == state.kept {
                continue;
            }
            // It is tried again with the next change; until then a restart costs a wait for the leader.
            if let Err(error) = agent.keep(&mut state).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "Cannot keep what is in force");
            }
            drop(state);
            drop(agent);
            // The first at once, since what is not kept is lost with the process; but digests come in bursts, and each writing
            // waits for a disk.
            sleep(BURST).await;
        }
    }
}

/// What is to become of a change.
enum Change<T> {
    /// It is to be kept and in force.
    This(T),
    /// Everything stays as it is.
    Nothing(T),
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
    /// What a record says, out of the store alone.
    fn restored(record: Record, view: &StoreView, namespace: &Namespace) -> Self {
        let mut state = Self { fence: Fence::restored(record.stamp), ..Self::default() };
        // An engine that has been given another namespace is another's.
        for kept in record.adapters.into_iter().filter(|kept| kept.namespace == *namespace) {
            let Some(declared) = from_store(view, &kept) else { continue };
            let into = if kept.by == By::Leader { &mut state.restored } else { &mut state.callers };
            into.insert(kept.name.clone(), declared);
            state.kept.insert(kept.name.clone(), kept);
        }
        state
    }

    /// Everything that is wanted, each name once, and who says so.
    fn in_force(&self) -> impl Iterator<Item = (&Declared, &'static str)> {
        let leader = self.leader.values().map(|declared| (declared, "leader"));
        let restored = self.restored.values().map(|declared| (declared, "record"));
        leader.chain(restored).chain(self.callers.values().map(|declared| (declared, "caller")))
    }

    fn declared(&self) -> Vec<Declared> {
        self.in_force().map(|(declared, _)| declared.clone()).collect()
    }

    fn record(&self, fleet: &FleetStore) -> Record {
        let shown = fleet.adapters().items;
        let digest =
            |adapter: &Arc<fleet::Adapter>| Some((adapter.name.clone(), adapter.digest.as_deref()?.parse().ok()?));
        let known: BTreeMap<String, Digest> = shown.iter().filter_map(digest).collect();
        let kept = |(declared, by): (&Declared, &str)| {
            let (namespace, name) = (declared.namespace.clone(), declared.name.clone());
            let now = known.get(name.as_str()).copied();
            let digest = now.or_else(|| self.kept.get(&name).map(|kept| kept.digest))?;
            let by = if by == "caller" { By::Caller } else { By::Leader };
            Some(Kept { namespace, name, digest, by })
        };
        let mut adapters: Vec<Kept> = self.in_force().filter_map(kept).collect();
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

fn parse(set: &DesiredSet, engines: &Namespace) -> Result<BTreeMap<AdapterName, Declared>, Error> {
    let invalid = |field: String, problem: String| Error::Invalid { field, problem };
    let namespace = Namespace::new(&set.namespace).map_err(|error| invalid("namespace".into(), error.to_string()))?;
    // The engine takes nothing from another (I7).
    if namespace != *engines {
        let problem = format!("is {namespace}, but the engine here is of {engines}: --namespace says so");
        return Err(invalid("namespace".into(), problem));
    }
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
        let (now, opened) = (begun.elapsed(), fleet.is_open());
        // Before the engine was first listed nothing is known of it.
        if opened {
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
            () = fleet.opened(), if !opened => Some(()),
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
