//! What the controller costs and how soon what happens takes effect: see `cargo xtask bench kube`.
//!
//! It is measured as its users run it: from `deploy/`, in a pod, one replica that holds the Lease, with its own rights.
//! What is seen is seen by watches of somebody else. Engines are simulated and live in this process, so that they cost
//! little and answer at once; pods are written by the bench, so that the moment of a change is known.

mod bare;
mod few;
mod fleet;
mod hang;
mod idle;
mod many;
mod process;
mod relay;
mod row;
mod seen;

use std::time::Duration;

use serde_json::json;

pub use row::Row;

use crate::Cluster;
use crate::scene::{CONTROLLER, SYSTEM};
use row::Rows;

/// A guard against hanging: far more than anything in here takes.
const SOON: Duration = Duration::from_secs(120);

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often what takes milliseconds is done.
    pub runs: usize,
    /// How long the controller is watched while nothing happens.
    pub idle: Duration,
    /// Further flags of the controller, such as a log level.
    pub flags: Vec<String>,
    /// Only these parts; all where there is none.
    pub only: Vec<String>,
}

/// The parts, in their order.
pub const PARTS: &[&str] = &["bare", "few", "many", "hang"];

impl Options {
    fn includes(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }
}

/// Measures in the kit's cluster in which this process was started. `tell` gets each row as soon as it is known.
///
/// # Panics
/// Where anything takes far too long or ends otherwise than it must: a figure of something that went wrong means nothing.
pub async fn run(options: &Options, tell: impl FnMut(&Row) + 'static) {
    let cluster = Cluster::of_the_kit().await;
    let mut rows = Rows::new(tell);
    install(&cluster, options, 0).await;
    if options.includes("bare") {
        bare::measure(&cluster, options.runs, &mut rows).await;
    }
    install(&cluster, options, 1).await;
    if options.includes("few") {
        few::measure(&cluster, options.runs, &mut rows).await;
    }
    if options.includes("many") {
        many::measure(&cluster, options.idle, &mut rows).await;
    }
    if options.includes("hang") {
        hang::measure(&cluster, &mut rows).await;
    }
}

/// `deploy/` with so many controllers and without routers, whose watches would be one more load on the same processors.
async fn install(cluster: &Cluster, options: &Options, controllers: u32) {
    let documents = cluster
        .rendered("deploy", |document| {
            if document["kind"] != "Deployment" {
                return;
            }
            let is_controller = document["metadata"]["name"] == CONTROLLER;
            document["spec"]["replicas"] = json!(if is_controller { controllers } else { 0 });
            let args = document["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut();
            if let Some(args) = args.filter(|_| is_controller) {
                args.extend(options.flags.iter().map(|flag| json!(flag)));
            }
        })
        .await;
    cluster.apply(&documents).await;
    cluster.rolled_out(SYSTEM).await;
}

/// Says on standard error what is being done: standard output is the rows'.
#[allow(clippy::print_stderr, reason = "progress goes there")]
fn say(what: &str) {
    eprintln!("{what}");
}
