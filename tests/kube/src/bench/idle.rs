//! What is done while nothing happens, and after a restart into a cluster that is as it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fleet::Fleet;
use super::process::Controller;
use super::relay::Relay;
use super::row::Rows;
use crate::Cluster;
use crate::audit::AuditEntry;
use crate::scene::{CONTROLLER, SYSTEM};

/// What comes after everything is loaded: the last events.
const SETTLE: Duration = Duration::from_secs(15);

/// What the figures are given for.
const MINUTE: Duration = Duration::from_secs(60);

pub(super) async fn measure(cluster: &Cluster, relay: &Relay, window: Duration, rows: &mut Rows) {
    tokio::time::sleep(SETTLE).await;
    let controller = Controller::of(cluster).await;
    let (cpu, listings, seen) = (controller.cpu_time(), relay.listings(), requests(cluster).len());
    tokio::time::sleep(window).await;
    let scaled = |value: f64| value * MINUTE.as_secs_f64() / window.as_secs_f64();
    let cpu = controller.cpu_time() - cpu;
    let listings = relay.listings() - listings;
    let during = requests(cluster).split_off(seen);
    let of = if window == MINUTE { "a minute".to_owned() } else { format!("a minute (from {} s)", window.as_secs()) };
    count("at rest", &of, &during, scaled, rows);
    rows.add(&format!("at rest, listings of one engine, {of}"), scaled(listings as f64), "requests");
    rows.add(&format!("at rest, CPU, {of}"), scaled(cpu.as_secs_f64()), "s");
    rows.add("at rest, RSS", controller.resident(false), "MiB");
    rows.add("at most, RSS", controller.resident(true), "MiB");
}

/// Another controller takes over a cluster in which nothing is to be done.
pub(super) async fn restart(cluster: &Cluster, fleet: &Fleet, all: &[String], rows: &mut Rows) {
    let before = fleet.loads();
    let seen = requests(cluster).len();
    let former = Controller::of(cluster).await;
    cluster.kubectl(&["delete", "pod", "--namespace", SYSTEM, &former.pod]).await.expect_success();
    cluster.rolled_out(SYSTEM).await;
    tokio::time::sleep(SETTLE).await;
    let controller = Controller::of(cluster).await;
    assert_ne!(former.pod, controller.pod, "another pod");
    count("a restart", "until 15 s later", &requests(cluster).split_off(seen), |value| value, rows);
    rows.add("a restart, loads and unloads", (fleet.loads() - before) as f64, "requests");
    rows.add("a restart, RSS", controller.resident(false), "MiB");
    let engines = fleet.engines.len() as u64;
    let good = fleet.seen.look(|state| all.iter().all(|name| state.is_final(name, engines)));
    assert!(good, "everything is still there");
}

/// What the controller has asked for so far, watches that go on included.
fn requests(cluster: &Cluster) -> Vec<AuditEntry> {
    cluster.audit().into_iter().filter(|entry| entry.is_by(SYSTEM, CONTROLLER)).collect()
}

fn count(what: &str, of: &str, entries: &[AuditEntry], scaled: impl Fn(f64) -> f64, rows: &mut Rows) {
    let (lease, others): (Vec<_>, Vec<_>) =
        entries.iter().filter(|entry| entry.is_write()).partition(|entry| entry.resource == "leases");
    // Who asks for the fleet is asked about; that changes nothing.
    let others: Vec<_> = others.into_iter().filter(|entry| !entry.resource.ends_with("reviews")).collect();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &others {
        *kinds.entry(format!("{} {}/{} {}", entry.verb, entry.resource, entry.subresource, entry.name)).or_default() +=
            1;
    }
    if !kinds.is_empty() {
        super::say(&format!("{what}: {kinds:?}"));
    }
    rows.add(&format!("{what}, writes of the Lease, {of}"), scaled(lease.len() as f64), "writes");
    rows.add(&format!("{what}, all other writes, {of}"), scaled(others.len() as f64), "writes");
}
