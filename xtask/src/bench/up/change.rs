//! How soon a change of files takes effect: an adapter is declared, changed twice and taken away, again and again.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::scene::{ADAPTERS, ENGINES, Engine, Hand, Scene, Up, declare, manifest, millis, until};
use crate::bench::{Report, median, percentile};

/// How often.
const CHANGES: u16 = 50;

/// The artifacts of the adapters that come and go are numbered from here.
const FIRST: u16 = 1000;

/// Between two requests that ask whether it is so yet. Short against everything that is measured, and long enough that
/// asking does not fill a processor.
const LOOK: Duration = Duration::from_millis(2);

/// Requests to the router for each question to the fleet API, which is the larger answer.
const SELDOM: usize = 10;

/// How often files are looked at at most, so how far the moments of the changes are spread: a change may come right after
/// a look or right before one.
const SPREAD: Duration = Duration::from_secs(1);

/// All that was measured, in milliseconds.
#[derive(Default)]
struct Times {
    added: Vec<f64>,
    pointed: Vec<f64>,
    replaced: Vec<f64>,
    deleted: Vec<f64>,
    hand: ByHand,
}

/// The same by hand, on engines of its own.
#[derive(Default)]
struct ByHand {
    added: Vec<f64>,
    changed: Vec<f64>,
    deleted: Vec<f64>,
}

/// Measures on `up`, which watches `manifests` and has every adapter ready.
pub(super) fn measure(scene: &Scene, up: &mut Up, manifests: &Path, report: &mut Report) -> Result<()> {
    let engines = scene.engines(ENGINES)?;
    let mut times = Times::default();
    for round in 0..CHANGES {
        if round % 10 == 0 {
            eprintln!("  change {round} of {CHANGES}");
        }
        one(scene, up, manifests, round, &mut times).with_context(|| format!("in round {round}"))?;
        by_hand(scene, &engines, round, &mut times.hand).with_context(|| format!("by hand, in round {round}"))?;
    }
    let hand = "add by hand: load and list on one engine";
    rows(report, hand, &times.hand.added, &[("add: manifest to first answer", &times.added)])?;
    let hand = format!("change by hand: unload, load and list on {ENGINES} engines");
    let changes = [
        ("change: artifactURL to only new answers", &times.pointed),
        ("change: files to only new answers", &times.replaced),
    ];
    rows(report, &hand, &times.hand.changed, &changes)?;
    let hand = format!("delete by hand: unload and list on {ENGINES} engines");
    rows(report, &hand, &times.hand.deleted, &[("delete: manifest to 404", &times.deleted)])
}

fn rows(report: &mut Report, hand: &str, by_hand: &[f64], measured: &[(&str, &Vec<f64>)]) -> Result<()> {
    let middle = |values: &[f64]| median(values).context("nothing was measured");
    report.row(hand, middle(by_hand)?, "ms")?;
    for (name, values) in measured {
        report.row_against(&format!("{name}, median"), middle(values)?, "ms", hand)?;
        let late = percentile(values, 95.0).context("nothing was measured")?;
        report.row_against(&format!("{name}, p95"), late, "ms", hand)?;
    }
    Ok(())
}

/// One adapter's life.
fn one(scene: &Scene, up: &mut Up, manifests: &Path, round: u16, times: &mut Times) -> Result<()> {
    let name = format!("bench-{round}");
    let number = FIRST + 3 * round;
    let (first, second, third) = (scene.adapter(number)?, scene.adapter(number + 1)?, scene.adapter(number + 2)?);
    let mut turn = 0;
    let mut wait = || {
        thread::sleep(moment(4 * usize::from(round) + turn));
        turn += 1;
    };

    wait();
    let begin = declare(manifests, &name, &first)?;
    let mut digest = until("the first answer", LOOK, || up.served_by(&name))?;
    times.added.push(millis(begin));
    up.until_ready(ADAPTERS + 1, ENGINES)?;

    wait();
    let begin = declare(manifests, &name, &second)?;
    let (took, new) = until_only_new(up, &name, &digest, begin)?;
    times.pointed.push(took);
    digest = new;

    wait();
    let old = scene.path("adapters/old");
    let begin = Instant::now();
    fs::rename(&second, &old)?;
    fs::rename(&third, &second)?;
    times.replaced.push(until_only_new(up, &name, &digest, begin)?.0);
    fs::remove_dir_all(&old)?;

    wait();
    let begin = Instant::now();
    fs::remove_file(manifest(manifests, &name))?;
    until("404", LOOK, || Ok((up.ask(&name)?.status == 404).then_some(())))?;
    times.deleted.push(millis(begin));
    up.until_ready(ADAPTERS, ENGINES)
}

