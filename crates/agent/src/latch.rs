//! When to say for the first time that all is there.

use std::collections::BTreeSet;
use std::time::Duration;

/// The longest that anything is waited for: a slow or broken adapter must not keep the others away.
const LONGEST: Duration = Duration::from_secs(60);

/// A readiness that is armed at the start, and again for each new life of the engine, over what is wanted at that moment:
/// ready once each of those is loaded or refused, and after 60 s in any case. What is wanted later never takes it back, so
/// that nothing that is published to a ready pod alone can keep that pod from being ready. Pure: the time is an argument.
#[derive(Clone, Debug)]
pub struct Latch {
    armed: Duration,
    /// The life of the engine that it is armed for; none before the engine was first heard of.
    boot: Option<String>,
    /// What is waited for.
    waiting: BTreeSet<String>,
    open: bool,
}

/// An adapter as the latch sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is loaded, or will not be: nothing more comes of waiting.
    pub settled: bool,
}

impl Latch {
    /// Armed at `now` over `wanted`. Times are counted from any fixed moment.
    pub fn new(now: Duration, wanted: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let waiting: BTreeSet<String> = wanted.into_iter().map(Into::into).collect();
        let open = waiting.is_empty();
        Self { armed: now, boot: None, waiting, open }
    }

    /// Takes in how things are: which life the engine is in, where that is known, and everything that is wanted now.
    pub fn observe<'a>(&mut self, now: Duration, boot: Option<&str>, wanted: impl IntoIterator<Item = Wanted<'a>>) {
        let wanted: Vec<Wanted<'a>> = wanted.into_iter().collect();
        match (&self.boot, boot) {
            // The life that the first arming was for is heard of.
            (None, Some(boot)) => self.boot = Some(boot.to_owned()),
            (Some(old), Some(new)) if old != new => {
                self.boot = Some(new.to_owned());
                self.armed = now;
                self.open = false;
                self.waiting = wanted.iter().map(|wanted| wanted.name.to_owned()).collect();
            }
            _ => {}
        }
        if self.boot.is_some() {
            let pending = |name: &String| wanted.iter().any(|wanted| wanted.name == *name && !wanted.settled);
            self.waiting.retain(pending);
        }
        self.open |= self.waiting.is_empty() || now >= self.armed + LONGEST;
    }

    /// Whether it says ready.
    pub fn is_ready(&self) -> bool {
        self.open
    }

    /// What is waited for, while it is not ready.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().filter(|_| !self.open).map(String::as_str)
    }

    /// When it opens by itself; none once it is open.
    pub fn wake_at(&self) -> Option<Duration> {
        (!self.open).then_some(self.armed + LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn some(names: &[(&'static str, bool)]) -> Vec<Wanted<'static>> {
        names.iter().map(|(name, settled)| Wanted { name, settled: *settled }).collect()
    }

    #[test]
    fn it_opens_when_everything_known_at_the_start_is_loaded_or_refused() {
        let mut latch = Latch::new(at(0), ["a", "b"]);
        latch.observe(at(1), Some("1"), some(&[("a", true), ("b", false)]));
        assert!(!latch.is_ready());
        assert_eq!(latch.waiting().collect::<Vec<_>>(), ["b"]);
        latch.observe(at(2), Some("1"), some(&[("a", true), ("b", true)]));
        assert!(latch.is_ready());
    }

    #[test]
    fn i11_what_is_wanted_later_never_takes_it_back() {
        let mut latch = Latch::new(at(0), [""; 0]);
        assert!(latch.is_ready(), "with nothing to wait for there is nothing to wait for");
        latch.observe(at(1), Some("1"), some(&[("slow", false)]));
        latch.observe(at(9), None, some(&[("slow", false)]));
        assert!(latch.is_ready());
    }

    #[test]
    fn i11_a_slow_one_holds_it_up_for_a_minute_at_most() {
        let mut latch = Latch::new(at(5), ["slow"]);
        assert_eq!(latch.wake_at(), Some(at(65)));
        latch.observe(at(64), Some("1"), some(&[("slow", false)]));
        assert!(!latch.is_ready());
        latch.observe(at(65), Some("1"), some(&[("slow", false)]));
        assert!(latch.is_ready() && latch.wake_at().is_none());
        latch.observe(at(66), Some("1"), some(&[("slow", false)]));
        assert!(latch.is_ready());
    }

    #[test]
    fn each_new_life_of_the_engine_arms_it_over_what_is_wanted_then() {
        let mut latch = Latch::new(at(0), ["a"]);
        latch.observe(at(1), Some("1"), some(&[("a", true)]));
        latch.observe(at(2), Some("1"), some(&[("a", true), ("b", true)]));
        latch.observe(at(10), Some("2"), some(&[("a", false), ("b", false)]));
        assert_eq!(latch.waiting().collect::<Vec<_>>(), ["a", "b"]);
        latch.observe(at(11), Some("2"), some(&[("a", true), ("b", true)]));
        assert!(latch.is_ready());
        latch.observe(at(12), None, some(&[("a", false)]));
        assert!(latch.is_ready(), "an engine that does not answer has not begun another life");
        latch.observe(at(13), Some("2"), some(&[("a", false)]));
        assert!(latch.is_ready());
    }

    #[test]
    fn what_is_no_longer_wanted_is_not_waited_for() {
        let mut latch = Latch::new(at(0), ["a", "gone"]);
        latch.observe(at(1), Some("1"), some(&[("a", true)]));
        assert!(latch.is_ready());
    }

    #[test]
    fn an_engine_that_was_never_heard_of_settles_nothing() {
        let mut latch = Latch::new(at(0), ["a"]);
        latch.observe(at(1), None, some(&[("a", true)]));
        assert!(!latch.is_ready());
    }
}
