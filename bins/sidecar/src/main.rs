//! The sidecar binary: arguments and wiring, nothing else. What it does is in `longshore-agent`.

mod args;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use longshore_agent::{
    Agent, Api, Artifacts, Callers, Connect, ConnectVllm, Guard, Options, Store, TokenFile, callers, router,
};
use longshore_runtime::{
    AdminServer, CancellationToken, Condition, Readiness, Registry, Shutdown, Tasks, crypto, telemetry,
};

use crate::args::Args;

/// How long a stop may take: nothing is unloaded, since the engine goes on or ends by itself.
const STOP_WITHIN: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let args = Args::of_this_process().unwrap_or_else(|error| error.exit());
    crypto::install();
    telemetry::init(args.log_format, &args.log)?;
    for remark in args.remarks() {
        tracing::warn!("{remark}");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let latch = readiness.condition("the adapters that were wanted at the start, or when the engine last started");
    let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO);
    shutdown.listen_to_signals()?;

    let guard = guard(&args)?;
    let store = Store::open(&args.store).with_context(|| format!("--store {}", args.store.display()))?;
    let artifacts = Artifacts::from_everywhere(store, args.sources.setup())?;
    let connect = Arc::new(ConnectVllm::new()?);
    let engine = args.engine()?;
    let direct = connect.connect(&engine).map_err(|fault| anyhow::anyhow!("--engine: {fault}"))?;
    let agent = Agent::start(Options { engine, artifacts, connect, record: args.record(), reconciler: args.config() })?;

    let admin = AdminServer::new(readiness, Registry::with_prefix("longshore_sidecar"))
        .merge_unbounded(router(Api::new(agent.clone(), guard.clone())))
        .merge_unbounded(callers(Callers::new(agent.clone(), direct, args.secrets.clone(), guard)))
        .bind(&args.listen, "--listen")
        .await?;
    tracing::info!(address = %admin.local_addr(), store = %args.store.display(), "Sidecar listening");

    let mut tasks = Tasks::new(&shutdown);
    tasks.last("server", |stop| admin.serve(stop));
    tasks.last("readiness", {
        let agent = agent.clone();
        |stop| follow(agent, latch, stop)
    });
    tasks.essential("agent", |stop| async move {
        tokio::select! {
            () = agent.ended() => Err("the agent has ended"),
            () = stop.cancelled() => Ok(()),
        }
    });
    Ok(tasks.run(STOP_WITHIN).await?)
}

/// Passes on what the agent's latch says.
async fn follow(agent: Agent, latch: Condition, stop: CancellationToken) -> Result<(), Infallible> {
    let mut ready = agent.ready();
    loop {
        if ready.borrow_and_update().ready {
            latch.set();
        } else {
            latch.clear();
        }
        tokio::select! {
            changed = ready.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Whose tokens open the API.
fn guard(args: &Args) -> anyhow::Result<Guard> {
    let Some(path) = &args.token_file else { return Ok(Guard::open()) };
    let token = TokenFile::open(path).with_context(|| format!("--token-file {}", path.display()))?;
    Ok(Guard::open().or_file(token))
}
