//! What a request passes on its way out: its turn, then the fence.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_return};
use std::time::Duration;

use axum::BoxError;
use axum::http::{Method, Request};
use futures::future::Either;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use super::super::calls::{CallError, REACH};
use super::super::fence::Fence;
use super::RateLimit;

/// Requests that may be made now, and how fast there are more. It is full again after `burst / per_second` seconds
/// without any.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    /// Whole tokens are requests.
    tokens: f64,
    /// When that was counted.
    at: Instant,
}

impl Bucket {
    pub(super) fn full(limit: RateLimit) -> Self {
        Self { limit, tokens: limit.burst.into(), at: Instant::now() }
    }

    /// Nothing where a request may be made at `now`, else when.
    fn wait(&mut self, now: Instant) -> Option<Instant> {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.limit.per_second;
        self.tokens = (self.tokens + gained).min(self.limit.burst.into());
        self.at = now;
        // A hair less than a whole one is rounding, and waiting for that hair would never end.
        let missing = 1.0 - self.tokens;
        (missing > 1e-6).then(|| now + Duration::from_secs_f64(missing / self.limit.per_second))
    }

    fn take(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }
}

/// Puts a [`Gate`] in front of a client.
#[derive(Debug)]
pub(super) struct GateLayer {
    pub fence: Fence,
    pub bucket: Option<Bucket>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, fence: self.fence.clone(), bucket: self.bucket.clone(), sleep: None }
    }
}

/// Lets requests through one after the other, each in its turn and none that could arrive when another leads.
///
/// It waits in `poll_ready`, so that those behind it wait in their order, and one that is given up while it waits costs
/// no token.
#[derive(Debug)]
pub(super) struct Gate<S> {
    inner: S,
    fence: Fence,
    bucket: Option<Bucket>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Error = BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<S::Future, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(bucket) = &mut self.bucket {
            while let Some(when) = bucket.wait(Instant::now()) {
                let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(when)));
                sleep.as_mut().reset(when);
                ready_or_return!(sleep.as_mut().poll(cx));
            }
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.method() != Method::GET && !self.fence.allows(REACH) {
            return Either::Right(ready(Err(CallError::NotLeading.into())));
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take();
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use futures::future::join_all;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Patch, PatchParams};
    use kube::client::ClientBuilder;
    use kube::{Api, Client};
    use tokio::time::{sleep, timeout};
    use tower::ServiceExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An API server that has every ConfigMap, behind a gate.
    fn client(fence: Fence, limit: Option<RateLimit>) -> Client {
        let there = Router::new().fallback(|| async { r#"{"metadata": {"name": "a"}}"# });
        let there = there.into_service::<kube::client::Body>().map_err(|never| match never {});
        let layer = GateLayer { fence, bucket: limit.map(Bucket::full) };
        ClientBuilder::new(there, "default").with_layer(&layer).build()
    }

    async fn read(client: &Client) -> Result<ConfigMap, kube::Error> {
        Api::namespaced(client.clone(), "default").get("a").await
    }

    async fn write(client: &Client) -> Result<ConfigMap, kube::Error> {
        let api = Api::namespaced(client.clone(), "default");
        api.patch("a", &PatchParams::default(), &Patch::Merge(serde_json::json!({}))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_its_rate() {
        let client = client(Fence::open(), RateLimit::new(10.0, 5));
        for _ in 0..2 {
            let begun = Instant::now();
            let times = join_all((0..25).map(|_| async {
                read(&client).await.unwrap();
                begun.elapsed()
            }));
            let times = times.await;
            assert!(times[4] < SECOND / 20, "{times:?}");
            assert!(times[24] > SECOND * 19 / 10 && times[24] < SECOND * 21 / 10, "{times:?}");
            sleep(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let client = client(Fence::open(), None);
        let begun = Instant::now();
        join_all((0..500).map(|_| async { read(&client).await.unwrap() })).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_while_it_waits_costs_nothing() {
        let client = client(Fence::open(), RateLimit::new(1.0, 1));
        read(&client).await.unwrap();
        join_all((0..50).map(|_| timeout(SECOND / 10, read(&client)))).await.into_iter().for_each(|given_up| {
            given_up.unwrap_err();
        });
        let begun = Instant::now();
        read(&client).await.unwrap();
        assert!(begun.elapsed() <= SECOND, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_has_waited_for_its_turn_does_not_go_past_the_fence() {
        let fence = Fence::until(Instant::now() + SECOND * 10);
        let client = client(fence.clone(), RateLimit::new(0.1, 1));
        write(&client).await.unwrap();
        assert!(fence.allows(REACH));
        let error = write(&client).await.unwrap_err();
        assert!(format!("{error:?}").contains("NotLeading"), "{error:?}");
        read(&client).await.unwrap();
    }
}
