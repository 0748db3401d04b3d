//! `longshore up`: controller and router in one process, for engines named on the command line.

mod happened;
mod lines;
mod local_router;
mod samples;
mod screen;
mod simulate;
pub mod store;
mod view;

use std::convert::Infallible;
use std::io::{IsTerminal, stderr, stdout};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use longshore_api::fleet::{self, Demand};
use longshore_artifacts::Artifacts;
use longshore_cluster::fleet::{FleetApi, FleetStore, router as fleet_router};
use longshore_cluster::local::{ConnectVllm, Driver, EngineConfig, Left, Local, Options, read_key_file};
use longshore_proxy::{Missing, Proxy, ProxyConfig};
use longshore_reconciler::Config;
use longshore_runtime::{AdminServer, BoundAdmin, CancellationToken, Condition, Readiness, Registry, Shutdown, Tasks};
use tokio::sync::mpsc;

use crate::args::{Simulate, UpArgs};
use crate::{complain, say};
use local_router::LocalRouter;
use view::View;

/// Reports of engines that lack an adapter which wait to be passed on; each is a hint that may be lost.
const MISSING: usize = 64;

/// Serves until it is told to stop. With `logs`, log lines were asked for.
pub async fn run(args: UpArgs, logs: bool) -> Result<()> {
    let shutdown_bound = args.shutdown;
    let readiness = Readiness::new();
    let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO);
    shutdown.listen_to_signals()?;
    let mut tasks = Tasks::new(&shutdown);

    let store = store::open(args.store.as_deref())?;
    let listener = args.listen.bind("--listen").await?;
    let address = listener.local_addr()?;
    let manifests = manifests(&args)?;
    let simulated = simulate::start(&simulated(&args)).await?;
    let engines = engines(&args, &simulated)?;

    let (router, tables) = LocalRouter::new();
    let (missing, met_missing) = mpsc::channel(MISSING);
    let proxy = Proxy::new(ProxyConfig::default(), tables, Some(missing));
    router.count(proxy.in_flight().clone());
    let mut registry = Registry::default();
    proxy.register_metrics(registry.sub_registry_with_prefix("longshore_router"));

    let driver = Driver::new(Options {
        reconciler: config(&args),
        engines,
        engines_file: args.engines_file.clone(),
        manifests: manifests.clone(),
        artifacts: Artifacts::from_everywhere(store, args.sources.setup())?,
        connect: Arc::new(ConnectVllm::new()?),
        router: Arc::new(router),
    });
    let admin = admin(&args, readiness.clone(), registry, &driver).await?;

    let told = readiness.condition("manifests read and engines listed");
    let view = View {
        head: format!("longshore: requests on http://{address}, fleet API on http://{}", admin.local_addr()),
        hint: hint(address),
        manifests,
        fleet: driver.fleet(),
        changes: driver.changes(),
        known: readiness.clone(),
        stopping: shutdown.token(),
    };
    // Log lines would go through the middle of a table.
    let plain = args.plain || !stdout().is_terminal() || (logs && stderr().is_terminal());
    tasks.last("admin server", |stop| admin.serve(stop));
    tasks.last("terminal", move |stop| async move {
        if plain {
            lines::run(view, stop, say).await;
        } else {
            screen::run(view, stop).await;
        }
        Ok::<_, Infallible>(())
    });
    tasks.essential("reports of missing adapters", {
        let demand = driver.demand();
        |stop| pass_on(met_missing, demand, stop)
    });
    tasks.essential("latch", {
        let fleet = driver.fleet();
        |stop| latch(fleet, told, stop)
    });
    tasks.essential("router", |stop| proxy.serve(listener, stop, shutdown_bound));
    let local = driver.start();
    let left = Arc::new(Mutex::new(Vec::new()));
    tasks.essential("driver", {
        let (left, unload) = (left.clone(), !args.leave_loaded);
        move |stop| look_after(local, stop, unload, shutdown_bound, left)
    });

    // The driver's own bound comes first, so that it can say what is left.
    let outcome = tasks.run(shutdown_bound + Duration::from_secs(1)).await;
    let left = left.lock().map(|mut left| std::mem::take(&mut *left)).unwrap_or_default();
    for Left { engine, adapter, why } in left {
        complain(&format!("warning: {engine} still holds {adapter}, as far as is known: {why}"));
    }
    drop(simulated);
    outcome?;
    say(if args.leave_loaded { "stopped; adapters stay loaded" } else { "stopped" });
    Ok(())
}

