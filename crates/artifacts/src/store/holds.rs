//! What this process has just handed out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_types::Digest;

/// How often each digest is handed out now.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<BTreeMap<Digest, usize>>);

impl Holds {
    /// Keeps this process from removing the entry of `digest` for room, until the last clone is dropped. Take it first and
    /// look whether there is an entry then.
    pub(super) fn hold(self: &Arc<Self>, digest: Digest) -> Hold {
        *self.counts().entry(digest).or_default() += 1;
        Hold(Some(Arc::new(Held { holds: self.clone(), digest })))
    }

    /// Whether somebody has it now.
    pub(super) fn is_held(&self, digest: &Digest) -> bool {
        self.counts().contains_key(digest)
    }

    /// Does `work` if nobody holds `digest`, and lets nobody take hold of anything meanwhile.
    pub(super) fn unless_held<T>(&self, digest: &Digest, work: impl FnOnce() -> T) -> Option<T> {
        let counts = self.counts();
        (!counts.contains_key(digest)).then(work)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold on an entry. All holds are equal: it is no part of what is fetched.
#[derive(Clone, Default)]
pub(crate) struct Hold(#[expect(dead_code, reason = "it is there to be dropped")] Option<Arc<Held>>);

struct Held {
    holds: Arc<Holds>,
    digest: Digest,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.holds.counts();
        if let Some(count) = counts.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.digest);
            }
        }
    }
}

impl PartialEq for Hold {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hold {}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_out_is_held_until_the_last_clone_is_gone() {
        let (holds, digest) = (Arc::new(Holds::default()), Digest::from_bytes([1; 32]));
        let one = holds.hold(digest);
        let (two, again) = (one.clone(), holds.hold(digest));
        drop(one);
        drop(again);
        assert!(holds.is_held(&digest));
        assert_eq!(holds.unless_held(&digest, || ()), None);
        assert_eq!(holds.unless_held(&Digest::from_bytes([2; 32]), || ()), Some(()));
        drop(two);
        assert_eq!(holds.unless_held(&digest, || ()), Some(()));
    }
}
