//! What a simulated engine is told at its start.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use longshore_types::Secret;

use crate::tiny::{self, Shape};

/// The vLLM whose statuses and texts are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// October 2025: 400 for most bad adapters, no in-place loading, no SageMaker paths.
    V0_11_0,
    /// Late 2026: 500 for most bad adapters.
    #[default]
    V0_32_0,
}

impl Version {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V0_11_0, Self::V0_32_0];

    /// `0.11.0` or `0.32.0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_11_0 => "0.11.0",
            Self::V0_32_0 => "0.32.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is not simulated: expected 0.11.0 or 0.32.0"))
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One step of the engine: every running request gets one token.
    pub token: Duration,
    /// One reading of an adapter, on top of what the file system takes. The whole engine waits for it.
    pub load: Duration,
    /// From the engine's death to the end of its process, while `/health` says 503. The real one took 0.1 s to 2.4 s.
    pub dying: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { token: Duration::from_millis(1), load: Duration::ZERO, dying: Duration::from_millis(300) }
    }
}

/// What a simulated engine is told at its start: the fields are the arguments of `vllm serve` with the same effect.
///
/// A command line that offers them names them so:
///
/// | field | flag |
/// |---|---|
/// | `listen` | `--host`, `--port` |
/// | `version` | `--behaves-like 0.32.0\|0.11.0` |
/// | `base_name`, `base_root` | `--served-model-name`, `--model` |
/// | `enable_lora` | `--enable-lora` |
/// | `max_loras`, `max_cpu_loras`, `max_lora_rank` | `--max-loras`, `--max-cpu-loras`, `--max-lora-rank` |
/// | `max_num_seqs`, `max_model_len` | `--max-num-seqs`, `--max-model-len` |
/// | `api_key` | `--api-key` |
/// | `runtime_updating` | `VLLM_ALLOW_RUNTIME_LORA_UPDATING` |
/// | `static_adapters` | `--lora-modules name=path …` |
/// | `hub` | `--hub DIR` |
/// | `timing` | `--token-delay`, `--load-delay` |
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Where to listen; port 0 picks a free one, which the engine keeps through its restarts.
    pub listen: SocketAddr,
    /// Whose statuses and texts are given.
    pub version: Version,
    /// The name of the base model.
    pub base_name: String,
    /// What `/v1/models` says as the base model's root.
    pub base_root: String,
    /// The base model's dimensions, against which adapters are checked.
    pub shape: Shape,
    /// Whether adapters can be used at all.
    pub enable_lora: bool,
    /// Distinct adapters in one batch; requests for another wait.
    pub max_loras: usize,
    /// Adapters that the engine keeps in memory; the least recently used is read again when it is next used.
    pub max_cpu_loras: usize,
    /// The largest rank that is taken.
    pub max_lora_rank: usize,
    /// Requests in one batch.
    pub max_num_seqs: usize,
    /// Tokens of prompt and answer together.
    pub max_model_len: usize,
    /// The bearer token that paths below `/v1` ask for.
    pub api_key: Option<Secret>,
    /// Whether adapters can be loaded and unloaded over HTTP.
    pub runtime_updating: bool,
    /// Adapters that are there from the start: name and path.
    pub static_adapters: Vec<(String, String)>,
    /// Stands for what an engine would download by itself: the repository `org/name` is its directory `org/name`.
    pub hub: Option<PathBuf>,
    /// How long things take.
    pub timing: Timing,
}

/// The tiny base model with the limits that the tests use for the real engine, on a free port of the loopback
/// interface.
impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            version: Version::default(),
            base_name: tiny::NAME.to_owned(),
            base_root: format!("/models/{}", tiny::NAME),
            shape: Shape::TINY,
            enable_lora: true,
            max_loras: 2,
            max_cpu_loras: 4,
            max_lora_rank: 16,
            max_num_seqs: 8,
            max_model_len: 128,
            api_key: None,
            runtime_updating: true,
            static_adapters: Vec::new(),
            hub: None,
            timing: Timing::default(),
        }
    }
}

impl SimConfig {
    /// The default engine as this version.
    pub fn version(version: Version) -> Self {
        Self { version, ..Self::default() }
    }
}
