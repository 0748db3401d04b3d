//! One of three engines hangs.

use std::time::{Duration, Instant};

use longshore_testkit::Faults;

use super::fleet::{Fleet, names};
use super::row::Rows;
use super::say;
use crate::Cluster;

const ADAPTERS: usize = 20;
/// The one that hangs.
const HANGS: usize = 2;
/// Adapters that are deleted while it does.
const DELETED: usize = 5;
/// How often each is done: what differs between two runs of the same says how much a ratio means.
const RUNS: usize = 5;

pub(super) async fn measure(cluster: &Cluster, rows: &mut Rows) {
    say("an engine that hangs");
    let fleet = Fleet::start(cluster, 3).await;
    // Connections are open and engines listed before it counts.
    with(&fleet, "first").await;
    let (mut all_well, mut one_hangs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        all_well.push(with(&fleet, &format!("well-{run}")).await);
        fleet.set(HANGS, Faults { hang_load: true, ..Faults::default() }).await;
        let all = names(&format!("hang-{run}"), ADAPTERS);
        one_hangs.push(on_the_others(&fleet, &all).await);
        fleet.set(HANGS, Faults::default()).await;
        // What it was told to load meanwhile is loaded now, and then goes.
        fleet.seen.until("adapters on three engines", |state| all.iter().all(|name| state.is_final(name, 3))).await;
        fleet.clear(&all).await;
    }
    let alone = format!("{ADAPTERS} adapters routable on two of three engines");
    rows.spread(&alone, &all_well, None);
    rows.spread(&format!("{alone}, the third hangs on a load"), &one_hangs, Some(&alone));
    deletion(&fleet, rows).await;
}

async fn with(fleet: &Fleet, prefix: &str) -> Duration {
    let all = names(prefix, ADAPTERS);
    let time = on_the_others(fleet, &all).await;
    fleet.seen.until("adapters on three engines", |state| all.iter().all(|name| state.is_final(name, 3))).await;
    fleet.clear(&all).await;
    time
}

/// Creates adapters; how long until all of them are routable on the engines that never hang.
async fn on_the_others(fleet: &Fleet, all: &[String]) -> Duration {
    let others = [fleet.address(0), fleet.address(1)];
    let begun = Instant::now();
    let there =
        |state: &super::seen::State| all.iter().all(|name| others.iter().all(|address| state.has(name, address)));
    let (_, routable) = tokio::join!(fleet.create_all(all), fleet.seen.until("adapters on the others", there));
    routable - begun
}

async fn deletion(fleet: &Fleet, rows: &mut Rows) {
    say("a deletion while an engine hangs");
    let all = names("deleted", DELETED);
    fleet.create_all(&all).await;
    fleet.seen.until("adapters on three engines", |state| all.iter().all(|name| state.is_final(name, 3))).await;
    fleet.set(HANGS, Faults { hang_all: true, ..Faults::default() }).await;
    let begun = fleet.delete_all(&all).await;
    let gone = fleet.seen.until("the adapters' end", |state| all.iter().all(|name| state.is_gone(name))).await;
    rows.add(
        &format!("{DELETED} adapters deleted at once, one of three engines hangs"),
        (gone - begun).as_secs_f64(),
        "s",
    );
    for engine in [0, 1] {
        assert!(fleet.held_by(engine).await.is_empty(), "engine {engine} answers and still has some");
    }
    fleet.set(HANGS, Faults::default()).await;
    let woken = Instant::now();
    let unloaded = fleet.until_unloaded(HANGS, &all).await;
    rows.add("the engine answers again to nothing left on it", (unloaded - woken).as_secs_f64(), "s");
}
