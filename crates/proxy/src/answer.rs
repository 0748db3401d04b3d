//! Answers that the proxy gives itself. Errors have the form that OpenAI's API gives them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use longshore_routing::{ModelError, NotReady, Route};
use serde::Serialize;

use crate::body::ProxyBody;

/// How much of a client's own text an error repeats, in characters.
const SHOWN: usize = 128;

/// Why a request is not answered by an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    code: &'static str,
    param: Option<&'static str>,
    message: String,
    header: Option<(HeaderName, &'static str)>,
    /// Whether part of the request is still unread, so that the connection cannot be used again.
    closes: bool,
}

/// `{"error": {…}}`.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into(), header: None, closes: false }
    }

    /// 503 that asks to come back in so many seconds.
    fn later(code: &'static str, seconds: &'static str, message: impl Into<String>) -> Self {
        let header = Some((header::RETRY_AFTER, seconds));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_url", "There is nothing at this path.")
    }

    pub(crate) fn wrong_method(allowed: &'static str) -> Self {
        let header = Some((header::ALLOW, allowed));
        let message = format!("This path takes {allowed} only.");
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message) }
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes.");
        Self { closes: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message) }
    }

    pub(crate) fn body_too_slow(seconds: u64) -> Self {
        let message = format!("The body was not there within {seconds} s.");
        Self { closes: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message) }
    }

    pub(crate) fn body_broken() -> Self {
        Self { closes: true, ..Self::new(StatusCode::BAD_REQUEST, "invalid_body", "The body could not be read.") }
    }

    /// The body is compressed: the engine would have to undo that, and `model` could not be found.
    pub(crate) fn encoded() -> Self {
        let message = "The body must not have a content encoding.";
        Self { closes: true, ..Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message) }
    }

    pub(crate) fn no_model(error: &ModelError) -> Self {
        let code = if error.is_about_model() { "invalid_model" } else { "invalid_body" };
        let param = error.is_about_model().then_some("model");
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, code, format!("Bad request: {error}.")) }
    }

    pub(crate) fn unknown_model(name: &str) -> Self {
        let message = format!("The model `{}` does not exist.", shown(name));
        Self { param: Some("model"), ..Self::new(StatusCode::NOT_FOUND, "model_not_found", message) }
    }

    /// No table has come yet: whether the model exists is not known.
    pub(crate) fn nothing_known() -> Self {
        Self::later("router_not_ready", "1", "This router does not know yet which models there are.")
    }

    pub(crate) fn ambiguous(name: &str) -> Self {
        let name = shown(name);
        let message = format!("Several namespaces have a model `{name}`: write `<namespace>/{name}`.");
        Self { param: Some("model"), ..Self::new(StatusCode::CONFLICT, "ambiguous_model", message) }
    }

    /// `lora_path` beside `model`, where only SGLang engines could answer, which let it decide.
    pub(crate) fn names_two() -> Self {
        let message = "`lora_path` is not allowed: name the adapter in `model`.";
        Self { param: Some("lora_path"), ..Self::new(StatusCode::BAD_REQUEST, "invalid_body", message) }
    }

    pub(crate) fn not_ready(route: &Route, why: &NotReady) -> Self {
        let mut message = format!("The adapter `{}` is not loaded on any engine", route.name);
        if !why.phase.is_empty() {
            message.push_str(&format!(" (phase {})", why.phase));
        }
        let reason = [&*why.reason, &*why.message].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        if reason.is_empty() {
            message.push('.');
        } else {
            message.push_str(&format!(": {}", reason.join(": ")));
        }
        // What needs somebody to change something is not worth asking for often.
        Self::later("adapter_not_ready", if why.retryable { "5" } else { "60" }, message)
    }

    pub(crate) fn swapping(route: &Route) -> Self {
        let message = format!("The adapter `{}` is being changed over.", route.name);
        Self::later("adapter_swapping", "1", message)
    }

    /// No engine is left to ask; `last` says what became of the last one that was.
    pub(crate) fn unavailable(name: &str, last: Option<&str>) -> Self {
        let name = shown(name);
        let message = match last {
            Some(last) => format!("No engine answers for `{name}` now: the last one asked {last}."),
            None => format!("No engine answers for `{name}` now."),
        };
        Self::later("engine_unavailable", "1", message)
    }

    /// The engine was connected to and broke off before it answered: it may have begun, so nobody else is asked.
    pub(crate) fn engine_broke() -> Self {
        let message = "The engine closed the connection before it answered.";
        Self::new(StatusCode::BAD_GATEWAY, "engine_failed", message)
    }

    pub(crate) fn engine_too_slow(seconds: u64) -> Self {
        let message = format!("The engine did not begin to answer within {seconds} s.");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "engine_timeout", message)
    }

    /// One word for the log.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn into_response(self) -> Response<ProxyBody> {
        let r#type = if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        let error = ErrorObject { message: &self.message, r#type, param: self.param, code: self.code };
        let mut response = json(self.status, &ErrorBody { error });
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if self.closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response<ProxyBody> {
    // Only maps with keys that are no strings, and own errors of a `Serialize`, can fail; there are neither here.
    let bytes = serde_json::to_vec(body).expect("plain structs of texts and numbers serialize");
    let mut response = Response::new(ProxyBody::whole(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The client's own text, cut short.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_repeated_in_part() {
        let problem = Problem::unknown_model(&"ä".repeat(10_000));
        assert!(problem.message.len() < 400, "{}", problem.message.len());
        assert!(problem.message.contains('…'));
    }

    #[test]
    fn the_reason_is_part_of_the_message() {
        let route = Route {
            namespace: "default".parse().unwrap(),
            name: "sql".parse().unwrap(),
            artifact_url: "s3://b/sql".into(),
            base_model: None,
            state: longshore_routing::RouteState::Swapping,
        };
        let mut why = NotReady { phase: "Failed".into(), ..NotReady::default() };
        assert_eq!(
            Problem::not_ready(&route, &why).message,
            "The adapter `sql` is not loaded on any engine (phase Failed)."
        );
        why.reason = "RankTooHigh".into();
        why.message = "rank 64 is over 16".into();
        assert_eq!(
            Problem::not_ready(&route, &why).message,
            "The adapter `sql` is not loaded on any engine (phase Failed): RankTooHigh: rank 64 is over 16"
        );
    }
}
