//! What the engine says about its load. It is brought up to date by the engine's steps alone, as in vLLM: while a load
//! holds the engine up, the requests that wait behind it are not counted.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::config::{SimConfig, Version};
use super::engine::Sequence;

/// The figures of one life.
#[derive(Default)]
pub(super) struct Gauges(Mutex<Figures>);

#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) running: usize,
    pub(super) capacity: usize,
    pub(super) deferred: usize,
    pub(super) kv_usage: f64,
    /// Names of running and waiting adapters, joined by commas, and when that was last so. One entry for each pair ever
    /// seen, none is ever removed; the newest is the present one.
    pub(super) adapters: Vec<((String, String), f64)>,
    pub(super) prompt_tokens: usize,
    pub(super) generated_tokens: usize,
    pub(super) requests: usize,
}

impl Gauges {
    fn lock(&self) -> MutexGuard<'_, Figures> {
        // Figures are plain numbers: they are whole whatever happened to a thread that held them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn snapshot(&self) -> Figures {
        self.lock().clone()
    }

    pub(super) fn observe(&self, running: &[&Sequence], waiting: &[&Sequence], config: &SimConfig) {
        let names = |of: &[&Sequence]| {
            let names: BTreeSet<&str> =
                of.iter().filter_map(|s| s.lora.as_ref()).map(|lora| lora.name.as_str()).collect();
            names.into_iter().collect::<Vec<_>>().join(",")
        };
        let runs = names(running);
        // The newer version gives every active name in both labels (seen on the real one).
        let waits = if config.version == Version::V0_32_0 { runs.clone() } else { names(waiting) };
        let full = running.len() >= config.max_num_seqs;
        let blocks: usize = running.iter().map(|s| (s.prompt_tokens + s.max_tokens).div_ceil(128)).sum();
        let mut figures = self.lock();
        figures.running = running.len();
        (figures.capacity, figures.deferred) = if full { (waiting.len(), 0) } else { (0, waiting.len()) };
        figures.kv_usage = blocks as f64 / 8191.0;
        let (now, pair) = (unix_now(), (runs, waits));
        match figures.adapters.iter_mut().find(|(seen, _)| *seen == pair) {
            Some((_, when)) => *when = now,
            None => figures.adapters.push((pair, now)),
        }
    }

    pub(super) fn finished(&self, prompt_tokens: usize, generated_tokens: usize) {
        let mut figures = self.lock();
        figures.requests += 1;
        figures.prompt_tokens += prompt_tokens;
        figures.generated_tokens += generated_tokens;
    }
}

/// Seconds since the Unix epoch.
pub(super) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
