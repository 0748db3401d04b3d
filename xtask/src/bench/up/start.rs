//! From the start to every adapter on every engine, with and without an engine that hangs.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::scene::{ADAPTERS, ENGINES, Engine, Hand, Scene, millis};
use crate::bench::{Report, median};

/// For one start; it takes a tenth of a second.
const BOUND: Duration = Duration::from_secs(60);
/// Between two requests for an adapter that is not answered yet.
const PAUSE: Duration = Duration::from_millis(1);

/// Measures that often, each time with new engines and an empty store.
pub(super) fn measure(scene: &Scene, runs: u32, report: &mut Report) -> Result<()> {
    let manifests = scene.manifests("start")?;
    let adapters = scene.adapters()?;
    let (mut by_hand, mut whole, mut hung) = (Vec::new(), Starts::default(), Starts::default());
    for _ in 0..runs {
        by_hand.push(load_by_hand(&scene.engines(ENGINES)?, &adapters)?);
        whole.push(scene, &scene.engines(ENGINES)?, &manifests, ENGINES)?;
        let engines = scene.engines(ENGINES)?;
        engines[0].hang()?;
        hung.push(scene, &engines, &manifests, ENGINES - 1)?;
    }
    let middle = |values: &[f64]| median(values).context("nothing was measured");
    let hand = format!("load by hand: {ADAPTERS} adapters on each of {ENGINES} engines at once");
    report.row(&hand, middle(&by_hand)?, "ms")?;
    let answered = format!("start until {ADAPTERS} adapters answer, {ENGINES} engines");
    report.row_against(&answered, middle(&whole.answered)?, "ms", &hand)?;
    let others = format!("start until {ADAPTERS} adapters answer, one of {ENGINES} engines hangs");
    report.row_against(&others, middle(&hung.answered)?, "ms", &answered)?;
    let shown = format!("start until {ADAPTERS} adapters are shown on {ENGINES} engines");
    report.row_against(&shown, middle(&whole.shown)?, "ms", &hand)?;
    let others = format!("start until {ADAPTERS} adapters are shown on {} engines, one more hangs", ENGINES - 1);
    report.row_against(&others, middle(&hung.shown)?, "ms", &shown)
}

/// Times of several starts in milliseconds.
#[derive(Default)]
struct Starts {
    /// Until every adapter has answered a request through the router.
    answered: Vec<f64>,
    /// Until the fleet API shows each on every engine that answers. Where one does not, it waits a moment before it shows
    /// anything, so that routers elsewhere do not take a fleet that is half known for the whole.
    shown: Vec<f64>,
}

impl Starts {
    fn push(&mut self, scene: &Scene, engines: &[Engine], manifests: &Path, answering: usize) -> Result<()> {
        let begin = Instant::now();
        let mut up = scene.up(engines.iter().map(|engine| engine.address.as_str()), manifests)?;
        for number in 0..ADAPTERS {
            let name = format!("lora-{number}");
            while up.served_by(&name)?.is_none() {
                if begin.elapsed() > BOUND {
                    bail!("{name} has not been answered within {} s", BOUND.as_secs());
                }
                thread::sleep(PAUSE);
            }
        }
        self.answered.push(millis(begin));
        up.until_ready(ADAPTERS, answering)?;
        self.shown.push(millis(begin));
        Ok(())
    }
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
