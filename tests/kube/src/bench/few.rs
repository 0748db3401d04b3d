//! One adapter on one engine, and one engine more: how soon a single change takes effect.

use std::time::Duration;

use super::bare;
use super::fleet::{Fleet, names};
use super::row::Rows;
use super::say;
use crate::Cluster;
use crate::audit::AuditEntry;
use crate::scene::{CONTROLLER, SYSTEM};

/// Adapters on every engine when an engine comes.
const ON_EVERY: usize = 10;
/// How often pods change: fewer than what the rest is measured with, since each takes longer.
const POD_RUNS: usize = 25;

pub(super) async fn measure(cluster: &Cluster, runs: usize, rows: &mut Rows) {
    one_adapter(cluster, runs, rows).await;
    pods(cluster, runs.min(POD_RUNS), rows).await;
}

/// A pause whose length differs from run to run, so that none is favoured by the rhythm of anything.
async fn pause(run: usize) {
    tokio::time::sleep(Duration::from_millis(60 + (run as u64 * 37) % 100)).await;
}

async fn one_adapter(cluster: &Cluster, runs: usize, rows: &mut Rows) {
    say("one adapter on one engine");
    let fleet = Fleet::start(cluster, 1).await;
    let address = fleet.address(0);
    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let name = format!("one-{run}");
        let begun = fleet.create(&name).await;
        let routable = fleet.seen.until("an endpoint", |state| state.has(&name, &address)).await;
        fleet.seen.until("the last status", |state| state.is_final(&name, 1)).await;
        pause(run).await;
        fleet.assert_every_phase(&name);
        let asked = fleet.delete(&name).await;
        let gone = fleet.seen.until("the adapter's end", |state| state.is_gone(&name)).await;
        assert!(fleet.held_by(0).await.is_empty(), "{name} is left on the engine");
        // The first one opens connections, and finds its engine not listed yet.
        if run > 0 {
            created.push(routable - begun);
            deleted.push(gone - asked);
        }
        pause(run).await;
    }
    rows.spread("create to routable, one adapter on one engine", &created, Some(bare::CREATE));
    rows.spread("delete to gone, one idle adapter on one engine", &deleted, Some(bare::DELETE));
    writes(cluster, &fleet, runs + 1, rows);
}

/// Writes from an adapter's creation to the last of it, by what they were on.
fn writes(cluster: &Cluster, fleet: &Fleet, adapters: usize, rows: &mut Rows) {
    let ours =
        |entry: &AuditEntry| entry.is_by(SYSTEM, CONTROLLER) && entry.is_write() && entry.namespace == fleet.namespace;
    let all: Vec<_> = cluster.audit().into_iter().filter(ours).collect();
    let refused: Vec<_> = all.iter().filter(|entry| entry.code >= 400).map(|entry| (&entry.uri, entry.code)).collect();
    assert!(refused.is_empty(), "writes were refused: {refused:?}");
    let mut per_adapter = |what: &str, of: &dyn Fn(&AuditEntry) -> bool| {
        let count = all.iter().filter(|entry| of(entry)).count() as f64;
        rows.add(&format!("{what} per adapter"), count / adapters as f64, "writes");
    };
    // The base model has a slice, too, which is no adapter's.
    let of_adapter = |entry: &AuditEntry| entry.name.starts_with("one-");
    per_adapter("status writes", &|entry| entry.subresource == "status");
    per_adapter("Service writes", &|entry| entry.resource == "services" && entry.verb != "delete");
    per_adapter("EndpointSlice writes", &|entry| {
        entry.resource == "endpointslices" && entry.verb != "delete" && of_adapter(entry)
    });
    per_adapter("finalizer writes", &|entry| entry.resource == "modeladapters" && entry.subresource.is_empty());
    per_adapter("deletions", &|entry| entry.verb == "delete");
    per_adapter("event writes", &|entry| entry.resource == "events");
}

async fn pods(cluster: &Cluster, runs: usize, rows: &mut Rows) {
    say("pods that come and go");
    let fleet = Fleet::start(cluster, 3).await;
    let all = names("ten", ON_EVERY);
    fleet.create_all(&all).await;
    fleet.seen.until("adapters on three engines", |state| all.iter().all(|name| state.is_final(name, 3))).await;

    let mut joined = Vec::new();
    for run in 0..runs {
        let mut engine = fleet.engine(&format!("late-{run}"), false).await;
        let address = engine.pod.address().ip().to_string();
        pause(run).await;
        let begun = std::time::Instant::now();
        engine.pod.set_ready(cluster, true).await;
        let routable =
            fleet.seen.until("adapters on it", |state| all.iter().all(|name| state.has(name, &address))).await;
        joined.push(routable - begun);
        fleet.seen.until("status", |state| all.iter().all(|name| state.is_final(name, 4))).await;
        engine.pod.delete(cluster).await;
        fleet.seen.until("status", |state| all.iter().all(|name| state.is_final(name, 3))).await;
    }
    rows.spread(&format!("a new pod's Ready to {ON_EVERY} adapters routable on it"), &joined, None);
    fleet.clear(&all).await;

    one_endpoint(fleet, runs, rows).await;
}

/// How soon an endpoint goes.
async fn one_endpoint(mut fleet: Fleet, runs: usize, rows: &mut Rows) {
    let cluster = fleet.cluster.clone();
    let name = "one-more".to_owned();
    fleet.create(&name).await;
    fleet.seen.until("an adapter on three engines", |state| state.is_final(&name, 3)).await;
    let address = fleet.address(0);
    let place = (name.clone(), address.clone());
    let (mut not_ready, mut died) = (Vec::new(), Vec::new());
    for run in 0..runs {
        for (kind, times) in [("NotReady", &mut not_ready), ("death", &mut died)] {
            // A slice that was just written gets its next addition at the end of a tenth of a second.
            pause(run).await;
            pause(run).await;
            let begun = std::time::Instant::now();
            let pod = &mut fleet.engines[0].pod;
            match kind {
                "NotReady" => pod.set_ready(&cluster, false).await,
                _ => pod.restarted(&cluster).await,
            }
            let is_later = |state: &super::seen::State| state.left.get(&place).is_some_and(|left| *left > begun);
            fleet.seen.until("the endpoint's end", is_later).await;
            let left = fleet.seen.look(|state| state.left[&place]);
            times.push(left - begun);
            if kind == "NotReady" {
                fleet.engines[0].pod.set_ready(&cluster, true).await;
            }
            fleet.seen.until("the endpoint's return", |state| state.has(&name, &address)).await;
        }
    }
    rows.spread("a pod's NotReady to its endpoint withdrawn", &not_ready, None);
    rows.spread("a container's other life in a pod's status to its endpoint withdrawn", &died, None);
    fleet.clear(&[name]).await;
}
