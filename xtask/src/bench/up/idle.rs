//! What it costs while nothing happens: memory, CPU, and requests to the engines.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::counter::Counter;
use super::scene::{ADAPTERS, ENGINES, Scene, Up};
use crate::bench::Report;
use crate::bench::process::Memory;

/// What comes after everything is ready: the last status writes, and files that are no longer needed.
const SETTLE: Duration = Duration::from_secs(5);

/// The length that every figure is given for.
const MINUTE: Duration = Duration::from_secs(60);

/// Watches two of them at once, each with engines of its own: one has no adapters, and is what the other is compared
/// with.
pub(super) fn measure(scene: &Scene, window: Duration, report: &mut Report) -> Result<()> {
    let (engines, others) = (scene.engines(ENGINES)?, scene.engines(ENGINES)?);
    let counter = Counter::before(&engines[0].address)?;
    let counted = counter.address();
    let addresses = engines.iter().skip(1).map(|engine| engine.address.as_str()).chain([counted.as_str()]);
    let mut up = scene.up(addresses, &scene.manifests("idle")?)?;
    let mut bare = scene.up(others.iter().map(|engine| engine.address.as_str()), &scene.folder("nothing")?)?;
    up.until_ready(ADAPTERS, ENGINES)?;
    bare.until_up()?;
    thread::sleep(SETTLE);

    let before = (cpu(&bare)?, cpu(&up)?);
    counter.take()?;
    thread::sleep(window);
    let requests = counter.take()?;
    let used = (cpu(&bare)? - before.0, cpu(&up)? - before.1);

    let (bare, up) = (bare.process.memory()?, up.process.memory()?);
    for (what, of) in [("RSS", (|memory| memory.rss) as fn(Memory) -> u64), ("PSS", |memory| memory.pss)] {
        let alone = format!("idle {what}, no adapters");
        report.row(&alone, mebibytes(of(bare)), "MiB")?;
        report.row_against(&format!("idle {what}, {ADAPTERS} adapters"), mebibytes(of(up)), "MiB", &alone)?;
    }

    let per = per_minute(window);
    let scaled = |value: f64| value * MINUTE.as_secs_f64() / window.as_secs_f64();
    let alone = format!("idle CPU {per}, no adapters");
    report.row(&alone, scaled(used.0), "s")?;
    let with = format!("idle CPU {per}, {ADAPTERS} adapters");
    // The kernel counts in steps of 10 ms: a short window may show nothing at all.
    if used.0 > 0.0 {
        report.row_against(&with, scaled(used.1), "s", &alone)?;
    } else {
        report.row(&with, scaled(used.1), "s")?;
    }
    for (request, count) in requests {
        report.row(&format!("{request}, one engine, {per}"), scaled(count as f64), "requests")?;
    }
    Ok(())
}

fn cpu(up: &Up) -> Result<f64> {
    Ok(up.process.cpu_time()?.as_secs_f64())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `per 60 s`, and of a shorter or longer look also how long that was.
fn per_minute(window: Duration) -> String {
    if window == MINUTE { "per 60 s".to_owned() } else { format!("per 60 s (scaled from {} s)", window.as_secs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_was_scaled_says_so() {
        assert_eq!(per_minute(Duration::from_secs(60)), "per 60 s");
        assert_eq!(per_minute(Duration::from_secs(10)), "per 60 s (scaled from 10 s)");
    }
}
