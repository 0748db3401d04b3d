//! `longshore sim-engine`: one simulated engine as a process.

use std::time::Duration;

use anyhow::{Context, Result};
use longshore_testkit::{Faults, SimConfig, SimEngine, Timing};
use longshore_types::Secret;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::SimEngineArgs;
use crate::say;

/// Runs until it is told to stop.
pub async fn run(args: SimEngineArgs) -> Result<()> {
    let faults: Option<Faults> = args.faults.as_deref().map(serde_json::from_str).transpose().context("--faults")?;
    let updating = matches!(args.runtime_lora_updating.to_ascii_lowercase().as_str(), "1" | "true");
    let config = SimConfig {
        listen: args.listen(),
        version: args.behaves_like,
        base_root: args.model.clone().unwrap_or_else(|| format!("/models/{}", args.served_model_name)),
        base_name: args.served_model_name,
        enable_lora: !args.disable_lora,
        max_loras: args.max_loras,
        max_cpu_loras: args.max_cpu_loras.unwrap_or(args.max_loras),
        max_lora_rank: args.max_lora_rank,
        max_num_seqs: args.max_num_seqs,
        max_model_len: args.max_model_len,
        api_key: args.api_key.map(Secret::new),
        runtime_updating: updating,
        static_adapters: args.lora_modules,
        hub: args.hub,
        timing: Timing {
            token: Duration::from_millis(args.token_delay),
            load: Duration::from_millis(args.load_delay),
            ..Timing::default()
        },
        ..SimConfig::default()
    };
    let listen = config.listen;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let engine = SimEngine::start(config)
        .await
        .with_context(|| format!("cannot serve on {listen}: choose another port with --port"))?;
    if let Some(faults) = faults {
        engine.control().set(faults).await;
    }
    say(&format!("simulated engine on {}", engine.url()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    engine.stop().await;
    Ok(())
}
