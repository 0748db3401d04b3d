//! What the way through the router adds to a request.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::http::{Answer, Client};
use super::scene::{Engine, Up, ask};
use crate::bench::{Report, median};

/// Requests by each way, one after the other on one connection.
const REQUESTS: usize = 2000;

/// Requests that are not counted: connections are made, and code is read from the disk.
const WARM: usize = 200;

/// Asks an adapter that every engine has, in turns directly and through the router, so that whatever else the machine
/// does meets both alike.
pub(super) fn measure(up: &mut Up, engine: &Engine, report: &mut Report) -> Result<()> {
    const NAME: &str = "lora-0";
    let mut direct = Client::new(&engine.address)?;
    let (mut direct_times, mut routed_times) = (Vec::new(), Vec::new());
    for number in 0..WARM + REQUESTS {
        let one = timed(|| ask(&mut direct, NAME))?;
        let other = timed(|| up.ask(NAME))?;
        if number >= WARM {
            direct_times.push(one);
            routed_times.push(other);
        }
    }
    let middle = |values: &[f64]| median(values).context("nothing was measured");
    let name = "request to an engine, median";
    report.row(name, middle(&direct_times)?, "us")?;
    report.row_against("request through the router, median", middle(&routed_times)?, "us", name)
}

/// Microseconds until the whole answer is there.
fn timed(ask: impl FnOnce() -> Result<Answer>) -> Result<f64> {
    let begin = Instant::now();
    let answer = ask()?;
    let took = begin.elapsed().as_secs_f64() * 1e6;
    if answer.status != 200 {
        bail!("answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(took)
}
