//! `bench up`: what `longshore up` costs at rest, and how soon what it is told takes effect.
//!
//! It is measured as its users run it: a process of the release build, three simulated engines that are processes of
//! their own, manifests and adapters in files, requests over TCP. Engines that answer in microseconds leave nothing to
//! hide behind, so the ratios are the worst there can be: with a real engine the baseline grows and the rest does not.

mod change;
mod counter;
mod http;
mod idle;
mod request;
mod scene;
mod start;

use anyhow::{Context, Result};

use self::scene::{ADAPTERS, ENGINES, Scene};
use super::{Options, Report};

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("up");
    let scene = Scene::new(options)?;

    eprintln!("idle, for {} s", options.idle.as_secs());
    idle::measure(&scene, options.idle, &mut report).context("idle")?;

    {
        let engines = scene.engines(ENGINES)?;
        let manifests = scene.manifests("change")?;
        let mut up = scene.up(engines.iter().map(|engine| engine.address.as_str()), &manifests)?;
        up.until_ready(ADAPTERS, ENGINES)?;
        eprintln!("requests");
        request::measure(&mut up, &engines[0], &mut report).context("requests")?;
        eprintln!("changes");
        change::measure(&scene, &mut up, &manifests, &mut report).context("changes")?;
    }

    eprintln!("starts");
    start::measure(&scene, options.runs, &mut report).context("starts")?;
    Ok(report)
}
