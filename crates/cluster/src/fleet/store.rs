//! The latest adapters and engines, with the changes that led here.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_api::fleet::{Adapter, Engine};
use serde::Serialize;
use tokio::sync::watch;

use super::watch::Subscription;

/// Changes kept per kind of object, for watchers that come back. One adapter that comes up makes about ten, so this is a
/// fleet of 200 adapters started at once.
const HISTORY: usize = 2048;

/// Bytes that those may take, by [`Item::weight`]: an adapter on ten engines takes 4 KiB, an engine with a hundred adapters
/// 8 KiB, and each change holds one more of them. Whoever comes back behind this much is better off with a snapshot, which
/// is smaller.
const HISTORY_BYTES: usize = 2 * 1024 * 1024;

/// What the store holds: [`Adapter`]s and [`Engine`]s.
pub trait Item: Clone + PartialEq + Serialize + Send + Sync + 'static {
    /// Its namespace.
    fn namespace(&self) -> &str;
    /// Its name within the namespace.
    fn name(&self) -> &str;
    /// About how many bytes of memory it takes.
    fn weight(&self) -> usize;
}

/// About what an adapter or an engine takes without its lists, and an entry of these: the structure, and strings of some
/// ten to fifty bytes.
const BODY: usize = 512;
const PLACE: usize = 192;
const RESIDENT: usize = 80;

impl Item for Adapter {
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn weight(&self) -> usize {
        BODY + PLACE * (self.engines.len() + self.endpoints.len())
    }
}

impl Item for Engine {
    fn namespace(&self) -> &str {
        &self.namespace
    }
    fn name(&self) -> &str {
        &self.engine
    }
    fn weight(&self) -> usize {
        BODY + RESIDENT * self.resident.len()
    }
}

/// Everything of one kind at one moment, ordered by namespace and name.
#[derive(Clone, Debug)]
pub struct Snapshot<T> {
    /// Opaque; equal means nothing changed.
    pub revision: String,
    /// The objects.
    pub items: Vec<Arc<T>>,
}

/// The latest state of the fleet. One driver writes, any number of readers read and watch; no writer waits for a reader.
#[derive(Debug)]
pub struct FleetStore {
    open: watch::Sender<bool>,
    adapters: Arc<Table<Adapter>>,
    engines: Arc<Table<Engine>>,
}

impl Default for FleetStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FleetStore {
    /// An empty store that is not open yet.
    pub fn new() -> Self {
        // Unique per process, so that a watcher that comes back after a restart is given a snapshot: the numbers behind
        // it start anew. `RandomState` is keyed from the system's randomness.
        let process = RandomState::new().build_hasher().finish();
        Self {
            open: watch::Sender::new(false),
            adapters: Arc::new(Table::new(format!("{process:016x}-a"))),
            engines: Arc::new(Table::new(format!("{process:016x}-e"))),
        }
    }

    /// From now on the API answers. Until then it says 503, because a fleet that is not known yet looks like an empty
    /// one, and a router that believed that would withdraw every route at each restart of ours.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Whether [`Self::open`] was called.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits for [`Self::open`].
    pub async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Ends every watch, so that a server with watchers can shut down.
    pub fn close(&self) {
        self.adapters.close();
        self.engines.close();
    }

    /// Every adapter.
    pub fn adapters(&self) -> Snapshot<Adapter> {
        self.adapters.snapshot(|_| true)
    }

    /// Every engine.
    pub fn engines(&self) -> Snapshot<Engine> {
        self.engines.snapshot(|_| true)
    }

    /// One adapter.
    pub fn adapter(&self, namespace: &str, name: &str) -> Option<Arc<Adapter>> {
        self.adapters.get(namespace, name)
    }

    /// One engine.
    pub fn engine(&self, namespace: &str, name: &str) -> Option<Arc<Engine>> {
        self.engines.get(namespace, name)
    }

    /// Adds or replaces an adapter; whether that changed anything.
    pub fn put_adapter(&self, adapter: Adapter) -> bool {
        self.adapters.put(adapter)
    }

    /// Takes an adapter out; whether it was there.
    pub fn remove_adapter(&self, namespace: &str, name: &str) -> bool {
        self.adapters.remove(namespace, name)
    }

    /// Adds or replaces an engine; whether that changed anything.
    pub fn put_engine(&self, engine: Engine) -> bool {
        self.engines.put(engine)
    }

    /// Takes an engine out; whether it was there.
    pub fn remove_engine(&self, namespace: &str, name: &str) -> bool {
        self.engines.remove(namespace, name)
    }

    /// Follows the adapters that `filter` lets through, from `last` where that revision is still known, else from a
    /// snapshot.
    pub fn watch_adapters(
        &self,
        last: Option<&str>,
        filter: impl Fn(&Adapter) -> bool + Send + 'static,
    ) -> Subscription<Adapter> {
        Subscription::new(self.adapters.clone(), last, Box::new(filter))
    }

