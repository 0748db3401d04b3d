//! Replies and bodies.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, SERVER, VARY};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use serde_json::Value;
use tokio::sync::mpsc;

use super::config::Version;
use super::errors::{self, Handler, Problem};
use super::python;

/// An answer.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// A text, with or without a Content-Type: some of the engine's answers have none.
pub(super) fn text_reply(status: StatusCode, content_type: Option<&'static str>, text: impl Into<Bytes>) -> Reply {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    finish(status, content_type, body)
}

/// A JSON value.
pub(super) fn json_reply(status: StatusCode, value: &Value) -> Reply {
    text_reply(status, Some("application/json"), value.to_string())
}

/// Server-sent events. An error resets the connection.
pub(super) fn event_reply(events: mpsc::Receiver<io::Result<Bytes>>) -> Reply {
    finish(StatusCode::OK, Some("text/event-stream; charset=utf-8"), Channel(events).boxed_unsync())
}

fn finish(status: StatusCode, content_type: Option<&'static str>, body: UnsyncBoxBody<Bytes, io::Error>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    reply
}

struct Channel(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Channel {
    type Data = Bytes;
    type Error = io::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| event.map(Frame::data)))
    }
}

/// The whole body; what was read of it where the client went away.
pub(super) async fn read(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default()
}

/// The body as a JSON object, or the answer to one that is not.
pub(super) async fn read_object(
    request: Request<Incoming>,
    version: Version,
    handler: &Handler,
) -> Result<Value, Reply> {
    let declared = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = declared.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        return Err(errors::not_json(version));
    }
    let bytes = read(request).await;
    let text = String::from_utf8_lossy(&bytes);
    let missing = || vec![Problem::of("missing", None, "Field required", &Value::Null)];
    let problems = if text.is_empty() {
        missing()
    } else {
        match python::parse(&text) {
            Ok(object @ Value::Object(_)) => return Ok(object),
            Ok(Value::Null) if version == Version::V0_32_0 => missing(),
            Ok(other) => {
                let message = "Input should be a valid dictionary or object to extract fields from";
                vec![Problem::of("model_attributes_type", None, message, &other)]
            }
            Err(error) => {
                let empty = Value::Object(serde_json::Map::new());
                let problem = Problem::of("json_invalid", Some(&error.at.to_string()), "JSON decode error", &empty);
                vec![Problem { context: Some(python::quoted(error.message)), ..problem }]
            }
        }
    };
    Err(errors::invalid(version, handler, &problems))
}
