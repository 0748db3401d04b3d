//! An engine in memory, for tests of the layers above.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use longshore_types::{AdapterName, Boot, Fault, LoadSignals, Scope, Secret};
use tokio::sync::watch;

use crate::port::{Engine, Model, Models, Signals};

/// One of the port's four calls, without its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FakeOperation {
    /// [`Engine::models`].
    Models,
    /// [`Engine::signals`].
    Signals,
    /// [`Engine::load`].
    Load,
    /// [`Engine::unload`].
    Unload,
}

/// A call as the fake received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FakeCall {
    /// [`Engine::models`].
    Models,
    /// [`Engine::signals`].
    Signals,
    /// [`Engine::load`].
    Load {
        /// The name.
        name: AdapterName,
        /// The path.
        path: String,
        /// The key, where one was given.
        key: Option<Secret>,
    },
    /// [`Engine::unload`].
    Unload {
        /// The name.
        name: AdapterName,
        /// The key, where one was given.
        key: Option<Secret>,
    },
}

impl FakeCall {
    /// Which of the four.
    pub fn operation(&self) -> FakeOperation {
        match self {
            Self::Models => FakeOperation::Models,
            Self::Signals => FakeOperation::Signals,
            Self::Load { .. } => FakeOperation::Load,
            Self::Unload { .. } => FakeOperation::Unload,
        }
    }
}

/// An in-memory [`Engine`] that behaves as vLLM does, down to a load that goes on when its caller has given up.
///
/// Everything is set from outside while it runs; nothing takes time but what [`FakeEngine::hang`] holds up, and that
/// comes back at its deadline (on tokio's clock, which a test may pause).
#[derive(Debug)]
pub struct FakeEngine {
    state: Mutex<State>,
    /// Counts changes of `state`, so that whoever waits for one looks again.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    boot: u64,
    models: Models,
    load: LoadSignals,
    calls: Vec<FakeCall>,
    faults: BTreeMap<FakeOperation, Fault>,
    faults_once: BTreeMap<FakeOperation, VecDeque<Fault>>,
    refused: BTreeMap<AdapterName, Fault>,
    hanging: BTreeSet<FakeOperation>,
    /// Calls under way that hang, by ticket, in their order.
    held: BTreeMap<u64, FakeCall>,
    /// How those ended that no longer do.
    ended: BTreeMap<u64, Result<(), Fault>>,
    tickets: u64,
    loading: usize,
    most_loading: usize,
    call_timeout: Duration,
    load_timeout: Duration,
}

impl FakeEngine {
    /// An engine that serves the base model `base` and nothing else, in its first life.
    pub fn new(base: &str) -> Self {
        let base = Model { id: base.to_owned(), root: format!("/models/{base}") };
        let state = State {
            boot: 1,
            models: Models { base: vec![base], adapters: Vec::new() },
            load: LoadSignals::default(),
            calls: Vec::new(),
            faults: BTreeMap::new(),
            faults_once: BTreeMap::new(),
            refused: BTreeMap::new(),
            hanging: BTreeSet::new(),
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            tickets: 0,
            loading: 0,
            most_loading: 0,
            call_timeout: Duration::from_secs(2),
            load_timeout: Duration::from_secs(30),
        };
        Self { state: Mutex::new(state), changed: watch::Sender::new(0) }
    }

    /// Sets how long a hanging call takes to come back: 2 s, and 30 s for a load, where this is not called.
    pub fn set_timeouts(&self, call: Duration, load: Duration) {
        self.change(|state| (state.call_timeout, state.load_timeout) = (call, load));
    }

    /// Every call of this kind fails with `fault` from now on.
    pub fn fail(&self, operation: FakeOperation, fault: Fault) {
        self.change(|state| state.faults.insert(operation, fault));
    }

    /// The next call of this kind fails with `fault`; several line up.
    pub fn fail_once(&self, operation: FakeOperation, fault: Fault) {
        self.change(|state| state.faults_once.entry(operation).or_default().push_back(fault));
    }

