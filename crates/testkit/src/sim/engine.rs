//! The engine proper: one loop that loads adapters and makes tokens, and does only one thing at a time.
//!
//! As in vLLM, a load holds up everything else in the loop; an adapter is read again where the cache has dropped it; an
//! error while tokens are made is the end of the process.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_types::Digest;
use tokio::sync::{mpsc, oneshot, watch};

use super::adapter::{self, Refusal, Rules};
use super::config::{SimConfig, Version};
use super::faults::{Faults, LogEntry, What};
use super::gauges::Gauges;
use super::text;

/// An adapter as a request refers to it. The number tells one load of a name from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lora {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) inplace: bool,
}

/// What the engine says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// One more token.
    Token(String),
    /// The engine has died.
    Dead,
}

/// One sequence to be made.
pub(super) struct Sequence {
    pub(super) lora: Option<Lora>,
    pub(super) prompt: String,
    /// Tells the choices of one request apart.
    pub(super) choice: usize,
    pub(super) prompt_tokens: usize,
    pub(super) max_tokens: usize,
    pub(super) out: mpsc::UnboundedSender<Output>,
}

/// What the loop is asked to do.
pub(super) enum Command {
    /// Read an adapter.
    Add { lora: Lora, reply: oneshot::Sender<Result<(), Refusal>> },
    /// Make tokens.
    Generate(Sequence),
    /// Die, as after an error in the worker.
    Die(String),
}

/// What the loop shares with the rest of one life.
pub(super) struct Links {
    pub(super) config: Arc<SimConfig>,
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) gauges: Arc<Gauges>,
    /// Whether an adapter is being read.
    pub(super) reading: watch::Sender<bool>,
    pub(super) log: Box<dyn Fn(LogEntry) + Send + Sync>,
}

struct Running {
    sequence: Sequence,
    made: usize,
}

struct Cached {
    number: u64,
    digest: Digest,
}

struct Core {
    links: Links,
    waiting: VecDeque<Sequence>,
    running: Vec<Running>,
    /// Adapters in memory, the least recently used first.
    cache: Vec<Cached>,
}

/// Runs until every sender of commands is gone or the engine dies; the error says of what. `dead` is set before anybody
/// can learn of the death.
pub(super) async fn run(
    links: Links,
    mut commands: mpsc::UnboundedReceiver<Command>,
    dead: &AtomicBool,
) -> Result<(), String> {
    let mut core = Core { links, waiting: VecDeque::new(), running: Vec::new(), cache: Vec::new() };
    let ended = core.run(&mut commands).await;
    if ended.is_err() {
        dead.store(true, Ordering::SeqCst);
        commands.close();
        while let Ok(command) = commands.try_recv() {
            if let Command::Generate(sequence) = command {
                core.waiting.push_back(sequence);
            }
        }
        for sequence in core.waiting.iter().chain(core.running.iter().map(|running| &running.sequence)) {
            // A caller that has gone needs no answer.
            let _ = sequence.out.send(Output::Dead);
        }
    }
    ended
}

