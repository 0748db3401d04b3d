//! `bench tidy`: tidy runs in every test run, so what it costs is known.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Options, Report, median};
use crate::tidy;

pub(super) fn run(options: &Options) -> Result<Report> {
    let mut by_rule: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    let mut whole = Vec::new();
    for _ in 0..options.runs {
        let (_findings, times) = tidy::check_timed(options.workspace.root())?;
        whole.push(times.iter().map(|(_, time)| time.as_secs_f64() * 1e3).sum());
        for (rule, time) in times {
            by_rule.entry(rule).or_default().push(time.as_secs_f64() * 1e3);
        }
    }
    let middle = |values: &[f64]| median(values).context("nothing was measured");
    let mut report = Report::new("tidy");
    report.row("all", middle(&whole)?, "ms")?;
    for (rule, values) in &by_rule {
        report.row_against(rule, middle(values)?, "ms", "all")?;
    }
    Ok(report)
}
