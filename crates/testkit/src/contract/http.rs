//! A small HTTP client that sends exactly what it is told and follows nothing.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// No answer within this time is a failure of the probe. A real engine on a slow machine compiles in its first request.
const PATIENCE: Duration = Duration::from_secs(120);

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST` of JSON.
    pub(super) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::raw(path, body.to_string())
    }

    /// A `POST` of a text that is declared to be JSON.
    pub(super) fn raw(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let call = Self { body: body.into(), ..Self::new(Method::POST, path) };
        call.header(CONTENT_TYPE, "application/json")
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends it and reads the whole answer.
    pub(super) async fn send(&self, addr: SocketAddr) -> Result<Answer, String> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(addr)).await;
        answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
    }

    async fn exchange(&self, addr: SocketAddr) -> Result<Answer, String> {
        let text = |what: &'static str| move |error: &dyn std::error::Error| format!("{what}: {error}");
        let stream = TcpStream::connect(addr).await.map_err(|error| text("connect")(&error))?;
        stream.set_nodelay(true).map_err(|error| text("connect")(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| text("connect")(&error))?;
        // It ends with this exchange, also where that is given up; what it says the exchange says too.
        let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.parse().map_err(|error: http::uri::InvalidUri| text("path")(&error))?;
        *request.headers_mut() = self.headers.clone();
        let host = HeaderValue::from_str(&addr.to_string()).map_err(|error| text("host")(&error))?;
        request.headers_mut().insert(HOST, host);
        let response = sender.send_request(request).await.map_err(|error| text("send")(&error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| text("body")(&error))?.to_bytes();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The text of a completion.
    pub(super) fn text(&self) -> Option<String> {
        self.json().pointer("/choices/0/text").and_then(Value::as_str).map(str::to_owned)
    }
}
