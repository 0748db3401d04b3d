//! What is known of tokens.

use std::collections::HashMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// How long a good token is not asked about again. A revoked one is let in for this long at most.
const GOOD: Duration = Duration::from_secs(60);
/// The same for a bad one: short, since an account may just have been allowed, and long enough that a client that tries
/// again and again is not passed on to the API server each time.
const BAD: Duration = Duration::from_secs(5);
/// How long a good token stays good while nobody can be asked.
const STALE: Duration = Duration::from_secs(300);
/// Tokens that are remembered, at about 100 bytes. There are as many as routers and people, each with a new one an hour.
const CAPACITY: usize = 1024;

/// A token's hash: the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// One of `count`, as good as drawn.
    pub(super) fn lot(&self, count: usize) -> usize {
        usize::from(self.0[0]) % count
    }
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Somebody's who may ask.
    Good,
    /// Somebody's who may not.
    NotAllowed(String),
    /// Nobody's.
    Nobody,
}

struct Entry {
    known: Known,
    at: Instant,
}

impl Entry {
    /// Whether it says anything more, were it asked for the last time.
    fn is_dead(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= if self.known == Known::Good { STALE } else { BAD }
    }
}

/// What was learnt of tokens, as long as it is of use, and no more than fits.
#[derive(Default)]
pub(super) struct Cache(HashMap<Key, Entry>);

impl Cache {
    /// What needs no asking.
    pub(super) fn fresh(&self, key: Key, now: Instant) -> Option<Known> {
        let entry = self.0.get(&key)?;
        let long = if entry.known == Known::Good { GOOD } else { BAD };
        (now.duration_since(entry.at) < long).then(|| entry.known.clone())
    }

    /// Whether it was good not too long ago, for when nobody can be asked.
    pub(super) fn was_good(&self, key: Key, now: Instant) -> bool {
        self.0.get(&key).is_some_and(|entry| entry.known == Known::Good && !entry.is_dead(now))
    }

    pub(super) fn learn(&mut self, key: Key, known: Known, now: Instant) {
        if self.0.len() >= CAPACITY && !self.0.contains_key(&key) {
            self.0.retain(|_, entry| !entry.is_dead(now));
            // Whoever sends one bad token after the other pushes out bad ones before a good one.
            if self.0.len() >= CAPACITY
                && let Some(oldest) =
                    self.0.iter().min_by_key(|(_, entry)| (entry.known == Known::Good, entry.at)).map(|(key, _)| *key)
            {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(key, Entry { known, at: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn good_tokens_are_asked_about_each_minute_and_bad_ones_every_five_seconds() {
        let (now, mut cache) = (Instant::now(), Cache::default());
        let (good, bad) = (Key::of("good"), Key::of("bad"));
        cache.learn(good, Known::Good, now);
        cache.learn(bad, Known::Nobody, now);
        assert_eq!(cache.fresh(good, now + 59 * SECOND), Some(Known::Good));
        assert_eq!(cache.fresh(good, now + 60 * SECOND), None);
        assert_eq!(cache.fresh(bad, now + 4 * SECOND), Some(Known::Nobody));
        assert_eq!(cache.fresh(bad, now + 5 * SECOND), None);
        assert_eq!(cache.fresh(Key::of("other"), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_good_stays_good_while_nobody_can_be_asked() {
        let (now, mut cache) = (Instant::now(), Cache::default());
        let (good, bad) = (Key::of("good"), Key::of("bad"));
        cache.learn(good, Known::Good, now);
        cache.learn(bad, Known::NotAllowed("a".to_owned()), now);
        assert!(cache.was_good(good, now + 299 * SECOND));
        assert!(!cache.was_good(good, now + 300 * SECOND));
        assert!(!cache.was_good(bad, now));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_bad_tokens_pushes_out_no_good_one_and_stays_within_bounds() {
        let (now, mut cache) = (Instant::now(), Cache::default());
        let good = Key::of("good");
        cache.learn(good, Known::Good, now);
        for bad in 0..3 * CAPACITY {
            cache.learn(Key::of(&bad.to_string()), Known::Nobody, now + SECOND);
        }
        assert_eq!(cache.0.len(), CAPACITY);
        assert_eq!(cache.fresh(good, now + SECOND), Some(Known::Good));
        for other in 0..3 * CAPACITY {
            cache.learn(Key::of(&other.to_string()), Known::Good, now + SECOND);
        }
        assert_eq!(cache.0.len(), CAPACITY);
        assert_eq!(cache.fresh(good, now + SECOND), None, "the oldest of the good ones goes first");
    }
}