    /// Every load of `name` fails with `fault` from now on, whatever its path.
    pub fn refuse(&self, name: &AdapterName, fault: Fault) {
        self.change(|state| state.refused.insert(name.clone(), fault));
    }

    /// No call fails any more, but what hangs goes on hanging.
    pub fn heal(&self) {
        self.change(|state| {
            state.faults.clear();
            state.faults_once.clear();
            state.refused.clear();
        });
    }

    /// Calls of this kind hang from now on, until [`FakeEngine::resume`], a restart or their deadline. A load or unload
    /// that has hung past its deadline, or whose caller is gone, is still done at `resume`: that is what vLLM does.
    pub fn hang(&self, operation: FakeOperation) {
        self.change(|state| state.hanging.insert(operation));
    }

    /// Calls of this kind hang no more, and those that did are done in their order.
    pub fn resume(&self, operation: FakeOperation) {
        self.change(|state| {
            state.hanging.remove(&operation);
            let (done, held) =
                std::mem::take(&mut state.held).into_iter().partition(|(_, call)| call.operation() == operation);
            state.held = held;
            let done: BTreeMap<u64, FakeCall> = done;
            for (ticket, call) in done {
                let result = state.perform(&call);
                state.ended.insert(ticket, result);
            }
        });
    }

    /// A new life: no adapters, idle, and what was under way is cut off.
    pub fn restart(&self) {
        self.change(|state| {
            state.boot += 1;
            state.models.adapters.clear();
            state.load = LoadSignals::default();
            for ticket in std::mem::take(&mut state.held).into_keys() {
                let cut = Fault::new(Scope::Transient, "ConnectionReset", "the engine restarted");
                state.ended.insert(ticket, Err(cut));
            }
        });
    }

    /// Puts an adapter there by another hand than the port's, or changes its root.
    pub fn put(&self, id: &str, root: &str) {
        self.change(|state| {
            state.models.adapters.retain(|model| model.id != id);
            state.models.adapters.push(Model { id: id.to_owned(), root: root.to_owned() });
        });
    }

    /// Takes an adapter away by another hand than the port's.
    pub fn take(&self, id: &str) {
        self.change(|state| state.models.adapters.retain(|model| model.id != id));
    }

    /// Sets how busy it says it is.
    pub fn set_load(&self, load: LoadSignals) {
        self.change(|state| state.load = load);
    }

    /// What it holds, without a call.
    pub fn adapters(&self) -> Vec<Model> {
        self.lock().models.adapters.clone()
    }

    /// Its present life, without a call.
    pub fn boot(&self) -> Boot {
        self.lock().boot_name()
    }

    /// Every call since the start or the last [`FakeEngine::take_calls`], in their order.
    pub fn calls(&self) -> Vec<FakeCall> {
        self.lock().calls.clone()
    }

    /// As [`FakeEngine::calls`], and forgets them.
    pub fn take_calls(&self) -> Vec<FakeCall> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The most loads that were ever under way at once (I3 allows one).
    pub fn most_loads_at_once(&self) -> usize {
        self.lock().most_loading
    }

    /// Waits until the calls so far satisfy `enough`.
    pub async fn called(&self, mut enough: impl FnMut(&[FakeCall]) -> bool) {
        let mut changed = self.changed.subscribe();
        while !enough(&self.lock().calls) {
            // The sender lives as long as `self`.
            let _ = changed.changed().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete or not begun: a test that failed meanwhile leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Logs the call, and does it unless it is to fail or to hang.
    async fn call(&self, call: FakeCall) -> Result<(), Fault> {
        let operation = call.operation();
        // Before the change, so that none is missed.
        let mut changed = self.changed.subscribe();
        let _loading = (operation == FakeOperation::Load).then(|| Loading::begin(self));
        let (ticket, within) = match self.change(|state| state.receive(call)) {
            Received::Ended(result) => return result,
            Received::Hangs { ticket, within } => (ticket, within),
        };
        let ended = async {
            loop {
                if let Some(result) = self.lock().ended.remove(&ticket) {
                    return result;
                }
                let _ = changed.changed().await;
            }
        };
        match tokio::time::timeout(within, ended).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(operation)),
        }
    }
}