    /// Follows the engines that `filter` lets through, from `last` where that revision is still known, else from a
    /// snapshot.
    pub fn watch_engines(
        &self,
        last: Option<&str>,
        filter: impl Fn(&Engine) -> bool + Send + 'static,
    ) -> Subscription<Engine> {
        Subscription::new(self.engines.clone(), last, Box::new(filter))
    }
}

/// Namespace and name.
type Key = (String, String);

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Table<T> {
    prefix: String,
    state: Mutex<State<T>>,
    /// The sequence number of the latest change, to wake watchers; `u64::MAX` once closed.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State<T> {
    items: BTreeMap<Key, Arc<T>>,
    sequence: u64,
    history: VecDeque<Change<T>>,
    /// What the history takes.
    weight: usize,
    closed: bool,
}

/// One change: what was there, what is there. Both are kept because a filter may let only one of them through.
#[derive(Clone, Debug)]
pub(super) struct Change<T> {
    pub sequence: u64,
    pub before: Option<Arc<T>>,
    pub after: Option<Arc<T>>,
}

impl<T: Item> Change<T> {
    /// What it takes: what was there before is what the change before it holds, too.
    fn weight(&self) -> usize {
        self.after.as_ref().or(self.before.as_ref()).map_or(0, |item| item.weight())
    }
}

/// What a reader at some sequence number finds.
pub(super) enum After<T> {
    /// The next change.
    Change(Change<T>),
    /// Nothing yet.
    Nothing,
    /// The change is not kept any more, or the number is not one of ours.
    TooOld,
    /// There will be no more.
    Closed,
}

impl<T: Item> Table<T> {
    fn new(prefix: String) -> Self {
        let state = State { items: BTreeMap::new(), sequence: 0, history: VecDeque::new(), weight: 0, closed: false };
        Self { prefix, state: Mutex::new(state), changed: watch::Sender::new(0) }
    }

    /// A panic while it was held cannot have left it half changed: no code of others runs in between.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.lock().items.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn put(&self, item: T) -> bool {
        let key = (item.namespace().to_owned(), item.name().to_owned());
        let mut state = self.lock();
        if state.items.get(&key).is_some_and(|old| **old == item) {
            return false;
        }
        let after = Arc::new(item);
        let before = state.items.insert(key, after.clone());
        self.record(state, before, Some(after));
        true
    }

    fn remove(&self, namespace: &str, name: &str) -> bool {
        let mut state = self.lock();
        let Some(before) = state.items.remove(&(namespace.to_owned(), name.to_owned())) else { return false };
        self.record(state, Some(before), None);
        true
    }

    fn record(&self, mut state: MutexGuard<'_, State<T>>, before: Option<Arc<T>>, after: Option<Arc<T>>) {
        state.sequence += 1;
        let sequence = state.sequence;
        let change = Change { sequence, before, after };
        state.weight += change.weight();
        state.history.push_back(change);
        // The latest one stays, however much it takes: whoever waits for it is woken for it.
        while state.history.len() > HISTORY || (state.weight > HISTORY_BYTES && state.history.len() > 1) {
            let Some(oldest) = state.history.pop_front() else { break };
            state.weight = state.weight.saturating_sub(oldest.weight());
        }
        drop(state);
        self.changed.send_replace(sequence);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.send_replace(u64::MAX);
    }

    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Everything that `filter` lets through.
    pub(super) fn snapshot(&self, filter: impl Fn(&T) -> bool) -> Snapshot<T> {
        self.snapshot_at(filter).1
    }

    /// The same, with the sequence number that it was taken at.
    pub(super) fn snapshot_at(&self, filter: impl Fn(&T) -> bool) -> (u64, Snapshot<T>) {
        let (sequence, items) = {
            let state = self.lock();
            (state.sequence, state.items.values().cloned().collect::<Vec<_>>())
        };
        let items = items.into_iter().filter(|item| filter(item)).collect();
        (sequence, Snapshot { revision: self.revision(sequence), items })
    }

    /// What comes behind `sequence`.
    pub(super) fn after(&self, sequence: u64) -> After<T> {
        let state = self.lock();
        if state.closed {
            return After::Closed;
        }
        if sequence == state.sequence {
            return After::Nothing;
        }
        // The numbers in the history are consecutive, so that a change is found by where it must stand.
        let Some(first) = state.history.front().map(|change| change.sequence) else { return After::TooOld };
        let place = (sequence + 1).checked_sub(first).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| state.history.get(place)).map_or(After::TooOld, |change| After::Change(change.clone()))
    }

    /// How `sequence` is shown.
    pub(super) fn revision(&self, sequence: u64) -> String {
        format!("{}-{sequence}", self.prefix)
    }

    /// The sequence number that `revision` shows, where this process has shown it.
    pub(super) fn sequence(&self, revision: &str) -> Option<u64> {
        let number = revision.strip_prefix(&self.prefix)?.strip_prefix('-')?.parse().ok()?;
        (number <= self.lock().sequence).then_some(number)
    }
}
