//! How a watch fares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::core::Status;
use tokio::time::Instant;

use super::quiet::wording;

/// What keeps a watch from going on: a closed set, for metrics and for saying each but once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kube) enum Trouble {
    /// The API server is not reached, or the connection broke.
    Unreachable,
    /// It is reached and does not answer, or has fallen silent.
    Silent,
    /// It has too much to do.
    Busy,
    /// It does not know who we are.
    Unauthorized,
    /// We may not list or watch this.
    Forbidden,
    /// It knows no such kind.
    NotInstalled,
    /// It no longer has what happened since we last heard.
    Expired,
    /// It ends the watch at once, again and again.
    CutOff,
    /// It says something that cannot be read.
    Unreadable,
    /// It refuses for some other reason.
    Refused,
}

impl Trouble {
    /// A metric's label.
    pub(in crate::kube) const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Busy => "busy",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotInstalled => "not_installed",
            Self::Expired => "expired",
            Self::CutOff => "cut_off",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
        }
    }

    /// What an answer that is a refusal means.
    fn of_status(status: &Status) -> Self {
        match status.code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotInstalled,
            410 => Self::Expired,
            408 | 429 | 500 | 503 => Self::Busy,
            _ => Self::Refused,
        }
    }

    /// Whether the API server has answered, so that a try costs it something.
    pub(super) fn is_answer(self) -> bool {
        !matches!(self, Self::Unreachable | Self::Silent)
    }

    /// Whether going on from the same version may never succeed, so that a list is due: a version that is lost or, after a
    /// backup was restored, ahead of the server.
    pub(super) fn needs_list(self) -> bool {
        matches!(self, Self::Expired | Self::Refused | Self::NotInstalled)
    }
}

/// One failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) message: String,
    /// How long the API server asked to be left alone.
    pub(super) asked: Option<Duration>,
}

impl Failure {
    pub(super) fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, message: message.into(), asked: None }
    }

    pub(super) fn of_status(status: &Status) -> Self {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let asked = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        Self { trouble: Trouble::of_status(status), message: status.message.clone(), asked }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            kube::Error::SerdeError(error) => Self::new(Trouble::Unreadable, wording(&error.to_string())),
            other => {
                let error: &dyn std::error::Error = &other;
                let causes = std::iter::successors(Some(error), |error| error.source());
                let words: Vec<String> = causes.map(ToString::to_string).collect();
                Self::new(Trouble::Unreachable, words.join(": "))
            }
        }
    }
}

/// How one watch fares, for readiness and metrics. Clones share it.
#[derive(Clone, Debug)]
pub(in crate::kube) struct WatchHealth {
    kind: Arc<str>,
    state: Arc<Mutex<WatchState>>,
}

/// How a watch fares at one moment.
#[derive(Clone, Debug, Default)]
pub(in crate::kube) struct WatchState {
    /// Whether everything has been told once.
    pub(in crate::kube) listed: bool,
    /// When the API server last said something.
    pub(in crate::kube) heard: Option<Instant>,
    /// What is wrong. `None` while it goes well.
    pub(in crate::kube) failing: Option<Failing>,
    /// Lists that were completed.
    pub(in crate::kube) lists: u64,
    /// Watches that were begun.
    pub(in crate::kube) watches: u64,
    /// Failures, and objects that could not be read, since the start.
    pub(in crate::kube) troubles: BTreeMap<Trouble, u64>,
    /// What has been logged since it last went well for a while.
    logged: BTreeSet<Trouble>,
}

/// What is wrong with a watch.
#[derive(Clone, Debug)]
pub(in crate::kube) struct Failing {
    /// Since when.
    pub(in crate::kube) since: Instant,
    /// How often in a row.
    pub(in crate::kube) times: u32,
    /// What it is now.
    pub(in crate::kube) trouble: Trouble,
    /// In the API server's or the system's own words.
    pub(in crate::kube) message: String,
    /// Whether it was logged, so that its end is logged too.
    said: bool,
}

impl WatchHealth {
    /// Of a watch of `kind`, such as `pods`, of which nothing has been heard.
    pub(in crate::kube) fn new(kind: impl AsRef<str>) -> Self {
        Self { kind: kind.as_ref().into(), state: Arc::default() }
    }

