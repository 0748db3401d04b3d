//! Asking one engine.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_routing::Endpoint;
use longshore_types::EngineKind;
use serde::Deserialize;

use crate::ProxyConfig;
use crate::answer::Problem;
use crate::body::ProxyBody;
use crate::headers;
use crate::metrics::Retry;

/// An error answer that could mean "I lack that adapter" is read up to this size. vLLM's lists every name that it serves:
/// at 128 characters each, a thousand adapters fit.
const MAX_INSPECTED: usize = 192 * 1024;
/// And for this long; then it is passed on as it is.
const INSPECT_WITHIN: Duration = Duration::from_secs(5);
/// uvicorn, which vLLM and SGLang answer with, closes a connection that has been idle for 5 s. One that is about to be
/// closed is not used again: a request that meets the end of its connection may or may not have begun.
const IDLE: Duration = Duration::from_secs(4);
/// A peer that vanished without a word is noticed after idle + 3 probes, so that its requests do not wait for ever.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBE: Duration = Duration::from_secs(5);

/// The connections to all engines.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    answer_timeout: Duration,
}

/// What came of asking one engine.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer to pass on.
    Answer(Response<ProxyBody>),
    /// No answer, and nothing has begun: another engine may be asked.
    Elsewhere(Retry, String),
    /// Nobody else may be asked.
    Failed(Problem),
}

impl Upstream {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_PROBE));
        connector.set_keepalive_retries(Some(3));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .timer(TokioTimer::new())
            .build(connector);
        Self { client, answer_timeout: config.answer_timeout }
    }

    /// Posts `body` to `path` of the engine at `endpoint`. With `adapter`, an answer that says that the engine lacks it
    /// counts as none; the name is the one that the engine was asked for.
    pub(crate) async fn ask(
        &self,
        endpoint: &Endpoint,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        adapter: Option<&str>,
    ) -> Outcome {
        let uri = Uri::builder().scheme("http").authority(endpoint.address.authority()).path_and_query(path).build();
        let Ok(uri) = uri else {
            return Outcome::Elsewhere(
                Retry::Connect,
                format!("has the unusable address {}", endpoint.address.authority()),
            );
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        match tokio::time::timeout(self.answer_timeout, self.client.request(request)).await {
            Ok(Ok(response)) => judge(endpoint.kind, response, adapter).await,
            Ok(Err(error)) if error.is_connect() => {
                tracing::debug!(engine = ?endpoint.engine, error = &error as &dyn std::error::Error, "Cannot connect");
                Outcome::Elsewhere(Retry::Connect, "could not be connected to".to_owned())
            }
            Ok(Err(error)) => {
                tracing::debug!(engine = ?endpoint.engine, error = &error as &dyn std::error::Error, "Broke off");
                Outcome::Failed(Problem::engine_broke())
            }
            Err(_) => Outcome::Failed(Problem::engine_too_slow(self.answer_timeout.as_secs())),
        }
    }
}

/// Whether an answer is one to pass on.
async fn judge(kind: EngineKind, response: Response<Incoming>, adapter: Option<&str>) -> Outcome {
    let (mut head, body) = response.into_parts();
    headers::for_client(&mut head.headers);
    let status = head.status;
    if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) {
        return Outcome::Elsewhere(Retry::Status, format!("answered {}", status.as_u16()));
    }
    match adapter {
        Some(name) if may_mean_missing(kind, status) => inspect(kind, head, body, name).await,
        _ => Outcome::Answer(Response::from_parts(head, ProxyBody::streamed(Bytes::new(), Some(body)))),
    }
}

/// Whether an answer with this status could say that the adapter is not there: 404 by vLLM, 400 by SGLang.
fn may_mean_missing(kind: EngineKind, status: StatusCode) -> bool {
    match kind {
        EngineKind::Vllm | EngineKind::Simulated => status == StatusCode::NOT_FOUND,
        EngineKind::Sglang => status == StatusCode::BAD_REQUEST,
    }
}

