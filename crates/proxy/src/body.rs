//! Reading a request's body whole, and passing an answer's body on frame by frame.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::answer::Problem;
use crate::inflight::Guard;
use crate::metrics::{Class, Observation};

/// Reads the whole body of a request, within these limits.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Incoming,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
    let plain = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|value| !plain(value)) {
        return Err(Problem::encoded());
    }
    // Known before the first byte is read, so a client that waits for `100 Continue` need not send it at all.
    if body.size_hint().lower() > limit as u64 {
        return Err(Problem::body_too_large(limit));
    }
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::body_too_large(limit)),
        Ok(Err(_)) => Err(Problem::body_broken()),
        Err(_) => Err(Problem::body_too_slow(patience.as_secs())),
    }
}

/// The body of an answer: some bytes that are at hand, then what still comes from an engine.
///
/// While it lives the request counts as under way; when it ends, breaks or is dropped the observation is closed.
#[derive(Debug)]
pub(crate) struct ProxyBody {
    first: Option<Bytes>,
    rest: Option<Incoming>,
    observation: Option<Observation>,
    guard: Option<Guard>,
}

impl ProxyBody {
    /// A body that is all there.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::streamed(bytes, None)
    }

    /// What has been read of an engine's answer, and the rest of it.
    pub(crate) fn streamed(first: Bytes, rest: Option<Incoming>) -> Self {
        Self { first: Some(first).filter(|bytes| !bytes.is_empty()), rest, observation: None, guard: None }
    }

    /// Counts the request as under way for as long as the body is.
    pub(crate) fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Closes the observation when the body ends.
    pub(crate) fn observed(mut self, observation: Observation) -> Self {
        self.observation = Some(observation);
        self
    }

    fn ended(&mut self) {
        self.rest = None;
        self.guard = None;
        self.observation = None;
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = &mut self.rest else {
            self.ended();
            return Poll::Ready(None);
        };
        let polled = Pin::new(rest).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended(),
            Poll::Ready(Some(Err(_))) => {
                if let Some(observation) = &mut self.observation {
                    observation.class(Class::Broken);
                }
                self.ended();
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint.set_lower(rest.lower().saturating_add(first));
        hint
    }
}

impl Drop for ProxyBody {
    fn drop(&mut self) {
        // The server does not ask for more than the length that it knows, so an end may never be polled.
        let unfinished = !self.is_end_stream();
        if let (true, Some(observation)) = (unfinished, &mut self.observation) {
            observation.class(Class::Gone);
        }
    }
}
