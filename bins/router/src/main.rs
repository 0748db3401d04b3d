//! The router binary: arguments and wiring, nothing else. What it does is in `longshore-proxy`.

mod args;

use clap::Parser;
use longshore_proxy::{FleetSource, Proxy};
use longshore_runtime::{AdminServer, Readiness, Registry, Shutdown, Tasks, crypto, telemetry};

use crate::args::Args;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    crypto::install();
    telemetry::init(args.log_format, &args.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let synced = readiness.condition("the controller's lists of adapters and engines");
    let shutdown = Shutdown::new(readiness.clone(), args.linger);
    shutdown.listen_to_signals()?;

    let source = FleetSource::new(args.fleet());
    let proxy = Proxy::new(args.proxy(), source.tables(), Some(source.missing()));
    let mut registry = Registry::with_prefix("longshore_router");
    proxy.register_metrics(&mut registry);
    source.status().register_metrics(&mut registry);

    let admin = AdminServer::new(readiness, registry).bind(&args.admin, "--admin").await?;
    let listener = args.listen.bind("--listen").await?;
    tracing::info!(address = %listener.local_addr()?, controller = %args.controller, "Router listening");

    let mut tasks = Tasks::new(&shutdown);
    let mut first_table = source.synced();
    // The table is kept up to date while requests drain, so that they still see what is withdrawn.
    tasks.last("fleet source", |stop| source.run(stop));
    tasks.last("admin server", |stop| admin.serve(stop));
    tasks.last("readiness", |stop| async move {
        // It fails only when the source is gone, which ends the process by itself.
        if first_table.wait_for(|synced| *synced).await.is_ok() {
            synced.set();
        }
        stop.cancelled().await;
        Ok::<_, std::convert::Infallible>(())
    });
    let drain = args.drain;
    tasks.essential("proxy", |stop| proxy.serve(listener, stop, drain));
    // A little longer than the proxy's own bound, so that it is the proxy that cuts off and says what.
    Ok(tasks.run(drain + std::time::Duration::from_secs(1)).await?)
}