/// Reads an error answer as far as is reasonable. What has been read is passed on with the rest, unless it says that the
/// adapter is not there.
async fn inspect(kind: EngineKind, head: response::Parts, mut body: Incoming, name: &str) -> Outcome {
    let mut read = Vec::new();
    let whole = tokio::time::timeout(INSPECT_WITHIN, async {
        while read.len() <= MAX_INSPECTED {
            match body.frame().await {
                Some(Ok(frame)) => read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                Some(Err(_)) => return Err(()),
                None => return Ok(true),
            }
        }
        Ok(false)
    });
    let whole = match whole.await {
        Ok(Err(())) => return Outcome::Failed(Problem::engine_broke()),
        Ok(Ok(whole)) => whole,
        Err(_) => false,
    };
    if whole && says_missing(kind, &read, name) {
        return Outcome::Elsewhere(Retry::Missing, "answered that it does not have it".to_owned());
    }
    let rest = (!whole).then_some(body);
    Outcome::Answer(Response::from_parts(head, ProxyBody::streamed(Bytes::from(read), rest)))
}

/// An engine's error, in any of the forms that are in use.
#[derive(Deserialize)]
struct EngineError {
    error: Option<ErrorObject>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct ErrorObject {
    r#type: Option<String>,
    message: Option<String>,
    param: Option<String>,
}

/// Whether this error says that the engine lacks the model `name`.
///
/// vLLM 0.11 and 0.32: `{"error": {"type": "NotFoundError", "message": "The model `x` does not exist. …", "param": …}}`,
/// where `param` is "model" or null; `/v1/messages` wraps it as `{"type": "error", "error": {…}}`. Other things not found
/// (a path, an earlier response) have another type or do not name the model. SGLang 0.5.23 (by its source):
/// `{"object": "error", "message": "Got LoRA adapter that has never been loaded: x …"}`.
fn says_missing(kind: EngineKind, body: &[u8], name: &str) -> bool {
    let Ok(answer) = serde_json::from_slice::<EngineError>(body) else { return false };
    match kind {
        EngineKind::Vllm | EngineKind::Simulated => answer.error.is_some_and(|error| {
            let not_found = error.r#type.as_deref() == Some("NotFoundError");
            let names_it = error.message.is_some_and(|message| message.contains(&format!("`{name}`")));
            not_found && (names_it || error.param.as_deref() == Some("model"))
        }),
        EngineKind::Sglang => answer
            .message
            .is_some_and(|message| message.contains("LoRA adapter") && message.contains("never been loaded")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i1_an_engine_that_lacks_the_adapter_is_recognised_in_every_form_seen() {
        for body in [
            // 0.32.0, 0.11.0, and the Anthropic form.
            r#"{"error":{"message":"The model `sql` does not exist. Valid aliases: tiny-base.","type":"NotFoundError","param":"model","code":404}}"#,
            r#"{"error":{"message":"The model `sql` does not exist.","type":"NotFoundError","param":null,"code":404}}"#,
            r#"{"type":"error","error":{"type":"NotFoundError","message":"The model `sql` does not exist. Valid aliases: tiny-base."}}"#,
            r#"{"error":{"message":"reworded","type":"NotFoundError","param":"model","code":404}}"#,
        ] {
            assert!(says_missing(EngineKind::Vllm, body.as_bytes(), "sql"), "{body}");
            assert!(says_missing(EngineKind::Simulated, body.as_bytes(), "sql"), "{body}");
        }
        let sglang = r#"{"object":"error","message":"Got LoRA adapter that has never been loaded: sql","type":"BadRequestError","param":null,"code":400}"#;
        assert!(says_missing(EngineKind::Sglang, sglang.as_bytes(), "tiny:sql"));
    }

    #[test]
    fn what_else_is_not_found_is_the_clients_to_see() {
        for body in [
            "",
            "Not Found",
            "[]",
            r#"{"detail":"Not Found"}"#,
            r#"{"error":"Unauthorized"}"#,
            r#"{"error":{"message":"Response with id 'sql' not found.","type":"invalid_request_error","param":null,"code":404}}"#,
            r#"{"error":{"message":"The model `other` does not exist.","type":"NotFoundError","param":null,"code":404}}"#,
            r#"{"error":{"message":"no `sql`","type":"BadRequestError","param":"model","code":400}}"#,
        ] {
            assert!(!says_missing(EngineKind::Vllm, body.as_bytes(), "sql"), "{body}");
        }
        assert!(!says_missing(EngineKind::Sglang, br#"{"message":"The prompt is too long"}"#, "sql"));
    }
}
