//! One life of the simulated process: what it holds, and the loop that makes its answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::adapter::Refusal;
use super::config::SimConfig;
use super::engine::{self, Command, Links, Lora, Sequence};
use super::faults::{Faults, LogEntry, What};
use super::gauges::Gauges;

/// The log of all lives.
pub(super) type Log = Arc<Mutex<Vec<LogEntry>>>;

/// Why a load did not succeed.
#[derive(Debug)]
pub(super) enum NotLoaded {
    /// The adapter was refused, with the words of the worker.
    Refused(Refusal),
    /// There is no engine any more.
    Dead,
}

/// One life.
pub(super) struct Life {
    pub(super) boot: u32,
    /// Seconds since the Unix epoch, as `process_start_time_seconds` says.
    pub(super) started: f64,
    pub(super) config: Arc<SimConfig>,
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) gauges: Arc<Gauges>,
    /// Ends every connection and the port when it is cancelled.
    pub(super) over: CancellationToken,
    /// Set by the death of the engine, while the process still answers.
    dead: AtomicBool,
    /// Set by an orderly stop: nothing new is begun.
    stopping: AtomicBool,
    adapters: Mutex<Vec<Lora>>,
    /// Loads and unloads of one name wait for each other.
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    commands: mpsc::UnboundedSender<Command>,
    next_number: AtomicU64,
    /// Requests under way.
    requests: watch::Sender<usize>,
    reading: watch::Sender<bool>,
    log: Log,
}

/// A request under way.
pub(super) struct Busy(Arc<Life>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.send_modify(|count| *count -= 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change behind these locks is a single one: what a panicking thread left is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Life {
    /// Begins a life. The adapters of the configuration are loaded before it returns.
    ///
    /// # Errors
    /// The engine's words about an adapter of the configuration that it does not take.
    pub(super) async fn begin(
        boot: u32,
        started: f64,
        config: Arc<SimConfig>,
        faults: watch::Receiver<Faults>,
        log: Log,
    ) -> Result<Arc<Self>, String> {
        let gauges = Arc::new(Gauges::default());
        let (commands, received) = mpsc::unbounded_channel();
        let reading = watch::Sender::new(false);
        let logged = Arc::clone(&log);
        let links = Links {
            config: Arc::clone(&config),
            faults: faults.clone(),
            gauges: Arc::clone(&gauges),
            reading: reading.clone(),
            log: Box::new(move |entry| lock(&logged).push(LogEntry { boot, ..entry })),
        };
        let life = Arc::new(Self {
            boot,
            started,
            config: Arc::clone(&config),
            faults,
            gauges,
            over: CancellationToken::new(),
            dead: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            adapters: Mutex::default(),
            names: Mutex::default(),
            commands,
            next_number: AtomicU64::new(0),
            requests: watch::Sender::new(0),
            reading,
            log,
        });
        life.record(What::Start, "", "", 200, String::new());
        tokio::spawn(Arc::clone(&life).live(links, received));
        for (name, path) in &config.static_adapters {
            let lora = life.new_lora(name, path, false);
            match life.add(lora.clone()).await {
                Ok(()) => life.insert(lora),
                Err(NotLoaded::Dead) => return Err("the engine died while it started".into()),
                Err(NotLoaded::Refused(refusal)) => return Err(engine::explain(&lora, &refusal)),
            }
        }
        Ok(life)
    }

    /// Runs the engine; after its death the process lingers and then ends.
    async fn live(self: Arc<Self>, links: Links, commands: mpsc::UnboundedReceiver<Command>) {
        let ended = tokio::select! {
            biased;
            () = self.over.cancelled() => return,
            ended = engine::run(links, commands, &self.dead) => ended,
        };
        if let Err(why) = ended {
            self.record(What::Death, "", "", 500, why);
            tokio::time::sleep(self.config.timing.dying).await;
            self.over.cancel();
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn stop_taking_requests(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Kills the engine as an error in its worker does.
    pub(super) fn die(&self, why: &str) {
        // Where the loop has ended already, the engine is dead already.
        let _ = self.commands.send(Command::Die(why.to_owned()));
    }

    /// Counts a request for as long as the value lives.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.requests.send_modify(|count| *count += 1);
        Busy(Arc::clone(self))
    }

    /// Waits until the engine reads an adapter.
    pub(super) async fn reading(&self) {
        // The sender is in `self`: it cannot go away meanwhile.
        let _ = self.reading.subscribe().wait_for(|reading| *reading).await;
    }

    /// Waits until no request is under way.
    pub(super) async fn idle(&self) {
        // The sender is in `self`: it cannot go away meanwhile.
        let _ = self.requests.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(super) fn generate(&self, sequence: Sequence) -> Result<(), NotLoaded> {
        self.commands.send(Command::Generate(sequence)).map_err(|_| NotLoaded::Dead)
    }

    /// Has the engine read an adapter.
    pub(super) async fn add(&self, lora: Lora) -> Result<(), NotLoaded> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Add { lora, reply }).map_err(|_| NotLoaded::Dead)?;
        answer.await.map_err(|_| NotLoaded::Dead)?.map_err(NotLoaded::Refused)
    }

    /// An adapter with a number of its own.
    pub(super) fn new_lora(&self, name: &str, path: &str, inplace: bool) -> Lora {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed) + 1;
        Lora { number, name: name.to_owned(), path: path.to_owned(), inplace }
    }

    pub(super) fn adapters(&self) -> Vec<Lora> {
        lock(&self.adapters).clone()
    }

    pub(super) fn find(&self, name: &str) -> Option<Lora> {
        lock(&self.adapters).iter().find(|lora| lora.name == name).cloned()
    }

    /// Puts the adapter into the list, in the place of one with its name.
    pub(super) fn insert(&self, lora: Lora) {
        let mut adapters = lock(&self.adapters);
        match adapters.iter_mut().find(|known| known.name == lora.name) {
            Some(known) => *known = lora,
            None => adapters.push(lora),
        }
    }

    /// Takes the name out of the list. What the engine has in memory stays there until it is pushed out.
    pub(super) fn remove(&self, name: &str) -> bool {
        let mut adapters = lock(&self.adapters);
        let before = adapters.len();
        adapters.retain(|lora| lora.name != name);
        adapters.len() < before
    }

    pub(super) fn name_lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(lock(&self.names).entry(name.to_owned()).or_default())
    }

    pub(super) fn record(&self, what: What, name: &str, path: &str, status: u16, text: String) {
        let (name, path) = (name.to_owned(), path.to_owned());
        lock(&self.log).push(LogEntry { boot: self.boot, what, name, path, status, text });
    }

    pub(super) fn log(&self) -> Vec<LogEntry> {
        lock(&self.log).clone()
    }
}