/// Asks until every engine has been changed over. Returns the milliseconds from `begin` to the first answer by other bytes
/// than `old` that was followed by no answer of the old ones, and the digest that gave it.
///
/// The router draws two engines and takes the less busy one: as long as one of three has the old bytes, every third
/// answer is by them, so the last of those is not far from the moment when the last engine was changed.
fn until_only_new(up: &mut Up, name: &str, old: &str, begin: Instant) -> Result<(f64, String)> {
    let mut new: Option<(f64, String)> = None;
    let mut asked = 0;
    until("only new answers", LOOK, || {
        match up.served_by(name)? {
            Some(digest) if digest == old => new = None,
            Some(digest) => new = new.take().or_else(|| Some((millis(begin), digest))),
            None => {}
        }
        asked += 1;
        if asked % SELDOM != 0 || new.is_none() {
            return Ok(None);
        }
        let adapters = up.adapters()?;
        let endpoints = adapters.iter().filter(|adapter| adapter["name"] == name).flat_map(endpoints);
        let changed = endpoints.filter(|digest| !digest.contains(old)).count();
        Ok(if changed == ENGINES { new.take() } else { None })
    })
}

/// The digests that engines are confirmed to hold.
fn endpoints(adapter: &serde_json::Value) -> impl Iterator<Item = &str> {
    adapter["endpoints"].as_array().into_iter().flatten().filter_map(|endpoint| endpoint["digest"].as_str())
}

fn by_hand(scene: &Scene, engines: &[Engine], round: u16, times: &mut ByHand) -> Result<()> {
    let (first, second) = (scene.adapter(FIRST - 2)?, scene.adapter(FIRST - 1)?);
    let name = format!("hand-{round}");
    let mut hands = engines.iter().map(Hand::on).collect::<Result<Vec<_>>>()?;
    for (position, hand) in hands.iter_mut().enumerate() {
        let begin = Instant::now();
        hand.load(&name, &first)?;
        hand.see(&name)?;
        // One engine is enough for a first answer.
        if position == 0 {
            times.added.push(millis(begin));
        }
    }
    let begin = Instant::now();
    for hand in &mut hands {
        hand.unload(&name)?;
        hand.load(&name, &second)?;
        hand.see(&name)?;
    }
    times.changed.push(millis(begin));
    let begin = Instant::now();
    for hand in &mut hands {
        hand.unload(&name)?;
        hand.miss(&name)?;
    }
    times.deleted.push(millis(begin));
    Ok(())
}

/// How long to wait before the change with this number: by steps that share no measure with [`SPREAD`], so that the
/// changes come at every moment between two looks alike, and in each run at the same ones.
fn moment(number: usize) -> Duration {
    let spread = SPREAD.as_millis() as usize;
    Duration::from_millis((number * 619 % spread) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn changes_come_at_moments_that_are_spread_evenly() {
        let tenths: BTreeSet<_> = (0..20).map(|number| moment(number).as_millis() / 100).collect();
        assert_eq!(tenths.len(), 10, "{tenths:?}");
        assert!((0..1000).all(|number| moment(number) < SPREAD));
    }

    #[test]
    fn digests_are_read_from_where_an_adapter_is_served() {
        let adapter = json!({"name": "a", "endpoints": [{"digest": "sha256:1"}, {"digest": null}]});
        assert_eq!(endpoints(&adapter).collect::<Vec<_>>(), ["sha256:1"]);
    }
}