    /// What is watched.
    pub(in crate::kube) fn kind(&self) -> &str {
        &self.kind
    }

    /// How it fares now.
    pub(in crate::kube) fn state(&self) -> WatchState {
        self.lock().clone()
    }

    /// Whether everything has been told once.
    #[cfg(test)]
    pub(in crate::kube) fn is_listed(&self) -> bool {
        self.lock().listed
    }

    pub(super) fn listed(&self) {
        let mut state = self.lock();
        state.listed = true;
        state.lists += 1;
    }

    pub(super) fn watching(&self) {
        self.lock().watches += 1;
        self.heard();
    }

    /// The API server said something.
    pub(super) fn heard(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.heard = Some(now);
        if let Some(failing) = state.failing.take() {
            drop(state);
            if failing.said {
                let (times, outage) = (failing.times, now - failing.since);
                tracing::info!(kind = &*self.kind, times, outage_s = outage.as_secs_f32(), "the watch goes on");
            }
        }
    }

    /// It has gone well for a while: what goes wrong from here on is said again.
    pub(super) fn settled(&self) {
        self.lock().logged.clear();
    }

    pub(super) fn failed(&self, failure: &Failure) {
        let Failure { trouble, message, .. } = failure;
        let mut state = self.lock();
        // That its memory is short is in the nature of an API server.
        let say = count(&mut state, *trouble) && *trouble != Trouble::Expired;
        let failing = state.failing.get_or_insert_with(|| Failing {
            since: Instant::now(),
            times: 0,
            trouble: *trouble,
            message: String::new(),
            said: false,
        });
        failing.times += 1;
        failing.trouble = *trouble;
        failing.message.clone_from(message);
        failing.said |= say;
        let times = failing.times;
        drop(state);
        let (kind, trouble) = (&*self.kind, trouble.as_str());
        if say {
            tracing::warn!(kind, trouble, error = %message, "the watch is interrupted");
        } else {
            tracing::debug!(kind, trouble, error = %message, times, "the watch is interrupted");
        }
    }

    /// One thing that it said could not be read; the watch itself goes on.
    pub(super) fn unreadable(&self, message: &str) {
        let first = count(&mut self.lock(), Trouble::Unreadable);
        if first {
            tracing::warn!(kind = &*self.kind, error = %message, "something that the API server said cannot be read");
        }
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts it; whether it is new since the watch last went well for a while.
fn count(state: &mut WatchState, trouble: Trouble) -> bool {
    *state.troubles.entry(trouble).or_default() += 1;
    state.logged.insert(trouble)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::kube::watch::tests::log::Log;

    /// What `act` logs, a line each.
    fn logged(act: impl FnOnce()) -> Vec<String> {
        let log = Log::of(tracing::Level::INFO);
        act();
        log.lines()
    }

    #[test]
    fn each_kind_of_trouble_is_logged_once_until_it_has_gone_well_for_a_while() {
        let health = WatchHealth::new("pods");
        let fail = |trouble| health.failed(&Failure::new(trouble, "why"));
        let lines = logged(|| {
            for _ in 0..5 {
                fail(Trouble::Unreachable);
                fail(Trouble::Busy);
            }
            health.heard();
            for _ in 0..5 {
                fail(Trouble::Busy);
                health.heard();
                health.unreadable("odd");
                fail(Trouble::Expired);
                health.heard();
            }
        });
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(
            lines[0].contains("WARN") && lines[0].contains("unreachable") && lines[0].contains("pods"),
            "{lines:#?}"
        );
        assert!(lines[1].contains("busy") && lines[3].contains("odd"), "{lines:#?}");
        assert!(lines[2].contains("INFO") && lines[2].contains("times=10"), "{lines:#?}");
        let again = logged(|| {
            health.settled();
            fail(Trouble::Busy);
        });
        assert_eq!(again.len(), 1, "{again:#?}");
        let state = health.state();
        assert_eq!((state.troubles[&Trouble::Busy], state.troubles[&Trouble::Unreachable]), (11, 5));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure::from(kube::Error::ReadEvents(refused));
        assert_eq!(failure.trouble, Trouble::Unreachable);
        assert!(failure.message.contains("refused"), "{}", failure.message);
    }
}
