//! One figure, and what many of them come down to.

use std::time::Duration;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured; unique.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `ms`, `s`, `MiB`, `writes` and so on.
    pub unit: &'static str,
    /// The name of the row before it that it is compared with.
    pub against: Option<String>,
}

/// The rows so far, each told as it comes.
pub(super) struct Rows {
    tell: Box<dyn FnMut(&Row)>,
    names: Vec<String>,
}

impl Rows {
    pub(super) fn new(tell: impl FnMut(&Row) + 'static) -> Self {
        Self { tell: Box::new(tell), names: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &str, value: f64, unit: &'static str) {
        self.push(name, value, unit, None);
    }

    /// Compared with a row of the same unit; alone where that was not measured.
    pub(super) fn against(&mut self, name: &str, value: f64, unit: &'static str, against: &str) {
        let known = self.names.iter().any(|name| name == against);
        self.push(name, value, unit, known.then(|| against.to_owned()));
    }

    /// Median and 95th percentile in milliseconds, each against that of `against` where there is one.
    pub(super) fn spread(&mut self, name: &str, times: &[Duration], against: Option<&str>) {
        for (what, percent) in [("median", 50.0), ("p95", 95.0)] {
            let (name, value) = (format!("{name}, {what}"), millis(rank(times, percent)));
            match against {
                Some(against) => self.against(&name, value, "ms", &format!("{against}, {what}")),
                None => self.add(&name, value, "ms"),
            }
        }
    }

    fn push(&mut self, name: &str, value: f64, unit: &'static str, against: Option<String>) {
        self.names.push(name.to_owned());
        (self.tell)(&Row { name: name.to_owned(), value, unit, against });
    }
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The smallest of `times` that at least `percent` of them do not exceed.
fn rank(times: &[Duration], percent: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    let last = sorted.len().checked_sub(1).unwrap_or_else(|| panic!("nothing was measured"));
    sorted[rank.saturating_sub(1).min(last)]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_spread_is_of_times_that_were_measured() {
        let times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(rank(&times, 50.0), Duration::from_millis(50));
        assert_eq!(rank(&times, 95.0), Duration::from_millis(95));
        assert_eq!(rank(&times[..1], 50.0), Duration::from_millis(100));
    }

    #[test]
    fn a_row_is_compared_only_with_what_was_measured() {
        let told: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let mut rows = Rows::new({
            let told = told.clone();
            move |row| told.lock().unwrap_or_else(|error| error.into_inner()).push(row.against.clone())
        });
        rows.against("a", 1.0, "s", "b");
        rows.add("b", 1.0, "s");
        rows.against("c", 1.0, "s", "b");
        assert_eq!(*told.lock().unwrap_or_else(|error| error.into_inner()), [None, None, Some("b".to_owned())]);
    }
}
