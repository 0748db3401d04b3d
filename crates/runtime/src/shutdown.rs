//! The end of a process, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Error, Readiness};

/// 128 and SIGINT: what a shell shows for a process that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

/// Turns a wish to stop into steps: not ready at once; after a while, in which traffic finds its way elsewhere, the token
/// is cancelled and tasks drain. A second signal does not wait for any of that.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    readiness: Readiness,
    linger: Duration,
    requested: AtomicBool,
    token: CancellationToken,
}

/// What a request to stop leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It was the first: the process drains.
    Drain,
    /// It was asked before: a person who asks twice does not want to wait.
    ExitNow,
}

impl Shutdown {
    /// A process that is running. `linger` is the time between "not ready" and the token: zero for processes that nothing
    /// routes to, else what it takes until everybody has seen that this one is not ready.
    pub fn new(readiness: Readiness, linger: Duration) -> Self {
        let (requested, token) = (AtomicBool::new(false), CancellationToken::new());
        Self(Arc::new(Inner { readiness, linger, requested, token }))
    }

    /// Cancelled when tasks should drain.
    pub fn token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Asks for the end, for `why`. Says what a signal should do; whoever asks for another cause may ignore the answer.
    /// Must be called within a tokio runtime.
    pub fn request(&self, why: &str) -> Next {
        if self.0.requested.swap(true, Ordering::SeqCst) {
            return Next::ExitNow;
        }
        let linger = self.0.linger;
        tracing::info!(why, ?linger, "Stopping");
        self.0.readiness.stop();
        if linger.is_zero() {
            self.0.token.cancel();
        } else {
            let token = self.token();
            tokio::spawn(async move {
                tokio::time::sleep(linger).await;
                token.cancel();
            });
        }
        Next::Drain
    }

    /// Stops now: for a process that cannot go on, where waiting for traffic to find its way only prolongs the failure.
    pub fn now(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        self.0.readiness.stop();
        self.0.token.cancel();
    }

    /// From now on SIGTERM and SIGINT ask for the end; the second one ends the process at once with status 130.
    ///
    /// # Errors
    /// [`Error::Signals`] where the system does not let us.
    pub fn listen_to_signals(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let why = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.request(why) == Next::ExitNow {
                    tracing::warn!(why, "Asked to stop a second time: not waiting for what is under way");
                    std::process::exit(EXIT_INTERRUPTED);
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::State;

    #[tokio::test]
    async fn the_first_request_drains_and_the_second_does_not_wait() {
        let readiness = Readiness::new();
        let shutdown = Shutdown::new(readiness.clone(), Duration::ZERO);
        assert!(!shutdown.token().is_cancelled());
        assert_eq!(shutdown.request("test"), Next::Drain);
        assert!(shutdown.token().is_cancelled());
        assert_eq!(readiness.state(), State::Stopping);
        assert_eq!(shutdown.request("test"), Next::ExitNow);
    }

    #[tokio::test(start_paused = true)]
    async fn not_ready_comes_before_the_drain() {
        let readiness = Readiness::new();
        let shutdown = Shutdown::new(readiness.clone(), Duration::from_secs(5));
        let asked = tokio::time::Instant::now();
        shutdown.request("test");
        assert_eq!(readiness.state(), State::Stopping);
        assert!(!shutdown.token().is_cancelled());
        shutdown.token().cancelled().await;
        assert_eq!(asked.elapsed(), Duration::from_secs(5));
    }
}
