//! Simulated engines in this process.

use anyhow::{Context, Result};
use longshore_cluster::local::EngineConfig;
use longshore_testkit::{SimConfig, SimEngine};
use longshore_types::EngineKind;

use crate::args::Simulate;

/// Adapters that each holds.
const SLOTS: usize = 32;
/// The largest rank that each takes.
const RANK: usize = 64;

/// One of them, and how it is reached. It ends when the value is dropped.
pub struct Simulated {
    /// Held, not used.
    _engine: SimEngine,
    pub config: EngineConfig,
}

/// Starts as many as were asked for.
pub async fn start(simulate: &Simulate) -> Result<Vec<Simulated>> {
    let mut engines = Vec::new();
    for number in 0..simulate.count {
        let engine = SimEngine::start(SimConfig {
            base_name: simulate.base.clone(),
            base_root: format!("/models/{}", simulate.base),
            max_loras: SLOTS,
            max_cpu_loras: SLOTS,
            max_lora_rank: RANK,
            max_num_seqs: 64,
            max_model_len: 2048,
            ..SimConfig::default()
        })
        .await
        .context("cannot start a simulated engine")?;
        let mut config = EngineConfig::new(&engine.url())?;
        config.name = format!("sim-{number}");
        config.kind = EngineKind::Simulated;
        let slots = u32::try_from(SLOTS).ok();
        (config.max_loras, config.max_cpu_loras) = (slots, slots);
        config.max_lora_rank = u32::try_from(RANK).ok();
        engines.push(Simulated { _engine: engine, config });
    }
    Ok(engines)
}
