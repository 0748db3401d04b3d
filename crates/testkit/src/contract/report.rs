//! What a run of the suite found.

use std::fmt;

/// One probe and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it belongs to: `load`, `completions`, …
    pub group: &'static str,
    /// What it checks, as a sentence.
    pub name: String,
    /// What was wrong; `None` where nothing was.
    pub failure: Option<String>,
}

/// The outcomes of one run, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was run against: version and address.
    pub target: String,
    /// One for each probe.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Number of probes that found what they expected.
    pub fn passed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.failure.is_none()).count()
    }

    /// The probes that did not.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.failure.is_some())
    }

    pub(super) fn add(&mut self, group: &'static str, name: impl Into<String>, result: Result<(), String>) {
        self.outcomes.push(Outcome { group, name: name.into(), failure: result.err() });
    }
}

/// The counts of each group, then every failure on lines of its own.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.outcomes.len() - self.passed();
        write!(f, "{}: {} of {} probes passed", self.target, self.passed(), self.outcomes.len())?;
        let mut groups: Vec<(&str, usize, usize)> = Vec::new();
        for outcome in &self.outcomes {
            let passed = usize::from(outcome.failure.is_none());
            match groups.iter_mut().find(|(group, ..)| *group == outcome.group) {
                Some((_, good, all)) => (*good, *all) = (*good + passed, *all + 1),
                None => groups.push((outcome.group, passed, 1)),
            }
        }
        for (index, (group, good, all)) in groups.iter().enumerate() {
            write!(f, "{}{group} {good}/{all}", if index == 0 { " (" } else { ", " })?;
        }
        f.write_str(if groups.is_empty() { "" } else { ")" })?;
        if failed > 0 {
            write!(f, "; {failed} failed:")?;
        }
        for outcome in self.failures() {
            write!(
                f,
                "\n  {}: {}\n    {}",
                outcome.group,
                outcome.name,
                outcome.failure.as_deref().unwrap_or_default()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_by_group_and_shows_what_failed() {
        let mut report = Report { target: "vLLM 0.32.0 at 127.0.0.1:1".into(), outcomes: Vec::new() };
        report.add("load", "a loads", Ok(()));
        report.add("load", "b loads", Err("expected 200".into()));
        report.add("unload", "a unloads", Ok(()));
        assert_eq!(
            report.to_string(),
            "vLLM 0.32.0 at 127.0.0.1:1: 2 of 3 probes passed (load 1/2, unload 1/1); 1 failed:\n  load: b loads\n    \
             expected 200"
        );
    }
}
