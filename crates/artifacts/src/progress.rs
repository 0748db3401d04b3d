//! How far a fetch has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a fetch has come, to be looked at from elsewhere while it goes on. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Bytes that have come from the source in the current attempt: compressed ones, where it is an archive.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// How many bytes there will be; none while that is not known.
    pub fn total(&self) -> Option<u64> {
        Some(self.0.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }

    /// `bytes` more have come.
    pub fn add(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// There will be `total` bytes altogether.
    pub fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Everything begins anew.
    pub(crate) fn reset(&self) {
        self.0.bytes.store(0, Ordering::Relaxed);
        self.0.total.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_elsewhere_is_what_has_come() {
        let (here, there) = {
            let p = Progress::default();
            (p.clone(), p)
        };
        assert_eq!((there.bytes(), there.total()), (0, None));
        here.expect(10);
        here.add(4);
        here.add(3);
        assert_eq!((there.bytes(), there.total()), (7, Some(10)));
        here.reset();
        assert_eq!((there.bytes(), there.total()), (0, None));
    }
}
