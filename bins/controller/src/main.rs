//! The controller binary: arguments and wiring, nothing else. What it does is in `longshore-cluster`.

mod args;
mod life;
mod pulse;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use longshore_cluster::fleet::{Accounts, FleetApi, FleetStore, Front, Guard, TokenFile, Where, find_leader};
use longshore_cluster::kube::{Cluster, Driver, Election, LeaseTimes, Options, demand};
use longshore_runtime::{AdminServer, BoundAdmin, Readiness, Registry, Shutdown, Tasks, crypto, telemetry};
use prometheus_client::metrics::gauge::Gauge;

use crate::args::{Args, Callers};
use crate::life::{STOP_WITHIN, live};
use crate::pulse::Pulse;

/// What the API server's audit log calls this program.
const AGENT: &str = concat!("longshore-controller/", env!("CARGO_PKG_VERSION"));

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let times = args.lease_times().unwrap_or_else(|error| error.exit());
    crypto::install();
    telemetry::init(args.log_format, &args.log)?;
    for remark in args.remarks() {
        tracing::warn!("{remark}");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(args, times))
}

async fn run(args: Args, times: LeaseTimes) -> anyhow::Result<()> {
    let cluster = Cluster::find(args.kubeconfig.as_deref(), AGENT).await?;
    let own = args.own_namespace(cluster.namespace())?;
    let pod = args.pod(std::env::var("HOSTNAME").ok());

    let readiness = Readiness::new();
    let ready = readiness.condition("a replica that leads, or the first lists of what is in the cluster");
    let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO);
    shutdown.listen_to_signals()?;

    // What answers comes first: a replica that cannot listen must not hold the Lease.
    let client = cluster.client()?;
    let guard = guard(args.callers(&own), &cluster)?;
    let front = Front::new()?;
    let pulse = Pulse::default();
    let mut registry = Registry::with_prefix("longshore_controller");
    let leading: Gauge = Gauge::default();
    registry.register("leading", "1 where this replica leads, else 0", leading.clone());
    let admin = AdminServer::new(readiness, registry)
        .alive({
            let pulse = pulse.clone();
            move || pulse.check()
        })
        .merge(front.router(guard));
    let metrics = admin.metrics();
    let admin = admin.bind(&args.health_probe_bind_address, "--health-probe-bind-address").await?;
    // The other replicas have the same arguments, and each an address of its own.
    let port = admin.local_addr().port();

    let mut tasks = Tasks::new(&shutdown);
    tasks.last("admin server", |stop| admin.serve(stop));
    if let Some(listen) = args.metrics_listen() {
        let server = BoundAdmin::of_metrics(metrics.clone(), listen, "--metrics-bind-address").await?;
        tasks.last("metrics server", |stop| server.serve(stop));
    }

    let election = if args.election.leader_elect {
        Election::start(client.clone(), args.election.config(times, &pod, &own))
    } else {
        Election::alone(&pod)
    };
    let bound = STOP_WITHIN + args.election.release_bound() + Duration::from_secs(1);
    let fleet = Arc::new(FleetStore::new());
    tasks.essential("controller", |stop| async move {
        let leadership = election.watch();
        let follow = find_leader(client, &own, port, leadership.clone(), &front);
        let end = live(leadership, stop, ready, follow, |term, fence| {
            let (reports, demand) = demand();
            let options = Options {
                client: cluster.fenced(fence.clone(), args.limit())?,
                fence,
                namespaces: args.served(),
                reconciler: args.timing.config(),
                policy: Some(args.model_adapter_scheduler_policy.clone()),
                engine_key: args.engine_api_key_secret.clone(),
                instance: pod,
            };
            tracing::debug!(?options, ?term, "Starting to lead");
            let driver = Driver::start(options, fleet.clone(), demand)?;
            pulse.feel(driver.heartbeat().clone());
            metrics.add(|registry| driver.register_metrics(registry));
            front.turn(Where::Here(FleetApi::new(fleet.clone(), reports)));
            leading.set(1);
            Ok::<_, Box<dyn Error + Send + Sync>>(driver)
        })
        .await;
        leading.set(0);
        // Whoever follows the fleet is told to look for it elsewhere.
        front.turn(Where::Nobody);
        fleet.close();
        if end.is_quiet() {
            election.release().await;
        }
        end.into_result()
    });
    Ok(tasks.run(bound).await?)
}

/// Whose tokens open the fleet API.
fn guard(callers: Callers, cluster: &Cluster) -> anyhow::Result<Guard> {
    let Callers { file, accounts } = callers;
    let mut guard = Guard::open();
    if let Some(path) = file {
        let token = TokenFile::open(&path).with_context(|| format!("--fleet-api-token-file {}", path.display()))?;
        guard = guard.or_file(token);
    }
    if !accounts.is_empty() {
        guard = guard.or_accounts(Accounts::new(cluster.client()?, accounts));
    }
    Ok(guard)
}