enum Received {
    Ended(Result<(), Fault>),
    Hangs { ticket: u64, within: Duration },
}

impl State {
    fn boot_name(&self) -> Boot {
        Boot::new(format!("boot-{}", self.boot))
    }

    fn receive(&mut self, call: FakeCall) -> Received {
        let operation = call.operation();
        self.calls.push(call.clone());
        if let Some(fault) = self.faults_once.get_mut(&operation).and_then(VecDeque::pop_front) {
            return Received::Ended(Err(fault));
        }
        if let Some(fault) = self.faults.get(&operation) {
            return Received::Ended(Err(fault.clone()));
        }
        if self.hanging.contains(&operation) {
            self.tickets += 1;
            self.held.insert(self.tickets, call);
            let within = if operation == FakeOperation::Load { self.load_timeout } else { self.call_timeout };
            return Received::Hangs { ticket: self.tickets, within };
        }
        Received::Ended(self.perform(&call))
    }

    fn perform(&mut self, call: &FakeCall) -> Result<(), Fault> {
        match call {
            FakeCall::Models | FakeCall::Signals => {}
            FakeCall::Load { name, path, .. } => {
                if let Some(fault) = self.refused.get(name) {
                    return Err(fault.clone());
                }
                self.is_free(name)?;
                match self.models.adapters.iter().find(|model| model.id == name.as_str()) {
                    None => self.models.adapters.push(Model { id: name.to_string(), root: path.clone() }),
                    Some(model) if model.root == *path => {}
                    Some(model) => {
                        let holder = format!("an adapter that was loaded from {}", model.root);
                        return Err(name_taken(name, &holder));
                    }
                }
            }
            FakeCall::Unload { name, .. } => {
                self.is_free(name)?;
                self.models.adapters.retain(|model| model.id != name.as_str());
            }
        }
        Ok(())
    }

    /// Whether no base model has the name.
    fn is_free(&self, name: &AdapterName) -> Result<(), Fault> {
        if self.models.base.iter().any(|model| model.id == name.as_str()) {
            return Err(name_taken(name, "a base model that the engine serves"));
        }
        Ok(())
    }
}

fn name_taken(name: &AdapterName, holder: &str) -> Fault {
    crate::Error::NameTaken { name: name.clone(), holder: holder.to_owned() }.into()
}

/// What the port says of a call that took too long.
fn timed_out(operation: FakeOperation) -> Fault {
    match operation {
        FakeOperation::Models | FakeOperation::Signals => {
            Fault::new(Scope::Transient, "Timeout", "the engine did not answer in time")
        }
        FakeOperation::Load => Fault::new(Scope::Unknown, "LoadTimeout", "the engine may yet load it"),
        FakeOperation::Unload => Fault::new(Scope::Unknown, "UnloadTimeout", "the engine may yet unload it"),
    }
}

/// Counts a load as long as it is under way, also where its caller drops it.
struct Loading<'a>(&'a FakeEngine);

impl<'a> Loading<'a> {
    fn begin(engine: &'a FakeEngine) -> Self {
        let mut state = engine.lock();
        state.loading += 1;
        state.most_loading = state.most_loading.max(state.loading);
        Self(engine)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.lock().loading -= 1;
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn models(&self) -> Result<Models, Fault> {
        self.call(FakeCall::Models).await?;
        Ok(self.lock().models.clone())
    }

    async fn signals(&self) -> Result<Signals, Fault> {
        self.call(FakeCall::Signals).await?;
        let state = self.lock();
        Ok(Signals { boot: state.boot_name(), load: state.load.clone() })
    }

    async fn load(&self, name: &AdapterName, path: &str, key: Option<&Secret>) -> Result<(), Fault> {
        self.call(FakeCall::Load { name: name.clone(), path: path.to_owned(), key: key.cloned() }).await
    }

    async fn unload(&self, name: &AdapterName, key: Option<&Secret>) -> Result<(), Fault> {
        self.call(FakeCall::Unload { name: name.clone(), key: key.cloned() }).await
    }
}

#[cfg(test)]
mod tests;
