//! Which leader is to be believed.

use longshore_api::sidecar::{DesiredSet, Stamp};

/// The last thing that a leader said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    last: Option<Stamp>,
    /// What was said with it; none after a restart, since it is not known whether all of it was kept.
    set: Option<DesiredSet>,
}

/// What comes of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new.
    New,
    /// It is what was said last, once more.
    Again,
    /// Somebody has spoken since, with this stamp.
    Stale(Stamp),
    /// The same stamp stands for something else, which no leader does.
    Reused,
}

impl Fence {
    /// After a restart: this was the last.
    pub(crate) fn restored(last: Option<Stamp>) -> Self {
        Self { last, set: None }
    }

    pub(crate) fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// Judges a set, and remembers it where it is new.
    pub(crate) fn judge(&mut self, set: &DesiredSet) -> Verdict {
        match (self.last, &self.set) {
            (Some(last), _) if set.stamp < last => return Verdict::Stale(last),
            (Some(last), Some(same)) if set.stamp == last && same == set => return Verdict::Again,
            (Some(last), Some(_)) if set.stamp == last => return Verdict::Reused,
            _ => {}
        }
        self.last = Some(set.stamp);
        self.set = Some(set.clone());
        Verdict::New
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::sidecar::DesiredAdapter;

    use super::*;

    fn set(transitions: u64, revision: u64, names: &[&str]) -> DesiredSet {
        let adapter = |name: &&str| DesiredAdapter { name: (*name).to_owned(), ..DesiredAdapter::default() };
        DesiredSet {
            stamp: Stamp { lease_created: 1, transitions, revision },
            namespace: "default".into(),
            adapters: names.iter().map(adapter).collect(),
        }
    }

    #[test]
    fn i3_an_older_leader_is_not_believed_however_late_it_speaks() {
        let mut fence = Fence::default();
        assert_eq!(fence.judge(&set(1, 5, &["a"])), Verdict::New);
        assert_eq!(fence.judge(&set(1, 5, &["a"])), Verdict::Again);
        assert_eq!(fence.judge(&set(1, 4, &[])), Verdict::Stale(set(1, 5, &[]).stamp));
        assert_eq!(fence.judge(&set(2, 0, &["b"])), Verdict::New);
        assert_eq!(fence.judge(&set(1, 99, &[])), Verdict::Stale(set(2, 0, &[]).stamp));
        assert_eq!(fence.judge(&set(2, 0, &[])), Verdict::Reused);
        assert_eq!(fence.last(), Some(set(2, 0, &[]).stamp));
    }

    #[test]
    fn after_a_restart_the_same_stamp_is_heard_once_more_and_an_older_one_is_not() {
        let mut fence = Fence::restored(Some(set(2, 3, &[]).stamp));
        assert_eq!(fence.judge(&set(2, 2, &[])), Verdict::Stale(set(2, 3, &[]).stamp));
        assert_eq!(fence.judge(&set(2, 3, &["a"])), Verdict::New);
        assert_eq!(fence.judge(&set(2, 3, &["a"])), Verdict::Again);
    }
}