/// Health, metrics and the fleet API, which others than this machine may read with a token only.
async fn admin(args: &UpArgs, readiness: Readiness, registry: Registry, driver: &Driver) -> Result<BoundAdmin> {
    let mut api = FleetApi::new(driver.fleet(), driver.demand());
    if let Some(path) = &args.admin_token_file {
        let token = read_key_file(path).with_context(|| format!("--admin-token-file {}", path.display()))?;
        api = api.with_token(token);
    }
    let admin = AdminServer::new(readiness, registry).merge(fleet_router(api));
    let admin = admin.bind(&args.admin, "--admin").await?;
    if args.admin_token_file.is_none() && !admin.local_addr().ip().is_loopback() {
        bail!(
            "{} is not on loopback, so anybody could read the fleet API: give --admin-token-file, or another --admin",
            args.admin
        );
    }
    Ok(admin)
}

/// Where manifests are read from; where none are named, the samples.
fn manifests(args: &UpArgs) -> Result<Vec<PathBuf>> {
    if args.manifests.is_empty() {
        return Ok(vec![samples::prepare()?]);
    }
    args.manifests.iter().try_for_each(|path| samples::complete(path))?;
    Ok(args.manifests.clone())
}

/// Sets `told` once the fleet is known: before that it looks like an empty one.
async fn latch(fleet: Arc<FleetStore>, told: Condition, stop: CancellationToken) -> Result<(), Infallible> {
    tokio::select! {
        () = fleet.opened() => told.set(),
        () = stop.cancelled() => {}
    }
    stop.cancelled().await;
    Ok(())
}

/// Runs the driver; at the end withdraws, drains and unloads.
async fn look_after(
    local: Local,
    stop: CancellationToken,
    unload: bool,
    bound: Duration,
    left: Arc<Mutex<Vec<Left>>>,
) -> Result<(), &'static str> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = local.ended() => return Err("it ended by itself"),
    }
    let fleet = local.fleet();
    let still = local.shutdown(unload, bound).await;
    fleet.close();
    if let Ok(mut left) = left.lock() {
        *left = still;
    }
    Ok(())
}

/// What the router has met goes to the driver, which lists the engine.
async fn pass_on(
    mut met: mpsc::Receiver<Missing>,
    demand: mpsc::Sender<Demand>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let missing = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            missing = met.recv() => missing,
        };
        let Some(missing) = missing else {
            stop.cancelled().await;
            return Ok(());
        };
        let report = fleet::Missing {
            namespace: missing.engine.namespace.to_string(),
            name: missing.name.to_string(),
            pod: missing.engine.to_string(),
        };
        let report = Demand { router: "up".to_owned(), adapters: Vec::new(), missing: vec![report] };
        // A driver that is gone ends the process by itself.
        let _ = demand.send(report).await;
    }
}

fn config(args: &UpArgs) -> Config {
    Config {
        list_interval: args.list_interval,
        not_ready_grace: args.not_ready_grace,
        retry_base: args.retry_base,
        drain: args.drain,
        ..Config::default()
    }
}

/// How many engines to simulate: what was asked for, else three where no engine is named.
fn simulated(args: &UpArgs) -> Simulate {
    let none = args.engines.is_empty() && args.engines_file.is_none();
    args.simulate
        .clone()
        .unwrap_or_else(|| if none { Simulate::default() } else { Simulate { count: 0, ..Simulate::default() } })
}

fn engines(args: &UpArgs, simulated: &[simulate::Simulated]) -> Result<Vec<EngineConfig>> {
    let key = match &args.engine_api_key_file {
        Some(path) => Some(read_key_file(path).with_context(|| format!("--engine-api-key-file {}", path.display()))?),
        None => None,
    };
    let named = args.engines.iter().cloned().map(|mut engine| {
        engine.api_key = engine.api_key.or_else(|| key.clone());
        engine
    });
    let engines: Vec<EngineConfig> = named.chain(simulated.iter().map(|engine| engine.config.clone())).collect();
    if engines.is_empty() && args.engines_file.is_none() {
        bail!("there is no engine: name one with --engine or --engines-file, or simulate some with --simulate 3");
    }
    for (position, engine) in engines.iter().enumerate() {
        if engines[..position].iter().any(|before| before.id() == engine.id()) {
            bail!("--engine: {} is named twice: give one of them another name=", engine.id());
        }
    }
    Ok(engines)
}

/// A request to paste, once `model` is served.
fn hint(address: std::net::SocketAddr) -> impl Fn(&str) -> String + Send + 'static {
    move |model| {
        format!(
            "curl -s http://{address}/v1/completions \\\n  -H 'Content-Type: application/json' \\\n  \
             -d '{{\"model\": \"{model}\", \"prompt\": \"Hello\", \"max_tokens\": 16}}'"
        )
    }
}
