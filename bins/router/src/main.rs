//! The router binary: arguments and wiring, nothing else. What it does is in `longshore-proxy`.

mod args;

use anyhow::Context;
use clap::Parser;
use longshore_proxy::{FleetSource, KubeSource, Namespace, Proxy, TableSource, connect};
use longshore_runtime::{AdminServer, Readiness, Registry, Shutdown, Tasks, crypto, telemetry};

use crate::args::{Args, Whence};

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let whence = args.whence().unwrap_or_else(|error| error.exit());
    crypto::install();
    telemetry::init(args.log_format, &args.log)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        match whence {
            Whence::Fleet(config) => {
                let source = FleetSource::new(*config);
                run(args, source, "the controller's lists of adapters and engines").await
            }
            Whence::Cluster => {
                let client = connect(AGENT).await?;
                let config = args.kube(own_namespace(client.default_namespace())?);
                run(args, KubeSource::new(client, config), "the cluster's EndpointSlices").await
            }
        }
    })
}

/// What the API server's audit log calls this program.
const AGENT: &str = concat!("longshore-router/", env!("CARGO_PKG_VERSION"));

/// The namespace of this pod as the downward API tells it, else that of its ServiceAccount or kubeconfig.
fn own_namespace(of_client: &str) -> anyhow::Result<Namespace> {
    let own = std::env::var("POD_NAMESPACE").ok().filter(|namespace| !namespace.is_empty());
    own.as_deref().unwrap_or(of_client).parse().context("POD_NAMESPACE, or the namespace of the cluster's settings")
}

async fn run(args: Args, source: impl TableSource + Send + 'static, first: &'static str) -> anyhow::Result<()> {
    let readiness = Readiness::new();
    let synced = readiness.condition(first);
    let shutdown = Shutdown::new(readiness.clone(), args.linger);
    shutdown.listen_to_signals()?;

    let proxy = Proxy::new(args.proxy(), source.tables(), Some(source.missing()));
    let mut registry = Registry::with_prefix("longshore_router");
    proxy.register_metrics(&mut registry);
    source.status().register_metrics(&mut registry);

    let admin = AdminServer::new(readiness, registry).bind(&args.admin, "--admin").await?;
    let listener = args.listen.bind("--listen").await?;
    tracing::info!(address = %listener.local_addr()?, "Router listening");

    let mut tasks = Tasks::new(&shutdown);
    let mut first_table = source.synced();
    // The table is kept up to date while requests drain, so that they still see what is withdrawn.
    tasks.last("table source", |stop| source.run(stop));
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
