//! When to look again at what.

use std::collections::{BTreeMap, BTreeSet};

use longshore_types::Timestamp;

/// A set of wake-ups, at most one per thing: the earliest that was asked for. Whoever is woken asks again for what is
/// still to come, since later wake-ups for the same thing were not kept.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K: Ord + Clone> Timers<K> {
    pub(crate) fn new() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Wakes `key` at `at`, or earlier where that was asked for before.
    pub(crate) fn wake(&mut self, key: K, at: Timestamp) {
        if let Some(&earlier) = self.by_key.get(&key) {
            if earlier <= at {
                return;
            }
            self.by_time.remove(&(earlier, key.clone()));
        }
        self.by_time.insert((at, key.clone()));
        self.by_key.insert(key, at);
    }

    /// Takes out one key that is due.
    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        let (at, _) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_wake_up_wins_and_comes_once() {
        let at = Timestamp::from_millis;
        let mut timers = Timers::new();
        timers.wake("a", at(10));
        timers.wake("a", at(5));
        timers.wake("a", at(20));
        timers.wake("b", at(7));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(8)), Some("a"));
        assert_eq!(timers.pop_due(at(8)), Some("b"));
        assert_eq!(timers.pop_due(at(100)), None);
        assert_eq!(timers.next(), None);
    }
}
