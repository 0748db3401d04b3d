//! How far a fetch has come, on a terminal: one line on standard error that is drawn over and over.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use longshore_artifacts::Progress;
use tokio::time::Instant;

use super::units;
use crate::table::{cut, one_line};

/// Between two pictures. A person sees no more.
const FRAME: Duration = Duration::from_millis(200);
/// The rate is that of this time past: short enough to show that a source has slowed down, long enough not to jump.
const WINDOW: Duration = Duration::from_secs(5);
/// Columns of the bar itself.
const BAR: usize = 24;

/// The line, if there is a terminal to draw it on.
pub struct Bar<'p> {
    progress: &'p Progress,
    begun: Instant,
    on: bool,
    drawn: Cell<bool>,
}

impl<'p> Bar<'p> {
    /// Shows `progress`, if that is `wanted` and standard error is a terminal.
    pub fn new(progress: &'p Progress, wanted: bool) -> Self {
        Self { progress, begun: Instant::now(), on: wanted && stderr().is_terminal(), drawn: Cell::new(false) }
    }

    /// Draws for as long as it is asked.
    pub async fn draw(&self) -> Infallible {
        let mut meter = Meter::default();
        loop {
            // First a rest: what is done at once needs no bar.
            tokio::time::sleep(FRAME).await;
            if !self.on {
                return std::future::pending().await;
            }
            // The last column stays free, since some terminals wrap behind it.
            let (bytes, total) = (self.progress.bytes(), self.progress.total());
            let line = meter.line(self.begun.elapsed(), bytes, total, columns() - 1);
            // A terminal that has gone away is no reason to fail.
            let _ = write!(stderr(), "\r\x1b[K{line}").and_then(|()| stderr().flush());
            self.drawn.set(true);
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.drawn.take() {
            let _ = write!(stderr(), "\r\x1b[K").and_then(|()| stderr().flush());
        }
    }

    /// One line that stays. It may hold text of others.
    pub fn say(&self, line: &str) {
        self.clear();
        crate::complain(&one_line(line));
    }

    /// What it came to: `bytes` are on disk.
    pub fn summary(&self, bytes: u64) -> String {
        let (came, time) = (self.progress.bytes(), self.begun.elapsed());
        let read = if came > 0 && came != bytes { format!(", read as {}", units::bytes(came)) } else { String::new() };
        format!("{}{read} in {} ({}/s)", units::bytes(bytes), units::time(time), units::bytes(rate(came, time)))
    }
}

/// Columns of the terminal that standard error is; some say that they have none.
fn columns() -> usize {
    let columns = rustix::termios::tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
    if columns == 0 { 80 } else { usize::from(columns) }
}

/// Bytes per second.
fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// What was seen lately, for the rate.
#[derive(Debug, Default)]
struct Meter(VecDeque<(Duration, u64)>);

impl Meter {
    /// The line at `now`, which only grows, in at most `width` columns.
    fn line(&mut self, now: Duration, bytes: u64, total: Option<u64>, width: usize) -> String {
        // A new attempt begins at nothing.
        if self.0.back().is_some_and(|(_, before)| *before > bytes) {
            self.0.clear();
        }
        self.0.push_back((now, bytes));
        // One that is older stays, so that a source that has stopped is seen to have.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let (since, first) = self.0.front().copied().unwrap_or((now, bytes));
        let rate = rate(bytes - first, now.saturating_sub(since));
        if bytes == 0 && total.is_none() {
            return cut("asking the source …", width);
        }
        let speed = if rate == 0 { String::new() } else { format!("  {}/s", units::bytes(rate)) };
        let Some(total) = total.filter(|total| *total >= bytes) else {
            return cut(&format!("{}{speed}", units::bytes(bytes)), width);
        };
        let left = match total - bytes {
            0 => "  checking …".to_owned(),
            left if rate > 0 => format!("  {} left", units::about(Duration::from_secs(left.div_ceil(rate)))),
            _ => String::new(),
        };
        let percent = u128::from(bytes) * 100 / u128::from(total.max(1));
        let figures = format!("{percent:3}%  {} of {}{speed}{left}", units::bytes(bytes), units::bytes(total));
        let bar = format!("[{:-<BAR$}]", "#".repeat(usize::try_from(percent).unwrap_or(100) * BAR / 100));
        let whole = format!("{bar} {figures}");
        if whole.chars().count() <= width { whole } else { cut(figures.trim_start(), width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_line_shows_how_much_of_how_much_how_fast_and_how_long_yet() {
        let mut meter = Meter::default();
        let mut at = |second, mb, total: Option<u64>| meter.line(seconds(second), mb * MB, total.map(|mb| mb * MB), 79);
        let lines = [
            at(0, 0, None),
            at(1, 0, Some(84)),
            at(2, 12, Some(84)),
            at(4, 36, Some(84)),
            at(8, 84, Some(84)),
            at(9, 0, Some(84)),
            at(10, 1, None),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        asking the source …
        [------------------------]   0%  0 B of 84.0 MB
        [###---------------------]  14%  12.0 MB of 84.0 MB  6.0 MB/s  12 s left
        [##########--------------]  42%  36.0 MB of 84.0 MB  9.0 MB/s  6 s left
        [########################] 100%  84.0 MB of 84.0 MB  12.0 MB/s  checking …
        [------------------------]   0%  0 B of 84.0 MB
        1.0 MB  1.0 MB/s
        ");
    }

    #[test]
    fn a_source_that_has_stopped_is_seen_to_have() {
        let mut meter = Meter::default();
        meter.line(seconds(0), 0, Some(10 * MB), 79);
        meter.line(seconds(1), 5 * MB, Some(10 * MB), 79);
        let lines: Vec<String> = (2..9).map(|at| meter.line(seconds(at), 5 * MB, Some(10 * MB), 79)).collect();
        assert!(!lines.last().unwrap().contains("/s"), "{lines:#?}");
    }

    #[test]
    fn a_narrow_terminal_gets_the_figures_and_none_gets_too_much() {
        for width in [0, 1, 10, 30, 50, 79] {
            let mut meter = Meter::default();
            meter.line(seconds(0), 0, Some(84 * MB), width);
            let line = meter.line(seconds(2), 12 * MB, Some(84 * MB), width);
            assert!(line.chars().count() <= width.max(1), "{width}: {line}");
            assert_eq!(line.starts_with('['), width == 79, "{line}");
        }
    }

    #[test]
    fn the_bar_does_not_come_and_go_with_the_figures_beside_it() {
        for (bytes, rate) in [(100 * MB - 1, 1), (999_900_000, 900), (500 * MB, 40_000), (999 * MB, 9 * MB)] {
            let mut meter = Meter::default();
            meter.line(seconds(0), bytes - rate, Some(1000 * MB - 100_000), 79);
            let line = meter.line(seconds(1), bytes, Some(1000 * MB - 100_000), 79);
            assert!(line.starts_with('['), "{line}");
        }
    }

    #[test]
    fn more_than_was_announced_is_no_reason_to_stumble() {
        assert_eq!(Meter::default().line(seconds(1), 2 * MB, Some(MB), 79), "2.0 MB");
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
