//! Passing a request on to the replica that leads.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use reqwest::{Client, Url};
use tokio::time::timeout;

use super::api::BODY_LIMIT;
use super::error::ApiError;

/// Marks a request that was passed on: it is not passed on again.
const FORWARDED: HeaderName = HeaderName::from_static("x-longshore-forwarded");

/// How long the leader may take to begin to answer. Less than the admin server's own patience, so that the answer says why.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long an answer under way may be silent: three times the interval in which a watch is kept alive. A leader that is
/// frozen keeps its connections.
const SILENT: Duration = Duration::from_secs(45);

/// Headers that speak of one connection (RFC 9110, section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a request is made anew: the body is read before it is sent, which answers `Expect` too.
const MADE_ANEW: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::EXPECT];

/// The way to the leader.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    client: Client,
}

/// Whether another replica has passed this on.
pub(super) fn was_forwarded(request: &Request) -> bool {
    request.headers().contains_key(FORWARDED)
}

impl Forward {
    pub(super) fn new() -> Result<Self, longshore_engine::Error> {
        // As engines are reached: directly, without redirects, and with a bound on connecting.
        Ok(Self { client: longshore_engine::http_client()? })
    }

    /// Passes `request` on to `leader`, with the caller's token. The answer streams until it ends, falls silent, or
    /// `moved` says that another leads.
    pub(super) async fn pass_on(
        &self,
        leader: SocketAddr,
        request: Request,
        moved: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url: Url = format!("http://{leader}{path}").parse().map_err(|_| ApiError::bad_request("not a path"))?;
        // A URL resolves `..`, and would then ask for what this was not let in for.
        if url.path() != head.uri.path() {
            return Err(ApiError::not_found("no such path; GET /openapi.json lists them"));
        }
        // Reports are small, and one that is whole can be sent again where a kept connection turns out to be dead.
        let body = axum::body::to_bytes(body, BODY_LIMIT).await.map_err(|_| ApiError::too_large(BODY_LIMIT))?;
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        for name in &MADE_ANEW {
            headers.remove(name);
        }
        headers.insert(FORWARDED, HeaderValue::from_static("1"));
        let sent = self.client.request(head.method, url).headers(headers).body(body).send();
        let answer = match timeout(ANSWER_WITHIN, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let error = error.without_url();
                tracing::debug!(%leader, error = &error as &dyn std::error::Error, "The leader cannot be asked");
                return Err(ApiError::no_leader("the replica that leads cannot be reached"));
            }
            Err(_) => return Err(ApiError::no_leader("the replica that leads does not answer")),
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        strip_hop_by_hop(response.headers_mut());
        *response.body_mut() = Body::from_stream(until(answer.bytes_stream().boxed(), moved));
        Ok(response)
    }
}

/// The chunks as they come; an error where they fall silent or another leads, so that nobody takes a part for the whole.
fn until<E>(
    chunks: BoxStream<'static, Result<Bytes, E>>,
    moved: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    E: std::error::Error + Send + Sync + 'static,
{
    let moved: BoxFuture<'static, ()> = Box::pin(moved);
    stream::unfold(Some((chunks, moved)), |state| async {
        let (mut chunks, mut moved) = state?;
        let ended = |why| Some((Err(why), None));
        tokio::select! {
            biased;
            () = &mut moved => ended(io::Error::other("another replica leads now")),
            next = timeout(SILENT, chunks.next()) => match next {
                Err(_) => ended(io::ErrorKind::TimedOut.into()),
                Ok(None) => None,
                Ok(Some(Err(error))) => ended(io::Error::other(error)),
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some((chunks, moved)))),
            },
        }
    })
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures::future;

    use super::*;

    fn silent() -> BoxStream<'static, Result<Bytes, Infallible>> {
        stream::once(async { Ok(Bytes::from_static(b"first")) }).chain(stream::pending()).boxed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_falls_silent_or_whose_leader_has_gone_ends_with_an_error() {
        let mut chunks = pin!(until(silent(), future::pending()));
        assert_eq!(chunks.next().await.unwrap().unwrap(), "first");
        assert_eq!(chunks.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(chunks.next().await.is_none());

        let (moved, told) = tokio::sync::oneshot::channel::<()>();
        let mut chunks = pin!(until(silent(), async { drop(told.await) }));
        assert_eq!(chunks.next().await.unwrap().unwrap(), "first");
        moved.send(()).unwrap();
        assert_eq!(chunks.next().await.unwrap().unwrap_err().to_string(), "another replica leads now");
        assert!(chunks.next().await.is_none());
    }

    #[test]
    fn what_speaks_of_one_connection_stays_there() {
        let pairs =
            [("connection", "close, x-private"), ("x-private", "1"), ("te", "trailers"), ("authorization", "t")];
        let mut headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), [header::AUTHORIZATION]);
    }
}
