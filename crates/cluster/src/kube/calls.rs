//! Calls to the API server: each within a bound, none once this process may not lead any more.

use std::time::Duration;

use kube::Client;
use kube::core::Status;
use longshore_types::{Fault, Scope};
use rand::Rng as _;
use tokio::time::timeout;

use super::fence::Fence;

/// How long one call may take. A write takes about 3 ms on an idle API server; one that is flooded answers 429 within a
/// second. What has not come after this is taken for lost and tried again, so every write is one that may happen twice.
pub(super) const BOUND: Duration = Duration::from_secs(5);

/// How long a write may be on its way before the API server has it: what is begun later than this before the end of
/// our lease could arrive when another leads.
pub(super) const REACH: Duration = Duration::from_secs(2);

/// The first and the longest wait between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The API server, for somebody who may lead until a certain time.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
    fence: Fence,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The call was not begun: another may lead by the time it arrives.
    #[error("this process does not lead any more")]
    NotLeading,
    /// No answer came. It may have been done.
    #[error("the API server has not answered within {} s", BOUND.as_secs())]
    Timeout,
    /// The API server refused it.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// The API server could not be reached, or its answer not be read.
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Box<kube::Error>),
}

impl CallError {
    /// Whether it may go through when it is tried again as it is.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable(_) => true,
            // 408, 429 and what is wrong on the other side.
            Self::Refused(status) => matches!(status.code, 408 | 429 | 500..=599),
            Self::NotLeading => false,
        }
    }

    /// Whether what was written on has changed meanwhile, or another has taken its place.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 409)
    }

    /// Whether what was written on is not there.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(status) if status.code == 404)
    }

    /// How long the API server asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let Self::Refused(status) = self else { return None };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_WAIT))
    }

    /// As conditions and events show it.
    pub(super) fn fault(&self) -> Fault {
        let reason = match self {
            Self::NotLeading => "NotLeading",
            Self::Timeout => "ApiServerTimeout",
            Self::Refused(status) if status.code == 403 => "Forbidden",
            Self::Refused(_) => "ApiServerRefused",
            Self::Unreachable(_) => "ApiServerUnreachable",
        };
        Fault::new(Scope::Transient, reason, self.to_string())
    }
}

impl Calls {
    pub(super) fn new(client: Client, fence: Fence) -> Self {
        Self { client, fence }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes one call, within its bound.
    pub(super) async fn once<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
        if !self.fence.allows(REACH) {
            return Err(CallError::NotLeading);
        }
        match timeout(BOUND, call).await {
            Err(_) => Err(CallError::Timeout),
            Ok(Ok(done)) => Ok(done),
            Ok(Err(kube::Error::Api(status))) => Err(CallError::Refused(status)),
            Ok(Err(other)) => Err(CallError::Unreachable(Box::new(other))),
        }
    }
}

/// Waits between attempts: they double, and each is drawn from between nothing and its bound, so that thousands of
/// writers that failed at once do not come back at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after one more failure; longer than the API server asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let bound = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        let drawn = bound.mul_f64(rand::rng().random_range(0.5..1.0));
        asked.map_or(drawn, |asked| asked + drawn)
    }

    /// It went through.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;

    use super::*;

    fn calls(answer: Router, fence: Fence) -> Calls {
        Calls::new(Client::new(answer.into_service::<kube::client::Body>(), "default"), fence)
    }

    async fn read(calls: &Calls) -> Result<ConfigMap, CallError> {
        let api: Api<ConfigMap> = Api::namespaced(calls.client(), "default");
        calls.once(api.get("any")).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up() {
        let hangs = Router::new().fallback(|| async { std::future::pending::<()>().await });
        let error = read(&calls(hangs, Fence::open())).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout), "{error:?}");
        assert!(error.is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_leads_no_more_writes_nothing() {
        let fence = Fence::open();
        let calls = calls(Router::new().fallback(|| async { StatusCode::IM_A_TEAPOT }), fence.clone());
        fence.close();
        let error = read(&calls).await.unwrap_err();
        assert!(matches!(error, CallError::NotLeading), "{error:?}");
        assert!(!error.is_transient());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_says_is_told_by_its_code() {
        let answer = |code: StatusCode| {
            let body = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "Because",
                "code": code.as_u16(), "details": {"retryAfterSeconds": 3}
            });
            Router::new().fallback(get(move || async move { (code, body.to_string()) }))
        };
        for (code, transient, conflict, missing) in [
            (StatusCode::CONFLICT, false, true, false),
            (StatusCode::NOT_FOUND, false, false, true),
            (StatusCode::FORBIDDEN, false, false, false),
            (StatusCode::TOO_MANY_REQUESTS, true, false, false),
            (StatusCode::INTERNAL_SERVER_ERROR, true, false, false),
        ] {
            let error = read(&calls(answer(code), Fence::open())).await.unwrap_err();
            assert_eq!(
                (error.is_transient(), error.is_conflict(), error.is_not_found()),
                (transient, conflict, missing),
                "{code}"
            );
            assert_eq!(error.to_string(), "no");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        }
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_start_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..20).map(|_| backoff.next(None)).collect();
        assert!(waits[0] <= FIRST_WAIT && waits[19] >= LONGEST_WAIT / 2 && waits[19] <= LONGEST_WAIT, "{waits:?}");
        assert!(backoff.next(Some(LONGEST_WAIT)) >= LONGEST_WAIT);
        backoff.reset();
        assert!(backoff.next(None) <= FIRST_WAIT);
    }
}