impl Core {
    async fn run(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> Result<(), String> {
        loop {
            let idle = self.running.is_empty() && self.waiting.is_empty();
            let command = if idle { commands.recv().await } else { commands.try_recv().ok() };
            match command {
                Some(Command::Add { lora, reply }) => {
                    let result = self.load(&lora).await;
                    // A load is finished although its caller has given up.
                    let _ = reply.send(result);
                }
                Some(Command::Generate(sequence)) => self.waiting.push_back(sequence),
                Some(Command::Die(why)) => return Err(why),
                None if idle => return Ok(()),
                None => self.step().await?,
            }
        }
    }

    async fn step(&mut self) -> Result<(), String> {
        self.running.retain(|running| !running.sequence.out.is_closed());
        self.waiting.retain(|sequence| !sequence.out.is_closed());
        self.admit();
        self.observe();
        for index in 0..self.running.len() {
            let digest = match self.running[index].sequence.lora.clone() {
                Some(lora) => Some(self.apply(&lora).await?),
                None => None,
            };
            let running = &mut self.running[index];
            let sequence = &running.sequence;
            let base = &self.links.config.base_name;
            let token = text::token(digest, base, &sequence.prompt, sequence.choice, running.made);
            running.made += 1;
            let _ = sequence.out.send(Output::Token(token));
        }
        let slowed = self.links.faults.borrow().token_delay_ms;
        let delay = slowed.map_or(self.links.config.timing.token, Duration::from_millis);
        if delay.is_zero() {
            tokio::task::yield_now().await;
        } else {
            let changed = self.links.faults.wait_for(|faults| faults.token_delay_ms != slowed);
            // Either way the next step is due: the time is over, or another one holds from now on.
            let _ = tokio::time::timeout(delay, changed).await;
        }
        // The last token is followed by the end of the channel, which is how a request knows that it is done.
        self.running.retain(|running| running.made < running.sequence.max_tokens);
        self.observe();
        Ok(())
    }

    /// Takes waiting requests into the batch in their order. One whose adapter has no slot in it is passed over.
    fn admit(&mut self) {
        let config = &self.links.config;
        let mut adapters: BTreeSet<u64> =
            self.running.iter().filter_map(|r| r.sequence.lora.as_ref()).map(|l| l.number).collect();
        let mut passed = VecDeque::new();
        for sequence in self.waiting.drain(..) {
            let new = sequence.lora.as_ref().map(|lora| lora.number).filter(|number| !adapters.contains(number));
            let slot = new.is_none() || adapters.len() < config.max_loras;
            if self.running.len() < config.max_num_seqs && slot {
                adapters.extend(new);
                self.running.push(Running { sequence, made: 0 });
            } else {
                passed.push_back(sequence);
            }
        }
        self.waiting = passed;
    }

    /// The digest of the adapter's present bytes in memory, reading them where they are not there.
    async fn apply(&mut self, lora: &Lora) -> Result<Digest, String> {
        // An adapter that was loaded in place keeps that flag and is read again each time.
        let again = lora.inplace && self.links.config.version == Version::V0_32_0;
        let found = self.cache.iter().position(|cached| cached.number == lora.number);
        if let (Some(found), false) = (found, again) {
            let cached = self.cache.remove(found);
            let digest = cached.digest;
            self.cache.push(cached);
            return Ok(digest);
        }
        let result = self.read(lora).await;
        let (status, text) = result.as_ref().map_or_else(|r| (500, explain(lora, r)), |_| (200, String::new()));
        (self.links.log)(LogEntry {
            boot: 0,
            what: What::Reread,
            name: lora.name.clone(),
            path: lora.path.clone(),
            status,
            text: text.clone(),
        });
        result.map_err(|_| text)
    }

    async fn load(&mut self, lora: &Lora) -> Result<(), Refusal> {
        if !self.links.config.enable_lora {
            return Err("LoRA is not enabled. Use --enable-lora to enable LoRA.".into());
        }
        self.read(lora).await.map(|_| ())
    }

    /// Reads the adapter and puts it into the cache. Nothing else happens in the engine meanwhile.
    async fn read(&mut self, lora: &Lora) -> Result<Digest, Refusal> {
        self.links.reading.send_replace(true);
        let result = self.read_files(lora).await;
        self.links.reading.send_replace(false);
        result
    }

    async fn read_files(&mut self, lora: &Lora) -> Result<Digest, Refusal> {
        let config = Arc::clone(&self.links.config);
        // A fault's sender lives as long as the engine; should it have gone, there is no fault to wait for.
        let _ = self.links.faults.wait_for(|faults| !faults.hang_load).await;
        let delay = config.timing.load + Duration::from_millis(self.links.faults.borrow().load_delay_ms);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let dir = resolve(&lora.path, config.hub.as_deref()).ok_or(Refusal::NotFound)?;
        let rules = Rules { version: config.version, shape: config.shape, max_rank: config.max_lora_rank };
        let reading = tokio::task::spawn_blocking(move || adapter::read(&dir, rules));
        let digest = reading.await.unwrap_or_else(|error| Err(error.to_string().into()))?;
        self.cache.retain(|cached| cached.number != lora.number);
        if self.cache.len() >= config.max_cpu_loras.max(1) {
            self.cache.remove(0);
        }
        self.cache.push(Cached { number: lora.number, digest });
        Ok(digest)
    }

    fn observe(&self) {
        let running: Vec<&Sequence> = self.running.iter().map(|running| &running.sequence).collect();
        let waiting: Vec<&Sequence> = self.waiting.iter().collect();
        self.links.gauges.observe(&running, &waiting, &self.links.config);
    }
}

/// The directory that a path means: itself, or where the hub has the repository of that name.
fn resolve(path: &str, hub: Option<&Path>) -> Option<PathBuf> {
    let given = Path::new(path);
    if given.is_absolute() || given.exists() {
        return Some(given.to_path_buf());
    }
    // The hub's names have two parts and no dots before them: nothing outside its directory can be meant.
    let (owner, name) = path.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', ':', '~']);
    let found = hub?.join(owner).join(name);
    (plain(owner) && plain(name) && found.is_dir()).then_some(found)
}

/// The refusal as a sentence, with the path in it.
pub(super) fn explain(lora: &Lora, refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound => format!("Loading lora {} failed: No adapter found for {}", lora.name, lora.path),
        Refusal::Invalid(message) => message.clone(),
    }
}
