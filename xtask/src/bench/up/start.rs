//! From the start to every adapter on every engine, with and without an engine that hangs.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::scene::{ADAPTERS, ENGINES, Engine, Hand, Scene, millis};
use crate::bench::{Report, median};

/// Measures that often, each time with new engines and an empty store.
pub(super) fn measure(scene: &Scene, runs: u32, report: &mut Report) -> Result<()> {
    let manifests = scene.manifests("start")?;
    let adapters = scene.adapters()?;
    let (mut by_hand, mut whole, mut hung) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        by_hand.push(load_by_hand(&scene.engines(ENGINES)?, &adapters)?);
        whole.push(start(scene, &scene.engines(ENGINES)?, &manifests, ENGINES)?);
        let engines = scene.engines(ENGINES)?;
        engines[0].hang()?;
        hung.push(start(scene, &engines, &manifests, ENGINES - 1)?);
    }
    let middle = |values: &[f64]| median(values).context("nothing was measured");
    let hand = format!("load by hand: {ADAPTERS} adapters on each of {ENGINES} engines at once");
    report.row(&hand, middle(&by_hand)?, "ms")?;
    let all = format!("start to {ADAPTERS} adapters on {ENGINES} engines");
    report.row_against(&all, middle(&whole)?, "ms", &hand)?;
    let others = format!("start to {ADAPTERS} adapters on {} engines, one more hangs", ENGINES - 1);
    report.row_against(&others, middle(&hung)?, "ms", &all)
}

fn start(scene: &Scene, engines: &[Engine], manifests: &Path, answering: usize) -> Result<f64> {
    let begin = Instant::now();
    let mut up = scene.up(engines.iter().map(|engine| engine.address.as_str()), manifests)?;
    up.until_ready(ADAPTERS, answering)?;
    let took = millis(begin);
    for number in 0..ADAPTERS {
        let name = format!("lora-{number}");
        if up.served_by(&name)?.is_none() {
            bail!("{name} is said to be ready, and is not answered");
        }
    }
    Ok(took)
}

/// Each engine by a thread of its own, as Longshore loads on all engines at once and on each one by one.
fn load_by_hand(engines: &[Engine], adapters: &[(String, PathBuf)]) -> Result<f64> {
    let mut hands = engines.iter().map(Hand::on).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        let load_all = |hand: &mut Hand| -> Result<()> {
            adapters.iter().try_for_each(|(name, path)| hand.load(name, path))?;
            adapters.last().map_or(Ok(()), |(name, _)| hand.see(name))
        };
        let threads: Vec<_> = hands.iter_mut().map(|hand| scope.spawn(move || load_all(hand))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread has failed"),
        })
    })?;
    Ok(millis(begin))
}
