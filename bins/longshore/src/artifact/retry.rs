//! Trying again what may work later.

use std::time::Duration;

use longshore_artifacts::Error;

use super::units;

/// Before the first further attempt; each next one waits twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait of our own, and the longest that somebody at a terminal is made to wait because a source asks for it:
/// beyond it, they are told how long instead.
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait before attempt `tried + 1`; none where that is no use.
fn wait(error: &Error, tried: u32, retries: u32) -> Option<Duration> {
    // A store without room, or that fails, does not get better within a minute, and everything would be fetched again.
    let is_ours = matches!(error, Error::StoreFull { .. } | Error::Store { .. } | Error::Abandoned);
    if tried > retries || is_ours || !error.is_transient() {
        return None;
    }
    let own = FIRST.saturating_mul(1 << (tried - 1).min(10)).min(LONGEST);
    match error.retry_after() {
        Some(asked) if asked > LONGEST => None,
        Some(asked) => Some(own.max(asked)),
        None => Some(own),
    }
}

/// Attempts until it works or is no use, `retries` times at most behind the first. Each failure that is not the last is told.
pub async fn persist<T>(
    retries: u32,
    tell: impl Fn(String),
    mut attempt: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut tried = 1;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(wait) = wait(&error, tried, retries) else { return Err(error) };
        let (reason, message) = (error.reason(), error.fault().message);
        tell(format!("{reason}: {message}; trying again in {} ({tried} of {retries})", units::time(wait)));
        tokio::time::sleep(wait).await;
        tried += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn away(retry_after: Option<u64>) -> Error {
        let status = "503 Service Unavailable".to_owned();
        Error::Unavailable { what: "hf://org/x".into(), status, retry_after: retry_after.map(Duration::from_secs) }
    }

    #[test]
    fn waits_grow_and_are_as_long_as_the_source_asks() {
        let seconds = |error: &Error, tried| wait(error, tried, 20).map(|wait| wait.as_secs());
        let own: Vec<_> = (1..9).filter_map(|tried| seconds(&away(None), tried)).collect();
        assert_eq!(own, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(seconds(&away(Some(20)), 1), Some(20));
        assert_eq!(seconds(&away(Some(1)), 3), Some(4));
        assert_eq!(seconds(&away(Some(3600)), 1), None, "nobody waits an hour at a terminal");
        assert_eq!(wait(&away(None), 4, 3), None);
        assert_eq!(wait(&away(None), 1, 0), None);
    }

    #[test]
    fn what_is_refused_or_the_stores_own_trouble_is_not_tried_again() {
        let full = std::io::ErrorKind::StorageFull.into();
        for error in [
            Error::NotFound { what: "x".into() },
            Error::StoreFull { path: "/s".into(), source: full },
            Error::Store { doing: "write", path: "/s".into(), source: std::io::ErrorKind::PermissionDenied.into() },
        ] {
            assert_eq!(wait(&error, 1, 3), None, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_but_the_last_is_told() {
        let (told, attempts) = (RefCell::new(Vec::new()), Cell::new(0));
        let outcome = persist(
            2,
            |line| told.borrow_mut().push(line),
            async || {
                attempts.set(attempts.get() + 1);
                Err::<(), _>(away(None))
            },
        );
        assert_eq!(outcome.await.unwrap_err().reason(), "SourceUnavailable");
        assert_eq!(attempts.get(), 3);
        let told = told.into_inner();
        assert_eq!(told.len(), 2);
        assert!(told[1].ends_with("; trying again in 2 s (2 of 2)"), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_works_later_has_worked() {
        let attempts = Cell::new(0);
        let outcome = persist(
            3,
            |_| (),
            async || {
                attempts.set(attempts.get() + 1);
                if attempts.get() < 3 { Err(away(Some(5))) } else { Ok(attempts.get()) }
            },
        );
        assert_eq!(outcome.await.unwrap(), 3);
    }
}
