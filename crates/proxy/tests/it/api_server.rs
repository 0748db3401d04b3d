//! An API server whose every answer the test gives, without a socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::support::{PATIENCE, answer};

/// One request to the API server.
pub struct ApiCall {
    pub path: String,
    pub query: BTreeMap<String, String>,
    reply: oneshot::Sender<Response>,
}

impl ApiCall {
    /// What the query says of `key`.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str)
    }

    /// From which version it watches.
    pub fn watches_from(&self) -> Option<&str> {
        self.query("resourceVersion").filter(|_| self.query("watch") == Some("true"))
    }

    /// Answers a list with this page, at this version.
    pub fn list(self, version: &str, items: &[Value]) {
        self.page(version, items, "");
    }

    /// Answers a list with one page of it; the next is asked for by `token`.
    pub fn page(self, version: &str, items: &[Value], token: &str) {
        assert_eq!(self.query("watch"), None, "it is a list");
        let body = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
            "metadata": {"resourceVersion": version, "continue": token}, "items": items,
        });
        let _ = self.reply.send(answer(StatusCode::OK, body.to_string()));
    }

    /// Answers a watch, which ends when this is dropped.
    pub fn watch(self) -> Watching {
        assert_eq!(self.query("watch"), Some("true"), "it is a watch");
        let (sender, receiver) = mpsc::unbounded_channel::<String>();
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            Some((Ok::<_, Infallible>(Bytes::from(receiver.recv().await?)), receiver))
        });
        let _ = self.reply.send(answer(StatusCode::OK, Body::from_stream(stream)));
        Watching(sender)
    }

    /// Answers with an error of the API server's own form.
    pub fn refuse(self, code: u16, reason: &str) {
        let status = StatusCode::from_u16(code).unwrap();
        let _ = self.reply.send(answer(status, status_object(code, reason).to_string()));
    }
}

fn status_object(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": format!("refused: {reason}"),
    })
}

/// A watch that the test tells events.
pub struct Watching(mpsc::UnboundedSender<String>);

impl Watching {
    /// Says that `object` was `ADDED`, `MODIFIED` or `DELETED`, at this version.
    pub fn event(&self, kind: &str, version: &str, object: &Value) {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = version.into();
        self.line(&json!({"type": kind, "object": object}));
    }

    pub fn bookmark(&self, version: &str) {
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"resourceVersion": version},
        });
        self.line(&json!({"type": "BOOKMARK", "object": object}));
    }

    /// Says that the version watched from is too old.
    pub fn expire(&self) {
        self.line(&json!({"type": "ERROR", "object": status_object(410, "Expired")}));
    }

    fn line(&self, event: &Value) {
        self.0.send(format!("{event}\n")).unwrap();
    }

    /// Returns when nobody reads this any more.
    pub async fn given_up(&self) {
        self.0.closed().await;
    }
}

/// The API server, as far as a router asks it.
pub struct ApiServer {
    /// About the slices of adapters and base models.
    pub slices: mpsc::UnboundedReceiver<ApiCall>,
    /// About the slices of the controller's Service.
    pub replicas: mpsc::UnboundedReceiver<ApiCall>,
    pub client: kube::Client,
}

type Senders = [mpsc::UnboundedSender<ApiCall>; 2];

impl ApiServer {
    pub fn start() -> Self {
        let (slices_sender, slices) = mpsc::unbounded_channel();
        let (replicas_sender, replicas) = mpsc::unbounded_channel();
        let router = axum::Router::new().fallback(call).with_state(Arc::new([slices_sender, replicas_sender]));
        let client = kube::Client::new(router.into_service::<kube::client::Body>(), "default");
        Self { slices, replicas, client }
    }
}

async fn call(State(senders): State<Arc<Senders>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| {
            (key.to_owned(), percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        })
        .collect();
    let which = match query.get("labelSelector").map(String::as_str) {
        Some("endpointslice.kubernetes.io/managed-by=longshore-controller") => 0,
        Some("kubernetes.io/service-name=longshore-controller") => 1,
        other => panic!("asked for {other:?}"),
    };
    let (reply, replied) = oneshot::channel();
    let _ = senders[which].send(ApiCall { path: request.uri().path().to_owned(), query, reply });
    // A call that the test drops is one that breaks.
    replied.await.unwrap_or_else(|_| answer(StatusCode::INTERNAL_SERVER_ERROR, "gone"))
}

/// The next request.
pub async fn next_call(calls: &mut mpsc::UnboundedReceiver<ApiCall>) -> ApiCall {
    tokio::time::timeout(PATIENCE * 10, calls.recv()).await.expect("the API server is asked").unwrap()
}
