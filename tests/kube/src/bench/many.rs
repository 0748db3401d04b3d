//! A hundred adapters by ten engines: loading all of it, resting, a restart.

use std::time::{Duration, Instant};

use longshore_testkit::Faults;

use super::fleet::{Fleet, names};
use super::process::Controller;
use super::row::Rows;
use super::{bare, idle, say};
use crate::Cluster;

const ADAPTERS: usize = 100;
const ENGINES: usize = 10;
/// How long a load takes in the slow variant.
const LOAD: Duration = Duration::from_millis(50);

pub(super) async fn measure(cluster: &Cluster, idle: Duration, rows: &mut Rows) {
    say("100 adapters by 10 engines");
    let mut fleet = Fleet::start(cluster, ENGINES).await;
    let relay = fleet.relay(0).await;
    let all = names("many", ADAPTERS);
    let controller = Controller::of(cluster).await;
    let cpu = controller.cpu_time();
    let (routable, last) = load(&fleet, &all).await;
    let cpu = controller.cpu_time() - cpu;
    rows.against("100 adapters by 10 engines, all routable", routable.as_secs_f64(), "s", bare::MANY);
    rows.against("100 adapters by 10 engines, all status final", last.as_secs_f64(), "s", bare::MANY_FINAL);
    rows.add("100 adapters by 10 engines, CPU until then", cpu.as_secs_f64(), "s");
    say("at rest");
    idle::measure(cluster, &relay, idle, rows).await;
    say("a restart");
    idle::restart(cluster, &fleet, &all, rows).await;
    let gone = fleet.clear(&all).await;
    rows.add("100 adapters by 10 engines, all deleted", gone.as_secs_f64(), "s");

    say("100 adapters by 10 engines, loads of 50 ms");
    for engine in 0..ENGINES {
        let slow = Faults { load_delay_ms: LOAD.as_millis() as u64, ..Faults::default() };
        fleet.set(engine, slow).await;
    }
    let all = names("slow", ADAPTERS);
    let (routable, _) = load(&fleet, &all).await;
    let busiest = "the busiest engine's loads of 50 ms, one after the other";
    rows.add(busiest, LOAD.as_secs_f64() * ADAPTERS as f64, "s");
    rows.against("100 adapters by 10 engines, loads of 50 ms, all routable", routable.as_secs_f64(), "s", busiest);
    fleet.clear(&all).await;
}

/// Creates them all; how long it took until all were routable on all engines, and until their status said so.
async fn load(fleet: &Fleet, all: &[String]) -> (Duration, Duration) {
    let complete = all.len() * fleet.engines.len();
    let engines = fleet.engines.len() as u64;
    let base = fleet.seen.look(|state| state.count());
    let creating = fleet.create_all(all);
    let watching = async {
        let routable = fleet.seen.until("all endpoints", |state| state.count() == base + complete).await;
        let last = fleet.seen.until("all statuses", |state| all.iter().all(|name| state.is_final(name, engines))).await;
        (routable, last)
    };
    let (begun, (routable, last)): (Instant, _) = tokio::join!(creating, watching);
    (routable - begun, last - begun)
}
